//! A private containerd, and what it asks of a shim: the harness of the checks in `checks/`.
//!
//! `SHIM_UNDER_TEST=pintle|runc` chooses the shim and its runtime, `CONTAINERD_UNDER_TEST=host|newest` the daemon. A check
//! gets an [`Engine`]: a containerd namespace and a folder of its own in a daemon that it shares with others, or in one of
//! its own. What it leaves there is a failure. `integration/engines/run` makes the view of the machine in which all this runs.

pub mod alone;
pub mod call;
pub mod daemon;
pub mod engine;
pub mod events;
pub mod known;
pub mod left;
pub mod place;
pub mod record;
pub mod runner;
pub mod silent;
pub mod task;
pub mod wire;

pub use call::{Answer, Call, happens, wait_for};
pub use engine::{Engine, Task};
pub use pintle_tests::Pty;
pub use runner::{Check, full, skip};
