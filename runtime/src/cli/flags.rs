//! What a verb understands, as one table: the clap command and the help are both made from it. clap judges;
//! before it, [`normalise`] brings Go's notation into clap's: one dash or two before a long or a short name,
//! `--switch=false`, values that begin with a dash, and verbs whose flags end at the first argument.

use super::values;
use crate::error::{Error, Result};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

/// What a flag's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Given or not, or `=true`, `=false`.
    Switch,
    /// A text; an empty one counts as not given.
    Text,
    /// Texts, one for each time the flag is given.
    List,
    /// A number.
    Number,
    /// Numbers, one for each time the flag is given.
    Numbers,
    /// A file's path; an empty one counts as not given.
    Path,
    /// A Go duration.
    Interval,
}

/// One flag of a verb.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// The long name.
    pub name: &'static str,
    /// The one-letter name.
    pub short: Option<char>,
    /// What its value is.
    pub kind: Kind,
    /// One line for the help.
    pub help: &'static str,
    /// The default as the help shows it; empty to show none.
    pub default: &'static str,
    /// Obsolete, so not in the help.
    pub hidden: bool,
}

impl Flag {
    /// A flag of the given kind.
    pub const fn new(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Self { name, short: None, kind, help, default: "", hidden: false }
    }

    /// With a one-letter name too.
    pub const fn short(self, short: char) -> Self {
        Self { short: Some(short), ..self }
    }

    /// With a default to show.
    pub const fn default(self, default: &'static str) -> Self {
        Self { default, ..self }
    }

    /// Accepted, but not shown.
    pub const fn hidden(self) -> Self {
        Self { hidden: true, ..self }
    }

    fn is_called(&self, name: &[u8]) -> bool {
        name == self.name.as_bytes() || self.short.is_some_and(|short| name == [short as u8])
    }

    fn argument(&self) -> Arg {
        let arg = Arg::new(self.name).long(self.name);
        let one_or_none = |arg: Arg| arg.num_args(0..=1).require_equals(true).default_missing_value("true");
        match self.kind {
            Kind::Switch => one_or_none(arg).value_parser(values::boolean),
            Kind::Text => arg,
            Kind::List => arg.action(ArgAction::Append),
            Kind::Number => arg.value_parser(values::integer),
            Kind::Numbers => arg.value_parser(values::integer).action(ArgAction::Append),
            Kind::Path => arg.value_parser(value_parser!(OsString)),
            Kind::Interval => arg.value_parser(values::duration),
        }
    }
}

/// Every verb has it.
pub const HELP: Flag = Flag::new("help", Kind::Switch, "show help").short('h');

const WORDS: &str = "WORDS";

/// What was given.
#[derive(Debug)]
pub struct Arguments(ArgMatches);

impl Arguments {
    /// Whether the switch was given, and not as `=false`.
    pub fn switch(&self, name: &str) -> bool {
        self.0.get_one(name).copied().unwrap_or(false)
    }

    /// A switch that was given, either way.
    pub fn given_switch(&self, name: &str) -> Option<bool> {
        let typed = self.0.value_source(name) == Some(clap::parser::ValueSource::CommandLine);
        typed.then(|| self.switch(name))
    }

    /// The text of a flag, unless it is empty.
    pub fn text(&self, name: &str) -> Option<String> {
        self.0.get_one::<String>(name).filter(|text| !text.is_empty()).cloned()
    }

    /// Each text given for a flag.
    pub fn list(&self, name: &str) -> Vec<String> {
        self.0.get_many(name).map(|texts| texts.cloned().collect()).unwrap_or_default()
    }

    /// The path given for a flag as it was typed, unless it is empty.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.given_path(name).filter(|path| !path.is_empty()).map(PathBuf::from)
    }

    /// The path given for a flag as it was typed, even an empty one.
    pub fn given_path(&self, name: &str) -> Option<&OsStr> {
        self.0.get_one::<OsString>(name).map(OsString::as_os_str)
    }

    /// The path given for a flag, made absolute by name.
    pub fn absolute(&self, name: &str) -> Result<Option<PathBuf>> {
        self.path(name).map(|path| values::absolute(&path)).transpose()
    }

    /// A number, checked against the type it is wanted in.
    pub fn number<N: TryFrom<i64>>(&self, name: &str) -> Result<Option<N>> {
        self.0.get_one(name).map(|number| narrowed(name, *number)).transpose()
    }

    /// Each number given for a flag, checked against the type it is wanted in.
    pub fn numbers<N: TryFrom<i64>>(&self, name: &str) -> Result<Vec<N>> {
        let numbers = self.0.get_many(name).unwrap_or_default();
        numbers.map(|number| narrowed(name, *number)).collect()
    }

    /// A duration in nanoseconds.
    pub fn interval(&self, name: &str) -> Option<i64> {
        self.0.get_one(name).copied()
    }

    /// The words that are no flags.
    pub fn words(&self) -> Vec<OsString> {
        self.0.get_many(WORDS).map(|words| words.cloned().collect()).unwrap_or_default()
    }

    /// The words that are no flags, which must be UTF-8.
    pub fn texts(&self) -> Result<Vec<String>> {
        let text = |word: OsString| {
            let not_text = |word: OsString| Error::new(format!("argument {word:?} is not valid UTF-8"));
            word.into_string().map_err(not_text)
        };
        self.words().into_iter().map(text).collect()
    }

    /// The container's id: the first word.
    pub fn id(&self) -> Result<String> {
        Ok(self.texts()?.into_iter().next().unwrap_or_default())
    }
}

