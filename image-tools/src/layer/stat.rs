//! The stat manifest of a flat bundle: what its tree looked like right after it was unpacked, so that a commit finds
//! what changed without reading a file. An unchanged inode has its number, ctime, mtime and size; no program can set
//! a ctime.
//!
//! A block per directory, in the order of a walk (a directory's block, then those of its subdirectories, names sorted
//! by bytes): digest of the directory's attributes, number of entries, entries. Numbers are LEB128, names have their
//! length.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::time::{ClockId, Timespec};
use sha2::{Digest as _, Sha256};

use crate::error::{Context as _, Error, Result};
use crate::layer::member::Time;
use crate::layer::tree::{self, Chain, Entry, Inode, Opened, Stat, Type, Xattrs};

const MAGIC: &[u8] = b"pintle stat manifest 1\n";

/// Tells the same extended attributes and link target from others; zeros: neither. Files have none: their ctime
/// tells.
pub type Rest = [u8; 16];

/// An entry of a directory as it was recorded; its [`Stat`] lacks device and number of links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// One component.
    pub name: Vec<u8>,
    /// When it was recorded.
    pub stat: Stat,
    /// Of links, pipes and devices; a directory's stands in its block.
    pub rest: Rest,
}

/// A directory as it was recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// Of the directory itself.
    pub rest: Rest,
    /// Sorted by name.
    pub entries: Vec<Record>,
}

/// The digest of what neither a stat nor the content tells.
pub fn rest(xattrs: &Xattrs, target: &[u8]) -> Rest {
    if xattrs.is_empty() && target.is_empty() {
        return Rest::default();
    }
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    add(target);
    for (name, value) in xattrs {
        add(name);
        add(value);
    }
    let mut rest = Rest::default();
    rest.copy_from_slice(&hash.finalize()[..16]);
    rest
}

/// The digest for an entry that is neither file nor directory.
///
/// # Errors
/// When the entry cannot be read.
pub fn rest_at(dir: BorrowedFd<'_>, entry: &Entry) -> Result<Rest> {
    let target = match entry.stat.kind {
        Type::Symlink => tree::target(dir, &entry.name)?,
        _ => Vec::new(),
    };
    Ok(rest(&tree::xattrs_at(dir, &entry.name)?, &target))
}

/// Writes the manifest of a tree, and returns when any later change will have a later ctime.
///
/// # Errors
/// When the tree changes meanwhile, cannot be read, or the manifest cannot be written.
pub fn record(root: BorrowedFd<'_>, to: impl Write) -> Result<()> {
    let mut recorder = Recorder { to, buffer: MAGIC.to_vec(), newest: Time::default(), path: Vec::new() };
    recorder.tree(root).with_context(|| tree::shown(&recorder.path))?;
    recorder.drain(0)?;
    recorder.to.flush().context("write the stat manifest")?;
    wait_past(recorder.newest);
    Ok(())
}

struct Recorder<W: Write> {
    to: W,
    buffer: Vec<u8>,
    newest: Time,
    path: Vec<u8>,
}

impl<W: Write> Recorder<W> {
    fn tree(&mut self, root: BorrowedFd<'_>) -> Result<()> {
        let mut chain = Chain::new(root)?;
        self.stat(&Stat::of(root)?);
        let mut levels = vec![(self.directory(chain.last())?.into_iter(), 0)];
        while let Some((subdirectories, above)) = levels.last_mut() {
            let Some(entry) = subdirectories.next() else {
                self.path.truncate(*above);
                levels.pop();
                chain.leave()?;
                continue;
            };
            let above = self.path.len();
            tree::step(&mut self.path, &entry.name)?;
            match tree::open(chain.last(), &entry)? {
                Opened::Yes(fd, stat) => {
                    chain.enter(fd, stat.inode);
                    levels.push((self.directory(chain.last())?.into_iter(), above));
                }
                Opened::Mount => {
                    self.block(&Rest::default(), 0)?;
                    self.path.truncate(above);
                }
            }
        }
        Ok(())
    }

    /// Writes a directory's block; returns its subdirectories.
    fn directory(&mut self, dir: BorrowedFd<'_>) -> Result<Vec<Entry>> {
        let mut entries = tree::list(dir)?;
        self.block(&rest(&tree::xattrs(dir)?, &[]), entries.len())?;
        for entry in &entries {
            self.number(entry.name.len() as u64);
            self.buffer.extend_from_slice(&entry.name);
            self.stat(&entry.stat);
            if !matches!(entry.stat.kind, Type::File | Type::Directory) {
                let rest = rest_at(dir, entry)?;
                self.buffer.extend_from_slice(&rest);
            }
        }
        self.drain(64 * 1024)?;
        entries.retain(|e| e.stat.kind == Type::Directory);
        Ok(entries)
    }

    fn block(&mut self, rest: &Rest, entries: usize) -> Result<()> {
        self.buffer.extend_from_slice(rest);
        self.number(entries as u64);
        self.drain(64 * 1024)
    }

    fn stat(&mut self, stat: &Stat) {
        self.newest = self.newest.max(stat.ctime);
        let (major, minor) = stat.device;
        let numbers = [kind_number(stat.kind), stat.mode, stat.uid, stat.gid, major, minor];
        numbers.into_iter().for_each(|n| self.number(n.into()));
        self.number(stat.size);
        self.number(stat.inode.number);
        for time in [stat.mtime, stat.ctime] {
            // Zigzag: small numbers stay short on both sides of 1970.
            self.number((time.seconds << 1 ^ time.seconds >> 63) as u64);
            self.number(time.nanoseconds.into());
        }
    }

