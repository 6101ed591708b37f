//! `push`: an image of the store to a registry: its blobs, each only if the registry has it nowhere, and the manifest last.

use std::io::Read;

use super::load::Loaded;
use super::{Common, Found, find, nameless};
use crate::digest::Verified;
use crate::error::{Error, Result};
use crate::layout::REF_NAME;
use crate::location::Location;
use crate::manifest::{Descriptor, media};
use crate::pipeline::in_parallel;
use crate::reference::Reference;
use crate::registry::{Client, Pushed, Settings};
use crate::store::Store;

/// Pushes the image that `from` names as `to`; none: under its own name.
pub fn push(common: &Common, settings: Settings, from: &Location, to: Option<&Reference>) -> Result<Loaded> {
    let client = Client::new(settings)?;
    let store = Store::open(&common.root)?;
    let found = find(common, &store, from)?;
    let to = &to.cloned().or_else(|| found.own_name()).ok_or_else(nameless)?;
    let manifest = &found.image.manifest;
    if let Some(foreign) = manifest.layers.iter().find(|l| media::is_foreign(&l.media_type)) {
        let why = "its owner lets nobody pass it on";
        return Err(Error::unsupported(format!("layer {}: {}: {why}", foreign.digest, foreign.media_type)));
    }
    let neighbours = neighbours(&store, to)?;
    let blobs: Vec<&Descriptor> = manifest.layers.iter().chain([&manifest.config]).collect();
    in_parallel(common.jobs, &blobs, |blob| push_blob(common, &client, &found, to, blob, &neighbours))?;
    let digest = client.put_manifest(to, &found.image.descriptor.media_type, &found.image.manifest_bytes)?;
    Ok(Loaded { name: Some(to.to_string()), digest })
}

fn push_blob(
    common: &Common,
    client: &Client,
    found: &Found<'_>,
    to: &Reference,
    blob: &Descriptor,
    neighbours: &[String],
) -> Result<()> {
    let task = common.progress.blob(&blob.digest, blob.size);
    let source = &found.source;
    let open = || -> Result<Box<dyn Read + Send + '_>> {
        // What is damaged here must not become somebody else's.
        Ok(Box::new(Verified::new(source.blob(blob, 0)?, &blob.digest, blob.size)))
    };
    let pushed = client.push_blob(to, blob, neighbours, &open)?;
    task.advance(blob.size);
    task.done(match pushed {
        Pushed::There => "there already",
        Pushed::Mounted => "mounted",
        Pushed::Sent => "pushed",
    });
    Ok(())
}

/// Other repositories of the same registry that the store knows: they may have the same layers.
fn neighbours(store: &Store, to: &Reference) -> Result<Vec<String>> {
    let index = store.index()?;
    let names = index.manifests.iter().filter_map(|d| Reference::parse(d.annotation(REF_NAME)?).ok());
    let mut found: Vec<String> = names.filter(|r| r.registry == to.registry).map(|r| r.repository).collect();
    found.sort();
    found.dedup();
    found.retain(|repository| *repository != to.repository);
    // Each costs a request per blob.
    found.truncate(4);
    Ok(found)
}
