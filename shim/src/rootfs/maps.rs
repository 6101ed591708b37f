//! Id-mapped mounts: files seem to belong to others than the disk says, so one image serves containers with different maps. Makes a process
//! for a moment, which holds the user namespace with the map. mount_setattr(2)

use super::unmount_all;
use pintle::error::{Context as _, Error, Result};
use pintle::launch::mount_maps;
use pintle::plan::namespaces::IdMaps;
use pintle_sys::mount::{Attributes, IDMAP, set_attributes};
use rustix::fd::{AsFd, AsRawFd as _, OwnedFd};
use rustix::fs::{CWD, Mode};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use std::path::Path;

/// A user namespace with these maps of users and groups.
///
/// # Errors
/// Maps that can't be read, or that the kernel refuses.
pub fn namespace([users, groups]: &[String; 2]) -> Result<OwnedFd> {
    let maps = IdMaps { uids: lines("uidmap", users)?, gids: lines("gidmap", groups)?, ..IdMaps::default() };
    mount_maps::made(&maps)
}

/// `INSIDE:OUTSIDE:COUNT,…` as user_namespaces(7) takes it.
fn lines(name: &str, list: &str) -> Result<String> {
    let wrong = || Error::new(format!("{name}={list}: not of the form INSIDE:OUTSIDE:COUNT,…"));
    let mut text = String::new();
    for one in list.split(',') {
        let numbers = one.split(':').map(|word| word.parse::<u32>().map_err(|_| wrong()));
        let [inside, outside, count] =
            <[u32; 3]>::try_from(numbers.collect::<Result<Vec<_>>>()?).map_err(|_| wrong())?;
        text += &format!("{inside} {outside} {count}\n");
    }
    Ok(text)
}

/// A copy of the mount at `path`, nowhere yet.
pub fn clone_tree(path: impl rustix::path::Arg, recursive: bool) -> rustix::io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    open_tree(CWD, path, flags)
}

/// Puts a copy where `target` is.
pub fn put(tree: impl AsFd, target: &Path) -> rustix::io::Result<()> {
    move_mount(tree, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// Maps a mount that nobody sees yet.
pub fn map(tree: impl AsFd, recursive: bool, namespace: impl AsFd) -> Result<()> {
    let userns_fd = namespace.as_fd().as_raw_fd().cast_unsigned().into();
    let attributes = Attributes { set: IDMAP, userns_fd, ..Attributes::default() };
    set_attributes(tree, recursive, &attributes).context("mount_setattr of the id map")
}

/// Does something with mapped copies of directories, which have to be mounted somewhere meanwhile: before Linux 6.15 overlayfs takes no
/// others. That is `beside`, one over the other, and none of them is left there.
pub fn with_mapped(
    paths: &[String],
    maps: &[String; 2],
    beside: &Path,
    act: impl FnOnce(Vec<OwnedFd>) -> Result<()>,
) -> Result<()> {
    let namespace = namespace(maps)?;
    rustix::fs::mkdir(beside, Mode::RWXU).with_context(|| format!("mkdir {}", beside.display()))?;
    let trees = paths.iter().map(|path| {
        let told = || format!("id-mapped {path}");
        let tree = clone_tree(path.as_str(), false).with_context(told)?;
        map(&tree, false, &namespace).with_context(told)?;
        put(&tree, beside).with_context(told)?;
        Ok(tree)
    });
    let done = trees.collect::<Result<Vec<_>>>().and_then(act);
    let cleared = clear(beside);
    done.and(cleared)
}

/// Takes away what a process that was killed may have left there.
///
/// # Errors
/// What the kernel refuses.
pub fn clear(beside: &Path) -> Result<()> {
    unmount_all(beside)?;
    match rustix::fs::rmdir(beside) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno).with_context(|| format!("rmdir {}", beside.display())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_lines_of_three_numbers() {
        assert_eq!(lines("uidmap", "0:100000:65536,65536:1:2").unwrap(), "0 100000 65536\n65536 1 2\n");
        for wrong in ["", "0:1", "0:1:2:3", "0:1:-2", "0:1:2,", "a:b:c"] {
            let said = lines("gidmap", wrong).unwrap_err().to_string();
            assert_eq!(said, format!("gidmap={wrong}: not of the form INSIDE:OUTSIDE:COUNT,…"));
        }
    }
}
