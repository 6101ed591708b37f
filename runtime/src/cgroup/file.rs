//! The files of a cgroup: opened below its directory, read whole, written in one write(2) each.

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{Errno, read as read_some, retry_on_intr, write as write_some};

pub(super) fn open(dir: impl AsFd, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    openat(dir, name, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
}

/// The whole text.
pub(super) fn read(dir: impl AsFd, name: &str) -> Result<String, Errno> {
    let file = open(dir, name, OFlags::RDONLY)?;
    let mut text = Vec::new();
    let mut part = [0; 4096];
    loop {
        match retry_on_intr(|| read_some(&file, &mut part))? {
            0 => return String::from_utf8(text).map_err(|_| Errno::ILSEQ),
            count => text.extend_from_slice(part.get(..count).unwrap_or_default()),
        }
    }
}

/// The whole text; `None` when there is no such file, its controller does not work here or the cgroup is gone.
pub(super) fn read_if_there(dir: impl AsFd, name: &str) -> Result<Option<String>, Errno> {
    match read(dir, name) {
        Ok(text) => Ok(Some(text)),
        Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Writes `value` at once: the kernel takes one write as one value.
pub(super) fn write(dir: impl AsFd, name: &str, value: &str) -> Result<(), Errno> {
    let file = open(dir, name, OFlags::WRONLY)?;
    put(&file, value)
}

pub(super) fn put(file: &OwnedFd, value: &str) -> Result<(), Errno> {
    match retry_on_intr(|| write_some(file, value.as_bytes()))? {
        count if count == value.len() => Ok(()),
        _ => Err(Errno::IO),
    }
}
