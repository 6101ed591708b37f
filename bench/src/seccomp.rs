//! pintle-bench-seccomp: Docker's and Podman's default seccomp profiles as programs of pintle and of libseccomp: how many
//! instructions a call executes, and how long the making takes. bench/seccomp builds and starts it.

#[expect(dead_code, reason = "its failures are sentences already")]
mod failure;
#[path = "../../runtime/src/plan/seccomp/tests/machine.rs"]
#[expect(dead_code, reason = "only the tests verify a program")]
mod interpreter;
#[path = "../../runtime/tests/seccomp/libseccomp.rs"]
mod libseccomp;
#[path = "seccomp/table.rs"]
mod table;
mod target;

use std::error::Error;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use interpreter::{Call, run};
use libseccomp::{Layout, Libseccomp};
use pintle::plan::seccomp::{Arch, compile};
use pintle::spec::seccomp::Profile;
use seccompiler::sock_filter;
use table::{Maker, Row, Table, judge};

/// The profiles, and all calls that libseccomp knows.
const PROFILES: [(&str, &str); 2] = [
    ("Docker", include_str!("../../runtime/tests/seccomp/docker.json")),
    ("Podman", include_str!("../../runtime/tests/seccomp/podman.json")),
];
const NAMES: &str = include_str!("../../runtime/tests/seccomp/names");

/// Audit numbers.
const ABIS: [(&str, u32); 3] = [("x86_64", 0xc000_003e), ("x86", 0x4000_0003), ("x32", 0xc000_003e)];
const ALLOW: u32 = 0x7fff_0000;

const REFUSED: &str = "libseccomp refuses the profile";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Instructions per call and time of making, of pintle's and libseccomp's programs for engines' profiles.
#[derive(Debug, Parser)]
#[command(bin_name = "bench/seccomp")]
struct Arguments {
    /// How often each program is made
    #[arg(long, default_value_t = 201, value_parser = clap::value_parser!(u32).range(1..))]
    turns: u32,
    /// Print JSON instead of the table
    #[arg(long)]
    json: bool,
    /// Where libseccomp's program is built
    #[arg(long, value_name = "FILE")]
    libseccomp: PathBuf,
    /// Only record libseccomp's programs and names into this folder
    #[arg(long, value_name = "FOLDER")]
    record: Option<PathBuf>,
}

fn main() -> ExitCode {
    failure::told(bench(&Arguments::parse()))
}

fn bench(arguments: &Arguments) -> Result<()> {
    let missing = "libseccomp's library (make oracles) or a C compiler is missing";
    let libseccomp = Libseccomp::build(&arguments.libseccomp).ok_or(missing)?;
    if let Some(folder) = &arguments.record {
        return record(&libseccomp, folder);
    }
    let mut rows = Vec::new();
    for (name, text) in PROFILES {
        let profile = serde_json::from_str(text)?;
        rows.push(own(name, text, &profile, arguments.turns as usize)?);
        for layout in [Layout::Plain, Layout::Tree] {
            rows.push(other(name, &libseccomp, &profile, layout, arguments.turns as usize)?);
        }
    }
    let table = Table { targets: judge(&rows), rows };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&table)?);
    } else {
        print!("{table}");
    }
    Ok(())
}

/// Compiling is timed alone, and also with the reading of the profile's JSON, which is part of config.json.
fn own(name: &'static str, text: &str, profile: &Profile, turns: usize) -> Result<Row> {
    let program = compile(profile, Arch::X86_64)?.ok_or("an empty profile")?.program;
    let micros = median(turns, || {
        black_box(compile(black_box(profile), Arch::X86_64).map(|filter| filter.map(|filter| filter.bytes())))
            .is_ok()
    });
    let with_json = median(turns, || {
        let profile = serde_json::from_str::<Profile>(black_box(text));
        profile.is_ok_and(|profile| compile(&profile, Arch::X86_64).is_ok())
    });
    Ok(Row { micros_with_json: Some(with_json), ..row(name, Maker::Pintle, &program, micros) })
}

fn other(
    name: &'static str,
    libseccomp: &Libseccomp,
    profile: &Profile,
    layout: Layout,
    turns: usize,
) -> Result<Row> {
    let words = libseccomp.program(profile, layout).ok_or(REFUSED)?;
    let nanoseconds = libseccomp.nanoseconds(profile, layout, turns).ok_or(REFUSED)?;
    let maker = if layout == Layout::Plain { Maker::Libseccomp } else { Maker::LibseccompTree };
    Ok(row(name, maker, &libseccomp::program(&words), nanoseconds as f64 / 1000.0))
}

fn row(profile: &'static str, maker: Maker, program: &[sock_filter], micros: f64) -> Row {
    let steps = ABIS.map(|(abi, arch)| steps(program, abi, arch));
    Row { profile, maker, length: program.len(), steps, micros, micros_with_json: None }
}

/// The median and the most of what calls execute that the program allows whatever their arguments; these are zero.
fn steps(program: &[sock_filter], abi: &str, arch: u32) -> [usize; 2] {
    let numbers = NAMES
        .lines()
        .filter_map(|line| line.strip_prefix(abi)?.strip_prefix(' ')?.split(' ').next()?.parse().ok());
    let calls = numbers.map(|number| Call { arch, number, args: [0; 6] });
    let allowed = calls.map(|call| run(program, &call)).filter(|(verdict, _)| *verdict == ALLOW);
    let mut steps: Vec<usize> = allowed.map(|(_, steps)| steps).collect();
    steps.sort_unstable();
    [steps[steps.len() / 2], steps[steps.len() - 1]]
}

/// In microseconds.
fn median(turns: usize, mut make: impl FnMut() -> bool) -> f64 {
    let mut taken: Vec<f64> = (0..turns)
        .map(|_| {
            let start = Instant::now();
            assert!(black_box(make()));
            start.elapsed().as_nanos() as f64 / 1000.0
        })
        .collect();
    taken.sort_by(f64::total_cmp);
    taken[turns / 2]
}

/// What the tests of the compiler compare with (runtime/tests/seccomp/README.md).
fn record(libseccomp: &Libseccomp, folder: &Path) -> Result<()> {
    for (name, text) in PROFILES {
        for layout in [Layout::Plain, Layout::Tree] {
            let words = libseccomp.program(&serde_json::from_str(text)?, layout).ok_or(REFUSED)?;
            std::fs::write(folder.join(format!("{}.{}", name.to_lowercase(), layout.word())), words)?;
        }
    }
    Ok(std::fs::write(folder.join("names"), libseccomp.names())?)
}
