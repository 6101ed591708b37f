//! The log of a container: entries as Kubernetes has them, `TIME stdout F text`, appended to a file; when it is full, it becomes FILE.1,
//! FILE.1 becomes FILE.2, and the oldest goes. `P` in place of `F`: the line was too long, and goes on in the stream's next entry.

use super::packet::{CHUNK, Stream};
use pintle::bail;
use pintle::error::{Context as _, Result};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A log that is being written.
#[derive(Debug)]
pub struct Log {
    /// The newest first.
    paths: Vec<PathBuf>,
    /// How long a file grows, in bytes.
    limit: u64,
    file: File,
    size: u64,
    /// What each stream printed since its last line.
    open: [Vec<u8>; 2],
    /// Nothing can be written just now, and that was told.
    failed: bool,
}

/// The files of a log, the newest first.
pub fn paths(path: &Path, files: u16) -> Vec<PathBuf> {
    let older = (1..files).map(|number| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        name.into()
    });
    std::iter::once(path.to_owned()).chain(older).collect()
}

/// One entry.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// What was printed to.
    pub stream: Stream,
    /// What was printed, without the end of the line.
    pub text: &'a [u8],
    /// The line ends here.
    pub full: bool,
}

impl<'a> Entry<'a> {
    /// Reads one, without its newline. None: it is none.
    pub fn read(line: &'a [u8]) -> Option<Self> {
        let mut words = line.splitn(4, |byte| *byte == b' ').skip(1);
        let stream = match words.next()? {
            b"stdout" => Stream::Out,
            b"stderr" => Stream::Err,
            _ => return None,
        };
        let full = words.next()? == b"F";
        Some(Self { stream, text: words.next()?, full })
    }

    fn write(&self, now: &str) -> Vec<u8> {
        let stream = if self.stream == Stream::Out { "stdout" } else { "stderr" };
        let tag = if self.full { "F" } else { "P" };
        [format!("{now} {stream} {tag} ").as_bytes(), self.text, b"\n"].concat()
    }
}

impl Log {
    /// Opens it; what is there already stays.
    ///
    /// # Errors
    /// A path that can't be written, or is no regular file.
    pub fn open(path: &Path, limit: u64, files: u16) -> Result<Self> {
        let file = append(path)?;
        let size = file.metadata().with_context(|| format!("stat {}", path.display()))?.len();
        Ok(Self { paths: paths(path, files), limit, file, size, open: Default::default(), failed: false })
    }

    /// Writes the lines that were printed; one that is not over waits here, unless it is too long. What can't be written is lost; only the
    /// first failure in a row is told.
    ///
    /// # Errors
    /// A file system that is full.
    pub fn write(&mut self, stream: Stream, bytes: &[u8], now: &str) -> Result<()> {
        let Some(open) = self.open.get_mut(stream as usize) else { return Ok(()) };
        let mut entries = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            open.extend_from_slice(piece);
            let full = open.pop_if(|byte| *byte == b'\n').is_some();
            while open.len() > CHUNK {
                let rest = open.split_off(CHUNK);
                entries.push(Entry { stream, text: open, full: false }.write(now));
                *open = rest;
            }
            if full {
                entries.push(Entry { stream, text: open, full }.write(now));
                open.clear();
            }
        }
        self.enter(&entries)
    }

    /// The stream is over: so is its last line.
    ///
    /// # Errors
    /// As for [`Log::write`].
    pub fn end(&mut self, stream: Stream, now: &str) -> Result<()> {
        match self.open.get(stream as usize).is_some_and(|open| !open.is_empty()) {
            true => self.write(stream, b"\n", now),
            false => Ok(()),
        }
    }

    fn enter(&mut self, entries: &[Vec<u8>]) -> Result<()> {
        let mut written = Ok(());
        let mut together = Vec::new();
        for entry in entries {
            let size = self.size + together.len() as u64;
            if size > 0 && size + entry.len() as u64 > self.limit && written.is_ok() {
                written = self.append(&std::mem::take(&mut together)).and_then(|()| self.rotate());
            }
            together.extend_from_slice(entry);
        }
        let written = written.and_then(|()| self.append(&together));
        let told_before = std::mem::replace(&mut self.failed, written.is_err());
        if told_before { Ok(()) } else { written }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.file.write_all(bytes);
        self.size += match &written {
            Ok(()) => bytes.len() as u64,
            Err(_) => self.whole(bytes),
        };
        written.with_context(|| format!("write {}: output is lost", self.name()))
    }

    /// After a failure: takes half an entry back; how much was written before it.
    fn whole(&self, bytes: &[u8]) -> u64 {
        let length = self.file.metadata().map_or(0, |found| found.len()).saturating_sub(self.size);
        let part = usize::try_from(length).ok().and_then(|length| bytes.get(..length)).unwrap_or_default();
        let whole = part.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end as u64 + 1);
        if length > whole {
            // Whoever reads the log has to make the best of it then.
            let _torn = self.file.set_len(self.size + whole);
        }
        whole
    }

    fn rotate(&mut self) -> Result<()> {
        let Some(path) = self.paths.first().cloned() else { return Ok(()) };
        for pair in self.paths.windows(2).rev() {
            if let [newer, older] = pair {
                match std::fs::rename(newer, older) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(error).with_context(|| format!("rename {}", newer.display()));
                    }
                    _ => {}
                }
            }
        }
        if self.paths.len() == 1 {
            std::fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
        self.file = append(&path)?;
        self.size = 0;
        Ok(())
    }

    fn name(&self) -> std::path::Display<'_> {
        self.paths.first().map_or(Path::new(""), PathBuf::as_path).display()
    }
}

