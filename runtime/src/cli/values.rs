//! The values that flags take, in Go's notation: numbers, truth, durations (`1m30s`), sizes (`10M`), and paths.

use crate::error::{Context as _, Error, Result};
use std::fmt::Display;
use std::path::{Component, Path, PathBuf};

const NOT_A_NUMBER: &str = "parse error";

/// `true`, `1`, `T` and what else Go's strconv.ParseBool takes.
pub fn boolean(text: &str) -> std::result::Result<bool, &'static str> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(NOT_A_NUMBER),
    }
}

/// A decimal, `0x`, `0o`, `0b` or (by a leading zero) octal number.
pub fn integer(text: &str) -> std::result::Result<i64, &'static str> {
    let (sign, digits) = match text.as_bytes() {
        [b'-', ..] => ("-", &text[1..]),
        [b'+', ..] => ("", &text[1..]),
        _ => ("", text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    // A second sign would be taken by from_str_radix.
    if !digits.starts_with(|c: char| c.is_digit(radix)) {
        return Err(NOT_A_NUMBER);
    }
    i64::from_str_radix(&format!("{sign}{digits}"), radix).map_err(|_| NOT_A_NUMBER)
}

/// A Go duration in nanoseconds: `5s`, `100ms`, `1m30s`, `1.5h`, `-1s`, `0`.
pub fn duration(text: &str) -> std::result::Result<i64, &'static str> {
    let (sign, mut rest) = match text.as_bytes() {
        [b'-', ..] => (-1, &text[1..]),
        [b'+', ..] => (1, &text[1..]),
        _ => (1, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(NOT_A_NUMBER);
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let (part, tail) = leading_part(rest).ok_or(NOT_A_NUMBER)?;
        total += part;
        rest = tail;
    }
    i64::try_from(sign * total).map_err(|_| NOT_A_NUMBER)
}

/// The first `number unit` of a duration in nanoseconds, and what follows it.
fn leading_part(text: &str) -> Option<(i128, &str)> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, rest) = text.split_at(unit_at);
    let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_end);
    let unit: i128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    // Digits below a nanosecond of an hour don't count; more digits than these are no duration at all.
    let fraction = &fraction[..fraction.len().min(15)];
    let digits = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<u64>().ok() };
    let below = i128::from(digits(fraction)?) * unit / 10_i128.pow(fraction.len() as u32);
    Some((i128::from(digits(whole)?) * unit + below, rest))
}

/// A size in bytes, binary units in any case: `-1`, `1024`, `10M`, `1.5 GiB`, `4kb`.
pub fn size(text: &str) -> Result<i64> {
    if text == "-1" {
        return Ok(-1);
    }
    let invalid = || Error::new(format!("invalid size: '{text}'"));
    let number_end = text.rfind(|c: char| c.is_ascii_digit() || c == '.').ok_or_else(invalid)? + 1;
    let (number, suffix) = text.split_at(number_end);
    let suffix = suffix.strip_prefix(' ').unwrap_or(suffix);
    let factor = factor(suffix).ok_or_else(|| Error::new(format!("invalid suffix: '{suffix}'")))?;
    let bytes = number.parse::<f64>().map_err(|_| invalid())? * factor;
    if !(0.0..9.223_372_036_854_775e18).contains(&bytes) {
        return Err(invalid());
    }
    Ok(bytes as i64)
}

fn factor(suffix: &str) -> Option<f64> {
    let suffix = suffix.to_ascii_lowercase();
    if suffix.is_empty() || suffix == "b" {
        return Some(1.0);
    }
    let power = "kmgtp".find(suffix.chars().next()?)? as i32 + 1;
    matches!(&suffix[1..], "" | "b" | "ib").then(|| 1024_f64.powi(power))
}

/// `path` below the current directory if it is relative, with `.` and `..` resolved by name alone.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    let path = below_cwd(path)?;
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(clean.pop()),
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    Ok(clean)
}

/// `path` below the current directory if it is relative; `..` after a symlink keeps its meaning.
pub fn below_cwd(path: &Path) -> Result<PathBuf> {
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    let cwd = std::env::current_dir().context("getwd")?;
    Ok(if path.as_os_str().is_empty() { cwd } else { cwd.join(path) })
}

/// The sentence for a value that a flag can't have.
pub fn invalid(flag: &str, value: impl Display, cause: &str) -> Error {
    Error::new(format!("invalid value \"{value}\" for flag -{flag}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_in_the_base_they_name() {
        for (text, expect) in [
            ("0", Some(0)),
            ("10", Some(10)),
            ("-10", Some(-10)),
            ("+10", Some(10)),
            ("0x1f", Some(31)),
            ("-0b11", Some(-3)),
            ("0o17", Some(15)),
            ("017", Some(15)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("", None),
            ("-", None),
            ("--1", None),
            ("0x", None),
            ("0x-1", None),
            ("08", None),
            ("1é", None),
            ("é", None),
        ] {
            assert_eq!(integer(text).ok(), expect, "{text:?}");
        }
    }

    #[test]
    fn durations_are_gos() {
        const S: i64 = 1_000_000_000;
        for (text, expect) in [
            ("0", Some(0)),
            ("5s", Some(5 * S)),
            ("100ms", Some(S / 10)),
            ("1m30s", Some(90 * S)),
            ("1.5h", Some(5400 * S)),
            (".5s", Some(S / 2)),
            ("1.s", Some(S)),
            ("2us3µs4μs5ns", Some(9005)),
            ("-1s", Some(-S)),
            ("+1s", Some(S)),
            ("0.1234567890123456789s", Some(123_456_789)),
            ("", None),
            ("5", None),
            ("s", None),
            (".s", None),
            ("1.1.1s", None),
            ("5x", None),
            ("5é", None),
            ("-", None),
            ("9223372036s9223372036s", None),
            ("99999999999999999999s", None),
            ("5s ", None),
        ] {
            assert_eq!(duration(text).ok(), expect, "{text:?}");
        }
    }

    #[test]
    fn sizes_are_binary_with_or_without_a_unit() {
        for (text, expect) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("1024", Some(1024)),
            ("10M", Some(10 << 20)),
            ("10m", Some(10 << 20)),
            ("10MB", Some(10 << 20)),
            ("10MiB", Some(10 << 20)),
            ("1.5 GiB", Some(3 << 29)),
            ("4kb", Some(4096)),
            ("7b", Some(7)),
            ("2T", Some(2 << 40)),
            ("1P", Some(1 << 50)),
            ("-2", None),
            ("", None),
            ("M", None),
            ("10X", None),
            ("10Mi", None),
            ("10é", None),
            ("1..2", None),
            ("1e30", None),
        ] {
            assert_eq!(size(text).ok(), expect, "{text:?}");
        }
        assert_eq!(size("10Q").unwrap_err().to_string(), "invalid suffix: 'Q'");
        assert_eq!(size("-5").unwrap_err().to_string(), "invalid size: '-5'");
    }

    #[test]
    fn paths_become_absolute_by_name() {
        let cwd = std::env::current_dir().unwrap();
        assert_eq!(absolute(Path::new("a/../b/./c")).unwrap(), cwd.join("b/c"));
        assert_eq!(absolute(Path::new("/../../x//y/")).unwrap(), Path::new("/x/y"));
        assert_eq!(absolute(Path::new("")).unwrap(), cwd);
        assert_eq!(absolute(Path::new("/a/..")).unwrap(), Path::new("/"));
        assert_eq!(below_cwd(Path::new("a/..")).unwrap(), cwd.join("a/.."));
    }
}
