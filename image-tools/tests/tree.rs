//! A folder as text that can be compared: one entry per name, with all that a layer can say about it. The walk opens
//! folder by folder and never follows a link. See openat(2), xattr(7).

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Stat, lgetxattr, llistxattr, openat, readlinkat, statat,
};
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

/// Everything about one name: `mode`, `uid`, `mtime`, `xattr:user.x` and so on, and their values as text.
pub type Entry = BTreeMap<String, String>;

/// Entries by path, relative to the root, which is `.`. Bytes that are not printable ASCII are escaped.
pub type Tree = BTreeMap<String, Entry>;

/// What overlay and the host's policy put there; no image says it.
const NOT_OF_THE_IMAGE: [&str; 3] = ["trusted.overlay.", "user.overlay.", "security.selinux"];

/// Reads the whole tree below `root`, with digests of the contents.
///
/// # Errors
/// Those of the filesystem, with the path.
pub fn walk(root: &Path) -> io::Result<Tree> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = openat(rustix::fs::CWD, root, flags, Mode::empty())
        .map_err(|error| io::Error::other(format!("{}: {error}", root.display())))?;
    let mut walk = Walk::default();
    walk.entry(&folder, b".", ".".to_owned())?;
    walk.folder(folder, "")?;
    Ok(walk.finish())
}

/// What differs, one line per field: `path: field: in the first, in the second`.
pub fn diff(first: &Tree, second: &Tree) -> Vec<String> {
    let none = Entry::new();
    let mut lines = Vec::new();
    for path in union(first, second) {
        match (first.get(path), second.get(path)) {
            (Some(_), None) => lines.push(format!("{path}: only in the first")),
            (None, Some(_)) => lines.push(format!("{path}: only in the second")),
            (one, other) => fields(path, one.unwrap_or(&none), other.unwrap_or(&none), &mut lines),
        }
    }
    lines
}

fn fields(path: &str, first: &Entry, second: &Entry, lines: &mut Vec<String>) {
    for field in union(first, second) {
        let (one, other) = (first.get(field), second.get(field));
        if one != other {
            let [one, other] = [one, other].map(|value| value.map_or("none", String::as_str));
            lines.push(format!("{path}: {field}: {one}, {other}"));
        }
    }
}

fn union<'a, V>(first: &'a BTreeMap<String, V>, second: &'a BTreeMap<String, V>) -> Vec<&'a String> {
    let more = second.keys().filter(|key| !first.contains_key(*key));
    let mut keys: Vec<&String> = first.keys().chain(more).collect();
    keys.sort();
    keys
}

#[derive(Default)]
struct Walk {
    tree: Tree,
    /// Paths of files with more than one name, by device and inode.
    links: HashMap<(u64, u64), Vec<String>>,
}

impl Walk {
    fn folder(&mut self, folder: OwnedFd, path: &str) -> io::Result<()> {
        for name in names(&folder).map_err(|error| at(path, error))? {
            let below = format!("{path}{}", printable(&name));
            if self.entry(&folder, &name, below.clone())? == FileType::Directory {
                let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let next = openat(&folder, &name, flags, Mode::empty()).map_err(|error| at(&below, error))?;
                self.folder(next, &format!("{below}/"))?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, folder: &OwnedFd, name: &[u8], path: String) -> io::Result<FileType> {
        let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|error| at(&path, error))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let mut entry = metadata(&stat, kind);
        match kind {
            FileType::RegularFile => {
                entry.insert("size".into(), stat.st_size.to_string());
                let sum = content(folder, name).map_err(|error| at(&path, error))?;
                entry.insert("sha256".into(), sum);
            }
            FileType::Symlink => {
                let target = readlinkat(folder, name, Vec::new()).map_err(|error| at(&path, error))?;
                entry.insert("target".into(), printable(target.as_bytes()));
            }
            _ => {}
        }
        xattrs(folder, name, &mut entry).map_err(|error| at(&path, error))?;
        if kind != FileType::Directory && stat.st_nlink > 1 {
            self.links.entry((stat.st_dev, stat.st_ino)).or_default().push(path.clone());
        }
        self.tree.insert(path, entry);
        Ok(kind)
    }

    /// Names that share a file all tell the first of them.
    fn finish(mut self) -> Tree {
        for mut names in self.links.into_values().filter(|names| names.len() > 1) {
            names.sort();
            let first = names[0].clone();
            for name in names {
                self.tree.entry(name).or_default().insert("links".into(), first.clone());
            }
        }
        self.tree
    }
}

fn metadata(stat: &Stat, kind: FileType) -> Entry {
    let name = match kind {
        FileType::RegularFile => "file",
        FileType::Directory => "directory",
        FileType::Symlink => "symlink",
        FileType::Fifo => "fifo",
        FileType::CharacterDevice => "character-device",
        FileType::BlockDevice => "block-device",
        _ => "socket",
    };
    let mut entry = Entry::from([
        ("type".to_owned(), name.to_owned()),
        ("uid".to_owned(), stat.st_uid.to_string()),
        ("gid".to_owned(), stat.st_gid.to_string()),
        ("mtime".to_owned(), format!("{}.{:09}", stat.st_mtime, stat.st_mtime_nsec)),
    ]);
    // The kernel gives every symbolic link the same mode.
    if kind != FileType::Symlink {
        entry.insert("mode".into(), format!("{:04o}", stat.st_mode & 0o7777));
    }
    if matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) {
        let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        entry.insert("rdev".into(), format!("{major}:{minor}"));
    }
    entry
}

/// Sorted, so that the first name of a file with many is always the same.
fn names(folder: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn content(folder: &OwnedFd, name: &[u8]) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = File::from(openat(folder, name, flags, Mode::empty())?);
    let mut buffer = vec![0; 1 << 17];
    let mut sum = Sha256::new();
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&sum.finalize())),
            count => sum.update(&buffer[..count]),
        }
    }
}

/// There is no lgetxattrat before Linux 6.13: the folder goes in by /proc, and the name is not followed.
fn xattrs(folder: &OwnedFd, name: &[u8], entry: &mut Entry) -> io::Result<()> {
    let mut path = format!("/proc/self/fd/{}/", folder.as_fd().as_raw_fd()).into_bytes();
    path.extend(name);
    let mut list = vec![0; 1 << 16];
    let count = match llistxattr(&path, &mut list) {
        Err(Errno::OPNOTSUPP) => 0,
        other => other?,
    };
    for key in list[..count].split(|byte| *byte == 0).filter(|key| !key.is_empty()) {
        let words = String::from_utf8_lossy(key);
        // An escaped name of overlay is one of the image's.
        let own = words.starts_with("trusted.overlay.overlay.");
        if own || !NOT_OF_THE_IMAGE.iter().any(|prefix| words.starts_with(prefix)) {
            let mut value = vec![0; 1 << 16];
            let size = lgetxattr(&path, key, &mut value)?;
            entry.insert(format!("xattr:{words}"), hex(&value[..size]));
        }
    }
    Ok(())
}

fn at(path: &str, error: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("{path}: {error}"))
}

fn printable(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string().replace(' ', "\\x20")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String can't fail.
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
}
