//! `events`: what a container uses, and when it runs out of memory.

use super::Context;
use crate::error::{Error, Result};
use std::time::Duration;

/// What `events` reports.
#[derive(Clone, Copy, Debug)]
pub enum Mode {
    /// `--stats`: once.
    Once,
    /// Every interval, and each OOM kill as it happens, until the container is gone.
    Follow(Duration),
}

/// Gives each event, one JSON object without newline, to `emit`.
pub fn events(
    _context: &Context,
    _id: &str,
    _mode: Mode,
    _emit: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<()> {
    Err(Error::new("events: not built yet"))
}
