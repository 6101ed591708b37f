//! A container's root file system, as an engine's snapshotter describes it: mounts in the bundle, and their end. mount(8), fstab(5)

mod device;
mod helper;
mod maps;
pub mod mounter;
mod options;
mod overlay;
mod waits;

pub use waits::{is_at_hand, may_wait};

use crate::wire::Mount;
use options::Parsed;
use pintle::error::{Context as _, Error, Result};
use pintle_sys::mount::{Attributes, set_attributes};
use rustix::fd::AsRawFd as _;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2, readlink};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, mount, mount_change, mount_remount, unmount};
use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// The root file system's folder in a bundle.
pub const NAME: &str = "rootfs";
/// A folder in a bundle where id-mapped layers are while an overlay is made of them.
const LAYERS: &str = "layers";
/// The most mounts that are taken off one place.
const MOST: u32 = 1000;

/// Whose hands a mount is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// A process that nobody ends.
    Server,
    /// One that may be killed at any moment, even while the kernel is at it, and then leaves nothing if that can be had.
    Mounter,
}

/// Mounts all of `mounts` at the root file system of `bundle`, in their order. After an error nothing of it is left. For mounts of which
/// [`may_wait`] says that they do not.
///
/// # Errors
/// What the kernel refuses, with the mount that it refused.
pub fn assemble(mounts: &[Mount], bundle: &Path) -> Result<()> {
    assemble_by(By::Server, mounts, bundle)
}

fn assemble_by(by: By, mounts: &[Mount], bundle: &Path) -> Result<()> {
    for one in mounts {
        if let Err(error) = attach(by, one, bundle) {
            return match unmount_all(&bundle.join(NAME)) {
                Ok(()) => Err(error),
                Err(also) => Err(Error::new(format!("{error}; and then: {also}"))),
            };
        }
    }
    Ok(())
}

fn attach(by: By, one: &Mount, bundle: &Path) -> Result<()> {
    let rootfs = bundle.join(NAME);
    let attached = below(&rootfs, &one.target).and_then(|target| {
        let parsed = Parsed::of(&one.options)?;
        put(by, one, &parsed, &target, &bundle.join(LAYERS))?;
        match parsed.propagation {
            Some(kind) => mount_change(&target, kind).context("propagation"),
            None => Ok(()),
        }
    });
    attached.with_context(|| {
        let (kind, source) = (&one.r#type, &one.source);
        format!("mount source: {source:?}, target: {:?}, fstype: {kind}", target(&rootfs, one).display())
    })
}

/// What the engine means, in words about it.
fn target(rootfs: &Path, one: &Mount) -> PathBuf {
    match one.target.trim_start_matches('/') {
        "" => rootfs.to_owned(),
        path => rootfs.join(path),
    }
}

fn put(by: By, one: &Mount, parsed: &Parsed, target: &Path, layers: &Path) -> Result<()> {
    if let Some(found) = helper::of(&one.r#type) {
        return helper::mount(one, found, target);
    }
    if parsed.remount {
        return Ok(mount_remount(target, parsed.flags, &data(parsed)?)?);
    }
    if parsed.bind || one.r#type == "bind" {
        return bind(one, parsed, target);
    }
    if one.r#type == "overlay" && (by == By::Mounter || parsed.maps.is_some() || !parsed.fits()) {
        return overlay::attach(one, parsed, target, layers);
    }
    plain(one, parsed, target)?;
    match &parsed.maps {
        Some(both) => remap(target, both),
        None => Ok(()),
    }
}

/// Any file system that the kernel has, in one call.
fn plain(one: &Mount, parsed: &Parsed, target: &Path) -> Result<()> {
    let kind = one.r#type.as_str();
    if !parsed.looped {
        return Ok(mount(&one.source, target, kind, parsed.flags, Some(data(parsed)?.as_c_str()))?);
    }
    let read_only = parsed.attributes().set & pintle_sys::mount::RDONLY != 0;
    let (direct, others) = parsed.data.iter().cloned().partition::<Vec<_>, _>(|word| word == "direct-io");
    let device = device::of(&one.source, read_only, !direct.is_empty())?;
    let data = data(&Parsed { data: others, ..parsed.clone() })?;
    Ok(mount(&device.path, target, kind, parsed.flags, Some(data.as_c_str()))?)
}

fn data(parsed: &Parsed) -> Result<CString> {
    if !parsed.fits() {
        let length = parsed.text().len();
        return Err(Error::new(format!("{length} bytes of options are more than the kernel takes")));
    }
    CString::new(parsed.text()).map_err(|_| Error::new("a NUL in the options"))
}

/// A mount that is there already, once more: complete before anybody sees it.
fn bind(one: &Mount, parsed: &Parsed, target: &Path) -> Result<()> {
    let tree = maps::clone_tree(one.source.as_str(), parsed.recursive)?;
    if !parsed.flags.is_empty() {
        let exactly = parsed.attributes();
        match set_attributes(&tree, false, &exactly) {
            // In a user namespace what the mount forbids can't be allowed again.
            Err(Errno::PERM) => set_attributes(&tree, false, &Attributes { clear: 0, ..exactly }),
            done => done,
        }
        .context("mount_setattr")?;
    }
    if let Some(both) = &parsed.maps {
        maps::map(&tree, parsed.recursive, maps::namespace(both)?)?;
    }
    Ok(maps::put(tree, target)?)
}

/// What is mounted there is mapped: a mapped copy lies over it.
fn remap(target: &Path, both: &[String; 2]) -> Result<()> {
    let tree = maps::clone_tree(target, false)?;
    maps::map(&tree, false, maps::namespace(both)?)?;
    Ok(maps::put(tree, target)?)
}

/// A place in the root file system, as seen from inside: no link and no `..` leads out of it.
fn below(rootfs: &Path, target: &str) -> Result<PathBuf> {
    if target.split('/').all(|part| matches!(part, "" | ".")) {
        return Ok(rootfs.to_owned());
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = openat(CWD, rootfs, flags | OFlags::DIRECTORY, Mode::empty()).context("rootfs")?;
    let place = openat2(&root, target, flags, Mode::empty(), ResolveFlags::IN_ROOT)
        .with_context(|| format!("mount target {target:?}"))?;
    let path = readlink(format!("/proc/self/fd/{}", place.as_raw_fd()), Vec::new()).context("readlink")?;
    Ok(OsString::from_vec(path.into_bytes()).into())
}

/// Takes the root file system of `bundle` away, and what a killed process may have left of its making.
///
/// # Errors
/// What the kernel refuses.
pub fn disassemble(bundle: &Path) -> Result<()> {
    let cleared = maps::clear(&bundle.join(LAYERS));
    unmount_all(&bundle.join(NAME)).and(cleared)
}

/// Takes everything off `rootfs`, however often something was mounted there; nothing there is no error.
///
/// # Errors
/// What the kernel refuses, although the mount may be in use: it is detached then.
pub fn unmount_all(rootfs: &Path) -> Result<()> {
    for _ in 0..MOST {
        match unmount(rootfs, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            // Nothing is mounted there, or nothing is there.
            Err(Errno::INVAL | Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(errno) => return Err(errno).with_context(|| format!("umount {}", rootfs.display())),
        }
    }
    Err(Error::new(format!("umount {}: more than {MOST} mounts", rootfs.display())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests;
