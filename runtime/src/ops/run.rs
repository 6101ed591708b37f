//! `run`: create, start and, in the foreground, wait and delete.

use super::create::{self, Born, Purpose};
use super::{Context, delete};
use crate::error::{Kind, Result};
use crate::launch::notify;
use crate::log;

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
    let listener = options.create.notify_socket.as_ref();
    let Born { container, child, foreground } = match create::birth(context, &options.create, purpose) {
        Err(error) if error.kind() == Kind::Program && !options.detach => return Ok(create::NOT_EXECUTED),
        other => other?,
    };
    if let (Some(to), Some(socket)) = (listener, container.notify_socket()?) {
        notify::relay(&socket, rustix::fd::AsFd::as_fd(&child.pidfd), child.pid, to)?;
    }
    let Some(foreground) = foreground else { return Ok(0) };
    let status = foreground.attend(&child);
    log::phase("run");
    if !options.keep
        && let Err(error) = delete::destroy(&container)
    {
        log::warn(format!("unable to destroy container: {error}"));
    }
    log::phase("cleanup");
    status
}
