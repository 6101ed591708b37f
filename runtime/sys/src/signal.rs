//! The signal mask of a fresh process.

use crate::number::RT_SIGPROCMASK;
use crate::raw::syscall;
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
