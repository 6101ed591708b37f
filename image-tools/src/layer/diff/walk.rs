//! The walk through a tree and, beside it, through what it is compared with: name by name, without recursion.

use std::fs::File;
use std::io::{Write, empty};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::error::{Context as _, Error, Result};
use crate::layer::diff::Options;
use crate::layer::diff::marks::{self, Opaque, Overlay};
use crate::layer::diff::mask::Masks;
use crate::layer::diff::out::{Out, join};
use crate::layer::member::Kind;
use crate::layer::stat::{self, Block, Reader, Record};
use crate::layer::tree::{self, Chain, Entry, Opened, Stat, Type, Xattrs};
use crate::layer::write::Archive;

const PIECE: usize = 64 * 1024;

/// What the tree is compared with.
pub(super) enum Base<'a> {
    /// Nothing: all of it is new.
    Empty,
    /// The tree below an upper directory, mounted.
    Lower(Chain),
    /// What the tree was; and its root.
    Manifest(Reader<'a>, Stat),
}

/// What the base has where the walk is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Below {
    /// No directory: all here is new.
    Nothing,
    /// A directory, in which the lower chain or the manifest's reader stands.
    Directory,
}

/// A directory on the way to here.
struct Level {
    below: Below,
    opaque: Opaque,
    children: std::vec::IntoIter<Child>,
    /// The length of its path.
    path: usize,
}

/// What is left to do in a directory, in the order of the names.
enum Child {
    /// A name of the tree; and a directory of that name in the manifest.
    Here(Entry, Option<Stat>),
    /// A directory of the manifest that is none any more, whose blocks come now.
    Gone,
}

pub(super) struct Walk<'a, W: Write> {
    tree: Chain,
    base: Base<'a>,
    overlay: Option<Overlay>,
    masks: Masks,
    levels: Vec<Level>,
    path: Vec<u8>,
    out: Out<'a, W>,
}

impl<'a, W: Write> Walk<'a, W> {
    pub(super) fn new(
        root: BorrowedFd<'_>,
        base: Base<'a>,
        overlay: Option<Overlay>,
        options: &'a Options<'a>,
        archive: &'a mut Archive<W>,
        warn: &'a mut dyn FnMut(&str),
    ) -> Result<Self> {
        Ok(Self {
            tree: Chain::new(root)?,
            base,
            overlay,
            masks: Masks::new(&options.mask)?,
            levels: Vec::new(),
            path: Vec::new(),
            out: Out::new(archive, options, warn),
        })
    }

    pub(super) fn run(mut self) -> Result<()> {
        let done = self.walk();
        done.with_context(|| tree::shown(&self.path))?;
        match self.base {
            Base::Manifest(reader, _) => reader.end(),
            _ => Ok(()),
        }
    }

    fn walk(&mut self) -> Result<()> {
        let (below, was) = match &self.base {
            Base::Empty => (Below::Nothing, None),
            Base::Lower(_) => (Below::Directory, None),
            Base::Manifest(_, root) => (Below::Directory, Some(*root)),
        };
        let root = Stat::of(self.tree.last())?;
        self.enter(root, below, was)?;
        while let Some(level) = self.levels.last_mut() {
            match level.children.next() {
                Some(Child::Here(entry, was)) => self.visit(&entry, was)?,
                Some(Child::Gone) => self.skip()?,
                None => self.leave()?,
            }
        }
        Ok(())
    }

    /// The manifest's next directory has no counterpart.
    fn skip(&mut self) -> Result<()> {
        match &mut self.base {
            Base::Manifest(reader, _) => reader.skip_directory(),
            _ => Ok(()),
        }
    }

    fn leave(&mut self) -> Result<()> {
        self.out.up();
        let left = self.levels.pop();
        let Some(level) = self.levels.last() else { return Ok(()) };
        self.tree.leave()?;
        if let (Base::Lower(chain), Some(Below::Directory)) = (&mut self.base, left.map(|l| l.below)) {
            chain.leave()?;
        }
        self.path.truncate(level.path);
        Ok(())
    }

