//! The socket by which a terminal comes: one that the runtime connects to, or one that init has from its birth on.

use crate::relay::do_not_block;
use crate::socket;
use crate::wire::{Answer, Failure};
use pintle::error::{Context as _, Error, Result};
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType, socketpair,
};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::path::PathBuf;

/// Our side of it.
#[derive(Debug)]
pub struct Console {
    socket: OwnedFd,
    /// Where the runtime connects.
    path: Option<PathBuf>,
}

impl Console {
    /// One that the runtime finds at `path`.
    ///
    /// # Errors
    /// A path that is too long or can't be made.
    pub fn at(path: PathBuf) -> Result<Self> {
        Ok(Self { socket: socket::listen_alone(&path)?, path: Some(path) })
    }

    /// One without a name, and its other side.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn pair() -> Result<(Self, OwnedFd)> {
        let (socket, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .context("socketpair")?;
        Ok((Self { socket, path: None }, theirs))
    }

    /// Takes the terminal's master side, which was sent before whoever sent it was done.
    ///
    /// # Errors
    /// None came.
    pub fn receive(&self) -> Answer<OwnedFd> {
        let told = || Failure::unknown("failed to retrieve console master: the runtime sent none");
        let accepted = match self.path {
            Some(_) => Some(rustix::net::accept(&self.socket).map_err(|_| told())?),
            None => None,
        };
        let connection = accepted.as_ref().unwrap_or(&self.socket);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [0; 4096];
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        rustix::net::recvmsg(connection, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags)
            .map_err(|_| told())?;
        let received = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        let master = received.ok_or_else(told)?;
        if !rustix::termios::isatty(&master) {
            return Err(Error::new("failed to retrieve console master: it is no terminal").into());
        }
        do_not_block(master.as_fd())?;
        Ok(master)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.path.iter().for_each(|path| socket::remove(path));
    }
}
