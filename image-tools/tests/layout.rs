//! Where the tests from outside work: a folder with a store, layouts made of layers that a test writes down, and the program, whose
//! trees come back as text. What a command leaves behind after an error is checked here, too.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::layer::{Member, Pack, pack, tar};
use crate::tree::{self, Tree};

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// The program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_pintle-image");

static PLACES: AtomicU32 = AtomicU32::new(0);

/// A folder that goes with the test.
pub struct Place {
    pub dir: PathBuf,
    trees: AtomicU32,
    stores: AtomicU32,
}

/// What a command said, and how long it took.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Place {
    /// Nothing where the tests don't run as root: owners, devices and mounts are what they are about.
    pub fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("SKIP owners, devices and mounts are made by root");
            return None;
        }
        let name = format!("pii{}-{}", std::process::id(), PLACES.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        fs::create_dir(&dir).expect("a folder");
        Some(Self { dir, trees: AtomicU32::new(0), stores: AtomicU32::new(0) })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub fn store(&self) -> PathBuf {
        self.path(&format!("store{}", self.stores.load(Ordering::Relaxed)))
    }

    /// From now on another store, which is empty.
    pub fn fresh_store(&self) {
        self.stores.fetch_add(1, Ordering::Relaxed);
    }

    /// A path as an argument.
    pub fn word(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg("--root").arg(self.store()).args(args).current_dir(&self.dir).stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: &[&str]) -> Said {
        let begin = Instant::now();
        let output = self.command(args).output().expect("the program starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
            took: begin.elapsed(),
        }
    }

    #[track_caller]
    pub fn succeeds(&self, args: &[&str]) -> Said {
        let said = self.run(args);
        assert_eq!(said.code, Some(0), "{args:?}: {said:?}");
        said
    }

    /// Fails with this exit code and these words, and leaves nothing behind.
    #[track_caller]
    pub fn fails(&self, args: &[&str], code: i32, words: &str) -> Said {
        let said = self.run(args);
        assert_eq!(said.code, Some(code), "{args:?}: {said:?}");
        assert!(said.stderr.contains(words), "{words:?} is not in: {}", said.stderr);
        if code == 5 && self.store().exists() {
            let blobs = names(&self.store().join("blobs/sha256"));
            assert_eq!(blobs, BTreeSet::new(), "what breaks its rules leaves no blob: {said:?}");
        }
        self.nothing_is_left();
        said
    }

    /// A new layout.
    pub fn layout(&self, name: &str) -> Layout {
        Layout::new(&self.path(name))
    }

    /// The tree of an image in a layout, all layers in one directory.
    #[track_caller]
    pub fn flat(&self, layout: &str, options: &[&str]) -> Tree {
        let out = self.next("flat");
        let image = format!("oci:{layout}");
        self.succeeds(&[&["unpack", "--rootfs-only", &image, &out], options].concat());
        tree::walk(Path::new(&out)).expect("a tree")
    }

    /// The tree of the same image, loaded and mounted.
    #[track_caller]
    pub fn overlay(&self, layout: &str) -> Tree {
        let said = self.succeeds(&["--json", "load", &format!("oci:{layout}")]);
        let loaded: Value = serde_json::from_str(&said.stdout).expect("JSON");
        let digest = loaded[0]["digest"].as_str().expect("a digest").to_owned();
        self.mounted(&digest)
    }

    /// The tree of an image in the store.
    #[track_caller]
    pub fn mounted(&self, image: &str) -> Tree {
        let at = self.next("mount");
        self.succeeds(&["mount", image, &at]);
        let tree = tree::walk(Path::new(&at)).expect("a tree");
        self.unmount(&at);
        tree
    }

    #[track_caller]
    pub fn unmount(&self, at: &str) {
        unmount(&mut self.command(&["umount", at]));
    }

    /// A name that nothing has yet.
    pub fn next(&self, prefix: &str) -> String {
        self.word(&format!("{prefix}{}", self.trees.fetch_add(1, Ordering::Relaxed)))
    }

    /// No image has a name, nothing is half made, and every blob that there may be is what its name says.
    #[track_caller]
    pub fn nothing_is_left(&self) {
        let left = names(&self.dir).into_iter().filter(|n| n.ends_with(".partial"));
        assert_eq!(left.collect::<Vec<_>>(), [""; 0], "half made trees");
        if !self.store().exists() {
            return;
        }
        for dir in ["tmp", "layers", "leases"] {
            assert_eq!(names(&self.store().join(dir)), BTreeSet::new(), "store/{dir}");
        }
        let index: Value = serde_json::from_slice(&fs::read(self.store().join("index.json")).expect("it"))
            .expect("index.json");
        assert_eq!(index["manifests"], json!([]));
        self.blobs_are_right();
        // Whole blobs of a refused image, and begun ones, are garbage.
        self.succeeds(&["gc"]);
        for dir in ["blobs/sha256", "partial"] {
            assert_eq!(names(&self.store().join(dir)), BTreeSet::new(), "store/{dir}");
        }
    }

    #[track_caller]
    pub fn blobs_are_right(&self) {
        for name in names(&self.store().join("blobs/sha256")) {
            let bytes = fs::read(self.store().join("blobs/sha256").join(&name)).expect("a blob");
            assert_eq!(sha256(&bytes), name);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let ours = |at: &&str| Path::new(at).starts_with(&self.dir);
        for at in mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(ours) {
            if let Err(e) = rustix::mount::unmount(at, rustix::mount::UnmountFlags::DETACH) {
                eprintln!("{at}: {e}");
            }
        }
        // Deeper than the standard library's own goes.
        match Command::new("rm").arg("-rf").arg(&self.dir).status() {
            Ok(status) if status.success() => {}
            other => eprintln!("{}: {other:?}", self.dir.display()),
        }
    }
}

/// Calls `umount`, again where it is busy: another test's child may still have this one's descriptors, until it executes its program.
#[track_caller]
pub fn unmount(umount: &mut Command) {
    for _ in 0..100 {
        let output = umount.output().expect("the program starts");
        if output.status.success() {
            return;
        }
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("busy"), "{umount:?}: {said}");
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{umount:?}: it stays busy");
}

/// What a folder holds; nothing where it is missing.
pub fn names(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": format!("sha256:{}", sha256(bytes)), "size": bytes.len()})
}

/// An OCI image layout that a test fills.
pub struct Layout {
    pub dir: PathBuf,
    named: Vec<Value>,
}

/// A layer in a layout: its descriptor, and the digest of its archive.
#[derive(Clone)]
pub struct Stored {
    pub descriptor: Value,
    pub diff_id: String,
}

impl Layout {
    pub fn new(dir: &Path) -> Self {
        fs::create_dir_all(dir.join("blobs/sha256")).expect("a folder");
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("a file");
        let layout = Self { dir: dir.to_owned(), named: Vec::new() };
        layout.write_index();
        layout
    }

    pub fn write_index(&self) {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": self.named});
        fs::write(self.dir.join("index.json"), index.to_string()).expect("a file");
    }

    pub fn word(&self) -> String {
        self.dir.display().to_string()
    }

    /// As the program is told of it.
    pub fn image(&self) -> String {
        format!("oci:{}", self.word())
    }

    /// Where a blob is, or would be.
    pub fn blob_path(&self, descriptor: &Value) -> PathBuf {
        let digest = descriptor["digest"].as_str().expect("a digest");
        self.dir.join("blobs").join(digest.replacen(':', "/", 1))
    }

    pub fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let descriptor = descriptor(media_type, bytes);
        fs::write(self.blob_path(&descriptor), bytes).expect("a file");
        descriptor
    }

    pub fn document(&self, media_type: &str, document: &Value) -> Value {
        self.blob(media_type, document.to_string().as_bytes())
    }

    /// An archive as it is, compressed so.
    pub fn archive(&self, bytes: &[u8], form: Pack) -> Stored {
        let media_type = match form {
            Pack::None => LAYER.to_owned(),
            Pack::Gzip => format!("{LAYER}+gzip"),
            Pack::Zstd => format!("{LAYER}+zstd"),
        };
        let descriptor = self.blob(&media_type, &pack(bytes, form));
        Stored { descriptor, diff_id: format!("sha256:{}", sha256(bytes)) }
    }

    pub fn layer(&self, members: &[Member]) -> Stored {
        self.archive(&tar(members), Pack::Gzip)
    }

    /// The manifest of an image of these layers, whose configuration has this `config`.
    pub fn manifest(&self, layers: &[Stored], mut config: Value) -> Value {
        config["Cmd"] = json!(["/program"]);
        let diff_ids: Vec<&str> = layers.iter().map(|l| l.diff_id.as_str()).collect();
        let document = json!({
            "os": "linux", "architecture": "amd64", "config": config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = self.document(CONFIG, &document);
        let layers: Vec<&Value> = layers.iter().map(|l| &l.descriptor).collect();
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers})
    }

    /// Gives a descriptor a name in `index.json`.
    pub fn name(&mut self, mut descriptor: Value, name: &str) {
        if !name.is_empty() {
            descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        }
        self.named.push(descriptor);
        self.write_index();
    }

    /// A whole image.
    pub fn add(&mut self, name: &str, layers: &[Stored]) -> Value {
        let manifest = self.document(MANIFEST, &self.manifest(layers, json!({})));
        self.name(manifest.clone(), name);
        manifest
    }

    /// A whole image whose layers are these members.
    pub fn add_layers(&mut self, name: &str, layers: &[Vec<Member>]) -> Value {
        let layers: Vec<Stored> = layers.iter().map(|members| self.layer(members)).collect();
        self.add(name, &layers)
    }
}
