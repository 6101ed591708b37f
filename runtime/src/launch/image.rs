//! init's image: embedded when pintle is built, executed from a sealed memfd, so that whatever runs inside a container
//! can never reach the host's binary through /proc/PID/exe (CVE-2019-5736). memfd_create(2)

use crate::error::{Context, Error, Result};
use rustix::fd::OwnedFd;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;

/// The program that runs as a container's first process.
pub static IMAGE: &[u8] = include_bytes!(env!("PINTLE_INIT_IMAGE"));

/// MFD_EXEC, Linux 6.3.
const EXEC: MemfdFlags = MemfdFlags::from_bits_retain(0x10);
/// MFD_NOEXEC_SEAL, Linux 6.3.
const NOEXEC: MemfdFlags = MemfdFlags::from_bits_retain(0x8);

/// A file in memory that nobody can change any more.
fn sealed(name: &str, kind: MemfdFlags, bytes: &[u8]) -> std::result::Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = match memfd_create(name, flags | kind) {
        // Before Linux 6.3 there was no such flag, and all of them could be executed.
        Err(Errno::INVAL) => memfd_create(name, flags)?,
        other => other?,
    };
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest)?;
        rest = &rest[written..];
    }
    let mut seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    if kind == EXEC {
        // Not even its mode can change; a kernel that lacks this seal has no other way to misuse the mode either.
        seals |= SealFlags::from_bits_retain(0x20);
    }
    match fcntl_add_seals(&file, seals) {
        Err(Errno::INVAL) => fcntl_add_seals(&file, seals & !SealFlags::from_bits_retain(0x20))?,
        other => other?,
    }
    Ok(file)
}

/// The image, ready to be executed.
///
/// # Errors
/// A machine that forbids executable memfds (`vm.memfd_noexec=2`) or has no memory left.
pub fn executable() -> Result<OwnedFd> {
    sealed("pintle-init", EXEC, IMAGE).map_err(|errno| match errno {
        Errno::ACCESS => Error::new(
            "cannot start a container's first process: this machine forbids executable memfds; set the sysctl vm.memfd_noexec to 0 or 1",
        ),
        other => Error::from(other).context("memfd_create"),
    })
}

/// Data for init: an order, or the state for its hooks.
///
/// # Errors
/// No memory left.
pub fn data(name: &str, bytes: &[u8]) -> Result<OwnedFd> {
    sealed(name, NOEXEC, bytes).context("memfd_create")
}
