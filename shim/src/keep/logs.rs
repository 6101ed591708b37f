//! `logs`: what a container printed, read back from its log, the oldest file first, while the log may be written and its files renamed.

use super::log::{self, Entry};
use super::packet::Stream;
use super::state::{Folder, Record};
use pintle::error::{Context as _, Result};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

/// How often is looked for more.
const LOOK: Duration = Duration::from_millis(100);

/// Prints the log, or its last `tail` lines; with `follow` until the container has ended.
///
/// # Errors
/// A log that can't be read.
pub fn print(folder: &Folder, record: &Record, follow: bool, tail: Option<usize>) -> Result<()> {
    let mut reader =
        Reader { paths: log::paths(&record.log, record.log_files), file: None, line: Vec::new() };
    if let Some(tail) = tail
        && !skip(&mut reader, tail)?
    {
        return Ok(());
    }
    loop {
        // Asked before the log is read: whoever ended since has written everything.
        let ended = !follow || !folder.is_kept()?;
        while reader.advance()? {
            if !reader.entry().is_none_or(|entry| show(&entry)) {
                return Ok(());
            }
        }
        if ended {
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
}

/// Prints the last lines of what there is; false if nobody reads them.
fn skip(reader: &mut Reader, tail: usize) -> Result<bool> {
    let mut lines = VecDeque::new();
    // What each stream printed since its last line.
    let mut open = [Vec::new(), Vec::new()];
    while reader.advance()? {
        let Some(entry) = reader.entry() else { continue };
        let Some(line) = open.get_mut(entry.stream as usize) else { continue };
        line.extend_from_slice(entry.text);
        if entry.full {
            lines.push_back((entry.stream, std::mem::take(line)));
        }
        while lines.len() > tail {
            lines.pop_front();
        }
    }
    let [out, err] = &open;
    let open =
        [(Stream::Out, out), (Stream::Err, err)].map(|(stream, text)| Entry { stream, text, full: false });
    let whole = lines.iter().map(|(stream, text)| Entry { stream: *stream, text, full: true });
    Ok(whole.chain(open).all(|entry| show(&entry)))
}

/// Prints an entry; false if nobody reads it.
fn show(entry: &Entry<'_>) -> bool {
    let end: &[u8] = if entry.full { b"\n" } else { b"" };
    let bytes = [entry.text, end].concat();
    match entry.stream {
        Stream::Out => std::io::stdout().write_all(&bytes).and_then(|()| std::io::stdout().flush()),
        Stream::Err => std::io::stderr().write_all(&bytes),
    }
    .is_ok()
}

struct Reader {
    /// The newest first.
    paths: Vec<PathBuf>,
    file: Option<BufReader<File>>,
    line: Vec<u8>,
}

impl Reader {
    /// Goes to the next entry; false where there is none yet.
    fn advance(&mut self) -> Result<bool> {
        if self.line.ends_with(b"\n") {
            self.line.clear();
        }
        loop {
            if self.more()? {
                return Ok(true);
            }
            let place = self.place()?;
            if place == Some(0) {
                return Ok(false);
            }
            // What was written between the last look and the renaming.
            if place.is_some() && self.more()? {
                return Ok(true);
            }
            // One that is not among them any more was followed by the oldest that is.
            let newer = place.unwrap_or(self.paths.len());
            let next = self.paths.iter().take(newer).rev().find_map(|path| File::open(path).ok());
            let Some(next) = next else { return Ok(false) };
            self.file = Some(BufReader::new(next));
            self.line.clear();
        }
    }

    /// Reads on in this file; whether there is a whole line.
    fn more(&mut self) -> Result<bool> {
        if let Some(file) = &mut self.file {
            file.read_until(b'\n', &mut self.line).context("read the log")?;
        }
        Ok(self.line.ends_with(b"\n"))
    }

    /// Which of the paths leads to this file by now.
    fn place(&self) -> Result<Option<usize>> {
        let Some(file) = &self.file else { return Ok(None) };
        let own = file.get_ref().metadata().context("stat the log")?;
        let is_own = |path: &PathBuf| {
            std::fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (own.dev(), own.ino()))
        };
        Ok(self.paths.iter().position(is_own))
    }

    fn entry(&self) -> Option<Entry<'_>> {
        Entry::read(self.line.strip_suffix(b"\n")?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::keep::log::Log;

    fn texts(reader: &mut Reader) -> String {
        let mut all = Vec::new();
        while reader.advance().unwrap() {
            all.push(String::from_utf8(reader.entry().unwrap().text.to_vec()).unwrap());
        }
        all.join(" ")
    }

    #[test]
    fn a_reader_follows_through_renamed_files() {
        let folder = std::env::temp_dir().join(format!("pintle-keep-logs-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("log");
        let mut reader = Reader { paths: log::paths(&path, 3), file: None, line: Vec::new() };
        assert_eq!(texts(&mut reader), "");
        let mut log = Log::open(&path, 28, 3).unwrap();
        let mut write = |words: std::ops::Range<u8>| {
            words.for_each(|n| log.write(Stream::Out, format!("{n}\n").as_bytes(), "T").unwrap());
        };
        write(0..3);
        assert_eq!(texts(&mut reader), "0 1 2");
        write(3..5);
        assert_eq!(texts(&mut reader), "3 4");
        // Two in each of three files, after what is left in the one that is open.
        write(10..20);
        assert_eq!(texts(&mut reader), "10 15 16 17 18 19");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
