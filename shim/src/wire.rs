//! What travels between containerd and a shim: messages (protobuf) in frames (ttrpc). Whatever arrives is data from somebody else:
//! nothing here panics on it.

pub mod bootstrap;
pub mod events;
pub mod frame;
pub mod metrics;
pub mod options;
pub mod task;

use std::time::SystemTime;

/// google.protobuf.Any: a message of a type that its name tells.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Any {
    /// Without a host: `containerd.events.TaskExit`.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The message, or JSON, by the type.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

impl Any {
    /// A message under the name of its type.
    pub fn of(type_url: &str, message: &impl prost::Message) -> Self {
        Self { type_url: type_url.into(), value: message.encode_to_vec() }
    }

    /// The type's name, whatever host stands before it.
    pub fn name(&self) -> &str {
        self.type_url.rsplit('/').next().unwrap_or_default()
    }
}

/// google.protobuf.Timestamp
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Timestamp {
    /// Since 1970.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Of the second.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

impl Timestamp {
    /// The moment of the call.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { seconds: since.as_secs().cast_signed(), nanos: since.subsec_nanos().cast_signed() }
    }
}

/// google.protobuf.Empty
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Empty {}

/// containerd.types.Mount
#[derive(Clone, PartialEq, prost::Message)]
pub struct Mount {
    /// File system type, or `bind`.
    #[prost(string, tag = "1")]
    pub r#type: String,
    /// What is mounted.
    #[prost(string, tag = "2")]
    pub source: String,
    /// Where, below the rootfs.
    #[prost(string, tag = "3")]
    pub target: String,
    /// As in fstab(5).
    #[prost(string, repeated, tag = "4")]
    pub options: Vec<String>,
}

/// Why a request failed, for the caller: gRPC's codes, and containerd's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What callers branch on.
    pub code: Code,
    /// What people read.
    pub message: String,
}

/// gRPC's status codes, those that a shim answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Code {
    /// Anything else.
    Unknown = 2,
    /// A request that no retry mends.
    InvalidArgument = 3,
    /// The time was over.
    DeadlineExceeded = 4,
    /// No such container or process, or it is over.
    NotFound = 5,
    /// The id is taken.
    AlreadyExists = 6,
    /// More than fits.
    ResourceExhausted = 8,
    /// Not in this state.
    FailedPrecondition = 9,
    /// No such service or method.
    Unimplemented = 12,
}

impl Failure {
    /// A failure of a kind that callers know; containerd's own words for the kind follow the text.
    pub fn new(code: Code, message: impl std::fmt::Display) -> Self {
        let kind = match code {
            Code::NotFound => ": not found",
            Code::AlreadyExists => ": already exists",
            Code::FailedPrecondition => ": failed precondition",
            Code::Unimplemented => ": not implemented",
            Code::InvalidArgument => ": invalid argument",
            Code::Unknown | Code::DeadlineExceeded | Code::ResourceExhausted => "",
        };
        Self { code, message: format!("{message}{kind}") }
    }

    /// A failure that nobody branches on.
    pub fn unknown(message: impl std::fmt::Display) -> Self {
        Self::new(Code::Unknown, message)
    }
}

impl From<pintle::error::Error> for Failure {
    fn from(error: pintle::error::Error) -> Self {
        Self::unknown(error)
    }
}

/// What a request comes to.
pub type Answer<T> = Result<T, Failure>;
