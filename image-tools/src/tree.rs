//! Trees that strangers made: removing them, however deep they are, without following a link and without a file descriptor or a
//! stack frame per level (openat(2), unlinkat(2)).

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    Access, AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT, Uid,
    XattrFlags, accessat, chmod, fchmod, fchown, fgetxattr, flistxattr, flistxattr_query, fsetxattr, fstat,
    futimens, mkdirat, openat, openat2, statat, unlinkat,
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
    copy_attributes(from, to, |name| !is_overlays(name))
}

/// The same with those extended attributes that are `wanted`; others that `to` has stay.
pub fn copy_attributes(from: impl AsFd, to: impl AsFd, wanted: impl Fn(&[u8]) -> bool) -> Result<()> {
    let stat = fstat(&from)?;
    fchown(&to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    for name in xattr_names(&from)?.into_iter().filter(|name| wanted(name)) {
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
    prune(dir.as_fd(), ino, name, &Nothing).context("remove")
}

/// Removes everything in `dir`.
pub fn clear(dir: BorrowedFd<'_>, keep: &impl Keep) -> Result<()> {
    let ino = fstat(dir)?.st_ino;
    for (name, _) in names(dir)? {
        prune(dir, ino, &name, keep).context("remove")?;
    }
    Ok(())
}

/// A directory on the way down: its own name, and what is still to be done in it.
struct Level {
    name: CString,
    ino: u64,
    left: Vec<(CString, FileType)>,
    /// Something in it stays, and so does it.
    stays: bool,
    /// Its time before something in it was removed.
    mtime: Timespec,
    removed: bool,
    /// Its mode, where that stood in the way.
    mode: Option<Mode>,
}

impl Level {
    /// What stays is as it was.
    fn restore(&self, dir: &OwnedFd) -> rustix::io::Result<()> {
        if let Some(mode) = self.mode {
            fchmod(dir, mode)?;
        }
        if self.removed {
            let last_access = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
            futimens(dir, &Timestamps { last_access, last_modification: self.mtime })?;
        }
        Ok(())
    }
}

/// Removes `name` in the directory `dir` (inode `ino`) and what is below it, but for what is kept and the directories on the
/// way to that, which keep their modes and times.
pub fn prune(dir: BorrowedFd<'_>, ino: u64, name: &CStr, keep: &impl Keep) -> Result<()> {
    let mut levels = Vec::new();
    let mut reached = name.to_owned();
    walk(dir, ino, keep, &mut levels, &mut reached).with_context(|| {
        let above = levels.iter().map(|level: &Level| level.name.to_bytes());
        let path: Vec<&[u8]> = above.chain([reached.to_bytes()]).collect();
        show(&path.join(&b'/'))
    })
}

/// On an error `levels` and `reached` say where.
fn walk(
    dir: BorrowedFd<'_>,
    ino: u64,
    keep: &impl Keep,
    levels: &mut Vec<Level>,
    reached: &mut CString,
) -> Result<()> {
    let mut refused = None;
    if !keep.keeps(ino, reached.to_bytes()) {
        match unlinkat(dir, &*reached, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(e @ (Errno::ISDIR | Errno::PERM)) => refused = Some(e),
            Err(e) => return Err(e.into()),
        }
    }
    let mut here = match enter(dir, reached) {
        Ok((fd, level)) => {
            levels.push(level);
            fd
        }
        // Gone again.
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => return refused.map_or(Ok(()), |e| Err(e.into())),
        Err(e) => return Err(in_the_way(e)),
    };
    while let Some(current) = levels.last_mut() {
        let Some((child, kind)) = current.left.pop() else {
            here = leave(here, dir, ino, keep, levels, reached)?;
            continue;
        };
        reached.clone_from(&child);
        let is_dir = match kind {
            FileType::Unknown => {
                let stat = statat(&here, &child, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            }
            known => known == FileType::Directory,
        };
        if is_dir {
            let (below, level) = enter(&here, &child).map_err(in_the_way)?;
            levels.push(level);
            here = below;
        } else if keep.keeps(current.ino, child.to_bytes()) {
            current.stays = true;
        } else {
            current.removed = true;
            gone(unlinkat(&here, &child, AtFlags::empty()))?;
        }
    }
    Ok(())
}

/// Everything in the directory `here` is done: up again, to the one that the walk came from.
fn leave(
    here: OwnedFd,
    top: BorrowedFd<'_>,
    top_ino: u64,
    keep: &impl Keep,
    levels: &mut Vec<Level>,
    reached: &mut CString,
) -> Result<OwnedFd> {
    let done = levels.pop().expect("the walk is in a directory");
    reached.clone_from(&done.name);
    let above = levels.last().map_or(top_ino, |level| level.ino);
    let up = if levels.is_empty() { top.try_clone_to_owned()? } else { open_dir(&here, c"..")? };
    if fstat(&up)?.st_ino != above {
        return Err(Error::other("moved while it was removed"));
    }
    let stays = done.stays || keep.keeps(above, done.name.to_bytes());
    if stays {
        done.restore(&here)?;
    } else {
        gone(unlinkat(&up, &done.name, AtFlags::REMOVEDIR))?;
    }
    if let Some(level) = levels.last_mut() {
        level.stays |= stays;
        level.removed |= !stays;
    }
    Ok(up)
}

fn gone(removed: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match removed {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// Opens a directory unless something is mounted on it: that is somebody else's, and nothing of it is to be removed.
fn open_here(at: impl AsFd, name: &CStr, access: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = access | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat2(at, name, flags, Mode::empty(), ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS)
}

fn in_the_way(error: Errno) -> Error {
    match error {
        Errno::XDEV => Error::other("something is mounted on it"),
        other => other.into(),
    }
}

/// Opens a directory to remove what is in it. One that its owner may not enter, read or change gets another mode; to root all are open.
fn enter(at: impl AsFd, name: &CStr) -> rustix::io::Result<(OwnedFd, Level)> {
    let mut mode = None;
    let dir = match open_here(&at, name, OFlags::RDONLY) {
        Err(Errno::ACCESS) => {
            let closed = open_here(&at, name, OFlags::PATH)?;
            mode = Some(Mode::from_raw_mode(fstat(&closed)?.st_mode));
            chmod(format!("/proc/self/fd/{}", closed.as_raw_fd()), Mode::RWXU)?;
            open_here(&at, name, OFlags::RDONLY)?
        }
        other => other?,
    };
    let stat = fstat(&dir)?;
    if stat.st_mode & 0o700 != 0o700 {
        let all = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
        if accessat(&dir, c".", all, AtFlags::EACCESS) == Err(Errno::ACCESS) {
            mode = Some(Mode::from_raw_mode(stat.st_mode));
            fchmod(&dir, Mode::RWXU)?;
        }
    }
    let mtime = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as i64 };
    let left = names(&dir)?;
    let level =
        Level { name: name.to_owned(), ino: stat.st_ino, left, stays: false, mtime, removed: false, mode };
    Ok((dir, level))
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

    /// Keeps all names that begin with this.
    struct Keeping(&'static str);

    impl Keep for Keeping {
        fn keeps(&self, _: u64, name: &[u8]) -> bool {
            name.starts_with(self.0.as_bytes())
        }
    }

    #[test]
    fn what_stays_keeps_its_mode_and_time() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let top = std::env::temp_dir().join(format!("pintle-image-stays-{}", std::process::id()));
        std::fs::create_dir_all(top.join("on/keep-dir/below")).unwrap();
        std::fs::write(top.join("on/keep-dir/goes"), "").unwrap();
        std::fs::write(top.join("on/keep-file"), "").unwrap();
        std::fs::write(top.join("on/goes"), "").unwrap();
        let kept = ["on/keep-dir", "on"].map(|path| top.join(path));
        for (path, mode) in kept.iter().zip([0o2555, 0o1000]) {
            let dir = open_dir(rustix::fs::CWD, path).unwrap();
            fchmod(&dir, Mode::from_raw_mode(mode)).unwrap();
            let time = Timespec { tv_sec: 1, tv_nsec: 2 };
            futimens(&dir, &Timestamps { last_access: time, last_modification: time }).unwrap();
        }
        clear(open_dir(rustix::fs::CWD, &top).unwrap().as_fd(), &Keeping("keep")).unwrap();
        for (path, mode) in kept.iter().rev().zip([0o1000, 0o2555]) {
            let stat = std::fs::metadata(path).unwrap();
            assert_eq!((stat.mode() & 0o7777, stat.mtime(), stat.mtime_nsec()), (mode, 1, 2), "{path:?}");
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode | 0o700)).unwrap();
            assert!(!path.join("goes").exists());
        }
        assert!(!top.join("on/keep-dir/below").exists() && top.join("on/keep-file").exists());
        std::fs::remove_dir_all(&top).unwrap();
    }

    #[test]
    fn what_is_not_removed_is_an_error_that_names_it() {
        use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
        let top = std::env::temp_dir().join(format!("pintle-image-immutable-{}", std::process::id()));
        std::fs::create_dir_all(top.join("d/e")).unwrap();
        let fd = open_dir(rustix::fs::CWD, &top).unwrap();
        for (path, remove_it) in [("file", c"file"), ("d/e/file", c"d")] {
            let file = std::fs::File::create(top.join(path)).unwrap();
            let Ok(flags) = ioctl_getflags(&file) else { continue };
            if ioctl_setflags(&file, flags | IFlags::IMMUTABLE).is_err() {
                continue;
            }
            let error = remove(&fd, remove_it).map_err(|e| e.to_string());
            ioctl_setflags(&file, flags).unwrap();
            assert_eq!(error, Err(format!("remove: {path:?}: operation not permitted")));
        }
        std::fs::remove_dir_all(&top).unwrap();
    }
}
