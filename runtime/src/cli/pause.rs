//! `pause`.

use super::Verb;
use super::flags::Arguments;
use crate::error::Result;
use crate::ops::{self, Context};

pub(super) const VERB: Verb = Verb {
    description: "Stops every process of a container where it stands, until \"resume\".",
    ..Verb::new("pause", "suspend all processes of a container", run)
};

fn run(context: &Context, arguments: &Arguments) -> Result<u8> {
    ops::pause::pause(context, &arguments.id()?)?;
    Ok(0)
}
