//! What each fuzzer does with one input, beside libFuzzer: `targets/` only hands the bytes over. A check that fails panics.
//! It knows pintle from outside, and shares with its unit tests the machine for BPF and the naive reading of profiles.

pub mod config;
pub mod mounts;
pub mod mutate;
pub mod order;
pub mod seccomp;
pub mod state;
pub mod user;

// The files shared with pintle's tests name these from the root of the package.
use pintle::{plan, spec};

#[path = "../../runtime/tests/plan/edit.rs"]
mod edit;
