//! A program that takes the output of a process, `binary://PATH?NAME=VALUE…`: it reads standard output from descriptor 3 and standard error
//! from 4, and says that it is ready by closing 5. It learns from CONTAINER_ID and CONTAINER_NAMESPACE whose output it is.
//!
//! A descriptor can be given to a child under a number of 0, 1 and 2 only. So this program is executed first, as one that moves them
//! up and becomes the logger.

use crate::wire::{Answer, Failure};
use rustix::fd::OwnedFd;
use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

/// The name under which this program becomes a logger.
pub const NAME: &str = "pintle-logger";

/// What a URI says of a logger.
#[derive(Debug, PartialEq, Eq)]
pub struct Logger {
    path: OsString,
    arguments: Vec<OsString>,
}

impl Logger {
    /// Reads what follows `binary://`.
    ///
    /// # Errors
    /// No program there.
    pub fn of(rest: &str) -> Answer<Self> {
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let words = query.split('&').filter(|pair| !pair.is_empty());
        let arguments = words.flat_map(|pair| match pair.split_once('=') {
            Some((name, value)) => vec![decode(name, true), decode(value, true)],
            None => vec![decode(pair, true), OsString::new()],
        });
        let logger = Self { path: decode(path, false), arguments: arguments.collect() };
        match rustix::fs::accessat(CWD, &logger.path, Access::EXEC_OK, AtFlags::EACCESS) {
            Ok(()) => Ok(logger),
            Err(errno) => {
                let (path, why) = (logger.path.display(), pintle::error::errno_text(errno));
                Err(Failure::unknown(format!("failed to start binary process: fork/exec {path}: {why}")))
            }
        }
    }

    /// The command that starts it on these two streams; its end of `ready` closes when it is.
    pub fn command(&self, id: &str, namespace: &str, streams: [OwnedFd; 2], ready: OwnedFd) -> Command {
        let [out, err] = streams;
        let mut command = Command::new("/proc/self/exe");
        command.arg0(NAME).arg(&self.path).args(&self.arguments).env_clear();
        command.env("CONTAINER_ID", id).env("CONTAINER_NAMESPACE", namespace);
        command.stdin(Stdio::from(out)).stdout(Stdio::from(err)).stderr(Stdio::from(ready)).process_group(0);
        command
    }
}

/// What a URI's %XX stand for; in a query a plus is a space.
fn decode(text: &str, query: bool) -> OsString {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        let hex = others.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let number = hex.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (*first, number) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = others.get(2..).unwrap_or_default();
                continue;
            }
            (b'+', _) if query => bytes.push(b' '),
            (byte, _) => bytes.push(byte),
        }
        rest = others;
    }
    OsString::from_vec(bytes)
}

/// Becomes the logger; returns only if that fails.
pub fn become_one(mut words: impl Iterator<Item = OsString>) -> u8 {
    const NOT_EXECUTED: u8 = 127;
    let Some(path) = words.next() else { return NOT_EXECUTED };
    match move_up() {
        Ok(()) => {
            // Nobody hears why not: the streams are the container's.
            let _error = Command::new::<&OsStr>(&path).args(words).exec();
            NOT_EXECUTED
        }
        Err(_) => NOT_EXECUTED,
    }
}

/// 0, 1 and 2 become 3, 4 and 5, which are free in a process that was just executed.
fn move_up() -> rustix::io::Result<()> {
    let moved = [rustix::io::dup(rustix::stdio::stdin())?, rustix::io::dup(rustix::stdio::stdout())?];
    let ready = rustix::io::dup(rustix::stdio::stderr())?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    // They go over the execve: nobody closes them here.
    std::mem::forget((moved, ready));
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_names_a_program_and_its_arguments() {
        let logger = Logger::of("/bin/sh?-c&--dir=/var/l%20g&x=a+b%2").unwrap();
        assert_eq!(logger.path, "/bin/sh");
        assert_eq!(logger.arguments, ["-c", "", "--dir", "/var/l g", "x", "a b%2"]);
        let missing = Logger::of("/no%2Fsuch").unwrap_err().message;
        assert_eq!(missing, "failed to start binary process: fork/exec /no/such: no such file or directory");
    }
}
