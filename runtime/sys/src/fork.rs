//! A copy of the calling process, for programs with one thread and no libc (init). By clone(2), not clone3(2): init
//! forks for hooks under the user's seccomp filter, and those that runc can live with often refuse clone3.

use crate::number::{CLONE, CLONE3};
use crate::raw::syscall;
use crate::spawn::{CLONE_INTO_CGROUP, CLONE_PIDFD, CLONE_VM, CloneArgs};
use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;

/// The child's parent is the caller's parent, clone(2).
pub const CLONE_PARENT: u64 = 0x8000;
const SIGCHLD: u64 = 17;

/// Which side of a fork this is.
pub enum Side {
    /// The new process.
    Child,
    /// The old one, with the new one's process id (as seen here) and pidfd.
    Parent {
        /// Process id of the child in the caller's pid namespace.
        pid: i32,
        /// pidfd of the child, close-on-exec.
        pidfd: OwnedFd,
    },
}

/// Forks with more clone `flags` (CLONE_PARENT, CLONE_NEW…).
///
/// # Errors
/// Those of clone(2); EINVAL when `flags` ask for shared memory.
pub fn fork(flags: u64) -> Result<Side, Errno> {
    if flags & CLONE_VM != 0 {
        return Err(Errno::INVAL);
    }
    let mut pidfd: i32 = -1;
    let flags = flags | CLONE_PIDFD | SIGCHLD;
    // SAFETY: without CLONE_VM the child gets its own copy of all memory and goes on with the same stack (null);
    // `pidfd`, where the kernel writes the descriptor, outlives the call.
    let pid = unsafe { syscall(CLONE, [flags as usize, 0, &raw mut pidfd as usize, 0, 0, 0]) }?;
    if pid == 0 {
        return Ok(Side::Child);
    }
    Ok(Side::Parent { pid: pid as i32, pidfd: crate::fd::adopt(pidfd) })
}

/// The same, in `cgroup`; of the flags CLONE_PARENT is meant, so that the child's end is told as the caller's own.
///
/// # Errors
/// Those of clone3(2); EINVAL when `flags` ask for shared memory.
pub fn fork_into(flags: u64, cgroup: BorrowedFd<'_>) -> Result<Side, Errno> {
    if flags & CLONE_VM != 0 {
        return Err(Errno::INVAL);
    }
    let mut pidfd: i32 = -1;
    let arguments = CloneArgs {
        flags: flags | CLONE_PIDFD | CLONE_INTO_CGROUP,
        pidfd: &raw mut pidfd as u64,
        cgroup: cgroup.as_raw_fd() as u64,
        ..CloneArgs::default()
    };
    // SAFETY: without CLONE_VM the child gets its own copy of all memory and goes on with the same stack (none given);
    // the arguments, and `pidfd`, where the kernel writes the descriptor, outlive the call.
    let pid =
        unsafe { syscall(CLONE3, [&raw const arguments as usize, size_of::<CloneArgs>(), 0, 0, 0, 0]) }?;
    if pid == 0 {
        return Ok(Side::Child);
    }
    Ok(Side::Parent { pid: pid as i32, pidfd: crate::fd::adopt(pidfd) })
}
