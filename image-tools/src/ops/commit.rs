//! `commit`: what changed in a bundle becomes a layer on the image that it was made of.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::CWD;

use super::{Common, Making};
use crate::bundle::record::{Kind, Record};
use crate::derive::{self, Changes};
use crate::error::{Context, Result};
use crate::image::Image;
use crate::layer::apply::clean;
use crate::layer::diff;
use crate::layer::ids::Ids;
use crate::manifest::Descriptor;
use crate::overlay;
use crate::reference::Reference;
use crate::store::Store;
use crate::tree;

/// The stat manifest's name in a flat bundle.
pub const STAT: &str = "rootfs.stat";
/// What a runtime mounts over: what is found below is never the image's.
const RUNTIMES: [&[u8]; 3] = [b"proc", b"sys", b"dev"];

/// How to commit.
#[derive(Clone, Debug)]
pub struct Options {
    /// Of the new image.
    pub making: Making,
    /// Of the configuration.
    pub changes: Changes,
    /// Paths that stay out.
    pub mask: Vec<String>,
    /// Data in the image's volumes stays out, too.
    pub mask_volumes: bool,
}

/// Commits the bundle `dir` as `name`.
pub fn commit(common: &Common, dir: &Path, name: &Reference, options: &Options) -> Result<Descriptor> {
    let store = Store::open(&common.root)?;
    let (kind, record) = Record::read(dir)?;
    let base = Image::read(store.layout(), &record.image, &common.platform)
        .context("the bundle's own image is not in this store any more")?;
    let layer = derive::layer(&store, options.making.compression, |archive| {
        let mut warn = |text: &str| common.progress.warn(text);
        let ids = &record.ids;
        let (uid, gid) = inside(ids);
        let mask = mask(&base, options);
        let ids = diff::Ids { uid: &uid, gid: &gid };
        let diff_options =
            diff::Options { mask, epoch: options.making.epoch, ids, overlay: super::overlay_notes() };
        if kind == Kind::Overlay {
            let upper = tree::open_dir(CWD, dir.join("upper")).context("upper")?;
            let trees = record.layers.iter().map(|key| store.layer_tree(key)).collect::<Result<Vec<_>>>()?;
            let lower = overlay::stack(&trees, None)?;
            diff::overlay(upper.as_fd(), lower.as_fd(), &diff_options, archive, &mut warn)
        } else {
            let root = tree::open_dir(CWD, dir.join("rootfs")).context("rootfs")?;
            let stat = File::open(dir.join(STAT)).context(STAT)?;
            diff::flat(root.as_fd(), stat, &diff_options, archive, &mut warn)
        }
    });
    let layer = layer.with_context(|| dir.display().to_string())?;
    let step = options.making.step(&format!("pintle-image commit {}", dir.display()));
    let changed = (layer.members > 0).then_some(&layer);
    let image =
        derive::image(&store, Some(&base), &common.platform, changed, &step, |c| options.changes.apply(c))?;
    store.name(&name.to_string(), &image)?;
    Ok(image)
}

fn mask(base: &Image, options: &Options) -> Vec<Vec<u8>> {
    let volumes = base.config.config.volumes.keys().filter(|_| options.mask_volumes);
    let given = options.mask.iter().chain(volumes).map(|path| clean(path.as_bytes()));
    given.chain(RUNTIMES.map(<[u8]>::to_vec)).filter(|path| !path.is_empty()).collect()
}

/// From ids on the disk to the image's.
pub(super) fn inside(ids: &Ids) -> (impl Fn(u32) -> Option<u32> + '_, impl Fn(u32) -> Option<u32> + '_) {
    (|id| ids.users.inside(id).ok(), |id| ids.groups.inside(id).ok())
}
