//! `cgroup.events`: whether anything lives in a cgroup or below it, and whether it is frozen. The kernel wakes
//! whoever polls it when either changes.

use super::{Cgroup, file, value_of};
use crate::error::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::{Errno, pread, retry_on_intr};
use std::time::{Duration, Instant};

/// What `cgroup.events` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Events {
    /// A process lives in the cgroup or below it.
    pub populated: bool,
    /// Every process of it has stopped.
    pub frozen: bool,
}

/// An open file of a cgroup that reports its changes.
#[derive(Debug)]
pub struct Watch(OwnedFd);

impl Watch {
    /// Opens `name`; `None` when there is no such file or no such cgroup.
    pub fn open(dir: impl AsFd, name: &str) -> std::result::Result<Option<Self>, Errno> {
        match file::open(dir, name, OFlags::RDONLY) {
            Ok(file) => Ok(Some(Self(file))),
            Err(Errno::NOENT | Errno::NODEV) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// The text of now; `None` when the cgroup is gone. What changes from here on wakes poll(2).
    pub fn read(&self) -> std::result::Result<Option<String>, Errno> {
        let mut text = [0; 4096];
        match retry_on_intr(|| pread(&self.0, &mut text, 0)) {
            Ok(count) => {
                Ok(Some(String::from_utf8_lossy(text.get(..count).unwrap_or_default()).into_owned()))
            }
            Err(Errno::NODEV) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    fn events(&self) -> std::result::Result<Option<Events>, Errno> {
        Ok(self.read()?.map(|text| Events {
            populated: value_of(&text, "populated") == Some(1),
            frozen: value_of(&text, "frozen") == Some(1),
        }))
    }

    /// Sleeps until one of the files changes or `limit` is over.
    pub fn wait(files: &[&Watch], limit: Duration) -> std::result::Result<(), Errno> {
        let mut files: Vec<_> = files.iter().map(|watch| PollFd::new(&watch.0, PollFlags::PRI)).collect();
        let limit = Timespec::try_from(limit).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 });
        match poll(&mut files, Some(&limit)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits until `done` says so of the events of the cgroup open as `dir` (`None`: it is gone), or `limit` is over.
pub(super) fn wait_until(
    dir: impl AsFd,
    limit: Duration,
    done: impl Fn(Option<Events>) -> bool,
) -> std::result::Result<bool, Errno> {
    let end = Instant::now() + limit;
    let Some(watch) = Watch::open(dir, "cgroup.events")? else { return Ok(done(None)) };
    loop {
        // Read before poll: a change after this read wakes it at once.
        let events = watch.events()?;
        if done(events) {
            return Ok(true);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || events.is_none() {
            return Ok(false);
        }
        Watch::wait(&[&watch], left)?;
    }
}

impl Cgroup {
    /// What `cgroup.events` says; `None` when the cgroup is gone.
    pub fn events(&self) -> Result<Option<Events>> {
        let read = || match Watch::open(&self.dir, "cgroup.events")? {
            Some(watch) => watch.events(),
            None => Ok(None),
        };
        read().with_context(|| self.told("cgroup.events"))
    }

    /// Waits until nothing lives in it; whether that came true within `limit`.
    pub fn wait_empty(&self, limit: Duration) -> Result<bool> {
        wait_until(&self.dir, limit, |events| !events.is_some_and(|events| events.populated))
            .with_context(|| self.told("cgroup.events"))
    }

    /// Opens a file of the cgroup that reports its changes; `None` when there is none.
    pub fn watch(&self, name: &str) -> Result<Option<Watch>> {
        Watch::open(&self.dir, name).with_context(|| format!("open {}/{name}", self.path.display()))
    }
}
