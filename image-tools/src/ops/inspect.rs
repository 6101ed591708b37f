//! `inspect`: an image's documents.

use serde_json::{Value, json};

use super::{Common, find};
use crate::error::Result;
use crate::location::Location;
use crate::store::Store;

/// What of an image is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// What people want to know, in one document.
    Summary,
    /// The manifest, byte by byte.
    Raw,
    /// The configuration, byte by byte.
    Config,
}

/// The document that `view` asks for.
pub fn inspect(common: &Common, from: &Location, view: View) -> Result<Vec<u8>> {
    let store = Store::open(&common.root)?;
    let found = find(common, &store, from)?;
    let image = &found.image;
    Ok(match view {
        View::Raw => image.manifest_bytes.clone(),
        View::Config => image.config_bytes.clone(),
        View::Summary => {
            let config: Value = crate::manifest::json(&image.config_bytes)?;
            let layers: Vec<Value> = image
                .manifest
                .layers
                .iter()
                .zip(image.diff_ids())
                .map(|(l, diff_id)| {
                    json!({"digest": l.digest, "diffID": diff_id, "mediaType": l.media_type, "size": l.size})
                })
                .collect();
            let summary = json!({
                "name": found.name,
                "digest": image.descriptor.digest,
                "id": image.id(),
                "mediaType": image.descriptor.media_type,
                "platform": image.config.platform().to_string(),
                "created": config["created"],
                "author": config["author"],
                "config": config["config"],
                "layers": layers,
                "size": image.size(),
                "annotations": image.manifest.annotations,
            });
            serde_json::to_vec_pretty(&summary).expect("plain data")
        }
    })
}
