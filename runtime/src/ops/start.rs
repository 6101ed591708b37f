//! `start`: lets a created container execute its program.

use super::{Context, create, delete};
use crate::bail;
use crate::error::{Context as _, Error, Result, phrase};
use crate::launch::{notify, spawn};
use crate::state::{self, Container, Lock, Status};
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
    let listener = notify_socket.and(container.notify_socket()?);
    let mut release = Release::begin(container, lock)?;
    while !release.turn()? {
        release.wait()?;
    }
    // Hooks may take their time; the container runs, and others may see to it.
    let Release { container, init, .. } = release;
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

/// Begins to start `id` for a caller that must not wait, who goes on by [`Release::turn`]. None where something would have to be waited
/// for: whoever is at the container just now, or poststart hooks.
///
/// # Errors
/// As for [`start`].
pub fn begin(context: &Context, id: &str) -> Result<Option<Release>> {
    let mut container = Container::load(context, id)?;
    let Some(lock) = container.try_lock()? else { return Ok(None) };
    if !container.state.saved.poststart.is_empty() {
        return Ok(None);
    }
    Release::begin(container, lock).map(Some)
}

/// A created container that was told to go on. Until its program runs it is locked.
#[derive(Debug)]
pub struct Release {
    container: Container,
    init: OwnedFd,
    fifo: OwnedFd,
    /// What init has said: one byte that it woke up; then nothing but the end when the program was executed, or the reason why not.
    said: Vec<u8>,
    lock: Option<Lock>,
}

impl Release {
    fn begin(container: Container, lock: Lock) -> Result<Self> {
        let init = match (container.status()?, container.init()?) {
            (Status::Created, Some(init)) => init,
            (Status::Stopped, _) | (Status::Created, None) => bail!("{}", phrase::STOPPED_START),
            (Status::Running, _) => bail!("{}", phrase::RUNNING_START),
            (status, _) => bail!("cannot start a container in the {} state", status.as_str()),
        };
        let fifo = container.open_fifo()?;
        // Before init can go on: from here on the container counts as running, whatever becomes of this process.
        container.remove_fifo()?;
        Ok(Self { container, init, fifo, said: Vec::new(), lock: Some(lock) })
    }

    /// What to wait for until the next [`Release::turn`]: input of the fifo, and init's end.
    pub fn waits_for(&self) -> [BorrowedFd<'_>; 2] {
        [self.fifo.as_fd(), self.init.as_fd()]
    }

    fn wait(&self) -> Result<()> {
        let mut events = self.waits_for().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        // Once it has said why not, there is only its end to wait for.
        let from = usize::from(self.said.len() > 1);
        match poll(&mut events[from..], None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno).context("poll exec fifo"),
        }
    }

    /// Hears what init has to say. True: its program runs.
    ///
    /// # Errors
    /// Why it does not.
    pub fn turn(&mut self) -> Result<bool> {
        // Before the fifo is read: what it says before its end is heard.
        let ended = spawn::has_ended(self.init.as_fd())?;
        let mut words = [0; 1024];
        loop {
            match rustix::io::read(&self.fifo, &mut words) {
                // End of file also stands for "not opened yet": only after a first byte, or with init gone, is it the end.
                Ok(0) | Err(Errno::AGAIN) if ended => break,
                // Its words are no good news: then it is on its way out, and counts as alive until it is gone.
                Ok(0) if self.said.len() == 1 => break,
                Ok(0) | Err(Errno::AGAIN) => return Ok(false),
                Ok(length) => self.said.extend_from_slice(&words[..length]),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno).context("read exec fifo"),
            }
        }
        self.lock = None;
        match self.said.get(1..) {
            None => bail!("{}", phrase::STOPPED_START),
            Some([]) => Ok(true),
            Some(words) => Err(Error::new(String::from_utf8_lossy(words).trim_end().to_owned())),
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
