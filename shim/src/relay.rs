//! One stream of a container's process, between the engine's fifo (or file, or logger) and the process's pipe or terminal. Bytes go from
//! pipe to pipe in the kernel, splice(2), where both are pipes. Whoever does not read keeps nobody waiting but the writer of that stream.

use crate::poll::{EventFlags, Poll, Token};
use pintle::error::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, splice};
use std::path::Path;
use std::time::{Duration, Instant};

/// Moved at once, in bytes.
const CHUNK: usize = 64 << 10;
/// Moved before others have their turn, in bytes.
const TURN: usize = 1 << 20;
/// How long the engine may take to read the rest: to get from opening to reading, if it means to.
const PATIENCE: Duration = Duration::from_secs(1);
/// The first look whether it has.
const SOON: Duration = Duration::from_millis(1);

/// A stream that is being copied.
#[derive(Debug)]
pub struct Relay {
    from: OwnedFd,
    to: OwnedFd,
    /// What keeps `to`, a fifo, from breaking while the engine is away.
    #[allow(dead_code, reason = "it is there to be open")]
    reader: Option<OwnedFd>,
    /// What keeps `from`, a fifo, from ending before its writer has come.
    writer: Option<OwnedFd>,
    spliced: bool,
    /// Read and not written yet.
    pending: Vec<u8>,
    ended: bool,
    /// Since when the engine may have something left to read after the end.
    over: Option<Instant>,
    /// Somebody looks again whether it has.
    pub awaited: bool,
}

/// How far a relay came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// One side has to do something first.
    Waits,
    /// There is more to be done, after others.
    Goes,
    /// The stream is over.
    Over,
}

impl Relay {
    /// From a process's pipe or terminal to where the engine reads.
    pub fn out(from: OwnedFd, sink: Sink) -> Self {
        Self {
            from,
            to: sink.to,
            reader: sink.reader,
            writer: None,
            spliced: true,
            pending: Vec::new(),
            ended: false,
            over: None,
            awaited: false,
        }
    }

    /// From the engine's fifo to a process's pipe or terminal.
    pub fn input(source: Source, to: OwnedFd) -> Self {
        let writer = Some(source.writer);
        let relay = Self::out(source.from, Sink::pipe(to));
        Self { writer, ..relay }
    }

    /// Has both ends watched.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn watch(&self, poll: &Poll, token: Token) -> Result<()> {
        let add = |fd: &OwnedFd, events| match poll.add(fd, token, events | EventFlags::ET) {
            // A file is always ready.
            Err(Errno::PERM) => Ok(()),
            other => other.context("watch a stream"),
        };
        add(&self.from, EventFlags::IN)?;
        add(&self.to, EventFlags::OUT)
    }

    /// The engine will write no more: when its writers have closed the fifo, that is the end.
    pub fn close_input(&mut self) {
        self.writer = None;
    }

    /// After the end: when to look again whether the engine has read the rest, that it may be in the middle of opening to read. None: it has,
    /// or will not.
    pub fn last_look(&mut self) -> Option<Duration> {
        if self.reader.take().is_some() {
            self.over = Some(Instant::now());
        }
        let since = self.over?.elapsed();
        let unread = rustix::io::ioctl_fionread(&self.to).is_ok_and(|bytes| bytes > 0);
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut events = [PollFd::new(&self.to, PollFlags::OUT)];
        let read = poll(&mut events, Some(&now)).is_ok() && !events[0].revents().contains(PollFlags::ERR);
        (unread && read && since < PATIENCE).then(|| (since / 2).max(SOON))
    }

    /// Moves what can be moved.
    pub fn turn(&mut self) -> Turn {
        let mut moved = 0;
        while moved < TURN {
            let step = if self.spliced { self.splice() } else { self.copy() };
            match step {
                Ok(0) => return Turn::Over,
                Ok(n) => moved += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Turn::Waits,
                // No pipe at one side, or one that only takes what is appended.
                Err(Errno::INVAL) if self.spliced => self.spliced = false,
                // The reader of a pipe, or the other side of a terminal, is gone.
                Err(_) => return Turn::Over,
            }
        }
        Turn::Goes
    }

    fn splice(&self) -> rustix::io::Result<usize> {
        splice(&self.from, None, &self.to, None, CHUNK, SpliceFlags::NONBLOCK | SpliceFlags::MOVE)
    }

    fn copy(&mut self) -> rustix::io::Result<usize> {
        if self.pending.is_empty() && !self.ended {
            let mut buffer = [0; CHUNK / 4];
            let n = match rustix::io::read(&self.from, &mut buffer) {
                // A terminal whose other side was closed.
                Err(Errno::IO) => 0,
                other => other?,
            };
            self.pending.extend_from_slice(buffer.get(..n).unwrap_or_default());
            self.ended = n == 0;
        }
        if self.pending.is_empty() {
            return Ok(0);
        }
        let n = rustix::io::write(&self.to, &self.pending)?;
        self.pending.drain(..n);
        if self.pending.is_empty() {
            self.pending = Vec::new();
        }
        Ok(n)
    }
}

