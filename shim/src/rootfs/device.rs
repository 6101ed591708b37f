//! A file as a block device: the option `loop`, of snapshotters that keep a file system per file. loop(4)

use pintle::error::{Context as _, Error, Result};
use pintle_sys::loop_device::{AUTOCLEAR, DIRECT_IO, READ_ONLY, configure, free};
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

/// How often somebody else may be faster.
const ATTEMPTS: u32 = 100;

/// A loop device: its path, and the descriptor that keeps it until it is mounted.
pub struct Device {
    pub path: String,
    #[allow(dead_code, reason = "the device lets go of its file when nobody has it open or mounted")]
    open: OwnedFd,
}

/// Puts `file` behind a free device.
///
/// # Errors
/// What the kernel refuses; no device that stays free long enough.
pub fn of(file: &str, read_only: bool, direct: bool) -> Result<Device> {
    let access = if read_only { OFlags::RDONLY } else { OFlags::RDWR };
    let open = |path: &str, access: OFlags| {
        openat(CWD, path, access | OFlags::CLOEXEC, Mode::empty()).with_context(|| format!("open {path}"))
    };
    let backing = open(file, access)?;
    let control = open("/dev/loop-control", OFlags::RDWR)?;
    let mut flags = AUTOCLEAR;
    flags |= if read_only { READ_ONLY } else { 0 } | if direct { DIRECT_IO } else { 0 };
    for _ in 0..ATTEMPTS {
        let path = format!("/dev/loop{}", free(&control).context("a free loop device")?);
        let device = open(&path, access)?;
        match configure(&device, &backing, flags) {
            Ok(()) => return Ok(Device { path, open: device }),
            Err(Errno::BUSY) => {}
            Err(errno) => return Err(errno).context(path),
        }
    }
    Err(Error::new("no loop device stays free"))
}
