//! How a container's runtime is to be called (api/types/runc/options/oci.proto), as an engine says it.

#![allow(missing_docs, reason = "the names are containerd's; those that say too little have a word")]

use serde::{Deserialize, Serialize};

/// containerd.runc.v1.Options
#[derive(Clone, PartialEq, Serialize, Deserialize, prost::Message)]
#[serde(default)]
pub struct Options {
    #[prost(bool, tag = "1")]
    pub no_pivot_root: bool,
    #[prost(bool, tag = "2")]
    pub no_new_keyring: bool,
    /// Where the shim itself goes.
    #[prost(string, tag = "3")]
    pub shim_cgroup: String,
    /// Who owns the pipes of the container's streams.
    #[prost(uint32, tag = "4")]
    pub io_uid: u32,
    #[prost(uint32, tag = "5")]
    pub io_gid: u32,
    /// The runtime; empty: pintle.
    #[prost(string, tag = "6")]
    pub binary_name: String,
    /// Where the runtime keeps its containers' states.
    #[prost(string, tag = "7")]
    pub root: String,
    #[prost(bool, tag = "9")]
    pub systemd_cgroup: bool,
    #[prost(string, tag = "10")]
    pub criu_image_path: String,
    #[prost(string, tag = "11")]
    pub criu_work_path: String,
    #[prost(string, tag = "12")]
    pub task_api_address: String,
    #[prost(uint32, tag = "13")]
    pub task_api_version: u32,
}

/// containerd.runc.v1.ProcessDetails: which exec a process is.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ProcessDetails {
    #[prost(string, tag = "1")]
    pub exec_id: String,
}

/// runtimeoptions.v1.Options: what CRI passes to runtimes that it does not know.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GenericOptions {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(string, tag = "2")]
    pub config_path: String,
    /// TOML.
    #[prost(bytes = "vec", tag = "3")]
    pub config_body: Vec<u8>,
}
