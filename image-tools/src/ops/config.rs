//! `config`: another configuration for the same layers.

use super::{Common, Making, find};
use crate::derive::{self, Changes};
use crate::error::Result;
use crate::location::Location;
use crate::manifest::Descriptor;
use crate::reference::Reference;
use crate::store::Store;

/// Changes the configuration of the image that `from` names, and names the result.
pub fn config(
    common: &Common,
    from: &Location,
    name: &Reference,
    changes: &Changes,
    making: &Making,
) -> Result<Descriptor> {
    let store = Store::open(&common.root)?;
    let found = find(common, &store, from)?;
    if found.outside {
        common.transfer(&store, found.source.as_ref(), &found.image).blobs_into_store()?;
    }
    let step = making.step("pintle-image config");
    let image =
        derive::image(&store, Some(&found.image), &common.platform, None, &step, |c| changes.apply(c))?;
    store.name(&name.to_string(), &image)?;
    Ok(image)
}
