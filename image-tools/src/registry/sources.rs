//! Where an image's bytes may come from: the registry of its name, or what registries.conf puts before it or in its place.
//! A subset of containers-registries.conf(5), version 2: `[[registry]]` with `prefix`, `location`, `insecure`, `blocked` and
//! `mirror-by-digest-only`, and its `[[registry.mirror]]`s. Short names and credential helpers there mean nothing here.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};

use crate::error::{Context, Error, Kind, Result};
use crate::reference::Reference;

/// A place to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// Host and perhaps port, as people and credential files write it.
    pub(super) registry: String,
    /// The repository there.
    pub(super) repository: String,
    /// Certificates are not checked, and plain http will do.
    pub(super) insecure: bool,
    /// Not the registry of the name itself.
    pub(super) mirror: bool,
}

impl Source {
    /// The host to connect to.
    pub(super) fn host(&self) -> &str {
        // Docker's registry has one name for people and another in the DNS.
        if self.registry == "docker.io" { "registry-1.docker.io" } else { &self.registry }
    }
}

/// registries.conf and the files of the folder beside it.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Configuration {
    #[serde(default, rename = "registry")]
    registries: Vec<Registry>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Registry {
    #[serde(default, deserialize_with = "bare")]
    prefix: String,
    #[serde(default, deserialize_with = "bare")]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default, rename = "mirror")]
    mirrors: Vec<Mirror>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Mirror {
    #[serde(deserialize_with = "bare")]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    pull_from_mirror: Pulls,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum Pulls {
    #[default]
    All,
    DigestOnly,
    TagOnly,
}

impl Configuration {
    /// Reads `path`, if it is there, and `path.d/*.conf` in the order of their names.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let mut folder = path.as_os_str().to_owned();
        folder.push(".d");
        let further = further(Path::new(&folder)).with_context(|| Path::new(&folder).display())?;
        let mut all = Self::default();
        for path in [path.to_owned()].into_iter().chain(further) {
            match fs::read_to_string(&path) {
                Ok(text) => all.add(&text).with_context(|| path.display())?,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(e).with_context(|| path.display()),
            }
        }
        Ok(all)
    }

    /// What comes later about the same prefix counts.
    fn add(&mut self, text: &str) -> Result<()> {
        let read: Self = toml::from_str(text).map_err(|e| {
            // Behind its first line comes a drawing.
            let whole = e.to_string();
            Error::invalid(
                whole.split_once('\n').map_or(whole.clone(), |(at, _)| format!("{at}: {}", e.message())),
            )
        })?;
        for (i, registry) in read.registries.into_iter().enumerate() {
            let prefix = registry.prefix().to_owned();
            if prefix.is_empty() {
                return Err(Error::invalid(format!("registry[{i}]: neither prefix nor location")));
            }
            self.registries.retain(|known| known.prefix() != prefix);
            self.registries.push(registry);
        }
        Ok(())
    }

    /// Where to ask for an image, in order; the registry itself is the last. Errors: blocked.
    pub(super) fn sources(&self, reference: &Reference, insecure: bool) -> Result<Vec<Source>> {
        let name = format!("{}/{}", reference.registry, reference.repository);
        let plain = source(&name, insecure, false).expect("a reference has a registry and a repository");
        let matching = self.registries.iter().filter_map(|r| Some((r.matches(&name)?, r)));
        let Some((length, registry)) = matching.max_by_key(|(length, _)| *length) else {
            return Ok(vec![plain]);
        };
        if registry.blocked {
            let text = format!("{name}: registries.conf blocks {:?}", registry.prefix());
            return Err(Error::new(Kind::Denied, text));
        }
        let wanted = |mirror: &&Mirror| match (registry.mirror_by_digest_only, mirror.pull_from_mirror) {
            (true, _) | (_, Pulls::DigestOnly) => reference.digest.is_some(),
            (false, Pulls::TagOnly) => reference.digest.is_none(),
            (false, Pulls::All) => true,
        };
        let moved = |location: &str, insecure, mirror| {
            source(&format!("{location}{}", &name[length..]), insecure, mirror).ok_or_else(|| {
                Error::invalid(format!("registries.conf: {location:?} is no place for {name}"))
            })
        };
        let mirrors = registry.mirrors.iter().filter(wanted);
        let mirrors = mirrors.map(|m| moved(&m.location, insecure || m.insecure, true));
        let itself = match registry.location.as_str() {
            "" => Ok(Source { insecure: insecure || registry.insecure, ..plain }),
            location => moved(location, insecure || registry.insecure, false),
        };
        mirrors.chain([itself]).collect()
    }

    /// Where to push: the registry itself, never a mirror.
    pub(super) fn target(&self, reference: &Reference, insecure: bool) -> Result<Source> {
        Ok(self.sources(reference, insecure)?.pop().expect("the registry itself is always one"))
    }
}

impl Registry {
    fn prefix(&self) -> &str {
        if self.prefix.is_empty() { &self.location } else { &self.prefix }
    }

