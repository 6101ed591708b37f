//! pintle-bench-images: how long an image takes to a root filesystem, by pintle-image and by others. bench/images builds it
//! and starts it in the view of the image oracles.

#[path = "images/contests.rs"]
mod contests;
#[path = "images/disk.rs"]
mod disk;
mod failure;
mod machine;
#[path = "images/meter.rs"]
mod meter;
#[path = "images/table.rs"]
mod table;
mod target;

use clap::{Parser, ValueEnum};
use contests::{Contest, Field};
use failure::{Doing, Result};
use machine::{Machine, Others};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use table::{Row, Table, judge};

/// Wall time, processor time and peak memory of pintle-image, beside umoci and skopeo.
#[derive(Debug, Parser)]
#[command(bin_name = "bench/images")]
struct Arguments {
    /// Rounds, in which all run one after the other
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Only this row; may be repeated
    #[arg(long, value_enum, value_name = "ROW")]
    only: Vec<Contest>,
    /// Also write the figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The pintle-image to measure
    #[arg(long, value_name = "FILE")]
    pintle: PathBuf,
    /// The folder that tests/image-layouts.sh filled
    #[arg(long, value_name = "DIR")]
    layouts: PathBuf,
}

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == meter::WORD) {
        return meter::start(words);
    }
    failure::told(bench(Arguments::parse()))
}

fn bench(arguments: Arguments) -> Result<()> {
    warm(&arguments.layouts)?;
    let field = Field { pintle: arguments.pintle, layouts: arguments.layouts, memory: disk::memory()? };
    let mut machine = Machine::look("none")?;
    let mut others = Others::default();
    let mut rows = Vec::new();
    for contest in Contest::value_variants() {
        if arguments.only.is_empty() || arguments.only.contains(contest) {
            eprintln!("{} …", contest.name());
            rows.extend(rounds(&field, *contest, arguments.runs, &mut others)?);
        }
    }
    machine.look_again(&others)?;
    let table = Table { machine, targets: judge(&rows), rows };
    print!("{table}");
    let Some(path) = arguments.json else { return Ok(()) };
    let text = serde_json::to_string_pretty(&table).doing("JSON")?;
    fs::write(&path, text + "\n").doing(path.display())
}

/// All who take part, one after the other, again and again.
fn rounds(field: &Field, contest: Contest, runs: u32, others: &mut Others) -> Result<Vec<Row>> {
    let who = contest.who();
    let mut costs = vec![Vec::new(); who.len()];
    for _round in 0..runs {
        for (one, costs) in who.iter().zip(&mut costs) {
            others.look();
            costs.push(field.run(contest, *one)?);
        }
    }
    Ok(who.iter().zip(&costs).map(|(one, costs)| Row::new(contest, *one, costs)).collect())
}

/// Reads the images once, so that no one waits for the host's disk.
fn warm(layouts: &Path) -> Result<()> {
    let mut open = vec![layouts.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).doing(dir.display())? {
            let path = entry.doing(dir.display())?.path();
            if path.is_dir() {
                open.push(path);
            } else {
                let mut file = fs::File::open(&path).doing(path.display())?;
                io::copy(&mut file, &mut io::sink()).doing(path.display())?;
            }
        }
    }
    Ok(())
}
