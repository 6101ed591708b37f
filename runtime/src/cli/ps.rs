//! `ps`.

use super::flags::Arguments;
use super::list::{self, FORMAT, Format};
use super::{Count, Verb, output};
use crate::error::Result;
use crate::ops::{self, Context};

pub(super) const VERB: Verb = Verb {
    usage: "<container-id> [ps options]",
    description: "\
Lists the processes of a container as the host's ps(1) shows them, by default
with \"-ef\".",
    flags: &[FORMAT],
    count: Count::AtLeast(1),
    stop_at_first: true,
    ..Verb::new("ps", "list the processes inside a container", run)
};

fn run(context: &Context, arguments: &Arguments) -> Result<u8> {
    let words = arguments.texts()?;
    let (id, options) = words.split_first().map_or(("", &[][..]), |(id, options)| (id.as_str(), options));
    let text = match list::format(arguments)? {
        Format::Table => ops::ps::table(context, id, options)?,
        Format::Json => list::json(&ops::ps::pids(context, id)?)?,
    };
    output::print(&text)?;
    Ok(0)
}
