//! The directories of a tree while a layer is applied: a few stay open, since members come a directory at a time; and the times of
//! all that were written to are set at the end, because every file made in a directory changes its time.

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
    open: HashMap<Vec<u8>, Rc<Dir>>,
    /// By inode: what the time of a directory has to be in the end, and where the directory is.
    times: HashMap<u64, (Vec<u8>, Time)>,
}

impl<'a> Directories<'a> {
    pub fn new(root: BorrowedFd<'_>, ids: &'a Ids) -> Result<Self> {
        let root = Rc::new(Dir::new(resolve(root, b".", ResolveFlags::empty())?)?);
        let mut dirs = Self { root, ids, open: HashMap::new(), times: HashMap::new() };
        let root = dirs.root();
        dirs.note(&root, b"");
        Ok(dirs)
    }

    pub fn root(&self) -> Rc<Dir> {
        Rc::clone(&self.root)
    }

    /// The directory at `path`, through links inside the root; none where there is no directory.
    pub fn open(&mut self, path: &[u8]) -> Result<Option<Rc<Dir>>> {
        if path.is_empty() {
            return Ok(Some(self.root()));
        }
        if let Some(dir) = self.open.get(path) {
            return Ok(Some(Rc::clone(dir)));
        }
        match resolve(self.root.fd.as_fd(), path, ResolveFlags::empty()) {
            Ok(fd) => Ok(Some(self.keep(path, Dir::new(fd)?))),
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
            Ok(fd) => Ok(Some(self.keep(path, Dir::new(fd)?))),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(e) => Err(e).with_context(|| show(path)),
        }
    }

    /// The directory at `path`, made with what is missing above it: root's, 0755, of 1970.
    pub fn make(&mut self, path: &[u8]) -> Result<Rc<Dir>> {
        let mut missing = vec![path];
        let mut above = loop {
            let (parent, _) = split(missing[missing.len() - 1]).expect("the root is there");
            match self.open(parent)? {
                Some(dir) => break dir,
                None => missing.push(parent),
            }
        };
        for path in missing.into_iter().rev() {
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
            above = self.keep(path, Dir::new(fd)?);
            self.set_time(&above, path, Time::default());
        }
        Ok(above)
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

    /// Keeps a directory open under its path.
    pub fn keep(&mut self, path: &[u8], dir: Dir) -> Rc<Dir> {
        if self.open.len() >= OPEN {
            self.open.clear();
        }
        let dir = Rc::new(dir);
        self.note(&dir, path);
        self.open.insert(path.to_vec(), Rc::clone(&dir));
        dir
    }

    /// Something that may lie on the way to a directory was removed or moved: every path has to be resolved anew.
    pub fn forget(&mut self) {
        self.open.clear();
    }

    /// The time that the directory has before anybody writes to it stays, unless the layer says another.
    fn note(&mut self, dir: &Dir, path: &[u8]) {
        self.times.entry(dir.ino).or_insert_with(|| (path.to_vec(), dir.mtime));
    }

    /// What the layer says.
    pub fn set_time(&mut self, dir: &Dir, path: &[u8], time: Time) {
        self.times.insert(dir.ino, (path.to_vec(), time));
    }

    /// Sets all times.
    pub fn finish(self, root: BorrowedFd<'_>) -> Result<()> {
        for (ino, (path, time)) in &self.times {
            let path = if path.is_empty() { b"." } else { path.as_slice() };
            let fd = match self.open.get(path) {
                Some(dir) if dir.ino == *ino => Rc::clone(dir),
                _ => match resolve(root, path, ResolveFlags::empty()) {
                    Ok(fd) => Rc::new(Dir::new(fd)?),
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                    Err(e) => return Err(e).with_context(|| show(path)),
                },
            };
            // Another one stands there when the layer replaced it.
            if fd.ino == *ino {
                futimens(&fd.fd, &metadata::timestamps(*time)).with_context(|| show(path))?;
            }
        }
        Ok(())
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

/// For [`super::whiteout`].
pub(super) fn child(parent: &[u8], name: &[u8]) -> Vec<u8> {
    join(parent, name)
}
