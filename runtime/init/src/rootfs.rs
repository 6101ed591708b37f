//! The container's file system tree: bound, hidden where it must be, and made the root. See pivot_root(2).

use crate::Init;
use crate::failure::{Failure, Result};
use crate::mountinfo;
use crate::mounts::{attach, clone_tree, configure, identity, propagate};
use crate::order::{Protected, Strings};
use crate::path;
use core::ffi::CStr;
use pintle_sys::mount::{Attributes, RDONLY, TREE_NAMESPACE, set_attributes};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, fstatfs, major, minor, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_change, mount_move,
    open_tree, unmount,
};

/// CLONE_NEWNS
const MOUNT: u32 = 0x2_0000;

/// Changes the propagation of what is mounted at `/`.
pub fn propagation(flags: u32) -> Result {
    mount_change(c"/", MountPropagationFlags::from_bits_retain(flags))
        .map_err(Failure::at("mount propagation of /"))
}

impl Init<'_> {
    /// The rootfs, bound onto itself: a mount of its own to resolve in, to make read-only and to pivot to.
    pub(crate) fn root(&mut self, path: &CStr, parent_private: bool) -> Result {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, path, flags, Mode::empty()).map_err(Failure::at("open"))?;
        if parent_private {
            make_holder_private(path.to_bytes())?;
        }
        let tree = clone_tree(directory.as_fd(), true)?;
        attach(tree.as_fd(), directory.as_fd())?;
        self.root_identity = identity(tree.as_fd())?;
        self.root = Some(tree);
        Ok(())
    }

    /// A mount namespace that has nothing but the rootfs: the host's mounts are never copied, and never in sight.
    pub(crate) fn own_root(&mut self, path: &CStr) -> Result {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let rootfs = openat(CWD, path, flags, Mode::empty()).map_err(Failure::at("open"))?;
        let flags = OpenTreeFlags::from_bits_retain(TREE_NAMESPACE)
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE
            | OpenTreeFlags::AT_EMPTY_PATH;
        self.own_mounts = Some(open_tree(rootfs, c"", flags).map_err(Failure::at("open_tree"))?);
        Ok(())
    }

    /// The rootfs becomes `/`. What is still needed of the host's mounts was taken along, but for the null device.
    pub(crate) fn enter_own_root(&mut self, propagation_flags: u32) -> Result {
        let null = host_null()?;
        propagate(null.as_fd(), propagation_flags)?;
        self.spare_null = Some(null);
        let namespace = self.own_mounts.take().ok_or(Failure::new("no mount namespace", Errno::BADF))?;
        pintle_sys::namespace::enter(namespace, MOUNT).map_err(Failure::at("setns"))?;
        propagation(propagation_flags)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, c"/", flags, Mode::empty()).map_err(Failure::at("open /"))?;
        self.root_identity = identity(root.as_fd())?;
        self.root = Some(root);
        Ok(())
    }

    /// Opens what is to be hidden or read-only. In a file system of the kernel's it is looked up from the mount point, which has to
    /// be that file system still: who exchanges it for a link would have the path not be there, and go unprotected.
    fn open_protected(&self, path: &Protected<'_>) -> Result<core::result::Result<OwnedFd, Errno>> {
        let root = self.root_fd()?;
        if path.mount_point.is_empty() {
            return Ok(path::open(root, path.path, OFlags::PATH));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let top = path::open(root, path.mount_point, flags).map_err(Failure::at("open its mount point"))?;
        match fstatfs(&top).map_err(Failure::at("fstatfs"))?.f_type as u64 {
            magic if magic == path.magic => Ok(path::open(top.as_fd(), path.path, OFlags::PATH)),
            _ => Err(Failure::new("its mount point is not what was mounted there", Errno::NODEV)),
        }
    }

    /// Only what an engine listed is read-only; a path that is not there needs no protection.
    pub(crate) fn read_only(&self, path: &Protected<'_>) -> Result {
        let target = match self.open_protected(path)? {
            Err(Errno::NOENT) => return Ok(()),
            other => other.map_err(Failure::at("openat2"))?,
        };
        let tree = clone_tree(target.as_fd(), true)?;
        let attributes = Attributes { set: RDONLY, ..Attributes::default() };
        set_attributes(&tree, false, &attributes).map_err(Failure::at("mount_setattr"))?;
        attach(tree.as_fd(), target.as_fd())
    }

    /// Hides a directory behind an empty one and a file behind the null device. Only "not there" is no error.
    pub(crate) fn mask(&mut self, path: &Protected<'_>, options: Strings<'_>) -> Result {
        let target = match self.open_protected(path)? {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            other => other.map_err(Failure::at("openat2"))?,
        };
        let mode = fstat(&target).map_err(Failure::at("fstat"))?.st_mode;
        if FileType::from_raw_mode(mode).is_dir() {
            return self.cover_with_nothing(target.as_fd(), options);
        }
        if let Some(null) = &self.null {
            return attach(clone_tree(null.as_fd(), false)?.as_fd(), target.as_fd());
        }
        let null = match self.spare_null.take() {
            Some(null) => null,
            None => host_null()?,
        };
        attach(null.as_fd(), target.as_fd())?;
        self.null = Some(null);
        Ok(())
    }

    /// One read-only tmpfs without room for anything serves all masked directories.
    fn cover_with_nothing(&mut self, target: BorrowedFd<'_>, options: Strings<'_>) -> Result {
        if let Some(empty) = &self.empty {
            return attach(clone_tree(empty.as_fd(), false)?.as_fd(), target);
        }
        let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(Failure::at("fsopen"))?;
        for (key, value) in [(c"nr_blocks", c"1"), (c"nr_inodes", c"1")] {
            fsconfig_set_string(context.as_fd(), key, value).map_err(Failure::at("fsconfig"))?;
        }
        configure(context.as_fd(), c"tmpfs", options)?;
        fsconfig_set_flag(context.as_fd(), c"ro").map_err(Failure::at("fsconfig"))?;
        fsconfig_create(context.as_fd()).map_err(Failure::at("fsconfig"))?;
        let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY;
        let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .map_err(Failure::at("fsmount"))?;
        attach(mount.as_fd(), target)?;
        // Attached, so that it can be cloned: a detached mount could not be before Linux 6.15.
        self.empty = Some(mount);
        Ok(())
    }

    /// The rootfs itself, after everything in it was made.
    pub(crate) fn root_read_only(&self) -> Result {
        let attributes = Attributes { set: RDONLY, ..Attributes::default() };
        set_attributes(self.root_fd()?, false, &attributes).map_err(Failure::at("mount_setattr"))
    }

    /// The rootfs becomes `/`. With "." twice the old root ends up on top of the new one, to be taken off at once:
    /// no directory of the container is needed to hold it.
    pub(crate) fn pivot(&self) -> Result {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let old = openat(CWD, c"/", flags, Mode::empty()).map_err(Failure::at("open /"))?;
        rustix::process::fchdir(self.root_fd()?).map_err(Failure::at("fchdir"))?;
        rustix::process::pivot_root(c".", c".").map_err(Failure::at("pivot_root"))?;
        // A slave: taking it off must not take it off the host. By descriptor: to mount(2), "." is the new root.
        let slave = Attributes {
            propagation: u64::from(MountPropagationFlags::DOWNSTREAM.bits()),
            ..Attributes::default()
        };
        set_attributes(&old, true, &slave).map_err(Failure::at("mount propagation of the old root"))?;
        unmount(c".", UnmountFlags::DETACH).map_err(Failure::at("umount2"))?;
        rustix::process::chdir(c"/").map_err(Failure::at("chdir"))
    }

    /// Every whole procfs and sysfs that is not the container's leaves this mount namespace.
    pub(crate) fn drop_kernel_mounts(&mut self, rootfs: &CStr) -> Result {
        let list = self.mountinfo()?;
        mountinfo::each(list.as_fd(), |mount| {
            let whole = mount.root == b"/" && matches!(mount.kind, b"proc" | b"sysfs");
            if !whole || mountinfo::is_below(mount.point.to_bytes(), rootfs.to_bytes()) {
                return Ok(());
            }
            self.drop_mount(mount.id, mount.point)
        })
    }

    /// Takes off the mount `id` at `point`; covers what can't be taken off because it is locked or lies under another.
    fn drop_mount(&mut self, id: u64, point: &CStr) -> Result {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let top = match openat(CWD, point, flags, Mode::empty()) {
            // It went with one that was taken off before.
            Err(Errno::NOENT) => return Ok(()),
            other => other.map_err(Failure::at("open"))?,
        };
        let private = Attributes {
            propagation: u64::from(MountPropagationFlags::PRIVATE.bits()),
            ..Attributes::default()
        };
        match set_attributes(&top, true, &private) {
            // Nor is this a mount.
            Err(Errno::INVAL) => return Ok(()),
            other => other.map_err(Failure::at("mount propagation"))?,
        }
        if identity(top.as_fd())?.0 == id {
            // With rootfsPropagation "shared" the host would lose the mount, too, through the one that holds it.
            let holder = point.to_bytes().rsplitn(2, |byte| *byte == b'/').nth(1);
            make_holder_private(holder.unwrap_or_default())?;
            match unmount(point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
                Err(Errno::INVAL | Errno::PERM) => {}
                other => return other.map_err(Failure::at("umount2")),
            }
        }
        self.cover_with_nothing(top.as_fd(), Strings(&[]))
    }

    /// `--no-pivot`: the rootfs is moved over `/`.
    pub(crate) fn move_root(&self) -> Result {
        rustix::process::fchdir(self.root_fd()?).map_err(Failure::at("fchdir"))?;
        mount_move(c".", c"/").map_err(Failure::at("mount MS_MOVE"))?;
        self.chroot()
    }

    /// chroot(2) into the root of a container that has no mount namespace of its own.
    pub(crate) fn enter_root(&mut self, path: &CStr) -> Result {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        self.root = Some(openat(CWD, path, flags, Mode::empty()).map_err(Failure::at("open"))?);
        self.chroot()
    }

    /// chroot(2) into the rootfs.
    pub(crate) fn chroot(&self) -> Result {
        rustix::process::fchdir(self.root_fd()?).map_err(Failure::at("fchdir"))?;
        rustix::process::chroot(c".").map_err(Failure::at("chroot"))?;
        rustix::process::chdir(c"/").map_err(Failure::at("chdir"))
    }
}

