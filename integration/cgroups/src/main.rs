//! pintle-cgroups: what pintle, runc and crun make of the same limits and device rules, what that costs on the bus, and what
//! is left of it; beside one another, in the test machine. integration/cgroups/run builds it, starts it there and writes
//! docs/cgroups.md from its results. The same binary is the program inside the containers.

mod bus;
mod devices;
mod differences;
mod floor;
mod many;
mod page;
mod place;
mod probe;
mod rows;
mod runtimes;
mod table;
mod trace;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use serde::Serialize;

use place::Place;
use runtimes::{Driver, Runtime};

/// pintle, runc and crun with the same limits, side by side. Run it in the test machine, as root.
#[derive(Debug, Parser)]
#[command(name = "pintle-cgroups")]
struct Arguments {
    #[command(subcommand)]
    part: Part,
    /// The runtimes: commands, or paths whose last part is the name
    #[arg(long, global = true, default_value = "pintle,runc,crun", value_delimiter = ',')]
    runtimes: Vec<PathBuf>,
    /// The cgroup driver
    #[arg(long, global = true, default_value = "cgroupfs")]
    driver: Driver,
    /// A file for the results, as JSON
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Each resource of config.json, and what the files of the cgroup say then
    Table {
        /// Only rows whose resources begin with this
        #[arg(default_value = "")]
        only: String,
        /// Only some rows, which have many resources at once
        #[arg(long)]
        quick: bool,
    },
    /// The smallest memory limit with which a static program that does nothing starts
    Floor,
    /// Random lists of device rules, confirmed by making and opening real nodes
    Devices {
        /// Lists
        #[arg(long, default_value_t = 200)]
        count: usize,
        /// Another number gives other lists
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
        seed: u64,
    },
    /// Many containers: what they leave, and whether the last take longer than the first
    Many {
        /// Containers
        #[arg(long, default_value_t = 500)]
        count: usize,
    },
    /// The D-Bus messages of one create and delete, on the bus of whoever runs this
    Bus,
    /// Inside a container: make and open nodes
    #[command(hide = true)]
    Probe,
    /// Write docs/cgroups.md from results
    Page {
        /// The folder with the files of results
        results: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cgroups: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether everything is as it should be.
fn run(arguments: &Arguments) -> Result<bool> {
    match &arguments.part {
        Part::Page { results } => return page::write(results).map(|()| true),
        Part::Probe => return probe::run().map(|()| true),
        _ => {}
    }
    let place = Place::new()?;
    let runtimes = Runtime::all(&place, &arguments.runtimes)?;
    match &arguments.part {
        Part::Table { only, quick } => {
            let table = table::measure(&place, &runtimes, arguments.driver, only, *quick)?;
            keep(arguments.json.as_deref(), &table)?;
            table::judge(&table)
        }
        Part::Floor => {
            let floor = floor::measure(&place, &runtimes, arguments.driver)?;
            keep(arguments.json.as_deref(), &floor)?;
            floor::judge(&floor)
        }
        Part::Devices { count, seed } => {
            let verdicts = devices::measure(&place, &runtimes, arguments.driver, *seed, *count)?;
            keep(arguments.json.as_deref(), &verdicts)?;
            Ok(devices::judge(&verdicts))
        }
        Part::Many { count } => {
            let many = many::measure(&place, &runtimes, arguments.driver, *count)?;
            keep(arguments.json.as_deref(), &many)?;
            Ok(many::judge(&many))
        }
        Part::Bus => {
            let bus = bus::measure(&place, &runtimes)?;
            keep(arguments.json.as_deref(), &bus)?;
            Ok(bus::judge(&bus))
        }
        Part::Page { .. } | Part::Probe => unreachable!("they need no place"),
    }
}

/// Writes results where they were asked for.
fn keep(file: Option<&Path>, results: &impl Serialize) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    let text = serde_json::to_string_pretty(results).context("results as JSON")?;
    fs::write(file, text).with_context(|| format!("write {}", file.display()))
}
