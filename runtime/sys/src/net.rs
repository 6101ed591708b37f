//! The loopback interface, netdevice(7), and sockets of a network namespace.

use crate::number::IOCTL;
use crate::raw::syscall;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

const SIOCSIFFLAGS: usize = 0x8914;
const IFF_UP: u16 = 1;

/// `struct ifreq`: a name, then a union of 24 bytes.
#[repr(C)]
struct Request {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

/// A socket of the caller's network namespace: whoever holds it acts on that namespace.
///
/// # Errors
/// Those of socket(2).
pub fn socket() -> Result<OwnedFd, Errno> {
    socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
}

/// The same for rtnetlink(7), whose protocol is number 0.
///
/// # Errors
/// Those of socket(2).
pub fn route_socket() -> Result<OwnedFd, Errno> {
    socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)
}

/// Brings `lo` of the socket's network namespace up.
///
/// # Errors
/// Those of netdevice(7).
pub fn loopback_up(socket: impl AsFd) -> Result<(), Errno> {
    let mut request = Request { name: [0; 16], flags: IFF_UP, rest: [0; 22] };
    request.name[..2].copy_from_slice(b"lo");
    let registers = [socket.as_fd().as_raw_fd() as usize, SIOCSIFFLAGS, &raw mut request as usize, 0, 0, 0];
    // SAFETY: the kernel reads and writes one `struct ifreq` (40 bytes) that outlives the call.
    unsafe { syscall(IOCTL, registers) }?;
    Ok(())
}
