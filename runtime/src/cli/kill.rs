//! `kill`.

use super::flags::{Arguments, Flag, Kind};
use super::{Count, Verb, signal};
use crate::error::Result;
use crate::ops::{self, Context};

pub(super) const VERB: Verb = Verb {
    usage: USAGE,
    flags: &[Flag::new("all", Kind::Switch, "(obsolete)").short('a').hidden()],
    count: Count::Between(1, 2),
    stop_at_first: true,
    ..Verb::new("kill", "send a signal (default: SIGTERM) to the container's init process", run)
};

const USAGE: &str = "\
<container-id> [signal]

Where \"<container-id>\" is the name of the container and \"[signal]\" is the name or
the number of the signal.

EXAMPLE:
To send \"KILL\" to the init process of the container \"ubuntu01\":

       # {program} kill ubuntu01 KILL";

fn run(context: &Context, arguments: &Arguments) -> Result<u8> {
    let mut words = arguments.texts()?.into_iter();
    let id = words.next().unwrap_or_default();
    let signal = words.next().filter(|name| !name.is_empty());
    let signal = signal::parse(signal.as_deref().unwrap_or("TERM"))?;
    ops::kill::kill(context, &id, signal, arguments.switch("all"))?;
    Ok(0)
}
