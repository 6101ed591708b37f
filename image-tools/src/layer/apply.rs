//! Applies a layer to a tree (image-spec layer.md, "Applying Changesets"). The tree is either flat, with the layers below already
//! in it, or the layer's own: for overlayfs, where what it hides is written in overlayfs's words, or to become part of a flat one.
//!
//! The archive is hostile. Every path is resolved inside the root (openat2 RESOLVE_IN_ROOT), its last part is created and never
//! followed, and what is set on an entry is set through the descriptor that created it.

mod directories;
mod graft;
mod metadata;
mod whiteout;

use std::ffi::CString;
use std::io::BufRead;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, linkat, makedev, mkdirat, mknodat, openat, statat, symlinkat,
};
use rustix::io::Errno;

use self::directories::{Dir, Directories};
pub use self::graft::graft;
use self::metadata::Attributes;
use self::whiteout::{Below, Mark, Touched};
use super::ids::Ids;
use super::member::{Extent, Kind, Member};
use super::read::{Members, show};
use crate::error::{Context, Error, Result};
use crate::overlay;
use crate::tree;

/// The most members of a layer.
const MOST_MEMBERS: u64 = 10_000_000;
/// What a layer applied apart may remember to hide, in bytes; one with more is applied on its parents.
const MOST_HIDDEN: usize = 1 << 20;
/// Zeros in blocks of this size, in bytes, become holes.
const HOLE: usize = 64 << 10;

/// What the tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// All layers in one tree, this one on those below.
    Flat,
    /// This layer alone, to be stacked by overlayfs.
    Overlay,
    /// This layer alone, to become part of a flat tree: see [`graft`].
    Apart,
}

/// How to apply.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the tree is.
    pub form: Form,
    /// Nothing is below: this is the image's first layer.
    pub base: bool,
    /// Owners on the disk.
    pub ids: Ids,
    /// Every owner is the caller: for an ordinary user without a range of ids.
    pub squash: bool,
    /// The largest file, in bytes: as large as the whole archive may be.
    pub limit: u64,
}

/// What applying a layer came to.
#[derive(Debug, Default)]
pub struct Applied {
    /// Members of the archive.
    pub members: u64,
    /// Overlay: the whiteouts written, as paths; those that hide nothing are to be removed, see [`settle`].
    pub whiteouts: Vec<Vec<u8>>,
    /// Apart: what the layer hides of those below.
    hidden: Vec<Hidden>,
    /// There was an entry for the root.
    told_root: bool,
    /// Not flat: the layer says something about a tree that only its parents have: a file in a directory without an entry, a hard
    /// link to a file below. It has to be applied on them.
    pub needs_parents: bool,
    /// The result depends on what is below, or on there being nothing: another image with this layer needs one of its own.
    pub refers: bool,
}

/// What a layer hides of those below it.
#[derive(Debug)]
struct Hidden {
    /// The directory that it lies in.
    dir: Vec<u8>,
    /// None: all that is in it.
    name: Option<Vec<u8>>,
}

/// Applies the members of an archive to the tree `root`. `warn` hears what could not be done and is no error. After an error the tree
/// is incomplete and to be removed.
pub fn apply<R: BufRead>(
    archive: R,
    root: BorrowedFd<'_>,
    options: &Options,
    warn: &mut dyn FnMut(String),
) -> Result<(Applied, R)> {
    let mut members = Members::new(archive);
    let mut applier = Applier {
        options,
        root,
        dirs: Directories::new(root, &options.ids)?,
        touched: Touched::default(),
        attributes: Attributes::new(options, warn),
        applied: Applied::default(),
        late: Vec::new(),
        pseudo_links: false,
        hidden_bytes: 0,
    };
    while let Some(member) = members.next()? {
        applier.applied.members += 1;
        if applier.applied.members > MOST_MEMBERS {
            return Err(Error::invalid(format!("more than {MOST_MEMBERS} members")));
        }
        applier.member(&member, &mut members).with_context(|| show(&member.path))?;
        if applier.applied.needs_parents {
            break;
        }
    }
    let applied = applier.finish()?;
    Ok((applied, members.into_inner()))
}

