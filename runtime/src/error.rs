//! What went wrong, for the person: verb, object, cause, in lower case and without a full stop.
//!
//! Engines match some sentences word for word (containerd, Docker, podman and CRI-O look for runc's), so every
//! such sentence stands once, in [`phrase`]. A caller branches on [`Kind`], never on a text.

use rustix::fd::AsFd;
use std::borrow::Cow;
use std::fmt;

/// A result whose error is told to the person once, by `main`.
pub type Result<T> = std::result::Result<T, Error>;

/// What a caller may branch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No container has this id under this root.
    NotFound,
    /// The container's first process is gone or was never there.
    NotRunning,
    /// Everything stood, and then the program could not be executed; it was told on its own standard error.
    Program,
    /// Whoever should answer did not, in all the time that there was.
    TimedOut,
    /// There was not enough memory, for a call or for init to live on.
    OutOfMemory,
    /// Anything else: only the sentence matters.
    Other,
}

/// An error: a sentence, built from the inside out by [`Error::context`].
#[derive(Clone, Debug)]
pub struct Error {
    text: Cow<'static, str>,
    kind: Kind,
}

impl Error {
    /// An error that nobody branches on.
    pub fn new(text: impl Into<Cow<'static, str>>) -> Self {
        Self { text: text.into(), kind: Kind::Other }
    }

    /// `container does not exist`.
    pub fn not_found() -> Self {
        Self { text: phrase::NOT_FOUND.into(), kind: Kind::NotFound }
    }

    /// `container not running`.
    pub fn not_running() -> Self {
        Self { text: phrase::NOT_RUNNING.into(), kind: Kind::NotRunning }
    }

    /// No answer within so many seconds.
    pub fn timed_out(seconds: u64) -> Self {
        Self { text: format!("no answer within {seconds} s").into(), kind: Kind::TimedOut }
    }

    /// Says in `text` that there was not enough memory.
    pub fn out_of_memory(text: impl Into<Cow<'static, str>>) -> Self {
        Self { text: text.into(), kind: Kind::OutOfMemory }
    }

    /// Marks a failure that came after everything was prepared.
    pub fn after_prepared(self) -> Self {
        Self { kind: Kind::Program, ..self }
    }

    /// Puts what was being done before the cause: `context: cause`.
    pub fn context(self, context: impl fmt::Display) -> Self {
        Self { text: format!("{context}: {}", self.text).into(), kind: self.kind }
    }

    /// What a caller may branch on.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}

/// `errno` in the words of strerror(3) and in lower case, as Go and so runc says it: `no such file or directory`.
pub fn errno_text(errno: rustix::io::Errno) -> String {
    words(errno.raw_os_error())
}

/// `errno` of a file system context, fsopen(2), with the kernel's own words about it: reading the context gives them.
pub fn context_text(context: impl AsFd, errno: rustix::io::Errno) -> String {
    let mut text = errno_text(errno);
    let mut words = [0; 512];
    while let Ok(length @ 1..) = rustix::io::read(&context, &mut words[..]) {
        let line = String::from_utf8_lossy(words.get(..length).unwrap_or_default());
        // "e message": the letter is the severity.
        text = format!("{text}: {}", line.trim().trim_start_matches("e "));
    }
    text
}

fn words(errno: i32) -> String {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

impl From<rustix::io::Errno> for Error {
    fn from(errno: rustix::io::Errno) -> Self {
        let kind = if errno == rustix::io::Errno::NOMEM { Kind::OutOfMemory } else { Kind::Other };
        Self { text: errno_text(errno).into(), kind }
    }
}

impl From<nix::errno::Errno> for Error {
    fn from(errno: nix::errno::Errno) -> Self {
        Self::new(words(errno as i32))
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(raw) => Self::new(words(raw)),
            None => Self::new(error.to_string()),
        }
    }
}

/// Says what was being done when a foreign error came up.
pub trait Context<T> {
    /// `context: cause`.
    fn context(self, context: impl fmt::Display) -> Result<T>;
    /// Like [`Context::context`], for a context that costs something to make.
    fn with_context<D: fmt::Display>(self, context: impl FnOnce() -> D) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, context: impl fmt::Display) -> Result<T> {
        self.map_err(|e| e.into().context(context))
    }
    fn with_context<D: fmt::Display>(self, context: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|e| e.into().context(context()))
    }
}

/// Leaves the function with a formatted [`Error`].
#[macro_export]
macro_rules! bail {
    ($($arg:tt)*) => { return Err($crate::error::Error::new(format!($($arg)*))) };
}

/// The sentences that engines, scripts and runc's own tests look for, word for word.
pub mod phrase {
    #![allow(missing_docs)]
    /// Before every failure of the verb, as runc has it whoever is called.
    pub const CREATE_FAILED: &str = "runc create failed";
    pub const EXEC_FAILED: &str = "exec failed";
    pub const NOT_FOUND: &str = "container does not exist";
    pub const EXISTS: &str = "container with given ID already exists";
    pub const INVALID_ID: &str = "invalid container ID format";
    pub const EMPTY_ID: &str = "container id cannot be empty";
    pub const NOT_RUNNING: &str = "container not running";
    pub const NOT_PAUSED: &str = "container not paused";
    pub const NO_CGROUP: &str = "cgroup not exist";
    pub const STOPPED_START: &str = "cannot start a container that has stopped";
    pub const RUNNING_START: &str = "cannot start an already running container";
    pub const INIT_STILL_RUNNING: &str = "container init still running";
    pub const EXEC_STOPPED: &str = "cannot exec in a stopped container";
    pub const EXEC_PAUSED: &str = "cannot exec in a paused container (use --ignore-paused to override)";
    pub const EXEC_NO_ARGS: &str = "exec args cannot be empty";
    pub const TTY_WITHOUT_SOCKET: &str =
        "cannot allocate tty if runc will detach without setting console socket";
    pub const SOCKET_WITHOUT_TTY: &str = "cannot use console socket if runc will not detach or allocate tty";
    pub const NO_PROCESS: &str = "process property must not be empty";
    pub const NO_CWD: &str = "Cwd property must not be empty";
    pub const RELATIVE_CWD: &str = "Cwd must be an absolute path";
    pub const NO_ARGS: &str = "args must not be empty";
    pub const START_PROCESS: &str = "unable to start container process";
    pub const APPLY_CGROUP: &str = "unable to apply cgroup configuration";
    pub const CONTAINER_INIT: &str = "error during container init";
    pub const OOM_AT_START: &str = "container init was OOM-killed (memory limit too low?)";
    pub const BREAKOUT: &str = "current working directory is outside of container mount namespace root -- possible container breakout detected";
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn errnos_are_told_in_the_words_of_runc() {
        for (errno, expect) in [
            (Errno::NOENT, "no such file or directory"),
            (Errno::RANGE, "numerical result out of range"),
            (Errno::LOOP, "too many levels of symbolic links"),
            (Errno::AGAIN, "resource temporarily unavailable"),
            (Errno::NOMEM, "cannot allocate memory"),
            (Errno::OPNOTSUPP, "operation not supported"),
            (Errno::IO, "input/output error"),
        ] {
            assert_eq!(errno_text(errno), expect);
            assert_eq!(Error::from(std::io::Error::from(errno)).to_string(), expect);
        }
    }
}
