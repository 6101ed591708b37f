//! An OCI image layout on a disk (image-layout.md): `oci-layout`, `index.json` and `blobs/ALGORITHM/HEX`. Ours or somebody else's: every file
//! is a regular one and every document matches its descriptor, or it is an error.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, fsync, mkdirat, openat, renameat, unlinkat};
use rustix::io::Errno;

use crate::digest::Digest;
use crate::error::{Context, Error, Result};
use crate::manifest::{Descriptor, Index, json, to_json};

/// The annotation that names an entry of `index.json`.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The largest `index.json`, in bytes: a store has thousands of names.
const LARGEST_INDEX: u64 = 64 << 20;

/// A layout's folder.
pub struct Layout {
    dir: OwnedFd,
    path: PathBuf,
}

impl Layout {
    /// Opens a layout that is there.
    pub fn open(path: &Path) -> Result<Self> {
        let place = || path.display().to_string();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, path, flags, Mode::empty()).with_context(place)?;
        let layout = Self { dir, path: path.to_owned() };
        let version = layout.small("oci-layout", 4096).with_context(place)?;
        let Some(version) = version else {
            return Err(Error::invalid("no OCI image layout: there is no file oci-layout"))
                .with_context(place);
        };
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Version {
            image_layout_version: String,
        }
        let version: Version = json(&version).context("oci-layout").with_context(place)?;
        if !version.image_layout_version.starts_with("1.") {
            let version = version.image_layout_version;
            return Err(Error::unsupported(format!("version {version:?} of the image layout")))
                .with_context(place);
        }
        Ok(layout)
    }

    /// Opens a layout, or makes an empty one.
    pub fn create(path: &Path) -> Result<Self> {
        let place = || path.display().to_string();
        std::fs::create_dir_all(path).with_context(place)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, path, flags, Mode::empty()).with_context(place)?;
        let layout = Self { dir, path: path.to_owned() };
        for dir in ["blobs", "blobs/sha256"] {
            match mkdirat(&layout.dir, dir, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(e).with_context(place),
            }
        }
        if layout.small("index.json", LARGEST_INDEX).with_context(place)?.is_none() {
            layout.write("index.json", &to_json(&Index::of(Vec::new())))?;
        }
        if layout.small("oci-layout", 4096).with_context(place)?.is_none() {
            layout.write("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        Ok(layout)
    }

    /// The folder.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Where the folder is, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `index.json`: the names, and what they lead to.
    pub fn index(&self) -> Result<Index> {
        let place = || self.path.join("index.json").display().to_string();
        match self.small("index.json", LARGEST_INDEX).with_context(place)? {
            Some(text) => json(&text).with_context(place),
            None => Err(Error::invalid("not there")).with_context(place),
        }
    }

    /// Replaces `index.json`. The caller holds a lock where others may do the same.
    pub fn set_index(&self, index: &Index) -> Result<()> {
        self.write("index.json", &to_json(index))
    }

    /// The one entry of this name, or, without a name, the only entry.
    pub fn find(&self, name: Option<&str>) -> Result<Descriptor> {
        let index = self.index()?;
        let named = |d: &&Descriptor| name.is_none() || d.annotation(REF_NAME) == name;
        let mut found = index.manifests.iter().filter(named);
        let place = self.path.display();
        match (found.next(), found.next(), name) {
            (Some(one), None, _) => Ok(one.clone()),
            (None, _, Some(name)) => {
                Err(Error::not_found(format!("{place}: no image {name:?}{}", names(&index))))
            }
            (None, _, None) => Err(Error::not_found(format!("{place}: no image"))),
            (Some(_), Some(_), Some(name)) => {
                Err(Error::invalid(format!("{place}: {name:?} is there twice")))
            }
            (Some(_), Some(_), None) => {
                Err(Error::not_found(format!("{place}: which image{}", names(&index))))
            }
        }
    }

    /// A blob's file; none where there is none.
    pub fn blob(&self, digest: &Digest) -> Result<Option<File>> {
        self.regular(&blob_path(digest)).with_context(|| digest.to_string())
    }

    /// A small blob: a document.
    pub fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let digest = &descriptor.digest;
        let limit = crate::manifest::LARGEST;
        if descriptor.size > limit {
            return Err(Error::invalid(format!(
                "{digest}: {} bytes, a document has at most {limit}",
                descriptor.size
            )));
        }
        let Some(file) = self.blob(digest)? else {
            return Err(Error::not_found(format!("{}: blob {digest} is missing", self.path.display())));
        };
        let mut bytes = Vec::with_capacity(descriptor.size as usize);
        file.take(limit + 1).read_to_end(&mut bytes).with_context(|| digest.to_string())?;
        descriptor.check(&bytes)?;
        Ok(bytes)
    }

    /// Writes a small file through a temporary one, so that nobody sees half of it, not even after a power failure.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.write_file(name, bytes, true)
    }

    /// The same for a file that may be torn by a power failure: whoever reads it notices.
    pub fn write_unsynced(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.write_file(name, bytes, false)
    }

    /// A folder of the layout is on the disk, with the names in it.
    pub fn sync_folder(&self, name: &str) -> Result<()> {
        let dir = crate::tree::open_dir(&self.dir, name).with_context(|| name.to_owned())?;
        fsync(dir).with_context(|| name.to_owned())
    }

    fn write_file(&self, name: &str, bytes: &[u8], durable: bool) -> Result<()> {
        let place = || self.path.join(name).display().to_string();
        let temporary = format!("{name}.{}", unique());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o644);
        let mut file = File::from(openat(&self.dir, &temporary, flags, mode).with_context(place)?);
        let written = std::io::Write::write_all(&mut file, bytes)
            .and_then(|()| if durable { file.sync_data() } else { Ok(()) })
            .map_err(Error::from)
            .and_then(|()| Ok(renameat(&self.dir, &temporary, &self.dir, name)?));
        if written.is_err() {
            // The first error is the one that counts.
            unlinkat(&self.dir, &temporary, AtFlags::empty()).unwrap_or(());
        }
        written.with_context(place)?;
        let folder = name.rsplit_once('/').map_or(".", |(folder, _)| folder);
        if durable { self.sync_folder(folder) } else { Ok(()) }
    }

    /// A file's bytes; none where there is none.
    pub fn small(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.regular(name).context(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes).context(name)?;
        if bytes.len() as u64 > limit {
            return Err(Error::invalid(format!("{name}: more than {limit} bytes")));
        }
        Ok(Some(bytes))
    }

    fn regular(&self, name: &str) -> Result<Option<File>> {
        // Without NONBLOCK a pipe of that name would hold us for ever.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = match openat(&self.dir, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        if FileType::from_raw_mode(fstat(&fd)?.st_mode) != FileType::RegularFile {
            return Err(Error::invalid("not a regular file"));
        }
        Ok(Some(File::from(fd)))
    }
}

/// A name that nobody else has: processes of several pid namespaces may share a store.
pub fn unique() -> String {
    let mut bytes = [0; 8];
    // It fails before the machine's first entropy only; zeros are a name too, and made exclusively.
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).unwrap_or(0);
    format!("{:016x}", u64::from_ne_bytes(bytes))
}

/// `blobs/sha256/…`
pub fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

fn names(index: &Index) -> String {
    let names: Vec<&str> = index.manifests.iter().filter_map(|d| d.annotation(REF_NAME)).collect();
    match names.len() {
        0 => String::new(),
        n if n <= 10 => format!("; there is {}", names.join(", ")),
        n => format!("; there are {n} others"),
    }
}
