//! `run`: create, start and, in the foreground, wait and delete.

use super::create::{self, Born, Purpose};
use super::{Context, delete};
use crate::error::{Context as _, Error, Kind, Result};
use crate::launch::notify;
use crate::launch::spawn::Child;
use crate::log;
use rustix::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::thread::JoinHandle;

/// What `run` is told on the command line.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// As for `create`.
    pub create: create::Options,
    /// Return as soon as the program runs (`--detach`).
    pub detach: bool,
    /// Do not delete the container when it stops (`--keep`).
    pub keep: bool,
    /// Do not become a child subreaper (`--no-subreaper`).
    pub no_subreaper: bool,
}

/// Runs a container; returns the exit status to leave with (128 + signal for a killed program).
///
/// # Errors
/// As for `create`, and a terminal that is lost on the way.
pub fn run(context: &Context, options: &Options) -> Result<u8> {
    let purpose = if options.detach { Purpose::Detached } else { Purpose::Foreground };
    let born = match create::birth(context, &options.create, purpose) {
        Err(error) if error.kind() == Kind::Program && !options.detach => return Ok(create::NOT_EXECUTED),
        other => other?,
    };
    let Born { container, child, foreground, readiness } = born;
    let relayed = match (readiness, options.create.notify_socket.clone()) {
        (Some(socket), Some(to)) => Some(relay(socket, to, &child)?),
        _ => None,
    };
    if let (None, Some(thread)) = (&foreground, relayed) {
        return thread.join().unwrap_or_else(|_| Err(Error::new("the relay of readiness ended"))).map(|()| 0);
    }
    let Some(foreground) = foreground else { return Ok(0) };
    let status = foreground.attend(&child);
    log::phase("run");
    if !options.keep
        && let Err(error) = delete::destroy(context, &container)
    {
        log::warn(format!("unable to destroy container: {error}"));
    }
    log::phase("cleanup");
    status
}

/// Tells the service manager of readiness beside the wait for the program, to which signals must go on being handed.
fn relay(socket: UnixDatagram, to: PathBuf, child: &Child) -> Result<JoinHandle<Result<()>>> {
    let (init, pid) = (child.pidfd.try_clone().context("dup pidfd")?, child.pid);
    Ok(std::thread::spawn(move || notify::relay(&socket, init.as_fd(), pid, &to)))
}
