//! The rootfs: how it is entered, what in it is hidden or read-only, how it becomes `/`.

use super::namespaces::{self, Decided};
use super::steps::{Steps, c_string};
use super::{Options, mounts};
use crate::bail;
use crate::error::{Error, Result};
use crate::host::Facts;
use crate::spec::{Linux, Spec};
use pintle_init::order::Step;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;

const MS_REC: u32 = 0x4000;
const MS_SHARED: u32 = 1 << 20;

/// `linux.rootfsPropagation`, mount_namespaces(7).
fn propagation(linux: &Linux) -> Result<Option<u32>> {
    match linux.rootfs_propagation.as_deref() {
        None | Some("") => Ok(None),
        Some(name) => match mounts::propagation(name) {
            Some(flags) => Ok(Some(flags)),
            None => bail!("rootfsPropagation={name} is not supported"),
        },
    }
}

/// Cuts the mounts off from the host and takes hold of the rootfs.
pub fn enter(steps: &mut Steps, linux: &Linux, spaces: &Decided, facts: &Facts) -> Result<()> {
    let asked = propagation(linux)?;
    let flags = asked.unwrap_or(super::mounts::MS_SLAVE | MS_REC);
    if spaces.is_new(namespaces::MOUNT) {
        steps.push(&Step::Propagation { flags });
    }
    steps.push(&Step::Root { path: &path(facts)?, parent_private: flags & MS_SHARED != 0 });
    Ok(())
}

fn path(facts: &Facts) -> Result<CString> {
    CString::new(facts.rootfs.as_os_str().as_bytes())
        .map_err(|_| Error::new("root.path: contains a null byte"))
}

/// Masked and read-only paths, and the rootfs itself.
pub fn hide(steps: &mut Steps, spec: &Spec, linux: &Linux, spaces: &Decided) -> Result<()> {
    let path =
        |path: &str, list: &str, n: usize| c_string(&mounts::clean(path), &format!("linux.{list}[{n}]"));
    for (n, readonly) in linux.readonly_paths.iter().flatten().enumerate() {
        steps.push(&Step::ReadOnly { path: &path(readonly, "readonlyPaths", n)? });
    }
    for (n, masked) in linux.masked_paths.iter().flatten().enumerate() {
        steps.push(&Step::Mask { path: &path(masked, "maskedPaths", n)? });
    }
    let readonly = spec.root.as_ref().and_then(|root| root.readonly).unwrap_or(false);
    if readonly && spaces.has(namespaces::MOUNT) {
        steps.push(&Step::RootReadOnly {});
    }
    Ok(())
}

/// The rootfs becomes `/`.
pub fn become_root(
    steps: &mut Steps,
    linux: &Linux,
    spaces: &Decided,
    facts: &Facts,
    options: &Options,
) -> Result<()> {
    match (spaces.has(namespaces::MOUNT), options.no_pivot) {
        (false, _) => steps.push(&Step::Chroot {}),
        (true, true) => {
            // The kernel lets a user namespace mount a procfs or sysfs where a whole one is there already, even out
            // of sight. The host's would stand for one inside, without masks.
            steps.push(&Step::DropKernelMounts { rootfs: &path(facts)? });
            steps.push(&Step::MoveRoot {});
        }
        (true, false) => steps.push(&Step::Pivot {}),
    }
    // After the pivot, so that it means the container's root and not the host's.
    if let Some(flags) = propagation(linux)? {
        steps.push(&Step::Propagation { flags });
    }
    Ok(())
}
