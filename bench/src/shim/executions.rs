//! Which programs one call has executed, from the daemon on: strace looks at the daemon, the shims and all that they
//! start. What is looked at is slow, so nothing is timed here.

use crate::failure::{Doing, Result};
use crate::lane::{Containerd, Lane, Who};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The words of a command line that tell what a program was started for.
const VERBS: &[&str] = &["start", "delete", "create", "exec", "init", "run", "kill", "state"];

/// Of one run and one exec.
#[derive(Debug, Serialize)]
pub struct Executions {
    /// Under which daemon.
    pub containerd: Containerd,
    /// Which shim.
    pub shim: Who,
    /// Of `run --rm true`: program and verb, in their order.
    pub run: Vec<String>,
    /// Of `exec true`.
    pub exec: Vec<String>,
}

impl Executions {
    /// Looks at one of each, when there have been others.
    ///
    /// # Errors
    /// No strace; those of ctr.
    pub fn of(lane: &Lane) -> Result<Self> {
        let run = || lane.run_true();
        call(lane, &run())?;
        let run = watched(lane, &run())?;
        let container = lane.idle()?;
        call(lane, &lane.exec_true(&container))?;
        let exec = watched(lane, &lane.exec_true(&container))?;
        Ok(Self { containerd: lane.containerd, shim: lane.who, run, exec })
    }
}

fn call(lane: &Lane, words: &[String]) -> Result<()> {
    let population = lane.population()?;
    lane.run(&words.iter().map(String::as_str).collect::<Vec<_>>())?;
    lane.settle(population)
}

fn watched(lane: &Lane, words: &[String]) -> Result<Vec<String>> {
    let seen = PathBuf::from("/run/bench-shim/executions");
    let mut pids = lane.shims()?;
    pids.push(lane.daemon());
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-s", "100", "-e", "trace=execve,execveat", "-e", "status=successful", "-o"]);
    strace.arg(&seen).args(pids.iter().map(|pid| format!("--attach={pid}"))).stdin(Stdio::null());
    let mut strace = strace.spawn().doing("strace")?;
    let called =
        lane.wait_for("strace", || pids.iter().all(|pid| is_traced(*pid))).and_then(|()| call(lane, words));
    // It lets go of those it looked at.
    let ended = kill(Pid::from_raw(strace.id().cast_signed()), Signal::SIGINT).doing("end strace");
    ended.and_then(|()| strace.wait().doing("strace"))?;
    called?;
    let text = fs::read_to_string(&seen).doing(seen.display())?;
    Ok(text.lines().filter_map(program).collect())
}

/// All threads of a process.
fn is_traced(pid: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks.map(|task| fs::read_to_string(task.path().join("status")).unwrap_or_default()).all(|status| {
        status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|tracer| tracer.trim() != "0"))
    })
}

/// `NAME VERB` of a line `PID execve("PATH", ["NAME", "WORD", …], …) = 0`. A file without a path is called by its first
/// argument.
fn program(line: &str) -> Option<String> {
    let (_, call) = line.split_once("exec")?;
    let strings: Vec<&str> = call.split('"').skip(1).step_by(2).collect();
    let called = if strings.first()?.starts_with("/proc/") || strings.first()?.is_empty() { 1 } else { 0 };
    let name = Path::new(strings.get(called)?).file_name()?.to_string_lossy();
    let verb = strings.iter().skip(2).find(|word| VERBS.contains(word));
    Some(verb.map_or(name.to_string(), |verb| format!("{name} {verb}")))
}

#[cfg(test)]
mod tests {
    use super::program;

    #[test]
    fn a_program_is_named_with_its_verb() {
        for (line, name) in [
            (
                r#"7 execve("/bin/runc", ["runc", "--root", "/r", "create", "c"], 0x7 /* 3 vars */) = 0"#,
                "runc create",
            ),
            (r#"7 execve("/bin/true", ["true"], 0x7 /* 3 vars */) = 0"#, "true"),
            (
                r#"7 execveat(5, "", ["pintle-init", "4"], 0x7 /* 0 vars */, AT_EMPTY_PATH) = 0"#,
                "pintle-init",
            ),
            (r#"7 execve("/proc/self/exe", ["runc", "init"], 0x7 /* 9 vars */) = 0"#, "runc init"),
        ] {
            assert_eq!(program(line).as_deref(), Some(name), "{line}");
        }
        assert_eq!(program("7 +++ exited with 0 +++"), None);
    }
}
