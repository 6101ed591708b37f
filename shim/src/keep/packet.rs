//! What passes between a supervisor and its clients: a SOCK_SEQPACKET socket keeps one message from the next, so that each is a letter and
//! what belongs to it. unix(7)

use pintle::error::{Context as _, Result};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use std::path::Path;

/// The most bytes of a stream in one message, and the most that become one entry of a log, as Kubernetes has it.
pub const CHUNK: usize = 16 << 10;

/// What a container prints to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or a terminal.
    Out,
    /// Standard error.
    Err,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// A client wants the output from now on.
    Attach,
    /// A client sends input.
    Input(Vec<u8>),
    /// The client's terminal has so many rows and columns.
    Size(u16, u16),
    /// End the container; seconds until it is killed.
    Stop(u32),
    /// The container printed something.
    Output(Stream, Vec<u8>),
    /// So many bytes were left out here: the client did not take them in time.
    Lost(u64),
}

impl Packet {
    fn bytes(&self) -> Vec<u8> {
        let (letter, rest) = match self {
            Self::Attach => (b'a', Vec::new()),
            Self::Input(bytes) => (b'i', bytes.clone()),
            Self::Size(rows, columns) => (b'w', [rows.to_be_bytes(), columns.to_be_bytes()].concat()),
            Self::Stop(seconds) => (b's', seconds.to_be_bytes().to_vec()),
            Self::Output(Stream::Out, bytes) => (b'o', bytes.clone()),
            Self::Output(Stream::Err, bytes) => (b'e', bytes.clone()),
            Self::Lost(count) => (b'l', count.to_be_bytes().to_vec()),
        };
        [vec![letter], rest].concat()
    }

    /// None: nothing that is known here.
    fn read(bytes: &[u8]) -> Option<Self> {
        let (letter, rest) = bytes.split_first()?;
        Some(match letter {
            b'a' => Self::Attach,
            b'i' => Self::Input(rest.to_vec()),
            b'w' => {
                let (rows, columns) = rest.split_first_chunk()?;
                Self::Size(u16::from_be_bytes(*rows), u16::from_be_bytes(columns.try_into().ok()?))
            }
            b's' => Self::Stop(u32::from_be_bytes(rest.try_into().ok()?)),
            b'o' => Self::Output(Stream::Out, rest.to_vec()),
            b'e' => Self::Output(Stream::Err, rest.to_vec()),
            b'l' => Self::Lost(u64::from_be_bytes(rest.try_into().ok()?)),
            _ => return None,
        })
    }

    /// Sends it, at once or not at all where `flags` say so.
    ///
    /// # Errors
    /// Those of send(2).
    pub fn send(&self, socket: impl AsFd, flags: SendFlags) -> rustix::io::Result<()> {
        rustix::net::send(socket, &self.bytes(), flags | SendFlags::NOSIGNAL).map(|_| ())
    }

    /// The next one. None: the other side is gone, or says what is not understood.
    ///
    /// # Errors
    /// Those of recv(2).
    pub fn receive(socket: impl AsFd, flags: RecvFlags) -> rustix::io::Result<Option<Self>> {
        let mut buffer = [0; CHUNK + 1];
        let (length, _) = rustix::net::recv(socket, &mut buffer, flags)?;
        Ok(Self::read(buffer.get(..length).unwrap_or_default()))
    }
}

/// Connects to a supervisor.
///
/// # Errors
/// Nobody listens there.
pub fn connect(path: &Path) -> Result<OwnedFd> {
    let told = || format!("connect to {}", path.display());
    let socket = new(SocketFlags::CLOEXEC).with_context(told)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path).with_context(told)?).with_context(told)?;
    Ok(socket)
}

/// Listens for clients, without ever waiting for one.
///
/// # Errors
/// A path that is too long.
pub fn listen(path: &Path) -> Result<OwnedFd> {
    let told = || format!("listen at {}", path.display());
    let socket = new(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK).with_context(told)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path).with_context(told)?).with_context(told)?;
    rustix::net::listen(&socket, 16).with_context(told)?;
    Ok(socket)
}

fn new(flags: SocketFlags) -> std::result::Result<OwnedFd, Errno> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_back_as_they_went_and_rubbish_is_nothing() {
        for packet in [
            Packet::Attach,
            Packet::Input(vec![0, 255]),
            Packet::Size(24, 80),
            Packet::Stop(10),
            Packet::Output(Stream::Out, b"x".to_vec()),
            Packet::Output(Stream::Err, Vec::new()),
            Packet::Lost(u64::MAX),
        ] {
            assert_eq!(Packet::read(&packet.bytes()), Some(packet));
        }
        for rubbish in [&b""[..], b"w", b"w123", b"w12345", b"s", b"l1234567", b"?"] {
            assert_eq!(Packet::read(rubbish), None, "{rubbish:?}");
        }
    }
}
