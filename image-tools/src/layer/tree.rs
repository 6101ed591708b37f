//! A tree on disk as a layer is made of it. Everything is found by a directory's descriptor and one name, no symbolic
//! link is followed, no mount is entered, and what was opened is compared with what was listed: whoever changes the
//! tree meanwhile gets an error, not a file from elsewhere (openat2(2), statx(2), xattr(7)).

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, StatxFlags};
use rustix::io::Errno;

use crate::error::{Context as _, Error, Result};
use crate::layer::member::Time;

/// The longest path that a layer may hold: the kernel's PATH_MAX without the NUL and the slash behind a directory.
pub const PATH_MAX: usize = 4094;
/// How many directories on the way to the root stay open.
const HELD: usize = 64;

/// What tells one inode from another, as long as both exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Inode {
    /// The device, packed.
    pub device: u64,
    /// The number on it.
    pub number: u64,
}

/// What lies at a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A character device.
    Character,
    /// A block device.
    Block,
    /// A socket's name.
    Socket,
}

/// An inode's metadata, without its extended attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: Type,
    /// Permissions with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner as the kernel tells it, not mapped.
    pub uid: u32,
    /// Group, likewise.
    pub gid: u32,
    /// In bytes.
    pub size: u64,
    /// Last change of the content.
    pub mtime: Time,
    /// Last change of anything.
    pub ctime: Time,
    /// Which inode.
    pub inode: Inode,
    /// How many names it has.
    pub links: u32,
    /// A device's major and minor.
    pub device: (u32, u32),
}

/// A name in a directory.
#[derive(Clone, Debug)]
pub struct Entry {
    /// One component.
    pub name: Vec<u8>,
    /// When it was listed.
    pub stat: Stat,
}

/// Extended attributes, sorted by name.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

impl Stat {
    /// Of an open file.
    ///
    /// # Errors
    /// When statx does.
    pub fn of(fd: BorrowedFd<'_>) -> rustix::io::Result<Self> {
        Self::at(fd, b"")
    }

    /// Of a name in a directory; a symbolic link is told itself.
    ///
    /// # Errors
    /// When statx does.
    pub fn at(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Self> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
        let stat = rustix::fs::statx(dir, name, flags, StatxFlags::BASIC_STATS)?;
        let time = |t: rustix::fs::StatxTimestamp| Time { seconds: t.tv_sec, nanoseconds: t.tv_nsec };
        Ok(Self {
            kind: match FileType::from_raw_mode(stat.stx_mode.into()) {
                FileType::Directory => Type::Directory,
                FileType::Symlink => Type::Symlink,
                FileType::Fifo => Type::Fifo,
                FileType::CharacterDevice => Type::Character,
                FileType::BlockDevice => Type::Block,
                FileType::Socket => Type::Socket,
                _ => Type::File,
            },
            mode: u32::from(stat.stx_mode) & 0o7777,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            size: stat.stx_size,
            mtime: time(stat.stx_mtime),
            ctime: time(stat.stx_ctime),
            inode: Inode {
                device: u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor),
                number: stat.stx_ino,
            },
            links: stat.stx_nlink,
            device: (stat.stx_rdev_major, stat.stx_rdev_minor),
        })
    }
}

/// A path for a message: as in the container, quoted.
pub fn shown(path: &[u8]) -> String {
    format!("{:?}", format!("/{}", String::from_utf8_lossy(path)))
}

/// Adds a component to the path of a walk.
///
/// # Errors
/// When the path becomes longer than a layer may hold.
pub fn step(path: &mut Vec<u8>, name: &[u8]) -> Result<()> {
    let slash = usize::from(!path.is_empty());
    if path.len() + slash + name.len() > PATH_MAX {
        // Enough of it for the message.
        path.truncate(64);
        return Err(Error::unsupported(format!("a path below is longer than {PATH_MAX} bytes")));
    }
    path.extend_from_slice(&b"/"[..slash]);
    path.extend_from_slice(name);
    Ok(())
}

/// What came of opening a name.
pub enum Opened {
    /// It was there.
    Yes(OwnedFd, Stat),
    /// Something is mounted on it: the tree ends here.
    Mount,
}

