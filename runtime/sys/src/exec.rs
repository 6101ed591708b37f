//! execve(2), with argument lists built without a heap.

use crate::number::{EXECVE, EXIT};
use crate::raw::syscall;
use core::ffi::CStr;
use core::marker::PhantomData;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

/// A null-terminated list of C strings, as execve(2) takes it. Its memory is one mapping that stays until the
/// program is replaced.
pub struct List<'a> {
    first: *mut *const u8,
    capacity: usize,
    length: usize,
    strings: PhantomData<&'a CStr>,
}

impl<'a> List<'a> {
    /// An empty list with room for `capacity` strings.
    ///
    /// # Errors
    /// ENOMEM when there is no memory for the pointers.
    pub fn with_capacity(capacity: usize) -> Result<Self, Errno> {
        let bytes =
            capacity.checked_add(1).and_then(|n| n.checked_mul(size_of::<usize>())).ok_or(Errno::NOMEM)?;
        // SAFETY: the address is a hint: a fresh private mapping overlaps nothing.
        let first = unsafe {
            mmap_anonymous(crate::map::near(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
        }?;
        Ok(Self { first: first.cast(), capacity, length: 0, strings: PhantomData })
    }

    /// Appends `string`.
    ///
    /// # Errors
    /// E2BIG when the list is full.
    pub fn push(&mut self, string: &'a CStr) -> Result<(), Errno> {
        if self.length == self.capacity {
            return Err(Errno::TOOBIG);
        }
        // SAFETY: length < capacity, and the mapping holds capacity + 1 pointers.
        let slot = unsafe { self.first.add(self.length) };
        // SAFETY: `slot` lies in the mapping, is aligned (page start plus whole pointers) and is ours alone.
        unsafe { slot.write(string.as_ptr().cast()) };
        self.length += 1;
        Ok(())
    }
}

/// Replaces the program; returns only on failure.
///
/// # Errors
/// Those of execve(2).
pub fn execve(path: &CStr, arguments: &List<'_>, environment: &List<'_>) -> Errno {
    // SAFETY: the path ends in NUL; both lists end in a null pointer (fresh mappings are zero and one slot is never
    // written), and their strings live as long as the lists. On success nothing of this program is left.
    let result = unsafe {
        let registers =
            [path.as_ptr() as usize, arguments.first as usize, environment.first as usize, 0, 0, 0];
        syscall(EXECVE, registers)
    };
    result.err().unwrap_or(Errno::INVAL)
}

/// Ends the calling thread (of a program that has one) with `status`.
pub fn exit(status: u8) -> ! {
    loop {
        // SAFETY: exit(2) touches no memory of the caller and does not return.
        let _never = unsafe { syscall(EXIT, [usize::from(status), 0, 0, 0, 0, 0]) };
    }
}
