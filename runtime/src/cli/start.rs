//! `start`.

use super::Verb;
use super::create;
use super::flags::Arguments;
use crate::error::Result;
use crate::ops::{self, Context};

pub(super) const VERB: Verb = Verb {
    description: "Lets a created container execute its program.",
    ..Verb::new("start", "execute the program of a created container", run)
};

fn run(context: &Context, arguments: &Arguments) -> Result<u8> {
    ops::start::start(context, &arguments.id()?, create::notify_socket().as_deref())?;
    Ok(0)
}
