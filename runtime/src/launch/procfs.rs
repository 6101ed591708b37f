//! What is written and read of a child in /proc: by a handle that was verified to be a procfs, and by a lookup that neither
//! leaves it nor follows a link, as init does (CVE-2025-52881). proc(5), openat2(2)

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstatfs, openat, openat2};
use rustix::io::Errno;

const PROC_SUPER_MAGIC: i64 = 0x9fa0;

/// Opens `/proc/PID/FILE`.
///
/// # Errors
/// Those of the kernel; ENODEV where /proc is no procfs.
pub fn open(pid: i32, file: &str, access: OFlags) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let proc = openat(CWD, "/proc", flags, Mode::empty())?;
    if fstatfs(&proc)?.f_type as i64 != PROC_SUPER_MAGIC {
        return Err(Errno::NODEV);
    }
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_XDEV
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS;
    openat2(&proc, format!("{pid}/{file}"), access | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// Writes `text` there, in one call as these files want it.
///
/// # Errors
/// Those of [`open`] and write(2).
pub fn write(pid: i32, file: &str, text: &str) -> Result<(), Errno> {
    match rustix::io::write(open(pid, file, OFlags::WRONLY)?, text.as_bytes())? {
        length if length == text.len() => Ok(()),
        _ => Err(Errno::INVAL),
    }
}

/// What stands there.
///
/// # Errors
/// Those of [`open`] and read(2).
pub fn read(pid: i32, file: &str) -> std::io::Result<String> {
    std::io::read_to_string(std::fs::File::from(open(pid, file, OFlags::RDONLY)?))
}
