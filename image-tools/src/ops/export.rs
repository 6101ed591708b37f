//! `export`: an image's tree, or a bundle's with its changes, as one flat archive.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;

use super::mount::is_mounted;
use super::{Common, commit, find, mount, umount};
use crate::bundle::record::{Kind, Record};
use crate::error::{Context, Result};
use crate::layer::diff;
use crate::layer::ids::Ids;
use crate::layer::write::Archive;
use crate::location::Location;
use crate::overlay;
use crate::store::Store;
use crate::tree;

/// Writes the tree of the image or bundle `from` to `to`; no member is younger than `epoch`, in seconds since 1970.
pub fn export(common: &Common, from: &str, to: &mut dyn Write, epoch: Option<u64>) -> Result<()> {
    let store = Store::open(&common.root)?;
    let bundle = Path::new(from);
    let is_bundle = match bundle.canonicalize() {
        Ok(dir) => umount::is_bundle(&store, &dir)?,
        Err(_) => false,
    };
    let (tree, ids) = if is_bundle {
        bundle_tree(&store, bundle)?
    } else {
        let found = find(common, &store, &Location::parse(from))?;
        let (_, trees) = mount::layers(common, &store, &found)?;
        (overlay::stack(&trees, None)?, Ids::default())
    };
    let mut archive = Archive::new(to);
    let (uid, gid) = commit::inside(&ids);
    let ids = diff::Ids { uid: &uid, gid: &gid };
    let options = diff::Options { epoch, ids, ..diff::Options::default() };
    diff::plain(tree.as_fd(), &options, &mut archive, &mut |text| common.progress.warn(text))
        .context(from)?;
    archive.finish().map(drop)
}

/// A bundle's tree, mounted or not, and its owners' maps.
fn bundle_tree(store: &Store, bundle: &Path) -> Result<(OwnedFd, Ids)> {
    let (kind, record) = Record::read(bundle)?;
    let rootfs = bundle.join("rootfs");
    if kind == Kind::Flat || is_mounted(&rootfs)? {
        return Ok((tree::open_dir(CWD, rootfs)?, record.ids));
    }
    let mut trees = record.layers.iter().map(|key| store.layer_tree(key)).collect::<Result<Vec<_>>>()?;
    trees.push(tree::open_dir(CWD, bundle.join("upper"))?);
    Ok((overlay::stack(&trees, None)?, record.ids))
}
