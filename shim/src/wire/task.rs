//! containerd.task.v2 and v3, which differ in nothing but the name (runtime/task/v3/shim.proto)

#![allow(missing_docs, reason = "the names are containerd's; those that say too little have a word")]

use super::{Any, Mount, Timestamp};
use std::collections::HashMap;

/// The service under both of its names.
pub const SERVICES: [&str; 2] = ["containerd.task.v2.Task", "containerd.task.v3.Task"];

/// A container, to be made and not started.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CreateRequest {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub bundle: String,
    /// Mounted in this order at `rootfs` in the bundle.
    #[prost(message, repeated, tag = "3")]
    pub rootfs: Vec<Mount>,
    #[prost(bool, tag = "4")]
    pub terminal: bool,
    /// Path of a fifo; empty: none.
    #[prost(string, tag = "5")]
    pub stdin: String,
    /// Path of a fifo, or a URI; empty: none.
    #[prost(string, tag = "6")]
    pub stdout: String,
    #[prost(string, tag = "7")]
    pub stderr: String,
    #[prost(string, tag = "8")]
    pub checkpoint: String,
    #[prost(string, tag = "9")]
    pub parent_checkpoint: String,
    /// [`super::options::Options`]
    #[prost(message, optional, tag = "10")]
    pub options: Option<Any>,
}

/// Of Create and Start.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PidResponse {
    #[prost(uint32, tag = "1")]
    pub pid: u32,
}

/// Of Delete, and of the verb `delete`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeleteResponse {
    #[prost(uint32, tag = "1")]
    pub pid: u32,
    #[prost(uint32, tag = "2")]
    pub exit_status: u32,
    #[prost(message, optional, tag = "3")]
    pub exited_at: Option<Timestamp>,
}

/// A process beside the first one, to be started later.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExecRequest {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub exec_id: String,
    #[prost(bool, tag = "3")]
    pub terminal: bool,
    #[prost(string, tag = "4")]
    pub stdin: String,
    #[prost(string, tag = "5")]
    pub stdout: String,
    #[prost(string, tag = "6")]
    pub stderr: String,
    /// The runtime specification's `process`, in JSON.
    #[prost(message, optional, tag = "7")]
    pub spec: Option<Any>,
}

/// The new size of a terminal.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ResizePtyRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The process beside its first one; empty: the first.
    #[prost(string, tag = "2")]
    pub exec_id: String,
    #[prost(uint32, tag = "3")]
    pub width: u32,
    #[prost(uint32, tag = "4")]
    pub height: u32,
}

/// Of State, Start, Wait and Delete: one process.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ProcessRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The process beside its first one; empty: the first.
    #[prost(string, tag = "2")]
    pub exec_id: String,
}

/// Of Pids, Pause, Resume, Stats and Connect: one container.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ContainerRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
}

/// What is known of a process.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StateResponse {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub bundle: String,
    #[prost(uint32, tag = "3")]
    pub pid: u32,
    /// [`Status`]
    #[prost(int32, tag = "4")]
    pub status: i32,
    #[prost(string, tag = "5")]
    pub stdin: String,
    #[prost(string, tag = "6")]
    pub stdout: String,
    #[prost(string, tag = "7")]
    pub stderr: String,
    #[prost(bool, tag = "8")]
    pub terminal: bool,
    #[prost(uint32, tag = "9")]
    pub exit_status: u32,
    #[prost(message, optional, tag = "10")]
    pub exited_at: Option<Timestamp>,
    #[prost(string, tag = "11")]
    pub exec_id: String,
}

/// A signal.
#[derive(Clone, PartialEq, prost::Message)]
pub struct KillRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The process beside its first one; empty: the first.
    #[prost(string, tag = "2")]
    pub exec_id: String,
    #[prost(uint32, tag = "3")]
    pub signal: u32,
    /// Every process of the container.
    #[prost(bool, tag = "4")]
    pub all: bool,
}

/// The client will send no more.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CloseIoRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The process beside its first one; empty: the first.
    #[prost(string, tag = "2")]
    pub exec_id: String,
    #[prost(bool, tag = "3")]
    pub stdin: bool,
}

/// The processes of a container.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PidsResponse {
    #[prost(message, repeated, tag = "1")]
    pub processes: Vec<ProcessInfo>,
}

/// containerd.v1.types.ProcessInfo
#[derive(Clone, PartialEq, prost::Message)]
pub struct ProcessInfo {
    #[prost(uint32, tag = "1")]
    pub pid: u32,
    #[prost(message, optional, tag = "2")]
    pub info: Option<Any>,
}

/// A checkpoint.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CheckpointRequest {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub path: String,
    #[prost(message, optional, tag = "3")]
    pub options: Option<Any>,
}

/// New limits.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UpdateRequest {
    #[prost(string, tag = "1")]
    pub id: String,
    /// The runtime specification's `linux.resources`, in JSON.
    #[prost(message, optional, tag = "2")]
    pub resources: Option<Any>,
    #[prost(map = "string, string", tag = "3")]
    pub annotations: HashMap<String, String>,
}

/// How a process ended.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WaitResponse {
    #[prost(uint32, tag = "1")]
    pub exit_status: u32,
    #[prost(message, optional, tag = "2")]
    pub exited_at: Option<Timestamp>,
}

/// [`super::metrics::Metrics`]
#[derive(Clone, PartialEq, prost::Message)]
pub struct StatsResponse {
    #[prost(message, optional, tag = "1")]
    pub stats: Option<Any>,
}

/// Who serves a container.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ConnectResponse {
    #[prost(uint32, tag = "1")]
    pub shim_pid: u32,
    #[prost(uint32, tag = "2")]
    pub task_pid: u32,
    #[prost(string, tag = "3")]
    pub version: String,
}

/// The engine is done with a container.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ShutdownRequest {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(bool, tag = "2")]
    pub now: bool,
}

/// containerd.v1.types.Status
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Status {
    Created = 1,
    Running = 2,
    Stopped = 3,
    Paused = 4,
    Pausing = 5,
}
