//! What stays in the foreground: the program's terminal on the caller's, signals handed on, and its end. Also the
//! sockets by which a terminal or a pidfd is sent away when nothing stays. termios(3), signalfd(2), tty_ioctl(4)

use super::spawn::{self, Child, Descriptors};
use super::streams::{Relay, Streams};
use crate::error::{Context, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{self, OutputFlags, SetArg, Termios};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with, socketpair};
use std::path::Path;

/// Connects to a socket of the caller's.
///
/// # Errors
/// A path that is too long or where nobody listens.
fn connect(path: &Path) -> Result<OwnedFd> {
    let told = || format!("connect to {}", path.display());
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .with_context(told)?;
    let address = SocketAddrUnix::new(path).with_context(told)?;
    rustix::net::connect(&socket, &address).with_context(told)?;
    Ok(socket)
}

/// Rows and columns of the caller's terminal; zeros without one.
pub fn size() -> (u32, u32) {
    let size = Host::find().and_then(|tty| rustix::termios::tcgetwinsize(tty).ok());
    size.map_or((0, 0), |size| (size.ws_row.into(), size.ws_col.into()))
}

/// What the caller of a birth keeps of its own: sockets for whoever asked for a terminal or a pidfd, or the foreground.
#[derive(Debug)]
pub struct Ends {
    console: Option<OwnedFd>,
    pidfd_socket: Option<OwnedFd>,
    /// What stays until the program ends.
    pub foreground: Option<Foreground>,
}

impl Ends {
    /// Connects to the sockets at these paths; with `foreground`, makes that, for a program with a `terminal` or without.
    ///
    /// # Errors
    /// Sockets where nobody listens; no descriptors left.
    pub fn new(
        console: Option<&Path>,
        pidfd_socket: Option<&Path>,
        foreground: bool,
        terminal: bool,
    ) -> Result<Self> {
        Ok(Self {
            console: console.map(connect).transpose()?,
            pidfd_socket: pidfd_socket.map(connect).transpose()?,
            foreground: foreground.then(|| Foreground::new(terminal)).transpose()?,
        })
    }

    /// What a process to be born is given of them.
    pub fn descriptors(&self) -> Descriptors<'_> {
        let foreground = self.foreground.as_ref();
        Descriptors {
            console: self.console.as_ref().map(AsFd::as_fd).or(foreground.and_then(Foreground::console)),
            pidfd_socket: self.pidfd_socket.as_ref().map(AsFd::as_fd),
            stdio: foreground.map_or([None; 3], Foreground::stdio),
            ..Descriptors::default()
        }
    }

    /// Shows what the process said that did not become the program.
    pub fn last_words(self) {
        self.foreground.into_iter().for_each(Foreground::last_words);
    }
}

/// Everything that the foreground needs, set up before the program is born.
#[derive(Debug)]
pub struct Foreground {
    signals: SignalFd,
    /// Our end of the socket that the terminal's master comes through, and the end for init.
    console: Option<(OwnedFd, OwnedFd)>,
    /// Without a terminal of the program's own: pipes in place of the caller's.
    streams: Streams,
}

impl Foreground {
    /// Takes over this process's signals; with `terminal`, makes the way for the master.
    ///
    /// # Errors
    /// No descriptors left.
    fn new(terminal: bool) -> Result<Self> {
        let all = SigSet::all();
        all.thread_block().context("block signals")?;
        let signals =
            SignalFd::with_flags(&all, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).context("signalfd")?;
        let pair = || socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let console = terminal.then(pair).transpose().context("socketpair")?;
        let streams = if terminal { Streams::default() } else { Streams::for_terminals()? };
        Ok(Self { signals, console, streams })
    }

    /// What the program gets in place of the caller's standard streams.
    fn stdio(&self) -> [Option<BorrowedFd<'_>>; 3] {
        self.streams.theirs()
    }

