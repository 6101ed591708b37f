//! Stacks applied layers with overlayfs, by the new mount API (fsopen(2)). Layers are named by their open directories.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, XattrFlags, fgetxattr, fsetxattr, fstat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};

use crate::error::{Context, Error, Result};
use crate::tree;

/// Where open directories have names.
const DESCRIPTORS: &str = "/proc/self/fd/";

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

/// On a layer's root: no entry tells of it, so the tree's root is that of a layer below. overlayfs keeps such names to itself.
fn implied() -> &'static str {
    match crate::rootless::is_in_user_namespace() {
        true => "user.overlay.pintle.implied",
        false => "trusted.overlay.pintle.implied",
    }
}

/// Marks a layer's root as one that the layer says nothing of. Whoever may not do that may not mount either.
pub fn mark_implied_root(root: impl AsFd) -> Result<()> {
    match fsetxattr(root, implied(), b"y", XattrFlags::empty()) {
        Ok(()) | Err(Errno::PERM | Errno::OPNOTSUPP) => Ok(()),
        Err(e) => Err(e).context(implied()),
    }
}

/// The layer that says what the root of the tree is like: the highest that has an entry for it.
pub fn root_of(layers: &[OwnedFd]) -> Option<&OwnedFd> {
    let tells = |layer: &&OwnedFd| fgetxattr(layer, implied(), &mut [0; 1]).is_err();
    layers.iter().rev().find(tells).or(layers.last())
}

/// Layers, highest first, each once: overlayfs refuses a second time, and the lower one of two equal layers adds nothing.
fn distinct(layers: &[OwnedFd]) -> Result<Vec<&OwnedFd>> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for layer in layers.iter().rev() {
        let stat = fstat(layer)?;
        if seen.insert((stat.st_dev, stat.st_ino)) {
            found.push(layer);
        }
    }
    Ok(found)
}

fn build(layers: &[OwnedFd], top: Option<&Upper<'_>>) -> Result<OwnedFd> {
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
    tell(&fs, fsconfig_set_string(fs.as_fd(), "index", "off"))?;
    if crate::rootless::is_in_user_namespace() {
        // It has neither redirects nor metacopy, and refuses to be told so.
        tell(&fs, fsconfig_set_flag(fs.as_fd(), "userxattr"))?;
    } else {
        tell(&fs, fsconfig_set_string(fs.as_fd(), "redirect_dir", "off"))?;
        tell(&fs, fsconfig_set_string(fs.as_fd(), "metacopy", "off"))?;
    }
    let root = root_of(layers);
    let mut lowers: Vec<String> = distinct(layers)?.into_iter().map(path_of).collect();
    let mut empty = Vec::new();
    // The highest layer's root is what overlayfs shows.
    if top.is_none() && root.map(path_of) != layers.last().map(path_of) {
        empty.push(empty_dir(root)?);
        lowers.insert(0, path_of(&empty[0]));
    }
    // It wants two layers at least, one below an upper one: empty ones do no harm at the bottom.
    while lowers.len() < if top.is_some() { 1 } else { 2 } {
        let dir = empty_dir(None)?;
        lowers.push(path_of(&dir));
        empty.push(dir);
    }
    if !empty.is_empty() {
        // Two file systems that tell their files apart by number alone.
        tell(&fs, fsconfig_set_string(fs.as_fd(), "xino", "on"))?;
    }
    if let Some(top) = top {
        tell(&fs, fsconfig_set_string(fs.as_fd(), "upperdir", path_of(&top.upper)))?;
        tell(&fs, fsconfig_set_string(fs.as_fd(), "workdir", path_of(&top.work)))?;
        if top.volatile {
            tell(&fs, fsconfig_set_flag(fs.as_fd(), "volatile"))?;
        }
    }
    if appends_layers() {
        for lower in &lowers {
            tell(&fs, fsconfig_set_string(fs.as_fd(), "lowerdir+", lower))?;
        }
        tell(&fs, fsconfig_create(fs.as_fd()))?;
    } else {
        create_of_one_string(&fs, &lowers)?;
    }
    // What is only looked at gives nobody setuid programs or devices.
    let looked_at = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV;
    let attributes = if top.is_some() { MountAttrFlags::empty() } else { looked_at };
    Ok(fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Since Linux 6.8 `lowerdir+` adds one layer. Before that one string names all, of 255 bytes at most, so the names are numbers in
/// [`DESCRIPTORS`]: enough for some 80 layers.
fn appends_layers() -> bool {
    pintle::host::kernel() >= (6, 8)
}

/// Relative names are looked up in this process' working directory, in the one call or in the other, and not later.
fn create_of_one_string(fs: &OwnedFd, lowers: &[String]) -> Result<()> {
    let names: Vec<&str> = lowers.iter().map(|l| l.strip_prefix(DESCRIPTORS).unwrap_or(l)).collect();
    let back = rustix::fs::openat(CWD, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    rustix::process::chdir(DESCRIPTORS)?;
    let created = tell(fs, fsconfig_set_string(fs.as_fd(), "lowerdir", names.join(":")))
        .and_then(|()| tell(fs, fsconfig_create(fs.as_fd())));
    rustix::process::fchdir(&back)?;
    created
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
    format!("{DESCRIPTORS}{}", dir.as_fd().as_raw_fd())
}

/// A directory that nobody else sees, with the attributes of `like`: the root of a tmpfs that is mounted nowhere.
fn empty_dir(like: Option<&OwnedFd>) -> Result<OwnedFd> {
    let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(fs.as_fd())?;
    let mount = fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    let dir = tree::open_dir(&mount, ".")?;
    match like {
        Some(like) => tree::copy_root(like, &dir)?,
        None => tree::set_default(&dir)?,
    }
    Ok(mount)
}

/// The kernel's own words about a refused option are better than its errno.
fn tell(fs: &OwnedFd, result: rustix::io::Result<()>) -> Result<()> {
    result.map_err(|errno| Error::new(Error::from(errno).kind(), pintle::error::context_text(fs, errno)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What kernels before 6.5 need works on later ones, too.
    #[test]
    fn forty_layers_fit_into_one_string() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let top = std::env::temp_dir().join(format!("pintle-image-stack-{}", std::process::id()));
        let layers: Vec<OwnedFd> = (0..40)
            .map(|n| {
                let dir = top.join(n.to_string());
                std::fs::create_dir_all(&dir).expect("a folder");
                std::fs::write(dir.join(format!("f{n}")), "").expect("a file");
                crate::tree::open_dir(CWD, &dir).expect("it opens")
            })
            .collect();
        let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).expect("overlayfs");
        let paths: Vec<String> = layers.iter().map(path_of).collect();
        create_of_one_string(&fs, &paths).expect("relative names are found");
        let mount =
            fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).expect("a mount");
        let root = crate::tree::open_dir(&mount, ".").expect("its root");
        assert_eq!(crate::tree::names(&root).expect("names").len(), 40);
        std::fs::remove_dir_all(&top).expect("it goes");
    }
}
