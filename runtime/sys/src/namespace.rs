//! Entering and leaving namespaces by their CLONE_NEW… flags, setns(2), unshare(2).

use crate::number::{SETNS, UNSHARE};
use crate::raw::syscall;
use rustix::fd::{AsFd, AsRawFd};
use rustix::io::Errno;

/// CLONE_FS, CLONE_FILES, CLONE_VM and their like would unshare more than namespaces.
const NAMESPACES: u32 = 0x7e02_0080;

/// setns(2): enters the namespaces `kinds` behind a namespace's descriptor or a pidfd.
///
/// # Errors
/// Those of setns(2).
pub fn enter(fd: impl AsFd, kinds: u32) -> Result<(), Errno> {
    // SAFETY: the call takes numbers and touches no memory.
    unsafe { syscall(SETNS, [fd.as_fd().as_raw_fd() as usize, kinds as usize, 0, 0, 0, 0]) }?;
    Ok(())
}

/// unshare(2) of namespaces only.
///
/// # Errors
/// EINVAL for a flag that is no namespace, and those of unshare(2).
pub fn unshare(kinds: u32) -> Result<(), Errno> {
    if kinds & !NAMESPACES != 0 {
        return Err(Errno::INVAL);
    }
    // SAFETY: with namespace flags alone the call touches neither memory nor descriptors.
    unsafe { syscall(UNSHARE, [kinds as usize, 0, 0, 0, 0, 0]) }?;
    Ok(())
}

/// The kind (a CLONE_NEW… flag) of the namespace behind `fd`, NS_GET_NSTYPE of ioctl_ns(2).
///
/// # Errors
/// ENOTTY for a file that is no namespace.
pub fn kind(fd: impl AsFd) -> Result<u32, Errno> {
    const NS_GET_NSTYPE: usize = 0xb703;
    // SAFETY: the request takes no argument and touches no memory.
    let kind = unsafe {
        syscall(crate::number::IOCTL, [fd.as_fd().as_raw_fd() as usize, NS_GET_NSTYPE, 0, 0, 0, 0])
    }?;
    Ok(kind as u32)
}
