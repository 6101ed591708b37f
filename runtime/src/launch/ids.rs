//! The id maps of a user namespace, written from outside. user_namespaces(7)

use super::{procfs, spawn};
use crate::error::Context;
use crate::plan::namespaces::IdMaps;
use rustix::io::Errno;
use std::time::{Duration, Instant};

/// How long the kernel may take to finish an execve that it has told the parent of.
const LIMIT: Duration = Duration::from_secs(1);

/// Writes the maps of process `pid`, or has them written.
///
/// # Errors
/// Maps that this process may not write, of which the kernel says no more than EPERM or EINVAL; what newuidmap(1) and
/// newgidmap(1) say.
pub fn write(pid: i32, maps: &IdMaps) -> crate::error::Result<()> {
    if maps.deny_set_groups {
        put(pid, "setgroups", "deny")?;
    }
    match maps.gids_by_tool {
        true => by_tool("newgidmap", pid, "gid_map", &maps.gids)?,
        false => put(pid, "gid_map", &maps.gids)?,
    }
    match maps.uids_by_tool {
        true => by_tool("newuidmap", pid, "uid_map", &maps.uids),
        false => put(pid, "uid_map", &maps.uids),
    }
}

fn put(pid: i32, file: &str, text: &str) -> crate::error::Result<()> {
    patiently(|| procfs::write(pid, file, text))
        .with_context(|| format!("write {text:?} to /proc/{pid}/{file}"))
}

/// By the program that may: it looks up which ids the user was given in /etc/subuid and /etc/subgid.
fn by_tool(tool: &str, pid: i32, file: &str, map: &str) -> crate::error::Result<()> {
    // It refuses a process whose files are not its caller's yet.
    let opened = patiently(|| procfs::open(pid, file));
    drop(opened.with_context(|| format!("open /proc/{pid}/{file}"))?);
    let arguments: Vec<String> =
        std::iter::once(pid.to_string()).chain(map.split_whitespace().map(str::to_owned)).collect();
    spawn::output(tool, &arguments).map(drop).with_context(|| {
        format!(
            "map {map:?} into the user namespace: an ordinary user maps more than its own id by {tool} (package uidmap)"
        )
    })
}

/// The kernel wakes the parent of a vfork in the middle of the execve. Until its end some kernels have the process's
/// files belong to root, and an ordinary user may not open them.
fn patiently<T>(attempt: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
    let deadline = Instant::now() + LIMIT;
    loop {
        match attempt() {
            Err(Errno::ACCESS) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
            done => return done,
        }
    }
}