/// Opens the file or directory that was listed.
///
/// # Errors
/// When the name is something else by now, or the kernel refuses.
pub fn open(dir: BorrowedFd<'_>, entry: &Entry) -> Result<Opened> {
    // To open a device is to use it: it is looked at before.
    let flags = match entry.stat.kind {
        Type::Directory => OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK,
        _ => OFlags::PATH,
    };
    let fd = match open_with(dir, &entry.name, flags) {
        Ok(fd) => fd,
        Err(Errno::XDEV) => return Ok(Opened::Mount),
        Err(Errno::LOOP | Errno::NOTDIR | Errno::NOENT | Errno::NXIO) => return Err(replaced()),
        Err(e) => return Err(e.into()),
    };
    let stat = Stat::of(fd.as_fd())?;
    if stat.inode != entry.stat.inode || stat.kind != entry.stat.kind {
        return Err(replaced());
    }
    if entry.stat.kind == Type::Directory {
        return Ok(Opened::Yes(fd, stat));
    }
    Ok(Opened::Yes(reopen(fd.as_fd())?, stat))
}

/// Opens for reading what was only looked at until now.
///
/// # Errors
/// When the kernel refuses; and without /proc.
pub fn reopen(seen: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open(format!("/proc/self/fd/{}", seen.as_raw_fd()), flags, Mode::empty())
}

fn replaced() -> Error {
    Error::other("it was replaced while it was read")
}

/// Opens a directory of the tree below, if there is one by that name.
///
/// # Errors
/// When the kernel refuses for another reason than that there is none.
pub fn open_directory(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Option<OwnedFd>> {
    match open_at(dir, name, OFlags::DIRECTORY) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(e) => Err(e),
    }
}

fn open_at(dir: BorrowedFd<'_>, name: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    // NONBLOCK: a pipe put in the file's place must not make us wait for its writer.
    open_with(dir, name, flags | OFlags::RDONLY | OFlags::NONBLOCK)
}

