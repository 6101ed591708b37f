//! A sealed file in memory, read in place; and where new mappings cost least.

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
    // SAFETY: the address is a hint: a new mapping overlaps nothing.
    let start = unsafe { mmap(near(), length, ProtFlags::READ, MapFlags::SHARED, &file, 0) }?;
    // SAFETY: the seals keep anybody from writing to or shrinking the file, so these `length` bytes are there and stay
    // as they are; the mapping is never removed.
    Ok(unsafe { core::slice::from_raw_parts(start.cast(), length) })
}

/// A hint for a new mapping: beside this program's own image, where the page tables exist. Elsewhere three more pages
/// would be needed, which count against the memory limit of a container whose init this is. Where the place is taken
/// the kernel chooses another.
pub(crate) fn near() -> *mut core::ffi::c_void {
    static HERE: u8 = 0;
    /// What one page of the lowest level covers.
    const TABLE: usize = 2 << 20;
    core::ptr::without_provenance_mut((&raw const HERE).addr() / TABLE * TABLE + TABLE / 2)
}
