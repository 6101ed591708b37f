//! The machine that the figures come from, as far as they depend on it.

use crate::failure::{Doing, Result};
use serde::Serialize;
use std::fs;

/// The head of the table.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// Its kernel.
    pub kernel: String,
    /// Its processor.
    pub processor: String,
    /// How many of it.
    pub cores: usize,
    /// Mounts in the view in which the runtimes are started.
    pub mounts: usize,
    /// How cgroups are made.
    pub cgroup_driver: &'static str,
    /// What the containers run.
    pub programs: &'static str,
    /// /proc/loadavg before.
    pub load_before: String,
    /// /proc/loadavg after.
    pub load_after: String,
    /// Other tasks that were running or ready at the starts of the rounds, on average.
    pub others_running: f64,
}

impl Machine {
    /// Looks around.
    ///
    /// # Errors
    /// No /proc.
    pub fn look(programs: &'static str) -> Result<Self> {
        let cpuinfo = read("/proc/cpuinfo")?;
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Ok(Self {
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            processor: model.map_or("unknown", |(_, name)| name).to_owned(),
            cores: std::thread::available_parallelism().doing("cores")?.get(),
            mounts: read("/proc/self/mountinfo")?.lines().count(),
            cgroup_driver: "cgroupfs, cgroup v2 (private-v2)",
            programs,
            load_before: load()?,
            load_after: String::new(),
            others_running: 0.0,
        })
    }

    /// Puts down what the machine did meanwhile.
    ///
    /// # Errors
    /// No /proc.
    pub fn look_again(&mut self, others: &Others) -> Result<()> {
        self.load_after = load()?;
        self.others_running = others.mean();
        Ok(())
    }

    /// Whether the figures are those of a quiet machine.
    pub fn is_quiet(&self) -> bool {
        self.others_running < 0.3
    }
}

/// Counts who else runs. The averages of /proc/loadavg lag by a minute and hold the bench itself; its fourth field is
/// the tasks that run at this moment.
#[derive(Debug, Default)]
pub struct Others {
    seen: usize,
    looks: usize,
}

impl Others {
    /// Looks once, while no runtime runs.
    pub fn look(&mut self) {
        let running = fs::read_to_string("/proc/loadavg").ok().and_then(|text| {
            let (running, _all) = text.split_whitespace().nth(3)?.split_once('/')?;
            running.parse::<usize>().ok()
        });
        self.looks += 1;
        // One of them is this process.
        self.seen += running.unwrap_or(1).saturating_sub(1);
    }

    fn mean(&self) -> f64 {
        self.seen as f64 / self.looks.max(1) as f64
    }
}

fn load() -> Result<String> {
    Ok(read("/proc/loadavg")?.split_whitespace().take(3).collect::<Vec<_>>().join(" "))
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).doing(path)
}
