//! `unpack`
use super::Common;
use crate::error::{Context, Result};
use crate::image::Image;
use crate::layer::ids::Ids;
use crate::layout::Layout;
use crate::location::Location;
use crate::pipeline::Transfer;
use crate::store::Store;
use std::os::fd::AsFd;
use std::path::Path;

pub fn unpack(common: &Common, from: &Location, dir: &Path, layers: bool) -> Result<()> {
    let store = Store::open(&common.root)?;
    let Location::Oci(path, name) = from else { return Err(crate::error::Error::other("later")) };
    let layout = Layout::open(path)?;
    let top = layout.find(name.as_deref())?;
    let image = Image::read(&layout, &top, &common.platform)?;
    let t = Transfer {
        store: &store,
        source: &layout,
        image: &image,
        jobs: common.jobs,
        limit: common.limit,
        squash: common.squash,
        progress: &common.progress,
    };
    if layers {
        t.into_store()?;
        return Ok(());
    }
    std::fs::create_dir(dir).context("x")?;
    let root = crate::tree::open_dir(rustix::fs::CWD, dir)?;
    t.unpack(root.as_fd(), &Ids::default())
}
