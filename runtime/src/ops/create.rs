//! `create`: everything of a container but its program.

use super::Context;
use crate::error::{Error, Result};
use std::path::PathBuf;

/// What `create` and `run` are told on the command line. Paths are absolute.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The container's id.
    pub id: String,
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// Where the terminal's master side is sent (`--console-socket`).
    pub console_socket: Option<PathBuf>,
    /// Where init's pidfd is sent (`--pidfd-socket`).
    pub pidfd_socket: Option<PathBuf>,
    /// Where init's process id is written (`--pid-file`).
    pub pid_file: Option<PathBuf>,
    /// Enter the rootfs by a move and chroot (`--no-pivot`).
    pub no_pivot: bool,
    /// Keep the caller's session keyring (`--no-new-keyring`).
    pub no_new_keyring: bool,
    /// How many descriptors from 3 (after `listen_fds`) the program inherits (`--preserve-fds`).
    pub preserve_fds: u32,
    /// `$LISTEN_FDS`: sockets from 3 handed over by socket activation, sd_listen_fds(3).
    pub listen_fds: u32,
    /// `$NOTIFY_SOCKET`: where the service manager waits for readiness, sd_notify(3).
    pub notify_socket: Option<PathBuf>,
}

/// Creates the container `options.id`.
pub fn create(_context: &Context, _options: &Options) -> Result<()> {
    Err(Error::new("create: not built yet"))
}