/// Where the output of a process goes.
#[derive(Debug)]
pub struct Sink {
    to: OwnedFd,
    reader: Option<OwnedFd>,
}

impl Sink {
    /// Opens the engine's fifo, or a file. None: nobody reads the fifo yet.
    ///
    /// # Errors
    /// No such file.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        let told = || format!("opening w/o fifo {:?} failed", path.display());
        let stat = rustix::fs::stat(path).with_context(told)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Fifo {
            let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CLOEXEC;
            let to = rustix::fs::open(path, flags, Mode::empty()).with_context(told)?;
            return Ok(Some(Self { to, reader: None }));
        }
        let open = |side| rustix::fs::open(path, side | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
        let to = match open(OFlags::WRONLY) {
            Err(Errno::NXIO) => return Ok(None),
            other => other.with_context(told)?,
        };
        let reader = Some(open(OFlags::RDONLY).with_context(told)?);
        Ok(Some(Self { to, reader }))
    }

    /// A pipe that somebody reads.
    pub fn pipe(to: OwnedFd) -> Self {
        Self { to, reader: None }
    }

    /// A second way to the same place, for the other stream.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn again(&self) -> Result<Self> {
        let dup = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, 3).context("dup");
        Ok(Self { to: dup(&self.to)?, reader: self.reader.as_ref().map(dup).transpose()? })
    }
}

/// Where the input of a process comes from.
#[derive(Debug)]
pub struct Source {
    from: OwnedFd,
    writer: OwnedFd,
}

impl Source {
    /// Opens the engine's fifo.
    ///
    /// # Errors
    /// No such fifo.
    pub fn open(path: &Path) -> Result<Self> {
        let open = |side| {
            rustix::fs::open(path, side | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
                .with_context(|| format!("failed to open stdin fifo {}", path.display()))
        };
        let from = open(OFlags::RDONLY)?;
        let writer = open(OFlags::WRONLY)?;
        Ok(Self { from, writer })
    }
}

/// Makes a descriptor one whose calls do not wait; only ends that nobody else has.
///
/// # Errors
/// None in practice.
pub fn do_not_block(fd: impl AsFd) -> Result<()> {
    let flags = rustix::fs::fcntl_getfl(&fd).context("fcntl")?;
    rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK).context("fcntl")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};

    fn pipe() -> (OwnedFd, OwnedFd) {
        pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap()
    }

    fn fifo(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("pintle-shim-{name}-{}", std::process::id()));
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        path
    }

    #[test]
    fn a_reader_that_goes_away_and_comes_back_loses_nothing() {
        let path = fifo("out");
        assert!(Sink::open(&path).unwrap().is_none());
        let open = || rustix::fs::open(&path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap();
        let reader = open();
        let (from, writer) = pipe();
        let mut relay = Relay::out(from, Sink::open(&path).unwrap().unwrap());
        rustix::io::write(&writer, b"one").unwrap();
        assert_eq!(relay.turn(), Turn::Waits);
        let mut buffer = [0; 16];
        assert_eq!(rustix::io::read(&reader, &mut buffer), Ok(3));
        drop(reader);
        rustix::io::write(&writer, b"two!").unwrap();
        assert_eq!(relay.turn(), Turn::Waits);
        let reader = open();
        assert_eq!(rustix::io::read(&reader, &mut buffer), Ok(4));
        drop(writer);
        assert_eq!(relay.turn(), Turn::Over);
        drop(relay);
        assert_eq!(rustix::io::read(&reader, &mut buffer), Ok(0));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn input_ends_when_it_is_closed_and_its_writers_are_gone() {
        let path = fifo("in");
        let (reader, to) = pipe();
        let mut relay = Relay::input(Source::open(&path).unwrap(), to);
        assert_eq!(relay.turn(), Turn::Waits);
        let client = rustix::fs::open(&path, OFlags::WRONLY, Mode::empty()).unwrap();
        rustix::io::write(&client, b"x").unwrap();
        relay.close_input();
        assert_eq!(relay.turn(), Turn::Waits);
        drop(client);
        assert_eq!(relay.turn(), Turn::Over);
        drop(relay);
        let mut buffer = [0; 16];
        assert_eq!(rustix::io::read(&reader, &mut buffer), Ok(1));
        assert_eq!(rustix::io::read(&reader, &mut buffer), Ok(0));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_file_gets_what_comes_appended() {
        let path = std::env::temp_dir().join(format!("pintle-shim-file-{}", std::process::id()));
        std::fs::write(&path, "before ").unwrap();
        let (from, writer) = pipe();
        let sink = Sink::open(&path).unwrap().unwrap();
        let mut relay = Relay::out(from, sink.again().unwrap());
        rustix::io::write(&writer, b"after").unwrap();
        drop(writer);
        assert_eq!(relay.turn(), Turn::Over);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "before after");
        std::fs::remove_file(path).unwrap();
    }
}
