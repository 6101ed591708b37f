//! The directories of a tree while a layer is applied: a few stay open, since members come a directory at a time. Every file made in a
//! directory changes its time, so the time is set when the directory is closed; nothing is remembered of those that are not open.

use std::cell::Cell;
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, ResolveFlags, Uid, chownat, fgetxattr, fstat, futimens, mkdirat, openat2,
};
use rustix::io::Errno;

use super::{c_string, join, metadata, split};
use crate::error::{Context, Error, Result};
use crate::layer::ids::Ids;
use crate::layer::member::Time;
use crate::layer::read::show;

/// How many stay open.
const OPEN: usize = 64;
/// The most directories that a layer makes without an entry for them: one short member with a deep path makes thousands.
const MOST_IMPLIED: u32 = 100_000;

/// An open directory of the tree.
pub(super) struct Dir {
    pub fd: OwnedFd,
    pub ino: u64,
    mtime: Time,
    /// What is made in it gets more than it asked for: a default ACL.
    inherits: Cell<bool>,
}

impl Dir {
    pub fn new(fd: OwnedFd) -> Result<Self> {
        let stat = fstat(&fd)?;
        let mtime = Time { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec as u32 };
        let dir = Self { fd, ino: stat.st_ino, mtime, inherits: Cell::new(false) };
        dir.look()?;
        Ok(dir)
    }

    /// Whether it has a default ACL (acl(5)), whose entries are of no layer where they are inherited.
    pub fn inherits(&self) -> bool {
        self.inherits.get()
    }

    /// Its attributes have changed.
    pub fn look(&self) -> Result<()> {
        let has = match fgetxattr(&self.fd, metadata::DEFAULT_ACL, &mut [0; 1]) {
            Ok(_) | Err(Errno::RANGE) => true,
            Err(Errno::NODATA | Errno::OPNOTSUPP) => false,
            Err(e) => return Err(e.into()),
        };
        self.inherits.set(has);
        Ok(())
    }
}

pub(super) struct Directories<'a> {
    root: Rc<Dir>,
    ids: &'a Ids,
    paths: HashMap<Vec<u8>, Rc<Dir>>,
    /// By inode: the open directories, each once however many paths lead to it, and the time that each has to have when it is closed.
    open: HashMap<u64, (Rc<Dir>, Time)>,
    /// How many were made without an entry.
    implied: u32,
}

impl<'a> Directories<'a> {
    pub fn new(root: BorrowedFd<'_>, ids: &'a Ids) -> Result<Self> {
        let root = Rc::new(Dir::new(resolve(root, b".", ResolveFlags::empty())?)?);
        let open = HashMap::from([(root.ino, (Rc::clone(&root), root.mtime))]);
        Ok(Self { root, ids, paths: HashMap::new(), open, implied: 0 })
    }

    pub fn root(&self) -> Rc<Dir> {
        Rc::clone(&self.root)
    }

    /// The directory at `path`, through links inside the root; none where there is no directory.
    pub fn open(&mut self, path: &[u8]) -> Result<Option<Rc<Dir>>> {
        if path.is_empty() {
            return Ok(Some(self.root()));
        }
        if let Some(dir) = self.paths.get(path) {
            return Ok(Some(Rc::clone(dir)));
        }
        match resolve(self.root.fd.as_fd(), path, ResolveFlags::empty()) {
            Ok(fd) => self.keep(path, Dir::new(fd)?).map(Some),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(e) => Err(e).with_context(|| show(path)),
        }
    }

    /// Like [`Directories::open`], through no link at all.
    pub fn open_strict(&mut self, path: &[u8]) -> Result<Option<Rc<Dir>>> {
        if path.is_empty() {
            return Ok(Some(self.root()));
        }
        match resolve(self.root.fd.as_fd(), path, ResolveFlags::NO_SYMLINKS) {
            Ok(fd) => self.keep(path, Dir::new(fd)?).map(Some),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(e) => Err(e).with_context(|| show(path)),
        }
    }