/// A mount of the host's null device, attached nowhere. The container's device may be anything (CVE-2025-31133).
fn host_null() -> Result<OwnedFd> {
    let null = openat(CWD, c"/dev/null", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(Failure::at("open /dev/null"))?;
    let stat = fstat(&null).map_err(Failure::at("fstat"))?;
    let is_null = FileType::from_raw_mode(stat.st_mode).is_char_device()
        && (major(stat.st_rdev), minor(stat.st_rdev)) == (1, 3);
    if is_null {
        clone_tree(null.as_fd(), false)
    } else {
        Err(Failure::new("/dev/null is not the null device", Errno::NODEV))
    }
}

/// Makes the mount that holds `path` private: pivot_root refuses a rootfs whose parent mount is shared. The mount point
/// of that mount is found by trying, from `path` upwards: only there does the change succeed.
fn make_holder_private(path: &[u8]) -> Result {
    let mut buffer = [0u8; 4096];
    buffer.get_mut(..path.len()).ok_or(Failure::new("rootfs", Errno::NAMETOOLONG))?.copy_from_slice(path);
    let mut length = path.len();
    loop {
        let prefix = match buffer.get(..=length).map(CStr::from_bytes_with_nul) {
            Some(Ok(prefix)) if length > 0 => prefix,
            _ => c"/",
        };
        match mount_change(prefix, MountPropagationFlags::PRIVATE) {
            Err(Errno::INVAL) if prefix != c"/" => {}
            other => return other.map_err(Failure::at("mount propagation of the mount around")),
        }
        length = path.get(..length).and_then(|b| b.iter().rposition(|byte| *byte == b'/')).unwrap_or(0);
        if let Some(end) = buffer.get_mut(length) {
            *end = 0;
        }
    }
}
