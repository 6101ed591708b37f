//! The image's configuration (image-spec config.md, and Docker's of the same shape): what of it this program reads. It is read
//! with tolerance, since Docker writes `null` for much that is empty; it is written back by editing the document that came
//! ([`Config::edit`]), so that Healthcheck, OnBuild, Shell and whatever else is there survives.

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result};
use crate::manifest::json;
use crate::platform::Platform;

/// An image's configuration, as read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Config {
    /// `amd64`, …
    #[serde(deserialize_with = "or_default")]
    pub architecture: String,
    /// `linux`
    #[serde(deserialize_with = "or_default")]
    pub os: String,
    /// `v8`, …
    #[serde(deserialize_with = "or_default")]
    pub variant: String,
    /// Of Windows.
    #[serde(rename = "os.version", deserialize_with = "or_default")]
    pub os_version: String,
    /// Of Windows.
    #[serde(rename = "os.features", deserialize_with = "or_default")]
    pub os_features: Vec<String>,
    /// Who made it.
    #[serde(deserialize_with = "or_default")]
    pub author: String,
    /// RFC 3339.
    #[serde(deserialize_with = "or_default")]
    pub created: String,
    /// How to run it.
    #[serde(deserialize_with = "or_default")]
    pub config: Process,
    /// What it is made of.
    pub rootfs: RootFs,
    /// How it was made.
    #[serde(deserialize_with = "or_default")]
    pub history: Vec<History>,
}

/// How an image wants to be run: the field `config`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[allow(missing_docs)] // each is the specification's field of that name
pub struct Process {
    #[serde(deserialize_with = "or_default")]
    pub user: String,
    #[serde(deserialize_with = "or_default")]
    pub exposed_ports: Map<String, Value>,
    #[serde(deserialize_with = "or_default")]
    pub env: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub entrypoint: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub cmd: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub volumes: Map<String, Value>,
    #[serde(deserialize_with = "or_default")]
    pub working_dir: String,
    #[serde(deserialize_with = "or_default")]
    pub labels: std::collections::BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    pub stop_signal: String,
}

/// The layers, uncompressed.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct RootFs {
    /// The digest of each layer's tar, base first.
    #[serde(default, deserialize_with = "or_default")]
    pub diff_ids: Vec<Digest>,
}

/// One step of how the image was made.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs)] // each is the specification's field of that name
pub struct History {
    #[serde(deserialize_with = "or_default")]
    pub created: String,
    #[serde(deserialize_with = "or_default")]
    pub created_by: String,
    #[serde(deserialize_with = "or_default")]
    pub author: String,
    #[serde(deserialize_with = "or_default")]
    pub comment: String,
    #[serde(deserialize_with = "or_default")]
    pub empty_layer: bool,
}

fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    from: D,
) -> std::result::Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

impl Config {
    /// Reads a configuration's document.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        json(bytes)
    }

    /// Errors unless there is one diff ID per layer and, where a history is written, one layer per step that made one.
    pub fn check_layers(&self, layers: usize) -> Result<()> {
        let ids = self.rootfs.diff_ids.len();
        if ids != layers {
            return Err(Error::invalid(format!("rootfs.diff_ids: {ids} for {layers} layers")));
        }
        let steps = self.history.iter().filter(|step| !step.empty_layer).count();
        if !self.history.is_empty() && steps != layers {
            return Err(Error::invalid(format!("history: {steps} steps with a layer for {layers} layers")));
        }
        Ok(())
    }

    /// Where it runs.
    pub fn platform(&self) -> Platform {
        let variant = Some(self.variant.clone()).filter(|v| !v.is_empty());
        Platform { architecture: self.architecture.clone(), os: self.os.clone(), variant, other: Map::new() }
    }

    /// Reads a document, lets `change` edit it, and gives it back with every field that nobody touched.
    pub fn edit(bytes: &[u8], change: impl FnOnce(&mut Map<String, Value>) -> Result<()>) -> Result<Vec<u8>> {
        let mut document: Map<String, Value> = json(bytes)?;
        change(&mut document)?;
        let edited = crate::manifest::to_json(&document);
        Self::parse(&edited)?;
        Ok(edited)
    }
}

/// The chain IDs of a stack of layers (config.md, "Layer ChainID"): each names its layer together with all below.
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let next = match chain.last() {
            None => diff_id.clone(),
            Some(below) => {
                let mut hasher = Hasher::new(crate::digest::Algorithm::Sha256);
                hasher.update(format!("{below} {diff_id}").as_bytes());
                hasher.finish()
            }
        };
        chain.push(next);
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_nulls_are_empty() {
        let config = Config::parse(
            br#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":["sh"],"Volumes":null,"Labels":null,
                "OnBuild":null},"rootfs":{"type":"layers","diff_ids":null},"history":null}"#,
        )
        .unwrap();
        assert_eq!(config.config.cmd, ["sh"]);
        assert!(config.check_layers(0).is_ok() && config.check_layers(1).is_err());
    }

    #[test]
    fn an_edit_keeps_what_it_does_not_know() {
        let text =
            r#"{"config":{"Env":["A=1"],"Healthcheck":{"Test":["x"]}},"rootfs":{"diff_ids":[]},"x":1}"#;
        let edited = Config::edit(text.as_bytes(), |d| {
            d.insert("author".into(), "me".into());
            Ok(())
        });
        assert_eq!(String::from_utf8(edited.unwrap()).unwrap(), text.replacen('{', r#"{"author":"me","#, 1));
    }

    /// The example of image-spec config.md, by the same formula computed with sha256sum(1).
    #[test]
    fn chain_ids_fold_from_the_base() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let chain = chain_ids(&[a.clone(), b.clone()]);
        assert_eq!(chain[0], a);
        assert_eq!(chain[1], Digest::of(format!("{a} {b}").as_bytes()));
    }
}
