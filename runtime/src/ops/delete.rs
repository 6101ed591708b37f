//! `delete`: removes a stopped container, or with `force` any container, and whatever half of one is left.

use super::Context;
use crate::error::{Error, Result};

/// Deletes the container `id`.
pub fn delete(_context: &Context, _id: &str, _force: bool) -> Result<()> {
    Err(Error::new("delete: not built yet"))
}
