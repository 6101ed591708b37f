//! containerd-shim-pintle-v1: supervises the containers of one pod, or one container, for containerd (runtime v2, task service v2 and v3).
//! [`keep`], pintle-keep, does so for a person without an engine. One thread, one epoll; nothing here waits for anybody: what takes its
//! time is a child under a time limit.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod bootstrap;
pub mod call;
pub mod child;
pub mod cli;
pub mod console;
pub mod idle;
pub mod keep;
pub mod logger;
pub mod manager;
pub mod metrics;
pub mod poll;
pub mod process;
pub mod publisher;
pub mod relay;
pub mod rootfs;
pub mod runtime;
pub mod server;
pub mod service;
pub mod socket;
pub mod unfinished;
pub mod wire;
