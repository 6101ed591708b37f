//! The id maps of a user namespace, written and read from outside. user_namespaces(7)

use super::{helper, procfs, spawn};
use crate::error::{Context, Error, Result};
use crate::host::{IdRanges, Opened};
use crate::plan::namespaces::{self, IdMaps};
use crate::plan::steps::{Slot, Steps};
use crate::spec::{LinuxIdMapping, LinuxIdMappingBuilder};
use pintle_init::order::Step;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::time::{Duration, Instant};

/// How long the kernel may take to finish an execve that it has told the parent of.
const LIMIT: Duration = Duration::from_secs(1);

/// Writes the maps of process `pid`, or has them written.
///
/// # Errors
/// Maps that this process may not write, of which the kernel says no more than EPERM or EINVAL; what newuidmap(1) and
/// newgidmap(1) say.
pub fn write(pid: i32, maps: &IdMaps) -> Result<()> {
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

fn put(pid: i32, file: &str, text: &str) -> Result<()> {
    patiently(|| procfs::write(pid, file, text))
        .with_context(|| format!("write {text:?} to /proc/{pid}/{file}"))
}

/// By the program that may: it looks up which ids the user was given in /etc/subuid and /etc/subgid.
fn by_tool(tool: &str, pid: i32, file: &str, map: &str) -> Result<()> {
    // It refuses a process whose files are not its caller's yet.
    let opened = patiently(|| procfs::open(pid, file, OFlags::WRONLY));
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
fn patiently<T>(attempt: impl Fn() -> std::result::Result<T, Errno>) -> std::result::Result<T, Errno> {
    let deadline = Instant::now() + LIMIT;
    loop {
        match attempt() {
            Err(Errno::ACCESS) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
            done => return done,
        }
    }
}

/// The maps of the user namespace that is to be joined, if there is one: as a process of ours in it has them, for only its
/// members' maps can be read, and a path says nothing about who is one.
///
/// # Errors
/// A namespace that this process may not enter.
pub fn of_joined(opened: &Opened) -> Result<IdRanges> {
    let Some(place) = opened.user else { return Ok(IdRanges::default()) };
    let mut steps = Steps::new();
    let descriptor = steps.slot(Slot::Namespace(place));
    let join = Step::Join { kinds: namespaces::USER, descriptor, deferrable: false };
    let descriptors = spawn::Descriptors { opened: Some(opened), ..spawn::Descriptors::default() };
    // It asks for maps that it has already: only to be looked at.
    helper::run(steps, [join, Step::AskMaps {}], &descriptors, |member, _| {
        Ok(IdRanges { uids: ranges(member.pid, "uid_map")?, gids: ranges(member.pid, "gid_map")? })
    })
    .with_context(|| format!("failed to cache mappings for userns: linux.namespaces[{place}]"))
}

fn ranges(pid: i32, file: &str) -> Result<Vec<LinuxIdMapping>> {
    let text = procfs::read(pid, file).with_context(|| format!("read /proc/{pid}/{file}"))?;
    text.lines().map(range).collect::<Option<_>>().ok_or_else(|| Error::new(format!("{file}: {text:?}")))
}

/// A line `INSIDE OUTSIDE COUNT`.
fn range(line: &str) -> Option<LinuxIdMapping> {
    let mut numbers = line.split_ascii_whitespace().map(|word| word.parse::<u32>().ok());
    let (inside, outside, size) = (numbers.next()??, numbers.next()??, numbers.next()??);
    LinuxIdMappingBuilder::default().container_id(inside).host_id(outside).size(size).build().ok()
}
