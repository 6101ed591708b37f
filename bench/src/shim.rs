//! pintle-bench-shim: what supervising containers costs with containerd-shim-pintle-v1, and with
//! containerd-shim-runc-v2 and runc. bench/shim builds it and starts it where only it acts: what it makes goes with
//! that view, however it ends.

#[path = "shim/cost.rs"]
mod cost;
#[path = "shim/executions.rs"]
mod executions;
mod failure;
#[path = "shim/lane.rs"]
mod lane;
mod machine;
#[path = "shim/memory.rs"]
mod memory;
#[path = "shim/table.rs"]
mod table;
mod target;

use clap::{Parser, ValueEnum};
use cost::{Cost, Row};
use executions::Executions;
use failure::{Doing, Result};
use lane::{Containerd, Lane, Programs, Who};
use machine::{Machine, Others};
use memory::{Crowd, Idle};
use std::path::PathBuf;
use std::process::ExitCode;
use table::{Table, judge};

/// Rounds whose figures are dropped: caches fill.
const WARM_UP: usize = 2;

/// Memory, wall time and processor time of containerd-shim-pintle-v1, beside containerd-shim-runc-v2 with runc.
#[derive(Debug, Parser)]
#[command(bin_name = "bench/shim")]
struct Arguments {
    /// Rounds, in which all run one after the other
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How many containers stand idle together
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    containers: u32,
    /// Only this; may be repeated
    #[arg(long, value_enum, value_name = "ROW")]
    only: Vec<Contest>,
    /// Only under this containerd; may be repeated
    #[arg(long, value_enum, value_name = "WHICH")]
    containerd: Vec<Containerd>,
    /// Print JSON instead of the tables
    #[arg(long)]
    json: bool,
    /// The containerd-shim-pintle-v1 to measure
    #[arg(long, value_name = "FILE")]
    shim: PathBuf,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Contest {
    /// The shim of one idle container
    Idle,
    /// The shims of many
    Crowd,
    /// `ctr run --rm … true`
    Run,
    /// `ctr task exec … true`
    Exec,
    /// What a daemon asks of a shim for one exec, asked without ctr and daemon
    Asked,
    /// The programs that `run` and `exec` have executed
    Executions,
}

fn main() -> ExitCode {
    failure::told(bench(&Arguments::parse()))
}

fn bench(arguments: &Arguments) -> Result<()> {
    let programs = Programs::find(&arguments.shim)?;
    let mut machine = Machine::look("busybox")?;
    let mut others = Others::default();
    let mut table = Table { programs: programs.versions(&arguments.containerds())?, ..Table::default() };
    for contest in Contest::value_variants() {
        if arguments.only.is_empty() || arguments.only.contains(contest) {
            others.look();
            eprintln!("{} …", contest.to_possible_value().as_ref().map_or("", |value| value.get_name()));
            arguments.measure(*contest, &programs, &mut table, &mut others)?;
        }
    }
    machine.look_again(&others)?;
    table.targets = judge(&table);
    table.machine = Some(machine);
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&table).doing("JSON")?);
    } else {
        print!("{table}");
    }
    Ok(())
}

impl Arguments {
    fn containerds(&self) -> Vec<Containerd> {
        let all = Containerd::value_variants().iter().copied();
        all.filter(|one| self.containerd.is_empty() || self.containerd.contains(one)).collect()
    }

    /// Each has daemons of its own, which are gone afterwards.
    fn measure(
        &self,
        contest: Contest,
        programs: &Programs,
        table: &mut Table,
        others: &mut Others,
    ) -> Result<()> {
        match contest {
            Contest::Crowd => {
                // What a daemon's version is plays no part; the newest is enough.
                for who in Who::ALL {
                    let lane = Lane::start(programs, self.containerds()[0], who)?;
                    table.crowds.push(Crowd::of(&lane, self.containers)?);
                }
            }
            Contest::Idle => {
                for lane in self.lanes(programs)? {
                    table.idle.push(Idle::of(&lane)?);
                }
            }
            Contest::Run | Contest::Exec | Contest::Asked => {
                table.rows.extend(rounds(&self.lanes(programs)?, contest, self.rounds as usize, others)?);
            }
            Contest::Executions => {
                for lane in self.lanes(programs)? {
                    table.executions.push(Executions::of(&lane)?);
                }
            }
        }
        Ok(())
    }

    fn lanes(&self, programs: &Programs) -> Result<Vec<Lane>> {
        let each = self.containerds().into_iter().flat_map(|which| Who::ALL.map(|who| (which, who)));
        each.map(|(which, who)| Lane::start(programs, which, who)).collect()
    }
}

/// All who take part, one after the other, again and again.
fn rounds(lanes: &[Lane], contest: Contest, rounds: usize, others: &mut Others) -> Result<Vec<Row>> {
    let idle = match contest {
        Contest::Run => lanes.iter().map(|_| None).collect(),
        _ => lanes.iter().map(|lane| lane.idle().map(Some)).collect::<Result<Vec<_>>>()?,
    };
    let client = |(lane, id): (&Lane, &Option<String>)| {
        id.as_deref().filter(|_| contest == Contest::Asked).map(|id| lane.client(id))
    };
    let mut clients: Vec<_> = lanes.iter().zip(&idle).map(client).collect();
    let mut costs = vec![Vec::new(); lanes.len()];
    for round in 0..WARM_UP + rounds {
        others.look();
        for (((lane, idle), client), costs) in lanes.iter().zip(&idle).zip(&mut clients).zip(&mut costs) {
            let cost = match (idle, client) {
                (Some(id), Some(client)) => Cost::asked(lane, client, id)?,
                (Some(id), None) => Cost::of(lane, &lane.exec_true(id))?,
                (None, _) => Cost::of(lane, &lane.run_true())?,
            };
            if round >= WARM_UP {
                costs.push(cost);
            }
        }
    }
    let name = match contest {
        Contest::Run => "run --rm true",
        Contest::Asked => "exec, asked",
        _ => "exec true",
    };
    Ok(lanes.iter().zip(&costs).map(|(lane, costs)| Row::new(name, lane, costs)).collect())
}
