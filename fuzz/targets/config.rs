//! Hands libFuzzer's bytes to the check of the same name; texts are changed as trees.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use pintle_fuzz::{config, mutate};

fuzz_target!(|data: &[u8]| config::check(data));
fuzz_mutator!(|data: &mut [u8], size: usize, most: usize, seed: u32| {
    mutate::json(data, size, most, seed, config::WORDS)
});
