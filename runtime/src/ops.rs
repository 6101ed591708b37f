//! The verbs: one per file, each told top to bottom. A verb takes decided options and returns data or an error;
//! it reads no argv and no environment and prints nothing.

use crate::bus::{Address, Buses};
use crate::error::Result;
use crate::plan::cgroup::Driver;
use std::path::PathBuf;

pub mod create;
pub mod delete;
pub mod events;
pub mod exec;
pub mod features;
pub mod kill;
pub mod list;
pub mod pause;
pub mod plan;
pub mod ps;
pub mod resume;
pub mod run;
pub mod spec;
pub mod start;
pub mod state;
pub mod update;

/// What every verb is told: where the containers of this user are kept, and how cgroups are driven.
#[derive(Clone, Debug)]
pub struct Context {
    /// The directory of the containers' state, absolute (`--root`).
    pub root: PathBuf,
    /// Whether `--root` was given: a missing directory is an error only then.
    pub root_is_explicit: bool,
    /// Who makes cgroups (`--systemd-cgroup`).
    pub driver: Driver,
    /// Where message buses are.
    pub buses: Buses,
    /// Whether missing permission on cgroups is tolerated (`--rootless`, already resolved).
    pub rootless: bool,
    /// This process is inside a user namespace other than the machine's first.
    pub in_user_namespace: bool,
    /// The caller's environment, for hooks that bring none.
    pub environment: Vec<String>,
}

impl Context {
    /// Where systemd is asked: the user's own or the machine's.
    ///
    /// # Errors
    /// An environment that does not say.
    pub fn systemd(&self, user: bool) -> Result<Address> {
        if user { self.buses.of_user() } else { self.buses.of_machine() }
    }
}
