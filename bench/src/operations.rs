//! What is measured: each operation once, for one runtime.

use crate::command::Meter;
use crate::container::Container;
use crate::failure::Result;
use crate::runtimes::Runtime;
use clap::ValueEnum;

/// A group of rows of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Operation {
    /// `run true`
    Run,
    /// `create`, `start`, `delete`: each, and together
    Lifecycle,
    /// `exec true`
    Exec,
    /// `state`
    State,
    /// `kill`
    Kill,
    /// `delete --force` of a running container
    DeleteForce,
    /// `run true` among 2,000 mounts
    Mounts,
}

impl Operation {
    /// The names of its rows, in the order of its figures.
    pub fn rows(self) -> &'static [&'static str] {
        match self {
            Self::Run => &["run true"],
            Self::Lifecycle => &["create+start+delete", "create", "start", "delete"],
            Self::Exec => &["exec true"],
            Self::State => &["state"],
            Self::Kill => &["kill"],
            Self::DeleteForce => &["delete --force"],
            Self::Mounts => &["run true, 2,000 mounts"],
        }
    }

    /// Whether a runtime can take part.
    pub fn suits(self, runtime: &Runtime) -> bool {
        !runtime.is_floor() || matches!(self, Self::Run | Self::Mounts)
    }

    /// The container that all rounds of a runtime need, if they need one.
    ///
    /// # Errors
    /// Those of making it.
    pub fn prepare(self, runtime: &Runtime) -> Result<Option<Container<'_>>> {
        match self {
            Self::Exec | Self::State | Self::Kill => Container::running(runtime).map(Some),
            Self::Run | Self::Lifecycle | Self::DeleteForce | Self::Mounts => Ok(None),
        }
    }

    /// One round: a figure for each row.
    ///
    /// # Errors
    /// Those of its commands.
    pub fn once(self, runtime: &Runtime, idle: Option<&Container<'_>>, meter: Meter) -> Result<Vec<f64>> {
        let figure = match (self, idle) {
            (Self::Exec, Some(idle)) => idle.exec_true(meter)?,
            (Self::State, Some(idle)) => idle.state(meter)?,
            (Self::Kill, Some(idle)) => idle.kill(meter)?,
            (Self::DeleteForce, _) => Container::running(runtime)?.delete_by_force(meter)?,
            (Self::Lifecycle, _) => return lifecycle(runtime, meter),
            _ => runtime.run_true(meter)?,
        };
        Ok(vec![figure])
    }
}

/// The time in which the program ends by itself, between `start` and `delete`, is the program's, and is not counted.
fn lifecycle(runtime: &Runtime, meter: Meter) -> Result<Vec<f64>> {
    let (container, create) = Container::create(runtime, "true", meter)?;
    let start = container.start(meter)?;
    let delete = container.delete(meter)?;
    Ok(vec![meter.together(&[create, start, delete]), create, start, delete])
}
