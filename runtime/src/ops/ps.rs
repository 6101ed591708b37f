//! `ps`: the processes of a container.

use super::Context;
use crate::error::{Error, Result};

/// The host process ids in the cgroup of `id` and all cgroups below it.
pub fn pids(_context: &Context, _id: &str) -> Result<Vec<i32>> {
    Err(Error::new("ps: not built yet"))
}

/// The rows of the host's `ps ARGS` (default `-ef`) whose PID belongs to the container, header first.
pub fn table(_context: &Context, _id: &str, _args: &[String]) -> Result<String> {
    Err(Error::new("ps: not built yet"))
}
