//! Removing a cgroup with all that the container made below it. rmdir(2) refuses one that has children or living
//! processes; the children are removed first, for the processes `cgroup.events` tells when the last is gone.

use super::directory;
use super::events::wait_until;
use super::pids::{children, open_below};
use crate::error::{Context, Result};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, unlinkat};
use rustix::io::Errno;
use std::path::Path;
use std::time::{Duration, Instant};

/// Removes the cgroup at an absolute path. Its processes must have been killed: they get `limit` to be gone. One that
/// is not there is removed already.
pub fn delete(path: &Path, limit: Duration) -> Result<()> {
    let end = Instant::now() + limit;
    remove(path, end).with_context(|| format!("rmdir {}", path.display()))
}

fn remove(path: &Path, end: Instant) -> std::result::Result<(), Errno> {
    loop {
        match unlinkat(CWD, path, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::INTR) => continue,
            // A read-only mount says so even of a path that is not there.
            Err(errno @ (Errno::BUSY | Errno::NOTEMPTY | Errno::ROFS)) => match directory(path) {
                Ok(dir) if errno != Errno::ROFS => empty(dir, end)?,
                Err(Errno::NOENT) => return Ok(()),
                _ => return Err(errno),
            },
            Err(errno) => return Err(errno),
        }
    }
}

/// Removes everything below `top` and waits for its last process. Down and up again with one descriptor, so that no
/// depth of nesting exhausts anything.
fn empty(top: OwnedFd, end: Instant) -> std::result::Result<(), Errno> {
    let mut here = top;
    let mut depth = 0u32;
    loop {
        let busy = children(&here)?.into_iter().find(|name| {
            !matches!(unlinkat(&here, name.as_c_str(), AtFlags::REMOVEDIR), Ok(()) | Err(Errno::NOENT))
        });
        match busy.map(|name| open_below(&here, &name)) {
            Some(Ok(below)) => {
                here = below;
                depth += 1;
                continue;
            }
            Some(Err(Errno::NOENT)) => continue,
            Some(Err(errno)) => return Err(errno),
            None => settle(&here, end)?,
        }
        if depth == 0 {
            return Ok(());
        }
        here = open_below(&here, c"..")?;
        depth -= 1;
    }
}

/// Waits until nothing lives in a cgroup without children.
fn settle(dir: &OwnedFd, end: Instant) -> std::result::Result<(), Errno> {
    let left = end.saturating_duration_since(Instant::now());
    let done = wait_until(dir, left, |events| !events.is_some_and(|events| events.populated))?;
    // Out of time even when it looks empty: something keeps moving in and out.
    if !done || left.is_zero() { Err(Errno::BUSY) } else { Ok(()) }
}
