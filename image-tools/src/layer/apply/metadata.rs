//! What an entry has besides its content: owner, extended attributes, mode, times, in this order. A change of owner clears setuid bits and
//! capabilities (chown(2)), and writing clears them too, so they come after both; the time comes last.

use std::collections::HashSet;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod, fchown, fremovexattr,
    fsetxattr, futimens, openat, utimensat,
};
use rustix::io::Errno;

use super::{Form, Options};
use crate::error::{Context, Error, Result};
use crate::layer::member::{Kind, Member, Time};
use crate::layer::read::show;
use crate::tree;

/// What means something on the machine where it was made only.
fn is_machine_s(name: &[u8]) -> bool {
    matches!(name, b"security.selinux" | b"system.nfs4_acl")
}

const CAPABILITY: &[u8] = b"security.capability";
/// overlayfs's own; what an image has of them is escaped on its disk (since Linux 6.7 it undoes that).
fn overlays() -> &'static [u8] {
    if crate::rootless::is_in_user_namespace() { b"user.overlay." } else { b"trusted.overlay." }
}

pub(super) const DEFAULT_ACL: &str = "system.posix_acl_default";
const ACL: &str = "system.posix_acl_access";

/// Takes away what a new file or directory has from its parent's default ACL.
pub(super) fn disinherit(file: BorrowedFd<'_>) -> Result<()> {
    [ACL, DEFAULT_ACL].iter().try_for_each(|name| gone(fremovexattr(file, *name)))
}

/// The same for what is not to be opened.
pub(super) fn disinherit_by_name(dir: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    let node = openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    gone(rustix::fs::removexattr(format!("/proc/self/fd/{}", node.as_raw_fd()), ACL))
}

fn gone(removed: rustix::io::Result<()>) -> Result<()> {
    match removed {
        Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
        Err(e) => Err(e).context("inherited ACL"),
    }
}

pub(super) struct Attributes<'a> {
    options: &'a Options,
    warn: &'a mut dyn FnMut(String),
    warned: HashSet<String>,
}

impl<'a> Attributes<'a> {
    pub fn new(options: &'a Options, warn: &'a mut dyn FnMut(String)) -> Self {
        Self { options, warn, warned: HashSet::new() }
    }

    /// Says something once.
    pub fn warn(&mut self, text: &str) {
        if self.warned.insert(text.to_owned()) {
            (self.warn)(text.to_owned());
        }
    }

    /// Of a file that was just written.
    pub fn file(&mut self, file: &std::fs::File, member: &Member) -> Result<()> {
        if let Some((uid, gid)) = self.owner(member)? {
            fchown(file, Some(uid), Some(gid)).map_err(|e| refused(e, uid, gid))?;
        }
        self.xattrs(member, |name, value| fsetxattr(file, name, value, XattrFlags::empty()))?;
        fchmod(file, Mode::from_raw_mode(member.mode)).context("mode")?;
        futimens(file, &timestamps(member.mtime)).context("time")
    }

    /// Of a directory; `had` ones lose the attributes that the layer doesn't give. Its time comes at the end of the layer.
    pub fn directory(&mut self, dir: &impl AsFd, member: &Member, had: bool) -> Result<()> {
        if let Some((uid, gid)) = self.owner(member)? {
            fchown(dir, Some(uid), Some(gid)).map_err(|e| refused(e, uid, gid))?;
        }
        if had {
            let overlay = self.options.form == Form::Overlay;
            clear_xattrs(dir.as_fd(), |name| is_machine_s(name) || overlay && name.starts_with(overlays()))?;
        }
        self.xattrs(member, |name, value| fsetxattr(dir, name, value, XattrFlags::empty()))?;
        fchmod(dir, Mode::from_raw_mode(member.mode)).context("mode")
    }