/// Opens a file at its end. A fifo would wait for a reader.
fn append(path: &Path) -> Result<File> {
    let told = || format!("open {}", path.display());
    let mut options = OpenOptions::new();
    options
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    let file = options.open(path).with_context(told)?;
    if !file.metadata().with_context(told)?.is_file() {
        bail!("{}: not a regular file", told());
    }
    Ok(file)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn place(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("pintle-keep-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn lines_become_entries_and_only_long_ones_are_cut() {
        let folder = place("entries");
        let path = folder.join("log");
        let mut log = Log::open(&path, 1 << 20, 1).unwrap();
        log.write(Stream::Out, b"one\n\ntw", "T").unwrap();
        log.write(Stream::Err, b"e\n", "T").unwrap();
        log.write(Stream::Out, b"o\nlast", "T").unwrap();
        log.end(Stream::Out, "T").unwrap();
        log.end(Stream::Err, "T").unwrap();
        let expect = "T stdout F one\nT stdout F \nT stderr F e\nT stdout F two\nT stdout F last\n";
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expect);
        let long = "x".repeat(CHUNK);
        for bytes in [long.as_bytes(), b"yz", b"\n"] {
            log.write(Stream::Out, bytes, "T").unwrap();
        }
        let expect = format!("{expect}T stdout P {long}\nT stdout F yz\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expect);
        let entry = Entry::read(b"2026-08-19T10:00:00.5Z stderr P a b ").unwrap();
        assert_eq!(entry, Entry { stream: Stream::Err, text: b"a b ", full: false });
        assert!(Entry::read(b"T stdlog F x").is_none() && Entry::read(b"rubbish").is_none());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_full_file_makes_room_and_the_oldest_goes() {
        let folder = place("rotate");
        let path = folder.join("log");
        // Two entries of 17 bytes fit.
        let mut log = Log::open(&path, 40, 3).unwrap();
        for n in 0..9 {
            log.write(Stream::Out, format!("{n}\n").as_bytes(), "TIME").unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        let held = ["log", "log.1", "log.2"]
            .map(|name| read(name).lines().map(|line| line.chars().last().unwrap()).collect::<String>());
        assert_eq!(held, ["8", "67", "45"]);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 3);
        // Found again after a restart, it goes on; one that is longer than a file has one for itself.
        let mut log = Log::open(&path, 40, 3).unwrap();
        log.write(Stream::Out, b"9\n0123456789012345678901234567890123456789\nx\n", "TIME").unwrap();
        assert_eq!(read("log"), "TIME stdout F x\n");
        assert_eq!(read("log.2"), "TIME stdout F 8\nTIME stdout F 9\n");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_is_no_file_is_refused_at_once() {
        assert!(
            Log::open(Path::new("/dev/null"), 1, 1).unwrap_err().to_string().contains("not a regular file")
        );
        assert!(Log::open(Path::new("/nonexistent/log"), 1, 1).is_err());
    }

    #[test]
    fn a_full_disk_is_told_once() {
        let folder = place("full");
        let path = folder.join("log");
        let mut log = Log::open(&path, 1 << 20, 1).unwrap();
        // The device that is always full stands for the disk.
        log.file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let told = log.write(Stream::Out, b"x\n", "T").unwrap_err().to_string();
        assert_eq!(told, format!("write {}: output is lost: no space left on device", path.display()));
        log.write(Stream::Out, b"x\n", "T").unwrap();
        log.file = append(&path).unwrap();
        log.write(Stream::Out, b"y\n", "T").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "T stdout F y\n");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
