//! The subjects, one file each.

mod cgroup;
mod cli;
mod cve;
mod devices;
mod errors;
mod events;
mod exec;
mod fds;
mod hooks;
mod hostile;
mod lifecycle;
mod limits;
mod mounts;
mod namespaces;
mod nested;
mod process;
mod rootfs;
mod rootless;
mod seccomp;
mod signals;
mod state_and_list;
mod terminal;
mod update;
