//! Everything at once: freezing, thawing and killing all processes of a cgroup and of those below it.

use super::events::wait_until;
use super::{Cgroup, file};
use crate::bail;
use crate::error::{Context, Result};
use rustix::io::Errno;
use std::time::Duration;

/// As long as runc waits.
const FREEZE_LIMIT: Duration = Duration::from_secs(10);

impl Cgroup {
    /// Stops every process and waits until all have stopped. A freeze that can't be completed is taken back, so that
    /// nothing stays half frozen.
    pub fn freeze(&self) -> Result<()> {
        self.freeze_within(FREEZE_LIMIT)
    }

    pub(super) fn freeze_within(&self, limit: Duration) -> Result<()> {
        self.set("cgroup.freeze", "1")?;
        let frozen = wait_until(&self.dir, limit, |events| events.is_none_or(|events| events.frozen));
        if !matches!(frozen, Ok(true)) {
            self.thaw()?;
        }
        if !frozen.with_context(|| self.told("cgroup.events"))? {
            bail!("timeout of {}s reached waiting for the cgroup to freeze", limit.as_secs());
        }
        Ok(())
    }

    /// Lets every process go on.
    pub fn thaw(&self) -> Result<()> {
        self.set("cgroup.freeze", "0")
    }

    /// Whether somebody froze this very cgroup.
    pub fn is_frozen(&self) -> Result<bool> {
        let text =
            file::read_if_there(&self.dir, "cgroup.freeze").with_context(|| self.told("cgroup.freeze"))?;
        Ok(text.is_some_and(|text| text.trim_end() == "1"))
    }

    /// Kills every process, forks in progress included. They die frozen or not.
    pub fn kill(&self) -> Result<()> {
        match file::write(&self.dir, "cgroup.kill", "1") {
            // A threaded cgroup has threads, not processes, and can't be killed as a whole.
            Err(Errno::OPNOTSUPP) => self.kill_threads(),
            Err(Errno::NODEV | Errno::NOENT) => Ok(()),
            done => done.with_context(|| self.told("cgroup.kill")),
        }
    }

    /// Kills the process of each thread, again for those that were forked meanwhile.
    fn kill_threads(&self) -> Result<()> {
        const ROUNDS: usize = 100;
        for _ in 0..ROUNDS {
            let text = file::read_if_there(&self.dir, "cgroup.threads")
                .with_context(|| self.told("cgroup.threads"))?;
            let threads = text.unwrap_or_default();
            let threads =
                threads.lines().filter_map(|line| rustix::process::Pid::from_raw(line.parse().ok()?));
            for thread in threads {
                match rustix::process::kill_process(thread, rustix::process::Signal::KILL) {
                    Ok(()) | Err(Errno::SRCH) => {}
                    Err(errno) => return Err(errno).context("kill"),
                }
            }
            if self.wait_empty(std::time::Duration::from_millis(100))? {
                break;
            }
        }
        Ok(())
    }

    /// A cgroup that is gone has no process to do anything with.
    fn set(&self, name: &str, value: &str) -> Result<()> {
        match file::write(&self.dir, name, value) {
            Err(Errno::NODEV | Errno::NOENT) => Ok(()),
            done => done.with_context(|| format!("write {value:?} to {}/{name}", self.path.display())),
        }
    }
}
