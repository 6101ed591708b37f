//! `state`.

use super::flags::Arguments;
use super::{Verb, output};
use crate::error::Result;
use crate::ops::{self, Context};

pub(super) const VERB: Verb = Verb {
    description: "Prints the state of a container as JSON.",
    ..Verb::new("state", "print the state of a container", run)
};

fn run(context: &Context, arguments: &Arguments) -> Result<u8> {
    output::print(&ops::state::state(context, &arguments.id()?)?)?;
    Ok(0)
}
