//! The verbs: one per file, each told top to bottom. A verb takes decided options and returns data or an error;
//! it reads no argv and no environment and prints nothing.

use crate::bus::{Address, Buses};
use crate::error::{Error, Result};
use crate::launch::serve::Endings;
use crate::launch::spawn::Descriptors;
use crate::log;
use crate::plan::Saved;
use crate::plan::cgroup::Driver;
use rustix::fd::BorrowedFd;
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
mod rehearsal;
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

/// Tells in the debug log which flags the seccomp filter of a process has, in runc's words.
fn tell_filter(saved: &Saved) {
    if let Some(flags) = saved.seccomp_flags {
        log::debug(format_args!("seccomp filter flags: {flags}"));
    }
}

/// What the process of a caller that must not wait is given.
#[derive(Clone, Copy, Debug)]
pub struct Streams<'a> {
    /// Its standard streams, until it has its terminal if it is to have one.
    pub stdio: [BorrowedFd<'a>; 3],
    /// The connected socket to which the master side of its terminal is sent.
    pub console: Option<BorrowedFd<'a>>,
}

impl<'a> Streams<'a> {
    fn descriptors(&self) -> Descriptors<'a> {
        Descriptors { console: self.console, stdio: self.stdio.map(Some), ..Descriptors::default() }
    }
}

/// A process on its way, for a caller that must not wait.
pub trait Underway: std::fmt::Debug {
    /// Answers what it has asked for, and never sleeps. True: it is born.
    ///
    /// # Errors
    /// Why it is not; then its processes are dead.
    fn turn(&mut self, endings: Endings<'_>) -> Result<bool>;

    /// Ends it for this reason, which the turn tells after its process is dead.
    fn give_up(&mut self, error: Error);

    /// It failed, and something is left that `delete --force` removes: somebody else was in it.
    fn is_left(&mut self) -> bool;

    /// What to wait for until the next turn, beside the end of its processes: input here.
    fn channel(&self) -> BorrowedFd<'_>;

    /// The process that will be the program's, as far as is known yet.
    fn pid(&self) -> i32;
}
