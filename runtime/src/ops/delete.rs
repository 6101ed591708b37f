//! `delete`: removes a stopped container, or with `force` any container, and whatever half of one is left.

use super::{Context, create};
use crate::bail;
use crate::cgroup::systemd::{self, Manager};
use crate::cgroup::{self, Layout};
use crate::error::{Context as _, Result, phrase};
use crate::resctrl;
use crate::state::{self, Container, Status};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::process::{Signal, pidfd_send_signal};
use std::time::{Duration, Instant};

/// How long a killed process, or a cgroup, may take to go.
const LIMIT: Duration = Duration::from_secs(10);
/// How long an init without a parent may take to notice.
const SOON: Duration = Duration::from_secs(1);

/// Deletes the container `id`.
///
/// # Errors
/// `container does not exist` (not with `force`), `cannot delete container … that is not stopped`, and what can't be
/// removed.
pub fn delete(context: &Context, id: &str, force: bool) -> Result<()> {
    match locked(context, id, force) {
        Err(error) if state::is_missing(&error) => {
            state::remove_leftover(context, id)?;
            if force { Ok(()) } else { Err(error) }
        }
        Err(error) if force && Container::load(context, id).is_err() => {
            crate::log::warn(format!("{error}: removed with everything that was kept"));
            state::remove_all(context, id)
        }
        other => other,
    }
}

fn locked(context: &Context, id: &str, force: bool) -> Result<()> {
    let mut container = Container::load(context, id)?;
    if force {
        // Before the lock: whoever holds it may be waiting for this very process.
        kill(&container)?;
    }
    let _lock = container.lock()?;
    match container.status()? {
        Status::Stopped | Status::Created => {}
        _ if force => {}
        status => bail!("cannot delete container {id} that is not stopped: {}", status.as_str()),
    }
    destroy(context, &container)
}

/// Kills what lives in it: init, and all that the cgroup holds.
fn kill(container: &Container) -> Result<()> {
    let init = container.init()?;
    if let Some(init) = &init {
        match pidfd_send_signal(init, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(errno) => return Err(errno).context("unable to signal init"),
        }
    }
    if let Some(cgroup) = container.cgroup()? {
        if owns_cgroup(container) {
            cgroup.kill()?;
        } else {
            // A process of ours in it has lost its parent and leaves by itself; anybody else's is not ours to kill.
            cgroup.wait_empty(SOON)?;
        }
    }
    match init {
        Some(init) if !ends(init.as_fd())? => bail!("{}", phrase::INIT_STILL_RUNNING),
        _ => Ok(()),
    }
}

/// Whether what lives in the cgroup is the container's: it was empty when a process was born into it. A unit's is
/// recorded only when that is so.
fn owns_cgroup(container: &Container) -> bool {
    container.state.pid != 0
}

/// Waits for the end of a process that may be somebody else's child.
fn ends(pidfd: rustix::fd::BorrowedFd<'_>) -> Result<bool> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let limit = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)], Some(&limit)) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).context("poll"),
        }
    }
}

/// Removes a container with everything that is left of it, then runs its poststop hooks.
///
/// # Errors
/// What can't be removed; a poststop hook that fails (the container is gone by then).
pub fn destroy(context: &Context, container: &Container) -> Result<()> {
    if !removed_at_once(container) {
        kill(container)?;
        if container.state.unit.is_some() {
            await_systemd(container)?;
        }
        match container.cgroup()? {
            Some(cgroup) if owns_cgroup(container) => cgroup::delete(cgroup.path(), LIMIT)?,
            Some(cgroup) => {
                // Empty by now, or somebody else's: then it stays.
                let _in_use = std::fs::remove_dir(cgroup.path());
            }
            None => {}
        }
    }
    stop_unit(context, container)?;
    clear_away(container)?;
    let hooks = &container.state.saved.poststop;
    if hooks.is_empty() {
        return Ok(());
    }
    let here = std::env::current_dir().unwrap_or_else(|_| "/".into());
    create::run_hooks("poststop", hooks, &state::for_hooks(&container.state, "stopped", None), &here)
}

/// Deletes the container `id` for a caller that must not wait. False where something would have to be waited for: whoever is at the
/// container just now, processes, systemd, hooks; then nothing was done.
///
/// # Errors
/// As for [`delete`].
pub fn delete_at_once(context: &Context, id: &str) -> Result<bool> {
    let mut container = Container::load(context, id)?;
    let Some(_lock) = container.try_lock()? else { return Ok(false) };
    let state = &container.state;
    let plain = state.unit.is_none() && state.saved.rdt.is_none() && !state.saved.chroot;
    if !plain || !state.saved.poststop.is_empty() || container.status()? != Status::Stopped {
        return Ok(false);
    }
    destroy_at_once(&container)
}

/// Removes a container of which nothing lives, without hooks and systemd. False where something lives after all; then nothing was done.
///
/// # Errors
/// What can't be removed.
pub fn destroy_at_once(container: &Container) -> Result<bool> {
    // A failed birth may not have come to a cgroup, or to a process.
    let removed = container.cgroup()?.is_none() && !container.is_alive() || removed_at_once(container);
    if removed {
        clear_away(container)?;
    }
    Ok(removed)
}

/// Mostly init is gone and its cgroup empty; only otherwise is there something to kill.
fn removed_at_once(container: &Container) -> bool {
    let gone = |path| container.cgroup().is_ok_and(|own| own.is_some()) && std::fs::remove_dir(path).is_ok();
    !container.is_alive() && container.state.cgroup.as_deref().is_some_and(gone)
}

/// What is left when its processes and its cgroup are gone.
fn clear_away(container: &Container) -> Result<()> {
    for path in container.state.cgroup_parents.iter().rev() {
        // One that is shared by now stays.
        let _in_use = std::fs::remove_dir(path);
    }
    if let Some(group) = &container.state.saved.rdt {
        resctrl::remove(group)?;
    }
    if container.state.saved.chroot {
        unmount_rootfs(container)?;
    }
    container.remove()
}

/// Gives systemd a moment to clear away the scope that is empty now, which saves asking for it.
fn await_systemd(container: &Container) -> Result<()> {
    const MOMENT: Duration = Duration::from_millis(100);
    const PAUSE: Duration = Duration::from_micros(500);
    let end = Instant::now() + MOMENT;
    while container.cgroup()?.is_some() && Instant::now() < end {
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// systemd forgets a scope that is empty by itself, but later, and never one that failed. A unit in which something lives
/// by now is somebody else's: what was the container's is dead.
fn stop_unit(context: &Context, container: &Container) -> Result<()> {
    let Some(unit) = &container.state.unit else { return Ok(()) };
    if !systemd::is_running() {
        crate::log::warn(format!(
            "systemd does not run this machine any more: nothing to do about {}",
            unit.name
        ));
        return Ok(());
    }
    Manager::connect(&context.systemd(unit.user)?, &unit.name)?.stop_if_empty(&Layout::find()?)
}

/// A container without a mount namespace mounted in its caller's.
fn unmount_rootfs(container: &Container) -> Result<()> {
    use rustix::mount::{UnmountFlags, unmount};
    // The rootfs may be somebody's own mount, and init may have failed before it bound anything.
    if crate::host::mount_of(&container.state.rootfs)
        .is_ok_and(|mount| mount == container.state.saved.rootfs_mount)
    {
        return Ok(());
    }
    match unmount(&container.state.rootfs, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        // Not a mount any more, or never one.
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno).with_context(|| format!("umount {}", container.state.rootfs.display())),
    }
}