fn narrowed<N: TryFrom<i64>>(flag: &str, number: i64) -> Result<N> {
    N::try_from(number).map_err(|_| values::invalid(flag, number, "value out of range"))
}

/// Reads `words` as `flags` say; `stop` ends the flags at the first word that is none. The error is runc's
/// sentence.
pub fn parse(flags: &[Flag], words: impl Iterator<Item = OsString>, stop: bool) -> Result<Arguments> {
    let words_that_are_no_flags =
        Arg::new(WORDS).num_args(0..).value_parser(value_parser!(OsString)).action(ArgAction::Append);
    let command = Command::new("pintle")
        .no_binary_name(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args_override_self(true)
        .args(flags.iter().chain([&HELP]).map(Flag::argument))
        .arg(words_that_are_no_flags);
    let matches = command.try_get_matches_from(normalise(flags, words, stop));
    matches.map(Arguments).map_err(|error| Error::new(sentence(&error)))
}

/// Writes each flag as clap wants it: `--long` or `--long=value`. What is unknown stays for clap to refuse.
fn normalise(flags: &[Flag], mut words: impl Iterator<Item = OsString>, stop: bool) -> Vec<OsString> {
    let mut out = Vec::new();
    while let Some(word) = words.next() {
        if word == "--" {
            out.push(word);
            out.extend(words.by_ref());
        } else if let Some((name, value)) = dashed(&word) {
            let flag = flags.iter().chain([&HELP]).find(|flag| flag.is_called(name.as_bytes()));
            let value = value.map(OsStr::to_owned).or_else(|| {
                let takes_next = flag.is_some_and(|flag| flag.kind != Kind::Switch);
                if takes_next { words.next() } else { None }
            });
            let mut long = OsString::from("--");
            long.push(flag.map_or(name, |flag| OsStr::new(flag.name)));
            if let Some(value) = value {
                long.push("=");
                long.push(value);
            }
            out.push(long);
        } else if stop {
            out.extend(["--".into(), word]);
            out.extend(words.by_ref());
        } else {
            out.push(word);
        }
    }
    out
}

/// The name and the value of `-name`, `--name`, `-name=value`, `--name=value`; a lone dash is a word.
fn dashed(word: &OsStr) -> Option<(&OsStr, Option<&OsStr>)> {
    let bytes = word.as_bytes();
    let name =
        bytes.strip_prefix(b"--").or_else(|| bytes.strip_prefix(b"-")).filter(|name| !name.is_empty())?;
    match name.iter().position(|&byte| byte == b'=') {
        Some(at) => Some((OsStr::from_bytes(&name[..at]), Some(OsStr::from_bytes(&name[at + 1..])))),
        None => Some((OsStr::from_bytes(name), None)),
    }
}

/// clap's finding in runc's words.
fn sentence(error: &clap::Error) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let shown = context(ContextKind::InvalidArg).trim_start_matches('-');
    let flag = shown.split([' ', '=', '[']).next().unwrap_or_default();
    let value = context(ContextKind::InvalidValue);
    let cause = || std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument => format!("flag provided but not defined: -{flag}"),
        ErrorKind::InvalidValue => format!("flag needs an argument: -{flag}"),
        ErrorKind::ValueValidation if shown.contains('[') => {
            format!("invalid boolean value \"{value}\" for -{flag}: {}", cause())
        }
        ErrorKind::ValueValidation => values::invalid(flag, value, &cause()).to_string(),
        ErrorKind::InvalidUtf8 => "a flag's value is not valid UTF-8".to_owned(),
        kind => kind.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt as _;

    const FLAGS: &[Flag] = &[
        Flag::new("bundle", Kind::Path, "").short('b'),
        Flag::new("detach", Kind::Switch, "").short('d'),
        Flag::new("env", Kind::List, "").short('e'),
        Flag::new("format", Kind::Text, "").short('f'),
        Flag::new("preserve-fds", Kind::Number, ""),
        Flag::new("interval", Kind::Interval, ""),
    ];

    fn read(line: &str, stop: bool) -> Result<Arguments> {
        parse(FLAGS, line.split(' ').filter(|word| !word.is_empty()).map(OsString::from), stop)
    }

    #[test]
    fn every_notation_of_a_flag_is_the_same() {
        for line in [
            "--bundle /b x",
            "--bundle=/b x",
            "-bundle /b x",
            "-bundle=/b x",
            "-b /b x",
            "--b=/b x",
            "x -b /b",
        ] {
            let arguments = read(line, false).unwrap();
            assert_eq!(arguments.path("bundle").as_deref(), Some("/b".as_ref()), "{line}");
            assert_eq!(arguments.id().unwrap(), "x", "{line}");
        }
    }

    #[test]
    fn a_switch_can_be_switched_off_and_the_last_word_counts() {
        for (line, expect) in [
            ("", false),
            ("-d", true),
            ("--detach x", true),
            ("-detach=false", false),
            ("--detach --detach=0", false),
            ("--detach=0 --detach", true),
        ] {
            assert_eq!(read(line, false).unwrap().switch("detach"), expect, "{line}");
        }
        assert_eq!(read("-f a -f b", false).unwrap().text("format").as_deref(), Some("b"));
        assert_eq!(read("-f=", false).unwrap().text("format"), None);
    }

    #[test]
    fn values_may_begin_with_a_dash_and_contain_commas() {
        let arguments = read("-e A=1,2 --env -x --preserve-fds -1 --env=--", false).unwrap();
        assert_eq!(arguments.list("env"), ["A=1,2", "-x", "--"]);
        assert_eq!(arguments.number::<i64>("preserve-fds").unwrap(), Some(-1));
        let error = arguments.number::<u32>("preserve-fds").unwrap_err().to_string();
        assert_eq!(error, "invalid value \"-1\" for flag -preserve-fds: value out of range");
    }

    #[test]
    fn flags_end_at_two_dashes_or_where_the_verb_says() {
        for (line, stop, detach, words) in [
            ("x y -d", false, true, vec!["x", "y"]),
            ("-- x -d", false, false, vec!["x", "-d"]),
            ("-d x -d --help", true, true, vec!["x", "-d", "--help"]),
            ("x -- -d", true, false, vec!["x", "--", "-d"]),
            ("-- -d", true, false, vec!["-d"]),
            ("x -", false, false, vec!["x", "-"]),
        ] {
            let arguments = read(line, stop).unwrap();
            assert_eq!(arguments.switch("detach"), detach, "{line}");
            assert_eq!(arguments.texts().unwrap(), words, "{line}");
        }
    }

    #[test]
    fn mistakes_are_told_in_runcs_words() {
        for (line, expect) in [
            ("--nosuch x", "flag provided but not defined: -nosuch"),
            ("-nosuch=1", "flag provided but not defined: -nosuch"),
            ("-z", "flag provided but not defined: -z"),
            ("-de", "flag provided but not defined: -de"),
            ("-b/x", "flag provided but not defined: -b/x"),
            ("--detac", "flag provided but not defined: -detac"),
            ("--format", "flag needs an argument: -format"),
            ("-f", "flag needs an argument: -format"),
            ("--interval abc", "invalid value \"abc\" for flag -interval: parse error"),
            ("--preserve-fds=", "invalid value \"\" for flag -preserve-fds: parse error"),
            ("--preserve-fds a", "invalid value \"a\" for flag -preserve-fds: parse error"),
            ("--detach=maybe", "invalid boolean value \"maybe\" for -detach: parse error"),
        ] {
            assert_eq!(read(line, false).unwrap_err().to_string(), expect, "{line}");
        }
    }

    #[test]
    fn no_word_makes_it_panic() {
        let odd: [&[u8]; 9] =
            [b"--\xff", b"-\xff=\xff", b"--=x", b"-=", b"---", b"---x", b"\xff", b"", b"--detach=\xff"];
        for stop in [false, true] {
            for word in odd {
                for other in odd {
                    let words = [word, other].map(|word| OsString::from_vec(word.to_vec()));
                    if let Ok(arguments) = parse(FLAGS, words.into_iter(), stop) {
                        arguments.id().ok();
                    }
                }
            }
        }
        let words = ["-f".into(), OsString::from_vec(vec![0xff])];
        let error = parse(FLAGS, words.into_iter(), false).unwrap_err().to_string();
        assert_eq!(error, "a flag's value is not valid UTF-8");
    }
}