    fn number(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.buffer.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.buffer.push(n as u8);
    }

    fn drain(&mut self, above: usize) -> Result<()> {
        if self.buffer.len() > above {
            self.to.write_all(&self.buffer).context("write the stat manifest")?;
            self.buffer.clear();
        }
        Ok(())
    }
}

/// The kernel stamps files by a clock that stands still for some milliseconds. A file that changes within the tick in
/// which it was recorded would look unchanged for ever; so the recording lasts until the next tick.
fn wait_past(newest: Time) {
    // No longer than the longest tick: where the clock was set back, the old time does not come again soon.
    for _ in 0..20 {
        let now: Timespec = rustix::time::clock_gettime(ClockId::RealtimeCoarse);
        if (now.tv_sec, now.tv_nsec as u32) > (newest.seconds, newest.nanoseconds) {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn kind_number(kind: Type) -> u32 {
    match kind {
        Type::File => 0,
        Type::Directory => 1,
        Type::Symlink => 2,
        Type::Fifo => 3,
        Type::Character => 4,
        Type::Block => 5,
        Type::Socket => 6,
    }
}

/// A manifest that is being read, block by block.
pub struct Reader<'a> {
    from: BufReader<Box<dyn Read + 'a>>,
}

impl<'a> Reader<'a> {
    /// Begins to read: the root's own metadata, which no block tells, comes first.
    ///
    /// # Errors
    /// When this is no manifest of this version.
    pub fn new(from: impl Read + 'a) -> Result<(Self, Stat)> {
        let mut reader = Self { from: BufReader::with_capacity(64 * 1024, Box::new(from)) };
        let mut magic = [0; MAGIC.len()];
        reader.exact(&mut magic)?;
        if magic != MAGIC {
            return Err(Error::invalid("this is no stat manifest that this program knows"));
        }
        let root = reader.stat()?;
        Ok((reader, root))
    }

    /// The next directory.
    ///
    /// # Errors
    /// When the manifest ends early or makes no sense.
    pub fn directory(&mut self) -> Result<Block> {
        let mut block = Block::default();
        self.exact(&mut block.rest)?;
        for _ in 0..self.number()? {
            let record = self.record()?;
            if block.entries.last().is_some_and(|last| last.name >= record.name) {
                return Err(Error::invalid("the stat manifest is not sorted"));
            }
            block.entries.push(record);
        }
        Ok(block)
    }

    /// Leaves out the next directory and all below it.
    ///
    /// # Errors
    /// As [`Reader::directory`].
    pub fn skip_directory(&mut self) -> Result<()> {
        let mut left = 1_usize;
        while left > 0 {
            let block = self.directory()?;
            left += block.entries.iter().filter(|e| e.stat.kind == Type::Directory).count();
            left -= 1;
        }
        Ok(())
    }

    /// That nothing follows.
    ///
    /// # Errors
    /// When something does.
    pub fn end(mut self) -> Result<()> {
        match self.from.fill_buf().context("read the stat manifest")? {
            [] => Ok(()),
            _ => Err(Error::invalid("the stat manifest goes on after its end")),
        }
    }

    fn record(&mut self) -> Result<Record> {
        let length = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        if !(1..=255).contains(&length) {
            return Err(Error::invalid("the stat manifest has a name of impossible length"));
        }
        let mut name = vec![0; length];
        self.exact(&mut name)?;
        let stat = self.stat()?;
        let mut rest = Rest::default();
        if !matches!(stat.kind, Type::File | Type::Directory) {
            self.exact(&mut rest)?;
        }
        Ok(Record { name, stat, rest })
    }

    fn stat(&mut self) -> Result<Stat> {
        let kind = match self.number()? {
            0 => Type::File,
            1 => Type::Directory,
            2 => Type::Symlink,
            3 => Type::Fifo,
            4 => Type::Character,
            5 => Type::Block,
            6 => Type::Socket,
            other => return Err(Error::invalid(format!("the stat manifest has a type {other}"))),
        };
        let (mode, uid, gid) = (self.small()?, self.small()?, self.small()?);
        let device = (self.small()?, self.small()?);
        let size = self.number()?;
        let inode = Inode { device: 0, number: self.number()? };
        let (mtime, ctime) = (self.time()?, self.time()?);
        Ok(Stat { kind, mode, uid, gid, size, mtime, ctime, inode, links: 0, device })
    }

    fn time(&mut self) -> Result<Time> {
        let seconds = self.number()?;
        let seconds = (seconds >> 1) as i64 ^ -((seconds & 1) as i64);
        Ok(Time { seconds, nanoseconds: self.small()? })
    }

    fn small(&mut self) -> Result<u32> {
        u32::try_from(self.number()?)
            .map_err(|_| Error::invalid("the stat manifest has a number out of range"))
    }

    fn number(&mut self) -> Result<u64> {
        let mut n = 0;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            self.exact(&mut byte)?;
            n |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] < 0x80 {
                return Ok(n);
            }
        }
        Err(Error::invalid("the stat manifest has a number out of range"))
    }

    fn exact(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.from.read_exact(bytes).context("read the stat manifest")
    }
}
