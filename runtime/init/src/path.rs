//! Container paths are hostile: each is resolved below the rootfs by openat2(2) with RESOLVE_IN_ROOT, once, and the
//! descriptor is used from there on. Nothing here ever hands a path through the rootfs to another call; what is made
//! is made by its last name, in the directory that was resolved for it.

use crate::Init;
use crate::failure::{Failure, Result};
use core::ffi::CStr;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2, readlinkat_raw};
use rustix::io::Errno;

/// How often a lookup that raced with a rename is tried again.
const ATTEMPTS: usize = 128;
const PATH_MAX: usize = 4096;
/// How many links to nothing are followed, as many as the kernel follows at all.
const LINKS: usize = 40;

/// What stands at the end of a path that has to be made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory, mode 0755.
    Directory,
    /// An empty file, mode 0755 as runc makes them (to be bound over).
    File,
}

/// Opens `path` below `root` with `flags`; links stay inside the root, magic links are refused.
pub fn open(root: BorrowedFd<'_>, path: &CStr, flags: OFlags) -> core::result::Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut outcome = Err(Errno::AGAIN);
    for _ in 0..ATTEMPTS {
        outcome = openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve);
        if !matches!(outcome, Err(Errno::AGAIN | Errno::INTR)) {
            break;
        }
    }
    outcome
}

/// A path below the root, or its beginning, as a C string without `.` and `..`.
#[derive(Clone, Copy)]
struct Prefix {
    bytes: [u8; PATH_MAX],
    length: usize,
}

impl Prefix {
    fn new() -> Self {
        Self { bytes: [0; PATH_MAX], length: 0 }
    }

    fn names(&self) -> impl Iterator<Item = &[u8]> {
        let bytes = self.bytes.get(..self.length).unwrap_or_default();
        bytes.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
    }

    /// Goes on from here along `path`; `..` climbs, but not above the root.
    fn extend(&mut self, path: &[u8]) -> core::result::Result<(), Errno> {
        for name in path.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => self.pop(),
                name => self.push(name)?,
            }
        }
        Ok(())
    }

    fn pop(&mut self) {
        let bytes = self.bytes.get(..self.length).unwrap_or_default();
        let end = bytes.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        if let Some(dropped) = self.bytes.get_mut(end..self.length) {
            dropped.fill(0);
        }
        self.length = end;
    }

    /// Goes on from here to where the link `name` in `parent` points.
    fn follow(&mut self, parent: BorrowedFd<'_>, name: &[u8]) -> core::result::Result<(), Errno> {
        let name = Name::new(name)?;
        let mut target = [0u8; PATH_MAX];
        let length = readlinkat_raw(parent, name.as_c_str()?, &mut target)?;
        let target = target.get(..length).filter(|_| length < PATH_MAX).ok_or(Errno::NAMETOOLONG)?;
        if target.starts_with(b"/") {
            *self = Self::new();
        }
        self.extend(target)
    }

    /// Appends `/name`.
    fn push(&mut self, name: &[u8]) -> core::result::Result<(), Errno> {
        let end = self.length + 1 + name.len();
        let slot = self.bytes.get_mut(self.length..end).ok_or(Errno::NAMETOOLONG)?;
        let (slash, rest) = slot.split_first_mut().ok_or(Errno::NAMETOOLONG)?;
        *slash = b'/';
        rest.copy_from_slice(name);
        self.length = end;
        Ok(())
    }

    fn as_c_str(&self) -> core::result::Result<&CStr, Errno> {
        let with_nul = self.bytes.get(..=self.length).ok_or(Errno::NAMETOOLONG)?;
        CStr::from_bytes_with_nul(with_nul).map_err(|_| Errno::INVAL)
    }
}

/// A single name as a C string.
pub struct Name {
    bytes: [u8; 256],
    length: usize,
}

impl Name {
    /// Copies `name`.
    pub fn new(name: &[u8]) -> core::result::Result<Self, Errno> {
        let mut bytes = [0; 256];
        bytes
            .get_mut(..name.len())
            .filter(|_| name.len() < 256)
            .ok_or(Errno::NAMETOOLONG)?
            .copy_from_slice(name);
        Ok(Self { bytes, length: name.len() })
    }

