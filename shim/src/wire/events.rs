//! What a shim tells containerd, in containerd's words (api/events/task.proto, api/types/event.proto).

#![allow(missing_docs, reason = "the names are containerd's; those that say too little have a word")]

use super::{Any, Mount, Timestamp};

/// Of `containerd.services.events.ttrpc.v1.Events/Forward`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ForwardRequest {
    #[prost(message, optional, tag = "1")]
    pub envelope: Option<Envelope>,
}

/// An event on its way.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Envelope {
    #[prost(message, optional, tag = "1")]
    pub timestamp: Option<Timestamp>,
    #[prost(string, tag = "2")]
    pub namespace: String,
    #[prost(string, tag = "3")]
    pub topic: String,
    #[prost(message, optional, tag = "4")]
    pub event: Option<Any>,
}

/// A container's streams, as Create has them.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Io {
    #[prost(string, tag = "1")]
    pub stdin: String,
    #[prost(string, tag = "2")]
    pub stdout: String,
    #[prost(string, tag = "3")]
    pub stderr: String,
    #[prost(bool, tag = "4")]
    pub terminal: bool,
}

/// A container stands.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Create {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(string, tag = "2")]
    pub bundle: String,
    #[prost(message, repeated, tag = "3")]
    pub rootfs: Vec<Mount>,
    #[prost(message, optional, tag = "4")]
    pub io: Option<Io>,
    #[prost(string, tag = "5")]
    pub checkpoint: String,
    #[prost(uint32, tag = "6")]
    pub pid: u32,
}

/// Its program runs.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Start {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(uint32, tag = "2")]
    pub pid: u32,
}

/// A process ended.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Exit {
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// The exec id, or the container again.
    #[prost(string, tag = "2")]
    pub id: String,
    #[prost(uint32, tag = "3")]
    pub pid: u32,
    #[prost(uint32, tag = "4")]
    pub exit_status: u32,
    #[prost(message, optional, tag = "5")]
    pub exited_at: Option<Timestamp>,
}

/// A container is gone.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Delete {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(uint32, tag = "2")]
    pub pid: u32,
    #[prost(uint32, tag = "3")]
    pub exit_status: u32,
    #[prost(message, optional, tag = "4")]
    pub exited_at: Option<Timestamp>,
    #[prost(string, tag = "5")]
    pub id: String,
}

/// The kernel killed for want of memory.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Oom {
    #[prost(string, tag = "1")]
    pub container_id: String,
}

/// A process is known.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExecAdded {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(string, tag = "2")]
    pub exec_id: String,
}

/// It runs.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExecStarted {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(string, tag = "2")]
    pub exec_id: String,
    #[prost(uint32, tag = "3")]
    pub pid: u32,
}

/// Frozen.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Paused {
    #[prost(string, tag = "1")]
    pub container_id: String,
}

/// Thawed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Resumed {
    #[prost(string, tag = "1")]
    pub container_id: String,
}

/// A checkpoint was written.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Checkpointed {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(string, tag = "2")]
    pub checkpoint: String,
}

/// An event: what it is called, and under which topic it is told.
pub trait Event: prost::Message + Sized {
    /// The type's name.
    const TYPE: &'static str;
    /// The topic.
    const TOPIC: &'static str;
}

macro_rules! events {
    ($($event:ident, $name:literal, $topic:literal;)*) => {
        $(impl Event for $event {
            const TYPE: &'static str = concat!("containerd.events.Task", $name);
            const TOPIC: &'static str = concat!("/tasks/", $topic);
        })*
    };
}

events! {
    Create, "Create", "create";
    Start, "Start", "start";
    Exit, "Exit", "exit";
    Delete, "Delete", "delete";
    Oom, "OOM", "oom";
    ExecAdded, "ExecAdded", "exec-added";
    ExecStarted, "ExecStarted", "exec-started";
    Paused, "Paused", "paused";
    Resumed, "Resumed", "resumed";
    Checkpointed, "Checkpointed", "checkpointed";
}
