//! config.json as written.

pub mod seccomp;
