//! `umount`: takes the mount of `mount` or `bundle` away; with `delete` the bundle, too, and all that was changed in it.

use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::Common;
use super::bundle::UNSYNCED;
use super::mount::is_mounted;
use crate::bundle::record::FILE;
use crate::error::{Context, Error, Result};
use crate::overlay;
use crate::store::Store;
use crate::store::lock::Lock;
use crate::tree;

/// Unmounts `dir`, a directory that an image is mounted on, or a bundle.
pub fn umount(common: &Common, dir: &Path, delete: bool) -> Result<()> {
    let store = Store::open(&common.root)?;
    let dir = dir.canonicalize().with_context(|| dir.display().to_string())?;
    if !is_bundle(&store, &dir)? {
        // Another program's mount is not ours to take away.
        if store.lease_of(&dir)?.is_none() {
            if delete && std::fs::read_dir(&dir)?.next().is_none() {
                // All that a killed removal left.
                return std::fs::remove_dir(&dir).with_context(|| dir.display().to_string());
            }
            return Err(Error::not_found(format!(
                "{}: nothing of pintle-image is mounted there",
                dir.display()
            )));
        }
        overlay::detach(&dir)?;
        return store.end_lease(&dir);
    }
    let _lock = Lock::folder(&dir)?;
    let was_mounted = overlay::detach(&dir.join("rootfs"))?;
    if was_mounted && !delete && dir.join(UNSYNCED).exists() {
        // overlayfs synced nothing; from here on the changes are like those of any other bundle.
        rustix::fs::syncfs(tree::open_dir(rustix::fs::CWD, dir.join("upper"))?).context("upper")?;
        tree::clear(tree::open_dir(rustix::fs::CWD, dir.join("work"))?.as_fd(), &tree::Nothing)?;
    }
    if delete {
        remove_bundle(&dir)?;
        store.end_lease(&dir)?;
    }
    Ok(())
}

/// Whether a folder is a bundle. The store's word comes first: a mounted image may have a file of the record's name, too.
pub(super) fn is_bundle(store: &Store, dir: &Path) -> Result<bool> {
    match store.lease_of(dir)? {
        // Its record goes last when it is deleted; another folder may stand there since somebody else removed it.
        Some(lease) if lease.boot.is_none() => {
            let is_empty = std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none());
            Ok(dir.join(FILE).exists() || is_empty)
        }
        Some(lease) if lease.is_live() => Ok(false),
        _ => Ok(dir.join(FILE).exists() && !is_mounted(dir)?),
    }
}

fn remove_bundle(dir: &Path) -> Result<()> {
    let place = || dir.display().to_string();
    let parent = dir.parent().ok_or_else(|| Error::other("the root is no bundle"))?;
    let name = CString::new(dir.file_name().map(OsStrExt::as_bytes).unwrap_or_default())
        .map_err(|_| Error::other("a name with a NUL"))?;
    let parent = tree::open_dir(rustix::fs::CWD, parent).with_context(place)?;
    // The record goes last: until then the same command can be repeated.
    let bundle = tree::open_dir(&parent, &*name).with_context(place)?;
    for (inner, _) in tree::names(&bundle).with_context(place)? {
        if inner.to_bytes() != FILE.as_bytes() {
            tree::remove(&bundle, &inner).with_context(place)?;
        }
    }
    tree::remove(&parent, &name).with_context(place)
}
