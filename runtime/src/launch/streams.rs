//! The caller's terminal never enters a container that was not given one of its own: where a standard stream is a
//! terminal, the program gets a pipe and this copies. Everything else (files, pipes, sockets) it shares with the caller.

use crate::error::{Context, Result};
use rustix::event::PollFlags;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

/// The program's ends, by number, and what is copied.
#[derive(Debug, Default)]
pub struct Streams {
    theirs: [Option<OwnedFd>; 3],
    relays: Vec<Relay>,
}

/// One stream being copied.
#[derive(Debug)]
pub struct Relay {
    from: OwnedFd,
    to: OwnedFd,
    pending: Vec<u8>,
    open: bool,
}

impl Streams {
    /// Pipes for those of the caller's standard streams that are terminals.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn for_terminals() -> Result<Self> {
        let mut streams = Self::default();
        for number in 0..3u8 {
            let own = pintle_sys::fd::inherited(number.into());
            if !rustix::termios::isatty(own) {
                continue;
            }
            let own = rustix::io::fcntl_dupfd_cloexec(own, 3).context("dup")?;
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).context("pipe2")?;
            let (theirs, from, to) = if number == 0 { (reader, own, writer) } else { (writer, reader, own) };
            let pipe = if number == 0 { &to } else { &from };
            // Only the pipe: the terminal's other users would not expect it to change.
            fcntl_setfl(pipe, fcntl_getfl(pipe).context("fcntl")? | OFlags::NONBLOCK).context("fcntl")?;
            streams.theirs[usize::from(number)] = Some(theirs);
            streams.relays.push(Relay { from, to, pending: Vec::new(), open: true });
        }
        Ok(streams)
    }

    /// What the program gets instead of the caller's stream of that number.
    pub fn theirs(&self) -> [Option<BorrowedFd<'_>>; 3] {
        self.theirs.each_ref().map(|end| end.as_ref().map(AsFd::as_fd))
    }

    /// What is to be copied, once the program has its ends: here they close, so that its end shows.
    pub fn into_relays(self) -> Vec<Relay> {
        self.relays
    }
}

impl Relay {
    /// What to wait for, if anything.
    pub fn wanted(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match (self.open, self.pending.is_empty()) {
            (_, false) => Some((self.to.as_fd(), PollFlags::OUT)),
            (true, true) => Some((self.from.as_fd(), PollFlags::IN)),
            (false, true) => None,
        }
    }

    /// Copies what is there; whether there may be more.
    pub fn turn(&mut self) -> bool {
        if self.pending.is_empty() {
            let mut bytes = [0; 8192];
            match rustix::io::read(&self.from, &mut bytes) {
                Ok(length @ 1..) => self.pending.extend_from_slice(&bytes[..length]),
                Err(Errno::AGAIN | Errno::INTR) => return false,
                // The end, or a terminal that went away: as good as the end.
                Ok(0) | Err(_) => self.open = false,
            }
        }
        match rustix::io::write(&self.to, &self.pending) {
            Ok(length) => drop(self.pending.drain(..length)),
            Err(Errno::AGAIN | Errno::INTR) => return false,
            // Nobody reads any more.
            Err(_) => (self.open, self.pending) = (false, Vec::new()),
        }
        self.open
    }

    /// What the program said before its end; what is typed for it is of no use any more.
    pub fn drain(&mut self) {
        let from_program = !rustix::termios::isatty(&self.from);
        while from_program && self.turn() {}
    }
}
