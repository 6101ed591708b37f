//! `save`: images in one file, an OCI layout and Docker's format at once, which everybody reads: Docker, podman, containerd, skopeo. The same
//! images give the same file.

use std::collections::BTreeSet;
use std::io::{Read, Write};

use serde_json::{Value, json};

use super::{Common, Found, find};
use crate::archive::FULL_NAME;
use crate::digest::Verified;
use crate::error::{Context, Result};
use crate::layer::member::{Kind, Member, Time};
use crate::layer::write::Archive;
use crate::layout::{REF_NAME, blob_path};
use crate::location::Location;
use crate::manifest::{Descriptor, Index, to_json};
use crate::reference::Reference;
use crate::store::Store;

/// Writes the images to `to`.
pub fn save(common: &Common, from: &[Location], to: &mut dyn Write) -> Result<()> {
    let store = Store::open(&common.root)?;
    let found = from.iter().map(|from| find(common, &store, from)).collect::<Result<Vec<Found<'_>>>>()?;
    let mut archive = Archive::new(to);
    for dir in ["blobs", "blobs/sha256"] {
        archive.append(&member(dir, Kind::Directory, 0o755), std::io::empty())?;
    }
    let mut written = BTreeSet::new();
    for one in &found {
        for blob in
            one.image.manifest.layers.iter().chain([&one.image.manifest.config, &one.image.descriptor])
        {
            if written.insert(blob.digest.clone()) {
                write_blob(common, one, blob, &mut archive).with_context(|| blob.digest.to_string())?;
            }
        }
    }
    small(&mut archive, "index.json", &to_json(&Index::of(found.iter().map(entry).collect())))?;
    small(&mut archive, "manifest.json", &to_json(&found.iter().map(saved).collect::<Vec<Value>>()))?;
    small(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    archive.finish()?.flush().context("write the archive")
}

fn write_blob(
    common: &Common,
    one: &Found<'_>,
    blob: &Descriptor,
    archive: &mut Archive<&mut dyn Write>,
) -> Result<()> {
    let task = common.progress.blob(&blob.digest, blob.size);
    let kind = Kind::File { size: blob.size, extents: None };
    let path = blob_path(&blob.digest);
    if blob.digest == one.image.descriptor.digest {
        archive.append(&member(&path, kind, 0o644), one.image.manifest_bytes.as_slice())?;
    } else {
        let mut source = Verified::new(one.source.blob(blob, 0)?, &blob.digest, blob.size);
        archive.append(&member(&path, kind, 0o644), &mut source)?;
        // The digest is compared where the stream ends.
        source.read_to_end(&mut Vec::new())?;
    }
    task.advance(blob.size);
    task.done("saved");
    Ok(())
}

fn small(archive: &mut Archive<&mut dyn Write>, name: &str, bytes: &[u8]) -> Result<()> {
    let kind = Kind::File { size: bytes.len() as u64, extents: None };
    archive.append(&member(name, kind, 0o644), bytes)
}

fn member(path: &str, kind: Kind, mode: u32) -> Member {
    Member { path: path.into(), kind, mode, uid: 0, gid: 0, mtime: Time::default(), xattrs: Vec::new() }
}

/// In `index.json`: containerd and Docker read the whole name from an annotation of their own, and the tag from the specification's.
fn entry(one: &Found<'_>) -> Descriptor {
    let descriptor = one.image.descriptor.clone();
    match one.name.as_deref().map(Reference::parse) {
        Some(Ok(name)) => {
            let tag = name.tag.clone().unwrap_or_else(|| "latest".into());
            descriptor.annotate(FULL_NAME, &name.to_string()).annotate(REF_NAME, &tag)
        }
        _ => descriptor,
    }
}

/// In `manifest.json`.
fn saved(one: &Found<'_>) -> Value {
    let layers: Vec<String> = one.image.manifest.layers.iter().map(|l| blob_path(&l.digest)).collect();
    let name = one.name.as_deref().and_then(|name| Reference::parse(name).ok());
    let tags: Vec<String> =
        name.filter(|n| n.tag.is_some() && n.digest.is_none()).iter().map(Reference::familiar).collect();
    json!({"Config": blob_path(one.image.id()), "RepoTags": tags, "Layers": layers})
}
