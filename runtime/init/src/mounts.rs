//! Mounts, by the new mount API: each is complete (attributes, id map, contents) before it is attached, and it is
//! attached to a descriptor, never to a path. See fsopen(2), open_tree(2), mount_setattr(2), move_mount(2).

use crate::Init;
use crate::channel::Message;
use crate::copy_up;
use crate::failure::{Failure, Result};
use crate::order::{Place, Step, Strings};
use crate::path::{self, Kind};
use core::ffi::CStr;
use pintle_sys::mount::{Attributes, set_attributes};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags, StatxFlags, fstat, fstatfs, openat, statx};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

const MS_REC: u32 = 0x4000;
const PROC_SUPER_MAGIC: i64 = 0x9fa0;

/// Whether `fd` lies on a procfs.
pub fn is_procfs(fd: BorrowedFd<'_>) -> Result<bool> {
    Ok(fstatfs(fd).map_err(Failure::at("fstatfs"))?.f_type as i64 == PROC_SUPER_MAGIC)
}

/// A copy of the mount (or the tree of mounts) behind `fd`, attached nowhere yet.
pub fn clone_tree(fd: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(fd, c"", flags).map_err(Failure::at("open_tree"))
}

/// Puts a detached mount where `target` is.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", target, c"", flags).map_err(Failure::at("move_mount"))
}

