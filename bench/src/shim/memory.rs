//! What shims hold while their containers do nothing, as /proc tells it.

use crate::failure::{Doing, Failure, Result};
use crate::lane::{Containerd, Lane, Who};
use serde::Serialize;
use std::fs;
use std::time::Duration;

/// When a container was just started.
const AT_ONCE: Duration = Duration::from_millis(300);
/// When nothing has happened for a while.
const IDLE: Duration = Duration::from_secs(6);

/// The shim of one idle container. Memory in KiB.
#[derive(Debug, Serialize)]
pub struct Idle {
    /// Under which daemon.
    pub containerd: Containerd,
    /// Which shim.
    pub shim: Who,
    /// VmRSS when the container was just started.
    pub rss_at_once: f64,
    /// Resident.
    pub rss: f64,
    /// The same, what others have mapped, too, in part only.
    pub pss: f64,
    /// Nobody else's, and not as in a file.
    pub private_dirty: f64,
    /// Threads.
    pub threads: usize,
    /// Open files.
    pub descriptors: usize,
    /// Bytes of the program's file.
    pub program_bytes: u64,
}

/// The shims of many idle containers together. Memory in KiB.
#[derive(Debug, Serialize)]
pub struct Crowd {
    /// Under which daemon.
    pub containerd: Containerd,
    /// Which shim.
    pub shim: Who,
    /// How many containers, each with a shim of its own.
    pub containers: usize,
    /// All resident pages, each once.
    pub pss: f64,
    /// See [`Idle::private_dirty`].
    pub private_dirty: f64,
}

impl Idle {
    /// Starts a container and looks at its shim, without anybody asking it anything meanwhile.
    ///
    /// # Errors
    /// There are more shims, or none.
    pub fn of(lane: &Lane) -> Result<Self> {
        lane.idle()?;
        let [pid] = lane.shims()?[..] else { return Err(Failure::new("one container has not one shim")) };
        std::thread::sleep(AT_ONCE);
        let rss_at_once = kib(pid, "smaps_rollup", "Rss:")?;
        std::thread::sleep(IDLE);
        let entries = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            Ok::<_, Failure>(fs::read_dir(&path).doing(path)?.count())
        };
        Ok(Self {
            containerd: lane.containerd,
            shim: lane.who,
            rss_at_once,
            rss: kib(pid, "smaps_rollup", "Rss:")?,
            pss: kib(pid, "smaps_rollup", "Pss:")?,
            private_dirty: kib(pid, "smaps_rollup", "Private_Dirty:")?,
            threads: entries("task")?,
            descriptors: entries("fd")?,
            program_bytes: fs::metadata(&lane.shim).doing(lane.shim.display())?.len(),
        })
    }
}

impl Crowd {
    /// Starts that many containers and looks at their shims.
    ///
    /// # Errors
    /// Those of ctr.
    pub fn of(lane: &Lane, containers: u32) -> Result<Self> {
        for _ in 0..containers {
            lane.idle()?;
        }
        std::thread::sleep(IDLE);
        let shims = lane.shims()?;
        if shims.len() != containers as usize {
            return Err(Failure::new(format!("{containers} containers have {} shims", shims.len())));
        }
        let sum = |name: &str| shims.iter().map(|pid| kib(*pid, "smaps_rollup", name)).sum::<Result<f64>>();
        let (pss, private_dirty) = (sum("Pss:")?, sum("Private_Dirty:")?);
        Ok(Self { containerd: lane.containerd, shim: lane.who, containers: shims.len(), pss, private_dirty })
    }
}

/// A line of a file of a process.
fn kib(pid: u32, file: &str, name: &str) -> Result<f64> {
    let path = format!("/proc/{pid}/{file}");
    let text = fs::read_to_string(&path).doing(&path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
        .ok_or_else(|| Failure::new(format!("{path}: no {name}")))
}
