//! The processors that this thread runs on, which a child inherits: sched_setaffinity(2). Only the clone of a process
//! with `execCPUAffinity.initial` happens elsewhere; then the thread goes back to where it was.

use crate::error::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fmt;

/// Processors as runc's debug log shows them: `0x3`. By default those of this thread at the moment it is shown.
#[derive(Default)]
pub struct Shown(Option<CpuSet>);

/// Calls `clone` while this thread runs on `processors` only (numbers below 1024); what it returned, and where it was
/// called.
///
/// # Errors
/// None of them is up and allowed here.
pub fn while_on<T>(processors: &[u32], clone: impl FnOnce() -> T) -> Result<(T, Shown)> {
    const TOLD: &str = "error starting setns process: error setting initial CPU affinity";
    let mut wanted = CpuSet::new();
    for processor in processors.iter().map(|number| *number as usize).filter(|n| *n < CpuSet::MAX_CPU) {
        wanted.set(processor);
    }
    let before = sched_getaffinity(None).context(TOLD)?;
    sched_setaffinity(None, &wanted).context(TOLD)?;
    let got = sched_getaffinity(None).ok();
    let result = clone();
    // A processor may have gone meanwhile; what is left to do here can be done anywhere.
    let _stays = sched_setaffinity(None, &before);
    Ok((result, Shown(got)))
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = self.0.or_else(|| sched_getaffinity(None).ok()).unwrap_or_default();
        let nibble =
            |n: usize| (0..4).filter(|bit| set.is_set(n * 4 + bit)).fold(0, |sum, bit| sum | 1 << bit);
        let digits = CpuSet::MAX_CPU / 4;
        let most = (0..digits).rev().find(|n| nibble(*n) != 0).unwrap_or(0);
        f.write_str("0x")?;
        (0..=most).rev().try_for_each(|n| write!(f, "{:x}", nibble(n)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_shown_as_one_number() {
        for (processors, expect) in
            [(vec![], "0x0"), (vec![0, 1], "0x3"), (vec![4, 6], "0x50"), (vec![64], "0x10000000000000000")]
        {
            let mut set = CpuSet::new();
            processors.iter().for_each(|n| set.set(*n));
            assert_eq!(Shown(Some(set)).to_string(), expect);
        }
    }

    #[test]
    fn the_thread_goes_back_to_where_it_was() {
        let before = sched_getaffinity(None).unwrap();
        let first = (0..1024).find(|n| before.is_set(*n)).unwrap();
        let (inside, _) = while_on(&[first as u32], || sched_getaffinity(None).unwrap()).unwrap();
        assert_eq!((inside.count(), inside.is_set(first)), (1, true));
        assert_eq!(sched_getaffinity(None).unwrap(), before);
    }
}
