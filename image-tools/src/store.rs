//! Where images are kept: an OCI image layout that other programs read as it is, and beside it
//!
//! - `layers/KEY/fs`: a layer applied, ready to be stacked by overlayfs; `layers/KEY/layer.json` tells of it,
//! - `partial/`: blobs that are still arriving, to be resumed,
//! - `tmp/`: what is being made; whatever nobody works on is swept away by the next command,
//! - `leases/`: who uses which layers,
//! - `locks/`, `lock`: advisory locks (flock(2)), which the kernel drops with their process.
//!
//! Nothing is seen under its name before it is whole and verified. Blobs are hashed again whenever they are read, so they need not be synced;
//! applied layers are, before they get their name.

pub mod arrival;
pub mod gc;
pub mod layers;
pub mod leases;
pub mod lock;

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, renameat, unlinkat};
use rustix::io::Errno;

use self::lock::Lock;
use crate::digest::Digest;
use crate::error::{Context, Error, Kind, Result};
use crate::image::Image;
use crate::layout::{Layout, REF_NAME, blob_path, unique};
use crate::manifest::{Descriptor, Index};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::tree;

/// What `fsck --repair` calls an `index.json` that nobody can read.
const DAMAGED_INDEX: &str = "index.json.damaged";

/// A store, and a shared lock on it: nobody collects garbage meanwhile.
pub struct Store {
    layout: Layout,
    lock: Lock,
}

impl Store {
    /// Opens the store at `path`, and makes it where there is none.
    pub fn open(path: &Path) -> Result<Self> {
        let place = || format!("store {}", path.display());
        std::fs::create_dir_all(path).with_context(place)?;
        let dir = openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .with_context(place)?;
        // The lock comes first: of two that find nothing there, one makes it and the other one waits.
        let lock = Lock::open(dir.as_fd(), "lock").with_context(place)?;
        if lock.try_exclusive()? {
            let store = Self { layout: Self::make(path).with_context(place)?, lock };
            store.sweep().with_context(place)?;
            store.lock.shared().with_context(place)?;
            return Ok(store);
        }
        lock.shared().with_context(place)?;
        Ok(Self { layout: Self::make(path).with_context(place)?, lock })
    }

    fn make(path: &Path) -> Result<Layout> {
        let layout = Layout::create(path)?;
        for dir in ["layers", "partial", "tmp", "leases", "locks"] {
            match mkdirat(layout.dir(), dir, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(e).context(dir),
            }
        }
        Ok(layout)
    }

    /// The layout in which blobs and names are kept.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Where the store is.
    pub fn path(&self) -> &Path {
        self.layout.path()
    }

    /// Removes what a killed command left half made. Nobody else is there: the caller holds the lock.
    fn sweep(&self) -> Result<()> {
        for dir in ["tmp", "locks"] {
            let dir = tree::open_dir(self.layout.dir(), dir)?;
            tree::clear(dir.as_fd(), &tree::Nothing)?;
        }
        for (name, _) in tree::names(tree::open_dir(self.layout.dir(), ".")?)? {
            let kept = name.to_bytes() == DAMAGED_INDEX.as_bytes();
            if !kept && name.to_bytes().starts_with(b"index.json.")
                || name.to_bytes().starts_with(b"oci-layout.")
            {
                unlinkat(self.layout.dir(), &name, AtFlags::empty())?;
            }
        }
        Ok(())
    }

