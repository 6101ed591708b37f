//! Session keyrings, keyctl(2): a container gets one of its own, so that it can't read its creator's keys.

use crate::number::KEYCTL;
use crate::raw::syscall;
use core::ffi::CStr;
use rustix::io::Errno;

const KEYCTL_JOIN_SESSION_KEYRING: usize = 1;
const KEYCTL_SETPERM: usize = 5;
const KEYCTL_DESCRIBE: usize = 6;

/// Joins a session keyring named `name`, made if need be; returns its serial number.
///
/// # Errors
/// Those of keyctl_join_session_keyring(3); ENOSYS without key support.
pub fn join_session(name: &CStr) -> Result<u32, Errno> {
    let registers = [KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr() as usize, 0, 0, 0, 0];
    // SAFETY: the kernel reads a C string that outlives the call.
    Ok(unsafe { syscall(KEYCTL, registers) }? as u32)
}

/// Sets the permission mask of the key `serial`.
///
/// # Errors
/// Those of keyctl_setperm(3).
pub fn set_permissions(serial: u32, mask: u32) -> Result<(), Errno> {
    // SAFETY: the call takes numbers and touches no memory.
    unsafe { syscall(KEYCTL, [KEYCTL_SETPERM, serial as usize, mask as usize, 0, 0, 0]) }?;
    Ok(())
}

/// Writes `type;uid;gid;permissions;description` of the key `serial` to `buffer`; returns the text.
///
/// # Errors
/// Those of keyctl_describe(3); EINVAL when the buffer is too small.
pub fn describe(serial: u32, buffer: &mut [u8]) -> Result<&[u8], Errno> {
    let registers = [KEYCTL_DESCRIBE, serial as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0];
    // SAFETY: the kernel writes at most `buffer.len()` bytes to a slice that is ours alone.
    let length = unsafe { syscall(KEYCTL, registers) }?;
    buffer.get(..length.saturating_sub(1)).ok_or(Errno::INVAL)
}
