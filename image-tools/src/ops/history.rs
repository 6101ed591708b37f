//! `history`: how an image was made, newest step first.

use serde::Serialize;

use super::{Common, find};
use crate::error::Result;
use crate::location::Location;
use crate::store::Store;

/// One step.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// RFC 3339.
    pub created: String,
    /// The command.
    pub created_by: String,
    /// Free.
    pub comment: String,
    /// Of its layer, compressed, in bytes; none for a step without one.
    pub size: Option<u64>,
}

/// The steps of an image.
pub fn history(common: &Common, from: &Location) -> Result<Vec<Step>> {
    let store = Store::open(&common.root)?;
    let found = find(common, &store, from)?;
    let mut layers = found.image.manifest.layers.iter();
    let mut steps: Vec<Step> = Vec::new();
    for step in &found.image.config.history {
        let size = if step.empty_layer { None } else { layers.next().map(|l| l.size) };
        let (created, created_by, comment) =
            (step.created.clone(), step.created_by.clone(), step.comment.clone());
        steps.push(Step { created, created_by, comment, size });
    }
    // An image without a history still has layers.
    steps.extend(layers.map(|l| Step {
        created: String::new(),
        created_by: String::new(),
        comment: l.digest.to_string(),
        size: Some(l.size),
    }));
    steps.reverse();
    Ok(steps)
}