    /// A new directory in `tmp/`, which goes away with its last owner unless it is renamed.
    pub fn temporary(&self) -> Result<Temporary<'_>> {
        let c_name = CString::new(format!("tmp/{}", unique())).expect("hexadecimal digits");
        mkdirat(self.layout.dir(), &c_name, Mode::RWXU).context("tmp")?;
        let dir = tree::open_dir(self.layout.dir(), &c_name)?;
        Ok(Temporary { store: self, name: c_name, dir })
    }

    /// A blob of the right size. Its bytes are checked by whoever reads them.
    pub fn blob(&self, descriptor: &Descriptor) -> Result<Option<File>> {
        let Some(file) = self.layout.blob(&descriptor.digest)? else { return Ok(None) };
        if file.metadata()?.len() == descriptor.size {
            return Ok(Some(file));
        }
        self.damaged(&descriptor.digest)?;
        Ok(None)
    }

    /// Takes a blob away whose bytes are not what its name says, so that it is fetched again.
    pub fn damaged(&self, digest: &Digest) -> Result<()> {
        match unlinkat(self.layout.dir(), blob_path(digest), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(e).with_context(|| format!("damaged blob {digest}")),
        }
    }

    /// Keeps a document that was made here, and that nobody else has: it is on the disk then.
    pub fn put(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor> {
        let descriptor = Descriptor::of(media_type, bytes);
        self.keep_bytes(&descriptor.digest, bytes, true)?;
        Ok(descriptor)
    }

    /// Keeps a document that has this digest and came from elsewhere.
    pub fn keep(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        self.keep_bytes(digest, bytes, false)
    }

    fn keep_bytes(&self, digest: &Digest, bytes: &[u8], durable: bool) -> Result<()> {
        // One that came may be there unsynced: what is made is written again.
        if let (false, Some(file)) = (durable, self.layout.blob(digest)?) {
            let mut there = Vec::with_capacity(bytes.len());
            file.take(bytes.len() as u64 + 1).read_to_end(&mut there).context(digest)?;
            if there == bytes {
                return Ok(());
            }
        }
        self.make_blob_dir(digest)?;
        let name = format!("tmp/{}", unique());
        match durable {
            true => self.layout.write(&name, bytes)?,
            false => self.layout.write_unsynced(&name, bytes)?,
        }
        renameat(self.layout.dir(), &name, self.layout.dir(), blob_path(digest)).context(digest)?;
        match durable {
            true => self.layout.sync_folder(&format!("blobs/{}", digest.algorithm().name())),
            false => Ok(()),
        }
    }

    fn make_blob_dir(&self, digest: &Digest) -> Result<()> {
        match mkdirat(
            self.layout.dir(),
            format!("blobs/{}", digest.algorithm().name()),
            Mode::from_raw_mode(0o755),
        ) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(e) => Err(e).context("blobs"),
        }
    }

    /// Gives an image a name; what had it before stays without.
    pub fn name(&self, name: &str, descriptor: &Descriptor) -> Result<()> {
        self.change_names(|manifests| {
            manifests.retain(|d| d.annotation(REF_NAME) != Some(name));
            manifests.push(descriptor.clone().annotate(REF_NAME, name));
            Ok(())
        })
    }

    /// Edits `index.json` while nobody else does.
    pub fn change_names<T>(&self, change: impl FnOnce(&mut Vec<Descriptor>) -> Result<T>) -> Result<T> {
        let lock = Lock::open(self.layout.dir(), "locks/index")?;
        lock.exclusive()?;
        let mut index = self.index()?;
        let result = change(&mut index.manifests)?;
        self.layout.set_index(&index)?;
        Ok(result)
    }

    /// The names, and what they lead to.
    pub fn index(&self) -> Result<Index> {
        match self.layout.index() {
            Err(e) if e.kind() == Kind::Invalid => {
                let text = format!("{e}; fsck --repair keeps a copy and starts an empty one");
                Err(Error::invalid(text))
            }
            index => index,
        }
    }

    /// What a person's word for an image leads to: a name as it stands in `index.json`, a reference, or the begin of a digest or an ID.
    pub fn find(&self, word: &str) -> Result<Descriptor> {
        let index = self.index()?;
        let named = |name: &str| index.manifests.iter().find(|d| d.annotation(REF_NAME) == Some(name));
        if let Some(found) = named(word) {
            return Ok(found.clone());
        }
        if let Ok(reference) = Reference::parse(word)
            && let Some(found) = named(&reference.to_string())
        {
            return Ok(found.clone());
        }
        let hex = word.strip_prefix("sha256:").unwrap_or(word);
        if hex.len() < 4 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Error::not_found(format!("no image {word:?} in {}", self.path().display())));
        }
        let mut found: Vec<&Descriptor> = Vec::new();
        for descriptor in &index.manifests {
            let is = descriptor.digest.hex().starts_with(hex)
                || self.id(descriptor).is_some_and(|id| id.hex().starts_with(hex));
            if is && !found.iter().any(|had| had.digest == descriptor.digest) {
                found.push(descriptor);
            }
        }
        match found[..] {
            [] => Err(Error::not_found(format!("no image {word:?} in {}", self.path().display()))),
            [one] => Ok(one.clone()),
            _ => Err(Error::new(
                Kind::Usage,
                format!("{word:?} begins {} images: give more of it", found.len()),
            )),
        }
    }

    fn id(&self, descriptor: &Descriptor) -> Option<Digest> {
        Some(Image::read(&self.layout, descriptor, &Platform::here()).ok()?.id().clone())
    }

    /// Everything of the store's file system that was written is on its disk.
    pub fn sync(&self) -> Result<()> {
        rustix::fs::syncfs(self.layout.dir()).context("sync the store")
    }
}

/// A directory in `tmp/`; see [`Store::temporary`].
pub struct Temporary<'a> {
    store: &'a Store,
    name: CString,
    dir: OwnedFd,
}

impl Temporary<'_> {
    /// The directory.
    pub fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    /// Makes a directory in it and opens it: a tree's root as it is without an entry in any layer, 0755 and of 1970.
    pub fn make(&self, name: &str) -> Result<OwnedFd> {
        tree::make_root(&self.dir, name).with_context(|| name.to_owned())
    }

    /// Opens a directory in it.
    pub fn open(&self, name: &str) -> Result<OwnedFd> {
        tree::open_dir(&self.dir, name).with_context(|| name.to_owned())
    }

    /// Removes a directory in it.
    pub fn remove(&self, name: &str) -> Result<()> {
        tree::remove(&self.dir, &CString::new(name).map_err(|_| Error::other("a name with a NUL"))?)
    }

    /// Makes a file in it.
    pub fn file(&self, name: &str) -> Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(openat(&self.dir, name, flags, Mode::from_raw_mode(0o644))?))
    }

    /// Gives it its name in the store. False: somebody else's is there already.
    pub fn publish(self, name: &str) -> Result<bool> {
        let root = self.store.layout.dir();
        match rustix::fs::renameat_with(root, &self.name, root, name, rustix::fs::RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST | Errno::NOTEMPTY) => Ok(false),
            Err(e) => Err(e).with_context(|| name.to_owned()),
        }
    }

    /// Moves a file of it to a place in the store, over what is there.
    pub fn publish_file(&self, file: &str, name: &str) -> Result<()> {
        renameat(&self.dir, file, self.store.layout.dir(), name).with_context(|| name.to_owned())
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        // Published ones are gone; what fails to go is swept by the next command.
        drop(tree::remove(self.store.layout.dir(), &self.name));
    }
}
