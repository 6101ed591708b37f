//! What the runtime tells beside its result: the only place that writes stderr. Records look as logrus writes
//! them, because engines read them back: containerd takes the last JSON record of level error, podman and conmon
//! what stands on stderr. Every record is one line in one write.

use crate::error::{Context as _, Result};
use crate::time;
use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Mutex, OnceLock};
use std::time::{Instant, SystemTime};

/// How a record is written (`--log-format`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `time="…" level=error msg="…"`, or `ERRO[0000] …` on a terminal.
    #[default]
    Text,
    /// `{"level":"error","msg":"…","time":"…"}`
    Json,
}

#[derive(Clone, Copy)]
enum Level {
    Debug,
    Warning,
    Error,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }

    /// The word and the ECMA-48 colour shown on a terminal.
    fn tag(self) -> (&'static str, u8) {
        match self {
            Level::Debug => ("DEBU", 37),
            Level::Warning => ("WARN", 33),
            Level::Error => ("ERRO", 31),
        }
    }
}

/// Where records go, and which. Set once, by the command line; until then errors go to stderr as text.
#[derive(Default)]
struct Logger {
    file: Option<File>,
    format: Format,
    debug: bool,
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// Decides where records go: to the end of `file`, or without one to stderr. Only the first call counts.
pub fn configure(file: Option<&Path>, format: Format, debug: bool) -> Result<()> {
    let open = |path: &Path| {
        let file = OpenOptions::new().create(true).append(true).mode(0o644).open(path);
        file.with_context(|| format!("open {}", path.display()))
    };
    let file = file.map(open).transpose()?;
    LOGGER.get_or_init(|| Logger { file, format, debug });
    Ok(())
}

/// Tells the error that ends the program: in the log and, when that is a file, on stderr as well.
pub fn error(message: impl Display) {
    let message = message.to_string();
    write(Level::Error, &message);
    if logger().file.is_some() {
        to_stderr(&format!("{message}\n"));
    }
}

/// Tells what goes on all the same, but not as asked.
pub fn warn(message: impl Display) {
    write(Level::Warning, &message.to_string());
}

/// Tells the person something beside the result, whatever the log is: what runc prints on stderr as it is.
pub fn notice(message: impl Display) {
    to_stderr(&format!("{message}\n"));
}

/// Tells what is being done; only with `--debug`.
pub fn debug(message: impl Display) {
    if logger().debug {
        write(Level::Debug, &message.to_string());
    }
}

/// Tells how long the phase that ends now took, since the one before ended; only with `--debug`.
pub fn phase(name: &str) {
    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    if !logger().debug {
        return;
    }
    let now = Instant::now();
    if let Ok(mut last) = LAST.lock() {
        let since = last.map_or(0, |last| now.duration_since(last).as_micros());
        debug(format_args!("phase={name} us={since}"));
        *last = Some(Instant::now());
    }
}

fn logger() -> &'static Logger {
    LOGGER.get_or_init(Logger::default)
}

fn write(level: Level, message: &str) {
    let logger = logger();
    let now = time::rfc3339(SystemTime::now());
    let line = match (logger.format, &logger.file) {
        (Format::Json, _) => json(level, message, &now),
        (Format::Text, None) if std::io::stderr().is_terminal() => terminal(level, message),
        (Format::Text, _) => text(level, message, &now),
    };
    let appended = |mut file: &File| file.write_all(line.as_bytes()).is_ok();
    // Where the log can't be written, stderr is all that is left.
    if !logger.file.as_ref().is_some_and(appended) {
        to_stderr(&line);
    }
}

/// A closed stderr is not worth failing for: the exit status still tells.
fn to_stderr(line: &str) {
    std::io::stderr().write_all(line.as_bytes()).ok();
}

fn text(level: Level, message: &str, now: &str) -> String {
    format!("time=\"{now}\" level={} msg={}\n", level.name(), quoted(message))
}

fn terminal(level: Level, message: &str) -> String {
    let (word, colour) = level.tag();
    // logrus counts the seconds since the program began, and pads for the fields that may follow.
    format!("\x1b[{colour}m{word}\x1b[0m[0000] {:<44} \n", message.trim_end_matches('\n'))
}

fn json(level: Level, message: &str, now: &str) -> String {
    let message = serde_json::Value::from(message);
    format!("{{\"level\":\"{}\",\"msg\":{message},\"time\":\"{now}\"}}\n", level.name())
}

/// `message` as logrus prints a value: bare when it is one harmless word, else quoted as Go's `%q` does.
fn quoted(message: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "-._/@^+".contains(c);
    if message.chars().all(harmless) {
        return message.to_owned();
    }
    let mut out = String::with_capacity(message.len() + 2);
    out.push('"');
    message.chars().for_each(|c| push_escaped(&mut out, c));
    out.push('"');
    out
}

fn push_escaped(out: &mut String, c: char) {
    match c {
        '"' | '\\' => out.extend(['\\', c]),
        '\'' => out.push(c),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0b' => out.push_str("\\v"),
        '\x0c' => out.push_str("\\f"),
        '\0'..='\x1f' | '\x7f' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
        // escape_debug leaves what can be printed as it is.
        _ if c.escape_debug().len() == 1 => out.push(c),
        _ if u32::from(c) > 0xffff => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        _ => out.push_str(&format!("\\u{:04x}", u32::from(c))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_as_logrus_quotes_them() {
        for (value, expect) in [
            ("", ""),
            ("a-b_c./@^+9", "a-b_c./@^+9"),
            ("a b", "\"a b\""),
            ("a=b", "\"a=b\""),
            ("say \"hi\"\\", r#""say \"hi\"\\""#),
            ("it's", "\"it's\""),
            ("a\nb\t\x01\x7f", r#""a\nb\t\x01\x7f""#),
            ("grün", "\"grün\""),
            ("\u{200b}\u{e0001}", r#""\u200b\U000e0001""#),
        ] {
            assert_eq!(quoted(value), expect);
        }
    }

    #[test]
    fn a_record_has_the_shape_of_each_format() {
        let now = "2026-08-19T10:00:00Z";
        assert_eq!(
            text(Level::Error, "container does not exist", now),
            "time=\"2026-08-19T10:00:00Z\" level=error msg=\"container does not exist\"\n"
        );
        assert_eq!(text(Level::Warning, "no", now), "time=\"2026-08-19T10:00:00Z\" level=warning msg=no\n");
        assert_eq!(
            json(Level::Error, "a \"b\"\n", now),
            "{\"level\":\"error\",\"msg\":\"a \\\"b\\\"\\n\",\"time\":\"2026-08-19T10:00:00Z\"}\n"
        );
        assert_eq!(
            terminal(Level::Error, "container does not exist"),
            format!("\x1b[31mERRO\x1b[0m[0000] container does not exist{:20} \n", "")
        );
    }
}
