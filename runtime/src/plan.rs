//! Every decision, no side effect.

pub mod seccomp;
