//! `events`: what a container uses, and when it runs out of memory.

use super::Context;
use crate::bail;
use crate::cgroup::stats::Stats;
use crate::cgroup::{Cgroup, Watch};
use crate::error::{Context as _, Error, Result};
use crate::plan::rdt;
use crate::resctrl;
use crate::state::{Container, Status};
use serde::Serialize;
use std::time::{Duration, Instant};

/// What `events` reports.
#[derive(Clone, Copy, Debug)]
pub enum Mode {
    /// `--stats`: once.
    Once,
    /// Every interval, and each OOM kill as it happens, until the container is gone.
    Follow(Duration),
}

/// One line of output.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Stats>,
}

/// Gives each event, one JSON object without newline, to `emit`.
pub fn events(
    context: &Context,
    id: &str,
    mode: Mode,
    emit: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<()> {
    let container = Container::load(context, id)?;
    if matches!(mode, Mode::Follow(interval) if interval.is_zero()) {
        bail!("duration interval must be greater than 0");
    }
    if container.status()? == Status::Stopped {
        bail!("container with id {id} is not running");
    }
    let cgroup = Cgroup::of(&container)?;
    let source = Source { id, cgroup: &cgroup, rdt: container.state.saved.rdt.as_ref() };
    match mode {
        Mode::Once => emit(&source.stats()?),
        Mode::Follow(interval) => follow(&source, interval, emit),
    }
}

/// What is measured.
struct Source<'a> {
    id: &'a str,
    cgroup: &'a Cgroup,
    rdt: Option<&'a rdt::Plan>,
}

impl Source<'_> {
    fn stats(&self) -> Result<String> {
        let mut stats = self.cgroup.stats()?;
        if let Some(group) = self.rdt {
            stats.intel_rdt = resctrl::stats::read(group)?;
        }
        json(&Event { kind: "stats", id: self.id, data: Some(&stats) })
    }
}

fn json(event: &Event) -> Result<String> {
    serde_json::to_string(event).map_err(|error| Error::new(error.to_string()))
}

/// Sleeps until the interval is over or the kernel reports a change; ends when nothing lives there any more.
fn follow(source: &Source<'_>, interval: Duration, emit: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    let Source { id, cgroup, .. } = *source;
    let life = cgroup.watch("cgroup.events")?;
    // Without the memory controller there is nothing to watch, and no limit to run into.
    let memory = cgroup.watch("memory.events")?;
    let watches: Vec<&Watch> = life.iter().chain(memory.iter()).collect();
    let mut killed = kills(memory.as_ref())?;
    // An instant has an end; nobody waits a century.
    let interval = interval.min(Duration::from_secs(3_000_000_000));
    let mut next = Instant::now() + interval;
    loop {
        // In this order: the kernel counts a kill before it is one, so the last one is told before the end.
        let over = !life.as_ref().is_some_and(lives);
        let now = kills(memory.as_ref())?;
        if now > killed {
            emit(&json(&Event { kind: "oom", id, data: None })?)?;
            killed = now;
        }
        if over {
            return Ok(());
        }
        let left = next.saturating_duration_since(Instant::now());
        if left.is_zero() {
            emit(&source.stats()?)?;
            next = Instant::now() + interval;
            continue;
        }
        Watch::wait(&watches, left).context("poll cgroup.events")?;
    }
}

fn lives(watch: &Watch) -> bool {
    watch.read().ok().flatten().is_some_and(|text| text.lines().any(|line| line == "populated 1"))
}

fn kills(watch: Option<&Watch>) -> Result<u64> {
    let text = watch.map_or(Ok(None), Watch::read).context("read memory.events")?.unwrap_or_default();
    let count = |line: &str| line.strip_prefix("oom_kill ")?.parse().ok();
    Ok(text.lines().find_map(count).unwrap_or(0))
}
