//! Handing a cgroup to the user inside the container, who may then make cgroups below it: "Cgroup ownership" in the
//! runtime spec, "Delegation" in the kernel's text on cgroup v2.

use super::Cgroup;
use crate::error::{Context, Result};
use rustix::fs::{AtFlags, Uid, chownat};
use rustix::io::Errno;

/// What a kernel before 4.15 would have listed in /sys/kernel/cgroup/delegate.
const ALWAYS: &str = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n";

impl Cgroup {
    /// Makes `uid` (as this user namespace counts it) the owner of the directory and of the files that the kernel
    /// names as safe to give away.
    pub fn delegate(&self, uid: u32) -> Result<()> {
        let names = std::fs::read_to_string("/sys/kernel/cgroup/delegate").unwrap_or_else(|_| ALWAYS.into());
        let uid = Some(Uid::from_raw(uid));
        let told = |name: &str| format!("chown {}/{name}", self.path.display());
        chownat(&self.dir, c"", uid, None, AtFlags::EMPTY_PATH).with_context(|| told(""))?;
        for name in names.lines().filter(|name| !name.is_empty() && !name.contains('/')) {
            match chownat(&self.dir, name, uid, None, AtFlags::SYMLINK_NOFOLLOW) {
                // Not every file of the list belongs to every cgroup.
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno).with_context(|| told(name)),
            }
        }
        Ok(())
    }
}
