//! Pseudoterminals: what rustix has only with an allocator.

use crate::number::IOCTL;
use crate::raw::syscall;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::io::Errno;

const TIOCGPTN: usize = 0x8004_5430;
const TIOCSPTLCK: usize = 0x4004_5431;
const TIOCGPTPEER: usize = 0x5441;
const PEER_FLAGS: usize = 0o2 | 0o400 | 0o2_000_000; // O_RDWR | O_NOCTTY | O_CLOEXEC

/// Unlocks the peer of `master`, TIOCSPTLCK.
///
/// # Errors
/// Those of ioctl_tty(2).
pub fn unlock(master: impl AsFd) -> Result<(), Errno> {
    let lock: i32 = 0;
    // SAFETY: the kernel reads one int that outlives the call.
    unsafe {
        syscall(IOCTL, [master.as_fd().as_raw_fd() as usize, TIOCSPTLCK, &raw const lock as usize, 0, 0, 0])
    }?;
    Ok(())
}

/// Opens the peer of `master` without a path, TIOCGPTPEER.
///
/// # Errors
/// Those of ioctl_tty(2).
pub fn peer(master: impl AsFd) -> Result<OwnedFd, Errno> {
    // SAFETY: the call takes numbers and answers a new descriptor that nobody else owns.
    let fd =
        unsafe { syscall(IOCTL, [master.as_fd().as_raw_fd() as usize, TIOCGPTPEER, PEER_FLAGS, 0, 0, 0]) }?;
    Ok(crate::fd::adopt(fd as i32))
}

/// The number N of the peer's name `/dev/pts/N`, TIOCGPTN.
///
/// # Errors
/// Those of ioctl_tty(2).
pub fn number(master: impl AsFd) -> Result<u32, Errno> {
    let mut number: u32 = 0;
    let registers = [master.as_fd().as_raw_fd() as usize, TIOCGPTN, &raw mut number as usize, 0, 0, 0];
    // SAFETY: the kernel writes one unsigned int to a variable that outlives the call.
    unsafe { syscall(IOCTL, registers) }?;
    Ok(number)
}
