//! Conformance from outside: what a user of runc would name, checked on any binary with runc's command line.
//!
//! `RUNTIME_UNDER_TEST=pintle|runc|crun` chooses it. A test makes a [`Sandbox`] (a temporary folder with its own
//! `--root`), a [`Bundle`] in it (an edited default config.json, and a rootfs that holds only the probe), runs it
//! and compares what came out. Expectations are pintle's; where an oracle differs, docs/compatibility.md says so,
//! and [`behaviour`] holds it to that in both directions.

mod behaviour;
mod bundle;
mod compatibility;
mod host;
mod output;
mod runtime;
mod sandbox;
mod snapshot;
mod terminal;

pub use behaviour::{behaviour, rows, skip};
pub use bundle::{Bundle, default_config};
pub use host::*;
pub use output::Output;
pub use runtime::Runtime;
pub use sandbox::{Container, Sandbox};
pub use snapshot::Snapshot;
pub use terminal::{ConsoleSocket, Pty};

pub use serde_json::{Value, json};
