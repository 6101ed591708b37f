//! What can go wrong, in two kinds: a command that does not end, which a table can tell, and everything else.

use std::fmt;
use std::process::ExitCode;

/// Why there is no figure.
#[derive(Debug)]
pub enum Failure {
    /// A command did not end in time.
    Hangs(String),
    /// A sentence for the person.
    Told(String),
}

/// A value or why there is none.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// A failure with a sentence.
    pub fn new(sentence: impl Into<String>) -> Self {
        Self::Told(sentence.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hangs(what) => write!(f, "{what}: hangs"),
            Self::Told(sentence) => f.write_str(sentence),
        }
    }
}

/// How a bench ends: what went wrong goes to standard error.
pub fn told<E: fmt::Display>(done: std::result::Result<(), E>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Puts before an error what was being done.
pub trait Doing<T> {
    /// The same, with `what` before the cause.
    ///
    /// # Errors
    /// The one that was there, as a sentence.
    fn doing(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Failure::Told(format!("{what}: {error}")))
    }
}
