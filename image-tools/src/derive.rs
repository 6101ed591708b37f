//! A new image from one that is there: one more layer, another configuration, one more line of history. What nobody changed stays byte by
//! byte what it was; the same input gives the same digests.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::config::Config;
use crate::digest::{Algorithm, Digest, Hasher};
use crate::error::{Context, Error, Kind, Result};
use crate::image::Image;
use crate::layer::apply::clean;
use crate::layer::compression::Compression;
use crate::layer::stream::copy_limited;
use crate::layer::write::Archive;
use crate::manifest::{Descriptor, Manifest, media, to_json};
use crate::platform::Platform;
use crate::store::Store;

/// A layer in the store, not yet in an image.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Of the blob.
    pub descriptor: Descriptor,
    /// Of the archive, uncompressed.
    pub diff_id: Digest,
    /// Members of the archive.
    pub members: u64,
}

/// What history says of the new image.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// RFC 3339.
    pub created: String,
    /// The command.
    pub created_by: String,
    /// Who.
    pub author: Option<String>,
    /// Why.
    pub comment: Option<String>,
}

/// Writes a layer into the store: archived, hashed, compressed and hashed again in one pass.
pub fn layer<'a>(
    store: &Store,
    compression: Compression,
    write: impl FnOnce(&mut Archive<&mut dyn Write>) -> Result<()> + 'a,
) -> Result<Layer> {
    let mut done = None;
    let (digest, size) = store.create(|blob| {
        let mut tee = Tee { to: compression.writer(blob)?, hasher: Hasher::new(Algorithm::Sha256) };
        let mut archive = Archive::new(&mut tee as &mut dyn Write);
        write(&mut archive)?;
        let members = archive.members();
        archive.finish()?;
        tee.to.finish()?;
        done = Some((tee.hasher.finish(), members));
        Ok(())
    })?;
    let (diff_id, members) = done.expect("written above");
    Ok(Layer { descriptor: Descriptor::new(compression.media_type(), digest, size), diff_id, members })
}

/// Writes a layer that is an archive already, in any compression; `limit` is that of [`copy_limited`].
pub fn layer_of_archive(
    store: &Store,
    compression: Compression,
    archive: impl std::io::Read,
    limit: Option<u64>,
) -> Result<Layer> {
    let mut done = None;
    let (digest, size) = store.create(|blob| {
        let mut tee = Tee { to: compression.writer(blob)?, hasher: Hasher::new(Algorithm::Sha256) };
        copy_limited(archive, &mut tee, limit)?;
        tee.to.finish()?;
        done = Some(tee.hasher.finish());
        Ok(())
    })?;
    let diff_id = done.expect("written above");
    Ok(Layer { descriptor: Descriptor::new(compression.media_type(), digest, size), diff_id, members: 0 })
}

struct Tee<W> {
    to: W,
    hasher: Hasher,
}

impl<W: Write> Write for Tee<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = self.to.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

/// Makes an image of `base`, or of nothing, with this layer on top and this change of its configuration, and keeps its documents. It has no
/// name yet.
pub fn image(
    store: &Store,
    base: Option<&Image>,
    platform: &Platform,
    layer: Option<&Layer>,
    step: &Step,
    change: impl FnOnce(&mut Map<String, Value>) -> Result<()>,
) -> Result<Descriptor> {
    let blank = to_json(&json!({
        "architecture": platform.architecture, "os": platform.os, "config": {},
        "rootfs": {"type": "layers", "diff_ids": []}, "history": [],
    }));
    let before = base.map_or(blank.as_slice(), |image| &image.config_bytes);
    let config = Config::edit(before, |config| {
        config.insert("created".into(), step.created.clone().into());
        if let Some(layer) = layer {
            list(config, "rootfs", "diff_ids")?.push(layer.diff_id.as_str().into());
        }
        add_step(config, base.map_or(0, |b| b.manifest.layers.len()), layer.is_some(), step)?;
        change(config)
    })
    .context("config")?;
    let mut manifest = match base {
        Some(base) => inherited(&base.manifest),
        None => Manifest {
            schema_version: 2,
            media_type: Some(media::MANIFEST.into()),
            config: Descriptor::of(media::CONFIG, b""),
            layers: Vec::new(),
            annotations: None,
            other: Map::new(),
        },
    };
    manifest.layers.extend(layer.map(|layer| layer.descriptor.clone()));
    to_oci(&mut manifest)?;
    manifest.config = store.put(media::CONFIG, &config)?;
    store.put(media::MANIFEST, &to_json(&manifest))
}