/// Removes the whiteouts of a layer in overlay form that hide nothing, which overlayfs would show in a directory that is not
/// merged. `below` is the tree of the layers below.
pub fn settle(root: BorrowedFd<'_>, applied: &Applied, below: Option<BorrowedFd<'_>>) -> Result<()> {
    whiteout::settle(root, &applied.whiteouts, below)
}

/// Opens a directory of a tree, through links inside it.
pub fn open_in_root(root: BorrowedFd<'_>, path: &[u8]) -> Result<std::os::fd::OwnedFd> {
    directories::resolve(root, path, rustix::fs::ResolveFlags::empty()).with_context(|| show(path))
}

/// The same, made with all that is missing above it: root's, 0755.
pub fn make_in_root(root: BorrowedFd<'_>, path: &[u8]) -> Result<std::os::fd::OwnedFd> {
    let ids = Ids::default();
    let mut dirs = Directories::new(root, &ids)?;
    let dir = match dirs.open(path)? {
        Some(dir) => dir,
        None => dirs.make(path)?,
    };
    Ok(dir.fd.try_clone()?)
}

struct Applier<'a> {
    options: &'a Options,
    root: BorrowedFd<'a>,
    dirs: Directories<'a>,
    touched: Touched,
    attributes: Attributes<'a>,
    applied: Applied,
    /// Hard links whose target was not there yet.
    late: Vec<(Vec<u8>, Vec<u8>)>,
    /// aufs's folder of targets of hard links is there, until the end.
    pseudo_links: bool,
    /// What [`Applied::hidden`] takes, in bytes.
    hidden_bytes: usize,
}

