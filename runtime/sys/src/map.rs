//! A sealed file in memory, read in place.

use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap};

/// Maps the whole of a sealed memfd for reading; the mapping stays until the process ends.
///
/// # Errors
/// EPERM when the file could still change (it lacks one of the seals WRITE, SHRINK), EINVAL when it is empty, and
/// those of mmap(2).
pub fn sealed(file: impl AsFd) -> Result<&'static [u8], Errno> {
    use rustix::fs::{SealFlags, fcntl_get_seals, fstat};
    let seals = fcntl_get_seals(&file)?;
    if !seals.contains(SealFlags::WRITE | SealFlags::SHRINK) {
        return Err(Errno::PERM);
    }
    let length = usize::try_from(fstat(&file)?.st_size).map_err(|_| Errno::INVAL)?;
    // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
    let start = unsafe { mmap(core::ptr::null_mut(), length, ProtFlags::READ, MapFlags::SHARED, &file, 0) }?;
    // SAFETY: the seals keep anybody from writing to or shrinking the file, so these `length` bytes are there and stay
    // as they are; the mapping is never removed.
    Ok(unsafe { core::slice::from_raw_parts(start.cast(), length) })
}
