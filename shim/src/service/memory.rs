//! Kills for want of memory, as the container's cgroup counts them: one is told of once, also where it takes the whole container along.

use super::Service;
use crate::wire::events;
use pintle::cgroup::Watch;
use std::time::{Duration, Instant};

/// How long a kill may go on that takes all of a cgroup along: the kernel counts each process for itself.
const ONE_KILL: Duration = Duration::from_secs(1);

/// What is known of a container's kills.
#[derive(Debug)]
pub struct Memory {
    /// memory.events
    events: Watch,
    /// memory.oom.group
    group: Option<Watch>,
    /// Processes that were killed so far.
    kills: u64,
    told: Option<Instant>,
}

impl Memory {
    /// Nobody was killed yet.
    pub fn new(events: Watch, group: Option<Watch>) -> Self {
        Self { events, group, kills: 0, told: None }
    }

    /// Whether there is something to tell; none when the cgroup is gone.
    fn changed(&mut self) -> Option<bool> {
        let text = self.events.read().ok().flatten()?;
        let kills =
            text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok())?;
        let more = kills > self.kills;
        self.kills = kills;
        let told = more && !(self.takes_all() && self.told.is_some_and(|told| told.elapsed() < ONE_KILL));
        if told {
            self.told = Some(Instant::now());
        }
        Some(told)
    }

    fn takes_all(&self) -> bool {
        self.group
            .as_ref()
            .is_some_and(|group| group.read().is_ok_and(|text| text.is_some_and(|text| text.trim() == "1")))
    }
}

impl Service {
    /// memory.events of a container has changed.
    pub fn memory_changed(&mut self, init: u32) {
        let Some(memory) = self.memory.get_mut(&init) else { return };
        match memory.changed() {
            Some(true) => {
                let id = self.processes.get(&init).map(|process| process.task.clone()).unwrap_or_default();
                self.publisher.publish(&events::Oom { container_id: id });
            }
            Some(false) => {}
            None => drop(self.memory.remove(&init)),
        }
    }
}
