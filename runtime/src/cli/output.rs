//! What a verb has to say goes to stdout, once; a reader who has left is an ordinary error.

use crate::error::{Context as _, Result};
use std::io::Write as _;

/// Writes `text` to stdout.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("write /dev/stdout")
}
