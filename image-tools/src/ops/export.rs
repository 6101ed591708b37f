//! `export`: an image's tree, or a bundle's with its changes, as one flat archive.

use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;

use super::{Common, find, mount, umount};
use crate::bundle::record::Record;
use crate::error::{Context, Result};
use crate::layer::diff;
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
    let tree = if is_bundle {
        Record::read(bundle)?;
        tree::open_dir(rustix::fs::CWD, bundle.join("rootfs"))?
    } else {
        let found = find(common, &store, &Location::parse(from))?;
        let (_, trees) = mount::layers(common, &store, &found)?;
        overlay::stack(&trees, None)?
    };
    let mut archive = Archive::new(to);
    let options = diff::Options { epoch, ..diff::Options::default() };
    diff::plain(tree.as_fd(), &options, &mut archive, &mut |text| common.progress.warn(text))
        .context(from)?;
    archive.finish().map(drop)
}
