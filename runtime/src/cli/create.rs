//! `create`, and the flags that `run` shares with it.

use super::Verb;
use super::flags::{Arguments, Flag, Kind};
use super::values;
use crate::error::{Result, phrase};
use crate::ops::Context;
use crate::ops::create::{self, Options};
use std::path::{Path, PathBuf};

pub(super) const VERB: Verb = Verb {
    usage: USAGE,
    description: DESCRIPTION,
    flags: &[BUNDLE, CONSOLE_SOCKET, PIDFD_SOCKET, PID_FILE, NO_PIVOT, NO_NEW_KEYRING, PRESERVE_FDS],
    ..Verb::new("create", "create a container", run)
};

pub(super) const USAGE: &str = "\
<container-id>

Where \"<container-id>\" is a name of your choice that no other container on this
host has.";

const DESCRIPTION: &str = "\
Creates a container from a bundle: a directory with a specification file named
\"config.json\" and a root filesystem. Its program does not run before \"start\".

The program and its arguments are \"args\" in the specification file; see
\"{program} spec --help\".";

pub(super) const BUNDLE: Flag =
    Flag::new("bundle", Kind::Path, "the bundle's directory, by default the current directory").short('b');
pub(super) const CONSOLE_SOCKET: Flag = Flag::new(
    "console-socket",
    Kind::Path,
    "an AF_UNIX socket to which the master end of the console's pseudoterminal is sent",
);
pub(super) const PIDFD_SOCKET: Flag =
    Flag::new("pidfd-socket", Kind::Path, "an AF_UNIX socket to which a pidfd of the new process is sent");
pub(super) const PID_FILE: Flag = Flag::new("pid-file", Kind::Path, "a file to write the process id to");
pub(super) const NO_PIVOT: Flag = Flag::new(
    "no-pivot",
    Kind::Switch,
    "enter the rootfs without pivot_root(2), for hosts that run from a ramdisk; less safe",
);
pub(super) const NO_NEW_KEYRING: Flag =
    Flag::new("no-new-keyring", Kind::Switch, "let the container keep the session keyring of the caller");
pub(super) const PRESERVE_FDS: Flag = Flag::new(
    "preserve-fds",
    Kind::Number,
    "pass N more file descriptors to the container (stdio + $LISTEN_FDS + N in total)",
)
.default("0");

fn run(context: &Context, arguments: &Arguments) -> Result<u8> {
    let created = options(arguments).and_then(|options| create::create(context, &options));
    created.map_err(|error| error.context(phrase::CREATE_FAILED))?;
    Ok(0)
}

/// What `create` and `run` are told.
pub(super) fn options(arguments: &Arguments) -> Result<Options> {
    Ok(Options {
        id: arguments.id()?,
        bundle: values::below_cwd(&arguments.path("bundle").unwrap_or_default())?,
        console_socket: arguments.absolute("console-socket")?,
        pidfd_socket: arguments.absolute("pidfd-socket")?,
        pid_file: arguments.absolute("pid-file")?,
        no_pivot: arguments.switch("no-pivot"),
        no_new_keyring: arguments.switch("no-new-keyring"),
        preserve_fds: arguments.number("preserve-fds")?.unwrap_or(0),
        listen_fds: listen_fds(),
        notify_socket: notify_socket(),
    })
}

/// How many sockets the service manager handed over, sd_listen_fds(3). Like runc this does not ask for LISTEN_PID: who
/// calls a runtime is rarely the service itself.
pub(super) fn listen_fds() -> u32 {
    std::env::var("LISTEN_FDS").ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Where the service manager waits for readiness, sd_notify(3).
pub(super) fn notify_socket() -> Option<PathBuf> {
    let path = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty())?;
    Some(Path::new(&path).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::flags;

    fn read(line: &str) -> Options {
        let words = line.split(' ').map(Into::into);
        options(&flags::parse(VERB.flags, words, false).unwrap()).unwrap()
    }

    #[test]
    fn flags_become_options_and_paths_absolute() {
        let options = read(
            "c1 -b /b/../c --console-socket=/run/../s --pidfd-socket p --pid-file /x/pid --no-pivot \
             -no-new-keyring --preserve-fds 0x2",
        );
        assert_eq!(options.id, "c1");
        assert_eq!(options.bundle, Path::new("/b/../c"));
        assert_eq!(options.console_socket.unwrap(), Path::new("/s"));
        assert_eq!(options.pidfd_socket.unwrap(), std::env::current_dir().unwrap().join("p"));
        assert_eq!(options.pid_file.unwrap(), Path::new("/x/pid"));
        assert!(options.no_pivot && options.no_new_keyring);
        assert_eq!(options.preserve_fds, 2);
    }

    #[test]
    fn the_bundle_is_the_current_directory_unless_given() {
        let cwd = std::env::current_dir().unwrap();
        for line in ["c1", "--bundle= c1"] {
            let options = read(line);
            assert_eq!(options.bundle, cwd, "{line}");
            assert!(options.console_socket.is_none() && !options.no_pivot && options.preserve_fds == 0);
        }
    }
}
