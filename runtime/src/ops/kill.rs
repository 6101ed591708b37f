//! `kill`: sends a signal to the container.

use super::Context;
use crate::error::{Error, Result};

/// Sends signal number `signal` to the init process of `id`; `all` is obsolete and only swallows "not running".
pub fn kill(_context: &Context, _id: &str, _signal: i32, _all: bool) -> Result<()> {
    Err(Error::new("kill: not built yet"))
}
