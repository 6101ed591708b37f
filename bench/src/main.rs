//! pintle-bench: what pintle's commands cost, beside other runtimes and beside the floor of what the kernel has to do.
//! bench/run builds and starts it; bench/README.md tells what the figures mean.

mod bundle;
mod command;
mod container;
mod failure;
mod machine;
mod operations;
mod private;
mod report;
mod rounds;
mod runtimes;
mod target;
mod targets;
mod timeline;

use clap::{Parser, ValueEnum};
use failure::{Doing, Result};
use machine::{Machine, Others};
use operations::Operation;
use private::Crowd;
use report::Report;
use std::path::Path;
use std::process::ExitCode;

/// Mounts of the last group of rows.
const CROWD: usize = 2000;

/// Wall time and peak memory of pintle, beside other runtimes and the floor of the kernel's work.
#[derive(Debug, Parser)]
#[command(bin_name = "bench/run")]
struct Arguments {
    /// Measured rounds of every runtime, one after the other
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// Only this operation; may be repeated
    #[arg(long, value_enum, value_name = "OP")]
    only: Vec<Operation>,
    /// Mount N tmpfs before measuring
    #[arg(long, value_name = "N", default_value_t = 0)]
    mounts: usize,
    /// Print JSON instead of the table
    #[arg(long)]
    json: bool,
    /// Instead of all this, show where the time of one `run true` goes (with strace)
    #[arg(long)]
    timeline: bool,
}

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_default();
    if bundle::program(Path::new(&name).file_name().and_then(|n| n.to_str()).unwrap_or("")).is_some() {
        return ExitCode::SUCCESS;
    }
    if words.next().is_some_and(|word| word == command::HOLD) {
        return command::hold(words);
    }
    failure::told(bench(&Arguments::parse()))
}

fn bench(arguments: &Arguments) -> Result<()> {
    if !private::inside() {
        return Err(private::enter());
    }
    let place = private::place()?;
    let rootfs = bundle::rootfs(&place)?;
    let (runtimes, notes) = runtimes::find(&place, &rootfs)?;
    if arguments.timeline {
        print!("{}", timeline::of(&runtimes[0])?);
        return Ok(());
    }
    let crowd = (arguments.mounts > 0).then(|| Crowd::new(&place, arguments.mounts)).transpose()?;
    let mut machine = Machine::look(rootfs.programs)?;
    let mut others = Others::default();
    let mut rows = Vec::new();
    for operation in arguments.operations() {
        eprintln!("{} …", operation.rows()[0]);
        let only_here = (operation == Operation::Mounts).then(|| Crowd::new(&place, CROWD)).transpose()?;
        rows.extend(rounds::measure(operation, &runtimes, arguments.pairs_of(operation), &mut others)?);
        drop(only_here);
    }
    drop(crowd);
    machine.look_again(&others)?;
    let targets = targets::judge(&rows, bundle::size(&runtimes[0].program)?);
    tell(&Report { machine, runtimes, notes, rows, targets }, arguments.json)
}

impl Arguments {
    /// Those that were asked for. Where many mounts are there anyway, the last group says nothing new.
    fn operations(&self) -> Vec<Operation> {
        let all = Operation::value_variants().iter().copied();
        all.filter(|op| self.only.contains(op) || self.only.is_empty())
            .filter(|op| *op != Operation::Mounts || self.mounts == 0)
            .collect()
    }

    /// Among many mounts every command takes long.
    fn pairs_of(&self, operation: Operation) -> usize {
        let all = self.pairs as usize;
        if operation == Operation::Mounts { all.min(10) } else { all }
    }
}

fn tell(report: &Report, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(report).doing("JSON")?);
    } else {
        print!("{report}");
    }
    Ok(())
}