impl Applier<'_> {
    fn member<R: BufRead>(&mut self, member: &Member, data: &mut Members<R>) -> Result<()> {
        let path = clean(&member.path);
        let Some((parent, name)) = split(&path) else {
            return self.root(member);
        };
        if let Some(mark) = Mark::read(name)? {
            return self.mark(parent, &mark);
        }
        match Below::read(parent)? {
            Below::Ordinary => {}
            Below::PseudoLinks if matches!(member.kind, Kind::File { .. }) => self.pseudo_links = true,
            Below::PseudoLinks | Below::Other => return Ok(()),
        }
        let Some(dir) = self.parent(parent)? else { return Ok(()) };
        let c_name = c_string(name)?;
        let place = Place { dir: &dir, name: &c_name, path: &path };
        match &member.kind {
            Kind::Directory => self.directory(&place, member)?,
            Kind::File { size, extents } => self.file(&place, member, *size, extents.as_deref(), data)?,
            Kind::Hardlink(target) => self.hardlink(&place, target)?,
            Kind::Symlink(target) => {
                self.make(&place, || symlinkat(target.as_slice(), &dir.fd, &c_name))?;
                self.attributes.by_name(dir.fd.as_fd(), &c_name, member)?;
            }
            Kind::Fifo => self.node(&place, member, FileType::Fifo, 0)?,
            Kind::Character(major, minor) => {
                if self.overlay() && (*major, *minor) == (0, 0) {
                    return Err(Error::unsupported(
                        "a character device 0:0 is overlayfs's sign of a removed file",
                    ));
                }
                self.node(&place, member, FileType::CharacterDevice, makedev(*major, *minor))?;
            }
            Kind::Block(major, minor) => {
                self.node(&place, member, FileType::BlockDevice, makedev(*major, *minor))?;
            }
        }
        if !self.options.base && self.options.form != Form::Apart {
            self.touched.add(dir.ino, name);
        }
        Ok(())
    }

    fn overlay(&self) -> bool {
        self.options.form == Form::Overlay
    }

    /// What is below is not there to be looked at.
    fn lacks_parents(&self) -> bool {
        self.options.form != Form::Flat && !self.options.base
    }

    /// The root may get other attributes and nothing else: never another type (CVE-2021-29136).
    fn root(&mut self, member: &Member) -> Result<()> {
        if member.kind != Kind::Directory {
            return Err(Error::invalid("the root is a directory and can't be anything else"));
        }
        let dir = self.dirs.root();
        self.applied.told_root = true;
        self.attributes.directory(&dir.fd, member, true)?;
        dir.look()?;
        self.dirs.set_time(&dir, member.mtime);
        Ok(())
    }

    /// The directory that a member lies in, made where the layer has no entry for it. None: the layer needs its parents.
    fn parent(&mut self, path: &[u8]) -> Result<Option<Rc<Dir>>> {
        if let Some(dir) = self.dirs.open(path)? {
            return Ok(Some(dir));
        }
        if self.lacks_parents() {
            self.applied.needs_parents = true;
            return Ok(None);
        }
        self.applied.refers = true;
        self.dirs.make(path).map(Some)
    }

    fn mark(&mut self, parent: &[u8], mark: &Mark) -> Result<()> {
        if *mark == Mark::Other {
            return Ok(());
        }
        self.applied.refers = true;
        if self.options.base {
            return Ok(());
        }
        if self.options.form == Form::Apart {
            let name = if let Mark::Hide(name) = mark { Some(name.as_slice()) } else { None };
            self.hide_later(parent, name);
            return Ok(());
        }
        let dir = match (self.dirs.open_strict(parent)?, self.overlay()) {
            (Some(dir), _) => dir,
            // It hides what is not there, or what a link leads to.
            (None, false) => return Ok(()),
            (None, true) => {
                self.applied.needs_parents = true;
                return Ok(());
            }
        };
        // overlayfs merges the roots of all layers whatever they say.
        if self.overlay() && *mark == Mark::Opaque && parent.is_empty() {
            self.applied.needs_parents = true;
            return Ok(());
        }
        let removed = match (mark, self.overlay()) {
            (Mark::Opaque, true) => whiteout::make_opaque(&dir)?,
            (Mark::Opaque, false) => self.touched.opaque(&dir)?,
            (Mark::Hide(name), true) => {
                if whiteout::hide(&dir, name, &self.touched)? {
                    self.applied.whiteouts.push(join(parent, name));
                }
                false
            }
            (Mark::Hide(name), false) => self.touched.hide(&dir, name)?,
            (Mark::Other, _) => false,
        };
        if removed {
            self.dirs.forget();
        }
        Ok(())
    }

    fn hide_later(&mut self, dir: &[u8], name: Option<&[u8]>) {
        self.hidden_bytes += dir.len() + name.map_or(0, <[u8]>::len) + size_of::<Hidden>();
        self.applied.needs_parents |= self.hidden_bytes > MOST_HIDDEN;
        self.applied.hidden.push(Hidden { dir: dir.to_vec(), name: name.map(<[u8]>::to_vec) });
    }

    fn directory(&mut self, at: &Place<'_>, member: &Member) -> Result<()> {
        let mut had = false;
        let made = match mkdirat(&at.dir.fd, at.name, Mode::RWXU) {
            Err(Errno::EXIST) if self.is_dir(at)? => {
                had = true;
                Ok(())
            }
            Err(Errno::EXIST) => {
                self.applied.refers = true;
                self.clear(at)?;
                mkdirat(&at.dir.fd, at.name, Mode::RWXU)?;
                // What it replaces, a whiteout or a file, hid what is below: the directory must not show that again.
                match self.options.form {
                    Form::Overlay if !self.options.base => {
                        let dir = Dir::new(tree::open_dir(&at.dir.fd, at.name)?)?;
                        whiteout::make_opaque(&dir)?;
                    }
                    Form::Apart => {
                        let (parent, name) = split(at.path).expect("not the root");
                        // Below, a link of the layer's own leads to nothing.
                        self.applied.needs_parents |= self.dirs.open_strict(parent)?.is_none();
                        self.hide_later(parent, Some(name));
                    }
                    _ => {}
                }
                Ok(())
            }
            other => other,
        };
        made?;
        let fd = tree::open_dir(&at.dir.fd, at.name)?;
        if !had && at.dir.inherits() {
            metadata::disinherit(fd.as_fd())?;
        }
        self.attributes.directory(&fd, member, had)?;
        let dir = self.dirs.keep(at.path, Dir::new(fd)?)?;
        self.dirs.set_time(&dir, member.mtime);
        Ok(())
    }

    fn is_dir(&self, at: &Place<'_>) -> Result<bool> {
        let stat = statat(&at.dir.fd, at.name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    }

    /// Creates something where nothing may be: what is there goes first, with all that is below it.
    fn make<T>(&mut self, at: &Place<'_>, create: impl Fn() -> rustix::io::Result<T>) -> Result<T> {
        match create() {
            Err(Errno::EXIST) => {
                self.clear(at)?;
                Ok(create()?)
            }
            other => Ok(other?),
        }
    }

    fn clear(&mut self, at: &Place<'_>) -> Result<()> {
        let stat = statat(&at.dir.fd, at.name, AtFlags::SYMLINK_NOFOLLOW)?;
        tree::prune(at.dir.fd.as_fd(), at.dir.ino, at.name, &tree::Nothing)?;
        if matches!(FileType::from_raw_mode(stat.st_mode), FileType::Directory | FileType::Symlink) {
            self.dirs.forget();
        }
        Ok(())
    }

    fn file<R: BufRead>(
        &mut self,
        at: &Place<'_>,
        member: &Member,
        size: u64,
        extents: Option<&[Extent]>,
        data: &mut Members<R>,
    ) -> Result<()> {
        if size > self.options.limit {
            let limit = self.options.limit;
            return Err(Error::invalid(format!(
                "{size} bytes, more than {limit} (--max-layer-size sets the limit)"
            )));
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = self.make(at, || openat(&at.dir.fd, at.name, flags, Mode::RUSR | Mode::WUSR))?;
        let file = std::fs::File::from(fd);
        match extents {
            None => write_data(&file, 0, size, size, data)?,
            Some(extents) => {
                for extent in extents {
                    write_data(&file, extent.offset, extent.length, u64::MAX, data)?;
                }
                file.set_len(size)?;
            }
        }
        if at.dir.inherits() {
            metadata::disinherit(file.as_fd())?;
        }
        self.attributes.file(&file, member)
    }

    fn hardlink(&mut self, at: &Place<'_>, target: &[u8]) -> Result<()> {
        if self.link(at, target)? {
            return Ok(());
        }
        if self.lacks_parents() {
            self.applied.needs_parents = true;
        } else {
            // Above another layer it would be a link to what is there.
            self.applied.refers = true;
            self.late.push((at.path.to_vec(), target.to_vec()));
        }
        Ok(())
    }

    /// False where the target is not there.
    fn link(&mut self, at: &Place<'_>, target: &[u8]) -> Result<bool> {
        let target = clean(target);
        let Some((parent, name)) = split(&target) else {
            return Err(Error::invalid("hard link to the root"));
        };
        let Some(from) = self.dirs.open(parent)? else { return Ok(false) };
        let name = c_string(name)?;
        let stat = match statat(&from.fd, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(false),
            Err(e) => return Err(e.into()),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            return Err(Error::invalid(format!("hard link to the directory {}", show(&target))));
        }
        if self.overlay() && kind == FileType::CharacterDevice && stat.st_rdev == 0 {
            return Ok(false);
        }
        if (from.ino, &*name) == (at.dir.ino, at.name) {
            return Ok(true);
        }
        let (to, to_name) = (at.dir.fd.as_fd(), at.name);
        self.make(at, || linkat(&from.fd, &name, to, to_name, AtFlags::empty()))?;
        Ok(true)
    }

    fn node(&mut self, at: &Place<'_>, member: &Member, kind: FileType, device: u64) -> Result<()> {
        let mode = Mode::RUSR | Mode::WUSR;
        let stand_in = std::cell::Cell::new(false);
        self.make(at, || match mknodat(&at.dir.fd, at.name, kind, mode, device) {
            // A user namespace makes no devices: an empty file that nobody may open keeps the name.
            Err(Errno::PERM) if kind != FileType::Fifo => {
                stand_in.set(true);
                mknodat(&at.dir.fd, at.name, FileType::RegularFile, Mode::empty(), 0)
            }
            other => other,
        })?;
        if stand_in.get() {
            self.attributes.warn("devices can't be made here: an empty file stands in for each");
            return Ok(());
        }
        if at.dir.inherits() {
            metadata::disinherit_by_name(at.dir.fd.as_fd(), at.name)?;
        }
        self.attributes.by_name(at.dir.fd.as_fd(), at.name, member)
    }

    fn finish(mut self) -> Result<Applied> {
        if self.applied.needs_parents {
            return Ok(self.applied);
        }
        for (path, target) in std::mem::take(&mut self.late) {
            let (parent, name) = split(&path).expect("the root is no link");
            let name = c_string(name)?;
            let dir = self.dirs.open(parent)?;
            let linked = match &dir {
                Some(dir) => self.link(&Place { dir, name: &name, path: &path }, &target),
                None => Ok(false),
            };
            if !linked.with_context(|| show(&path))? {
                return Err(Error::invalid(format!(
                    "{}: hard link to {}, which is not there",
                    show(&path),
                    show(&target)
                )));
            }
        }
        if self.pseudo_links {
            tree::remove(self.root, whiteout::PSEUDO_LINKS_C)?;
            self.dirs.forget();
        }
        match (self.applied.told_root, self.options) {
            (false, Options { form: Form::Overlay, .. }) => overlay::mark_implied_root(self.root)?,
            (false, Options { base: true, .. }) => {
                self.dirs.own_root().context("the root, which has no entry")?
            }
            _ => {}
        }
        self.dirs.finish()?;
        Ok(self.applied)
    }
}

/// Where a member goes: an open directory and a name in it.
struct Place<'a> {
    dir: &'a Dir,
    name: &'a std::ffi::CStr,
    path: &'a [u8],
}