    fn visit(&mut self, entry: &Entry, was: Option<Stat>) -> Result<()> {
        let above = self.path.len();
        let below = self.levels.last().map_or(Below::Nothing, |l| l.below);
        tree::step(&mut self.path, &entry.name)?;
        match entry.stat.kind {
            // Its path stays until it is left.
            Type::Directory => return self.directory(entry, below, was),
            Type::File => self.file(entry, below)?,
            _ => self.special(entry, below)?,
        }
        self.path.truncate(above);
        Ok(())
    }

    fn directory(&mut self, entry: &Entry, above: Below, was: Option<Stat>) -> Result<()> {
        let (fd, stat) = match tree::open(self.tree.last(), entry)? {
            Opened::Yes(fd, stat) => (fd, stat),
            Opened::Mount => return self.mount(entry, was),
        };
        let below = match (&mut self.base, above) {
            (Base::Lower(chain), Below::Directory) => enter_lower(chain, &entry.name)?,
            (Base::Manifest(..), _) if was.is_some() => Below::Directory,
            _ => Below::Nothing,
        };
        self.tree.enter(fd, stat.inode);
        self.enter(stat, below, was)
    }

    /// A mount on a directory: the layer gets the directory, as it looks, and nothing in it.
    fn mount(&mut self, entry: &Entry, was: Option<Stat>) -> Result<()> {
        self.out.warn(&self.path, "something is mounted there and stays out of the layer");
        if was.is_some() {
            self.skip()?;
        } else {
            let path = [self.path.as_slice(), b"/"].concat();
            let member = self.out.member(&path, Kind::Directory, &entry.stat, Xattrs::new())?;
            self.out.append(&member, empty())?;
        }
        self.path.truncate(self.levels.last().map_or(0, |l| l.path));
        Ok(())
    }

    /// The directory in which the tree's chain stands now.
    fn enter(&mut self, stat: Stat, below: Below, was: Option<Stat>) -> Result<()> {
        let (xattrs, opaque) = self.split(tree::xattrs(self.tree.last())?)?;
        let block = match &mut self.base {
            Base::Manifest(reader, _) if below == Below::Directory => Some(reader.directory()?),
            _ => None,
        };
        let changed = match below {
            Below::Nothing => true,
            Below::Directory => self.changed(&stat, &xattrs, was.zip(block.as_ref()))?,
        };
        let path = if self.path.is_empty() { b"./".to_vec() } else { [self.path.as_slice(), b"/"].concat() };
        let member = self.out.member(&path, Kind::Directory, &stat, xattrs)?;
        self.out.down(member);
        if changed {
            self.out.tell_parents()?;
        }
        // Overlayfs marks no directory in an opaque one: nothing of the tree below shows there anyway.
        let inherited = self.levels.last().is_some_and(|l| l.opaque == Opaque::Whole);
        let opaque = if inherited { Opaque::Whole } else { opaque };
        let (hidden, children) = self.survey(below, opaque, block)?;
        for name in &hidden {
            self.out.whiteout(&self.path, name)?;
        }
        let path = self.path.len();
        self.levels.push(Level { below, opaque, children: children.into_iter(), path });
        Ok(())
    }

    /// Whether a directory differs from the one below, apart from what is in it.
    fn changed(&self, stat: &Stat, xattrs: &Xattrs, was: Option<(Stat, &Block)>) -> Result<bool> {
        // What is masked was made or taken away by others, and that is all that its parent's time may tell.
        let masked = !self.masks.of(&self.path).is_empty();
        let same = |was: &Stat| {
            let mtime = if masked { was.mtime } else { stat.mtime };
            same_stat(&Stat { mtime, ..*stat }, was)
        };
        match (&self.base, was) {
            (_, Some((was, block))) => Ok(!same(&was) || stat::rest(xattrs, &[]) != block.rest),
            (Base::Lower(chain), None) => {
                let was = Stat::of(chain.last())?;
                Ok(!same(&was) || !same_xattrs(xattrs, tree::xattrs(chain.last())?))
            }
            _ => Ok(true),
        }
    }