    /// Where init sends the master.
    fn console(&self) -> Option<BorrowedFd<'_>> {
        self.console.as_ref().map(|(_, theirs)| theirs.as_fd())
    }

    /// What a process said before it ended without having become the program.
    fn last_words(self) {
        if let Some((ours, theirs)) = self.console {
            drop(theirs);
            // It may have ended before it had a terminal: then there are no words.
            if let Ok(mut terminal) = Terminal::receive(&ours) {
                terminal.drain();
            }
        }
        self.streams.into_relays().iter_mut().for_each(Relay::drain);
    }

    /// Stays until the program ends; returns runc's exit status for it.
    ///
    /// # Errors
    /// A terminal that can't be read or written.
    pub fn attend(self, child: &Child) -> Result<u8> {
        let terminal = match self.console {
            Some((ours, theirs)) => {
                drop(theirs);
                Some(Terminal::receive(&ours)?)
            }
            None => None,
        };
        let relays = self.streams.into_relays();
        let mut attending = Attending { signals: self.signals, terminal, relays, child };
        let status = attending.until_end()?;
        attending.relays.iter_mut().for_each(Relay::drain);
        if let Some(terminal) = &mut attending.terminal {
            terminal.drain();
        }
        Ok(status)
    }
}

struct Attending<'a> {
    signals: SignalFd,
    terminal: Option<Terminal>,
    relays: Vec<Relay>,
    child: &'a Child,
}

impl Attending<'_> {
    fn until_end(&mut self) -> Result<u8> {
        loop {
            let stdin = rustix::stdio::stdin();
            let mut events = vec![
                PollFd::new(&self.child.pidfd, PollFlags::IN),
                PollFd::new(&self.signals, PollFlags::IN),
            ];
            // A terminal that everybody closed answers at once for ever: it is not asked any more.
            if let Some(terminal) = self.terminal.as_ref().filter(|terminal| terminal.master_open) {
                events.push(PollFd::new(&terminal.master, terminal.wanted()));
                if terminal.reads_stdin() {
                    events.push(PollFd::new(&stdin, PollFlags::IN));
                }
            }
            // A program has relays or a terminal, never both.
            let wanted: Vec<_> = self.relays.iter().map(Relay::wanted).collect();
            let asked = wanted.iter().flatten().map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags));
            events.extend(asked);
            match poll(&mut events, None) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno).context("poll"),
            }
            let relays: Vec<bool> = wanted.iter().map(Option::is_some).collect();
            let happened: Vec<PollFlags> = events.iter().map(PollFd::revents).collect();
            let at = |n: usize| happened.get(n).copied().unwrap_or(PollFlags::empty());
            if !at(1).is_empty() {
                self.hand_on_signals()?;
            }
            if let Some(terminal) = &mut self.terminal {
                terminal.turn(at(2), at(3))?;
            }
            let mut next = 2;
            for (relay, asked) in self.relays.iter_mut().zip(relays) {
                if asked && !at(next).is_empty() {
                    relay.turn();
                }
                next += usize::from(asked);
            }
            if !at(0).is_empty() {
                return Ok(spawn::exit_code(spawn::wait(self.child.pidfd.as_fd())?));
            }
        }
    }

    fn hand_on_signals(&mut self) -> Result<()> {
        while let Some(signal) = self.signals.read_signal().context("read signals")? {
            let number = signal.ssi_signo as i32;
            match Signal::try_from(number) {
                Ok(Signal::SIGCHLD | Signal::SIGURG | Signal::SIGPIPE) => {}
                Ok(Signal::SIGWINCH) if self.terminal.is_some() => {
                    if let Some(terminal) = &self.terminal {
                        terminal.resize();
                    }
                }
                _ => {
                    // Real-time signals too; a program that just ended needs none.
                    let _gone = pintle_sys::signal::send(&self.child.pidfd, number);
                }
            }
        }
        Ok(())
    }
}

/// The program's terminal, shown on the caller's.
#[derive(Debug)]
struct Terminal {
    master: OwnedFd,
    /// Typed, and not yet taken by the program.
    pending: Vec<u8>,
    stdin_open: bool,
    master_open: bool,
    host: Option<Host>,
}

/// The caller's terminal, and how it was.
#[derive(Debug)]
struct Host {
    tty: OwnedFd,
    before: Termios,
}

