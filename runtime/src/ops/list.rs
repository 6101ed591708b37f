//! `list`: every container under the root.

use super::Context;
use crate::error::Result;
use crate::state::{self, Container};
use serde::Serialize;

/// One container, with the keys of `list --format json` in their order.
#[derive(Clone, Debug, Serialize)]
pub struct Item {
    /// Version of the runtime spec.
    #[serde(rename = "ociVersion")]
    pub oci_version: String,
    /// The id.
    pub id: String,
    /// Process id of init, 0 when stopped.
    pub pid: i32,
    /// created, running, paused or stopped.
    pub status: String,
    /// The bundle's directory.
    pub bundle: String,
    /// The rootfs, absolute.
    pub rootfs: String,
    /// RFC 3339 with nanoseconds, UTC.
    pub created: String,
    /// The annotations of config.json; absent when empty.
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub annotations: std::collections::BTreeMap<String, String>,
    /// The user that owns the state directory.
    pub owner: String,
}

/// The containers, sorted by id, and a warning for each entry that could not be read.
///
/// # Errors
/// A root that was named and is not there.
pub fn list(context: &Context) -> Result<(Vec<Item>, Vec<String>)> {
    let (mut items, mut warnings) = (Vec::new(), Vec::new());
    for id in state::ids(context)? {
        match Container::load(context, &id).and_then(|container| super::state::describe(&container)) {
            Ok(item) => items.push(item),
            Err(error) => warnings.push(format!("load container {id}: {error}")),
        }
    }
    let names = user_names();
    for item in &mut items {
        let name = item.owner.strip_prefix('#').and_then(|uid| names.get(uid));
        item.owner = name.cloned().unwrap_or_else(|| item.owner.clone());
    }
    Ok((items, warnings))
}

/// User names by uid, from the host's /etc/passwd: a static binary has no name service.
fn user_names() -> std::collections::HashMap<String, String> {
    let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        Some((fields.nth(1)?.to_owned(), name))
    };
    text.lines().filter_map(entry).collect()
}
