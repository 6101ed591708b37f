//! Applied layers, ready to be stacked. One that says nothing about what is below it is kept under its own digest and shared by every image
//! that has it; another one under its chain ID, which names all below it, too.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::{Store, Temporary};
use crate::digest::Digest;
use crate::error::{Context, Result};
use crate::manifest::{json, to_json};
use crate::tree;

/// What `layer.json` tells.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Of the archive, uncompressed.
    pub diff_id: Digest,
    /// Of the archive, uncompressed, in bytes.
    pub size: u64,
    /// Members of the archive.
    pub members: u64,
}

/// An applied layer's folder in `layers/`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key(String);

impl Key {
    /// Of a layer that is the same in every image, by its diff ID.
    pub fn alone(diff_id: &Digest, squashed: bool) -> Self {
        Self::new("alone", diff_id, squashed)
    }

    /// Of a layer that depends on what is below it, by its chain ID.
    pub fn chain(chain_id: &Digest, squashed: bool) -> Self {
        Self::new("chain", chain_id, squashed)
    }

    /// Squashed ones, whose owners are not the image's, are others.
    fn new(kind: &str, digest: &Digest, squashed: bool) -> Self {
        let squashed = if squashed { "squashed-" } else { "" };
        Self(format!("{squashed}{kind}-{}-{}", digest.algorithm().name(), digest.hex()))
    }

    /// The folder's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Store {
    /// Where an applied layer is, if it is: looked for under both of its names.
    pub fn applied(&self, diff_id: &Digest, chain_id: &Digest, squashed: bool) -> Result<Option<Key>> {
        for key in [Key::chain(chain_id, squashed), Key::alone(diff_id, squashed)] {
            if self.layer_record(&key)?.is_some() {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    /// What is known of an applied layer.
    pub fn layer_record(&self, key: &Key) -> Result<Option<Record>> {
        self.record_in(&key.0)
    }

    /// An unreadable record is none: the layer is applied again.
    pub(super) fn record_in(&self, folder: &str) -> Result<Option<Record>> {
        let text = self.layout().small(&format!("layers/{folder}/layer.json"), 4096)?;
        Ok(text.and_then(|text| json(&text).ok()))
    }

    /// The tree of an applied layer.
    pub fn layer_tree(&self, key: &Key) -> Result<OwnedFd> {
        let name = format!("layers/{}/fs", key.0);
        tree::open_dir(self.layout().dir(), &name).context(name)
    }

    /// Gives a layer that was applied in `temporary`, as `fs`, its name.
    pub fn publish_layer(&self, temporary: Temporary<'_>, key: &Key, record: &Record) -> Result<()> {
        let mut file = temporary.file("layer.json")?;
        std::io::Write::write_all(&mut file, &to_json(record))?;
        // The tree was synced before; what tells that it is whole has to be on the disk before its name, too.
        file.sync_data()?;
        rustix::fs::fsync(temporary.dir())?;
        let name = format!("layers/{}", key.0);
        let lock = super::lock::Lock::open(self.layout().dir(), "locks/layers")?;
        lock.exclusive()?;
        // Another process may have been faster: the same layer. What has no record is what is left of one.
        if self.layer_record(key)?.is_none() {
            self.remove_layer(&key.0)?;
        }
        temporary.publish(&name).map(drop)
    }

    /// Removes an applied layer: out of sight at once, then bit by bit.
    pub fn remove_layer(&self, key: &str) -> Result<()> {
        let temporary = self.temporary()?;
        let root = self.layout().dir();
        match rustix::fs::renameat(root, format!("layers/{key}"), temporary.dir(), "layer") {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(e).with_context(|| format!("layers/{key}")),
        }
    }

    /// The names of all applied layers.
    pub fn layer_names(&self) -> Result<Vec<String>> {
        let dir = tree::open_dir(self.layout().dir(), "layers")?;
        Ok(tree::names(&dir)?.into_iter().map(|(name, _)| name.to_string_lossy().into_owned()).collect())
    }
}
