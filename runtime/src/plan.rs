//! Every decision, no side effect.

pub mod cgroup;
