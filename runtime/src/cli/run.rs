//! `run`.

use super::Verb;
use super::create::{
    self, BUNDLE, CONSOLE_SOCKET, NO_NEW_KEYRING, NO_PIVOT, PID_FILE, PIDFD_SOCKET, PRESERVE_FDS,
};
use super::flags::{Arguments, Flag, Kind};
use crate::error::Result;
use crate::ops::Context;
use crate::ops::run::{self, Options};

pub(super) const VERB: Verb = Verb {
    usage: create::USAGE,
    description: DESCRIPTION,
    flags: &[
        BUNDLE,
        CONSOLE_SOCKET,
        PIDFD_SOCKET,
        DETACH,
        Flag::new("keep", Kind::Switch, "do not delete the container when it stops"),
        PID_FILE,
        Flag::new("no-subreaper", Kind::Switch, "do not adopt and reap the container's orphans"),
        NO_PIVOT,
        NO_NEW_KEYRING,
        PRESERVE_FDS,
    ],
    ..Verb::new("run", "create and run a container", run_verb)
};

pub(super) const DETACH: Flag =
    Flag::new("detach", Kind::Switch, "return as soon as the process runs").short('d');

const DESCRIPTION: &str = "\
Creates a container from a bundle, starts it, waits for it, and deletes it.
A bundle is a directory with a specification file named \"config.json\" and a
root filesystem.

The program and its arguments are \"args\" in the specification file; see
\"{program} spec --help\".";

fn run_verb(context: &Context, arguments: &Arguments) -> Result<u8> {
    let status = options(arguments).and_then(|options| run::run(context, &options));
    status.map_err(|error| error.context("runc run failed"))
}

fn options(arguments: &Arguments) -> Result<Options> {
    Ok(Options {
        create: create::options(arguments)?,
        detach: arguments.switch("detach"),
        keep: arguments.switch("keep"),
        no_subreaper: arguments.switch("no-subreaper"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::flags;

    #[test]
    fn run_takes_the_flags_of_create_and_its_own() {
        let read = |line: &str| {
            let arguments = flags::parse(VERB.flags, line.split(' ').map(Into::into), false);
            options(&arguments.unwrap()).unwrap()
        };
        let all = read("-d --keep -no-subreaper --preserve-fds=1 c1 --bundle /b");
        assert!(all.detach && all.keep && all.no_subreaper);
        assert_eq!((all.create.id.as_str(), all.create.preserve_fds), ("c1", 1));
        let none = read("c1");
        assert!(!none.detach && !none.keep && !none.no_subreaper);
    }
}
