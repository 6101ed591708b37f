//! Platforms, and which of an index's images runs on one (image-index.md, "platform"; containerd's rules for variants).

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Kind, Result};
use crate::manifest::Descriptor;

/// An operating system on an architecture, in Go's words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Platform {
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `linux`
    pub os: String,
    /// `v7` for arm, `v3` for amd64, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// `os.version`, `os.features`, …
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Platform {
    /// This machine.
    pub fn here() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self { architecture: architecture.into(), os: "linux".into(), variant: None, other: Map::new() }
    }

    /// Reads `os/architecture[/variant]`, or an architecture alone for Linux.
    pub fn parse(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let sane = |p: &&str| {
            p.starts_with(|c: char| c.is_ascii_alphanumeric())
                && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        if !parts.iter().all(sane) {
            return Err(Error::new(Kind::Usage, format!("platform {text:?}: not os/architecture[/variant]")));
        }
        let (os, architecture, variant) = match parts[..] {
            [architecture] => ("linux", architecture, None),
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => {
                return Err(Error::new(
                    Kind::Usage,
                    format!("platform {text:?}: not os/architecture[/variant]"),
                ));
            }
        };
        let architecture = match architecture {
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Ok(Self {
            architecture: architecture.into(),
            os: os.into(),
            variant: variant.map(str::to_owned),
            other: Map::new(),
        })
    }

    /// How well `offer` serves this platform: none where it can't run here, else more is better. A newer variant never serves
    /// an older machine; no variant means the architecture's usual one.
    fn rank(&self, offer: &Platform) -> Option<u32> {
        if self.os != offer.os || self.architecture != offer.architecture {
            return None;
        }
        let level = |variant: &Option<String>| -> Option<u32> {
            match (self.architecture.as_str(), variant.as_deref()) {
                (_, Some(v)) if !v.is_empty() => v.strip_prefix('v').unwrap_or(v).parse().ok(),
                ("arm", _) => Some(7),
                ("arm64", _) => Some(8),
                _ => Some(1),
            }
        };
        match (level(&self.variant), level(&offer.variant)) {
            (Some(mine), Some(theirs)) => (theirs <= mine).then_some(theirs + 1),
            _ => (self.variant == offer.variant).then_some(1),
        }
    }

    /// The best of an index's children for this platform; the author's order decides between equals. Attestations and other
    /// children without a platform of their own are left aside, unless there is but one child.
    pub fn choose<'a>(&self, children: &'a [Descriptor]) -> Result<&'a Descriptor> {
        let mut best: Option<(u32, &Descriptor)> = None;
        for child in children {
            let Some(rank) = child.platform.as_ref().and_then(|offer| self.rank(offer)) else { continue };
            if best.is_none_or(|(had, _)| rank > had) {
                best = Some((rank, child));
            }
        }
        match (best, children) {
            (Some((_, child)), _) => Ok(child),
            (None, [only]) if only.platform.is_none() => Ok(only),
            _ => {
                let offers: Vec<String> =
                    children.iter().filter_map(|c| Some(c.platform.as_ref()?.to_string())).collect();
                Err(Error::not_found(format!("no image for {self}; there is {}", offers.join(", "))))
            }
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match self.variant.as_deref() {
            Some(variant) if !variant.is_empty() => write!(f, "/{variant}"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn chosen(mine: &str, offers: &[&str]) -> Option<usize> {
        let children: Vec<Descriptor> = offers
            .iter()
            .enumerate()
            .map(|(i, offer)| {
                let mut child = Descriptor::new("m", Digest::of(&[i as u8]), i as u64);
                child.platform = Platform::parse(offer).ok();
                child
            })
            .collect();
        Platform::parse(mine).unwrap().choose(&children).ok().map(|c| c.size as usize)
    }

    #[test]
    fn the_best_variant_that_runs_is_chosen() {
        for (mine, offers, expect) in [
            ("linux/amd64", &["linux/arm64", "linux/amd64"][..], Some(1)),
            ("linux/arm64", &["linux/arm64/v8"], Some(0)),
            ("linux/arm64/v8", &["linux/arm64"], Some(0)),
            ("linux/arm/v7", &["linux/arm/v5", "linux/arm/v6", "linux/arm/v8"], Some(1)),
            ("linux/arm/v6", &["linux/arm/v7"], None),
            ("linux/arm", &["linux/arm/v6", "linux/arm/v7"], Some(1)),
            ("linux/amd64", &["linux/amd64/v2"], None),
            ("linux/amd64/v3", &["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], Some(1)),
            ("linux/amd64", &["windows/amd64", "unknown/unknown"], None),
            ("amd64", &["linux/amd64", "linux/amd64"], Some(0)),
        ] {
            assert_eq!(chosen(mine, offers), expect, "{mine} of {offers:?}");
        }
    }

    #[test]
    fn platforms_are_read_or_refused() {
        assert_eq!(Platform::parse("linux/aarch64").unwrap().to_string(), "linux/arm64");
        for wrong in ["", "linux/", "a/b/c/d", "linux/../x", "li nux/amd64"] {
            assert!(Platform::parse(wrong).is_err(), "{wrong}");
        }
    }
}
