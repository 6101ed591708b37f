//! Device nodes and links, made by name in the directory that was resolved for them (CVE-2026-41579).

use crate::Init;
use crate::failure::{Failure, Result};
use crate::mounts::clone_tree;
use crate::order::Step;
use crate::path::{self, Kind};
use core::ffi::CStr;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, chownat, fstat, makedev, mknodat, openat, statat,
    symlinkat, unlinkat,
};
use rustix::io::Errno;

impl<'a> Init<'a> {
    /// A node; one that is there already has to be the same.
    pub(crate) fn device(&mut self, step: &Step<'a>) -> Result {
        let Step::Device { directory, name, mode, major, minor, uid, gid, host } = *step else {
            return Err(Failure::new("device", Errno::INVAL));
        };
        let parent = self.directory(directory)?;
        let kind = FileType::from_raw_mode(mode);
        match mknodat(parent, name, kind, Mode::from_raw_mode(mode & 0o7777), makedev(major, minor)) {
            Err(Errno::EXIST) => {
                let there =
                    statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(Failure::at("fstatat"))?;
                let same = FileType::from_raw_mode(there.st_mode) == kind
                    && (kind == FileType::Fifo || there.st_rdev == makedev(major, minor));
                return if same { Ok(()) } else { Err(Failure::new("mknodat", Errno::EXIST)) };
            }
            Err(Errno::PERM) if !host.is_empty() => return self.device_bind(host, directory, name),
            other => other.map_err(Failure::at("mknodat"))?,
        }
        if (uid, gid) == (0, 0) {
            return Ok(());
        }
        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        chownat(parent, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW).map_err(Failure::at("fchownat"))
    }

    /// The directory to make something in, itself made if need be.
    fn directory(&mut self, path: &'a CStr) -> Result<BorrowedFd<'_>> {
        if self.directory.as_ref().is_none_or(|(known, _)| *known != path) {
            let directory = path::open_or_make(self.root_fd()?, path, Kind::Directory)?;
            self.directory = Some((path, directory));
        }
        self.directory.as_ref().map(|(_, fd)| fd.as_fd()).ok_or(Failure::new("directory", Errno::INVAL))
    }

    /// The host's node over an empty file.
    pub(crate) fn device_bind(&mut self, source: &CStr, directory: &'a CStr, name: &CStr) -> Result {
        let source = openat(CWD, source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(Failure::at("open source"))?;
        let kind = FileType::from_raw_mode(fstat(&source).map_err(Failure::at("fstat"))?.st_mode);
        if !(kind.is_char_device() || kind.is_block_device() || kind.is_fifo()) {
            return Err(Failure::new("the host has no such device", Errno::NODEV));
        }
        let parent = self.directory(directory)?;
        let target = path::open_or_make(parent, name, Kind::File)?;
        self.cover(clone_tree(source.as_fd(), false)?.as_fd(), target.as_fd())
    }

    /// A symbolic link; one that is there already stays, or goes.
    pub(crate) fn link(&mut self, target: &CStr, directory: &'a CStr, name: &CStr, replace: bool) -> Result {
        let parent = self.directory(directory)?;
        if replace {
            match unlinkat(parent, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(Failure::new("unlinkat", errno)),
            }
        }
        match symlinkat(target, parent, name) {
            Err(Errno::EXIST) if !replace => Ok(()),
            other => other.map_err(Failure::at("symlinkat")),
        }
    }
}