impl Host {
    /// The first standard stream that is a terminal, from the one least often redirected on.
    fn find() -> Option<OwnedFd> {
        let streams = [2, 1, 0].map(pintle_sys::fd::inherited);
        let stream = streams.into_iter().find(|stream| rustix::termios::isatty(stream));
        stream.and_then(|stream| rustix::io::fcntl_dupfd_cloexec(stream, 3).ok())
    }

    /// Every key goes to the program; only output is still made into lines here.
    fn raw(tty: OwnedFd) -> Option<Self> {
        let before = termios::tcgetattr(&tty).ok()?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        raw.output_flags |= before.output_flags & OutputFlags::OPOST;
        termios::tcsetattr(&tty, SetArg::TCSANOW, &raw).ok()?;
        Some(Self { tty, before })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Nothing better can be done for a terminal that went away.
        let _lost = termios::tcsetattr(&self.tty, SetArg::TCSANOW, &self.before);
    }
}

impl Terminal {
    fn receive(socket: &OwnedFd) -> Result<Self> {
        let mut name = [0; 64];
        let (_, master) = pintle_init::channel::receive(socket, &mut name).context("receive the terminal")?;
        let Some(master) = master else { crate::bail!("init sent no terminal") };
        fcntl_setfl(&master, OFlags::RDWR | OFlags::NONBLOCK).context("fcntl")?;
        Ok(Self {
            master,
            pending: Vec::new(),
            stdin_open: true,
            master_open: true,
            host: Host::find().and_then(Host::raw),
        })
    }

    /// As large as the caller's.
    fn resize(&self) {
        let Some(host) = &self.host else { return };
        if let Ok(size) = rustix::termios::tcgetwinsize(&host.tty) {
            // A size is a courtesy; the program runs without.
            let _unsized = rustix::termios::tcsetwinsize(&self.master, size);
        }
    }

    fn wanted(&self) -> PollFlags {
        let mut wanted = if self.master_open { PollFlags::IN } else { PollFlags::empty() };
        if !self.pending.is_empty() {
            wanted |= PollFlags::OUT;
        }
        wanted
    }

    fn reads_stdin(&self) -> bool {
        self.stdin_open && self.pending.is_empty()
    }

    /// One turn of copying.
    fn turn(&mut self, master: PollFlags, stdin: PollFlags) -> Result<()> {
        if self.master_open && master.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            self.show()?;
        }
        if !stdin.is_empty() {
            let mut typed = [0; 4096];
            match rustix::io::read(rustix::stdio::stdin(), &mut typed) {
                Ok(0) | Err(Errno::IO) => self.stdin_open = false,
                Ok(length) => self.pending.extend_from_slice(&typed[..length]),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(errno) => return Err(errno).context("read standard input"),
            }
        }
        if !self.pending.is_empty() {
            match rustix::io::write(&self.master, &self.pending) {
                Ok(length) => drop(self.pending.drain(..length)),
                Err(Errno::AGAIN | Errno::INTR) => {}
                // Nobody reads any more.
                Err(_) => self.pending.clear(),
            }
        }
        Ok(())
    }

    fn show(&mut self) -> Result<()> {
        let mut bytes = [0; 8192];
        match rustix::io::read(&self.master, &mut bytes) {
            // EIO: the last process closed the other side.
            Ok(0) | Err(Errno::IO) => self.master_open = false,
            Ok(length) => write_all(&bytes[..length])?,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(errno).context("read the terminal"),
        }
        Ok(())
    }

    /// What was printed before the end.
    fn drain(&mut self) {
        let mut bytes = [0; 8192];
        while let Ok(length @ 1..) = rustix::io::read(&self.master, &mut bytes) {
            if write_all(&bytes[..length]).is_err() {
                return;
            }
        }
    }
}

fn write_all(mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(rustix::stdio::stdout(), bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let stdout = rustix::stdio::stdout();
                poll(&mut [PollFd::new(&stdout, PollFlags::OUT)], None).context("poll")?;
            }
            Err(errno) => return Err(errno).context("write standard output"),
        }
    }
    Ok(())
}
