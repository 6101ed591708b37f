//! `delete`.

use super::Verb;
use super::flags::{Arguments, Flag, Kind};
use crate::error::Result;
use crate::ops::{self, Context};

pub(super) const VERB: Verb = Verb {
    description: "Removes a container that has stopped, or that was created and never started.",
    flags: &[Flag::new(
        "force",
        Kind::Switch,
        "kill the container first if it is still running (uses SIGKILL)",
    )
    .short('f')],
    ..Verb::new("delete", "delete what a container holds", run)
};

fn run(context: &Context, arguments: &Arguments) -> Result<u8> {
    ops::delete::delete(context, &arguments.id()?, arguments.switch("force"))?;
    Ok(0)
}
