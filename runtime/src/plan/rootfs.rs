//! The rootfs: how it is entered, what in it is hidden or read-only, how it becomes `/`.

use super::lsm::MountLabel;
use super::namespaces::{self, Decided};
use super::steps::{Steps, Texts};
use super::{Given, Options, hooks, mounts};
use crate::bail;
use crate::error::{Error, Result};
use crate::host::Facts;
use crate::spec::{Linux, Spec};
use pintle_init::order::Step;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;

const MS_REC: u32 = 0x4000;
const CAP_MKNOD: u64 = 1 << 27;
const MS_SHARED: u32 = 1 << 20;
const WHOLE_SLAVE: u32 = mounts::MS_SLAVE | MS_REC;
const WHOLE_PRIVATE: u32 = 1 << 18 | MS_REC;

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
pub fn enter(
    steps: &mut Steps,
    linux: &Linux,
    spaces: &Decided,
    facts: &Facts,
    mounts: &mounts::Decided,
) -> Result<()> {
    let flags = propagation(linux)?.unwrap_or(WHOLE_SLAVE);
    if spaces.mounts_of_rootfs {
        steps.push(&Step::OwnRoot { path: &path(facts)? });
        mounts.take_along(steps, flags);
        steps.push(&Step::EnterOwnRoot { propagation: flags });
        return Ok(());
    }
    if spaces.is_new(namespaces::MOUNT) {
        steps.push(&Step::Propagation { flags });
    }
    // The mount that holds the rootfs is shared still; pivot_root(2) and MS_MOVE want it otherwise.
    let parent_private = flags & MS_SHARED != 0 || flags & MS_REC == 0;
    steps.push(&Step::Root { path: &path(facts)?, parent_private });
    Ok(())
}

/// Whether the container's mounts can be made where there is nothing of the host's (`Step::OwnRoot`): nobody but init
/// looks for anything there, and all that is bound is known.
pub(super) fn stands_alone(
    given: Given<'_>,
    spaces: &Decided,
    hooks: &hooks::Decided,
    mounts: &mounts::Decided,
) -> bool {
    let Given { spec, linux, host, facts, options } = given;
    let named = spec.root.as_ref().and_then(|root| root.path.as_deref()).unwrap_or_default();
    let named = options.bundle.join(named);
    let whole = matches!(propagation(linux), Ok(None | Some(WHOLE_SLAVE | WHOLE_PRIVATE)));
    // Who may make devices needs none of the host's.
    let root = host.euid == 0 && host.capabilities & CAP_MKNOD != 0;
    let owned = root && !host.in_user_namespace && !spaces.has(namespaces::USER);
    let simple = owned && whole && !options.no_pivot && !hooks.any_of_runtime();
    host.tree_namespace
        && simple
        && spaces.is_new(namespaces::MOUNT)
        && mounts.can_be_taken_along(facts, &named)
}

fn path(facts: &Facts) -> Result<CString> {
    CString::new(facts.rootfs.as_os_str().as_bytes())
        .map_err(|_| Error::new("root.path: contains a null byte"))
}

/// What is mounted over a masked directory has the container's label.
pub fn mask_options(label: Option<&MountLabel>) -> Result<Texts> {
    let mut options = Texts::default();
    if let Some(MountLabel { option, label }) = label {
        options.push(option, || "linux.mountLabel".to_owned())?;
        options.push(&format!("={label}"), || "linux.mountLabel".to_owned())?;
    }
    Ok(options)
}

/// Masked and read-only paths, and the rootfs itself.
pub fn hide(
    steps: &mut Steps,
    spec: &Spec,
    linux: &Linux,
    spaces: &Decided,
    mounts: &mounts::Decided,
    mask_options: &Texts,
) -> Result<()> {
    for (n, path) in linux.readonly_paths.iter().flatten().enumerate() {
        let path = mounts.protected(path, &format!("linux.readonlyPaths[{n}]"))?;
        steps.push(&Step::ReadOnly { path: path.step() });
    }
    for (n, path) in linux.masked_paths.iter().flatten().enumerate() {
        let path = mounts.protected(path, &format!("linux.maskedPaths[{n}]"))?;
        steps.push(&Step::Mask { path: path.step(), options: mask_options.strings() });
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
        (true, _) if spaces.mounts_of_rootfs => {}
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
