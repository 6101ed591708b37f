//! A process of a container as an engine sees it: the first one, or one that was added.

use crate::logger::Logger;
use crate::relay;
use crate::service::births::Theirs;
use crate::wire::task::Status;
use crate::wire::{Answer, Code, Failure, Timestamp};
use pintle::error::{Context as _, Result};
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::path::{Path, PathBuf};

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The connection.
    pub peer: u32,
    /// The request on it.
    pub stream: u32,
}

/// The streams of a process as the engine names them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stdio {
    /// Path of a fifo, or nothing.
    pub stdin: String,
    /// Path of a fifo, a URI, or nothing.
    pub stdout: String,
    /// As `stdout`; unused with a terminal.
    pub stderr: String,
    /// One terminal in place of three pipes.
    pub terminal: bool,
}

impl Stdio {
    /// As a request names them.
    pub fn new(stdin: &str, stdout: &str, stderr: &str, terminal: bool) -> Self {
        Self { stdin: stdin.into(), stdout: stdout.into(), stderr: stderr.into(), terminal }
    }
}

/// Where a process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Known, and for the first process: born.
    Created,
    /// The runtime is at it.
    Starting,
    /// The engine was told that it runs.
    Running,
    /// The engine was told that it ended.
    Stopped,
}

/// How a process ended, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its exit status, or 128 and the signal.
    pub status: u32,
    /// The same moment in every answer about it.
    pub at: Timestamp,
}

/// One process.
#[derive(Debug)]
pub struct Process {
    /// The container.
    pub task: String,
    /// Empty for the first one.
    pub exec: String,
    /// Its streams.
    pub stdio: Stdio,
    /// What is to be executed, for one that was added: the `process` of the runtime specification.
    pub spec: Vec<u8>,
    /// 0 until it is born.
    pub pid: u32,
    /// Where it is in its life.
    pub phase: Phase,
    /// It ended, and others have not heard of it yet.
    pub held: Option<Exit>,
    /// It ended.
    pub exit: Option<Exit>,
    /// Who is to hear of its end.
    pub waiters: Vec<Origin>,
    /// Who asked for its removal.
    pub deleting: Option<Origin>,
    /// Its removal waits for its output.
    pub draining: bool,
    /// Relays of its output that are not over.
    pub open: usize,
    /// The relay of its input.
    pub input: Option<u32>,
    /// The engine said that it would write no more, before there was anything to write to.
    pub input_closed: bool,
    /// Signals that came while it was being born, and who sent them.
    pub signals: Vec<(Origin, u32)>,
    /// The master of its terminal, for its size.
    pub console: Option<OwnedFd>,
    /// Our ends of its pipes.
    pub ends: [Option<OwnedFd>; 3],
    /// The program that takes its output, while it lives.
    pub logger: Option<u32>,
    /// Where what a terminal says goes to its logger.
    pub to_logger: Option<OwnedFd>,
    /// Whoever is told of its birth when its output is read: a client that hears of an end before would give its reader up.
    pub unheard: Option<Origin>,
    /// Somebody looks for them now and then, after this many milliseconds.
    pub look: u64,
    /// Output that nobody came to read yet.
    pub unread: Vec<(OwnedFd, PathBuf)>,
}

impl Process {
    /// One that is not born yet.
    pub fn new(task: &str, exec: &str, stdio: Stdio) -> Self {
        Self {
            task: task.into(),
            exec: exec.into(),
            stdio,
            spec: Vec::new(),
            pid: 0,
            phase: Phase::Created,
            held: None,
            exit: None,
            waiters: Vec::new(),
            deleting: None,
            draining: false,
            open: 0,
            input: None,
            input_closed: false,
            signals: Vec::new(),
            console: None,
            ends: [None, None, None],
            logger: None,
            to_logger: None,
            unheard: None,
            look: 0,
            unread: Vec::new(),
        }
    }

