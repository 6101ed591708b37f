//! How far things are, on standard error: bars on a terminal, plain lines elsewhere, one JSON object a line for programs, or nothing.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::digest::Digest;
use crate::error::{Error, Kind, Result};
use crate::terminal::line;

/// Between two plain lines about the same blob.
const PLAIN_EVERY: Duration = Duration::from_secs(10);
/// Between two JSON lines about the same blob.
const JSON_EVERY: Duration = Duration::from_millis(250);

/// In which form progress is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Bars on a terminal, else plain lines.
    Auto,
    /// Lines.
    Plain,
    /// One object a line.
    Json,
    /// Warnings only.
    None,
}

impl Form {
    /// By its name on the command line.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "auto" => Ok(Self::Auto),
            "plain" => Ok(Self::Plain),
            "json" => Ok(Self::Json),
            "none" => Ok(Self::None),
            _ => Err(Error::new(Kind::Usage, format!("progress {name:?}: auto, plain, json or none"))),
        }
    }
}

/// Tells of one command's progress.
pub struct Progress {
    teller: Teller,
    /// So that lines of several threads don't mix.
    line: Mutex<()>,
}

enum Teller {
    Bars(MultiProgress),
    Plain,
    Json,
    None,
}

impl Progress {
    /// In this form.
    pub fn new(form: Form) -> Self {
        let teller = match form {
            Form::Auto if std::io::stderr().is_terminal() => Teller::Bars(MultiProgress::new()),
            Form::Auto | Form::Plain => Teller::Plain,
            Form::Json => Teller::Json,
            Form::None => Teller::None,
        };
        Self { teller, line: Mutex::new(()) }
    }

    /// Begins to tell of a blob of `size` bytes.
    pub fn blob(&self, digest: &Digest, size: u64) -> Task<'_> {
        let bar = match &self.teller {
            Teller::Bars(bars) => {
                let bar = bars.add(ProgressBar::new(size));
                let style = "{prefix} {bar:30} {bytes:>10}/{total_bytes:10} {bytes_per_sec:>12} {msg}";
                bar.set_style(ProgressStyle::with_template(style).expect("a template of ours"));
                bar.set_prefix(digest.short().to_owned());
                Some(bar)
            }
            _ => None,
        };
        Task {
            progress: self,
            digest: digest.clone(),
            size,
            taken: AtomicU64::new(0),
            told: Mutex::new(Instant::now()),
            bar,
        }
    }

    /// Something that is no error and not as it should be.
    pub fn warn(&self, text: &str) {
        match &self.teller {
            Teller::Json => self.json(json!({"event": "warning", "message": text})),
            Teller::Bars(bars) => bars.suspend(|| write_line(&format!("warning: {text}"))),
            Teller::Plain | Teller::None => self.plain(&format!("warning: {text}")),
        }
    }

    /// Something that a person may want to know.
    pub fn say(&self, text: &str) {
        match &self.teller {
            Teller::Json => self.json(json!({"event": "message", "message": text})),
            Teller::Bars(bars) => bars.suspend(|| write_line(text)),
            Teller::Plain => self.plain(text),
            Teller::None => {}
        }
    }

    fn plain(&self, text: &str) {
        let _line = self.line.lock();
        write_line(text);
    }

    fn json(&self, value: Value) {
        self.plain(&value.to_string());
    }
}

/// A line on standard error. If nobody reads there any more, nobody misses it.
pub fn write_line(text: &str) {
    std::io::stderr().write_all((line(text) + "\n").as_bytes()).unwrap_or(());
}

/// One blob's progress.
pub struct Task<'a> {
    progress: &'a Progress,
    digest: Digest,
    size: u64,
    taken: AtomicU64,
    told: Mutex<Instant>,
    bar: Option<ProgressBar>,
}

impl Task<'_> {
    /// So many bytes more.
    pub fn advance(&self, n: u64) {
        let taken = self.taken.fetch_add(n, Ordering::Relaxed) + n;
        match &self.progress.teller {
            Teller::Bars(_) => self.bar.iter().for_each(|bar| bar.inc(n)),
            Teller::Plain if self.due(PLAIN_EVERY) => {
                let percent = taken * 100 / self.size.max(1);
                self.progress.plain(&format!("{} {percent} % of {}", self.digest.short(), bytes(self.size)));
            }
            Teller::Json if self.due(JSON_EVERY) => self.progress.json(json!({
                "event": "progress", "digest": self.digest, "bytes": taken, "total": self.size,
            })),
            _ => {}
        }
    }

    /// All is done: `fetched`, `applied`, `pushed`.
    pub fn done(&self, what: &str) {
        match &self.progress.teller {
            Teller::Bars(_) => self.bar.iter().for_each(|bar| bar.finish_with_message(what.to_owned())),
            Teller::Plain => {
                self.progress.plain(&format!("{} {what}, {}", self.digest.short(), bytes(self.size)))
            }
            Teller::Json => {
                self.progress.json(json!({"event": what, "digest": self.digest, "total": self.size}));
            }
            Teller::None => {}
        }
    }

    fn due(&self, every: Duration) -> bool {
        let mut told = self.told.lock().expect("no thread panics with it");
        let due = told.elapsed() >= every;
        if due {
            *told = Instant::now();
        }
        due
    }
}

/// A size for people: `12.3 MB`.
pub fn bytes(n: u64) -> String {
    let mut value = n as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1000.0 || unit == "GB" {
            return if unit == "B" { format!("{n} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    unreachable!("the loop ends with its last unit")
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_are_short() {
        for (n, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (12_345_678, "12.3 MB"),
            (5_000_000_000_000, "5000.0 GB"),
        ] {
            assert_eq!(bytes(n), text);
        }
    }
}