/// Writes the next `length` bytes of data at `offset`. Long runs of zeros become holes: the file gets its length `whole` at last.
fn write_data<R: BufRead>(
    file: &std::fs::File,
    mut offset: u64,
    length: u64,
    whole: u64,
    data: &mut Members<R>,
) -> Result<()> {
    let mut left = length;
    let mut hole_at_end = false;
    while left > 0 {
        let chunk = data.fill_buf()?;
        let mut n = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if length < HOLE as u64 {
            file.write_all_at(&chunk[..n], offset)?;
        } else {
            n = n.min(HOLE);
            hole_at_end = is_zero(&chunk[..n]);
            if !hole_at_end {
                file.write_all_at(&chunk[..n], offset)?;
            }
        }
        data.consume(n);
        offset += n as u64;
        left -= n as u64;
    }
    if hole_at_end && whole != u64::MAX {
        file.set_len(whole)?;
    }
    Ok(())
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.first() == Some(&0) && bytes.last() == Some(&0) && bytes[1..] == bytes[..bytes.len() - 1]
}

/// A path below the root: no `.`, no `..`, no doubled or outer slash; empty for the root itself. `..` is taken away here, as every
/// other program does, so it never meets a link.
pub fn clean(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

/// Directory and name; none for the root.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    match path.iter().rposition(|b| *b == b'/') {
        _ if path.is_empty() => None,
        Some(slash) => Some((&path[..slash], &path[slash + 1..])),
        None => Some((b"", path)),
    }
}

fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, name].join(&b'/') }
}

fn c_string(name: &[u8]) -> Result<CString> {
    CString::new(name).map_err(|_| Error::invalid("a name with a NUL"))
}
