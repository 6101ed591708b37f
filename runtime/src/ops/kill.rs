//! `kill`: sends a signal to the container.

use super::Context;
use crate::error::{Context as _, Error, Kind, Result};
use crate::state::Container;
use rustix::fd::AsFd;

const SIGKILL: i32 = 9;

/// Sends signal number `signal` to the init process of `id`; `all` is obsolete and only swallows "not running".
///
/// # Errors
/// `container not running`, `container does not exist`, a number that is no signal.
pub fn kill(context: &Context, id: &str, signal: i32, all: bool) -> Result<()> {
    let container = Container::load(context, id)?;
    match send(&container, signal) {
        Err(error) if all && error.kind() == Kind::NotRunning => Ok(()),
        other => other,
    }
}

fn send(container: &Container, signal: i32) -> Result<()> {
    // A birth that is under way or was cut off has a process to be killed, too.
    if container.state.creating && container.state.pid == 0 {
        return Err(Error::not_running());
    }
    let init = container.init()?;
    let shares_pids = !container.state.saved.own_pids;
    if signal == SIGKILL && shares_pids {
        // Nobody but the cgroup knows all processes, and none must be left: they may have outlived their init.
        if let Some(cgroup) = container.cgroup()?
            && (init.is_some() || cgroup.events()?.is_some_and(|events| events.populated))
        {
            return cgroup.kill();
        }
    }
    let Some(init) = init else { return Err(Error::not_running()) };
    match pintle_sys::signal::send(init.as_fd(), signal) {
        Err(rustix::io::Errno::SRCH) => Err(Error::not_running()),
        other => other.context("unable to signal init"),
    }
}
