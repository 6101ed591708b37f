//! The tables for people, the same as JSON, and whether what was promised is reached.

use crate::cost::Row;
use crate::executions::Executions;
use crate::lane::{Containerd, Who};
use crate::machine::Machine;
use crate::memory::{Crowd, Idle};
use crate::target::Target;
use serde::Serialize;
use std::fmt;

/// Everything that a run has to say.
#[derive(Debug, Default, Serialize)]
pub struct Table {
    /// Where.
    pub machine: Option<Machine>,
    /// Versions.
    pub programs: Vec<String>,
    /// One idle container.
    pub idle: Vec<Idle>,
    /// Many.
    pub crowds: Vec<Crowd>,
    /// Time.
    pub rows: Vec<Row>,
    /// Programs.
    pub executions: Vec<Executions>,
    /// What it had to be.
    pub targets: Vec<Target>,
}

/// Compares what was measured under each daemon with what was promised.
pub fn judge(table: &Table) -> Vec<Target> {
    [Containerd::Newest, Containerd::Host].into_iter().flat_map(|which| judge_under(table, which)).collect()
}

fn judge_under(table: &Table, which: Containerd) -> Vec<Target> {
    let mut targets = Vec::new();
    let mut add = |name: &str, limit: f64, value: Option<f64>| {
        let name = format!("{name}, {}", which.name());
        targets.extend(value.map(|value| Target::new(name, limit, value)));
    };
    let idle = table.idle.iter().find(|idle| (idle.containerd, idle.shim) == (which, Who::Pintle));
    add("idle: RSS, KiB", 2500.0, idle.map(|idle| idle.rss));
    add("idle: Private_Dirty, KiB", 400.0, idle.map(|idle| idle.private_dirty));
    add("idle: threads", 1.0, idle.map(|idle| idle.threads as f64));
    let pss = |who| {
        table
            .crowds
            .iter()
            .find(|crowd| (crowd.containerd, crowd.shim) == (which, who))
            .map(|crowd| crowd.pss)
    };
    add("crowd: PSS / runc", 0.25, ratio(pss(Who::Pintle), pss(Who::Runc)));
    for operation in ["run --rm true", "exec true"] {
        let cost = |who| table.cost(operation, which, who).map(|row| row.median);
        let (own, other) = (cost(Who::Pintle), cost(Who::Runc));
        add(
            &format!("{operation}: wall / runc"),
            0.6,
            ratio(own.map(|c| c.wall_ms), other.map(|c| c.wall_ms)),
        );
        add(&format!("{operation}: cpu / runc"), 0.4, ratio(own.map(|c| c.cpu_ms), other.map(|c| c.cpu_ms)));
    }
    let executions = table.executions.iter().find(|one| (one.containerd, one.shim) == (which, Who::Pintle));
    add("run --rm true: executions", 5.0, executions.map(|one| one.run.len() as f64));
    targets
}

fn ratio(own: Option<f64>, other: Option<f64>) -> Option<f64> {
    Some(own? / other?)
}

impl Table {
    fn cost(&self, operation: &str, which: Containerd, who: Who) -> Option<&Row> {
        self.rows.iter().find(|row| (row.operation, row.containerd, row.shim) == (operation, which, who))
    }

    fn head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(machine) = &self.machine {
            let quiet = if machine.is_quiet() { "a quiet machine" } else { "OTHER LOAD WAS SEEN" };
            writeln!(f, "kernel {}, {} × {}", machine.kernel, machine.cores, machine.processor)?;
            writeln!(
                f,
                "load {} before, {} after, {:.2} other tasks running: {quiet}",
                machine.load_before, machine.load_after, machine.others_running
            )?;
        }
        self.programs.iter().try_for_each(|line| writeln!(f, "{line}"))
    }

    fn memory(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.idle.is_empty() {
            writeln!(
                f,
                "\n{:<16}{:<8}{:<8}{:>9}{:>9}{:>9}{:>9}{:>9}{:>7}{:>10}",
                "KiB", "under", "shim", "at once", "RSS", "PSS", "private", "threads", "files", "program"
            )?;
        }
        for idle in &self.idle {
            write!(f, "{:<16}{:<8}{:<8}", "one idle", idle.containerd.name(), idle.shim.name())?;
            write!(f, "{:>9}{:>9}{:>9}{:>9}", idle.rss_at_once, idle.rss, idle.pss, idle.private_dirty)?;
            writeln!(f, "{:>9}{:>7}{:>10}", idle.threads, idle.descriptors, idle.program_bytes / 1024)?;
        }
        for crowd in &self.crowds {
            let name = format!("{} idle", crowd.containers);
            write!(f, "{name:<16}{:<8}{:<8}", crowd.containerd.name(), crowd.shim.name())?;
            writeln!(f, "{:>9}{:>9}{:>9}{:>9}", "", "", crowd.pss, crowd.private_dirty)?;
        }
        Ok(())
    }

    fn time(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.rows.is_empty() {
            writeln!(
                f,
                "\n{:<16}{:<8}{:<8}{:>7}{:>9}{:>9}{:>8}{:>9}{:>9}{:>8}{:>10}",
                "ms",
                "under",
                "shim",
                "rounds",
                "wall",
                "least",
                "/ runc",
                "cpu",
                "least",
                "/ runc",
                "daemon"
            )?;
        }
        for row in &self.rows {
            let runc =
                self.cost(row.operation, row.containerd, Who::Runc).map_or(row.median, |row| row.median);
            let (median, least) = (row.median, row.least);
            write!(f, "{:<16}{:<8}{:<8}", row.operation, row.containerd.name(), row.shim.name())?;
            write!(f, "{:>7}{:>9.1}{:>9.1}", row.rounds, median.wall_ms, least.wall_ms)?;
            write!(f, "{:>8.2}{:>9.1}{:>9.1}", median.wall_ms / runc.wall_ms, median.cpu_ms, least.cpu_ms)?;
            writeln!(f, "{:>8.2}{:>10.1}", median.cpu_ms / runc.cpu_ms, median.daemon_ms)?;
        }
        Ok(())
    }

    fn programs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.executions.is_empty() {
            writeln!(f, "\n{:<16}{:<8}{:<8}", "executions", "under", "shim")?;
        }
        for one in &self.executions {
            for (name, programs) in [("run --rm true", &one.run), ("exec true", &one.exec)] {
                write!(f, "{name:<16}{:<8}{:<8}", one.containerd.name(), one.shim.name())?;
                writeln!(f, "{:>3}: {}", programs.len(), programs.join(", "))?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.head(f)?;
        self.memory(f)?;
        self.time(f)?;
        self.programs(f)?;
        writeln!(f)?;
        for target in &self.targets {
            let (name, limit, value) = (&target.name, target.limit, target.value);
            writeln!(f, "{name:<36}{limit:>8.2}:{value:>9.2} {}", target.verdict())?;
        }
        Ok(())
    }
}
