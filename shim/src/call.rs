//! A call of the runtime under way, in a child or in this process, and what is to be done when it ends.

use crate::console::Console;
use crate::process::Origin;
use crate::wire::{Code, Failure};
use std::path::PathBuf;

/// What the runtime was called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// A root file system, before the container: by a program of this package.
    Mount,
    /// A container.
    Create,
    /// Its program.
    Start,
    /// A process beside it.
    Exec,
    /// Its end.
    Delete,
    /// Frozen.
    Pause,
    /// Thawed.
    Resume,
    /// Other limits.
    Update,
    /// A signal, where the runtime is another program.
    Kill,
}

impl Verb {
    /// What failed, as containerd's own shim says it.
    pub fn failed(self) -> &'static str {
        match self {
            Self::Mount => "failed to mount rootfs component",
            Self::Create => "OCI runtime create failed",
            Self::Start => "OCI runtime start failed",
            Self::Exec => "OCI runtime exec failed",
            Self::Delete => "failed to delete task",
            Self::Pause => "OCI runtime pause failed",
            Self::Resume => "OCI runtime resume failed",
            Self::Update => "OCI runtime update failed",
            Self::Kill => "unknown error after kill",
        }
    }

    /// Whether the container has to be left alone by others meanwhile.
    pub fn is_exclusive(self) -> bool {
        !matches!(self, Self::Mount | Self::Exec | Self::Kill)
    }
}

/// One call.
#[derive(Debug)]
pub struct Call {
    /// Which call it is; given when it is made.
    pub number: u32,
    /// What for.
    pub verb: Verb,
    /// Who waits for it.
    pub origin: Origin,
    /// The process that it is about.
    pub process: u32,
    /// Where the runtime's records ended before.
    pub mark: u64,
    /// Where the terminal will come from.
    pub console: Option<Console>,
    /// A file that only the call needs.
    pub file: Option<PathBuf>,
    /// It was killed: it took too long, or whoever asked for it is gone.
    pub given_up: bool,
}

impl Call {
    /// A call that needs nothing but its process, whose records ended at `mark` before it.
    pub fn new(verb: Verb, origin: Origin, process: u32, mark: u64) -> Self {
        Self { number: 0, verb, origin, process, mark, console: None, file: None, given_up: false }
    }

    /// Whether a container is being made that was asked for over this connection.
    pub fn creates_for(&self, peer: u32) -> bool {
        self.origin.peer == peer && matches!(self.verb, Verb::Mount | Verb::Create)
    }

    /// Why it failed that had all the time that there is.
    pub fn too_late(&self) -> Failure {
        let message = format!("{}: the runtime did not answer in time: killed", self.verb.failed());
        Failure { code: Code::DeadlineExceeded, message }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(path) = &self.file {
            let _gone = std::fs::remove_file(path);
        }
    }
}