    /// Of a link, pipe or device that was just made: nothing is opened but the name.
    pub fn by_name(&mut self, dir: BorrowedFd<'_>, name: &CStr, member: &Member) -> Result<()> {
        let node = openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        if let Some((uid, gid)) = self.owner(member)? {
            chownat(&node, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
                .map_err(|e| refused(e, uid, gid))?;
        }
        let itself = format!("/proc/self/fd/{}", node.as_raw_fd());
        self.xattrs(member, |name, value| rustix::fs::setxattr(&itself, name, value, XattrFlags::empty()))?;
        if !matches!(member.kind, Kind::Symlink(_)) {
            rustix::fs::chmod(&itself, Mode::from_raw_mode(member.mode)).context("mode")?;
        }
        utimensat(dir, name, &timestamps(member.mtime), AtFlags::SYMLINK_NOFOLLOW).context("time")
    }

    /// None: whoever runs this owns everything.
    fn owner(&self, member: &Member) -> Result<Option<(Uid, Gid)>> {
        if self.options.squash {
            return Ok(None);
        }
        let uid = self.options.ids.users.outside(member.uid).context("uid")?;
        let gid = self.options.ids.groups.outside(member.gid).context("gid")?;
        Ok(Some((Uid::from_raw(uid), Gid::from_raw(gid))))
    }

    fn xattrs(
        &mut self,
        member: &Member,
        set: impl Fn(&[u8], &[u8]) -> rustix::io::Result<()>,
    ) -> Result<()> {
        for (name, value) in &member.xattrs {
            if is_machine_s(name) {
                continue;
            }
            let escaped;
            let on_disk = match name.strip_prefix(overlays()) {
                Some(rest) if self.options.form == Form::Overlay => {
                    escaped = [overlays(), b"overlay.", rest].concat();
                    &escaped
                }
                _ => name,
            };
            let owned;
            let value = match name.as_slice() {
                CAPABILITY => {
                    owned = self.capability(value)?;
                    &owned
                }
                b"system.posix_acl_access" | b"system.posix_acl_default" if !self.options.squash => {
                    owned = self.acl(value).with_context(|| show(name))?;
                    &owned
                }
                _ => value,
            };
            let shown = String::from_utf8_lossy(name);
            match set(on_disk, value) {
                Ok(()) => {}
                Err(Errno::OPNOTSUPP) => self.warn(&format!("this file system has no {shown}")),
                Err(Errno::PERM) => self.warn(&format!("{shown} may not be set here")),
                Err(e) => return Err(e).with_context(|| format!("extended attribute {}", show(name))),
            }
        }
        Ok(())
    }

    /// The users and groups that an access control list names are mapped as owners are (linux/posix_acl_xattr.h: a version, then entries
    /// of tag, permissions, id).
    fn acl(&self, value: &[u8]) -> Result<Vec<u8>> {
        const USER: [u8; 2] = [0x02, 0];
        const GROUP: [u8; 2] = [0x08, 0];
        let mut mapped = value.to_vec();
        for entry in mapped.get_mut(4..).unwrap_or_default().chunks_exact_mut(8) {
            let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
            let id = match [entry[0], entry[1]] {
                USER => self.options.ids.users.outside(id)?,
                GROUP => self.options.ids.groups.outside(id)?,
                _ => continue,
            };
            entry[4..].copy_from_slice(&id.to_le_bytes());
        }
        Ok(mapped)
    }

    /// File capabilities of a mapped tree belong to the namespace of its root: version 3 names it (capabilities(7)).
    fn capability(&self, value: &[u8]) -> Result<Vec<u8>> {
        const VERSION_2: u8 = 2;
        let root = self.options.ids.users.outside(0).unwrap_or(0);
        if root == 0 || value.len() != 20 || value[3] != VERSION_2 {
            return Ok(value.to_vec());
        }
        let mut namespaced = value.to_vec();
        namespaced[3] = 3;
        namespaced.extend_from_slice(&root.to_le_bytes());
        Ok(namespaced)
    }
}

/// Removes all extended attributes but those that stay.
fn clear_xattrs(dir: BorrowedFd<'_>, stays: impl Fn(&[u8]) -> bool) -> Result<()> {
    for name in tree::xattr_names(dir)?.iter().filter(|name| !stays(name)) {
        match fremovexattr(dir, name.as_slice()) {
            Ok(()) | Err(Errno::NODATA | Errno::PERM | Errno::OPNOTSUPP) => {}
            Err(e) => {
                return Err(Error::from(e)).with_context(|| format!("extended attribute {}", show(name)));
            }
        }
    }
    Ok(())
}

/// Makes a directory of a flat tree like another one.
pub(super) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    clear_xattrs(to, is_machine_s)?;
    tree::copy_attributes(from, to, |name| !is_machine_s(name))
}

fn refused(errno: Errno, uid: Uid, gid: Gid) -> Error {
    let error = Error::from(errno);
    if errno != Errno::INVAL {
        return Error::new(error.kind(), format!("owner: {error}"));
    }
    Error::unsupported(format!(
        "owner {uid}:{gid} has no id in this user namespace: more in /etc/subuid and /etc/subgid, or --squash-owners"
    ))
}

/// Last access is set to last change: archives seldom tell it.
pub(super) fn timestamps(time: Time) -> Timestamps {
    let time = Timespec { tv_sec: time.seconds, tv_nsec: i64::from(time.nanoseconds) };
    Timestamps { last_access: time, last_modification: time }
}
