//! Which mounts may have to wait for somebody: for another machine, for a program that serves a file system, for a process that has to be
//! made first. Looking does not wait either: only what the kernel has at hand is looked at. openat2(2), RESOLVE_CACHED; proc_pid_mountinfo(5)

use super::options::Parsed;
use super::overlay;
use crate::wire::Mount;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxFlags, openat2, statx};
use std::path::Path;

/// File systems that nobody serves but the kernel, from memory or a disk. An unknown one may be anything.
const LOCAL: &[&str] = &[
    "", "bind", "btrfs", "devtmpfs", "erofs", "ext2", "ext3", "ext4", "f2fs", "iso9660", "none", "overlay",
    "ramfs", "rootfs", "squashfs", "tmpfs", "vfat", "xfs", "zfs",
];

/// Whether mounting these may take its time.
pub fn may_wait(mounts: &[Mount]) -> bool {
    let mut table = Table::default();
    mounts.iter().any(|one| {
        let mapped = Parsed::of(&one.options).is_ok_and(|parsed| parsed.maps.is_some());
        mapped || !is_local(&one.r#type) || paths(one).iter().any(|path| !table.is_local(path.as_str()))
    })
}

/// Whether what is at this absolute path is found at once, on a file system that does not wait.
pub fn is_at_hand(path: &Path) -> bool {
    Table::default().is_local(path)
}

fn is_local(kind: &str) -> bool {
    LOCAL.contains(&kind)
}

/// Everything that a mount names by an absolute path.
fn paths(one: &Mount) -> Vec<String> {
    let values =
        one.options.iter().filter_map(|option| Some(option.split_once('=')?.1)).flat_map(overlay::split);
    values.chain([one.source.clone()]).filter(|word| word.starts_with('/')).collect()
}

/// What is mounted here, read when it is first needed.
#[derive(Default)]
struct Table(Option<String>);

impl Table {
    /// It is found at once, and on a file system that does not wait.
    fn is_local(&mut self, path: impl rustix::path::Arg) -> bool {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let Ok(found) = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED) else { return false };
        let at = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let Ok(stat) = statx(found, "", at, StatxFlags::MNT_ID) else { return false };
        // On a block device: no look at a table that may be long.
        stat.stx_dev_major != 0 || self.kind(stat.stx_mnt_id).is_some_and(is_local)
    }

    fn kind(&mut self, mount: u64) -> Option<&str> {
        let text =
            self.0.get_or_insert_with(|| std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default());
        let number = mount.to_string();
        let line = text.lines().find(|line| line.split(' ').next() == Some(&number))?;
        line.split_once(" - ")?.1.split(' ').next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: &str, source: &str, options: &[&str]) -> Mount {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Mount { r#type: kind.into(), source: source.into(), target: String::new(), options }
    }

    #[test]
    fn what_is_at_hand_does_not_wait() {
        assert!(!may_wait(&[]));
        // Looked at before, so the kernel has them at hand.
        assert!(std::fs::exists("/tmp").is_ok_and(|there| there) && std::fs::exists("/proc/self").is_ok());
        let overlay = mount("overlay", "overlay", &["lowerdir=/tmp:/", "upperdir=/tmp", "index=off"]);
        let bind = mount("bind", "/tmp", &["rbind", "ro"]);
        for mounts in [vec![overlay], vec![bind, mount("tmpfs", "tmpfs", &["size=1m"])]] {
            // While anybody mounts something, the kernel says that it would have to wait.
            assert!((0..100).any(|_| !may_wait(&mounts)), "{mounts:?}");
        }
    }

    #[test]
    fn what_others_serve_may() {
        for one in [
            mount("nfs4", "server:/x", &[]),
            mount("fuse3.fuse-overlayfs", "overlay", &["lowerdir=/tmp"]),
            mount("9p", "x", &[]),
            mount("overlay", "overlay", &["lowerdir=/tmp:/no/such/place"]),
            mount("bind", "/no/such/place", &["rbind"]),
            mount("bind", "/tmp", &["rbind", "uidmap=0:1:1", "gidmap=0:1:1"]),
            // Served by the kernel, but not meant to hold anything.
            mount("bind", "/proc", &["rbind"]),
        ] {
            assert!(may_wait(&[mount("tmpfs", "tmpfs", &[]), one.clone()]), "{one:?}");
        }
    }
}
