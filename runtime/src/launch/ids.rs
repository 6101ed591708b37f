//! The id maps of a user namespace, written from outside. user_namespaces(7)

use crate::error::{Context, Result};
use crate::plan::namespaces::IdMaps;
use rustix::io::Errno;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the kernel may take to finish an execve that it has told the parent of.
const LIMIT: Duration = Duration::from_secs(1);

/// Writes the maps of process `pid`.
///
/// # Errors
/// Maps that this process may not write; the kernel says no more than EPERM or EINVAL.
pub fn write(pid: i32, maps: &IdMaps) -> Result<()> {
    let put = |file: &str, text: &str| {
        let path = format!("/proc/{pid}/{file}");
        patiently(path.as_ref(), text).with_context(|| format!("write {text:?} to {path}"))
    };
    if maps.deny_set_groups {
        put("setgroups", "deny")?;
    }
    put("gid_map", &maps.gids)?;
    put("uid_map", &maps.uids)
}

/// The kernel wakes the parent of a vfork in the middle of the execve. Until its end some kernels have the process's
/// files belong to root, and an ordinary user may not open them.
fn patiently(path: &Path, text: &str) -> std::io::Result<()> {
    let deadline = Instant::now() + LIMIT;
    loop {
        match fs::write(path, text) {
            Err(error)
                if error.raw_os_error() == Some(Errno::ACCESS.raw_os_error())
                    && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(1));
            }
            done => return done,
        }
    }
}
