//! The only unsafe code of pintle: system calls that rustix lacks, one kernel object per file, each behind a safe
//! function. Used by the runtime and, without std and libc, by init.
#![no_std]

pub mod bpf;
#[cfg(feature = "entry")]
pub mod entry;
pub mod exec;
pub mod fd;
pub mod fork;
pub mod keyring;
pub mod loop_device;
pub mod map;
pub mod mount;
pub mod namespace;
pub mod net;
mod number;
pub mod process;
mod raw;
pub mod seccomp;
pub mod signal;
pub mod spawn;
mod start;
pub mod text;
pub mod tty;
