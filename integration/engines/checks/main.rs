//! The checks, by subject.

mod attach;
mod events;
mod exec;
mod faults;
mod kill;
mod life;
mod loggers;
mod machine;
mod pod;
mod restart;
mod rootfs;
mod run;
mod stdio;
mod wire;

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
        rootfs::CHECKS,
        restart::CHECKS,
        loggers::CHECKS,
        faults::CHECKS,
        wire::CHECKS,
        machine::CHECKS,
    ];
    runner::main(&subjects.concat())
}
