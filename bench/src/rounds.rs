//! The rounds: A B C A B C …, so that whatever else the machine does meets all of them alike.

use crate::command::Meter;
use crate::container::Container;
use crate::failure::{Failure, Result};
use crate::machine::Others;
use crate::operations::Operation;
use crate::runtimes::Runtime;
use serde::Serialize;

/// Rounds whose figures are dropped: caches fill.
const WARM_UP: usize = 3;

/// Rounds for peak memory, which hardly differs; the largest counts.
const PEAK_ROUNDS: usize = 3;

/// One row of the table.
#[derive(Debug, Serialize)]
pub struct Row {
    /// The operation's name.
    pub operation: &'static str,
    /// The runtime's name.
    pub runtime: &'static str,
    /// No figures, unless the runtime hangs here.
    pub figures: Option<Figures>,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// How often.
    pub pairs: usize,
    /// Median of the wall time.
    pub median_ms: f64,
    /// 99th percentile, nearest rank.
    pub p99_ms: f64,
    /// Largest VmHWM.
    pub peak_kib: f64,
}

/// A runtime on its way through the rounds.
struct Lane<'a> {
    runtime: &'a Runtime,
    idle: Option<Container<'a>>,
    walls: Vec<Vec<f64>>,
    peaks: Vec<Vec<f64>>,
    hangs: bool,
}

/// Measures one operation for all runtimes that it suits.
///
/// # Errors
/// A command that fails, or pintle hanging.
pub fn measure(
    operation: Operation,
    runtimes: &[Runtime],
    pairs: usize,
    others: &mut Others,
) -> Result<Vec<Row>> {
    let suited = runtimes.iter().filter(|runtime| operation.suits(runtime));
    let mut lanes = suited.map(|runtime| Lane::new(operation, runtime)).collect::<Result<Vec<_>>>()?;
    for round in 0..WARM_UP + pairs {
        others.look();
        for lane in &mut lanes {
            lane.go(operation, Meter::Wall, round >= WARM_UP)?;
        }
    }
    for _ in 0..PEAK_ROUNDS {
        for lane in &mut lanes {
            lane.go(operation, Meter::Peak, true)?;
        }
    }
    let names = operation.rows().iter().enumerate();
    Ok(names.flat_map(|(n, name)| lanes.iter().map(move |lane| lane.row(name, n))).collect())
}

impl<'a> Lane<'a> {
    fn new(operation: Operation, runtime: &'a Runtime) -> Result<Self> {
        let (idle, hangs) = match operation.prepare(runtime) {
            Ok(idle) => (idle, false),
            Err(failure) => (None, forgive(runtime, failure)?),
        };
        Ok(Self { runtime, idle, walls: Vec::new(), peaks: Vec::new(), hangs })
    }

    fn go(&mut self, operation: Operation, meter: Meter, counts: bool) -> Result<()> {
        if self.hangs {
            return Ok(());
        }
        match operation.once(self.runtime, self.idle.as_ref(), meter) {
            Ok(_) if !counts => {}
            Ok(figures) if meter == Meter::Wall => self.walls.push(figures),
            Ok(figures) => self.peaks.push(figures),
            Err(failure) => self.hangs = forgive(self.runtime, failure)?,
        }
        Ok(())
    }

    fn row(&self, operation: &'static str, column: usize) -> Row {
        let figures = (!self.hangs).then(|| Figures::of(&self.walls, &self.peaks, column));
        Row { operation, runtime: self.runtime.name, figures }
    }
}

/// Others may hang; that is told in the table.
fn forgive(runtime: &Runtime, failure: Failure) -> Result<bool> {
    match failure {
        Failure::Hangs(what) if !runtime.is_pintle() => {
            eprintln!("{what}: hangs");
            Ok(true)
        }
        failure => Err(failure),
    }
}

impl Figures {
    fn of(walls: &[Vec<f64>], peaks: &[Vec<f64>], column: usize) -> Self {
        let mut sorted: Vec<f64> = walls.iter().map(|round| round[column]).collect();
        sorted.sort_by(f64::total_cmp);
        let peak = peaks.iter().map(|round| round[column]).fold(0.0, f64::max);
        Self {
            pairs: sorted.len(),
            median_ms: rank(&sorted, 0.5),
            p99_ms: rank(&sorted, 0.99),
            peak_kib: peak,
        }
    }
}

/// The nearest rank of a sorted list: with fewer than 100 figures, the 99th percentile is the largest.
fn rank(sorted: &[f64], part: f64) -> f64 {
    let place = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(place.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::rank;

    #[test]
    fn ranks_are_figures_that_were_measured() {
        let forty: Vec<f64> = (1..=40).map(f64::from).collect();
        assert_eq!(rank(&forty, 0.5), 20.0);
        assert_eq!(rank(&forty, 0.99), 40.0);
        assert_eq!(rank(&[7.0], 0.5), 7.0);
        assert!(rank(&[], 0.5).is_nan());
    }
}
