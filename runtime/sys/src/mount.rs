//! mount_setattr(2): the attributes of a mount or a tree of mounts, set before anybody sees them.

use crate::number::MOUNT_SETATTR;
use crate::raw::syscall;
use core::ffi::CStr;
use rustix::fd::{AsFd, AsRawFd};
use rustix::io::Errno;

/// `struct mount_attr`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// MOUNT_ATTR_* to set.
    pub set: u64,
    /// MOUNT_ATTR_* to clear.
    pub clear: u64,
    /// MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE; 0 leaves the propagation as it is.
    pub propagation: u64,
    /// Descriptor of the user namespace of an id-mapped mount (with MOUNT_ATTR_IDMAP in `set`).
    pub userns_fd: u64,
}

/// MOUNT_ATTR_RDONLY
pub const RDONLY: u64 = 0x1;
/// MOUNT_ATTR_NOSUID
pub const NOSUID: u64 = 0x2;
/// MOUNT_ATTR_NODEV
pub const NODEV: u64 = 0x4;
/// MOUNT_ATTR_NOEXEC
pub const NOEXEC: u64 = 0x8;
/// MOUNT_ATTR__ATIME: the bits of the three ways to keep access times.
pub const ATIME: u64 = 0x70;
/// MOUNT_ATTR_RELATIME
pub const RELATIME: u64 = 0x0;
/// MOUNT_ATTR_NOATIME
pub const NOATIME: u64 = 0x10;
/// MOUNT_ATTR_STRICTATIME
pub const STRICTATIME: u64 = 0x20;
/// MOUNT_ATTR_NODIRATIME
pub const NODIRATIME: u64 = 0x80;
/// MOUNT_ATTR_IDMAP
pub const IDMAP: u64 = 0x10_0000;
/// MOUNT_ATTR_NOSYMFOLLOW
pub const NOSYMFOLLOW: u64 = 0x20_0000;

/// OPEN_TREE_NAMESPACE of open_tree(2), Linux 7.0: a new mount namespace that has nothing but a copy of the tree.
pub const TREE_NAMESPACE: u32 = 0x2;

const AT_EMPTY_PATH: usize = 0x1000;
const AT_RECURSIVE: usize = 0x8000;

/// Changes the mount that `mount` refers to, and with `recursive` everything mounted below it.
///
/// # Errors
/// Those of mount_setattr(2).
pub fn set_attributes(mount: impl AsFd, recursive: bool, attributes: &Attributes) -> Result<(), Errno> {
    let flags = AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    let fd = mount.as_fd().as_raw_fd() as usize;
    let empty: &CStr = c"";
    let size = size_of::<Attributes>();
    // SAFETY: the path is an empty C string and `attributes` is `size` bytes that outlive the call; both are only read.
    unsafe {
        syscall(MOUNT_SETATTR, [fd, empty.as_ptr() as usize, flags, attributes as *const _ as usize, size, 0])
    }?;
    Ok(())
}
