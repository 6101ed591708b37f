//! Images in one file: what `docker save`, `podman save` and `skopeo` write, in Docker's format (`manifest.json`), as an OCI layout in a tar, or
//! both at once. The archive is read once to learn where its members are; then they are read in place.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::Deserialize;

use crate::config::Config;
use crate::digest::{Algorithm, Digest, Hasher};
use crate::error::{Context, Error, Result};
use crate::image::Source;
use crate::layer::apply::clean;
use crate::layer::compression::Compression;
use crate::layer::member::Kind;
use crate::layer::read::Members;
use crate::layer::stream::copy_limited;
use crate::layout::{REF_NAME, blob_path};
use crate::manifest::{Descriptor, Index, LARGEST, MOST_LAYERS, Manifest, json, media, to_json};
use crate::reference::Reference;

/// Containerd's annotation for a whole name; the specification's own holds a tag only, in what Docker writes.
pub const FULL_NAME: &str = "io.containerd.image.name";
/// Members of an archive, at most: an image has some hundreds.
const MOST_MEMBERS: usize = 100_000;
/// Links from member to member, at most.
const MOST_LINKS: usize = 8;
/// Names and images without one of Docker's format, at most: each is a line of text there and a manifest in memory here.
const MOST_IMAGES: usize = 1_000;

/// An archive of images, and what is in it.
pub struct Archive {
    file: File,
    members: HashMap<Vec<u8>, Place>,
    /// Manifests, which Docker's format has not and a registry wants.
    made: HashMap<Digest, Vec<u8>>,
    /// Where Docker's layers and configurations are: offset and size.
    blobs: HashMap<Digest, (u64, u64)>,
    /// What is known of members that were read as layers, by offset and size: many images may name one.
    described: HashMap<(u64, u64), Descriptor>,
    /// And as configurations, with how many layers they tell of.
    configs: HashMap<(u64, u64), (Descriptor, usize)>,
    /// Names and manifests.
    images: Vec<Descriptor>,
}

#[derive(Clone, Debug)]
enum Place {
    /// From this byte, so many.
    Data(u64, u64),
    /// Another member.
    Link(Vec<u8>),
}

/// An entry of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

impl Archive {
    /// Opens an archive. A compressed one is decompressed into `temporary` first, and so is one that comes through a pipe.
    pub fn open(path: &Path, temporary: &File) -> Result<Self> {
        let place = || path.display().to_string();
        let given = if path == Path::new("-") { File::open("/dev/stdin") } else { File::open(path) };
        let given = given.with_context(place)?;
        Self::read(given, temporary).with_context(place)
    }

    fn read(mut given: File, temporary: &File) -> Result<Self> {
        let mut begin = Vec::new();
        given.by_ref().take(4).read_to_end(&mut begin)?;
        let in_place = given.metadata()?.is_file() && Compression::detect(&begin)? == Compression::None;
        let file = if in_place {
            given
        } else {
            let whole = Cursor::new(begin).chain(given);
            copy_limited(whole, &mut &*temporary, None)?;
            temporary.try_clone()?
        };
        let members = members(&file)?;
        let mut archive = Self {
            file,
            members,
            made: HashMap::new(),
            blobs: HashMap::new(),
            described: HashMap::new(),
            configs: HashMap::new(),
            images: Vec::new(),
        };
        if archive.members.contains_key(&b"oci-layout"[..])
            && archive.members.contains_key(&b"index.json"[..])
        {
            archive.read_oci()?;
        } else if archive.members.contains_key(&b"manifest.json"[..]) {
            archive.read_docker()?;
        } else {
            return Err(Error::invalid(
                "no archive of images: neither index.json nor manifest.json is in it",
            ));
        }
        Ok(archive)
    }

    /// The images and, where they have any, their names, as [`REF_NAME`] says them.
    pub fn images(&self) -> &[Descriptor] {
        &self.images
    }

    fn read_oci(&mut self) -> Result<()> {
        let index: Index = json(&self.small("index.json")?).context("index.json")?;
        for mut image in index.manifests {
            if let Some(name) = image.annotation(FULL_NAME).map(str::to_owned) {
                image = image.annotate(REF_NAME, &name);
            }
            self.images.push(image);
        }
        Ok(())
    }

    /// Docker's format has no manifests: they are made of what there is, so that everything behind sees one kind of image.
    fn read_docker(&mut self) -> Result<()> {
        let saved: Vec<Saved> = json(&self.small("manifest.json")?).context("manifest.json")?;
        let images: usize = saved.iter().map(|s| s.repo_tags.as_ref().map_or(0, Vec::len).max(1)).sum();
        if images > MOST_IMAGES {
            let text = format!("manifest.json: {images} images and names, more than {MOST_IMAGES}");
            return Err(Error::unsupported(text));
        }
        for (i, saved) in saved.iter().enumerate() {
            self.read_saved(saved).with_context(|| format!("manifest.json: [{i}]"))?;
        }
        Ok(())
    }

