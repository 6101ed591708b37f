//! `load`: images from a file or a layout into the store, applied and ready to run.

use super::{Common, open_archive, outside};
use crate::error::Result;
use crate::layout::{Layout, REF_NAME};
use crate::location::Location;
use crate::manifest::Descriptor;
use crate::reference::Reference;
use crate::store::Store;

/// How to load.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The store's name for it; none: the one that came with it.
    pub name: Option<Reference>,
    /// Blobs only; layers are applied when somebody mounts them.
    pub blobs_only: bool,
}

/// An image that was loaded, pulled, pushed or made.
#[derive(Debug, serde::Serialize)]
pub struct Loaded {
    /// Its name in the store, or in the registry it went to.
    pub name: Option<String>,
    /// Its manifest.
    pub digest: crate::digest::Digest,
}

/// Loads the image that `from` names, or all that are there.
pub fn load(common: &Common, from: &Location, options: &Options) -> Result<Vec<Loaded>> {
    super::refused(common, bring(common, from, options))
}

fn bring(common: &Common, from: &Location, options: &Options) -> Result<Vec<Loaded>> {
    let store = Store::open(&common.root)?;
    let images = |all: &[Descriptor], name: &Option<String>| match (name, &options.name) {
        (None, None) => Ok(all.to_vec()),
        (name, _) => super::choose(all, name.as_deref()).map(|one| vec![one]),
    };
    match from {
        Location::Store(path) => bring(common, &any_file(path)?, options),
        Location::Oci(path, name) => {
            let layout = Layout::open(path)?;
            let all = layout.index()?.manifests;
            images(&all, name)?.iter().map(|top| one(common, &store, &layout, top, from, options)).collect()
        }
        Location::Archive(path, name) => {
            let archive = open_archive(&store, path)?;
            images(archive.images(), name)?
                .iter()
                .map(|top| one(common, &store, &archive, top, from, options))
                .collect()
        }
    }
}

/// A bare path: what is there decides.
fn any_file(path: &str) -> Result<Location> {
    if std::path::Path::new(path).is_dir() {
        return Ok(Location::Oci(path.into(), None));
    }
    Ok(Location::Archive(path.into(), None))
}

fn one(
    common: &Common,
    store: &Store,
    source: &dyn crate::image::Source,
    top: &Descriptor,
    from: &Location,
    options: &Options,
) -> Result<Loaded> {
    let place = match from {
        Location::Oci(path, _) | Location::Archive(path, _) => path.display().to_string(),
        Location::Store(word) => word.clone(),
    };
    let found = outside(common, Box::new(source), top, &place)?;
    let transfer = common.transfer(store, found.source.as_ref(), &found.image);
    if options.blobs_only {
        transfer.blobs_into_store()?;
    } else {
        transfer.into_store()?;
    }
    let name = match (&options.name, top.annotation(REF_NAME)) {
        (Some(name), _) => Some(name.to_string()),
        (None, Some(name)) => Some(super::store_name(name)),
        (None, None) => None,
    };
    let digest = found.image.descriptor.digest.clone();
    store.name(name.as_deref().unwrap_or(digest.as_str()), &found.image.descriptor)?;
    Ok(Loaded { name, digest })
}
