//! User namespaces that only carry maps, for id-mapped mounts: each is held by a process that waits to be mapped and
//! then ended. mount_setattr(2), MOUNT_ATTR_IDMAP

use super::{ids, spawn};
use crate::bail;
use crate::error::{Context, Result};
use crate::host::Opened;
use crate::plan::Birth;
use crate::plan::mounts::MountMap;
use crate::plan::namespaces::{self, IdMaps};
use crate::plan::steps::Steps;
use pintle_init::order::Step;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, openat};

/// One user namespace for each of `maps`; `opened` holds those that are joined.
///
/// # Errors
/// Maps that this process may not write.
pub fn open(maps: &[MountMap], opened: &Opened) -> Result<Vec<OwnedFd>> {
    maps.iter().map(|map| one(map, opened)).collect()
}

fn one(map: &MountMap, opened: &Opened) -> Result<OwnedFd> {
    match map {
        MountMap::Given(maps) => made(maps),
        MountMap::Joined(place) => match opened.namespaces.get(*place) {
            Some(Some(namespace)) => namespace.try_clone().context("dup"),
            _ => bail!("linux.namespaces[{place}]: was not opened"),
        },
    }
}

/// A new user namespace with these maps, and nobody in it.
///
/// # Errors
/// Maps that this process may not write.
pub fn made(maps: &IdMaps) -> Result<OwnedFd> {
    let mut steps = Steps::new();
    steps.push(&Step::AwaitMaps {});
    let birth = Birth { steps, namespaces: namespaces::USER, first_private: 3, ..Birth::default() };
    let holder =
        spawn::init(&birth, &spawn::Descriptors::default(), None).context("user namespace of a mount")?;
    let path = format!("/proc/{}/ns/user", holder.pid);
    let opened = ids::write(holder.pid, maps).and_then(|()| {
        openat(CWD, path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context(path)
    });
    spawn::end(&holder);
    opened
}
