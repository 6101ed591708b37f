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

/// A path below the root without `.` and `..`: a slash before each name, none at the end. There is one of it while
/// paths are made, since the stack counts against the container's memory limit.
struct Clean {
    bytes: [u8; PATH_MAX],
    length: usize,
}

impl Clean {
    /// The root itself.
    const ROOT: Self = Self { bytes: [0; PATH_MAX], length: 0 };

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
        self.length = bytes.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
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

    /// The name whose slash is at `start`, and where it ends; `None` at the end of the path.
    fn name(&self, start: usize) -> core::result::Result<Option<(Name, usize)>, Errno> {
        let rest = self.bytes.get(start..self.length).unwrap_or_default();
        let Some((_slash, rest)) = rest.split_first() else { return Ok(None) };
        let length = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
        let name = Name::new(rest.get(..length).unwrap_or_default())?;
        Ok(Some((name, start + 1 + length)))
    }

    /// Opens the path's beginning, up to `end`.
    fn open(&mut self, root: BorrowedFd<'_>, end: usize) -> core::result::Result<OwnedFd, Errno> {
        let kept = core::mem::take(self.bytes.get_mut(end).ok_or(Errno::NAMETOOLONG)?);
        let beginning = self.bytes.get(..=end).ok_or(Errno::NAMETOOLONG)?;
        let opened = CStr::from_bytes_with_nul(beginning)
            .map_err(|_| Errno::INVAL)
            .and_then(|path| open(root, path, OFlags::PATH));
        if let Some(slot) = self.bytes.get_mut(end) {
            *slot = kept;
        }
        opened
    }

    /// Puts what the link `name` in `parent` says in place of the name from `start` to `end`. On its own, so that its
    /// buffers are on the stack only for the few paths with such links.
    #[inline(never)]
    fn follow(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        start: usize,
        end: usize,
    ) -> core::result::Result<(), Errno> {
        let mut target = [0u8; PATH_MAX];
        let length = readlinkat_raw(parent, name, &mut target)?;
        let target = target.get(..length).filter(|_| length < PATH_MAX).ok_or(Errno::NAMETOOLONG)?;
        let whole = self.bytes;
        let rest = whole.get(end..self.length).unwrap_or_default();
        self.length = if target.starts_with(b"/") { 0 } else { start };
        self.extend(target)?;
        self.extend(rest)
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
    let mut wanted = Clean::ROOT;
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

fn walk(root: BorrowedFd<'_>, path: &mut Clean, kind: Kind) -> Result<Walked> {
    let mut current = open(root, c"/", OFlags::PATH).map_err(Failure::at("openat2"))?;
    let mut start = 0;
    while let Some((name, end)) = path.name(start).map_err(Failure::at("openat2"))? {
        let name = name.as_c_str().map_err(Failure::at("openat2"))?;
        let wanted = if end == path.length { kind } else { Kind::Directory };
        current = match path.open(root, end) {
            Err(Errno::NOENT) => match make_one(current.as_fd(), name, wanted)? {
                Some(made) => made,
                None => {
                    path.follow(current.as_fd(), name, start, end).map_err(Failure::at("readlinkat"))?;
                    return Ok(Walked::Dangling);
                }
            },
            other => other.map_err(Failure::at("openat2"))?,
        };
        start = end;
    }
    Ok(Walked::There(current))
}

/// Makes `name` in `parent` and opens what is there then; `None` for a link.
fn make_one(parent: BorrowedFd<'_>, name: &CStr, kind: Kind) -> Result<Option<OwnedFd>> {
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
