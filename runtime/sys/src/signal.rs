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

const SIGPIPE: usize = 13;
const SIGCHLD: usize = 17;
const SIG_DFL: u64 = 0;
const SIG_IGN: u64 = 1;
const SA_RESTORER: u64 = 0x0400_0000;

/// Gives every signal its default action again: what the caller ignores is not the container's choice, sigaction(2).
pub fn default_all() {
    // The standard ones, and the two that glibc's posix_spawn leaves ignored; nobody ignores the others on behalf of anybody.
    for signal in 1..=33 {
        // SIGKILL and SIGSTOP can't be changed, and need not.
        let _fixed = set(signal, SIG_DFL);
    }
}

/// For a program that waits for its children and writes to pipes: SIGCHLD has its default action, and a closed pipe is
/// an error like others.
///
/// # Errors
/// None in practice.
pub fn prepare() -> Result<(), Errno> {
    set(SIGCHLD, SIG_DFL)?;
    set(SIGPIPE, SIG_IGN)
}

fn set(signal: usize, handler: u64) -> Result<(), Errno> {
    // handler, flags, restorer, mask.
    // The kernel delivers nothing to a handler without a restorer; `end`, the only one, never returns to it.
    let action: [u64; 4] = [handler, SA_RESTORER, handler, 0];
    // SAFETY: the kernel reads one `struct kernel_sigaction` (32 bytes) that outlives the call; SIG_DFL and SIG_IGN run
    // no code of this program, and `end` makes one system call that ends the process.
    unsafe { syscall(RT_SIGACTION, [signal, &raw const action as usize, 0, 8, 0, 0]) }?;
    Ok(())
}

/// Ends this process on what asks a program to end. The first process of a pid namespace does not see such signals at
/// all unless it handles them, pid_namespaces(7). execve(2) gives them their default action again.
///
/// # Errors
/// None in practice.
pub fn end_when_asked() -> Result<(), Errno> {
    let handler = end as extern "C" fn(i32) as usize as u64;
    ASKS_TO_END.into_iter().try_for_each(|signal| set(signal, handler))
}

/// SIGHUP, SIGINT, SIGQUIT, SIGTERM
const ASKS_TO_END: [usize; 4] = [1, 2, 3, 15];

extern "C" fn end(signal: i32) {
    crate::exec::exit((128 + signal) as u8)
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
