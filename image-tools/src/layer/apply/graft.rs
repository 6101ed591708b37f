//! A layer that was applied by itself becomes part of the tree of those below it, by renaming: so all layers of a flat tree are applied
//! beside each other. Only what both have as a directory is looked into; all else moves whole (rename(2)).

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{ResolveFlags, fstat, futimens, renameat};
use rustix::io::Errno;

use super::directories::{child, dot, resolve};
use super::{Applied, Hidden, c_string, metadata};
use crate::error::{Context, Error, Result};
use crate::layer::read::show;
use crate::tree;

/// Moves the tree `layer`, applied in the form [`Apart`](super::Form::Apart), onto the flat tree `root` on the same file system, and
/// leaves of it what has to be removed.
pub fn graft(layer: BorrowedFd<'_>, applied: &Applied, root: BorrowedFd<'_>) -> Result<()> {
    for hidden in &applied.hidden {
        hide(root, hidden).with_context(|| show(&hidden.dir))?;
    }
    let mut left = vec![Vec::new()];
    while let Some(path) = left.pop() {
        let both = |tree| resolve(tree, dot(&path), ResolveFlags::NO_SYMLINKS);
        let (from, to) = (both(layer)?, both(root)?);
        merge(&from, &to, !path.is_empty() || applied.told_root, |name| {
            left.push(child(&path, name.to_bytes()));
        })
        .with_context(|| show(&path))?;
    }
    Ok(())
}

/// Removes what a layer hides, if there is something by that name, and not through a link.
fn hide(root: BorrowedFd<'_>, hidden: &Hidden) -> Result<()> {
    let dir = match resolve(root, dot(&hidden.dir), ResolveFlags::NO_SYMLINKS) {
        Ok(dir) => dir,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    keeping_time(&dir, || match &hidden.name {
        Some(name) => tree::remove(&dir, &c_string(name)?),
        None => tree::clear(dir.as_fd(), &tree::Nothing),
    })
}

/// Moves all that `from` has to `to`. `again` hears of the directories that both have and that are not empty below.
fn merge(from: &OwnedFd, to: &OwnedFd, told: bool, mut again: impl FnMut(&CStr)) -> Result<()> {
    let moving = || {
        for (name, _) in tree::names(from)? {
            let moved = match renameat(from, &name, to, &name) {
                Err(Errno::EXIST | Errno::NOTEMPTY) => {
                    again(&name);
                    Ok(())
                }
                // One of them is a directory, the other is none.
                Err(Errno::ISDIR | Errno::NOTDIR) => {
                    tree::remove(to, &name)?;
                    renameat(from, &name, to, &name)
                }
                other => other,
            };
            moved.map_err(Error::from).with_context(|| show(name.to_bytes()))?;
        }
        Ok(())
    };
    if !told {
        return keeping_time(to, moving);
    }
    // The layer's time of the directory, which moving takes away.
    keeping_time(from, moving)?;
    metadata::copy(from.as_fd(), to.as_fd())
}

fn keeping_time(dir: &OwnedFd, change: impl FnOnce() -> Result<()>) -> Result<()> {
    let stat = fstat(dir)?;
    change()?;
    let mtime = crate::layer::member::Time { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec as u32 };
    futimens(dir, &metadata::timestamps(mtime)).context("time")
}