/// What a manifest says is said of the image that is made of it, too, but for what is true of one image alone.
fn inherited(base: &Manifest) -> Manifest {
    let mut manifest = base.clone();
    for field in ["subject", "artifactType"] {
        manifest.other.remove(field);
    }
    for name in ["created", "base.digest", "base.name"] {
        let annotations = manifest.annotations.iter_mut();
        annotations.for_each(|all| drop(all.remove(&format!("org.opencontainers.image.{name}"))));
    }
    manifest
}

/// History has a step per layer, or none at all: an image that came without one gets steps for what it has.
fn add_step(config: &mut Map<String, Value>, layers: usize, has_layer: bool, step: &Step) -> Result<()> {
    let history = entry_list(config, "history")?;
    if history.is_empty() {
        history.extend((0..layers).map(|_| json!({"comment": "no history came with this layer"})));
    }
    let mut line = Map::new();
    line.insert("created".into(), step.created.clone().into());
    line.insert("created_by".into(), step.created_by.clone().into());
    line.extend(step.author.clone().map(|author| ("author".to_owned(), author.into())));
    line.extend(step.comment.clone().map(|comment| ("comment".to_owned(), comment.into())));
    if !has_layer {
        line.insert("empty_layer".into(), true.into());
    }
    history.push(line.into());
    Ok(())
}

/// A manifest is of one kind: Docker's media types become OCI's, which every program of the last years reads.
fn to_oci(manifest: &mut Manifest) -> Result<()> {
    manifest.media_type = Some(media::MANIFEST.into());
    for layer in &mut manifest.layers {
        layer.media_type = match layer.media_type.as_str() {
            media::DOCKER_LAYER => media::LAYER.into(),
            "application/vnd.docker.image.rootfs.diff.tar.gzip" => Compression::Gzip.media_type().into(),
            "application/vnd.docker.image.rootfs.diff.tar.zstd" => Compression::Zstd.media_type().into(),
            other if media::is_foreign(other) => {
                return Err(Error::unsupported(format!(
                    "layer {}: {other}: its owner lets nobody pass it on",
                    layer.digest
                )));
            }
            other => other.into(),
        };
    }
    Ok(())
}

/// `config.FIELD`, made if it is not there or null.
pub fn field<'a>(config: &'a mut Map<String, Value>, name: &str) -> Result<&'a mut Map<String, Value>> {
    let value = config.entry(name).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().ok_or_else(|| Error::invalid(format!("{name}: not an object")))
}

fn entry_list<'a>(object: &'a mut Map<String, Value>, name: &str) -> Result<&'a mut Vec<Value>> {
    let value = object.entry(name).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Array(Vec::new());
    }
    value.as_array_mut().ok_or_else(|| Error::invalid(format!("{name}: not a list")))
}

fn list<'a>(config: &'a mut Map<String, Value>, outer: &str, name: &str) -> Result<&'a mut Vec<Value>> {
    entry_list(field(config, outer)?, name)
}

/// How an image's configuration is to change, as `config` and `commit --change` say it.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)] // each is the specification's field of that name
pub struct Changes {
    pub user: Option<String>,
    /// Seen from the image's own.
    pub workdir: Option<String>,
    pub entrypoint: Option<Vec<String>>,
    pub cmd: Option<Vec<String>>,
    /// `NAME=VALUE`, over a value of the same name.
    pub env: Vec<String>,
    /// `KEY=VALUE`
    pub labels: Vec<String>,
    /// `80/tcp`
    pub ports: Vec<String>,
    /// Absolute.
    pub volumes: Vec<String>,
    pub stop_signal: Option<String>,
    pub author: Option<String>,
    pub created: Option<String>,
    pub platform: Option<Platform>,
    /// Fields to empty first: `env`, `cmd`, `entrypoint`, `labels`, `ports`, `volumes`, `user`, `workdir`, `stop-signal`, `author`, `history`.
    pub clear: Vec<String>,
}

