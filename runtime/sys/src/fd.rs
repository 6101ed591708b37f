//! Descriptors that came by number: what a process inherited from the one that started it.

use crate::number::CLOSE_RANGE;
use crate::raw::syscall;
use rustix::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

const CLOSE_RANGE_CLOEXEC: usize = 4;

/// The inherited descriptor `number`, borrowed for as long as the process lives.
///
/// init never closes what it inherits (all of it is close-on-exec), so the borrow stays true until execve.
pub fn inherited(number: RawFd) -> BorrowedFd<'static> {
    // SAFETY: the number is not -1 (the caller was told it by its parent) and nothing closes it; a number that is not
    // open makes each call answer EBADF and touches no memory.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Opens /dev/null in the place of each standard stream that is closed: else something of the runtime's own would have its number, and
/// go to the program as one.
///
/// # Errors
/// A machine without /dev/null.
pub fn open_streams() -> Result<(), Errno> {
    use rustix::fd::{AsRawFd, IntoRawFd};
    for number in 0..3 {
        if rustix::io::fcntl_getfd(inherited(number)) != Err(Errno::BADF) {
            continue;
        }
        // The lowest number that is free, which is this one.
        let null = rustix::fs::open(c"/dev/null", OFlags::RDWR, Mode::empty())?;
        if null.as_raw_fd() == number {
            let _kept = null.into_raw_fd();
        }
    }
    Ok(())
}

/// Takes over the inherited descriptor `number`: it closes when the result is dropped.
///
/// The caller owns the number: nothing else in this process may close it.
pub fn adopt(number: RawFd) -> OwnedFd {
    // SAFETY: ownership of an inherited descriptor passes to the caller once, by this function's contract; closing a
    // number twice can only close another descriptor, never touch memory.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Marks every descriptor from `first` up to be closed by execve, close_range(2).
///
/// # Errors
/// Those of close_range(2).
pub fn close_on_exec_from(first: u32) -> Result<(), Errno> {
    close_range(first, u32::MAX, CLOSE_RANGE_CLOEXEC)
}

/// Closes every descriptor from `first` up but those that `kept` yields, close_range(2).
///
/// The caller owns no other descriptor in that range any more.
///
/// # Errors
/// Those of close_range(2).
pub fn close_all_but(first: u32, kept: impl Iterator<Item = u32> + Clone) -> Result<(), Errno> {
    let mut from = first;
    // The kept ones in their order, without a place to sort them in: each time the next larger.
    while let Some(next) = kept.clone().filter(|fd| *fd >= from).min() {
        if next > from {
            close_range(from, next - 1, 0)?;
        }
        from = next.saturating_add(1);
    }
    close_range(from, u32::MAX, 0)
}

fn close_range(first: u32, last: u32, flags: usize) -> Result<(), Errno> {
    // SAFETY: the call closes or marks descriptors and touches no memory; whose they are is the callers' contract.
    unsafe { syscall(CLOSE_RANGE, [first as usize, last as usize, flags, 0, 0, 0]) }?;
    Ok(())
}
