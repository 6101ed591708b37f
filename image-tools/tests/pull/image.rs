//! Small images, made here: into a registry of ours, or into a layout.

use std::fs;
use std::io::Write;
use std::path::Path;

use fastrand::Rng;
use pintle_image::digest::Digest;
use pintle_image::layer::compression::Compression;
use pintle_image::layer::member::{Kind, Member, Time};
use pintle_image::layer::write::Archive;
use pintle_image::manifest::{Descriptor, media};
use serde_json::{Value, json};

use crate::registry::server::Server;
use crate::tree::{self, Tree};

/// An image: documents and blobs.
#[derive(Clone)]
pub struct Image {
    pub layers: Vec<(Descriptor, Vec<u8>)>,
    pub config: (Descriptor, Vec<u8>),
    pub manifest: (Descriptor, Vec<u8>),
}

impl Image {
    /// Of these archives, compressed by gzip. `config` is the configuration's `config`.
    pub fn of(archives: &[Vec<u8>], config: Value) -> Self {
        let diff_ids: Vec<Digest> = archives.iter().map(|archive| Digest::of(archive)).collect();
        Self::with_diff_ids(archives, config, &diff_ids)
    }

    /// The same, with a configuration that says other digests.
    pub fn with_diff_ids(archives: &[Vec<u8>], config: Value, diff_ids: &[Digest]) -> Self {
        let layers: Vec<(Descriptor, Vec<u8>)> = archives
            .iter()
            .map(|archive| {
                let mut gzip = Compression::Gzip.writer(Vec::new()).unwrap();
                gzip.write_all(archive).unwrap();
                let blob = gzip.finish().unwrap();
                (Descriptor::of(Compression::Gzip.media_type(), &blob), blob)
            })
            .collect();
        let config = json!({"os": "linux", "architecture": "amd64", "config": config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let config = config.to_string().into_bytes();
        let config = (Descriptor::of(media::CONFIG, &config), config);
        let manifest = json!({"schemaVersion": 2, "mediaType": media::MANIFEST, "config": config.0,
            "layers": layers.iter().map(|layer| &layer.0).collect::<Vec<_>>()});
        let manifest = manifest.to_string().into_bytes();
        Self { layers, config, manifest: (Descriptor::of(media::MANIFEST, &manifest), manifest) }
    }

    /// The blobs: the layers and the configuration.
    pub fn blobs(&self) -> impl Iterator<Item = &(Descriptor, Vec<u8>)> {
        self.layers.iter().chain([&self.config])
    }

    /// Of all blobs, in bytes.
    pub fn size(&self) -> u64 {
        self.blobs().map(|blob| blob.0.size).sum()
    }

    /// Into a registry; gives its name there.
    pub fn publish(&self, server: &Server, repository: &str) -> String {
        for (_, bytes) in self.blobs() {
            server.add_blob(repository, bytes);
        }
        server.add_manifest(repository, "1", media::MANIFEST, &self.manifest.1);
        format!("{}/{repository}:1", server.host())
    }

    /// Into a layout of its own; gives its name as a place.
    pub fn layout(&self, dir: &Path) -> String {
        let blobs = dir.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        for (descriptor, bytes) in self.blobs().chain([&self.manifest]) {
            fs::write(blobs.join(descriptor.digest.hex()), bytes).unwrap();
        }
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let index = json!({"schemaVersion": 2, "manifests": [self.manifest.0]});
        fs::write(dir.join("index.json"), index.to_string()).unwrap();
        format!("oci:{}", dir.display())
    }
}

/// Bytes that don't compress.
pub fn noise(random: &mut Rng, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}

/// A member owned by root, of a fixed time.
pub fn member(path: &str, kind: Kind, mode: u32) -> Member {
    let mtime = Time { seconds: 1_700_000_000, nanoseconds: 5 };
    Member { path: path.into(), kind, mode, uid: 0, gid: 0, mtime, xattrs: Vec::new() }
}

/// An archive: directories, and files with their contents.
#[derive(Default)]
pub struct Tar(Vec<(Member, Vec<u8>)>);

impl Tar {
    pub fn dir(mut self, path: &str) -> Self {
        self.0.push((member(path, Kind::Directory, 0o755), Vec::new()));
        self
    }

    pub fn file(mut self, path: &str, mode: u32, bytes: Vec<u8>) -> Self {
        let kind = Kind::File { size: bytes.len() as u64, extents: None };
        self.0.push((member(path, kind, mode), bytes));
        self
    }

    pub fn link(mut self, path: &str, target: &str) -> Self {
        self.0.push((member(path, Kind::Hardlink(target.into()), 0o644), Vec::new()));
        self
    }

    /// A folder of `count` files of `size` bytes that don't compress.
    pub fn noise(mut self, folder: &str, count: usize, size: usize) -> Self {
        let seed = folder.bytes().fold(7, |seed, byte| seed * 31 + u64::from(byte));
        let mut random = Rng::with_seed(seed);
        self = self.dir(folder);
        for n in 0..count {
            self = self.file(&format!("{folder}/{n}"), 0o644, noise(&mut random, size));
        }
        self
    }

    pub fn archive(self) -> Vec<u8> {
        let mut archive = Archive::new(Vec::new());
        for (member, bytes) in &self.0 {
            archive.append(member, &bytes[..]).unwrap();
        }
        archive.finish().unwrap()
    }
}

/// What differs between two stores' `layers`, except for times that are those of the stores, not of the images: of their own
/// folders and files, and of the whiteout.
pub fn layer_differences(first: &Tree, second: &Tree) -> Vec<String> {
    let own = |path: &str| match path.split_once('/') {
        None | Some((_, "layer.json")) => true,
        Some((_, path)) => path == "fs/base/0",
    };
    let of_the_store = |line: &String| {
        line.split_once(": ").is_some_and(|(path, field)| field.starts_with("mtime: ") && own(path))
    };
    tree::diff(first, second).into_iter().filter(|line| !of_the_store(line)).collect()
}

/// Layers of every kind that is applied in its own way: one that stands alone, one with whiteouts, and one that only its
/// parents make whole. Each has about `size` bytes.
pub fn layers_of_all_kinds(size: usize) -> [Vec<u8>; 3] {
    let count = 24;
    [
        Tar::default().noise("base", count, size / count).archive(),
        Tar::default()
            .dir("base")
            .file("base/.wh.0", 0o644, Vec::new())
            .noise("more", count, size / count)
            .archive(),
        Tar::default()
            .noise("top", count, size / count)
            .file("more/without/an/entry", 0o600, b"x".into())
            .link("top/link", "base/1")
            .archive(),
    ]
}
