//! Stacks applied layers with overlayfs, by the new mount API: one lowerdir per call, so neither their number nor the length of their
//! paths is limited by a page (fsopen(2), Linux 6.5 for `lowerdir+`; before that a string of short relative names).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};

use crate::error::{Context, Error, Result};

/// A writable top.
pub struct Upper<'a> {
    /// Where changes go.
    pub upper: BorrowedFd<'a>,
    /// overlayfs's own, on the same file system.
    pub work: BorrowedFd<'a>,
    /// Never wait for the disk: for trees that nobody needs after a crash.
    pub volatile: bool,
}

/// Stacks layers, base first. The mount is nowhere yet: whoever holds the descriptor sees it, nobody else, and it goes away with it.
pub fn stack(layers: &[OwnedFd], top: Option<&Upper<'_>>) -> Result<OwnedFd> {
    build(layers, top).context("overlay mount")
}

fn build(layers: &[OwnedFd], top: Option<&Upper<'_>>) -> Result<OwnedFd> {
    if layers.is_empty() && top.is_none() {
        return Err(Error::unsupported("an image without layers has no tree"));
    }
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|e| match e {
        Errno::PERM => Error::new(
            crate::error::Kind::Denied,
            "operation not permitted: it needs root, or a user namespace",
        ),
        Errno::NODEV => Error::unsupported("this kernel has no overlayfs"),
        e => e.into(),
    })?;
    fsconfig_set_string(fs.as_fd(), "source", "pintle-image")?;
    // What other kernels were configured to do by default would mean attributes that only overlayfs understands.
    for (key, value) in [("redirect_dir", "off"), ("metacopy", "off"), ("index", "off")] {
        tell(&fs, fsconfig_set_string(fs.as_fd(), key, value))?;
    }
    if crate::rootless::is_in_user_namespace() {
        tell(&fs, fsconfig_set_flag(fs.as_fd(), "userxattr"))?;
    }
    // overlayfs wants two layers at least where nothing is above: an empty one does no harm at the bottom. On top it would
    // give the tree its root.
    let empty;
    let mut lowers: Vec<String> = layers.iter().rev().map(path_of).collect();
    if top.is_none() && lowers.len() == 1 {
        empty = empty_dir()?;
        lowers.push(path_of(&empty));
    }
    for lower in &lowers {
        match fsconfig_set_string(fs.as_fd(), "lowerdir+", lower) {
            Err(Errno::INVAL) => {
                // Before Linux 6.5.
                tell(&fs, fsconfig_set_string(fs.as_fd(), "lowerdir", lowers.join(":")))?;
                break;
            }
            other => tell(&fs, other)?,
        }
    }
    if let Some(top) = top {
        tell(&fs, fsconfig_set_string(fs.as_fd(), "upperdir", path_of(&top.upper)))?;
        tell(&fs, fsconfig_set_string(fs.as_fd(), "workdir", path_of(&top.work)))?;
        if top.volatile {
            tell(&fs, fsconfig_set_flag(fs.as_fd(), "volatile"))?;
        }
    }
    tell(&fs, fsconfig_create(fs.as_fd()))?;
    let attributes = if top.is_some() { MountAttrFlags::empty() } else { MountAttrFlags::MOUNT_ATTR_RDONLY };
    Ok(fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Puts a mount onto a directory.
pub fn attach(mount: &OwnedFd, at: &Path) -> Result<()> {
    move_mount(mount, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .with_context(|| format!("mount on {}", at.display()))
}

/// Takes the mount on a directory away; false where there is none.
pub fn detach(at: &Path) -> Result<bool> {
    match unmount(at, UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(true),
        Err(Errno::INVAL | Errno::NOENT) => Ok(false),
        Err(e) => Err(e).with_context(|| format!("unmount {}", at.display())),
    }
}

fn path_of(dir: &impl AsFd) -> String {
    format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd())
}

/// A directory that nobody else sees: the root of a tmpfs that is mounted nowhere.
fn empty_dir() -> Result<OwnedFd> {
    let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(fs.as_fd())?;
    Ok(fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)?)
}

/// The kernel's own words about a refused option are better than its errno; reading the context gives them.
fn tell(fs: &OwnedFd, result: rustix::io::Result<()>) -> Result<()> {
    let Err(errno) = result else { return Ok(()) };
    let mut words = [0; 512];
    let said = match rustix::io::read(fs, &mut words[..]) {
        Ok(n) => String::from_utf8_lossy(&words[..n]).trim().trim_start_matches("e ").to_owned(),
        Err(_) => String::new(),
    };
    let error = Error::from(errno);
    if said.is_empty() { Err(error) } else { Err(Error::new(error.kind(), format!("{error}: {said}"))) }
}
