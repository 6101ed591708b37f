//! The table for people, the same as JSON, and whether what was promised is reached.

use std::fmt;

use serde::Serialize;

use crate::target::Target;

/// Everything that a run has to say.
#[derive(Debug, Serialize)]
pub struct Table {
    /// What was measured.
    pub rows: Vec<Row>,
    /// What it had to be.
    pub targets: Vec<Target>,
}

/// Who makes a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Maker {
    /// pintle.
    Pintle,
    /// libseccomp, as it does unless it is told otherwise.
    Libseccomp,
    /// libseccomp with a binary tree, which runc asks for.
    LibseccompTree,
}

impl Maker {
    fn name(self) -> &'static str {
        match self {
            Self::Pintle => "pintle",
            Self::Libseccomp => "libseccomp",
            Self::LibseccompTree => "libseccomp, tree",
        }
    }
}

/// One program.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Whose profile.
    pub profile: &'static str,
    /// Who made it.
    pub maker: Maker,
    /// Instructions.
    pub length: usize,
    /// Median and most that an allowed call executes: on x86_64, x86, x32.
    pub steps: [[usize; 2]; 3],
    /// The making, in microseconds.
    pub micros: f64,
    /// The same with the reading of the profile's JSON.
    pub micros_with_json: Option<f64>,
}

/// Compares with libseccomp's own program.
pub fn judge(rows: &[Row]) -> Vec<Target> {
    let own = rows.iter().filter(|row| row.maker == Maker::Pintle);
    let pairs = own.filter_map(|own| {
        let of = |row: &&Row| row.profile == own.profile && row.maker == Maker::Libseccomp;
        Some((own, rows.iter().find(of)?))
    });
    pairs
        .flat_map(|(own, other)| {
            let steps = own.steps[0][0] as f64 / other.steps[0][0] as f64;
            [
                Target::new(format!("{}: instructions / libseccomp", own.profile), 0.25, steps),
                Target::new(format!("{}: making / libseccomp", own.profile), 0.2, own.micros / other.micros),
            ]
        })
        .collect()
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<9}{:<18}{:>7}{:>14}{:>14}{:>14}{:>12}{:>11}",
            "profile", "made by", "length", "x86_64", "x86", "x32", "µs", "with JSON"
        )?;
        for row in &self.rows {
            write!(f, "{:<9}{:<18}{:>7}", row.profile, row.maker.name(), row.length)?;
            for [median, most] in row.steps {
                write!(f, "{:>14}", format!("{median} to {most}"))?;
            }
            let with_json = row.micros_with_json.map_or("-".into(), |micros| format!("{micros:.1}"));
            writeln!(f, "{:>12.1}{with_json:>11}", row.micros)?;
        }
        writeln!(f, "instructions that an allowed call executes: median to most\n")?;
        for target in &self.targets {
            let (name, limit, value) = (&target.name, target.limit, target.value);
            writeln!(f, "{name:<36}{limit:>7.2}:{value:>8.4} {}", target.verdict())?;
        }
        Ok(())
    }
}
