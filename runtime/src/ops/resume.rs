//! `resume`: thaws a paused container.

use super::Context;
use crate::error::{Error, Result};

/// Thaws the container `id`.
pub fn resume(_context: &Context, _id: &str) -> Result<()> {
    Err(Error::new("resume: not built yet"))
}