impl Changes {
    /// Adds what a line in the words of a Dockerfile says: `ENV A=b`, `CMD ["sh"]`, `LABEL k=v`, … Variables are not expanded: what would be
    /// one is an error.
    pub fn read(&mut self, line: &str) -> Result<()> {
        let (word, rest) = line.trim().split_once(char::is_whitespace).unwrap_or((line.trim(), ""));
        let rest = rest.trim();
        let wrong = |why: &str| Error::new(Kind::Usage, format!("change {line:?}: {why}"));
        if rest.is_empty() {
            return Err(wrong("nothing behind the first word"));
        }
        match word.to_ascii_uppercase().as_str() {
            "USER" => self.user = Some(bare(rest).map_err(wrong)?),
            "WORKDIR" => {
                let above = Path::new(self.workdir.as_deref().unwrap_or_default());
                self.workdir = Some(above.join(bare(rest).map_err(wrong)?).to_string_lossy().into_owned());
            }
            "STOPSIGNAL" => self.stop_signal = Some(bare(rest).map_err(wrong)?),
            "CMD" => self.cmd = Some(command(rest)),
            "ENTRYPOINT" => self.entrypoint = Some(command(rest)),
            "EXPOSE" => self.ports.extend(words(rest).map_err(wrong)?),
            "VOLUME" => {
                let volumes = match serde_json::from_str::<Vec<String>>(rest) {
                    Ok(volumes) => volumes.iter().map(|volume| bare(volume)).collect(),
                    Err(_) => words(rest),
                };
                let volumes = volumes.map_err(wrong)?;
                if !volumes.iter().all(|volume| volume.starts_with('/')) {
                    return Err(wrong("a volume is an absolute path"));
                }
                self.volumes.extend(volumes);
            }
            "ENV" => self.env.extend(pairs(rest).map_err(wrong)?),
            "LABEL" => self.labels.extend(pairs(rest).map_err(wrong)?),
            other => {
                return Err(wrong(&format!(
                    "{other} is none of CMD ENTRYPOINT ENV EXPOSE LABEL STOPSIGNAL USER VOLUME WORKDIR"
                )));
            }
        }
        Ok(())
    }

    /// Makes the changes.
    pub fn apply(&self, config: &mut Map<String, Value>) -> Result<()> {
        self.clear(config)?;
        if let Some(platform) = &self.platform {
            config.insert("architecture".into(), platform.architecture.clone().into());
            config.insert("os".into(), platform.os.clone().into());
            match &platform.variant {
                Some(variant) => drop(config.insert("variant".into(), variant.clone().into())),
                None => drop(config.remove("variant")),
            }
        }
        for (name, value) in [("author", &self.author), ("created", &self.created)] {
            if let Some(value) = value {
                config.insert(name.into(), value.clone().into());
            }
        }
        let process = field(config, "config")?;
        if let Some(dir) = &self.workdir {
            let above = process.get("WorkingDir").and_then(Value::as_str).unwrap_or_default();
            let dir = clean(Path::new(above).join(dir).as_os_str().as_bytes());
            process.insert("WorkingDir".into(), format!("/{}", String::from_utf8_lossy(&dir)).into());
        }
        for (name, value) in [("User", &self.user), ("StopSignal", &self.stop_signal)] {
            if let Some(value) = value {
                process.insert(name.into(), value.clone().into());
            }
        }
        for (name, value) in [("Entrypoint", &self.entrypoint), ("Cmd", &self.cmd)] {
            if let Some(value) = value {
                process.insert(name.into(), value.clone().into());
            }
        }
        for variable in &self.env {
            let key = variable.split('=').next().unwrap_or_default();
            let list = entry_list(process, "Env")?;
            let same = |v: &Value| v.as_str().is_some_and(|v| v.split('=').next() == Some(key));
            match list.iter_mut().find(|v| same(v)) {
                Some(old) => *old = variable.clone().into(),
                None => list.push(variable.clone().into()),
            }
        }
        for label in &self.labels {
            let (key, value) = label.split_once('=').unwrap_or((label, ""));
            field(process, "Labels")?.insert(key.into(), value.into());
        }
        for port in &self.ports {
            let port = if port.contains('/') { port.clone() } else { format!("{port}/tcp") };
            field(process, "ExposedPorts")?.insert(port, json!({}));
        }
        for volume in &self.volumes {
            field(process, "Volumes")?.insert(volume.clone(), json!({}));
        }
        Ok(())
    }

