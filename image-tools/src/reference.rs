//! Names of images as people type them: `[registry/]repository[:tag][@digest]`, with Docker's defaults where a part is missing.
//! The grammar is the distribution project's; a name that passes can be part of a URL and is never part of a path.

use std::fmt;

use crate::digest::Digest;
use crate::error::{Error, Kind, Result};

/// The registry of names without one.
pub const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";
/// Distribution's limit for registry and repository together.
const LONGEST: usize = 255;

/// Which image: always with a registry and a repository, and with a tag, a digest or both.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    /// Host and perhaps port: `docker.io`, `localhost:5000`.
    pub registry: String,
    /// The path in the registry: `library/debian`.
    pub repository: String,
    /// `12`; `latest` where neither tag nor digest was given.
    pub tag: Option<String>,
    /// The manifest's digest.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Reads what a person typed. Errors: anything outside the grammar, with the part that is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: String| Error::new(Kind::Usage, format!("image name {text:?}: {why}"));
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(Digest::parse(digest).map_err(|e| wrong(e.to_string()))?)),
            None => (text, None),
        };
        let name_end = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[name_end..].split_once(':') {
            Some((last, tag)) => (&rest[..name_end + last.len()], Some(tag.to_owned())),
            None => (rest, None),
        };
        let (registry, path) = split_registry(name);
        let repository = match (registry, path) {
            (DEFAULT_REGISTRY, path) if !path.contains('/') => format!("library/{path}"),
            (_, path) => path.to_owned(),
        };
        if !repository.split('/').all(is_component) {
            return Err(wrong(format!(
                "{path:?} is not lower-case letters and digits, separated by '/', '.', '-', '_' or '__'"
            )));
        }
        if !is_host(registry) {
            return Err(wrong(format!("{registry:?} is not a host")));
        }
        if tag.as_deref().is_some_and(|tag| !is_tag(tag)) {
            return Err(wrong("the tag is not up to 128 letters, digits, '.', '-' and '_'".into()));
        }
        if registry.len() + 1 + repository.len() > LONGEST {
            return Err(wrong(format!("longer than {LONGEST} characters")));
        }
        let tag = tag.or_else(|| digest.is_none().then(|| DEFAULT_TAG.to_owned()));
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }

    /// What a manifest's URL ends with: the digest where there is one, which a tag can't change.
    pub fn selector(&self) -> &str {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.as_str(),
            (None, Some(tag)) => tag,
            (None, None) => DEFAULT_TAG,
        }
    }

    /// As a person would have typed it, without what goes without saying.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let short = full.strip_prefix("docker.io/").unwrap_or(&full);
        short.strip_prefix("library/").unwrap_or(short).to_owned()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// The part before the first slash is a registry if it could not be a repository's: it has a dot, a colon or a capital, or
/// it is `localhost`.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some(("index.docker.io", path)) => (DEFAULT_REGISTRY, path),
        Some((host, path))
            if host == "localhost"
                || host.contains(['.', ':'])
                || host.chars().any(|c| c.is_ascii_uppercase()) =>
        {
            (host, path)
        }
        _ => (DEFAULT_REGISTRY, name),
    }
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, port)) if v6.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') => ("v6", port),
        Some(_) => return false,
        None => host.find(':').map_or((host, ""), |colon| host.split_at(colon)),
    };
    let label = |l: &str| {
        !l.is_empty()
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    let digits = |p: &str| p.parse::<u16>().is_ok() && p.bytes().all(|b| b.is_ascii_digit());
    name.split('.').all(label) && (port.is_empty() || port.strip_prefix(':').is_some_and(digits))
}

/// Letters and digits, separated by one '.', one or two '_', or any number of '-'.
fn is_component(part: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    if !bytes.first().is_some_and(|b| word(*b)) || !bytes.last().is_some_and(|b| word(*b)) {
        return false;
    }
    part.split(|c: char| word(c as u8) && c.is_ascii())
        .all(|gap| matches!(gap, "" | "." | "_" | "__") || gap.bytes().all(|b| b == b'-'))
}

/// `[A-Za-z0-9_][A-Za-z0-9._-]{0,127}`
pub fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= 128
        && tag.as_bytes().first().is_some_and(|b| word(*b))
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_parts_are_dockers() {
        for (text, full) in [
            ("debian", "docker.io/library/debian:latest"),
            ("debian:12", "docker.io/library/debian:12"),
            ("me/app", "docker.io/me/app:latest"),
            ("index.docker.io/me/app", "docker.io/me/app:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/a/b:c", "localhost:5000/a/b:c"),
            ("[::1]:5000/a", "[::1]:5000/a:latest"),
            ("r.example/a__b/c--d.e", "r.example/a__b/c--d.e:latest"),
        ] {
            assert_eq!(Reference::parse(text).unwrap().to_string(), full, "{text}");
        }
        let digest = Digest::of(b"");
        let both = Reference::parse(&format!("debian:12@{digest}")).unwrap();
        assert_eq!(both.selector(), digest.as_str());
        assert_eq!(Reference::parse(&format!("debian@{digest}")).unwrap().tag, None);
        assert_eq!(Reference::parse("library/debian:12").unwrap().familiar(), "debian:12");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "..",
            "../x",
            "a/../b",
            "A",
            "a:",
            "a:b:c",
            "a b",
            "a@sha256:../../x",
            "a@",
            "-a",
            "a_",
            "a___b",
            "a..b",
            "host.:1x/a",
            "r.example/ä",
            "a\0",
            "a:\n",
            "h:99999/a",
            "[zz]/a",
        ] {
            assert!(Reference::parse(text).is_err(), "{text:?}");
        }
        assert!(Reference::parse(&"a".repeat(300)).is_err());
    }
}
