//! `resume`.

use super::Verb;
use super::flags::Arguments;
use crate::error::Result;
use crate::ops::{self, Context};

pub(super) const VERB: Verb = Verb {
    description: "Lets the processes of a paused container go on.",
    ..Verb::new("resume", "resume all processes of a paused container", run)
};

fn run(context: &Context, arguments: &Arguments) -> Result<u8> {
    ops::resume::resume(context, &arguments.id()?)?;
    Ok(0)
}
