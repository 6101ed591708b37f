//! The subjects, one file each.

mod devices;
mod errors;
mod exec;
mod hooks;
mod lifecycle;
mod mounts;
mod namespaces;
mod process;
mod signals;
mod state_and_list;
mod terminal;
