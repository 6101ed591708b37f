//! What a walk finds, as members of the archive: parents before what changed in them, the first name of a file before
//! its other ones, ids and times as the image wants them.

use std::collections::HashMap;
use std::io::{Read, Write, empty};

use crate::error::Result;
use crate::layer::diff::Options;
use crate::layer::diff::marks::drop_local;
use crate::layer::member::{Kind, Member, Time};
use crate::layer::tree::{self, Inode, Stat, Xattrs};
use crate::layer::write::Archive;

/// The archive, and what has to be remembered on the way.
pub(super) struct Out<'a, W: Write> {
    archive: &'a mut Archive<W>,
    options: &'a Options<'a>,
    warn: &'a mut dyn FnMut(&str),
    /// Files with more names to come: the first one, and how many are left.
    links: HashMap<Inode, (Vec<u8>, u32)>,
    /// The directories from the root to here; None: already told.
    parents: Vec<Option<Member>>,
    told: usize,
}

impl<'a, W: Write> Out<'a, W> {
    pub(super) fn new(
        archive: &'a mut Archive<W>,
        options: &'a Options<'a>,
        warn: &'a mut dyn FnMut(&str),
    ) -> Self {
        Self { archive, options, warn, links: HashMap::new(), parents: Vec::new(), told: 0 }
    }

    /// Something stays out of the layer, and the user should know.
    pub(super) fn warn(&mut self, path: &[u8], why: &str) {
        (self.warn)(&format!("{}: {why}", tree::shown(path)));
    }

    /// A directory is entered; it is told with its first change.
    pub(super) fn down(&mut self, directory: Member) {
        self.parents.push(Some(directory));
    }

    /// The directory is left.
    pub(super) fn up(&mut self) {
        self.parents.pop();
        self.told = self.told.min(self.parents.len());
    }

    /// Tells the directories to here that were not told yet.
    pub(super) fn tell_parents(&mut self) -> Result<()> {
        for directory in self.parents[self.told..].iter_mut().filter_map(Option::take) {
            self.archive.append_unnamed(&directory, empty())?;
        }
        self.told = self.parents.len();
        Ok(())
    }

    /// A member below the directory.
    pub(super) fn append(&mut self, member: &Member, data: impl Read) -> Result<()> {
        self.tell_parents()?;
        self.archive.append_unnamed(member, data)
    }

    /// Something of the layers below is gone from the directory.
    pub(super) fn whiteout(&mut self, directory: &[u8], name: &[u8]) -> Result<()> {
        let member = Member {
            path: join(directory, &[b".wh.", name].concat()),
            kind: Kind::File { size: 0, extents: None },
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            xattrs: Vec::new(),
        };
        self.append(&member, empty())
    }

    /// Tells one more name of a file that was told already; false: it was not.
    pub(super) fn link(&mut self, path: &[u8], stat: &Stat) -> Result<bool> {
        let Some((first, left)) = self.links.get_mut(&stat.inode).filter(|_| stat.links > 1) else {
            return Ok(false);
        };
        let kind = Kind::Hardlink(first.clone());
        *left -= 1;
        if *left == 0 {
            self.links.remove(&stat.inode);
        }
        let member = self.member(path, kind, stat, Xattrs::new())?;
        self.append(&member, empty())?;
        Ok(true)
    }

    /// Remembers a file that has more names.
    pub(super) fn remember(&mut self, path: &[u8], stat: &Stat) {
        if stat.links > 1 {
            self.links.insert(stat.inode, (path.to_vec(), stat.links - 1));
        }
    }

    pub(super) fn member(&self, path: &[u8], kind: Kind, stat: &Stat, mut xattrs: Xattrs) -> Result<Member> {
        let (uid, gid) = self.options.ids.owner(stat.uid, stat.gid)?;
        drop_local(&mut xattrs);
        self.options.ids.attributes(&mut xattrs);
        let epoch = self.options.epoch.map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX));
        let latest = epoch.map(|seconds| Time { seconds, nanoseconds: 0 });
        let mtime = latest.map_or(stat.mtime, |latest| stat.mtime.min(latest));
        Ok(Member { path: path.to_vec(), kind, mode: stat.mode, uid, gid, mtime, xattrs })
    }
}

/// The path of a name in a directory.
pub(super) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}
