//! What one call of ctr costs. Wall time is ctr's own. Processor time is that of all that containerd starts for it:
//! both cgroups of the lane, as the kernel counts them to the nanosecond, removed cgroups and ended processes included,
//! without the daemon's own.

use crate::failure::{Doing, Failure, Result};
use crate::lane::{Containerd, Lane, Who};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use pintle_engines::task::{Shim, Stdio};
use serde::Serialize;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// What a Go program may still do once its last answer is given.
const AFTER: Duration = Duration::from_millis(20);

/// One call.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cost {
    /// From before the spawn of ctr to its collected end.
    pub wall_ms: f64,
    /// Shim, runtime, init and the container's program.
    pub cpu_ms: f64,
    /// containerd itself.
    pub daemon_ms: f64,
}

/// Many.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What was called.
    pub operation: &'static str,
    /// Under which daemon.
    pub containerd: Containerd,
    /// Which shim.
    pub shim: Who,
    /// How often.
    pub rounds: usize,
    /// The middle of each figure.
    pub median: Cost,
    /// The least of each figure.
    pub least: Cost,
}

/// Counters, in microseconds.
struct Counted {
    all: f64,
    daemon: f64,
}

impl Cost {
    /// Of `ctr WORDS`, after which all processes that it made are gone again.
    ///
    /// # Errors
    /// ctr fails; a process stays.
    pub fn of(lane: &Lane, words: &[String]) -> Result<Self> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut command = lane.command(&words)?;
        Self::around(lane, || match command.status().doing("ctr")?.success() {
            true => Ok(()),
            false => Err(lane.failure(&words)),
        })
    }

    /// Of what a daemon asks of a shim for one exec of `true`: Exec, Start, Wait, Delete. No ctr and no daemon have a part in it.
    ///
    /// # Errors
    /// The shim refuses; a process stays.
    pub fn asked(lane: &Lane, shim: &mut Shim, container: &str) -> Result<Self> {
        const NAME: &str = "asked";
        Self::around(lane, || {
            let refused = |status| Failure::new(format!("the shim of {container}: {status:?}"));
            shim.exec(container, NAME, &["true"], &Stdio::default()).map_err(refused)?;
            for method in ["Start", "Wait", "Delete"] {
                shim.ask(method, container, NAME).map_err(refused)?;
            }
            Ok(())
        })
    }

    fn around(lane: &Lane, call: impl FnOnce() -> Result<()>) -> Result<Self> {
        let population = lane.population()?;
        let before = Counted::now(lane)?;
        let begin = Instant::now();
        call()?;
        let wall = begin.elapsed();
        lane.settle(population)?;
        std::thread::sleep(AFTER);
        let after = Counted::now(lane)?;
        let daemon_ms = (after.daemon - before.daemon) / 1e3;
        let cpu_ms = (after.all - before.all) / 1e3 - daemon_ms;
        Ok(Self { wall_ms: wall.as_secs_f64() * 1e3, cpu_ms, daemon_ms })
    }
}

impl Counted {
    fn now(lane: &Lane) -> Result<Self> {
        let cgroups = lane.cgroups();
        let all = usage(&cgroups[0])? + usage(&cgroups[1])?;
        let pid = Pid::from_raw(lane.daemon().cast_signed());
        let clock = ClockId::pid_cpu_clock_id(pid).doing("the daemon's clock")?;
        let time = Duration::from(clock_gettime(clock).doing("the daemon's clock")?);
        Ok(Self { all, daemon: time.as_secs_f64() * 1e6 })
    }
}

/// Microseconds of all that ever ran in a cgroup and below it.
fn usage(cgroup: &Path) -> Result<f64> {
    let path = cgroup.join("cpu.stat");
    let text = fs::read_to_string(&path).doing(path.display())?;
    let line = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
    line.and_then(|number| number.parse().ok())
        .ok_or_else(|| Failure::new(format!("{}: no usage_usec", path.display())))
}

impl Row {
    /// Of all rounds; there is at least one.
    pub fn new(operation: &'static str, lane: &Lane, costs: &[Cost]) -> Self {
        let sorted = |of: fn(&Cost) -> f64| {
            let mut figures: Vec<f64> = costs.iter().map(of).collect();
            figures.sort_by(f64::total_cmp);
            figures
        };
        let [wall, cpu, daemon] =
            [sorted(|cost| cost.wall_ms), sorted(|c| c.cpu_ms), sorted(|c| c.daemon_ms)];
        let at = |n: usize| Cost { wall_ms: wall[n], cpu_ms: cpu[n], daemon_ms: daemon[n] };
        let (median, least) = (at(costs.len() / 2), at(0));
        Self { operation, containerd: lane.containerd, shim: lane.who, rounds: costs.len(), median, least }
    }
}
