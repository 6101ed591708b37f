//! What pintle has to reach, and whether it does. A target that can't be looked at, since someone is missing, is left
//! out.

use crate::rounds::{Figures, Row};
use crate::target::Target;

/// `pintle / other` of an operation's medians is at most the number.
const RATIOS: &[(&str, &str, f64)] = &[
    ("run true", "runc", 0.15),
    ("run true", "crun", 0.55),
    ("run true", "floor", 1.5),
    ("exec true", "runc", 0.25),
    ("exec true", "crun", 0.6),
    ("state", "crun", 0.5),
    ("kill", "crun", 0.5),
    ("start", "crun", 0.5),
    ("delete --force", "runc", 0.1),
];

/// The most that any process of pintle may hold at once.
const PEAK_KIB: f64 = 3072.0;

/// The most that the binary may have.
const BYTES: f64 = 4_000_000.0;

/// The figures of a row.
pub fn figures<'a>(rows: &'a [Row], operation: &str, runtime: &str) -> Option<&'a Figures> {
    let row = rows.iter().find(|row| row.operation == operation && row.runtime == runtime)?;
    row.figures.as_ref()
}

/// How much of another's median a runtime's is.
pub fn ratio(rows: &[Row], operation: &str, runtime: &str, other: &str) -> Option<f64> {
    let median = |name| figures(rows, operation, name).map(|figures| figures.median_ms);
    Some(median(runtime)? / median(other)?)
}

/// Compares.
pub fn judge(rows: &[Row], bytes: u64) -> Vec<Target> {
    let mut targets: Vec<Target> = RATIOS
        .iter()
        .filter_map(|&(operation, other, limit)| {
            let value = ratio(rows, operation, "pintle", other)?;
            Some(Target::new(format!("{operation} / {other}"), limit, value))
        })
        .collect();
    let own = rows.iter().filter(|row| row.runtime == "pintle");
    let peak = own.filter_map(|row| Some(row.figures.as_ref()?.peak_kib)).reduce(f64::max);
    targets.extend(peak.map(|peak| Target::new("peak memory, KiB", PEAK_KIB, peak)));
    targets.push(Target::new("binary, bytes", BYTES, bytes as f64));
    targets
}
