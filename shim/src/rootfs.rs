//! A container's root file system, as an engine's snapshotter describes it: mounts in the bundle, and their end. mount(8), fstab(5)

use crate::wire::Mount;
use pintle::error::{Context as _, Error, Result};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, mount_remount, unmount,
};
use std::ffi::CString;
use std::path::{Path, PathBuf};

/// What mount(2) takes as data, in bytes: a page with its end.
const LONGEST_DATA: usize = 4095;
/// The most mounts that are taken off one place.
const MOST: u32 = 1000;

/// Mounts all of `mounts` at `rootfs`, in their order. After an error nothing of it is left.
///
/// # Errors
/// What the kernel refuses, with the mount that it refused.
pub fn assemble(mounts: &[Mount], rootfs: &Path) -> Result<()> {
    for one in mounts {
        if let Err(error) = attach(one, rootfs) {
            return match unmount_all(rootfs) {
                Ok(()) => Err(error),
                Err(also) => Err(Error::new(format!("{error}; and then: {also}"))),
            };
        }
    }
    Ok(())
}

/// What fstab(5)'s words come to.
#[derive(Debug, PartialEq, Eq)]
struct Parsed {
    flags: MountFlags,
    bind: bool,
    recursive: bool,
    propagation: Option<MountPropagationFlags>,
    data: String,
}

impl Parsed {
    fn of(options: &[String]) -> Self {
        let mut parsed = Self {
            flags: MountFlags::empty(),
            bind: false,
            recursive: false,
            propagation: None,
            data: String::new(),
        };
        let mut data: Vec<&str> = Vec::new();
        for option in options {
            let (clear, flag) = match option.as_str() {
                "defaults" => continue,
                "ro" => (false, MountFlags::RDONLY),
                "rw" => (true, MountFlags::RDONLY),
                "nosuid" => (false, MountFlags::NOSUID),
                "suid" => (true, MountFlags::NOSUID),
                "nodev" => (false, MountFlags::NODEV),
                "dev" => (true, MountFlags::NODEV),
                "noexec" => (false, MountFlags::NOEXEC),
                "exec" => (true, MountFlags::NOEXEC),
                "sync" => (false, MountFlags::SYNCHRONOUS),
                "async" => (true, MountFlags::SYNCHRONOUS),
                "dirsync" => (false, MountFlags::DIRSYNC),
                "noatime" => (false, MountFlags::NOATIME),
                "atime" => (true, MountFlags::NOATIME),
                "nodiratime" => (false, MountFlags::NODIRATIME),
                "diratime" => (true, MountFlags::NODIRATIME),
                "relatime" => (false, MountFlags::RELATIME),
                "norelatime" => (true, MountFlags::RELATIME),
                "strictatime" => (false, MountFlags::STRICTATIME),
                "nostrictatime" => (true, MountFlags::STRICTATIME),
                "bind" | "rbind" => {
                    parsed.bind = true;
                    parsed.recursive |= option == "rbind";
                    continue;
                }
                word => {
                    match propagation(word) {
                        Some(found) => parsed.propagation = Some(found),
                        None => data.push(word),
                    }
                    continue;
                }
            };
            parsed.flags.set(flag, !clear);
        }
        parsed.data = data.join(",");
        parsed
    }
}

fn propagation(word: &str) -> Option<MountPropagationFlags> {
    let (word, recursive) = match word.strip_prefix('r') {
        Some(rest) => (rest, MountPropagationFlags::REC),
        None => (word, MountPropagationFlags::empty()),
    };
    let kind = match word {
        "private" => MountPropagationFlags::PRIVATE,
        "shared" => MountPropagationFlags::SHARED,
        "slave" => MountPropagationFlags::DOWNSTREAM,
        "unbindable" => MountPropagationFlags::UNBINDABLE,
        _ => return None,
    };
    Some(kind | recursive)
}

fn attach(one: &Mount, rootfs: &Path) -> Result<()> {
    let target = below(rootfs, &one.target)?;
    let told = || {
        let (kind, source) = (&one.r#type, &one.source);
        format!("mount source: {source:?}, target: {:?}, fstype: {kind}", target.display())
    };
    let parsed = Parsed::of(&one.options);
    if let Some(option) =
        one.options.iter().find(|option| option.starts_with("uidmap=") || option.starts_with("gidmap="))
    {
        return Err(
            Error::new(format!("{option}: id-mapped root file systems are not there yet")).context(told())
        );
    }
    if parsed.bind || one.r#type == "bind" {
        let recursive = if parsed.recursive { MountFlags::REC } else { MountFlags::empty() };
        rustix::mount::mount(&one.source, &target, "", MountFlags::BIND | recursive, None)
            .with_context(told)?;
        if !parsed.flags.is_empty() {
            mount_remount(&target, MountFlags::BIND | parsed.flags, "").with_context(told)?;
        }
    } else {
        if parsed.data.len() > LONGEST_DATA {
            let length = parsed.data.len();
            return Err(Error::new(format!("{length} bytes of options are more than the kernel takes"))
                .context(told()));
        }
        let data =
            CString::new(parsed.data).map_err(|_| Error::new("a NUL in the options")).with_context(told)?;
        mount(&one.source, &target, one.r#type.as_str(), parsed.flags, Some(data.as_c_str()))
            .with_context(told)?;
    }
    match parsed.propagation {
        Some(kind) => mount_change(&target, kind).with_context(told),
        None => Ok(()),
    }
}

/// A place in the root file system: the engine's own word, without a way out of it.
fn below(rootfs: &Path, target: &str) -> Result<PathBuf> {
    let mut place = rootfs.to_owned();
    for part in target.split('/').filter(|part| !matches!(*part, "" | ".")) {
        if part == ".." {
            return Err(Error::new(format!("mount target {target:?} leads out of the root file system")));
        }
        place.push(part);
    }
    Ok(place)
}

/// Takes everything off `rootfs`, however often something was mounted there; nothing there is no error.
///
/// # Errors
/// What the kernel refuses, although the mount may be in use: it is detached then.
pub fn unmount_all(rootfs: &Path) -> Result<()> {
    for _ in 0..MOST {
        match unmount(rootfs, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            // Nothing is mounted there, or nothing is there.
            Err(Errno::INVAL | Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(errno) => return Err(errno).with_context(|| format!("umount {}", rootfs.display())),
        }
    }
    Err(Error::new(format!("umount {}: more than {MOST} mounts", rootfs.display())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn options_are_flags_or_data() {
        let words = ["ro", "nosuid", "suid", "lowerdir=/a:/b", "rslave", "index=off", "defaults"];
        let parsed = Parsed::of(&words.map(str::to_owned));
        assert_eq!(parsed.flags, MountFlags::RDONLY);
        assert_eq!(parsed.data, "lowerdir=/a:/b,index=off");
        assert_eq!(parsed.propagation, Some(MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC));
        assert!(!parsed.bind);
        let parsed = Parsed::of(&["rbind".to_owned(), "ro".into(), "rw".into()]);
        assert!(parsed.bind && parsed.recursive && parsed.flags.is_empty());
    }

    #[test]
    fn a_target_stays_below_the_root() {
        let root = Path::new("/b/rootfs");
        assert_eq!(below(root, "").unwrap(), root);
        assert_eq!(below(root, "/a/./b").unwrap(), root.join("a/b"));
        assert!(below(root, "a/../../x").is_err());
    }
}
