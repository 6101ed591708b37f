//! The exchange with the parent, over a SOCK_SEQPACKET pair: what is said, and how it is written.
//!
//! Messages after the seccomp filter was loaded go out by write(2), which every filter that runc can live with
//! allows; only those that carry a descriptor take sendmsg(2).

use crate::Init;
use crate::failure::{Failure, Result};
use crate::order::{Field, Malformed, Sink};
use core::mem::MaybeUninit;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

/// The longest message: a failure with 512 bytes of words.
pub const LONGEST: usize = 1024;

/// What init says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Init goes on in process `pid` (as init's first process sees it); its pidfd comes along.
    Forked {
        /// Process id.
        pid: i32,
    },
    /// Write the id maps of my user namespace.
    Maps,
    /// Open the source of this step for me: my ids can't reach it.
    Source {
        /// Index of the step.
        step: u16,
    },
    /// Run the hooks of the runtime's side.
    RunHooks,
    /// The container stands.
    Ready,
    /// Fetch the seccomp listener: its number here.
    SeccompFd {
        /// Descriptor in init.
        fd: i32,
    },
    /// All is prepared.
    Done,
    /// Bring the loopback interface of this socket's network namespace up, while I go on.
    Loopback,
    /// Move devices into my network namespace.
    NetDevices,
    /// What was asked for is open; the descriptor comes along.
    Opened,
    /// A step failed, and init leaves.
    Failed {
        /// Index of the step.
        step: u16,
        /// What the kernel answered.
        errno: i32,
        /// The call.
        operation: &'a [u8],
        /// More words.
        text: &'a [u8],
    },
}

impl<'a> Field<'a> for Message<'a> {
    fn put(&self, sink: &mut impl Sink) {
        match *self {
            Self::Forked { pid } => (1u16.put(sink), pid.put(sink)).0,
            Self::Maps => 2u16.put(sink),
            Self::Source { step } => (3u16.put(sink), step.put(sink)).0,
            Self::RunHooks => 4u16.put(sink),
            Self::Ready => 5u16.put(sink),
            Self::SeccompFd { fd } => (6u16.put(sink), fd.put(sink)).0,
            Self::Done => 7u16.put(sink),
            Self::Opened => 8u16.put(sink),
            Self::Loopback => 10u16.put(sink),
            Self::NetDevices => 11u16.put(sink),
            Self::Failed { step, errno, operation, text } => {
                9u16.put(sink);
                step.put(sink);
                errno.put(sink);
                operation.put(sink);
                text.put(sink);
            }
        }
    }

    fn take(bytes: &mut &'a [u8]) -> core::result::Result<Self, Malformed> {
        Ok(match u16::take(bytes)? {
            1 => Self::Forked { pid: i32::take(bytes)? },
            2 => Self::Maps,
            3 => Self::Source { step: u16::take(bytes)? },
            4 => Self::RunHooks,
            5 => Self::Ready,
            6 => Self::SeccompFd { fd: i32::take(bytes)? },
            7 => Self::Done,
            8 => Self::Opened,
            10 => Self::Loopback,
            11 => Self::NetDevices,
            9 => Self::Failed {
                step: u16::take(bytes)?,
                errno: i32::take(bytes)?,
                operation: Field::take(bytes)?,
                text: Field::take(bytes)?,
            },
            _ => return Err(Malformed),
        })
    }
}

/// A message being written.
struct Packet {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Sink for Packet {
    fn put(&mut self, bytes: &[u8]) {
        for (slot, byte) in self.bytes.iter_mut().skip(self.length).zip(bytes) {
            *slot = *byte;
            self.length += 1;
        }
    }
}

/// Sends `message`, with a descriptor if there is one.
///
/// # Errors
/// Those of write(2) and sendmsg(2).
pub fn send(
    channel: impl AsFd,
    message: &Message<'_>,
    descriptor: Option<BorrowedFd<'_>>,
) -> core::result::Result<(), Errno> {
    let mut packet = Packet { bytes: [0; LONGEST], length: 0 };
    message.put(&mut packet);
    let bytes = packet.bytes.get(..packet.length).unwrap_or_default();
    match descriptor {
        None => rustix::io::write(channel, bytes).map(drop),
        Some(fd) => send_descriptor(channel, bytes, fd),
    }
}

/// Sends `bytes` and one descriptor, SCM_RIGHTS.
///
/// # Errors
/// Those of sendmsg(2); EMSGSIZE when not all of the bytes went.
pub fn send_descriptor(
    channel: impl AsFd,
    bytes: &[u8],
    descriptor: BorrowedFd<'_>,
) -> core::result::Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(Errno::NOBUFS);
    }
    let sent = rustix::net::sendmsg(channel, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    if sent == bytes.len() { Ok(()) } else { Err(Errno::MSGSIZE) }
}

