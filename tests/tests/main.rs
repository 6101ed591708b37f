//! The subjects, one file each.

mod affinity;
mod cgroup;
mod cli;
mod cve;
mod devices;
mod errors;
mod exec;
mod fds;
mod hooks;
mod hostile;
mod lifecycle;
mod memory_policy;
mod mounts;
mod namespaces;
mod nested;
mod process;
mod rdt;
mod rootfs;
mod rootless;
mod seccomp;
mod signals;
mod state_and_list;
mod systemd;
mod terminal;