impl<'a> Init<'a> {
    /// A new file system.
    pub(crate) fn filesystem(&mut self, step: &Step<'a>) -> Result {
        let Step::Filesystem {
            kind,
            source,
            options,
            attributes,
            label,
            inherit_mode,
            copy_up,
            ordinary,
            to_be_sealed,
            place,
        } = *step
        else {
            return Err(Failure::new("filesystem", Errno::INVAL));
        };
        let (target, existed) = self.directory_target(place.target, ordinary)?;
        let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).map_err(Failure::at("fsopen"))?;
        let configured = configure(context.as_fd(), source, options)
            .and_then(|()| {
                if inherit_mode && existed { same_mode(context.as_fd(), target.as_fd()) } else { Ok(()) }
            })
            .and_then(|()| fsconfig_create(context.as_fd()).map_err(Failure::at("fsconfig")))
            .and_then(|()| {
                let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
                fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
                    .map_err(Failure::at("fsmount"))
            });
        let mount = configured.inspect_err(|_| self.note_kernel_words(context.as_fd()))?;
        if !label.is_empty() {
            label_root(mount.as_fd(), label)?;
        }
        if copy_up && existed {
            copy_up::copy(target.as_fd(), mount.as_fd())?;
        }
        self.put(mount.as_fd(), target.as_fd(), &place)?;
        let plain = options.0.is_empty() && attributes & pintle_sys::mount::RDONLY == 0;
        if to_be_sealed {
            let slot = self.unsealed.iter_mut().find(|slot| slot.is_none());
            *slot.ok_or(Failure::new("too many mounts to be made read-only later", Errno::MFILE))? =
                Some((place.target, mount));
            return Ok(());
        }
        if self.proc.is_none() && kind == c"proc" && plain {
            self.proc = Some(mount);
        }
        Ok(())
    }

    /// A bind mount.
    pub(crate) fn bind(&mut self, step: &Step<'a>, index: u16) -> Result {
        let Step::Bind {
            source,
            recursive,
            change,
            set,
            clear,
            clear_explicit,
            only_proc,
            id_map,
            id_map_recursive,
            parents_map,
            prepared,
            place,
        } = *step
        else {
            return Err(Failure::new("bind", Errno::INVAL));
        };
        let by_parent = parents_map > 0;
        let source = match (by_parent, prepared) {
            (true, _) => self.ask_for_source(index)?,
            (false, true) => self.next_tree()?,
            (false, false) => self.open_source(source, index)?,
        };
        if only_proc && !is_procfs(source.as_fd())? {
            return Err(Failure::new("only a procfs may be bound there", Errno::INVAL));
        }
        let is_directory =
            FileType::from_raw_mode(fstat(&source).map_err(Failure::at("fstat"))?.st_mode).is_dir();
        let kind = if is_directory { Kind::Directory } else { Kind::File };
        let target = match only_proc {
            true => self.directory_target(place.target, true)?.0,
            false => path::open_or_make(self.root_fd()?, place.target, kind)?,
        };
        let over = FileType::from_raw_mode(fstat(&target).map_err(Failure::at("fstat"))?.st_mode);
        if over.is_dir() != is_directory {
            return Err(Failure::new("mount", Errno::NOTDIR));
        }
        let tree = if by_parent || prepared { source } else { clone_tree(source.as_fd(), recursive)? };
        if change {
            change_attributes(tree.as_fd(), set, clear, clear_explicit)?;
        }
        if id_map > 0 {
            self.map_ids(tree.as_fd(), id_map, id_map_recursive)?;
        }
        self.put(tree.as_fd(), target.as_fd(), &place)
    }

    /// Gives a detached mount, or the whole tree, the maps of the user namespace behind the descriptor.
    fn map_ids(&self, tree: BorrowedFd<'_>, id_map: u32, recursive: bool) -> Result {
        use rustix::fd::AsRawFd;
        let userns = self.descriptor(id_map)?.as_raw_fd();
        let map =
            Attributes { set: pintle_sys::mount::IDMAP, userns_fd: userns as u64, ..Attributes::default() };
        set_attributes(tree, recursive, &map).map_err(Failure::at("mount_setattr of the id map"))
    }

    /// A copy of the mounts at `source`, whose propagation is what it would be in a mount namespace of its own.
    pub(crate) fn take_along(&mut self, source: &CStr, recursive: bool, propagation: u32) -> Result {
        let source = openat(CWD, source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(Failure::at("open source"))?;
        let tree = clone_tree(source.as_fd(), recursive)?;
        propagate(tree.as_fd(), propagation)?;
        let place = self.trees.iter_mut().find(|place| place.is_none());
        *place.ok_or(Failure::new("too many mounts", Errno::MFILE))? = Some(tree);
        Ok(())
    }

    fn next_tree(&mut self) -> Result<OwnedFd> {
        self.trees.iter_mut().find_map(Option::take).ok_or(Failure::new("open_tree", Errno::NOENT))
    }

    /// Opens a bind's source in this mount namespace; what our ids can't reach, the parent's can.
    fn open_source(&mut self, source: &CStr, index: u16) -> Result<OwnedFd> {
        match openat(CWD, source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::ACCESS) => self.ask_for_source(index),
            other => other.map_err(Failure::at("open source")),
        }
    }

    fn ask_for_source(&mut self, index: u16) -> Result<OwnedFd> {
        crate::channel::send(self.channel, &Message::Source { step: index }, None)
            .map_err(Failure::at("write to parent"))?;
        self.receive_go()?.ok_or(Failure::new("open", Errno::ACCESS))
    }

    /// For an init in a user namespace, from the mount namespace joined before: only the machine's root maps ids.
    pub(crate) fn send_tree(&self, path: &CStr, recursive: bool, map: (u32, bool)) -> Result {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let source = openat(CWD, path, flags, Mode::empty()).map_err(Failure::at("open source"))?;
        let tree = clone_tree(source.as_fd(), recursive)?;
        self.map_ids(tree.as_fd(), map.0, map.1)?;
        crate::channel::send(self.channel, &Message::Opened, Some(tree.as_fd()))
            .map_err(Failure::at("sendmsg"))
    }

    /// The directory to mount on, made if need be, and whether it was there.
    fn directory_target(&self, target: &CStr, ordinary: bool) -> Result<(OwnedFd, bool)> {
        let root = self.root_fd()?;
        let nofollow = if ordinary { OFlags::NOFOLLOW } else { OFlags::empty() };
        match path::open(root, target, OFlags::PATH | nofollow) {
            Err(Errno::NOENT) => Ok((path::open_or_make(root, target, Kind::Directory)?, false)),
            Err(errno) => Err(Failure::new("openat2", errno)),
            Ok(fd) => {
                let mode = fstat(&fd).map_err(Failure::at("fstat"))?.st_mode;
                match FileType::from_raw_mode(mode).is_dir() {
                    true => Ok((fd, true)),
                    false if ordinary => {
                        Err(Failure::new("must be mounted on ordinary directory", Errno::NOTDIR))
                    }
                    false => Err(Failure::new("openat2", Errno::NOTDIR)),
                }
            }
        }
    }

    /// Attaches a finished mount, after a last look at where it goes.
    pub(crate) fn put(&self, mount: BorrowedFd<'_>, target: BorrowedFd<'_>, place: &Place<'_>) -> Result {
        let (mount_id, inode) = identity(target)?;
        let on_rootfs = mount_id == self.root_identity.0;
        if on_rootfs && inode == self.root_identity.1 {
            return Err(Failure::new("mountpoint is on the top of rootfs", Errno::INVAL));
        }
        if !place.in_proc && !on_rootfs && is_procfs(target)? {
            return Err(Failure::new("cannot be mounted because it is inside /proc", Errno::INVAL));
        }
        if place.tree_set | place.tree_clear != 0 {
            let attributes =
                Attributes { set: place.tree_set, clear: place.tree_clear, ..Attributes::default() };
            set_attributes(mount, true, &attributes).map_err(Failure::at("mount_setattr of the tree"))?;
        }
        attach(mount, target)?;
        place.propagation.iter().try_for_each(|flags| propagate(mount, flags))
    }

    /// Attaches a finished mount that is nobody's own choice: never over the rootfs, never inside procfs.
    pub(crate) fn cover(&self, mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result {
        let propagation = crate::order::Numbers(&[]);
        self.put(
            mount,
            target,
            &Place { target: c"", tree_set: 0, tree_clear: 0, in_proc: false, propagation },
        )
    }

    /// Makes a mount read-only when all that had to be made in it is there: that mount, whatever its path leads to by now.
    pub(crate) fn seal(&mut self, target: &CStr) -> Result {
        let is_it =
            |slot: &&mut Option<(&CStr, OwnedFd)>| slot.as_ref().is_some_and(|(known, _)| *known == target);
        let slot = self.unsealed.iter_mut().find(is_it).and_then(Option::take);
        let (_, mount) = slot.ok_or(Failure::new("no such mount", Errno::NOENT))?;
        let attributes = Attributes { set: pintle_sys::mount::RDONLY, ..Attributes::default() };
        set_attributes(&mount, false, &attributes).map_err(Failure::at("mount_setattr"))
    }

    /// The file system context says more than an errno, fsopen(2).
    pub(crate) fn note_kernel_words(&mut self, context: BorrowedFd<'_>) {
        let mut words = [0u8; 512];
        while let Ok(length @ 1..) = rustix::io::read(context, &mut words) {
            let text = words.get(..length).unwrap_or_default();
            // "e message": the letter is the severity.
            self.note.push(text.strip_prefix(b"e ").unwrap_or(text));
        }
    }
}