    fn file(&mut self, entry: &Entry, below: Below) -> Result<()> {
        if self.out.link(&self.path, &entry.stat)? {
            return Ok(());
        }
        let (fd, stat) = match tree::open(self.tree.last(), entry)? {
            Opened::Yes(fd, stat) => (fd, stat),
            Opened::Mount => {
                self.out.warn(&self.path, "something is mounted there and stays out of the layer");
                return Ok(());
            }
        };
        let (xattrs, _) = self.split(tree::xattrs(fd.as_fd())?)?;
        if stat.links == 1 && self.only_copied_up(entry, &fd, &stat, &xattrs, below)? {
            return Ok(());
        }
        let kind = Kind::File { size: stat.size, extents: None };
        let member = self.out.member(&self.path, kind, &stat, xattrs)?;
        self.out.remember(&self.path, &stat);
        self.out.append(&member, File::from(fd))
    }

    /// Whether the file is the same as in the tree below, its bytes included.
    fn only_copied_up(
        &self,
        entry: &Entry,
        fd: &OwnedFd,
        stat: &Stat,
        xattrs: &Xattrs,
        below: Below,
    ) -> Result<bool> {
        let Some(lower) = self.lower(below) else { return Ok(false) };
        let Some(was) = stat_if_any(lower, &entry.name)? else { return Ok(false) };
        if !same_stat(stat, &was) {
            return Ok(false);
        }
        match tree::open(lower, &Entry { name: entry.name.clone(), stat: was })? {
            Opened::Yes(old, _) => {
                Ok(same_xattrs(xattrs, tree::xattrs(old.as_fd())?) && same_content(fd, &old)?)
            }
            Opened::Mount => Ok(false),
        }
    }

    /// Links, pipes, devices.
    fn special(&mut self, entry: &Entry, below: Below) -> Result<()> {
        if self.out.link(&self.path, &entry.stat)? {
            return Ok(());
        }
        let dir = self.tree.last();
        let (major, minor) = entry.stat.device;
        let kind = match entry.stat.kind {
            Type::Symlink => Kind::Symlink(tree::target(dir, &entry.name)?),
            Type::Character => Kind::Character(major, minor),
            Type::Block => Kind::Block(major, minor),
            _ => Kind::Fifo,
        };
        let (xattrs, _) = self.split(tree::xattrs_at(dir, &entry.name)?)?;
        if let Some(lower) = self.lower(below).filter(|_| entry.stat.links == 1)
            && let Some(was) = stat_if_any(lower, &entry.name)?
            && same_stat(&entry.stat, &was)
            && same_xattrs(&xattrs, tree::xattrs_at(lower, &entry.name)?)
            && (was.kind != Type::Symlink || Kind::Symlink(tree::target(lower, &entry.name)?) == kind)
        {
            return Ok(());
        }
        let member = self.out.member(&self.path, kind, &entry.stat, xattrs)?;
        self.out.remember(&self.path, &entry.stat);
        self.out.append(&member, empty())
    }

