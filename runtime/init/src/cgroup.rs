//! The container's view of its cgroups.

use crate::Init;
use crate::failure::{Failure, Result};
use crate::mounts::{change_attributes, clone_tree};
use crate::order::{Protected, Step};
use crate::path::{self, Kind};
use core::ffi::CStr;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
};

impl<'a> Init<'a> {
    /// A cgroup2 mount; where a user namespace without a cgroup namespace may not make one, a bind of the container's
    /// own directory; where even that can't be seen, an empty directory over whatever is there (CVE-2023-25809).
    pub(crate) fn cgroup_mount(&mut self, step: &Step<'a>) -> Result {
        let Step::CgroupMount { attributes, bind: only_bind, fallback, mask_missing, mask_options, place } =
            *step
        else {
            return Err(Failure::new("cgroup mount", Errno::INVAL));
        };
        let target = path::open_or_make(self.root_fd()?, place.target, Kind::Directory)?;
        let mount = match only_bind {
            true => bind(fallback, attributes),
            false => match new_mount(attributes) {
                Err(Failure { errno: Errno::PERM | Errno::BUSY, .. }) if !fallback.is_empty() => {
                    bind(fallback, attributes)
                }
                other => other,
            },
        };
        match mount {
            Err(Failure { errno: Errno::NOENT, .. }) if mask_missing => {
                self.mask(&Protected { mount_point: c"", magic: 0, path: place.target }, mask_options)
            }
            other => self.put(other?.as_fd(), target.as_fd(), &place),
        }
    }
}

fn new_mount(attributes: u64) -> Result<OwnedFd> {
    let context = fsopen(c"cgroup2", FsOpenFlags::FSOPEN_CLOEXEC).map_err(Failure::at("fsopen"))?;
    fsconfig_set_string(context.as_fd(), c"source", c"cgroup").map_err(Failure::at("fsconfig"))?;
    fsconfig_create(context.as_fd()).map_err(Failure::at("fsconfig"))?;
    let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(Failure::at("fsmount"))
}

fn bind(directory: &CStr, attributes: u64) -> Result<OwnedFd> {
    let source =
        openat(CWD, directory, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(Failure::at("open"))?;
    let tree = clone_tree(source.as_fd(), false)?;
    change_attributes(tree.as_fd(), attributes, 0, 0)?;
    Ok(tree)
}
