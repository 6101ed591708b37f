//! `events`.

use super::flags::{Arguments, Flag, Kind};
use super::{Verb, output};
use crate::error::{Error, Result};
use crate::ops::Context;
use crate::ops::events::{self, Mode};
use std::time::Duration;

pub(super) const VERB: Verb = Verb {
    description: "\
Prints what a container uses, every 5 seconds unless told otherwise, and each time
it runs out of memory, until it is gone.",
    flags: &[
        Flag::new("interval", Kind::Interval, "how often to print").default("5s"),
        Flag::new("stats", Kind::Switch, "print what the container uses once and exit"),
    ],
    ..Verb::new("events", "print what a container uses (cpu, memory, IO, pids), and OOM events", run)
};

const FIVE_SECONDS: i64 = 5_000_000_000;

fn run(context: &Context, arguments: &Arguments) -> Result<u8> {
    let mut print = |line: &str| output::print(&format!("{line}\n"));
    events::events(context, &arguments.id()?, mode(arguments)?, &mut print)?;
    Ok(0)
}

fn mode(arguments: &Arguments) -> Result<Mode> {
    let interval = match u64::try_from(arguments.interval("interval").unwrap_or(FIVE_SECONDS)) {
        Ok(nanos) if nanos > 0 => Duration::from_nanos(nanos),
        _ => return Err(Error::new("duration interval must be greater than 0")),
    };
    Ok(if arguments.switch("stats") { Mode::Once } else { Mode::Follow(interval) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::flags;

    #[test]
    fn events_come_once_or_at_an_interval() {
        for (line, expect) in [
            ("c1", "Ok(Follow(5s))"),
            ("--interval=100ms c1", "Ok(Follow(100ms))"),
            ("c1 --interval 1m30s", "Ok(Follow(90s))"),
            ("--stats c1", "Ok(Once)"),
            ("--interval 0s c1", "duration interval must be greater than 0"),
            ("--interval -1s --stats c1", "duration interval must be greater than 0"),
        ] {
            let arguments = flags::parse(VERB.flags, line.split(' ').map(Into::into), false).unwrap();
            let mode = format!("{:?}", mode(&arguments));
            assert!(mode.contains(expect), "{line}: {mode}");
        }
    }
}
