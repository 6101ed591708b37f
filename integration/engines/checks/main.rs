//! The checks, by subject.

mod attach;
mod events;
mod exec;
mod kill;
mod life;
mod pod;
mod restart;
mod run;
mod stdio;

use pintle_engines::{Check, runner};

fn main() -> std::process::ExitCode {
    let subjects: [&[Check]; _] = [
        run::CHECKS,
        stdio::CHECKS,
        exec::CHECKS,
        kill::CHECKS,
        life::CHECKS,
        attach::CHECKS,
        events::CHECKS,
        pod::CHECKS,
        restart::CHECKS,
    ];
    runner::main(&subjects.concat())
}
