//! A mutator for JSON: libFuzzer's own changes of bytes mostly end the text as JSON; these keep it one, with the words of the
//! target's dictionary as keys and as values.

use crate::edit::edit;
use fastrand::Rng;
use serde_json::Value;

/// The input's next form, for LLVMFuzzerCustomMutator: its length. What is no JSON, and now and then what is, libFuzzer changes.
pub fn json(data: &mut [u8], size: usize, most: usize, seed: u32, dictionary: &'static str) -> usize {
    let mut random = Rng::with_seed(seed.into());
    if random.u8(..8) > 0
        && let Ok(mut tree) = serde_json::from_slice::<Value>(&data[..size])
    {
        let words = words(dictionary);
        for _ in 0..=random.u8(..4) {
            edit(&mut tree, &mut random, &words);
        }
        let text = serde_json::to_vec(&tree).expect("a tree of strings and numbers");
        if text.len() <= most.min(data.len()) {
            data[..text.len()].copy_from_slice(&text);
            return text.len();
        }
    }
    libfuzzer_sys::fuzzer_mutate(data, size, most)
}

/// The words of a dictionary in libFuzzer's format, without their quotes.
fn words(dictionary: &'static str) -> Vec<&'static str> {
    dictionary.lines().filter_map(|line| line.strip_prefix('"')?.strip_suffix('"')).collect()
}
