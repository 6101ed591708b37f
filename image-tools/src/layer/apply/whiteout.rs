//! What a layer takes away: `.wh.NAME` hides a name of the layers below, `.wh..wh..opq` all that they have in a directory, wherever in
//! the archive they stand; what the layer itself brings is never hidden (layer.md, "Whiteouts"). In a flat tree hidden things are removed;
//! for overlayfs a whiteout is a character device 0:0, and an opaque directory has an attribute.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{
    AtFlags, FileType, Mode, ResolveFlags, XattrFlags, fgetxattr, fsetxattr, mknodat, statat, unlinkat,
};
use rustix::io::Errno;

use super::directories::{Dir, child, dot, resolve};
use super::{c_string, split};
use crate::error::{Context, Error, Result};
use crate::layer::read::show;
use crate::tree::{self, Keep};

/// overlayfs's mark of an opaque directory; in a user namespace the one that is allowed there.
fn opaque() -> &'static [u8] {
    if crate::rootless::is_in_user_namespace() { b"user.overlay.opaque" } else { b"trusted.overlay.opaque" }
}

/// What a name says that begins with `.wh.`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// The directory hides everything below.
    Opaque,
    /// This name is hidden.
    Hide(Vec<u8>),
    /// aufs's own; nothing to do with the tree.
    Other,
}

impl Mark {
    /// None for an ordinary name.
    pub fn read(name: &[u8]) -> Result<Option<Self>> {
        let Some(hidden) = name.strip_prefix(b".wh.") else { return Ok(None) };
        match hidden {
            b".wh..opq" => Ok(Some(Self::Opaque)),
            b"" | b"." | b".." => Err(Error::invalid("a whiteout of no name")),
            name if name.starts_with(b".wh.") => Ok(Some(Self::Other)),
            name => Ok(Some(Self::Hide(name.to_vec()))),
        }
    }
}

/// Where aufs kept files with several names; the names are hard links to what is in it.
const PSEUDO_LINKS: &[u8] = b".wh..wh.plnk";
/// The same.
pub(super) const PSEUDO_LINKS_C: &std::ffi::CStr = c".wh..wh.plnk";

/// In what kind of directory a member lies, as far as names tell it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Below {
    /// One of the tree.
    Ordinary,
    /// aufs's folder of targets of hard links.
    PseudoLinks,
    /// Something else of aufs.
    Other,
}

impl Below {
    /// An error below a whiteout: nobody could write that tree back as a layer.
    pub fn read(parent: &[u8]) -> Result<Self> {
        if parent == PSEUDO_LINKS {
            return Ok(Self::PseudoLinks);
        }
        let mut marks = parent.split(|b| *b == b'/').filter(|part| part.starts_with(b".wh."));
        match marks.next() {
            None => Ok(Self::Ordinary),
            Some(mark) if mark.starts_with(b".wh..wh.") => Ok(Self::Other),
            Some(mark) => Err(Error::invalid(format!("below the whiteout {}", show(mark)))),
        }
    }
}

/// What this layer brought, so that its own whiteouts leave it alone: a hash of each entry's directory and name. The hash's key is
/// random, so nobody can make two entries meet.
#[derive(Default)]
pub(super) struct Touched {
    entries: HashSet<u64>,
    /// What was hidden before: nothing of below came back since.
    done: HashSet<u64>,
    state: RandomState,
}

impl Touched {
    pub fn add(&mut self, dir: u64, name: &[u8]) {
        self.entries.insert(self.state.hash_one((dir, name)));
    }

    /// Flat: removes what is below `name` and not of this layer. True if something may have gone.
    pub fn hide(&mut self, dir: &Dir, name: &[u8]) -> Result<bool> {
        if !self.done.insert(self.state.hash_one((dir.ino, name))) {
            return Ok(false);
        }
        tree::prune(dir.fd.as_fd(), dir.ino, &c_string(name)?, self)?;
        Ok(true)
    }

    /// Flat: the same for all that the directory holds.
    pub fn opaque(&mut self, dir: &Dir) -> Result<bool> {
        // No name is empty, so this is nobody else's hash.
        if !self.done.insert(self.state.hash_one((dir.ino, b"".as_slice()))) {
            return Ok(false);
        }
        tree::clear(dir.fd.as_fd(), self)?;
        Ok(true)
    }
}

impl Keep for Touched {
    fn keeps(&self, dir: u64, name: &[u8]) -> bool {
        self.entries.contains(&self.state.hash_one((dir, name)))
    }
}

