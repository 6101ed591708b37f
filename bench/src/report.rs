//! The table for people, and the same as JSON.

use crate::machine::Machine;
use crate::rounds::Row;
use crate::runtimes::Runtime;
use crate::target::Target;
use crate::targets::ratio;
use serde::Serialize;
use std::fmt;

/// All that a run of the bench has to say.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// Who.
    pub runtimes: Vec<Runtime>,
    /// Who is missing.
    pub notes: Vec<String>,
    /// What was measured.
    pub rows: Vec<Row>,
    /// What it had to be.
    pub targets: Vec<Target>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.head(f)?;
        self.table(f)?;
        writeln!(f)?;
        for target in &self.targets {
            writeln!(
                f,
                "{:<24} {:>9}: {:>9} {}",
                target.name,
                short(target.limit),
                short(target.value),
                target.verdict()
            )?;
        }
        Ok(())
    }
}

impl Report {
    fn head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machine = &self.machine;
        writeln!(f, "kernel {}, {} × {}", machine.kernel, machine.cores, machine.processor)?;
        writeln!(f, "{}, {} mounts, programs: {}", machine.cgroup_driver, machine.mounts, machine.programs)?;
        let quiet = if machine.is_quiet() { "a quiet machine" } else { "OTHER LOAD WAS SEEN" };
        writeln!(
            f,
            "load {} before, {} after, {:.2} other tasks running: {quiet}",
            machine.load_before, machine.load_after, machine.others_running
        )?;
        let versions: Vec<&str> = self.runtimes.iter().map(|runtime| runtime.version.as_str()).collect();
        writeln!(f, "{}", versions.join(", "))?;
        self.notes.iter().try_for_each(|note| writeln!(f, "{note}"))
    }

    fn table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = "";
        writeln!(
            f,
            "\n{:<24}{:<8}{:>5}{:>10}{:>9}{:>8}{:>8}{:>8}{:>10}",
            "operation", "runtime", "pairs", "median ms", "p99 ms", "/runc", "/crun", "/floor", "peak KiB"
        )?;
        for row in &self.rows {
            let name = if row.operation == last { "" } else { row.operation };
            last = row.operation;
            write!(f, "{name:<24}{:<8}", row.runtime)?;
            match &row.figures {
                None => writeln!(f, "{:>5}", "hangs")?,
                Some(figures) => {
                    write!(f, "{:>5}{:>10.2}{:>9.2}", figures.pairs, figures.median_ms, figures.p99_ms)?;
                    for other in ["runc", "crun", "floor"] {
                        let of = ratio(&self.rows, row.operation, row.runtime, other);
                        write!(f, "{:>8}", of.map_or("-".into(), |of| format!("{of:.2}")))?;
                    }
                    writeln!(f, "{:>10.0}", figures.peak_kib)?;
                }
            }
        }
        Ok(())
    }
}

/// Ratios with two digits after the point, counts with none.
fn short(number: f64) -> String {
    if number < 100.0 { format!("{number:.2}") } else { format!("{number:.0}") }
}