/// Receives one packet into `buffer`: its length (0 when the other side is gone) and a descriptor if one came.
///
/// # Errors
/// Those of recvmsg(2).
pub fn receive(
    channel: impl AsFd,
    buffer: &mut [u8],
) -> core::result::Result<(usize, Option<OwnedFd>), Errno> {
    receive_by(channel, buffer, RecvFlags::empty())
}

/// The same with flags, such as MSG_DONTWAIT.
///
/// # Errors
/// Those of recvmsg(2).
pub fn receive_by(
    channel: impl AsFd,
    buffer: &mut [u8],
    flags: RecvFlags,
) -> core::result::Result<(usize, Option<OwnedFd>), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let slices = &mut [IoSliceMut::new(buffer)];
        match rustix::net::recvmsg(&channel, slices, &mut control, flags | RecvFlags::CMSG_CLOEXEC) {
            // Reset: the other side went without reading all that was said to it. What it said last is still there.
            Err(Errno::INTR | Errno::CONNRESET) => {}
            other => break other?,
        }
    };
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok((received.bytes, descriptor))
}

/// Sends a pidfd of this process, opened in its own pid namespace, to a socket of the caller's.
pub fn send_pidfd(socket: BorrowedFd<'_>, word: &[u8]) -> Result {
    let pidfd = rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty())
        .map_err(Failure::at("pidfd_open"))?;
    send_descriptor(socket, word, pidfd.as_fd()).map_err(Failure::at("sendmsg"))
}

impl Init<'_> {
    /// Says `message` and waits for the parent's go.
    pub(crate) fn exchange(&mut self, message: &Message<'_>) -> Result {
        send(self.channel, message, None).map_err(Failure::at("write to parent"))?;
        self.await_go()
    }

    /// The same under the user's filter: by read(2) and write(2), which runc's init also makes there.
    pub(crate) fn exchange_filtered(&mut self, message: &Message<'_>) -> Result {
        send(self.channel, message, None).map_err(Failure::at("write to parent"))?;
        match rustix::io::retry_on_intr(|| rustix::io::read(self.channel, &mut [0; 1])) {
            Ok(0) => pintle_sys::exec::exit(crate::FAILED),
            Ok(_) => Ok(()),
            Err(errno) => Err(Failure::new("read from parent", errno)),
        }
    }

    /// Waits for the parent's go. When the parent is gone, so is the reason to live.
    pub(crate) fn await_go(&mut self) -> Result {
        if let Some(state) = self.receive_go()? {
            // The state for hooks comes along with every go that precedes a hook of init's.
            self.state = Some(state);
        }
        Ok(())
    }

    /// Waits for the parent's go; a descriptor may come along.
    pub(crate) fn receive_go(&mut self) -> Result<Option<OwnedFd>> {
        let mut byte = [0; 1];
        match receive(self.channel, &mut byte) {
            Ok((0, _)) => pintle_sys::exec::exit(crate::FAILED),
            Ok((_, descriptor)) => Ok(descriptor),
            Err(errno) => Err(Failure::new("recvmsg", errno)),
        }
    }

    /// `Done`: from here on the parent may be gone, and whoever knows of the container may end it. As the first process of a pid namespace
    /// that waits for `start` it would never hear that without handlers.
    pub(crate) fn say_done(&mut self, waits: bool) -> Result {
        if waits {
            pintle_sys::signal::end_when_asked().map_err(Failure::at("rt_sigaction"))?;
        }
        send(self.channel, &Message::Done, None).map_err(Failure::at("write to parent"))?;
        self.done = true;
        Ok(())
    }

    /// The parent raises the loopback interface meanwhile, unless it must not wait: it is the slowest single thing of a birth.
    pub(crate) fn loopback(&self, lent: bool) -> Result {
        let socket = pintle_sys::net::socket().map_err(Failure::at("socket"))?;
        if !lent {
            return pintle_sys::net::loopback_up(&socket)
                .map_err(Failure::at("bring up the loopback interface"));
        }
        send(self.channel, &Message::Loopback, Some(socket.as_fd())).map_err(Failure::at("sendmsg"))
    }

    /// For an init whose user namespace has no say in its network namespace.
    pub(crate) fn send_route_socket(&self) -> Result {
        let socket = pintle_sys::net::route_socket().map_err(Failure::at("socket"))?;
        send(self.channel, &Message::Opened, Some(socket.as_fd())).map_err(Failure::at("sendmsg"))
    }

    /// Opens `path` in the mount namespace joined before, for an init whose ids can't reach it.
    pub(crate) fn send_path(&mut self, path: &core::ffi::CStr) -> Result {
        use rustix::fs::{Mode, OFlags, open};
        let fd = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(Failure::at("open"))?;
        send(self.channel, &Message::Opened, Some(fd.as_fd())).map_err(Failure::at("sendmsg"))
    }
}
