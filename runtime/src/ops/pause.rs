//! `pause`: freezes every process of a container.

use super::Context;
use crate::cgroup::Cgroup;
use crate::error::{Error, Result};
use crate::state::{Container, Status};

/// Freezes the container `id`.
pub fn pause(context: &Context, id: &str) -> Result<()> {
    let mut container = Container::load(context, id)?;
    let _lock = container.lock()?;
    match container.status()? {
        Status::Created | Status::Running => Cgroup::of(&container)?.freeze(),
        Status::Creating | Status::Paused | Status::Stopped => Err(Error::not_running()),
    }
}