    fn clear(&self, config: &mut Map<String, Value>) -> Result<()> {
        for what in &self.clear {
            let name = match what.as_str() {
                "author" => {
                    config.remove("author");
                    continue;
                }
                "history" => {
                    config.remove("history");
                    continue;
                }
                "env" => "Env",
                "cmd" => "Cmd",
                "entrypoint" => "Entrypoint",
                "labels" => "Labels",
                "ports" => "ExposedPorts",
                "volumes" => "Volumes",
                "user" => "User",
                "workdir" => "WorkingDir",
                "stop-signal" => "StopSignal",
                other => return Err(Error::new(Kind::Usage, format!("clear {other:?}: no such field"))),
            };
            field(config, "config")?.remove(name);
        }
        Ok(())
    }
}

/// A JSON list is the command; anything else goes to a shell, as in a Dockerfile.
fn command(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_else(|_| vec!["/bin/sh".into(), "-c".into(), text.into()])
}

type Read<T> = std::result::Result<T, &'static str>;

/// `KEY=VALUE` as often as there is one, or Docker's old `KEY VALUE`.
fn pairs(text: &str) -> Read<Vec<String>> {
    let pairs = words(text)?;
    let pairs = match text.split_once(char::is_whitespace) {
        Some((key, value)) if !pairs[0].contains('=') => {
            vec![format!("{}={}", bare(key)?, bare(value.trim())?)]
        }
        _ => pairs,
    };
    let named = |pair: &String| pair.split_once('=').is_some_and(|(key, _)| !key.is_empty());
    if pairs.iter().all(named) { Ok(pairs) } else { Err("not KEY=VALUE everywhere") }
}

/// The words of a line, without their quotes.
fn words(text: &str) -> Read<Vec<String>> {
    unquoted(text, char::is_whitespace)
}

/// The line as one word.
fn bare(text: &str) -> Read<String> {
    Ok(unquoted(text, |_| false)?.concat())
}

