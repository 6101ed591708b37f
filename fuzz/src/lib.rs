//! What each fuzzer does with one input, beside libFuzzer: `targets/` only hands the bytes over. A check that fails panics.
//! It knows pintle from outside, and shares with its unit tests the machine for BPF and the naive reading of profiles.

pub mod config;
pub mod edit;
pub mod mounts;
pub mod order;
pub mod seccomp;
pub mod state;
pub mod user;

// The files shared with pintle's tests name these from the root of the package.
use pintle::{plan, spec};

/// The words of a dictionary in libFuzzer's format, without their quotes.
fn words(dictionary: &'static str) -> Vec<&'static str> {
    dictionary.lines().filter_map(|line| line.strip_prefix('"')?.strip_suffix('"')).collect()
}
