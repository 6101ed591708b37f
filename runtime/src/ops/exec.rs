//! `exec`: another process in a running container.

use super::Context;
use crate::error::{Error, Result};
use std::path::PathBuf;

/// The process to start.
#[derive(Clone, Debug)]
pub enum Process {
    /// `--process FILE`: a whole process object.
    File(PathBuf),
    /// The container's own process with these changes.
    Like(Box<Changes>),
}

/// What `exec` without `--process` changes of the container's own process.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// `--cwd`
    pub cwd: Option<String>,
    /// `--env`, appended
    pub env: Vec<String>,
    /// `--tty`
    pub tty: bool,
    /// `--user UID[:GID]`, as typed
    pub user: Option<String>,
    /// `--additional-gids`
    pub additional_gids: Vec<u32>,
    /// `--process-label`
    pub process_label: Option<String>,
    /// `--apparmor`
    pub apparmor: Option<String>,
    /// `--no-new-privs`
    pub no_new_privs: bool,
    /// `--cap`, as typed
    pub caps: Vec<String>,
}

/// What `exec` is told on the command line. Paths are absolute.
#[derive(Clone, Debug)]
pub struct Options {
    /// The container's id.
    pub id: String,
    /// The process to start.
    pub process: Process,
    /// `--console-socket`
    pub console_socket: Option<PathBuf>,
    /// `--pidfd-socket`
    pub pidfd_socket: Option<PathBuf>,
    /// `--detach`
    pub detach: bool,
    /// `--pid-file`
    pub pid_file: Option<PathBuf>,
    /// `--preserve-fds`
    pub preserve_fds: u32,
    /// `$LISTEN_FDS`
    pub listen_fds: u32,
    /// `--cgroup [CONTROLLER:]PATH`, each as typed
    pub cgroups: Vec<String>,
    /// `--ignore-paused`
    pub ignore_paused: bool,
    /// Do not become a child subreaper (`--no-subreaper`).
    pub no_subreaper: bool,
}

/// Starts a process in a container; returns the exit status to leave with.
pub fn exec(_context: &Context, _options: &Options) -> Result<u8> {
    Err(Error::new("exec: not built yet"))
}
