//! The subjects, one file each.

mod devices;
mod errors;
mod hooks;
mod lifecycle;
mod mounts;
mod namespaces;
mod state_and_list;
