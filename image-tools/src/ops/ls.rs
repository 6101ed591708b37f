//! `ls`: the images of the store.

use serde::Serialize;

use super::Common;
use crate::digest::Digest;
use crate::error::Result;
use crate::image::Image;
use crate::layout::REF_NAME;
use crate::store::Store;

/// A line of the list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// As people type it.
    pub name: String,
    /// Of the manifest or index.
    pub digest: Digest,
    /// The configuration's digest; none for what is no image for this platform.
    pub id: Option<Digest>,
    /// Where it runs.
    pub platform: Option<String>,
    /// When it was made.
    pub created: Option<String>,
    /// Of its layers, compressed, in bytes.
    pub size: u64,
    /// How many layers.
    pub layers: usize,
    /// Whether all of them are applied, ready to be mounted.
    pub applied: bool,
}

/// All images, by name.
pub fn ls(common: &Common) -> Result<Vec<Line>> {
    let store = Store::open(&common.root)?;
    let mut lines = Vec::new();
    for named in store.index()?.manifests {
        let name = named.annotation(REF_NAME).unwrap_or("<none>");
        let name = match crate::reference::Reference::parse(name) {
            Ok(reference) if name.contains('/') => reference.familiar(),
            _ => name.to_owned(),
        };
        // What is no image for this platform, or is damaged, is listed all the same.
        let image = Image::read(store.layout(), &named, &common.platform).ok();
        let applied = match &image {
            Some(image) => is_applied(&store, image, common.squash)?,
            None => false,
        };
        lines.push(Line {
            name,
            digest: named.digest,
            id: image.as_ref().map(|i| i.id().clone()),
            platform: image.as_ref().map(|i| i.config.platform().to_string()),
            created: image.as_ref().map(|i| i.config.created.clone()).filter(|c| !c.is_empty()),
            size: image.as_ref().map_or(0, Image::size),
            layers: image.as_ref().map_or(0, |i| i.manifest.layers.len()),
            applied,
        });
    }
    lines.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(lines)
}

fn is_applied(store: &Store, image: &Image, squashed: bool) -> Result<bool> {
    for (diff_id, chain_id) in image.diff_ids().iter().zip(image.chain_ids()) {
        if store.applied(diff_id, &chain_id, squashed)?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}