/// Takes quotes and backslashes away, as a Dockerfile's reader does.
fn unquoted(text: &str, parts: impl Fn(char) -> bool) -> Read<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if quote.is_none() && parts(c) {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_default();
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => quote = Some(c),
            ('\\', None) => word.extend(chars.next()),
            ('\\', Some('"')) => word.push(chars.next_if(|c| "\"$\\".contains(*c)).unwrap_or(c)),
            ('$', None | Some('"')) => return Err("nothing is expanded here: write \\$ for a $"),
            (c, _) => word.push(c),
        }
    }
    words.extend(word);
    if quote.is_some() { Err("a quote without its end") } else { Ok(words) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_made_and_nothing_else() {
        let mut changes = Changes::default();
        for line in [
            "ENV B=3",
            "env C 4",
            "CMD [\"a\",\"b\"]",
            "ENTRYPOINT run it",
            "LABEL k=\"v w\"",
            "EXPOSE 80 53/udp",
            "VOLUME /v",
            "USER me",
        ] {
            changes.read(line).unwrap();
        }
        changes.clear.push("workdir".into());
        let before =
            br#"{"config":{"Env":["A=1","B=2"],"WorkingDir":"/x","Healthcheck":{"Test":["t"]}},"rootfs":{}}"#;
        let after = Config::edit(before, |c| changes.apply(c)).unwrap();
        let after: Value = serde_json::from_slice(&after).unwrap();
        let expect = json!({
            "Env": ["A=1", "B=3", "C=4"], "Cmd": ["a", "b"], "Entrypoint": ["/bin/sh", "-c", "run it"], "User": "me",
            "Labels": {"k": "v w"}, "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "Volumes": {"/v": {}},
            "Healthcheck": {"Test": ["t"]},
        });
        assert_eq!(after["config"], expect);
    }

    fn read(line: &str) -> Result<Changes> {
        let mut changes = Changes::default();
        changes.read(line).map(|()| changes)
    }

    #[test]
    fn lines_are_read_as_in_a_dockerfile() {
        for (line, expect) in [
            ("A=1 B=2", &["A=1", "B=2"][..]),
            (r#"A="1 2"  'B'='$x "y"' C=a\ b"#, &["A=1 2", r#"B=$x "y""#, "C=a b"]),
            (r#"A="a\"b\$c\d" B=\$x C="#, &[r#"A=a"b$c\d"#, "B=$x", "C="]),
            ("A b  c", &["A=b  c"]),
            (r#"A "b  c=d""#, &["A=b  c=d"]),
        ] {
            assert_eq!(read(&format!("ENV {line}")).unwrap().env, expect, "{line}");
            assert_eq!(read(&format!("LABEL {line}")).unwrap().labels, expect, "{line}");
        }
        assert_eq!(read(r#"VOLUME ["/a b", "/c"]"#).unwrap().volumes, ["/a b", "/c"]);
        assert_eq!(read(r#"VOLUME "/a b" /c"#).unwrap().volumes, ["/a b", "/c"]);
        assert_eq!(read("USER \"me\"").unwrap().user.as_deref(), Some("me"));
        // A shell inside expands these.
        assert_eq!(read("CMD echo $HOME").unwrap().cmd.unwrap()[2], "echo $HOME");
        for wrong in [
            "",
            "RUN x",
            "ENV",
            "ENV A",
            "ENV A=1 B",
            "ENV =1",
            "ENV \"\" 1",
            "ENV A=$B",
            "ENV A=\"${B}\"",
            "ENV A $B",
            "LABEL a=\"b",
            "USER $ME",
            "WORKDIR $HOME/x",
            "VOLUME v",
            "VOLUME [\"/a\",\"b\"]",
            "VOLUME /$v",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_relative_working_directory_is_one_below_the_image_s() {
        for (before, lines, expect) in [
            ("/app", &["WORKDIR sub"][..], "/app/sub"),
            ("", &["WORKDIR a", "WORKDIR b"], "/a/b"),
            ("/app", &["WORKDIR /x/./y/", "WORKDIR ../z"], "/x/z"),
        ] {
            let mut changes = Changes::default();
            lines.iter().for_each(|line| changes.read(line).unwrap());
            let before = json!({"config": {"WorkingDir": before}, "rootfs": {}}).to_string();
            let after = Config::edit(before.as_bytes(), |c| changes.apply(c)).unwrap();
            assert_eq!(Config::parse(&after).unwrap().config.working_dir, expect, "{lines:?}");
        }
    }

    #[test]
    fn what_is_true_of_one_image_alone_is_not_inherited() {
        let name = |rest: &str| format!("org.opencontainers.image.{rest}");
        let descriptor = Descriptor::of(media::CONFIG, b"");
        let base: Manifest = serde_json::from_value(json!({
            "schemaVersion": 2, "config": descriptor, "layers": [], "subject": descriptor, "artifactType": "x/y",
            "annotations": {name("created"): "x", name("base.name"): "x", name("base.digest"): "x", name("title"): "x"},
            "more": 1,
        }))
        .unwrap();
        let new = inherited(&base);
        assert_eq!(new.annotations.unwrap().into_keys().collect::<Vec<_>>(), [name("title")]);
        assert_eq!(Value::from(new.other), json!({"more": 1}));
    }
}
