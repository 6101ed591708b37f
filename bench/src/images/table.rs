//! The table for people, the same as JSON, and whether what was promised is reached.

use crate::contests::{Contest, Who};
use crate::machine::Machine;
use crate::meter::Cost;
use crate::target::Target;
use serde::Serialize;
use std::fmt;

/// Everything that a run has to say.
#[derive(Debug, Serialize)]
pub struct Table {
    /// Where.
    pub machine: Machine,
    /// What was measured.
    pub rows: Vec<Row>,
    /// What it had to be.
    pub targets: Vec<Target>,
}

/// One program in one contest.
#[derive(Debug, Serialize)]
pub struct Row {
    /// The contest.
    pub contest: &'static str,
    /// The program.
    pub program: &'static str,
    /// Rounds.
    pub runs: usize,
    /// Of the runs: the middle of each figure, but of the peak the most.
    pub median: Cost,
    /// The shortest.
    pub fastest_s: f64,
}

impl Row {
    /// Of all runs; there is at least one.
    pub fn new(contest: Contest, who: Who, costs: &[Cost]) -> Self {
        let sorted = |of: fn(&Cost) -> f64| {
            let mut figures: Vec<f64> = costs.iter().map(of).collect();
            figures.sort_by(f64::total_cmp);
            figures
        };
        let middle = |of| {
            let figures = sorted(of);
            figures[figures.len() / 2]
        };
        let peak_mib = costs.iter().map(|cost| cost.peak_mib).fold(0.0, f64::max);
        let median = Cost { wall_s: middle(|cost| cost.wall_s), cpu_s: middle(|cost| cost.cpu_s), peak_mib };
        let fastest_s = sorted(|cost| cost.wall_s)[0];
        Self { contest: contest.name(), program: who.name(), runs: costs.len(), median, fastest_s }
    }
}

/// Compares what was measured with what was promised.
pub fn judge(rows: &[Row]) -> Vec<Target> {
    let cost = |contest: Contest, who: Who| {
        rows.iter()
            .find(|row| row.contest == contest.name() && row.program == who.name())
            .map(|row| row.median)
    };
    let ratio = |contest, other: Who, limit| {
        let value = cost(contest, Who::Pintle)?.wall_s / cost(contest, other)?.wall_s;
        Some(Target::new(format!("{} / {}", contest.name(), other.name()), limit, value))
    };
    let deb = cost(Contest::Deb, Who::Pintle);
    let bundle = cost(Contest::Bundle, Who::Pintle);
    [
        ratio(Contest::Deb, Who::Umoci, 0.3),
        ratio(Contest::Deb, Who::Skopeo, 0.25),
        ratio(Contest::Small, Who::Umoci, 0.35),
        ratio(Contest::Pull, Who::Both, 0.4),
        deb.map(|deb| Target::new("unpack deb: peak MiB", 16.0, deb.peak_mib)),
        bundle.map(|bundle| Target::new("bundle: ms", 10.0, bundle.wall_s * 1000.0)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machine = &self.machine;
        let quiet = if machine.is_quiet() { "a quiet machine" } else { "OTHER LOAD WAS SEEN" };
        writeln!(f, "kernel {}, {} × {}", machine.kernel, machine.cores, machine.processor)?;
        writeln!(
            f,
            "load {} before, {} after, {:.2} other tasks running: {quiet}\n",
            machine.load_before, machine.load_after, machine.others_running
        )?;
        writeln!(
            f,
            "{:<14}{:<17}{:>5}{:>10}{:>10}{:>8}{:>10}{:>16}",
            "", "program", "runs", "median s", "fastest s", "cpu s", "peak MiB", "pintle-image is"
        )?;
        for row in &self.rows {
            let own = self.rows.iter().find(|own| own.contest == row.contest);
            let is = own.map_or(1.0, |own| own.median.wall_s / row.median.wall_s);
            writeln!(
                f,
                "{:<14}{:<17}{:>5}{:>10.3}{:>10.3}{:>8.2}{:>10.1}{:>16.2}",
                row.contest,
                row.program,
                row.runs,
                row.median.wall_s,
                row.fastest_s,
                row.median.cpu_s,
                row.median.peak_mib,
                is
            )?;
        }
        writeln!(f)?;
        for target in &self.targets {
            let (name, limit, value) = (&target.name, target.limit, target.value);
            writeln!(f, "{name:<30}{limit:>7.2}:{value:>8.2} {}", target.verdict())?;
        }
        Ok(())
    }
}