    /// The directory below an upper one.
    fn lower(&self, below: Below) -> Option<BorrowedFd<'_>> {
        match &self.base {
            Base::Lower(chain) if below == Below::Directory => Some(chain.last()),
            _ => None,
        }
    }

    /// The attributes as the container sees them, and what overlayfs noted beside them.
    fn split(&self, raw: Xattrs) -> Result<(Xattrs, Opaque)> {
        match self.overlay {
            Some(overlay) => marks::split(raw, overlay),
            None => Ok((raw, Opaque::No)),
        }
    }

    /// The names that are gone from this directory, and what is to be visited.
    fn survey(
        &mut self,
        below: Below,
        opaque: Opaque,
        block: Option<Block>,
    ) -> Result<(Vec<Vec<u8>>, Vec<Child>)> {
        let mut entries = tree::list(self.tree.last())?;
        let masked = self.masks.of(&self.path);
        entries.retain(|e| !masked.contains(&e.name));
        let mut hidden = Vec::new();
        if let Some(overlay) = self.overlay {
            hidden = self.take_whiteouts(&mut entries, overlay, opaque)?;
        }
        let mut left_out = Vec::new();
        for entry in &entries {
            check_name(&entry.name)?;
            if let Some(why) = cannot_be_told(entry.stat) {
                self.out.warn(&join(&self.path, &entry.name), why);
                left_out.push(entry.name.clone());
            }
        }
        if let Some(block) = block {
            return self.merge(entries, block.entries, &left_out);
        }
        entries.retain(|e| left_out.binary_search(&e.name).is_err());
        // A name that is taken by something that stays out still covers what is below.
        hidden.extend(left_out);
        hidden.sort();
        let hidden = self.hidden_below(hidden, &entries, below, opaque)?;
        Ok((hidden, entries.into_iter().map(|e| Child::Here(e, None)).collect()))
    }

    /// Takes an upper directory's whiteouts out of the entries: the names that they hide.
    fn take_whiteouts(
        &self,
        entries: &mut Vec<Entry>,
        overlay: Overlay,
        opaque: Opaque,
    ) -> Result<Vec<Vec<u8>>> {
        let dir = self.tree.last();
        let mut hidden = Vec::new();
        for entry in &*entries {
            let whiteout = match entry.stat.kind {
                Type::Character => entry.stat.device == (0, 0),
                Type::File if opaque == Opaque::Files && entry.stat.size == 0 => {
                    tree::xattrs_at(dir, &entry.name)?.iter().any(|(name, _)| *name == overlay.whiteout())
                }
                _ => false,
            };
            if whiteout {
                hidden.push(entry.name.clone());
            }
        }
        if !hidden.is_empty() {
            entries.retain(|e| hidden.binary_search(&e.name).is_err());
        }
        Ok(hidden)
    }

    /// The whiteouts that a directory of the layer needs, of the names that an upper directory hides.
    fn hidden_below(
        &self,
        mut hidden: Vec<Vec<u8>>,
        entries: &[Entry],
        below: Below,
        opaque: Opaque,
    ) -> Result<Vec<Vec<u8>>> {
        let Some(lower) = self.lower(below) else { return Ok(Vec::new()) };
        if opaque == Opaque::Whole {
            let here = |name: &Vec<u8>| entries.binary_search_by(|e| e.name.cmp(name)).is_ok();
            let masked = self.masks.of(&self.path);
            let there = tree::list(lower)?.into_iter().map(|e| e.name);
            hidden = there.filter(|n| !here(n) && !masked.contains(n)).collect();
        } else {
            let mut there = Vec::with_capacity(hidden.len());
            for name in hidden {
                if stat_if_any(lower, &name)?.is_some() {
                    there.push(name);
                }
            }
            hidden = there;
        }
        hidden.iter().try_for_each(|name| check_name(name))?;
        Ok(hidden)
    }

    /// Compares a directory's entries with those of the manifest.
    fn merge(
        &self,
        entries: Vec<Entry>,
        records: Vec<Record>,
        left_out: &[Vec<u8>],
    ) -> Result<(Vec<Vec<u8>>, Vec<Child>)> {
        let masked = self.masks.of(&self.path);
        let (mut hidden, mut children) = (Vec::new(), Vec::new());
        let gone = |record: Record, hidden: &mut Vec<Vec<u8>>, children: &mut Vec<Child>| {
            if record.stat.kind == Type::Directory {
                children.push(Child::Gone);
            }
            if record.stat.kind != Type::Socket && !masked.contains(&record.name) {
                hidden.push(record.name);
            }
        };
        let mut records = records.into_iter().peekable();
        for entry in entries {
            while let Some(record) = records.next_if(|r| r.name < entry.name) {
                gone(record, &mut hidden, &mut children);
            }
            let was = records.next_if(|r| r.name == entry.name);
            let directory = was.as_ref().is_some_and(|w| w.stat.kind == Type::Directory);
            if left_out.binary_search(&entry.name).is_ok() {
                was.into_iter().for_each(|was| gone(was, &mut hidden, &mut children));
            } else if entry.stat.kind == Type::Directory {
                children.push(Child::Here(entry, was.filter(|_| directory).map(|w| w.stat)));
            } else if was.as_ref().map_or(Ok(true), |was| self.differs(&entry, was))? {
                children.extend(directory.then_some(Child::Gone));
                children.push(Child::Here(entry, None));
            }
        }
        records.for_each(|record| gone(record, &mut hidden, &mut children));
        Ok((hidden, children))
    }

    /// Whether what is no directory changed since it was recorded.
    fn differs(&self, entry: &Entry, was: &Record) -> Result<bool> {
        let now = &entry.stat;
        if !same_stat(now, &was.stat) {
            return Ok(true);
        }
        if now.inode.number == was.stat.inode.number && now.ctime == was.stat.ctime {
            return Ok(false);
        }
        // Another inode or another ctime: of a file nobody knows what else changed, of others all the rest can be
        // looked at. But one more name is a change too, and then all of them are told.
        Ok(now.kind == Type::File || now.links > 1 || stat::rest_at(self.tree.last(), entry)? != was.rest)
    }
}

