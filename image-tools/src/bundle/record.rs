//! `image.json` in a bundle: which image the bundle was made of, and how, for `commit` and `umount`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::layer::ids::Ids;
use crate::layout::unique;
use crate::manifest::{Descriptor, json, to_json};
use crate::store::layers::Key;

/// The record's name in the bundle.
pub const FILE: &str = "image.json";

/// What a bundle was made of.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// As it was asked for.
    pub name: String,
    /// The image's manifest.
    pub image: Descriptor,
    /// Of an overlay bundle: the layers below `upper`; of a flat one: none.
    pub layers: Vec<Key>,
    /// Owners on the disk.
    #[serde(default)]
    pub ids: Ids,
}

/// Where a bundle's changes are. An image without layers has bundles of both kinds, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// In `upper`.
    Overlay,
    /// Among the rest; `rootfs.stat` tells what was there before.
    Flat,
}

/// The file.
#[derive(Serialize, Deserialize)]
struct Stored {
    kind: Option<Kind>,
    #[serde(flatten)]
    record: Record,
}

impl Stored {
    fn open(self) -> (Kind, Record) {
        // Before it was told, an overlay was known by its layers.
        let guess = if self.record.layers.is_empty() { Kind::Flat } else { Kind::Overlay };
        (self.kind.unwrap_or(guess), self.record)
    }
}

impl Record {
    /// The record of a bundle, and its kind.
    pub fn read(bundle: &Path) -> Result<(Kind, Self)> {
        let path = bundle.join(FILE);
        match std::fs::read(&path) {
            Ok(text) => json::<Stored>(&text).with_context(|| path.display().to_string()).map(Stored::open),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(Error::not_found(format!(
                "{}: no bundle of pintle-image: {FILE} is not there",
                bundle.display()
            ))),
            Err(e) => Err(e).with_context(|| path.display().to_string()),
        }
    }

    /// Writes that of a flat bundle.
    pub fn write(&self, bundle: &Path) -> Result<()> {
        self.write_as(Kind::Flat, bundle)
    }

    /// Writes it.
    pub fn write_as(&self, kind: Kind, bundle: &Path) -> Result<()> {
        write_whole(bundle, FILE, &to_json(&Stored { kind: Some(kind), record: self.clone() }))
    }
}

/// Whether a killed command may have left a file of this name half written.
pub fn is_partial(name: &[u8]) -> bool {
    let ours = [FILE, "config.json"].iter().any(|file| name.starts_with(format!("{file}.").as_bytes()));
    ours && name.ends_with(b".partial")
}

/// Writes a file of a bundle, of which nobody sees half.
pub fn write_whole(bundle: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let (path, partial) = (bundle.join(name), bundle.join(format!("{name}.{}.partial", unique())));
    let written = std::fs::write(&partial, bytes).and_then(|()| std::fs::rename(&partial, &path));
    written.with_context(|| path.display().to_string())
}
