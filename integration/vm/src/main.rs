//! `cargo vm`: boots a throw-away Debian machine (pure cgroup v2, systemd, the newest kernel and engines) in QEMU, runs a
//! script in it and brings back its exit status; and runs test suites in such machines.
//!
//! `cli` says what was asked, `image` makes what machines boot, `machine` runs one, `saved` keeps booted ones; `suite` runs
//! files of tests in many, `report` says what came of it.

mod accel;
mod cache;
mod cli;
mod image;
mod known;
mod machine;
mod monitor;
mod qemu;
mod report;
mod saved;
mod suite;
mod tap;

use std::process::ExitCode;

use cli::Command;

fn main() -> ExitCode {
    let done = match cli::parse() {
        Command::Build => image::build().map(|_| 0),
        Command::Run(request) => image::build().and_then(|image| machine::run(&image, &request)),
        Command::Suite(run) => image::build().and_then(|image| suite::run(&image, &run)),
        Command::Conformance => image::build().and_then(|image| report::conformance(&image)).map(|()| 0),
    };
    match done {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("vm: {error:#}");
            ExitCode::from(125)
        }
    }
}
