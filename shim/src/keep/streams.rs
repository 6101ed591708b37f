//! The streams of a container under its supervisor: three pipes, or its terminal. Nothing here waits.

use super::packet::{CHUNK, Stream};
use crate::console::Console;
use crate::poll::{EventFlags, Poll, Token};
use crate::relay::do_not_block;
use pintle::error::{Context as _, Error, Result};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::Winsize;
use std::path::Path;
use std::process::{Command, Stdio};

/// Where the runtime sends a terminal, in the container's directory.
const CONSOLE: &str = "console";
/// Input that the container has not taken; with more, clients are not read from.
const ENOUGH: usize = 64 << 10;

/// One life's streams.
#[derive(Debug, Default)]
pub struct Streams {
    output: [Option<OwnedFd>; 2],
    input: Option<OwnedFd>,
    pending: Vec<u8>,
    /// The terminal's other side: as long as somebody has it open, the terminal does not end.
    peer: Option<OwnedFd>,
    /// Until the runtime has sent the terminal.
    console: Option<Console>,
}

impl Streams {
    /// Gives the command that bears the container its streams.
    ///
    /// # Errors
    /// No descriptors left; a path that is too long for a socket.
    pub fn lay(
        command: &mut Command,
        poll: &Poll,
        folder: &Path,
        terminal: bool,
        input: bool,
    ) -> Result<Self> {
        let mut streams = Self::default();
        command.stdin(Stdio::null());
        if terminal {
            let path = folder.join(CONSOLE);
            streams.console = Some(Console::at(path.clone())?);
            command.arg("--console-socket").arg(path).stdout(Stdio::null()).stderr(Stdio::null());
            return Ok(streams);
        }
        let pipe = || pipe_with(PipeFlags::CLOEXEC).context("pipe2");
        let ((out, theirs_out), (err, theirs_err)) = (pipe()?, pipe()?);
        command.stdout(theirs_out).stderr(theirs_err);
        if input {
            let (theirs, own) = pipe()?;
            do_not_block(&own)?;
            command.stdin(theirs);
            streams.take_input(own, poll)?;
        }
        streams.take_output(out, Stream::Out, poll)?;
        streams.take_output(err, Stream::Err, poll)?;
        Ok(streams)
    }

    /// The runtime is done: takes the terminal that it sent.
    ///
    /// # Errors
    /// It sent none.
    pub fn born(&mut self, poll: &Poll) -> Result<()> {
        let Some(console) = self.console.take() else { return Ok(()) };
        let master = console.receive().map_err(|failure| Error::new(failure.message))?;
        self.peer = Some(pintle_sys::tty::peer(&master).context("open the terminal's other side")?);
        self.take_input(rustix::io::fcntl_dupfd_cloexec(&master, 3).context("dup")?, poll)?;
        self.take_output(master, Stream::Out, poll)
    }

    fn take_output(&mut self, from: OwnedFd, stream: Stream, poll: &Poll) -> Result<()> {
        do_not_block(&from)?;
        poll.add(&from, Token::Relay(stream as u32), EventFlags::IN).context("watch a stream")?;
        if let Some(place) = self.output.get_mut(stream as usize) {
            *place = Some(from);
        }
        Ok(())
    }

    fn take_input(&mut self, to: OwnedFd, poll: &Poll) -> Result<()> {
        // Told once each time that there is room again.
        poll.add(&to, Token::Input, EventFlags::OUT | EventFlags::ET).context("watch a stream")?;
        self.input = Some(to);
        Ok(())
    }

    /// What was printed; none where nothing is there, by now or for ever.
    pub fn read(&mut self, stream: Stream) -> Option<Vec<u8>> {
        let place = self.output.get_mut(stream as usize)?;
        let mut bytes = vec![0; CHUNK];
        loop {
            match rustix::io::read(place.as_ref()?, &mut bytes) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return None,
                Ok(0) | Err(_) => {
                    *place = None;
                    return None;
                }
                Ok(length) => {
                    bytes.truncate(length);
                    return Some(bytes);
                }
            }
        }
    }

    /// Sends the container input.
    pub fn write(&mut self, bytes: &[u8]) {
        if self.input.is_some() {
            self.pending.extend_from_slice(bytes);
            self.flush();
        }
    }

    /// Sends what it did not take before.
    pub fn flush(&mut self) {
        while let Some(input) = self.input.as_ref().filter(|_| !self.pending.is_empty()) {
            match rustix::io::write(input, &self.pending) {
                Ok(length) => drop(self.pending.drain(..length)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // Nobody reads it any more.
                Err(_) => (self.input, self.pending) = (None, Vec::new()),
            }
        }
    }

    /// There is enough to be taken.
    pub fn is_full(&self) -> bool {
        self.pending.len() >= ENOUGH
    }

    /// Gives the terminal its size.
    pub fn resize(&self, rows: u16, columns: u16) {
        let [Some(master), _] = &self.output else { return };
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // No terminal has no size.
        let _unsized = rustix::termios::tcsetwinsize(master, size);
    }
}
