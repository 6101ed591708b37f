//! Loop devices: files as block devices. loop(4)

use crate::number::IOCTL;
use crate::raw::syscall;
use rustix::fd::{AsFd, AsRawFd};
use rustix::io::Errno;

const LOOP_CTL_GET_FREE: usize = 0x4C82;
const LOOP_CONFIGURE: usize = 0x4C0A;

/// LO_FLAGS_READ_ONLY
pub const READ_ONLY: u32 = 1;
/// LO_FLAGS_AUTOCLEAR: the device lets go of its file when nobody has it open or mounted any more.
pub const AUTOCLEAR: u32 = 4;
/// LO_FLAGS_DIRECT_IO
pub const DIRECT_IO: u32 = 16;

/// `struct loop_config` with its `struct loop_info64`.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    /// Device, inode, rdevice, offset and size limit: none of them is set by anybody but the kernel here.
    numbers: [u64; 5],
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    /// Names, key and init of old.
    rest: [u8; 64 + 64 + 32 + 16],
    reserved: [u64; 8],
}

/// The number of a device that nobody uses just now, by /dev/loop-control.
///
/// # Errors
/// Those of loop(4).
pub fn free(control: impl AsFd) -> Result<u32, Errno> {
    // SAFETY: the call takes numbers only.
    let number =
        unsafe { syscall(IOCTL, [control.as_fd().as_raw_fd() as usize, LOOP_CTL_GET_FREE, 0, 0, 0, 0]) }?;
    Ok(number as u32)
}

/// Puts `file` behind a device.
///
/// # Errors
/// Those of loop(4): EBUSY if somebody else was faster.
pub fn configure(device: impl AsFd, file: impl AsFd, flags: u32) -> Result<(), Errno> {
    let config = Config {
        fd: file.as_fd().as_raw_fd() as u32,
        block_size: 0,
        numbers: [0; 5],
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags,
        rest: [0; 176],
        reserved: [0; 8],
    };
    let registers =
        [device.as_fd().as_raw_fd() as usize, LOOP_CONFIGURE, &raw const config as usize, 0, 0, 0];
    // SAFETY: the kernel reads one loop_config that outlives the call.
    unsafe { syscall(IOCTL, registers) }?;
    Ok(())
}

const _: () = assert!(size_of::<Config>() == 304);
