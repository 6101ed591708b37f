//! The command line, in Go's notation, and the environment: what containerd says when it calls a shim.

use crate::logger;
use crate::manager;
use crate::rootfs;
use crate::server;
use crate::socket;
use crate::unfinished;
use pintle::error::{Error, Result};
use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The name under which this program is the runtime, for its own children.
pub const RUNTIME: &str = "pintle";

/// What the command line says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// containerd's namespace.
    pub namespace: String,
    /// The container.
    pub id: String,
    /// Where containerd listens for gRPC.
    pub address: String,
    /// The container's bundle, for `delete`.
    pub bundle: PathBuf,
    /// More words in the log.
    pub debug: bool,
    /// Where containerd listens for events, by ttrpc: `$TTRPC_ADDRESS`.
    pub events: String,
    /// Of a server: what it listens on, as `start` said it.
    pub listens: String,
    /// Of a server: the note that `start` leaves to it, which is open as its standard output.
    pub note: Option<PathBuf>,
    /// No processor core is shared with others while something of the pod runs on it: `$SCHED_CORE`.
    pub own_cores: bool,
    /// Of a server: how long a call of the runtime may take, `$PINTLE_SHIM_TIMEOUT` in seconds.
    pub patience: Option<Duration>,
    version: bool,
    info: bool,
    verb: String,
}

/// Does what `argv` asks for; returns the exit code.
pub fn run(argv: impl IntoIterator<Item = OsString>) -> u8 {
    let argv: Vec<OsString> = argv.into_iter().collect();
    if is_called(&argv, RUNTIME) {
        return runtime(argv);
    }
    if is_called(&argv, logger::NAME) {
        return logger::become_one(argv.into_iter().skip(1));
    }
    if is_called(&argv, rootfs::mounter::NAME) {
        return rootfs::mounter::run(argv.into_iter().skip(1));
    }
    match Arguments::parse(argv.into_iter().skip(1)).and_then(|arguments| act(&arguments)) {
        Ok(()) => 0,
        Err(error) => {
            // containerd takes what is said here for its own error.
            let _unheard = writeln!(std::io::stderr(), "{error}");
            1
        }
    }
}

/// Whether the program is called by this name.
pub fn is_called(argv: &[OsString], name: &str) -> bool {
    argv.first().is_some_and(|path| Path::new(path).file_name().is_some_and(|last| last == name))
}

/// Is the runtime.
pub fn runtime(argv: Vec<OsString>) -> u8 {
    match pintle::cli::run(argv) {
        Ok(code) => code,
        Err(failure) => {
            failure.tell();
            failure.code
        }
    }
}

fn act(arguments: &Arguments) -> Result<()> {
    if arguments.version {
        let name = manager::NAME;
        let text = format!("{name}:\n  Version:  {}\n", env!("CARGO_PKG_VERSION"));
        return say(text.as_bytes());
    }
    if arguments.info {
        return say(&manager::info()?);
    }
    if arguments.namespace.is_empty() {
        return Err(Error::new("shim namespace cannot be empty"));
    }
    match arguments.verb.as_str() {
        "start" => say(&manager::start(arguments)?),
        "delete" => say(&manager::delete(arguments)?),
        "" => server::serve(arguments),
        other => Err(Error::new(format!("{other}: no such command: start, delete or none"))),
    }
}

fn say(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

impl Arguments {
    fn parse(words: impl Iterator<Item = OsString>) -> Result<Self> {
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        let mut found = Self {
            events: variable("TTRPC_ADDRESS"),
            listens: variable(socket::VARIABLE),
            note: std::env::var_os(unfinished::VARIABLE).map(PathBuf::from),
            own_cores: !variable("SCHED_CORE").is_empty(),
            patience: variable("PINTLE_SHIM_TIMEOUT").parse().ok().map(Duration::from_secs),
            ..Self::default()
        };
        let mut words = words.map(|word| word.to_string_lossy().into_owned());
        while let Some(word) = words.next() {
            let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
                found.verb = word;
                break;
            };
            let (flag, value) = match flag.split_once('=') {
                Some((flag, value)) => (flag, Some(value.to_owned())),
                None => (flag, None),
            };
            let mut text = || {
                let value = value.clone().or_else(|| words.next());
                value.ok_or_else(|| Error::new(format!("flag needs an argument: -{flag}")))
            };
            match flag {
                "namespace" => found.namespace = text()?,
                "id" => found.id = text()?,
                "address" => found.address = text()?,
                "bundle" => found.bundle = text()?.into(),
                // What only older shims needed.
                "publish-binary" | "socket" | "debug-socket" => drop(text()?),
                "debug" => found.debug = value.is_none_or(|value| value != "false"),
                "v" | "version" => found.version = true,
                "info" => found.info = true,
                _ => return Err(Error::new(format!("flag provided but not defined: -{flag}"))),
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments> {
        Arguments::parse(line.split(' ').map(OsString::from))
    }

    #[test]
    fn flags_are_read_in_go_s_notation() {
        let found =
            parse("-namespace ns --id=c -address /a -publish-binary /b -bundle /x -debug delete").unwrap();
        let said = (found.namespace.as_str(), found.id.as_str(), found.address.as_str(), found.verb.as_str());
        assert_eq!(said, ("ns", "c", "/a", "delete"));
        assert!(found.debug && !found.info && !found.version);
        assert!(!parse("-debug=false -namespace ns").unwrap().debug);
        for (line, words) in
            [("-nosuch", "flag provided but not defined: -nosuch"), ("-id", "flag needs an argument: -id")]
        {
            assert_eq!(parse(line).unwrap_err().to_string(), words);
        }
    }
}
