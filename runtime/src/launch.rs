//! The parent's side of a birth: starts init from its sealed image, answers it until all is prepared, and makes a
//! sentence of what init can only say in numbers.

pub mod affinity;
pub mod agent;
pub mod helper;
pub mod ids;
pub mod image;
pub mod mount_maps;
pub mod net_devices;
pub mod notify;
pub mod procfs;
mod rtnetlink;
pub mod sentence;
pub mod serve;
pub mod spawn;
pub mod streams;
pub mod terminal;
