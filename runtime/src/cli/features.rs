//! `features`.

use super::flags::Arguments;
use super::{Count, Verb, output};
use crate::error::Result;
use crate::ops::{self, Context};

pub(super) const VERB: Verb = Verb {
    usage: "",
    description: "\
Prints what this runtime supports as JSON, whatever the host offers.
See https://github.com/opencontainers/runtime-spec/blob/main/features.md",
    count: Count::Exactly(0),
    ..Verb::new("features", "show the enabled features", run)
};

fn run(_context: &Context, _arguments: &Arguments) -> Result<u8> {
    output::print(&ops::features::features()?)?;
    Ok(0)
}