    fn read_saved(&mut self, saved: &Saved) -> Result<()> {
        let paths = saved.layers.as_deref().unwrap_or_default();
        if paths.len() > MOST_LAYERS {
            let n = paths.len();
            return Err(Error::unsupported(format!("layers: {n}, more than {MOST_LAYERS}")));
        }
        let (config, diff_ids) = self.config(&saved.config).with_context(|| saved.config.clone())?;
        if paths.len() != diff_ids {
            return Err(Error::invalid(format!("{} layers, {diff_ids} diff_ids", paths.len())));
        }
        let mut layers = Vec::new();
        for path in paths {
            layers.push(self.layer(path).with_context(|| path.to_owned())?);
        }
        let manifest = to_json(&Manifest {
            schema_version: 2,
            media_type: Some(media::MANIFEST.into()),
            config,
            layers,
            annotations: None,
            other: serde_json::Map::new(),
        });
        let descriptor = Descriptor::of(media::MANIFEST, &manifest);
        self.made.insert(descriptor.digest.clone(), manifest);
        let names = saved.repo_tags.as_deref().unwrap_or_default();
        if names.is_empty() {
            self.images.push(descriptor.clone());
        }
        for name in names {
            let name = Reference::parse(name)?.to_string();
            self.images.push(descriptor.clone().annotate(REF_NAME, &name));
        }
        Ok(())
    }

    /// Describes a configuration, and counts its layers.
    fn config(&mut self, path: &str) -> Result<(Descriptor, usize)> {
        let place = self.find(path.as_bytes())?;
        if let Some(known) = self.configs.get(&place) {
            return Ok(known.clone());
        }
        let bytes = self.bytes(place)?;
        let found = (Descriptor::of(media::CONFIG, &bytes), Config::parse(&bytes)?.rootfs.diff_ids.len());
        self.blobs.insert(found.0.digest.clone(), place);
        self.configs.insert(place, found.clone());
        Ok(found)
    }

    /// Describes a layer that only has a path.
    fn layer(&mut self, path: &str) -> Result<Descriptor> {
        let (offset, size) = self.find(path.as_bytes())?;
        if let Some(known) = self.described.get(&(offset, size)) {
            return Ok(known.clone());
        }
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut begin = [0; 4];
        let read = self.file.read_at(&mut begin, offset)?;
        let form = Compression::detect(&begin[..read.min(size as usize)])?;
        let mut reader = Piece { file: &self.file, offset, left: size };
        let mut buffer = vec![0; 256 << 10];
        loop {
            match reader.read(&mut buffer)? {
                0 => break,
                n => hasher.update(&buffer[..n]),
            }
        }
        let digest = hasher.finish();
        self.blobs.insert(digest.clone(), (offset, size));
        let descriptor = Descriptor::new(form.media_type(), digest, size);
        self.described.insert((offset, size), descriptor.clone());
        Ok(descriptor)
    }

    /// A small member's bytes.
    fn small(&self, path: &str) -> Result<Vec<u8>> {
        self.find(path.as_bytes()).and_then(|place| self.bytes(place)).with_context(|| path.to_owned())
    }

    fn bytes(&self, (offset, size): (u64, u64)) -> Result<Vec<u8>> {
        if size > LARGEST {
            return Err(Error::invalid(format!("{size} bytes, a document has at most {LARGEST}")));
        }
        let mut bytes = vec![0; size as usize];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn find(&self, path: &[u8]) -> Result<(u64, u64)> {
        let mut path = clean(path);
        for _ in 0..MOST_LINKS {
            match self.members.get(&path) {
                Some(Place::Data(offset, size)) => return Ok((*offset, *size)),
                Some(Place::Link(target)) => path.clone_from(target),
                None => return Err(Error::invalid("not in the archive")),
            }
        }
        Err(Error::invalid("a circle of links"))
    }

    fn place(&self, digest: &Digest) -> Result<(u64, u64)> {
        match self.blobs.get(digest) {
            Some(place) => Ok(*place),
            None => self.find(blob_path(digest).as_bytes()).with_context(|| format!("blob {digest}")),
        }
    }
}

impl Source for Archive {
    fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        if let Some(made) = self.made.get(&descriptor.digest) {
            return Ok(made.clone());
        }
        let bytes = self.bytes(self.place(&descriptor.digest)?).context(&descriptor.digest)?;
        descriptor.check(&bytes)?;
        Ok(bytes)
    }

    fn blob(&self, descriptor: &Descriptor, from: u64) -> Result<Box<dyn Read + Send + '_>> {
        let (offset, size) = self.place(&descriptor.digest)?;
        Ok(Box::new(Piece {
            file: &self.file,
            offset: offset + from.min(size),
            left: size.saturating_sub(from),
        }))
    }
}

/// A stretch of the archive's file.
struct Piece<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
}

impl Read for Piece<'_> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let most = to.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let n = self.file.read_at(&mut to[..most], self.offset)?;
        self.offset += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

/// Where each member's data is.
fn members(file: &File) -> Result<HashMap<Vec<u8>, Place>> {
    let whole = Piece { file, offset: 0, left: u64::MAX };
    let mut members = Members::new(BufReader::with_capacity(1 << 20, whole));
    let mut found = HashMap::new();
    while let Some(member) = members.next()? {
        if found.len() >= MOST_MEMBERS {
            return Err(Error::invalid(format!("more than {MOST_MEMBERS} members")));
        }
        let path = clean(&member.path);
        let parent = path.iter().rposition(|b| *b == b'/').map_or(&b""[..], |slash| &path[..slash]);
        let place = match member.kind {
            Kind::File { size, extents: None } => Place::Data(members.position(), size),
            Kind::Symlink(target) => Place::Link(clean(&[parent, &target].join(&b'/'))),
            Kind::Hardlink(target) => Place::Link(clean(&target)),
            _ => continue,
        };
        found.insert(path, place);
    }
    Ok(found)
}
