//! Image documents: descriptors, manifests and indexes (image-spec descriptor.md, manifest.md, image-index.md), and Docker's
//! own of the same shape. Unknown fields survive, because a document that is written back must lose nothing; documents that
//! are only passed on stay the bytes that they were.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::digest::Digest;
use crate::error::{Context, Error, Result};
use crate::platform::Platform;

/// The largest manifest or index, in bytes: registries take no more either (distribution-spec, "Pushing Manifests").
pub const LARGEST: u64 = 4 << 20;
/// The most layers of an image: overlayfs stacks no more than 500.
pub const MOST_LAYERS: usize = 500;

/// Media types, each by what it means here.
pub mod media {
    #![allow(missing_docs)]
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    pub const DOCKER_FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar";
    const FOREIGN: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";

    /// Manifest list or index.
    pub fn is_index(media_type: &str) -> bool {
        matches!(media_type, INDEX | DOCKER_INDEX)
    }

    /// Manifest of one image.
    pub fn is_manifest(media_type: &str) -> bool {
        matches!(media_type, MANIFEST | DOCKER_MANIFEST)
    }

    /// Configuration of a runnable image; artifacts have others.
    pub fn is_config(media_type: &str) -> bool {
        matches!(media_type, CONFIG | DOCKER_CONFIG)
    }

    /// A file system layer, in whatever compression.
    pub fn is_layer(media_type: &str) -> bool {
        let base = media_type.trim_end_matches("+gzip").trim_end_matches("+zstd").trim_end_matches(".gzip");
        matches!(base.trim_end_matches(".zstd"), LAYER | FOREIGN | DOCKER_LAYER | DOCKER_FOREIGN)
    }

    /// A layer that its owner allows nobody to pass on: never pushed.
    pub fn is_foreign(media_type: &str) -> bool {
        media_type.starts_with(FOREIGN) || media_type.starts_with(DOCKER_FOREIGN)
    }
}

/// What a blob is, how long it is, and what its bytes hash to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// One of [`media`], or anything else.
    pub media_type: String,
    /// Of the blob's bytes.
    pub digest: Digest,
    /// Of the blob, in bytes.
    pub size: u64,
    /// For an index's children: where the image runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The layout's names, and whatever else people write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// `urls`, `data`, `artifactType`, and what later specifications add.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Descriptor {
    /// Describes these bytes.
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }

    /// Describes a blob.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        let media_type = media_type.to_owned();
        Self { media_type, digest, size, platform: None, annotations: None, other: Map::new() }
    }

    /// An annotation's value.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// Adds an annotation.
    pub fn annotate(mut self, key: &str, value: &str) -> Self {
        self.annotations.get_or_insert_default().insert(key.into(), value.into());
        self
    }

    /// Errors unless `bytes` are what this describes.
    pub fn check(&self, bytes: &[u8]) -> Result<()> {
        if bytes.len() as u64 != self.size {
            return Err(Error::invalid(format!("{} bytes, its descriptor says {}", bytes.len(), self.size)))
                .context(&self.digest);
        }
        let mut hasher = crate::digest::Hasher::new(self.digest.algorithm());
        hasher.update(bytes);
        self.digest.expect(&hasher.finish())
    }
}

/// The manifest of one image.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// Required by Docker, optional in OCI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The image's configuration.
    pub config: Descriptor,
    /// Base first.
    pub layers: Vec<Descriptor>,
    /// Free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// `subject`, `artifactType`, …
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A list of manifests, or of further lists.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// Required by Docker, optional in OCI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// In the author's order of preference.
    pub manifests: Vec<Descriptor>,
    /// Free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// What later specifications add.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Index {
    /// An OCI index of these.
    pub fn of(manifests: Vec<Descriptor>) -> Self {
        let media_type = Some(media::INDEX.to_owned());
        Self { schema_version: 2, media_type, manifests, annotations: None, other: Map::new() }
    }
}

/// What a reference leads to.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one at a time")]
pub enum Document {
    /// One image, or an artifact.
    Manifest(Manifest),
    /// Several.
    Index(Index),
}

