//! `pause`: freezes every process of a container.

use super::Context;
use crate::error::{Error, Result};

/// Freezes the container `id`.
pub fn pause(_context: &Context, _id: &str) -> Result<()> {
    Err(Error::new("pause: not built yet"))
}