/// Changes the propagation of a mount, or with MS_REC of a tree.
pub fn propagate(mount: BorrowedFd<'_>, flags: u32) -> Result {
    let attributes = Attributes { propagation: u64::from(flags & !MS_REC), ..Attributes::default() };
    set_attributes(mount, flags & MS_REC != 0, &attributes).map_err(Failure::at("mount propagation"))
}

/// Every option: `key`, or `key` followed by `=value`.
pub fn configure(context: BorrowedFd<'_>, source: &CStr, options: Strings<'_>) -> Result {
    if !source.is_empty() {
        fsconfig_set_string(context, c"source", source).map_err(Failure::at("fsconfig source"))?;
    }
    let mut options = options.iter().peekable();
    while let Some(key) = options.next() {
        match options.next_if(|next| next.to_bytes().starts_with(b"=")) {
            Some(value) => {
                let value =
                    value.to_bytes_with_nul().get(1..).and_then(|v| CStr::from_bytes_with_nul(v).ok());
                fsconfig_set_string(context, key, value.unwrap_or_default())
            }
            None => fsconfig_set_flag(context, key),
        }
        .map_err(Failure::at("fsconfig"))?;
    }
    Ok(())
}

/// setxattr(2) on the root of a mount that is attached nowhere yet.
fn label_root(mount: BorrowedFd<'_>, label: &CStr) -> Result {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(mount, c".", flags, Mode::empty()).map_err(Failure::at("openat"))?;
    rustix::fs::fsetxattr(root, c"security.selinux", label.to_bytes(), rustix::fs::XattrFlags::empty())
        .map_err(Failure::at("fsetxattr security.selinux"))
}

/// A tmpfs that covers a directory looks like it: `mode=` of what is there.
fn same_mode(context: BorrowedFd<'_>, covered: BorrowedFd<'_>) -> Result {
    let mode = fstat(covered).map_err(Failure::at("fstat"))?.st_mode & 0o7777;
    let digits = [mode >> 9, mode >> 6, mode >> 3, mode].map(|digit| b'0' + (digit & 7) as u8);
    let [a, b, c, d] = digits;
    let text = [a, b, c, d, 0];
    let value = CStr::from_bytes_with_nul(&text).map_err(|_| Failure::new("mode", Errno::INVAL))?;
    fsconfig_set_string(context, c"mode", value).map_err(Failure::at("fsconfig mode"))
}

/// runc's rule for flags on a bind: exactly those asked for and, where the kernel has locked the source's, all that
/// were not cleared by name. The kernel never locks nosymfollow.
pub fn change_attributes(tree: BorrowedFd<'_>, set: u64, clear: u64, clear_explicit: u64) -> Result {
    let exact = Attributes { set, clear: clear | clear_explicit, ..Attributes::default() };
    match set_attributes(tree, false, &exact) {
        Err(Errno::PERM) => {
            let clear = clear & pintle_sys::mount::NOSYMFOLLOW | clear_explicit;
            let kept = Attributes { set, clear, ..Attributes::default() };
            set_attributes(tree, false, &kept).map_err(Failure::at("mount_setattr"))
        }
        other => other.map_err(Failure::at("mount_setattr")),
    }
}

/// The mount and inode behind `fd`.
pub fn identity(fd: BorrowedFd<'_>) -> Result<(u64, u64)> {
    let mask = StatxFlags::INO | StatxFlags::MNT_ID;
    let found = statx(fd, c"", rustix::fs::AtFlags::EMPTY_PATH, mask).map_err(Failure::at("statx"))?;
    Ok((found.stx_mnt_id, found.stx_ino))
}
