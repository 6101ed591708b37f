//! What a process that waits for a container, for days perhaps, holds meanwhile: nearly all of it is its own code,
//! which it does not need. So it lets go of that when nothing has happened for a while: once, until something happens
//! again.

use pintle::log;
use std::time::{Duration, Instant};

/// How long nothing has to happen. Longer than between the calls of one start, exec or end.
const QUIET: Duration = Duration::from_secs(3);

/// Knows when it is quiet.
#[derive(Debug)]
pub struct Idle {
    /// When the code goes, if nothing happens before; none when it is gone.
    due: Option<Instant>,
}

impl Default for Idle {
    fn default() -> Self {
        Self { due: Some(Instant::now() + QUIET) }
    }
}

impl Idle {
    /// Until when one may sleep.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// After each sleep, of which something was the end, or not.
    pub fn awake(&mut self, happened: bool) {
        let now = Instant::now();
        if happened {
            self.due = Some(now + QUIET);
        }
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        self.due = None;
        if let Err(errno) = pintle_sys::text::release() {
            // It is only memory.
            log::debug(format_args!("release code: {errno}"));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Pages of files that this process has, in KiB.
    fn files() -> u32 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn code_goes_once_and_comes_back() {
        let mut idle = Idle::default();
        // Other tests of this process call its code back meanwhile.
        let went = (0..100).any(|_| {
            idle = Idle { due: Some(Instant::now()) };
            let before = files();
            idle.awake(false);
            files() < before
        });
        assert!(went, "it never held less than before");
        assert_eq!(idle.due(), None, "it is gone until something happens");
        idle.awake(true);
        assert!(idle.due().unwrap() > Instant::now());
    }

    #[test]
    fn whatever_happens_puts_it_off() {
        let early = Instant::now();
        let mut idle = Idle { due: Some(early) };
        idle.awake(true);
        let due = idle.due().unwrap();
        assert!(due > early + QUIET / 2);
        // Another alarm.
        idle.awake(false);
        assert!(idle.due().unwrap() >= due);
    }
}
