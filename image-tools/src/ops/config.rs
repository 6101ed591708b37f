//! `config`: another configuration for the same layers.

use super::load::Loaded;
use super::{Common, Making, find};
use crate::derive::{self, Changes};
use crate::error::Result;
use crate::location::Location;
use crate::reference::Reference;
use crate::store::Store;

/// Changes the configuration of the image that `from` names; the result is called `name`, or takes its name over.
pub fn config(
    common: &Common,
    from: &Location,
    name: Option<&Reference>,
    changes: &Changes,
    making: &Making,
) -> Result<Loaded> {
    let store = Store::open(&common.root)?;
    let found = find(common, &store, from)?;
    let name = found.new_name(name)?.to_string();
    if found.outside {
        common.transfer(&store, found.source.as_ref(), &found.image).blobs_into_store()?;
    }
    let step = making.step("pintle-image config");
    let image =
        derive::image(&store, Some(&found.image), &common.platform, None, &step, |c| changes.apply(c))?;
    store.name(&name, &image)?;
    Ok(Loaded { name: Some(name), digest: image.digest })
}
