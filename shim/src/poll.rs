//! What the shim waits for: everything in one epoll(7), and moments.

use pintle::error::{Context as _, Result};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use std::time::{Duration, Instant};

pub use rustix::event::epoll::EventFlags;

/// Events taken at once.
const BATCH: usize = 64;

/// Who is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// Somebody connects.
    Listener,
    /// A child ended, or this program is asked to.
    Signals,
    /// containerd, where it takes events.
    Publisher,
    /// A client.
    Peer(u32),
    /// One stream of a process.
    Relay(u32),
    /// The memory of a container's cgroup.
    Memory(u32),
    /// An init that was told to go on.
    Release(u32),
    /// A logger that gets ready.
    Logger(u32),
    /// An init that is being answered.
    Birth(u32),
    /// pintle-keep: the container takes input again.
    Input,
}

impl Token {
    fn pack(self) -> u64 {
        let (kind, number) = match self {
            Self::Listener => (0, 0),
            Self::Signals => (1, 0),
            Self::Publisher => (2, 0),
            Self::Peer(n) => (3, n),
            Self::Relay(n) => (4, n),
            Self::Memory(n) => (5, n),
            Self::Release(n) => (6, n),
            Self::Logger(n) => (7, n),
            Self::Birth(n) => (8, n),
            Self::Input => (9, 0),
        };
        kind << 32 | u64::from(number)
    }

    fn unpack(word: u64) -> Option<Self> {
        let number = word as u32;
        Some(match word >> 32 {
            0 => Self::Listener,
            1 => Self::Signals,
            2 => Self::Publisher,
            3 => Self::Peer(number),
            4 => Self::Relay(number),
            5 => Self::Memory(number),
            6 => Self::Release(number),
            7 => Self::Logger(number),
            8 => Self::Birth(number),
            9 => Self::Input,
            _ => return None,
        })
    }
}

/// See epoll(7). A descriptor leaves it by being closed: each is this process's alone.
#[derive(Debug)]
pub struct Poll(OwnedFd);

impl Poll {
    /// An empty one.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn new() -> Result<Self> {
        Ok(Self(epoll::create(epoll::CreateFlags::CLOEXEC).context("epoll_create")?))
    }

    /// Waits for `events` of a descriptor, too. A regular file, which is always ready, can't be waited for: EPERM.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn add(&self, fd: impl AsFd, token: Token, events: EventFlags) -> rustix::io::Result<()> {
        epoll::add(&self.0, fd, epoll::EventData::new_u64(token.pack()), events)
    }

    /// Waits for other events of it from now on.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn change(&self, fd: impl AsFd, token: Token, events: EventFlags) -> rustix::io::Result<()> {
        epoll::modify(&self.0, fd, epoll::EventData::new_u64(token.pack()), events)
    }

    /// Sleeps until something happens, `until` at most.
    ///
    /// # Errors
    /// None in practice.
    pub fn wait(&self, until: Option<Instant>) -> Result<Vec<(Token, EventFlags)>> {
        let mut events = Vec::with_capacity(BATCH);
        let limit =
            until.map(|until| until.saturating_duration_since(Instant::now()).min(Duration::from_secs(3600)));
        let limit = limit.map(|left| Timespec {
            tv_sec: left.as_secs().cast_signed(),
            tv_nsec: left.subsec_nanos().into(),
        });
        match epoll::wait(&self.0, spare_capacity(&mut events), limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).context("epoll_wait"),
        }
        Ok(events.iter().filter_map(|event| Some((Token::unpack(event.data.u64())?, event.flags))).collect())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_as_they_went() {
        for token in [
            Token::Listener,
            Token::Signals,
            Token::Publisher,
            Token::Peer(0),
            Token::Relay(u32::MAX),
            Token::Memory(7),
            Token::Birth(1),
            Token::Input,
        ] {
            assert_eq!(Token::unpack(token.pack()), Some(token));
        }
        assert_eq!(Token::unpack(10 << 32), None);
    }
}
