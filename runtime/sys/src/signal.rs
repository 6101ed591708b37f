//! The signal mask of a fresh process.

use crate::number::{PIDFD_SEND_SIGNAL, RT_SIGACTION, RT_SIGPROCMASK};
use crate::raw::syscall;
use rustix::fd::{AsFd, AsRawFd};
use rustix::io::Errno;

const SIG_SETMASK: usize = 2;

/// Lets every signal through, rt_sigprocmask(2).
///
/// # Errors
/// None in practice.
pub fn unblock_all() -> Result<(), Errno> {
    let none: u64 = 0;
    // SAFETY: the kernel reads 8 bytes of a mask that outlives the call.
    unsafe { syscall(RT_SIGPROCMASK, [SIG_SETMASK, &raw const none as usize, 0, 8, 0, 0]) }?;
    Ok(())
}

/// Gives SIGPIPE its default action again, which Rust's runtime takes away, sigaction(2).
///
/// # Errors
/// None in practice.
pub fn default_pipe() -> Result<(), Errno> {
    const SIGPIPE: usize = 13;
    // handler (SIG_DFL), flags, restorer, mask.
    let action: [u64; 4] = [0; 4];
    // SAFETY: the kernel reads one `struct kernel_sigaction` (32 bytes) that outlives the call; SIG_DFL runs no code.
    unsafe { syscall(RT_SIGACTION, [SIGPIPE, &raw const action as usize, 0, 8, 0, 0]) }?;
    Ok(())
}

/// Sends signal `number`, of any kind, or 0 to look only, pidfd_send_signal(2).
///
/// # Errors
/// Those of pidfd_send_signal(2).
pub fn send(pidfd: impl AsFd, number: i32) -> Result<(), Errno> {
    // SAFETY: without a siginfo the call takes numbers and touches no memory.
    unsafe { syscall(PIDFD_SEND_SIGNAL, [pidfd.as_fd().as_raw_fd() as usize, number as usize, 0, 0, 0, 0]) }?;
    Ok(())
}