    /// The name.
    pub fn as_c_str(&self) -> core::result::Result<&CStr, Errno> {
        let with_nul = self.bytes.get(..=self.length).ok_or(Errno::NAMETOOLONG)?;
        CStr::from_bytes_with_nul(with_nul).map_err(|_| Errno::INVAL)
    }
}

/// Opens `path` below `root` as O_PATH, making what is missing of it.
pub fn open_or_make(root: BorrowedFd<'_>, path: &CStr, kind: Kind) -> Result<OwnedFd> {
    match open(root, path, OFlags::PATH) {
        Err(Errno::NOENT) => make(root, path, kind),
        other => other.map_err(Failure::at("openat2")),
    }
}

/// Walks down, making what is missing. A link to something that is not there yet is followed inside the root, and its
/// target made: images have such links, and runc makes these targets.
fn make(root: BorrowedFd<'_>, path: &CStr, kind: Kind) -> Result<OwnedFd> {
    let mut wanted = Prefix::new();
    wanted.extend(path.to_bytes()).map_err(Failure::at("openat2"))?;
    for _ in 0..LINKS {
        match walk(root, &mut wanted, kind)? {
            Walked::There(fd) => return Ok(fd),
            Walked::Dangling => {}
        }
    }
    Err(Failure::new("openat2", Errno::LOOP))
}

/// How a walk ended.
enum Walked {
    There(OwnedFd),
    /// At a link to nothing: the path is rewritten to what it points to.
    Dangling,
}

fn walk(root: BorrowedFd<'_>, path: &mut Prefix, kind: Kind) -> Result<Walked> {
    let mut prefix = Prefix::new();
    let mut current = open(root, c"/", OFlags::PATH).map_err(Failure::at("openat2"))?;
    let whole = *path;
    let mut names = whole.names().peekable();
    while let Some(name) = names.next() {
        let above = prefix;
        prefix.push(name).map_err(Failure::at("openat2"))?;
        let wanted = if names.peek().is_some() { Kind::Directory } else { kind };
        current = match open(root, prefix.as_c_str().map_err(Failure::at("openat2"))?, OFlags::PATH) {
            Err(Errno::NOENT) => match make_one(current.as_fd(), name, wanted)? {
                Some(made) => made,
                None => {
                    *path = above;
                    path.follow(current.as_fd(), name).map_err(Failure::at("readlinkat"))?;
                    for rest in names {
                        path.push(rest).map_err(Failure::at("openat2"))?;
                    }
                    return Ok(Walked::Dangling);
                }
            },
            other => other.map_err(Failure::at("openat2"))?,
        };
    }
    Ok(Walked::There(current))
}

/// Makes `name` in `parent` and opens what is there then; `None` for a link.
fn make_one(parent: BorrowedFd<'_>, name: &[u8], kind: Kind) -> Result<Option<OwnedFd>> {
    let name = Name::new(name).map_err(Failure::at("mkdirat"))?;
    let name = name.as_c_str().map_err(Failure::at("mkdirat"))?;
    let mode = Mode::from_raw_mode(0o755);
    let made = match kind {
        Kind::Directory => mkdirat(parent, name, mode).map_err(Failure::at("mkdirat")),
        Kind::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
            openat(parent, name, flags, mode).map(drop).map_err(Failure::at("openat"))
        }
    };
    match made {
        // Somebody else made it in the meantime: use it, if it is what we want.
        Err(Failure { errno: Errno::EXIST, .. }) | Ok(()) => {}
        Err(other) => return Err(other),
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let there =
        openat2(parent, name, flags, Mode::empty(), ResolveFlags::BENEATH).map_err(Failure::at("openat2"))?;
    let mode = fstat(&there).map_err(Failure::at("fstat"))?.st_mode;
    match FileType::from_raw_mode(mode) {
        FileType::Symlink => Ok(None),
        found if kind == Kind::Directory && !found.is_dir() => Err(Failure::new("openat2", Errno::NOTDIR)),
        _ => Ok(Some(there)),
    }
}

impl Init<'_> {
    /// The rootfs.
    pub(crate) fn root_fd(&self) -> Result<BorrowedFd<'_>> {
        self.root.as_ref().map(AsFd::as_fd).ok_or(Failure::new("no rootfs yet", Errno::INVAL))
    }
}