fn enter_lower(chain: &mut Chain, name: &[u8]) -> Result<Below> {
    let Some(fd) = tree::open_directory(chain.last(), name).context("the tree below the overlay")? else {
        return Ok(Below::Nothing);
    };
    let inode = Stat::of(fd.as_fd())?.inode;
    chain.enter(fd, inode);
    Ok(Below::Directory)
}

fn stat_if_any(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Stat>> {
    match Stat::at(dir, name) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e).context("the tree below the overlay"),
    }
}

/// Whether attributes are those of the tree below.
fn same_xattrs(ours: &Xattrs, mut lower: Xattrs) -> bool {
    let mut ours = ours.clone();
    marks::drop_local(&mut ours);
    marks::drop_local(&mut lower);
    ours == lower
}

/// The metadata that an image holds.
fn same_stat(a: &Stat, b: &Stat) -> bool {
    let of = |s: &Stat| {
        let size = if s.kind == Type::Directory { 0 } else { s.size };
        let device = if matches!(s.kind, Type::Character | Type::Block) { s.device } else { (0, 0) };
        (s.kind, s.mode, s.uid, s.gid, s.mtime, size, device)
    };
    of(a) == of(b)
}

/// Leaves the offset of `a` where it is: the file may yet be read into the archive.
fn same_content(a: &OwnedFd, b: &OwnedFd) -> Result<bool> {
    let (mut left, mut right) = (vec![0; PIECE], vec![0; PIECE]);
    let mut offset = 0;
    loop {
        let n = rustix::io::pread(a, &mut left, offset)?;
        let mut filled = 0;
        while filled < n {
            match rustix::io::pread(b, &mut right[filled..n], offset + filled as u64)? {
                0 => return Ok(false),
                more => filled += more,
            }
        }
        if n == 0 || left[..n] != right[..n] {
            return Ok(n == 0);
        }
        offset += n as u64;
    }
}

/// Names that mean something else in a layer.
pub(crate) fn check_name(name: &[u8]) -> Result<()> {
    if name.starts_with(b".wh.") {
        let name = String::from_utf8_lossy(name);
        return Err(Error::invalid(format!(
            "a layer cannot hold a file named {name:?}: .wh. begins a whiteout"
        )));
    }
    Ok(())
}

const WHITEOUT: &str = "a device 0:0 is a whiteout for overlayfs and stays out of the layer";

/// Why something has to stay out.
fn cannot_be_told(stat: Stat) -> Option<&'static str> {
    match stat.kind {
        Type::Socket => Some("a socket stays out of the layer"),
        Type::Character if stat.device == (0, 0) => Some(WHITEOUT),
        _ => None,
    }
}
