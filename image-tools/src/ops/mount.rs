//! `mount`: an image's tree on a directory, read-only, without a copy.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::CWD;
use rustix::io::Errno;

use super::{Common, Found, find};
use crate::error::{Context, Error, Result};
use crate::location::Location;
use crate::overlay;
use crate::store::Store;
use crate::store::layers::Key;
use crate::store::leases::{Lease, boot_id};
use crate::store::lock::Lock;

/// Mounts the image that `from` names on the directory `dir`, which is made if it is not there.
pub fn mount(common: &Common, from: &Location, dir: &Path) -> Result<()> {
    if common.rootless.is_some() {
        let text = "mount: an ordinary user's mount would be seen by nobody else: use unpack, or bundle";
        return Err(Error::unsupported(text));
    }
    super::refused(common, make(common, from, dir))
}

fn make(common: &Common, from: &Location, dir: &Path) -> Result<()> {
    let store = Store::open(&common.root)?;
    let found = find(common, &store, from)?;
    let (keys, trees) = layers(common, &store, &found)?;
    let mount = overlay::stack(&trees, None)?;
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let dir = dir.canonicalize().with_context(|| dir.display().to_string())?;
    let _lock = Lock::folder(&dir)?;
    // Another lease of this folder may be all that keeps the layers of a mount, if only one that is out of our sight.
    if is_mounted(&dir)? || store.lease_of(&dir)?.is_some_and(|lease| lease.is_live()) {
        let text = format!("{}: something is mounted there already", dir.display());
        return Err(Error::other(text));
    }
    store.lease(&Lease {
        dir: dir.clone(),
        image: found.image.descriptor.clone(),
        layers: keys,
        boot: Some(boot_id()),
    })?;
    let attached = overlay::attach(&mount, &dir);
    if attached.is_err() {
        store.end_lease(&dir)?;
    }
    attached
}

/// An image's layers, applied now where they are not yet, and their open trees, base first.
pub(super) fn layers(common: &Common, store: &Store, found: &Found<'_>) -> Result<(Vec<Key>, Vec<OwnedFd>)> {
    let ready: Result<Vec<Option<Key>>> = found
        .image
        .diff_ids()
        .iter()
        .zip(found.image.chain_ids())
        .map(|(diff_id, chain_id)| store.applied(diff_id, &chain_id, common.squash))
        .collect();
    let keys = match ready?.into_iter().collect::<Option<Vec<Key>>>() {
        Some(keys) if !found.outside => keys,
        // What comes from outside has to be here whole: whoever makes a new image of it needs its blobs.
        _ => common.transfer(store, found.source.as_ref(), &found.image).into_store()?,
    };
    let trees = keys.iter().map(|key| store.layer_tree(key)).collect::<Result<Vec<OwnedFd>>>()?;
    Ok((keys, trees))
}

/// Whether something is mounted on a directory.
pub(super) fn is_mounted(dir: &Path) -> Result<bool> {
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    match rustix::fs::statx(CWD, dir, flags, rustix::fs::StatxFlags::BASIC_STATS) {
        Ok(stat) => Ok(stat.stx_attributes.contains(rustix::fs::StatxAttributes::MOUNT_ROOT)),
        Err(Errno::NOENT) => Ok(false),
        Err(e) => Err(e.into()),
    }
}
