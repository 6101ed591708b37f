//! GVariant text, as far as properties of units are written in it: numbers, strings, booleans, arrays, and a type
//! before a value (`uint64 5`, `@as []`). See "GVariant Text Format" in GLib's manual.

use crate::bail;
use crate::error::{Error, Result};
use zbus::{Array, Signature, Variant};

/// No deeper than D-Bus itself allows.
const DEEPEST: usize = 32;

/// The value that `text` spells out.
pub(super) fn parse(text: &str) -> Result<Variant<'static>> {
    let mut reader = Reader { rest: text };
    let value = reader.value(None, 0)?;
    match reader.next() {
        "" => Ok(value),
        more => bail!("{more:?} after the value"),
    }
}

/// What a value has to become.
fn signature(text: &str) -> Result<Signature> {
    Signature::try_from(text).map_err(|_| Error::new(format!("{text:?} is no type")))
}

fn keyword(word: &str) -> Option<Signature> {
    Some(match word {
        "boolean" => Signature::Bool,
        "byte" => Signature::U8,
        "int16" => Signature::I16,
        "uint16" => Signature::U16,
        "int32" => Signature::I32,
        "uint32" => Signature::U32,
        "int64" => Signature::I64,
        "uint64" => Signature::U64,
        "double" => Signature::F64,
        "string" => Signature::Str,
        "objectpath" => Signature::ObjectPath,
        "signature" => Signature::Signature,
        _ => return None,
    })
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    /// What comes next, past blanks; nothing is taken.
    fn next(&mut self) -> &'a str {
        self.rest = self.rest.trim_start();
        self.rest
    }

    fn take(&mut self, prefix: &str) -> bool {
        match self.next().strip_prefix(prefix) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Everything up to a blank or a bracket.
    fn word(&mut self) -> &'a str {
        let text = self.next();
        let end = text.find(|c: char| c.is_whitespace() || "[],'\"<>{}".contains(c)).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        self.rest = rest;
        word
    }

    fn value(&mut self, wanted: Option<&Signature>, depth: usize) -> Result<Variant<'static>> {
        if depth > DEEPEST {
            bail!("nested too deeply");
        }
        match self.next().chars().next() {
            None => bail!("nothing where a value should be"),
            Some('@') => {
                self.rest = &self.rest[1..];
                let kind = signature(self.word())?;
                self.value(Some(&kind), depth + 1)
            }
            Some('[') => self.array(wanted, depth),
            Some(quote @ ('\'' | '"')) => {
                let text = self.quoted(quote)?;
                string(text, wanted)
            }
            Some('<' | '{' | '(') => {
                bail!("{:?}: variants, dictionaries and tuples are not supported", self.rest)
            }
            Some(_) => {
                let word = self.word();
                match keyword(word) {
                    Some(kind) => self.value(Some(&kind), depth + 1),
                    None => scalar(word, wanted),
                }
            }
        }
    }

    fn array(&mut self, wanted: Option<&Signature>, depth: usize) -> Result<Variant<'static>> {
        let mut element = match wanted {
            Some(Signature::Array(child)) => Some(child.signature().clone()),
            Some(other) => bail!("an array where {other} is wanted"),
            None => None,
        };
        self.take("[");
        let mut values = Vec::new();
        while !self.take("]") {
            if !values.is_empty() && !self.take(",") {
                bail!("{:?} where a comma or ] should be", self.rest);
            }
            let value = self.value(element.as_ref(), depth + 1)?;
            element = Some(value.value_signature().clone());
            values.push(value);
        }
        let Some(element) = element else {
            bail!("an empty array without a type, which is written like @as []")
        };
        let mut array = Array::new(&element);
        for value in values {
            array.append(value).map_err(|error| Error::new(error.to_string()))?;
        }
        Ok(Variant::Array(array))
    }

    fn quoted(&mut self, quote: char) -> Result<String> {
        let mut text = String::new();
        let mut letters = self.rest[1..].char_indices();
        while let Some((at, letter)) = letters.next() {
            match letter {
                _ if letter == quote => {
                    self.rest = &self.rest[1 + at + letter.len_utf8()..];
                    return Ok(text);
                }
                '\\' => match letters.next().map(|(_, escaped)| escaped) {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some(other @ ('\\' | '\'' | '"')) => text.push(other),
                    other => bail!("\\{} is not known in a string", other.unwrap_or(' ')),
                },
                '\0' => bail!("a NUL in a string"),
                _ => text.push(letter),
            }
        }
        bail!("a string that does not end")
    }
}

