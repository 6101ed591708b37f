//! `attach`: what the container prints comes here, what is typed here goes there. The keys ctrl-p ctrl-q leave a terminal.

use super::packet::{self, Packet, Stream};
use super::state::{Folder, Record, SOCKET};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use pintle::error::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustix::termios::{OptionalActions, Termios};
use std::io::Write as _;

/// ctrl-p ctrl-q
const KEYS: [u8; 2] = [0x10, 0x11];

/// How an attachment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// The container has nothing more to print.
    Ended,
    /// This side went away.
    Detached,
}

/// Attaches until the container ends or somebody wants to leave.
///
/// # Errors
/// Nobody looks after the container.
pub fn attach(folder: &Folder, record: &Record, input: bool) -> Result<Left> {
    let socket = packet::connect(&folder.path.join(SOCKET))?;
    let sent = |packet: Packet| packet.send(&socket, SendFlags::empty()).context("send to the supervisor");
    sent(Packet::Attach)?;
    let signals = signals()?;
    let mut input = input && record.interactive;
    let terminal = (input && record.terminal).then(Terminal::raw).flatten();
    let mut keys = Keys::default();
    if record.terminal {
        size().map_or(Ok(()), sent)?;
    }
    loop {
        let stdin = rustix::stdio::stdin();
        let mut events = vec![PollFd::new(&socket, PollFlags::IN), PollFd::new(&signals, PollFlags::IN)];
        if input {
            events.push(PollFd::new(&stdin, PollFlags::IN));
        }
        match poll(&mut events, None) {
            Err(Errno::INTR) => continue,
            other => other.context("poll")?,
        };
        let happened: Vec<bool> = events.iter().map(|event| !event.revents().is_empty()).collect();
        let at = |number: usize| happened.get(number).copied().unwrap_or(false);
        if at(1) {
            match signals.read_signal().context("read signals")? {
                Some(signal) if signal.ssi_signo == Signal::SIGWINCH as u32 => size().map_or(Ok(()), sent)?,
                _ => return Ok(Left::Detached),
            }
        }
        if at(0) {
            match Packet::receive(&socket, RecvFlags::empty()) {
                Ok(Some(packet)) if show(&packet, terminal.is_some()) => {}
                Ok(Some(_)) => return Ok(Left::Detached),
                // Told once, where what was sent last found nobody: what was printed before it is still to come.
                Err(Errno::CONNRESET) => {}
                Ok(None) | Err(_) => return Ok(Left::Ended),
            }
        }
        if at(2) {
            let mut bytes = [0; 4096];
            let length = rustix::io::read(stdin, &mut bytes).unwrap_or(0);
            let typed = bytes.get(..length).unwrap_or_default();
            let (passed, leave) = if terminal.is_some() { keys.pass(typed) } else { (typed.to_vec(), false) };
            if leave {
                return Ok(Left::Detached);
            }
            input = length > 0;
            // Its end is told by the socket's.
            let _gone = if passed.is_empty() { Ok(()) } else { sent(Packet::Input(passed)) };
        }
    }
}

/// All that ends this program leaves the container, and the terminal as it was.
fn signals() -> Result<SignalFd> {
    let mut all = SigSet::empty();
    for signal in [Signal::SIGWINCH, Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
        all.add(signal);
    }
    all.thread_block().context("block signals")?;
    SignalFd::with_flags(&all, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).context("signalfd")
}

fn size() -> Option<Packet> {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stdin()).ok()?;
    Some(Packet::Size(size.ws_row, size.ws_col))
}

/// Shows what came; false if nobody looks any more.
fn show(packet: &Packet, raw: bool) -> bool {
    let mut out = std::io::stdout();
    match packet {
        Packet::Output(Stream::Out, bytes) => out.write_all(bytes).and_then(|()| out.flush()),
        Packet::Output(Stream::Err, bytes) => std::io::stderr().write_all(bytes),
        Packet::Lost(count) => {
            let end = if raw { "\r\n" } else { "\n" };
            let words =
                format!("{end}pintle-keep: {count} bytes were left out here: this side was too slow{end}");
            std::io::stderr().write_all(words.as_bytes())
        }
        _ => Ok(()),
    }
    .is_ok()
}

/// Looks for the keys that leave.
#[derive(Debug, Default)]
struct Keys {
    /// The first was pressed, and kept back.
    first: bool,
}

impl Keys {
    /// What of the typed bytes is the container's, and whether somebody leaves.
    fn pass(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::new();
        for &byte in typed {
            match (std::mem::replace(&mut self.first, byte == KEYS[0]), byte) {
                (true, second) if second == KEYS[1] => return (passed, true),
                (true, _) => passed.push(KEYS[0]),
                (false, _) => {}
            }
            if !self.first {
                passed.push(byte);
            }
        }
        (passed, false)
    }
}

/// The caller's terminal, where every key is the container's until this is dropped.
struct Terminal {
    tty: OwnedFd,
    before: Termios,
}

impl Terminal {
    fn raw() -> Option<Self> {
        let tty = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).ok()?;
        let before = rustix::termios::tcgetattr(tty.as_fd()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(tty.as_fd(), OptionalActions::Now, &raw).ok()?;
        Some(Self { tty, before })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Nothing better can be done for a terminal that went away.
        let _lost = rustix::termios::tcsetattr(self.tty.as_fd(), OptionalActions::Now, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_leave_and_one_of_them_alone_does_not() {
        let [p, q] = KEYS;
        for (typed, passed, leave) in [
            (vec![b"ab".to_vec()], b"ab".to_vec(), false),
            (vec![vec![b'a', p, q, b'b']], b"a".to_vec(), true),
            (vec![vec![p], vec![q]], vec![], true),
            (vec![vec![p, b'x', q]], vec![p, b'x', q], false),
            (vec![vec![p, p], vec![b'x']], vec![p, p, b'x'], false),
            (vec![vec![q, p]], vec![q], false),
        ] {
            let mut keys = Keys::default();
            let mut all = (Vec::new(), false);
            for bytes in &typed {
                let (some, left) = keys.pass(bytes);
                all.0.extend(some);
                all.1 |= left;
            }
            assert_eq!(all, (passed, leave), "{typed:?}");
        }
    }
}
