//! The checks, by subject.

mod exec;
mod kill;
mod run;
mod stdio;

use pintle_engines::{Check, runner};

fn main() -> std::process::ExitCode {
    let subjects: [&[Check]; _] = [run::CHECKS, stdio::CHECKS, exec::CHECKS, kill::CHECKS];
    runner::main(&subjects.concat())
}
