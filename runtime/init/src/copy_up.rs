//! tmpcopyup: a new tmpfs starts with a copy of the directory it is about to cover. The tmpfs is not attached yet, so
//! nobody sees a half copy.

use crate::failure::{Failure, Result};
use core::ffi::CStr;
use core::mem::MaybeUninit;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RawDir, Stat, Timespec, Timestamps, Uid, chmodat, chownat,
    fgetxattr, flistxattr, fsetxattr, linkat, mkdirat, mknodat, openat, readlinkat_raw, statat, symlinkat,
    utimensat,
};
use rustix::io::Errno;

/// Directories deeper than this are refused (ELOOP).
const DEPTH: usize = 64;
/// So many files with several names keep their links; beyond, each name gets a copy of its own.
const LINKS: usize = 128;

/// A file with several names, copied once.
struct Linked {
    device: u64,
    inode: u64,
    copy: OwnedFd,
}

/// Copies everything in `from` to `to`: contents, owners, modes, times, links, extended attributes.
pub fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result {
    let mut links = [const { None }; LINKS];
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let from = openat(from, c".", flags, Mode::empty()).map_err(Failure::at("tmpcopyup: open"))?;
    let to = openat(to, c".", flags, Mode::empty()).map_err(Failure::at("tmpcopyup: open"))?;
    directory(from.as_fd(), to.as_fd(), &mut links, 0).map_err(Failure::at("tmpcopyup"))
}

type Links = [Option<Linked>; LINKS];

fn directory(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    links: &mut Links,
    depth: usize,
) -> core::result::Result<(), Errno> {
    if depth == DEPTH {
        return Err(Errno::LOOP);
    }
    let mut buffer = [const { MaybeUninit::<u8>::uninit() }; 2048];
    let mut entries = RawDir::new(from, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            one(from, to, name, links, depth)?;
        }
    }
    Ok(())
}

fn one(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &CStr,
    links: &mut Links,
    depth: usize,
) -> core::result::Result<(), Errno> {
    let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    if !kind.is_dir() && stat.st_nlink > 1 && linked(to, name, &stat, links)? {
        return Ok(());
    }
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match kind {
        FileType::Directory => {
            mkdirat(to, name, Mode::RWXU)?;
            let source = openat(from, name, OFlags::RDONLY | OFlags::DIRECTORY | flags, Mode::empty())?;
            let copy = openat(to, name, OFlags::RDONLY | OFlags::DIRECTORY | flags, Mode::empty())?;
            directory(source.as_fd(), copy.as_fd(), links, depth + 1)?;
            attributes(source.as_fd(), copy.as_fd())?;
        }
        FileType::RegularFile => {
            let source = openat(from, name, OFlags::RDONLY | flags, Mode::empty())?;
            // Somebody may have put a device or an endless file in its place.
            let opened = rustix::fs::fstat(&source)?;
            if (opened.st_dev, opened.st_ino) != (stat.st_dev, stat.st_ino) {
                return Err(Errno::STALE);
            }
            let copy = openat(to, name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | flags, mode)?;
            while rustix::fs::sendfile(&copy, &source, None, 1 << 20)? > 0 {}
            attributes(source.as_fd(), copy.as_fd())?;
        }
        FileType::Symlink => {
            let mut target = [0u8; 4097];
            let room = target.get_mut(..4096).ok_or(Errno::INVAL)?;
            let length = readlinkat_raw(from, name, room)?;
            let target = target.get(..=length).and_then(|text| CStr::from_bytes_with_nul(text).ok());
            symlinkat(target.ok_or(Errno::NAMETOOLONG)?, to, name)?;
        }
        _ => mknodat(to, name, kind, mode, stat.st_rdev)?,
    }
    ownership(to, name, &stat, kind)?;
    if stat.st_nlink > 1 && !kind.is_dir() {
        remember(to, name, &stat, links)?;
    }
    Ok(())
}

/// Owner first: chown takes set-user-id bits and capabilities away.
fn ownership(
    to: BorrowedFd<'_>,
    name: &CStr,
    stat: &Stat,
    kind: FileType,
) -> core::result::Result<(), Errno> {
    let (uid, gid) = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
    chownat(to, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    if !kind.is_symlink() {
        chmodat(to, name, Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())?;
    }
    let times = Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec as _ },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ },
    };
    utimensat(to, name, &times, AtFlags::SYMLINK_NOFOLLOW)
}

/// Extended attributes that tmpfs can hold.
fn attributes(source: BorrowedFd<'_>, copy: BorrowedFd<'_>) -> core::result::Result<(), Errno> {
    let mut names = [0u8; 4096];
    let length = match flistxattr(source, &mut names) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    let mut value = [0u8; 8192];
    for name in crate::order::Strings(names.get(..length).unwrap_or_default()).iter() {
        let size = fgetxattr(source, name, &mut value)?;
        match fsetxattr(copy, name, value.get(..size).unwrap_or_default(), rustix::fs::XattrFlags::empty()) {
            // A kind that tmpfs does not have, or labels that the policy sets itself.
            Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Gives a file that was copied already another name.
fn linked(to: BorrowedFd<'_>, name: &CStr, stat: &Stat, links: &Links) -> core::result::Result<bool, Errno> {
    let known = links.iter().flatten().find(|link| (link.device, link.inode) == (stat.st_dev, stat.st_ino));
    let Some(known) = known else { return Ok(false) };
    linkat(&known.copy, c"", to, name, AtFlags::EMPTY_PATH)?;
    Ok(true)
}

fn remember(
    to: BorrowedFd<'_>,
    name: &CStr,
    stat: &Stat,
    links: &mut Links,
) -> core::result::Result<(), Errno> {
    let Some(slot) = links.iter_mut().find(|slot| slot.is_none()) else { return Ok(()) };
    let copy = openat(to, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    *slot = Some(Linked { device: stat.st_dev, inode: stat.st_ino, copy });
    Ok(())
}
