//! seccomp(2): loads a filter program on the calling thread.

use crate::number::SECCOMP;
use crate::raw::syscall;
use rustix::io::Errno;

const SECCOMP_SET_MODE_FILTER: usize = 1;
/// SECCOMP_FILTER_FLAG_NEW_LISTENER
pub const NEW_LISTENER: u32 = 1 << 3;

/// `struct sock_fprog`.
#[repr(C)]
struct Program {
    length: u16,
    instructions: *const u8,
}

/// Loads `program`: whole `struct sock_filter`s of 8 bytes each. Returns the listener's descriptor with
/// [`NEW_LISTENER`], else 0.
///
/// # Errors
/// Those of seccomp(2); EINVAL for a length that is not whole instructions.
pub fn load(program: &[u8], flags: u32) -> Result<i32, Errno> {
    if !program.len().is_multiple_of(8) {
        return Err(Errno::INVAL);
    }
    let length = u16::try_from(program.len() / 8).map_err(|_| Errno::INVAL)?;
    let header = Program { length, instructions: program.as_ptr() };
    // SAFETY: the kernel copies `length` instructions of 8 bytes, which `program` holds, during the call; it reads
    // them bytewise, so alignment does not matter.
    let result = unsafe {
        syscall(SECCOMP, [SECCOMP_SET_MODE_FILTER, flags as usize, &raw const header as usize, 0, 0, 0])
    }?;
    Ok(result as i32)
}
