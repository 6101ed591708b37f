//! `start`: lets a created container execute its program.

use super::Context;
use crate::error::{Error, Result};

/// Starts the created container `id`; `notify_socket` as for `create`.
pub fn start(_context: &Context, _id: &str, _notify_socket: Option<&std::path::Path>) -> Result<()> {
    Err(Error::new("start: not built yet"))
}
