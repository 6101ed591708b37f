//! `plan`: what `create` would do for a bundle, as text for people.

use super::Context;
use crate::error::{Error, Result};
use std::path::Path;

/// Returns the steps for the bundle, one per line.
pub fn print(_context: &Context, _bundle: &Path) -> Result<String> {
    Err(Error::new("plan: not built yet"))
}
