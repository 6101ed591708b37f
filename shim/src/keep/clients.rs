//! Who is connected to a supervisor. A client that does not read loses what it has no room for, and is told how much when it reads again:
//! neither the container nor other clients wait for it, and nothing is kept for it here.

use super::packet::{self, Packet, Stream};
use crate::poll::{EventFlags, Poll, Token};
use pintle::error::{Context as _, Result};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};
use std::collections::BTreeMap;
use std::path::Path;

/// More than so many at once are turned away.
const MOST: usize = 100;

/// The clients of one container.
#[derive(Debug)]
pub struct Clients {
    listener: OwnedFd,
    all: BTreeMap<u32, Client>,
    number: u32,
}

#[derive(Debug)]
struct Client {
    socket: OwnedFd,
    attached: bool,
    lost: u64,
}

impl Clients {
    /// Listens.
    ///
    /// # Errors
    /// A path that is too long.
    pub fn listen(path: &Path, poll: &Poll) -> Result<Self> {
        let listener = packet::listen(path)?;
        poll.add(&listener, Token::Listener, EventFlags::IN).context("epoll_ctl")?;
        Ok(Self { listener, all: BTreeMap::new(), number: 0 })
    }

    /// Lets in who is of the same user.
    pub fn accept(&mut self, poll: &Poll) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        while let Ok(socket) = rustix::net::accept_with(&self.listener, flags) {
            let own = rustix::process::geteuid();
            let ours = rustix::net::sockopt::socket_peercred(&socket).is_ok_and(|peer| peer.uid == own);
            self.number = self.number.wrapping_add(1);
            let token = Token::Peer(self.number);
            if ours && self.all.len() < MOST && poll.add(&socket, token, EventFlags::IN).is_ok() {
                self.all.insert(self.number, Client { socket, attached: false, lost: 0 });
            }
        }
    }

    /// What a client says; none if it is gone, or only wanted the output.
    pub fn receive(&mut self, number: u32) -> Option<Packet> {
        let client = self.all.get_mut(&number)?;
        match Packet::receive(&client.socket, RecvFlags::DONTWAIT) {
            Ok(Some(Packet::Attach)) => client.attached = true,
            Ok(Some(packet)) => return Some(packet),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(None) | Err(_) => drop(self.all.remove(&number)),
        }
        None
    }

    /// A client is gone.
    pub fn lose(&mut self, number: u32) {
        self.all.remove(&number);
    }

    /// Passes on what the container printed.
    pub fn send(&mut self, stream: Stream, bytes: Vec<u8>) {
        let length = bytes.len() as u64;
        let output = Packet::Output(stream, bytes);
        self.all.retain(|_, client| {
            !client.attached
                || match client.catch_up().and_then(|()| output.send(&client.socket, SendFlags::DONTWAIT)) {
                    Ok(()) => true,
                    Err(Errno::AGAIN) => {
                        client.lost += length;
                        true
                    }
                    Err(_) => false,
                }
        });
    }

    /// Reads from those who send input, or does not until the container has taken more.
    pub fn hold(&self, poll: &Poll, hold: bool) {
        let events = if hold { EventFlags::empty() } else { EventFlags::IN };
        for (number, client) in self.all.iter().filter(|(_, client)| client.attached) {
            // Its descriptor is in there.
            let _watched = poll.change(&client.socket, Token::Peer(*number), events);
        }
    }
}

impl Client {
    /// Tells it what it lost.
    fn catch_up(&mut self) -> rustix::io::Result<()> {
        if self.lost > 0 {
            Packet::Lost(self.lost).send(&self.socket, SendFlags::DONTWAIT)?;
            self.lost = 0;
        }
        Ok(())
    }
}
