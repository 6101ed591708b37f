//! What one command costs: wall time, processor time and the peak of memory, with the children it waited for. Each is started
//! by a process of its own, this binary again, since the kernel counts all ended children together. See getrusage(2).

use crate::failure::{Doing, Failure, Result};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

/// The first argument that makes this binary start what follows and tell the cost.
pub const WORD: &str = "meter";

/// What commands cost.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Cost {
    /// From before the spawn to the collected end.
    pub wall_s: f64,
    /// Processor time, of the process itself and of the kernel for it.
    pub cpu_s: f64,
    /// The most that one process held at once.
    pub peak_mib: f64,
}

impl Cost {
    /// Of commands that follow one another.
    pub fn and(self, next: Self) -> Self {
        Self {
            wall_s: self.wall_s + next.wall_s,
            cpu_s: self.cpu_s + next.cpu_s,
            peak_mib: self.peak_mib.max(next.peak_mib),
        }
    }
}

/// Runs a command, whose exit status has to be 0, and gives its cost.
///
/// # Errors
/// It can't be started or fails: then with its standard error.
pub fn measure(words: &[String]) -> Result<Cost> {
    let own = std::env::current_exe().doing("own path")?;
    let output = Command::new(own).arg(WORD).args(words).stdin(Stdio::null()).output().doing(&words[0])?;
    if output.status.success() {
        return serde_json::from_slice(&output.stdout).doing("the meter's answer");
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!("{}: {}\n{}", words.join(" "), output.status, said.trim_end())))
}

/// What `meter PROGRAM ARGS` does.
pub fn start(mut words: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(program) = words.next() else { return ExitCode::FAILURE };
    let mut command = Command::new(program);
    command.args(words).stdout(Stdio::null());
    match cost(&mut command).and_then(|cost| serde_json::to_string(&cost).doing("JSON")) {
        Ok(text) => println!("{text}"),
        Err(failure) => {
            eprintln!("{failure}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn cost(command: &mut Command) -> Result<Cost> {
    let begin = Instant::now();
    let status = command.status().doing("start")?;
    let wall_s = begin.elapsed().as_secs_f64();
    if !status.success() {
        return Err(Failure::new(status.to_string()));
    }
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).doing("getrusage")?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Cost { wall_s, cpu_s: micros as f64 / 1e6, peak_mib: usage.max_rss() as f64 / 1024.0 })
}
