//! Trees that strangers made: removing them, however deep they are, without following a link and without a file descriptor or a
//! stack frame per level (openat(2), unlinkat(2)).

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags, fchmod,
    fchown, fgetxattr, flistxattr, flistxattr_query, fsetxattr, fstat, futimens, mkdirat, openat, openat2,
    statat, unlinkat,
};
use rustix::io::Errno;

use crate::error::{Context, Error, Result};
use crate::layer::read::show;

/// Opens a directory itself, not what a link of its name leads to.
pub fn open_dir(at: impl AsFd, name: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    openat(at, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Makes a directory, 0755 and of 1970: a tree's root where no layer says otherwise.
pub fn make_root(at: impl AsFd, name: impl rustix::path::Arg) -> Result<OwnedFd> {
    let name = name.into_c_str()?;
    mkdirat(&at, &*name, Mode::RWXU)?;
    let root = open_dir(at, &*name)?;
    set_default(&root)?;
    Ok(root)
}

/// Makes a directory one that nobody tells of: 0755 and of 1970.
pub fn set_default(dir: impl AsFd) -> Result<()> {
    fchmod(&dir, Mode::from_raw_mode(0o755))?;
    let epoch = Timespec { tv_sec: 0, tv_nsec: 0 };
    Ok(futimens(&dir, &Timestamps { last_access: epoch, last_modification: epoch })?)
}

/// The names in a directory, without `.` and `..`, and what each probably is.
pub fn names(dir: impl AsFd) -> rustix::io::Result<Vec<(CString, FileType)>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            found.push((entry.file_name().to_owned(), entry.file_type()));
        }
    }
    Ok(found)
}

/// The names of a file's extended attributes; none where the file system has no such thing.
pub fn xattr_names(file: impl AsFd) -> rustix::io::Result<Vec<Vec<u8>>> {
    loop {
        let size = match flistxattr_query(&file) {
            Err(Errno::OPNOTSUPP) => 0,
            other => other?,
        };
        if size == 0 {
            return Ok(Vec::new());
        }
        let mut list = vec![0; size];
        match flistxattr(&file, &mut list[..]) {
            // More of them meanwhile.
            Err(Errno::RANGE) => {}
            Err(e) => return Err(e),
            Ok(size) => {
                let names = list[..size].split(|b| *b == 0).filter(|n| !n.is_empty());
                return Ok(names.map(<[u8]>::to_vec).collect());
            }
        }
    }
}