    /// How much of the name the prefix takes, at a border between its parts.
    fn matches(&self, name: &str) -> Option<usize> {
        let prefix = self.prefix();
        if let Some(domain) = prefix.strip_prefix('*') {
            let host = name.split('/').next()?;
            return (domain.starts_with('.') && host.ends_with(domain)).then_some(host.len());
        }
        let rest = name.strip_prefix(prefix)?;
        (rest.is_empty() || rest.starts_with('/')).then_some(prefix.len())
    }
}

/// The `*.conf` files of a folder, if it is there: one that can't be read may block a registry.
fn further(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<PathBuf>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    paths.sort();
    Ok(paths)
}

/// People write a slash behind a host or a path, which would match nothing.
fn bare<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<String, D::Error> {
    Ok(String::deserialize(from)?.trim_end_matches('/').to_owned())
}

fn source(name: &str, insecure: bool, mirror: bool) -> Option<Source> {
    let (registry, repository) = name.split_once('/')?;
    let fine = |text: &str| !text.is_empty() && !text.contains(['?', '#', '@', '%', '\\', ' ']);
    if !fine(registry) || !fine(repository) || !name.is_ascii() {
        return None;
    }
    Some(Source { registry: registry.into(), repository: repository.into(), insecure, mirror })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        unqualified-search-registries = ["docker.io"]
        [aliases]
        "debian" = "docker.io/library/debian"
        [[registry]]
        location = "docker.io"
        [[registry.mirror]]
        location = "mirror.example:5000/hub"
        insecure = true
        [[registry.mirror]]
        location = "digests.example"
        pull-from-mirror = "digest-only"
        [[registry]]
        prefix = "docker.io/library"
        location = "base.example/official"
        [[registry]]
        prefix = "*.corp.example"
        location = "one.example"
        [[registry]]
        location = "bad.example"
        blocked = true
        [[registry]]
        prefix = ""
        location = "slash.example/team/"
        blocked = true
        [[registry]]
        prefix = "moved.example/"
        location = "new.example/here/"
        [[registry.mirror]]
        location = "near.example/"
    "#;

    fn check(name: &str, expect: &[&str]) {
        let mut configuration = Configuration::default();
        configuration.add(TEXT).unwrap();
        let sources = configuration.sources(&Reference::parse(name).unwrap(), false).unwrap();
        let told = sources.iter().map(|s| {
            let insecure = if s.insecure { " insecure" } else { "" };
            format!("{}/{}{insecure}", s.registry, s.repository)
        });
        assert_eq!(told.collect::<Vec<_>>(), expect, "{name}");
    }

    #[test]
    fn mirrors_come_first_and_the_longest_prefix_counts() {
        check("other.example/a", &["other.example/a"]);
        check("team/app", &["mirror.example:5000/hub/team/app insecure", "docker.io/team/app"]);
        let digest = format!("team/app@{}", crate::digest::Digest::of(b""));
        check(
            &digest,
            &["mirror.example:5000/hub/team/app insecure", "digests.example/team/app", "docker.io/team/app"],
        );
        check("debian", &["base.example/official/debian"]);
        check("x.corp.example/a/b", &["one.example/a/b"]);
        check("docker.io.example/a", &["docker.io.example/a"]);
        check("moved.example/a", &["near.example/a", "new.example/here/a"]);
    }

    #[test]
    fn blocked_registries_are_refused_and_errors_name_the_place() {
        let mut configuration = Configuration::default();
        configuration.add(TEXT).unwrap();
        let blocked = configuration.sources(&Reference::parse("bad.example/a").unwrap(), false).unwrap_err();
        assert_eq!(blocked.to_string(), "bad.example/a: registries.conf blocks \"bad.example\"");
        let blocked = configuration.sources(&Reference::parse("slash.example/team/a").unwrap(), false);
        assert_eq!(
            blocked.unwrap_err().to_string(),
            "slash.example/team/a: registries.conf blocks \"slash.example/team\""
        );
        let wrong = configuration.add("[[registry]]\ninsecure = 3").unwrap_err().to_string();
        assert_eq!(
            wrong,
            "TOML parse error at line 2, column 12: invalid type: integer `3`, expected a boolean"
        );
        assert!(configuration.add("[[registry]]\ninsecure = true").is_err());
    }

    #[test]
    fn what_comes_later_about_a_prefix_counts() {
        let mut configuration = Configuration::default();
        configuration.add("[[registry]]\nlocation = 'r.example'\nblocked = true").unwrap();
        configuration.add("[[registry]]\nlocation = 'r.example'\ninsecure = true").unwrap();
        let sources = configuration.sources(&Reference::parse("r.example/a").unwrap(), false).unwrap();
        assert!(sources.len() == 1 && sources[0].insecure);
    }

    #[test]
    fn a_folder_that_cannot_be_read_is_an_error() {
        let path = std::env::temp_dir().join(format!("registries-{}.conf", crate::layout::unique()));
        let folder = path.with_extension("conf.d");
        assert!(Configuration::read(&path).unwrap().registries.is_empty());
        fs::write(&folder, "").unwrap();
        let error = Configuration::read(&path).unwrap_err().to_string();
        fs::remove_file(&folder).unwrap();
        assert_eq!(error, format!("{}: not a directory", folder.display()));
    }
}
