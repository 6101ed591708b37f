//! What a person gives as an image: a name in the store, or a place outside it, in the words of skopeo and podman:
//! `oci:DIR[:NAME]`, `oci-archive:FILE[:NAME]`, `docker-archive:FILE[:NAME]`.

use std::path::PathBuf;

/// Where an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// In the store, under a name or a digest.
    Store(String),
    /// An OCI image layout.
    Oci(PathBuf, Option<String>),
    /// A file that `save` or another program wrote, in either format.
    Archive(PathBuf, Option<String>),
}

impl Location {
    /// Reads it; everything without one of the prefixes is a name in the store.
    pub fn parse(text: &str) -> Self {
        let split = |rest: &str| match rest.split_once(':') {
            Some((path, name)) => (PathBuf::from(path), Some(name.to_owned())),
            None => (PathBuf::from(rest), None),
        };
        if let Some(rest) = text.strip_prefix("oci:") {
            let (path, name) = split(rest);
            return Self::Oci(path, name);
        }
        for prefix in ["oci-archive:", "docker-archive:"] {
            if let Some(rest) = text.strip_prefix(prefix) {
                let (path, name) = split(rest);
                return Self::Archive(path, name);
            }
        }
        Self::Store(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_a_prefix() {
        for (text, expect) in [
            ("debian:12", Location::Store("debian:12".into())),
            ("oci:/a/b", Location::Oci("/a/b".into(), None)),
            ("oci:/a/b:c/d:e", Location::Oci("/a/b".into(), Some("c/d:e".into()))),
            ("docker-archive:x.tar", Location::Archive("x.tar".into(), None)),
            ("oci-archive:x.tar:n", Location::Archive("x.tar".into(), Some("n".into()))),
        ] {
            assert_eq!(Location::parse(text), expect, "{text}");
        }
    }
}