    /// It is, or is about to be, alive.
    pub fn is_under_way(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Running)
    }

    /// In containerd's words.
    pub fn status(&self) -> Status {
        match self.phase {
            Phase::Created | Phase::Starting => Status::Created,
            Phase::Running => Status::Running,
            Phase::Stopped => Status::Stopped,
        }
    }

    /// Lays its streams: returns its own ends, and keeps ours. Where a program takes the output, it is that one's to read.
    ///
    /// # Errors
    /// A URI of an unknown kind; no descriptors left.
    pub fn connect(&mut self, owner: (u32, u32)) -> Answer<(Option<Logger>, Theirs)> {
        self.lay(owner).map_err(|failure| Failure {
            message: format!("failed to create init process I/O: {}", failure.message),
            ..failure
        })
    }

    fn lay(&mut self, owner: (u32, u32)) -> Answer<(Option<Logger>, Theirs)> {
        let mut all = Theirs::default();
        let place = Place::of(&self.stdio.stdout)?;
        if let Place::File(path) = &place {
            make_file(path)?;
        }
        let logger = if let Place::Logger(logger) = place { Some(logger) } else { None };
        if self.stdio.terminal {
            if logger.is_some() {
                // What the terminal says is the one stream; the other is over before it begins.
                let [(out, to), (err, _)] = [pipe()?, pipe()?];
                relay::do_not_block(to.as_fd())?;
                (self.ends, self.to_logger) = ([None, Some(out), Some(err)], Some(to));
            }
            return Ok((logger, all));
        }
        if self.stdio.stdout.contains("://") {
            (self.stdio.stderr).clone_from(&self.stdio.stdout);
        }
        let wanted = [&self.stdio.stdin, &self.stdio.stdout, &self.stdio.stderr].map(|path| !path.is_empty());
        let ends = self.ends.iter_mut().zip(&mut all).zip(wanted).enumerate();
        for (number, ((end, place), _)) in ends.filter(|(_, (_, wanted))| *wanted) {
            let (reader, writer) = pipe()?;
            if owner != (0, 0) {
                let own = |fd: &OwnedFd| {
                    rustix::fs::fchown(fd, Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)))
                };
                own(&reader).and_then(|()| own(&writer)).context("fchown of a pipe")?;
            }
            let (ours, theirs) = if number == 0 { (writer, reader) } else { (reader, writer) };
            relay::do_not_block(ours.as_fd())?;
            *end = Some(ours);
            *place = Some(theirs);
        }
        Ok((logger, all))
    }

    /// The file that a terminal's words go to; none where nobody wants them.
    ///
    /// # Errors
    /// A URI of an unknown kind.
    pub fn terminal_output(&self) -> Answer<Option<PathBuf>> {
        Ok(match Place::of(&self.stdio.stdout)? {
            Place::Path(path) | Place::File(path) => Some(path).filter(|path| !path.as_os_str().is_empty()),
            Place::Logger(_) => None,
        })
    }

    /// Where its output goes, once it is born: our end, and where to.
    pub fn outputs(&mut self) -> Answer<Vec<(OwnedFd, PathBuf)>> {
        let [_, out, err] = &mut self.ends;
        let mut outputs = Vec::new();
        for (end, name) in [(out.take(), &self.stdio.stdout), (err.take(), &self.stdio.stderr)] {
            let Some(end) = end.filter(|_| !name.is_empty()) else { continue };
            if let Place::Path(path) | Place::File(path) = Place::of(name)? {
                outputs.push((end, path));
            }
        }
        Ok(outputs)
    }

    /// Sends a signal of any kind.
    ///
    /// # Errors
    /// Those of kill(2), in the words of containerd's own shim.
    pub fn kill(&self, signal: u32) -> Answer<()> {
        let finished = |before| Failure::new(Code::NotFound, format!("{before}process already finished"));
        if self.exit.is_some() || self.held.is_some() {
            return Err(finished(""));
        }
        let Some(pid) = Pid::from_raw(self.pid.cast_signed()) else {
            return Err(Failure::new(Code::FailedPrecondition, "process not created"));
        };
        let sent = pidfd_open(pid, PidfdFlags::empty())
            .and_then(|pidfd| pintle_sys::signal::send(pidfd, signal.cast_signed()));
        match sent {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::SRCH) => Err(finished("exec kill error: ")),
            Err(errno) => Err(Failure::unknown(format!(
                "exec kill error: unknown error after kill: {}",
                pintle::error::errno_text(errno)
            ))),
        }
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    pipe_with(PipeFlags::CLOEXEC).context("pipe2")
}

/// What a stream's name means.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// A fifo, or whatever lies at the path.
    Path(PathBuf),
    /// `file://`: a file, made if it is missing.
    File(PathBuf),
    /// `binary://`: a program that reads it.
    Logger(Logger),
}

impl Place {
    fn of(name: &str) -> Answer<Self> {
        match name.split_once("://") {
            None => Ok(Self::Path(name.into())),
            Some(("fifo", path)) => Ok(Self::Path(path.into())),
            Some(("file", path)) => Ok(Self::File(path.split('?').next().unwrap_or_default().into())),
            // The second differs in that readiness is a byte, which is not the end either way.
            Some(("binary" | "binary-v2", rest)) => Logger::of(rest).map(Self::Logger),
            Some((scheme, _)) => Err(Failure::unknown(format!("unknown STDIO scheme {scheme}"))),
        }
    }
}

fn make_file(path: &Path) -> Result<()> {
    let told = || format!("open {}", path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(told)?;
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::from_raw_mode(0o644)).with_context(told)?;
    Ok(())
}
