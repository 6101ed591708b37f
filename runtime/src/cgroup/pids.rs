//! The processes of a cgroup and of all cgroups below it.

use super::{Cgroup, file};
use crate::error::{Context, Result};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Dir, FileType, Mode, OFlags, openat};
use rustix::io::Errno;
use std::ffi::CString;

impl Cgroup {
    /// The process ids, as this pid namespace counts them. Cgroups that vanish meanwhile have none.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let mut pids = Vec::new();
        collect(&self.dir, &mut pids).with_context(|| self.told("cgroup.procs"))?;
        Ok(pids)
    }
}

/// Walks down and up again with one descriptor, as deep as somebody may have nested.
fn collect(top: &OwnedFd, pids: &mut Vec<i32>) -> std::result::Result<(), Errno> {
    let mut here = open_below(top, c".")?;
    processes(&here, pids)?;
    let mut todo = vec![children(&here)?];
    while let Some(names) = todo.last_mut() {
        let Some(name) = names.pop() else {
            todo.pop();
            if !todo.is_empty() {
                here = open_below(&here, c"..")?;
            }
            continue;
        };
        match open_below(&here, &name) {
            Ok(below) => here = below,
            Err(Errno::NOENT | Errno::NODEV) => continue,
            Err(errno) => return Err(errno),
        }
        processes(&here, pids)?;
        todo.push(children(&here)?);
    }
    Ok(())
}

fn processes(dir: &OwnedFd, pids: &mut Vec<i32>) -> std::result::Result<(), Errno> {
    let text = match file::read(dir, "cgroup.procs") {
        // In a threaded cgroup only threads are listed.
        Err(Errno::OPNOTSUPP) => file::read_if_there(dir, "cgroup.threads")?,
        Err(Errno::NOENT | Errno::NODEV) => None,
        text => Some(text?),
    };
    pids.extend(text.iter().flat_map(|text| text.lines()).filter_map(|line| line.parse::<i32>().ok()));
    Ok(())
}

pub(super) fn open_below(dir: impl AsFd, name: &std::ffi::CStr) -> std::result::Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, name, flags, Mode::empty())
}

/// The names of the cgroups directly below.
pub(super) fn children(dir: &OwnedFd) -> std::result::Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    let mut entries = match Dir::read_from(dir) {
        Err(Errno::NOENT) => return Ok(names),
        entries => entries?,
    };
    while let Some(entry) = entries.read() {
        match entry {
            Ok(entry) if entry.file_type() == FileType::Directory => {
                let name = entry.file_name();
                if name != c"." && name != c".." {
                    names.push(name.to_owned());
                }
            }
            Ok(_) => {}
            Err(Errno::NOENT | Errno::NODEV) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(names)
}