impl Document {
    /// Reads a document that was announced with `media_type`; what it says of itself must agree, and it can't be read two ways
    /// (CVE-2021-41190).
    pub fn parse(bytes: &[u8], media_type: &str) -> Result<Self> {
        let value: Value = json(bytes)?;
        let has = |field| value.get(field).is_some_and(|v| !v.is_null());
        let said = value.get("mediaType").and_then(Value::as_str).filter(|s| !s.is_empty());
        if said.is_some_and(|said| said != media_type) {
            return Err(Error::invalid(format!(
                "mediaType: {:?}, announced as {media_type:?}",
                said.unwrap_or("")
            )));
        }
        if has("manifests") && (has("layers") || has("config") || has("fsLayers")) {
            return Err(Error::invalid("both a manifest and an index: manifests beside layers or config"));
        }
        if value.get("schemaVersion").and_then(Value::as_u64) == Some(1) || has("fsLayers") {
            return Err(Error::unsupported("schemaVersion 1: convert the image to schema 2 or OCI"));
        }
        match media_type {
            t if media::is_index(t) => Ok(Self::Index(json(bytes)?)),
            t if media::is_manifest(t) => {
                let manifest: Manifest = json(bytes)?;
                if manifest.layers.len() > MOST_LAYERS {
                    let n = manifest.layers.len();
                    return Err(Error::unsupported(format!("layers: {n}, more than {MOST_LAYERS}")));
                }
                Ok(Self::Manifest(manifest))
            }
            other => Err(Error::unsupported(format!("{other:?} is neither a manifest nor an index"))),
        }
    }
}

impl Manifest {
    /// Errors where this is not an image with a file system: a signature, an SBOM, a chart.
    pub fn check_runnable(&self) -> Result<()> {
        if !media::is_config(&self.config.media_type) {
            return Err(Error::unsupported(format!(
                "an artifact, not an image: its config is {:?}",
                self.config.media_type
            )));
        }
        match self.layers.iter().enumerate().find(|(_, l)| !media::is_layer(&l.media_type)) {
            Some((i, l)) => Err(Error::unsupported(format!(
                "layers[{i}].mediaType: {:?} is no file system layer",
                l.media_type
            ))),
            None => Ok(()),
        }
    }
}

/// Reads JSON, one document and nothing behind it; errors name the JSON path.
pub fn json<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read =
        serde_path_to_error::deserialize(&mut reader).map_err(|e| match e.path().to_string().as_str() {
            "." => Error::invalid(e.inner().to_string()),
            path => Error::invalid(format!("{path}: {}", e.inner())),
        })?;
    reader.end().map_err(|e| Error::invalid(e.to_string()))?;
    Ok(read)
}

/// Writes JSON the way that every document of ours is written: no spaces, fields in the order of their types.
pub fn to_json(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).expect("documents are plain data")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(extra: &str) -> String {
        format!(r#"{{"mediaType":"{}","digest":"{}","size":0{extra}}}"#, media::CONFIG, Digest::of(b""))
    }

    #[test]
    fn a_document_says_what_it_is_once() {
        let config = descriptor("");
        let manifest = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]}}"#);
        assert!(Document::parse(manifest.as_bytes(), media::MANIFEST).is_ok());
        let error =
            |text: &str, announced| Document::parse(text.as_bytes(), announced).unwrap_err().to_string();
        let both = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[],"manifests":[]}}"#);
        assert!(error(&both, media::MANIFEST).starts_with("both a manifest and an index"));
        assert!(error(&both, media::INDEX).starts_with("both a manifest and an index"));
        let other = r#"{"schemaVersion":2,"mediaType":"application/x","manifests":[]}"#;
        assert!(error(other, media::INDEX).contains("announced as"));
        assert!(error(r#"{"schemaVersion":1,"fsLayers":[]}"#, media::MANIFEST).contains("schemaVersion 1"));
        assert!(error(&manifest, "text/plain").contains("neither a manifest nor an index"));
    }

    #[test]
    fn errors_name_the_json_path() {
        let bad = format!(
            r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
            descriptor(""),
            descriptor("").replace(r#""size":0"#, r#""size":-1"#)
        );
        let error = Document::parse(bad.as_bytes(), media::MANIFEST).unwrap_err().to_string();
        assert!(error.starts_with("layers[0]"), "{error}");
        let escape =
            bad.replace("\"size\":-1", "\"size\":1").replace(Digest::of(b"").as_str(), "sha256:../../x");
        let error = Document::parse(escape.as_bytes(), media::MANIFEST).unwrap_err().to_string();
        assert!(error.contains("config.digest") && error.contains("hexadecimal"), "{error}");
    }

    #[test]
    fn nothing_follows_a_document() {
        assert!(json::<Value>(b"{} \n").is_ok());
        for more in ["{}{}", "{} x", "[]]"] {
            let error = json::<Value>(more.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("trailing characters"), "{error}");
        }
    }

    #[test]
    fn unknown_fields_survive() {
        let text = descriptor(r#","future":{"a":1},"urls":["x"]"#);
        let read: Descriptor = json(text.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(to_json(&read)).unwrap(), text);
    }

    #[test]
    fn layers_of_every_kind_are_known() {
        for kind in ["", "+gzip", "+zstd"] {
            assert!(media::is_layer(&format!("{}{kind}", media::LAYER)));
        }
        assert!(media::is_layer("application/vnd.docker.image.rootfs.diff.tar.gzip"));
        assert!(media::is_foreign("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"));
        assert!(media::is_foreign("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"));
        assert!(!media::is_layer("application/vnd.in-toto+json"));
    }
}
