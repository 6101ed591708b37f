//! `plan`, hidden: what would be done for a bundle, step by step.

use super::flags::Arguments;
use super::{Verb, output, values};
use crate::error::Result;
use crate::ops::{self, Context};
use std::path::Path;

pub(super) const VERB: Verb = Verb {
    usage: "<bundle>",
    hidden: true,
    ..Verb::new("plan", "print what create would do for a bundle", run)
};

fn run(context: &Context, arguments: &Arguments) -> Result<u8> {
    let words = arguments.words();
    let bundle = values::below_cwd(words.first().map_or(Path::new(""), Path::new))?;
    output::print(&ops::plan::print(context, &bundle)?)?;
    Ok(0)
}
