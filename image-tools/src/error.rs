//! What went wrong, for the person and for the script: a sentence, in lower case and without a full stop, that names the
//! place; and a kind, which becomes the exit code.

use std::fmt;

/// A result whose error is told once, by `main`.
pub type Result<T> = std::result::Result<T, Error>;

/// What a caller may branch on; its number is the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Anything without a kind of its own.
    Other = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// No such image, tag, blob or file.
    NotFound = 3,
    /// A registry wants other credentials.
    Denied = 4,
    /// Bytes are not what their digest or size promised, or a document or archive breaks its rules.
    Invalid = 5,
    /// Well formed, and not for this program or this machine.
    Unsupported = 6,
}

/// An error: a sentence, built from the inside out by [`Context::context`].
#[derive(Clone, Debug)]
pub struct Error {
    kind: Kind,
    text: String,
}

impl Error {
    /// An error of this kind.
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    /// An error that nobody branches on.
    pub fn other(text: impl Into<String>) -> Self {
        Self::new(Kind::Other, text)
    }

    /// Something that should be there is not.
    pub fn not_found(text: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, text)
    }

    /// Something breaks a rule or does not match its digest.
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, text)
    }

    /// Something that this program or this machine does not do.
    pub fn unsupported(text: impl Into<String>) -> Self {
        Self::new(Kind::Unsupported, text)
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

impl From<rustix::io::Errno> for Error {
    fn from(errno: rustix::io::Errno) -> Self {
        let kind = if errno == rustix::io::Errno::NOENT { Kind::NotFound } else { Kind::Other };
        Self { kind, text: pintle::error::errno_text(errno) }
    }
}

/// What a reader of this program put into an [`std::io::Error`] comes out again with its kind.
impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        if let Some(errno) = rustix::io::Errno::from_io_error(&error) {
            return errno.into();
        }
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(ours) => ours.clone(),
            None => Self::other(error.to_string().to_lowercase()),
        }
    }
}

/// For readers: the way through `std::io`.
impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        Self::other(error)
    }
}

/// Says what was being done when an error came up.
pub trait Context<T> {
    /// `place: cause`.
    fn context(self, place: impl fmt::Display) -> Result<T>;
    /// Like [`Context::context`], for a place that costs something to name.
    fn with_context<D: fmt::Display>(self, place: impl FnOnce() -> D) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, place: impl fmt::Display) -> Result<T> {
        self.with_context(|| place)
    }
    fn with_context<D: fmt::Display>(self, place: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|e| {
            let Error { kind, text } = e.into();
            Error { kind, text: format!("{}: {text}", place()) }
        })
    }
}
