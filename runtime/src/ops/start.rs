//! `start`: lets a created container execute its program.

use super::{Context, create, delete};
use crate::bail;
use crate::error::{Context as _, Error, Result, phrase};
use crate::launch::notify;
use crate::state::{self, Container, Status};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::path::Path;

/// Starts the created container `id`; `notify_socket` as for `create`.
///
/// # Errors
/// A container in another state; a startContainer or poststart hook that fails; a program that can't be executed.
pub fn start(context: &Context, id: &str, notify_socket: Option<&Path>) -> Result<()> {
    let mut container = Container::load(context, id)?;
    let lock = container.lock()?;
    let init = match (container.status()?, container.init()?) {
        (Status::Created, Some(init)) => init,
        (Status::Stopped, _) | (Status::Created, None) => bail!("{}", phrase::STOPPED_START),
        (Status::Running, _) => bail!("{}", phrase::RUNNING_START),
        (status, _) => bail!("cannot start a container in the {} state", status.as_str()),
    };
    let listener = notify_socket.and(container.notify_socket()?);
    release(&container, init.as_fd())?;
    // Hooks may take their time; the container runs, and others may see to it.
    drop(lock);
    if let Err(error) = poststart(&container) {
        // runtime.md, "Lifecycle": the container is stopped and destroyed.
        return Err(match delete::destroy(context, &container) {
            Ok(()) => error,
            Err(also) => Error::new(format!("{error}; and then: {also}")),
        });
    }
    match (notify_socket, listener) {
        (Some(to), Some(socket)) => notify::relay(&socket, init.as_fd(), container.state.pid, to),
        _ => Ok(()),
    }
}

/// Opens the fifo, and reads what init has to say: one byte that it woke up; then nothing but the end when the program
/// was executed, or the reason why not.
fn release(container: &Container, init: BorrowedFd<'_>) -> Result<()> {
    let fifo = container.open_fifo()?;
    // Before init can go on: from here on the container counts as running, whatever becomes of this process.
    container.remove_fifo()?;
    let mut said = Vec::new();
    let awake = read(&fifo, init, &mut said)?;
    if !awake {
        bail!("{}", phrase::STOPPED_START);
    }
    while read(&fifo, init, &mut said)? {}
    match said.get(1..) {
        None | Some([]) => Ok(()),
        Some(words) => Err(Error::new(String::from_utf8_lossy(words).trim_end().to_owned())),
    }
}

/// Reads more; false when there will not be any.
fn read(fifo: &OwnedFd, init: BorrowedFd<'_>, said: &mut Vec<u8>) -> Result<bool> {
    let mut words = [0; 1024];
    loop {
        let mut events = [PollFd::new(fifo, PollFlags::IN), PollFd::from_borrowed_fd(init, PollFlags::IN)];
        match poll(&mut events, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno).context("poll exec fifo"),
        }
        let ended = !events[1].revents().is_empty();
        match rustix::io::read(fifo, &mut words) {
            // End of file also stands for "not opened yet": only after a first byte, or with init gone, is it the end.
            Ok(0) if ended || !said.is_empty() => return Ok(false),
            Ok(0) => {}
            Ok(length) => {
                said.extend_from_slice(&words[..length]);
                return Ok(true);
            }
            Err(Errno::AGAIN) if ended => return Ok(false),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(errno).context("read exec fifo"),
        }
    }
}

/// poststart hooks; one that fails takes the container with it, by the caller (runtime.md, "Lifecycle", since 1.3.0).
///
/// # Errors
/// The hook's.
pub fn poststart(container: &Container) -> Result<()> {
    let hooks = &container.state.saved.poststart;
    if hooks.is_empty() {
        return Ok(());
    }
    let state = state::for_hooks(&container.state, "running", Some(container.state.pid));
    create::run_hooks("poststart", hooks, &state, &container.state.bundle)
}
