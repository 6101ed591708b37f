//! A member of a layer's archive: what its header, or headers, say. Paths are the archive's bytes, not yet resolved.

/// A point in time as tar knows it; before 1970 `seconds` is negative and `nanoseconds` still counts forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Since 1970-01-01.
    pub seconds: i64,
    /// Below 1,000,000,000.
    pub nanoseconds: u32,
}

/// A piece of a sparse file that is not a hole, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// From the file's begin.
    pub offset: u64,
    /// How many bytes of data.
    pub length: u64,
}

/// What the member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file; of a sparse one the archive holds the extents only.
    File {
        /// With the holes, in bytes.
        size: u64,
        /// None: all of it is data.
        extents: Option<Vec<Extent>>,
    },
    /// One more name of a file, which has its own metadata already.
    Hardlink(Vec<u8>),
    /// A symbolic link and its target, verbatim.
    Symlink(Vec<u8>),
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
    /// A character device: major, minor.
    Character(u32, u32),
    /// A block device: major, minor.
    Block(u32, u32),
}

/// One entry of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// As in the archive: perhaps with `./` before it or `/` behind it.
    pub path: Vec<u8>,
    /// And what only this kind has.
    pub kind: Kind,
    /// Permissions with setuid, setgid and sticky: at most 0o7777.
    pub mode: u32,
    /// Owner, not yet mapped.
    pub uid: u32,
    /// Group, not yet mapped.
    pub gid: u32,
    /// Last change of the content.
    pub mtime: Time,
    /// Extended attributes: names without `SCHILY.xattr.`, values as they are.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}
