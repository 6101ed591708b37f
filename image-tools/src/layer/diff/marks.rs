//! What overlayfs notes in extended attributes of an upper directory, told from the attributes that belong to the
//! files (Documentation/filesystems/overlayfs.rst of the kernel).

use crate::error::{Error, Result};
use crate::layer::tree::Xattrs;

/// Whose attributes overlayfs uses, by the mount option `userxattr`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overlay {
    /// `trusted.overlay.*`
    #[default]
    Trusted,
    /// `user.overlay.*`: mounted in a user namespace.
    User,
}

impl Overlay {
    fn prefix(self) -> &'static [u8] {
        match self {
            Self::Trusted => b"trusted.overlay.",
            Self::User => b"user.overlay.",
        }
    }

    /// The attribute that makes an empty file a whiteout, in a directory of [`Opaque::Files`].
    pub(super) fn whiteout(self) -> Vec<u8> {
        [self.prefix(), b"whiteout"].concat()
    }
}

/// What a directory hides of the one below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Opaque {
    /// Nothing but what its whiteouts name.
    #[default]
    No,
    /// Likewise; and whiteouts may be empty files with an attribute.
    Files,
    /// Everything.
    Whole,
}

/// Splits attributes into those of the file, as the container sees them, and what a directory hides.
///
/// # Errors
/// When the file is only a part of one, or a directory stands for another: overlay mounts of this program make
/// neither.
pub(super) fn split(raw: Xattrs, overlay: Overlay) -> Result<(Xattrs, Opaque)> {
    let mut xattrs = Xattrs::new();
    let mut opaque = Opaque::No;
    for (name, value) in raw {
        let Some(mark) = name.strip_prefix(overlay.prefix()) else {
            xattrs.push((name, value));
            continue;
        };
        match mark {
            b"opaque" if value == b"y" => opaque = Opaque::Whole,
            b"opaque" if value == b"x" => opaque = Opaque::Files,
            b"redirect" | b"metacopy" => {
                let mark = String::from_utf8_lossy(mark);
                return Err(Error::unsupported(format!(
                    "the overlay was mounted with {mark}, and this is no whole file"
                )));
            }
            // The file's own attribute, escaped by one more "overlay.".
            _ => xattrs
                .extend(mark.strip_prefix(b"overlay.").map(|own| ([overlay.prefix(), own].concat(), value))),
        }
    }
    xattrs.sort();
    Ok((xattrs, opaque))
}

/// Drops the attributes that belong to the machine, not to an image.
pub(super) fn drop_local(xattrs: &mut Xattrs) {
    xattrs.retain(|(name, _)| !matches!(name.as_slice(), b"security.selinux" | b"system.nfs4_acl"));
}
