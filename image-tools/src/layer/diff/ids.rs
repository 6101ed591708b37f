//! Ids of a container's user namespace, back from those of the host: owners, and where attributes hold ids.

use crate::error::{Error, Result};
use crate::layer::tree::Xattrs;

/// Host ids to the image's; None: the map has no such id.
#[derive(Clone, Copy)]
pub struct Ids<'a> {
    /// For users.
    pub uid: &'a dyn Fn(u32) -> Option<u32>,
    /// For groups.
    pub gid: &'a dyn Fn(u32) -> Option<u32>,
}

impl Default for Ids<'_> {
    /// Ids stay what they are.
    fn default() -> Self {
        Self { uid: &Some, gid: &Some }
    }
}

impl Ids<'_> {
    pub(super) fn owner(&self, uid: u32, gid: u32) -> Result<(u32, u32)> {
        let no = |what, id| {
            Error::invalid(format!("{what} {id} is not in the map of the container's user namespace"))
        };
        Ok(((self.uid)(uid).ok_or_else(|| no("uid", uid))?, (self.gid)(gid).ok_or_else(|| no("gid", gid))?))
    }

    /// The ids in access control lists and file capabilities; those without a mapping stay.
    pub(super) fn attributes(&self, xattrs: &mut Xattrs) {
        for (name, value) in xattrs {
            match name.as_slice() {
                b"system.posix_acl_access" | b"system.posix_acl_default" => self.acl(value),
                b"security.capability" => self.capability(value),
                _ => {}
            }
        }
    }

    /// linux/posix_acl_xattr.h: a version, then entries of tag, permissions, id.
    fn acl(&self, value: &mut [u8]) {
        const USER: u16 = 0x02;
        const GROUP: u16 = 0x08;
        for entry in value.get_mut(4..).unwrap_or_default().chunks_exact_mut(8) {
            let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
            let mapped = match u16::from_le_bytes([entry[0], entry[1]]) {
                USER => (self.uid)(id),
                GROUP => (self.gid)(id),
                _ => None,
            };
            entry[4..].copy_from_slice(&mapped.unwrap_or(id).to_le_bytes());
        }
    }

    /// linux/capability.h: revision 3 ends in the uid that is root where the capabilities hold. For the container's
    /// own root an image says that by revision 2, without it.
    fn capability(&self, value: &mut Vec<u8>) {
        const REVISION_2: u8 = 0x02;
        const REVISION_3: u8 = 0x03;
        let (true, Some(root)) = (value.get(3) == Some(&REVISION_3), value.get(20..24)) else { return };
        let root = u32::from_le_bytes([root[0], root[1], root[2], root[3]]);
        match (self.uid)(root) {
            Some(0) => {
                value[3] = REVISION_2;
                value.truncate(20);
            }
            Some(mapped) => value[20..24].copy_from_slice(&mapped.to_le_bytes()),
            None => {}
        }
    }
}
