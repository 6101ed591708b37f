//! `resume`: thaws a paused container.

use super::Context;
use crate::cgroup::Cgroup;
use crate::error::{Error, Result, phrase};
use crate::state::{Container, Status};

/// Thaws the container `id`.
pub fn resume(context: &Context, id: &str) -> Result<()> {
    let mut container = Container::load(context, id)?;
    let _lock = container.lock()?;
    match container.status()? {
        Status::Paused => Cgroup::of(&container)?.thaw(),
        Status::Creating | Status::Created | Status::Running | Status::Stopped => {
            Err(Error::new(phrase::NOT_PAUSED))
        }
    }
}
