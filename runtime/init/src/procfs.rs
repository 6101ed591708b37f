//! Writing to procfs, through a handle that was verified to be procfs and by lookups that leave neither its mount nor
//! follow magic links (CVE-2025-52881).

use crate::Init;
use crate::failure::{Failure, Result, decimal};
use crate::mounts::is_procfs;
use core::ffi::CStr;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// Opens `path` below the procfs `proc`.
fn open(proc: BorrowedFd<'_>, path: &CStr, flags: OFlags) -> core::result::Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
    openat2(proc, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// Writes `value` in one call, as the files of procfs want it.
fn write(fd: BorrowedFd<'_>, value: &[u8]) -> Result {
    match rustix::io::write(fd, value) {
        Ok(length) if length == value.len() => Ok(()),
        Ok(_) => Err(Failure::new("write", Errno::INVAL)),
        Err(errno) => Err(Failure::new("write", errno)),
    }
}

/// The host's procfs, verified.
fn of_host() -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let proc = openat(CWD, c"/proc", flags, Mode::empty()).map_err(Failure::at("open /proc"))?;
    if is_procfs(proc.as_fd())? { Ok(proc) } else { Err(Failure::new("/proc is not a procfs", Errno::NODEV)) }
}

/// Writes to a file of this process in the host's procfs, before the rootfs is entered.
pub fn write_own(name: &CStr, value: &[u8]) -> Result {
    let proc = of_host()?;
    let own =
        open(proc.as_fd(), c"self", OFlags::PATH | OFlags::DIRECTORY).map_err(Failure::at("openat2"))?;
    let file = open(own.as_fd(), name, OFlags::WRONLY).map_err(Failure::at("openat2"))?;
    write(file.as_fd(), value)
}

impl Init<'_> {
    fn proc_fd(&self) -> Result<BorrowedFd<'_>> {
        self.proc.as_ref().map(AsFd::as_fd).ok_or(Failure::new("no procfs", Errno::NODEV))
    }

    /// A procfs that is mounted nowhere, for a container that mounts none. In a user namespace that may not make one,
    /// the host's.
    pub(crate) fn private_procfs(&mut self) -> Result {
        let context = fsopen(c"proc", FsOpenFlags::FSOPEN_CLOEXEC).map_err(Failure::at("fsopen"))?;
        let made = fsconfig_create(context.as_fd()).and_then(|()| {
            let flags = MountAttrFlags::MOUNT_ATTR_NOSUID
                | MountAttrFlags::MOUNT_ATTR_NODEV
                | MountAttrFlags::MOUNT_ATTR_NOEXEC;
            fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, flags)
        });
        self.proc = Some(match made {
            Err(Errno::PERM) => of_host()?,
            other => other.map_err(Failure::at("fsmount"))?,
        });
        Ok(())
    }

    /// The mounts of this namespace, for [`crate::mountinfo`].
    pub(crate) fn mountinfo(&self) -> Result<OwnedFd> {
        let host;
        let proc = match &self.proc {
            Some(proc) => proc,
            None => {
                host = of_host()?;
                &host
            }
        };
        open(proc.as_fd(), c"self/mountinfo", OFlags::RDONLY).map_err(Failure::at("open mountinfo"))
    }

    /// A kernel parameter.
    pub(crate) fn sysctl(&self, path: &CStr, value: &[u8]) -> Result {
        let sys = open(self.proc_fd()?, c"sys", OFlags::PATH | OFlags::DIRECTORY)
            .map_err(Failure::at("openat2"))?;
        let file = open(sys.as_fd(), path, OFlags::WRONLY).map_err(Failure::at("openat2"))?;
        write(file.as_fd(), value)
    }

    /// A security label.
    pub(crate) fn label(&self, attribute: &CStr, fallback: &CStr, value: &[u8]) -> Result {
        let file = match open(self.proc_fd()?, attribute, OFlags::WRONLY) {
            Err(Errno::NOENT) => open(self.proc_fd()?, fallback, OFlags::WRONLY),
            other => other,
        };
        write(file.map_err(Failure::at("openat2"))?.as_fd(), value)
    }

    /// Opens the descriptor `number` of this process anew. By openat(2), which every filter that runc can live with
    /// allows; the one magic link that is followed is our own.
    pub(crate) fn reopen(&self, number: i32, flags: OFlags) -> Result<OwnedFd> {
        let mut path = *b"self/fd/\0\0\0\0\0\0\0\0\0\0\0\0";
        let (digits, count) = decimal(u64::from(number.unsigned_abs()));
        for (slot, digit) in
            path.iter_mut().skip(b"self/fd/".len()).zip(digits.iter().skip(digits.len() - count))
        {
            *slot = *digit;
        }
        let path = CStr::from_bytes_until_nul(&path).map_err(|_| Failure::new("open", Errno::INVAL))?;
        loop {
            match openat(self.proc_fd()?, path, flags | OFlags::CLOEXEC, Mode::empty()) {
                Err(Errno::INTR) => {}
                other => return other.map_err(Failure::at("open")),
            }
        }
    }
}