    /// The directory at `path`, made with what is missing above it: root's, 0755, of 1970.
    pub fn make(&mut self, path: &[u8]) -> Result<Rc<Dir>> {
        let slashes = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i);
        let ends: Vec<usize> = std::iter::once(0).chain(slashes).chain([path.len()]).collect();
        // Halved again and again: where one is there, so are all above it.
        let (mut there, mut missing) = (0, ends.len() - 1);
        while missing - there > 1 {
            let middle = (there + missing) / 2;
            match self.open(&path[..ends[middle]])? {
                Some(_) => there = middle,
                None => missing = middle,
            }
        }
        let mut above =
            self.open(&path[..ends[there]])?.ok_or_else(|| Error::other("removed by somebody"))?;
        for end in &ends[missing..] {
            above = self.make_one(&above, &path[..*end])?;
        }
        Ok(above)
    }

    fn make_one(&mut self, above: &Dir, path: &[u8]) -> Result<Rc<Dir>> {
        self.implied += 1;
        if self.implied > MOST_IMPLIED {
            return Err(Error::invalid(format!("more than {MOST_IMPLIED} directories without an entry")));
        }
        let name = c_string(split(path).expect("not the root").1)?;
        match mkdirat(&above.fd, &name, Mode::from_raw_mode(0o755)) {
            Err(Errno::EXIST) => {
                return Err(Error::invalid(format!("{} is not a directory", show(path))));
            }
            other => other?,
        }
        let fd = crate::tree::open_dir(&above.fd, &name)?;
        if above.inherits() {
            metadata::disinherit(fd.as_fd())?;
        }
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755))?;
        self.own(&fd)?;
        let dir = self.keep(path, Dir::new(fd)?)?;
        self.set_time(&dir, Time::default());
        Ok(dir)
    }

    /// The root, like every directory without an entry, is the image's root user's.
    pub fn own_root(&self) -> Result<()> {
        self.own(&self.root.fd)
    }

    fn own(&self, dir: &OwnedFd) -> Result<()> {
        let (uid, gid) = (self.ids.users.outside(0)?, self.ids.groups.outside(0)?);
        if (uid, gid) != (0, 0) {
            chownat(dir, c"", Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::EMPTY_PATH)?;
        }
        Ok(())
    }

    /// Keeps a directory open under its path. The time that it has before anybody writes to it stays, unless the layer says another.
    pub fn keep(&mut self, path: &[u8], mut dir: Dir) -> Result<Rc<Dir>> {
        if self.paths.len() >= OPEN || self.open.len() > OPEN {
            self.close()?;
            // It may have been one of those whose time is set only now.
            dir = Dir::new(dir.fd)?;
        }
        let (ino, mtime, inherits) = (dir.ino, dir.mtime, dir.inherits());
        let (kept, _) = self.open.entry(ino).or_insert_with(|| (Rc::new(dir), mtime));
        // Its attributes may have changed since it was opened first.
        kept.inherits.set(inherits);
        let dir = Rc::clone(kept);
        self.paths.insert(path.to_vec(), Rc::clone(&dir));
        Ok(dir)
    }

    /// Something that may lie on the way to a directory was removed or moved: every path has to be resolved anew.
    pub fn forget(&mut self) {
        self.paths.clear();
    }

    /// What the layer says.
    pub fn set_time(&mut self, dir: &Rc<Dir>, time: Time) {
        self.open.insert(dir.ino, (Rc::clone(dir), time));
    }

    /// Closes all directories but those that somebody is about to write to.
    fn close(&mut self) -> Result<()> {
        self.paths.clear();
        for (dir, time) in self.open.values() {
            futimens(&dir.fd, &metadata::timestamps(*time)).context("time of a directory")?;
        }
        self.open.retain(|_, (dir, _)| Rc::strong_count(dir) > 1);
        Ok(())
    }

    /// Sets the times that are not set yet.
    pub fn finish(mut self) -> Result<()> {
        self.close()
    }
}

/// Opens a directory below `root`, whatever the links on the way say.
pub(super) fn resolve(root: BorrowedFd<'_>, path: &[u8], more: ResolveFlags) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | more;
    loop {
        match openat2(root, path, flags, Mode::empty(), how) {
            // Somebody renames elsewhere on the machine, and a link with ".." was on the way.
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
}

/// The path of a directory as openat2 wants it: of the root, too.
pub(super) fn dot(path: &[u8]) -> &[u8] {
    if path.is_empty() { b"." } else { path }
}

/// Of a directory, the path of what is in it.
pub(super) fn child(parent: &[u8], name: &[u8]) -> Vec<u8> {
    join(parent, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_without_an_entry_have_a_limit() {
        let top = std::env::temp_dir().join(format!("pintle-image-implied-{}", std::process::id()));
        std::fs::create_dir_all(top.join("there")).unwrap();
        let root = crate::tree::open_dir(rustix::fs::CWD, &top).unwrap();
        let ids = Ids::default();
        let mut dirs = Directories::new(root.as_fd(), &ids).unwrap();
        dirs.implied = MOST_IMPLIED - 3;
        dirs.make(b"there/a/b").unwrap();
        dirs.make(b"c").unwrap();
        let error = dirs.make(b"there/a/d").map(|_| ()).unwrap_err().to_string();
        assert_eq!(error, "more than 100000 directories without an entry");
        dirs.finish().unwrap();
        let time = |path: &str| std::fs::metadata(top.join(path)).unwrap().modified().unwrap();
        assert_eq!(time("there/a"), std::time::UNIX_EPOCH);
        std::fs::remove_dir_all(&top).unwrap();
    }
}
