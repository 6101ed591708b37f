//! `run`: create, start and, in the foreground, wait and delete.

use super::{Context, create};
use crate::error::{Error, Result};

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
pub fn run(_context: &Context, _options: &Options) -> Result<u8> {
    Err(Error::new("run: not built yet"))
}