fn is_overlays(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

/// Gives a directory the owner, mode, attributes and time of another one; what belongs to overlayfs stays where it is.
pub fn copy_root(from: impl AsFd, to: impl AsFd) -> Result<()> {
    let stat = fstat(&from)?;
    fchown(&to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    for name in xattr_names(&from)?.into_iter().filter(|name| !is_overlays(name)) {
        let mut value = vec![0; 1 << 16];
        let size = fgetxattr(&from, &name[..], &mut value[..])?;
        match fsetxattr(&to, &name[..], &value[..size], XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(e) => return Err(e).with_context(|| format!("extended attribute {}", show(&name))),
        }
    }
    fchmod(&to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    let time = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as i64 };
    Ok(futimens(&to, &Timestamps { last_access: time, last_modification: time })?)
}

/// What is not removed, by its directory's inode and its name.
pub trait Keep {
    /// Whether this entry stays; a directory that stays is looked into all the same.
    fn keeps(&self, dir: u64, name: &[u8]) -> bool;
}

/// Nothing is kept.
pub struct Nothing;

impl Keep for Nothing {
    fn keeps(&self, _: u64, _: &[u8]) -> bool {
        false
    }
}

/// Removes `name` in `dir` with everything below it; nothing there is no error.
pub fn remove(dir: impl AsFd, name: &CStr) -> Result<()> {
    let ino = fstat(&dir)?.st_ino;
    prune(dir.as_fd(), ino, name, &Nothing).with_context(|| format!("remove {}", show(name.to_bytes())))
}

/// Removes everything in `dir`.
pub fn clear(dir: BorrowedFd<'_>, keep: &impl Keep) -> Result<()> {
    let ino = fstat(dir)?.st_ino;
    for (name, _) in names(dir)? {
        prune(dir, ino, &name, keep).with_context(|| format!("remove {}", show(name.to_bytes())))?;
    }
    Ok(())
}

/// A directory on the way down: its own name, and what is still to be done in it.
struct Level {
    name: CString,
    ino: u64,
    left: Vec<(CString, FileType)>,
}

/// Removes `name` in the directory `dir` (inode `ino`) and what is below it, but for what is kept and the directories on the
/// way to that.
pub fn prune(dir: BorrowedFd<'_>, ino: u64, name: &CStr, keep: &impl Keep) -> Result<()> {
    if !keep.keeps(ino, name.to_bytes()) {
        match unlinkat(dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(e) => return Err(e.into()),
        }
    }
    let mut here = match open_here(dir, name) {
        Ok(fd) => fd,
        // Kept, and no directory, or gone again.
        Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => return Ok(()),
        Err(e) => return Err(in_the_way(e, name)),
    };
    let top = ino;
    let mut levels = vec![level(&here, name)?];
    while let Some(current) = levels.last_mut() {
        let Some((child, kind)) = current.left.pop() else {
            // Everything below is done: up again, to the directory that we came from.
            let done = levels.pop().expect("it is the last one");
            let above = levels.last().map_or(top, |l| l.ino);
            let up = if levels.is_empty() { dir.try_clone_to_owned()? } else { open_dir(&here, c"..")? };
            if fstat(&up)?.st_ino != above {
                return Err(Error::other("moved while it was removed"));
            }
            if !keep.keeps(above, done.name.to_bytes()) {
                match unlinkat(&up, &done.name, AtFlags::REMOVEDIR) {
                    Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => {}
                    Err(e) => return Err(e.into()),
                }
            }
            here = up;
            continue;
        };
        let kept = keep.keeps(current.ino, child.to_bytes());
        let is_dir = match kind {
            FileType::Unknown => {
                let stat = statat(&here, &child, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            }
            known => known == FileType::Directory,
        };
        if is_dir {
            let below = open_here(&here, &child).map_err(|e| in_the_way(e, &child))?;
            levels.push(level(&below, &child)?);
            here = below;
        } else if !kept {
            match unlinkat(&here, &child, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
    Ok(())
}

/// Opens a directory unless something is mounted on it: that is somebody else's, and nothing of it is to be removed.
fn open_here(at: impl AsFd, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat2(at, name, flags, Mode::empty(), ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS)
}

fn in_the_way(error: Errno, name: &CStr) -> Error {
    match error {
        Errno::XDEV => Error::other(format!("something is mounted on {}", show(name.to_bytes()))),
        other => other.into(),
    }
}

fn level(dir: &OwnedFd, name: &CStr) -> Result<Level> {
    let stat = fstat(dir)?;
    // A directory that nobody may enter stands in the way of its owner, too.
    if stat.st_mode & 0o700 != 0o700 {
        fchmod(dir, Mode::RWXU)?;
    }
    Ok(Level { name: name.to_owned(), ino: stat.st_ino, left: names(dir)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_very_deep_tree_is_removed_without_leaving_it() {
        let name = format!("pintle-image-deep-{}", std::process::id());
        let top = std::env::temp_dir().join(&name);
        std::fs::create_dir_all(&top).unwrap();
        std::fs::write(top.join("outside"), "stays").unwrap();
        let mut here = open_dir(rustix::fs::CWD, &top).unwrap();
        for _ in 0..5000 {
            mkdirat(&here, c"d", Mode::RWXU).unwrap();
            here = open_dir(&here, c"d").unwrap();
            rustix::fs::symlinkat(top.join("outside"), &here, c"link").unwrap();
        }
        symlink(&top, top.join("d/up")).unwrap();
        let fd = open_dir(rustix::fs::CWD, &top).unwrap();
        remove(&fd, c"d").unwrap();
        assert!(!top.join("d").exists());
        assert_eq!(std::fs::read_to_string(top.join("outside")).unwrap(), "stays");
        let temp = open_dir(rustix::fs::CWD, std::env::temp_dir()).unwrap();
        remove(&temp, &CString::new(name).unwrap()).unwrap();
        assert!(!top.exists());
    }
}