fn open_with(dir: BorrowedFd<'_>, name: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(dir, name, flags, Mode::empty(), resolve) {
            // Somebody renamed or mounted at the same moment.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

/// All names of an open directory with their metadata, sorted by bytes.
///
/// # Errors
/// When a name vanishes between being listed and being looked at, or the kernel refuses.
pub fn list(dir: BorrowedFd<'_>) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut buffer = [std::mem::MaybeUninit::uninit(); 16 * 1024];
    let mut names = RawDir::new(dir, &mut buffer);
    while let Some(entry) = names.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            let stat = Stat::at(dir, name).with_context(|| format!("{:?}", entry.file_name()))?;
            entries.push(Entry { name: name.to_vec(), stat });
        }
    }
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// A symbolic link's target.
///
/// # Errors
/// When the name is no symbolic link any more.
pub fn target(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<u8>> {
    match rustix::fs::readlinkat(dir, name, Vec::new()) {
        Ok(target) => Ok(target.into_bytes()),
        Err(Errno::INVAL | Errno::NOENT) => Err(replaced()),
        Err(e) => Err(e.into()),
    }
}

/// The extended attributes of an open file or directory.
///
/// # Errors
/// When the kernel refuses; that the file system has none is no error.
pub fn xattrs(fd: BorrowedFd<'_>) -> Result<Xattrs> {
    collect(
        |buffer| rustix::fs::flistxattr(fd, buffer),
        |name, buffer| rustix::fs::fgetxattr(fd, name, buffer),
    )
}

/// The extended attributes of what cannot be opened for them: links, devices, pipes. The last component is not
/// followed.
///
/// # Errors
/// As [`xattrs`]; and without /proc.
pub fn xattrs_at(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Xattrs> {
    let path = [format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes(), name].concat();
    collect(
        |buffer| rustix::fs::llistxattr(path.as_slice(), buffer),
        |name, buffer| rustix::fs::lgetxattr(path.as_slice(), name, buffer),
    )
}

fn collect(
    names: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
    value: impl Fn(&[u8], &mut [u8]) -> rustix::io::Result<usize>,
) -> Result<Xattrs> {
    let names = match grown(names) {
        Ok(names) => names,
        Err(Errno::OPNOTSUPP) => return Ok(Xattrs::new()),
        Err(e) => return Err(e).context("list extended attributes"),
    };
    let mut found = Xattrs::new();
    for name in names.split(|b| *b == 0).filter(|n| !n.is_empty()) {
        match grown(|buffer| value(name, buffer)) {
            Ok(value) => found.push((name.to_vec(), value)),
            // Taken away meanwhile, or (overlay) only listed.
            Err(Errno::NODATA) => {}
            Err(e) => {
                return Err(e).with_context(|| format!("attribute {:?}", String::from_utf8_lossy(name)));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Reads with a larger buffer until it is large enough.
fn grown(read: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut small = [0; 256];
    match read(&mut small) {
        Ok(n) => return Ok(small[..n].to_vec()),
        Err(Errno::RANGE) => {}
        Err(e) => return Err(e),
    }
    // The kernel's XATTR_SIZE_MAX and XATTR_LIST_MAX.
    let mut large = vec![0; 64 * 1024];
    let n = read(&mut large)?;
    large.truncate(n);
    Ok(large)
}

/// The directories from a root to where a walk is. However deep that is, only the last few are open: one that was
/// closed is opened again through `..` of the one below it, and has to be the same.
pub struct Chain(Vec<(Inode, Option<OwnedFd>)>);

impl Chain {
    /// A chain of one: the root, opened anew, so that the caller's descriptor keeps its offset.
    ///
    /// # Errors
    /// When it is no directory.
    pub fn new(root: BorrowedFd<'_>) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(root, ".", flags, Mode::empty()).context("open the root of the tree")?;
        let inode = Stat::of(fd.as_fd())?.inode;
        Ok(Self(vec![(inode, Some(fd))]))
    }

    /// Where the walk is.
    ///
    /// # Panics
    /// Never: the last is always open, and there is one until the root was left.
    pub fn last(&self) -> BorrowedFd<'_> {
        let last = self.0.last().and_then(|(_, fd)| fd.as_ref());
        last.expect("the last directory of a chain is open").as_fd()
    }

    /// One down.
    pub fn enter(&mut self, fd: OwnedFd, inode: Inode) {
        self.0.push((inode, Some(fd)));
        if let Some(far) = self.0.len().checked_sub(HELD + 1) {
            self.0[far].1 = None;
        }
    }

    /// One up.
    ///
    /// # Errors
    /// When the directory was moved meanwhile.
    pub fn leave(&mut self) -> Result<()> {
        let left = self.0.pop();
        if let (Some((_, Some(below))), Some((inode, fd @ None))) = (left, self.0.last_mut()) {
            let up = open_at(below.as_fd(), b"..", OFlags::DIRECTORY)?;
            if Stat::of(up.as_fd())?.inode != *inode {
                return Err(Error::other("a directory was moved while it was read"));
            }
            *fd = Some(up);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::inotify;

    #[test]
    fn what_was_put_in_a_file_s_place_is_not_opened() {
        let top = std::env::temp_dir().join(format!("pintle-image-swap-{}", std::process::id()));
        std::fs::create_dir_all(&top).unwrap();
        std::fs::write(top.join("f"), "content").unwrap();
        let dir = crate::tree::open_dir(rustix::fs::CWD, &top).unwrap();
        let entry = list(dir.as_fd()).unwrap().remove(0);
        assert!(matches!(open(dir.as_fd(), &entry).unwrap(), Opened::Yes(..)));
        std::fs::rename(top.join("f"), top.join("other")).unwrap();
        rustix::fs::mknodat(&dir, "f", FileType::Fifo, Mode::RUSR, 0).unwrap();
        let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
        inotify::add_watch(&watch, top.join("f"), inotify::WatchFlags::OPEN).unwrap();
        let error = open(dir.as_fd(), &entry).map(|_| ()).unwrap_err().to_string();
        assert_eq!(error, replaced().to_string());
        assert_eq!(rustix::io::read(&watch, &mut [0; 512]), Err(Errno::AGAIN));
        std::fs::remove_dir_all(&top).unwrap();
    }
}
