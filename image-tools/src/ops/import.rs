//! `import`: a tree, as an archive or a folder, becomes an image of one layer.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use super::{Common, Making};
use crate::derive::{self, Changes};
use crate::error::{Context, Result};
use crate::image::Image;
use crate::layer::diff;
use crate::manifest::Descriptor;
use crate::reference::Reference;
use crate::store::Store;
use crate::tree;

/// Imports `from`, a folder, or an archive in any compression that layers may have (`-`: standard input), as `name`.
pub fn import(
    common: &Common,
    from: &Path,
    name: &Reference,
    changes: &Changes,
    making: &Making,
) -> Result<Descriptor> {
    super::refused(common, make(common, from, name, changes, making))
}

fn make(
    common: &Common,
    from: &Path,
    name: &Reference,
    changes: &Changes,
    making: &Making,
) -> Result<Descriptor> {
    let store = Store::open(&common.root)?;
    let shown = from.display().to_string();
    let layer = if from.is_dir() {
        derive::layer(&store, making.compression, |archive| {
            let root = tree::open_dir(rustix::fs::CWD, from)?;
            let options = diff::Options { epoch: making.epoch, ..diff::Options::default() };
            diff::plain(root.as_fd(), &options, archive, &mut |text| common.progress.warn(text))
        })
    } else {
        let file = if from == Path::new("-") { File::open("/dev/stdin") } else { File::open(from) };
        let file = file.with_context(|| shown.clone())?;
        derive::layer_of_archive(&store, making.compression, file, common.limit)
    };
    let layer = layer.with_context(|| shown.clone())?;
    let step = making.step(&format!("pintle-image import {shown}"));
    let descriptor =
        derive::image(&store, None, &common.platform, Some(&layer), &step, |c| changes.apply(c))?;
    let image = Image::read(store.layout(), &descriptor, &common.platform)?;
    // Applied before it has a name: what is no archive of a tree is no image.
    common.transfer(&store, store.layout(), &image).into_store().with_context(|| shown.clone())?;
    store.name(&name.to_string(), &descriptor)?;
    Ok(descriptor)
}