fn string(text: String, wanted: Option<&Signature>) -> Result<Variant<'static>> {
    match wanted {
        None | Some(Signature::Str) => Ok(Variant::from(text)),
        Some(Signature::ObjectPath) => zbus::ObjectPath::try_from(text)
            .map(Variant::from)
            .map_err(|error| Error::new(format!("no object path: {error}"))),
        Some(Signature::Signature) => signature(&text).map(Variant::from),
        Some(other) => bail!("a string where {other} is wanted"),
    }
}

fn scalar(word: &str, wanted: Option<&Signature>) -> Result<Variant<'static>> {
    fn number<T: std::str::FromStr>(word: &str, kind: &str) -> Result<T> {
        word.parse().map_err(|_| Error::new(format!("{word:?} is no {kind}")))
    }
    let guessed = match word {
        "true" | "false" => Signature::Bool,
        _ if word.contains(['.', 'e', 'E']) => Signature::F64,
        _ => Signature::I32,
    };
    Ok(match wanted.unwrap_or(&guessed) {
        Signature::Bool => Variant::Bool(number(word, "boolean")?),
        Signature::U8 => Variant::U8(number(word, "byte")?),
        Signature::I16 => Variant::I16(number(word, "int16")?),
        Signature::U16 => Variant::U16(number(word, "uint16")?),
        Signature::I32 => Variant::I32(number(word, "int32")?),
        Signature::U32 => Variant::U32(number(word, "uint32")?),
        Signature::I64 => Variant::I64(number(word, "int64")?),
        Signature::U64 => Variant::U64(number(word, "uint64")?),
        Signature::F64 => Variant::F64(number(word, "double")?),
        other => bail!("{word:?} where {other} is wanted"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_what_they_look_like() {
        for (text, expect) in [
            ("5", Variant::I32(5)),
            ("-5", Variant::I32(-5)),
            (" uint64 18446744073709551615 ", Variant::U64(u64::MAX)),
            ("@t 7", Variant::U64(7)),
            ("byte 255", Variant::U8(255)),
            ("1.5", Variant::F64(1.5)),
            ("true", Variant::Bool(true)),
            ("'it\\'s'", Variant::from("it's")),
            ("\"a\"", Variant::from("a")),
            ("['a', \"b\"]", Variant::from(vec!["a", "b"])),
            ("[uint32 1, 2]", Variant::from(vec![1u32, 2])),
            ("@as []", Variant::from(Vec::<String>::new())),
            ("@aas [['a'],[]]", Variant::from(vec![vec!["a"], vec![]])),
        ] {
            assert_eq!(parse(text).expect(text), expect, "{text}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [
            "",
            "x",
            "'a",
            "5 6",
            "byte 256",
            "uint32 -1",
            "[]",
            "[1",
            "[1 2]",
            "[1,'a']",
            "@z 5",
            "@ 5",
            "<5>",
            "{}",
            "(1,)",
            "@as 5",
            "boolean 1",
            "uint64",
            "'\\x'",
            "5000000000",
        ] {
            assert!(parse(text).is_err(), "{text}: {:?}", parse(text));
        }
        assert!(parse(&"[".repeat(100_000)).is_err());
        assert!(parse(&"@i ".repeat(100_000)).is_err());
    }
}