/// Overlay: hides `name`. True where a whiteout was made for it.
pub(super) fn hide(dir: &Dir, name: &[u8], touched: &Touched) -> Result<bool> {
    let c_name = c_string(name)?;
    if !touched.keeps(dir.ino, name) {
        return match mknodat(&dir.fd, &c_name, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(e) => Err(e).context("whiteout"),
        };
    }
    // The layer's own file hides what is below by itself; its directory has to be told.
    match tree::open_dir(&dir.fd, &c_name) {
        Ok(own) => make_opaque(&Dir::new(own)?)?,
        Err(Errno::NOTDIR | Errno::LOOP) => false,
        Err(e) => return Err(e.into()),
    };
    Ok(false)
}

/// Overlay: hides all that is below this directory. False: nothing went away.
pub(super) fn make_opaque(dir: &Dir) -> Result<bool> {
    if is_opaque(dir.fd.as_fd())? {
        return Ok(false);
    }
    fsetxattr(&dir.fd, opaque(), b"y", XattrFlags::empty()).context("opaque directory")?;
    Ok(false)
}

fn is_opaque(dir: BorrowedFd<'_>) -> Result<bool> {
    let mut value = [0; 1];
    match fgetxattr(dir, opaque(), &mut value) {
        Ok(n) => Ok(value[..n] == *b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// See [`super::settle`]. A directory is merged where it and all above it are in the layers below, too, and none is opaque.
pub(super) fn settle(
    root: BorrowedFd<'_>,
    whiteouts: &[Vec<u8>],
    below: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let mut merged: HashMap<Vec<u8>, bool> = HashMap::new();
    for path in whiteouts {
        let (parent, name) = split(path).expect("a whiteout has a name");
        if is_merged(root, parent, below, &mut merged).with_context(|| show(parent))? {
            continue;
        }
        let dir = match resolve(root, dot(parent), ResolveFlags::NO_SYMLINKS) {
            Ok(dir) => dir,
            // Replaced by the layer itself, later.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            Err(e) => return Err(e.into()),
        };
        let name = c_string(name)?;
        match statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat)
                if stat.st_rdev == 0
                    && FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice =>
            {
                let before = rustix::fs::fstat(&dir)?;
                unlinkat(&dir, &name, AtFlags::empty())?;
                let mtime = crate::layer::member::Time {
                    seconds: before.st_mtime,
                    nanoseconds: before.st_mtime_nsec as u32,
                };
                rustix::fs::futimens(&dir, &super::metadata::timestamps(mtime))?;
            }
            Ok(_) | Err(Errno::NOENT) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

fn is_merged(
    root: BorrowedFd<'_>,
    path: &[u8],
    below: Option<BorrowedFd<'_>>,
    known: &mut HashMap<Vec<u8>, bool>,
) -> Result<bool> {
    let Some(below) = below else { return Ok(false) };
    let mut merged = true;
    let mut here: Vec<u8> = Vec::new();
    let parts = path.split(|b| *b == b'/').filter(|p| !p.is_empty());
    for part in std::iter::once(&b""[..]).chain(parts) {
        here = if part.is_empty() { here } else { child(&here, part) };
        merged = match known.get(&here) {
            Some(known) => *known,
            None => {
                let there = |tree| match resolve(tree, dot(&here), ResolveFlags::NO_SYMLINKS) {
                    Ok(dir) => Ok(Some(dir)),
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
                    Err(e) => Err(Error::from(e)),
                };
                let own = there(root)?;
                let opaque = own.as_ref().map_or(Ok(true), |dir| is_opaque(dir.as_fd()))?;
                let verdict = merged && !opaque && there(below)?.is_some();
                known.insert(here.clone(), verdict);
                verdict
            }
        };
    }
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_a_mark_are_read() {
        for (name, expect) in [
            ("file", None),
            ("wh.x", None),
            (".wh.x", Some(Mark::Hide(b"x".to_vec()))),
            (".wh..x", Some(Mark::Hide(b".x".to_vec()))),
            (".wh..wh..opq", Some(Mark::Opaque)),
            (".wh..wh.plnk", Some(Mark::Other)),
            (".wh..wh.aufs", Some(Mark::Other)),
        ] {
            assert_eq!(Mark::read(name.as_bytes()).unwrap(), expect, "{name}");
        }
        for wrong in [".wh.", ".wh..", ".wh..."] {
            assert!(Mark::read(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
