//! One command of a runtime, run once and measured: its wall time, from before the spawn to the moment its pidfd is
//! readable, or the peak of its memory. Its exit status is always looked at. See pidfd_open(2), ptrace(2).

use crate::failure::{Doing, Failure, Result};
use nix::sys::ptrace::{self, Event, Options};
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;
use rustix::process::{PidfdFlags, pidfd_open};
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Instant;

/// Longer than any command of a runtime that works.
const PATIENCE: Timespec = Timespec { tv_sec: 20, tv_nsec: 0 };

/// The first argument that makes this binary hold itself and become what follows.
pub const HOLD: &str = "hold";

/// What a command is measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meter {
    /// Milliseconds.
    Wall,
    /// KiB: the most that was resident at once in the process itself, without its children.
    Peak,
}

impl Meter {
    /// What commands that follow one another cost together.
    pub fn together(self, figures: &[f64]) -> f64 {
        match self {
            Self::Wall => figures.iter().sum(),
            Self::Peak => figures.iter().copied().fold(0.0, f64::max),
        }
    }
}

/// A command line, and where its standard error goes: a file, since a container would hold a pipe open.
#[derive(Debug)]
pub struct Invocation {
    /// The program's path.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// File for standard error.
    pub stderr: PathBuf,
}

impl Invocation {
    /// Runs it and gives the figure.
    ///
    /// # Errors
    /// It can't be started, does not end, or does not succeed: then with its standard error.
    pub fn measure(&self, meter: Meter) -> Result<f64> {
        match meter {
            Meter::Wall => self.wall(),
            Meter::Peak => self.peak(),
        }
    }

    fn wall(&self) -> Result<f64> {
        let mut command = self.prepare(Command::new(&self.program))?;
        let begin = Instant::now();
        let mut child = command.spawn().doing(self)?;
        let in_time = ends_in_time(&child).doing(self)?;
        let taken = begin.elapsed();
        if !in_time {
            // It may have ended just now; it is collected either way.
            let _ended = child.kill();
            child.wait().doing(self)?;
            return Err(Failure::Hangs(self.to_string()));
        }
        let status = child.wait().doing(self)?;
        self.check(status.success(), &status)?;
        Ok(taken.as_secs_f64() * 1000.0)
    }

    /// The rusage of wait4(2) would not do: it counts what the child waited for, and this process as it was at the
    /// spawn. So the kernel stops the process at its exit, where /proc still tells its own peak.
    fn peak(&self) -> Result<f64> {
        let own = std::env::current_exe().doing("own path")?;
        let mut holder = Command::new(own);
        holder.arg(HOLD).arg(&self.program);
        let child = self.prepare(holder)?.spawn().doing(self)?;
        let pid = Pid::from_raw(i32::try_from(child.id()).doing("pid")?);
        waitpid(pid, Some(WaitPidFlag::WUNTRACED)).doing(self)?;
        ptrace::seize(pid, Options::PTRACE_O_TRACEEXIT).doing("ptrace")?;
        kill(pid, Signal::SIGCONT).doing("SIGCONT")?;
        let (peak, status) = follow(pid)?;
        self.check(status == WaitStatus::Exited(pid, 0), &format_args!("{status:?}"))?;
        peak.ok_or_else(|| Failure::new(format!("{self}: not seen at its exit")))
    }

    fn prepare(&self, mut command: Command) -> Result<Command> {
        let err = File::create(&self.stderr).doing(self.stderr.display())?;
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(err);
        // cargo's LD_LIBRARY_PATH would slow the dynamically linked ones.
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        Ok(command)
    }

    fn check(&self, success: bool, status: &dyn std::fmt::Display) -> Result<()> {
        if success {
            return Ok(());
        }
        let said = fs::read_to_string(&self.stderr).unwrap_or_default();
        Err(Failure::Told(format!("{self}: {status}\n{}", said.trim_end())))
    }
}

impl std::fmt::Display for Invocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.program.display())?;
        self.arguments.iter().try_for_each(|word| write!(f, " {}", word.display()))
    }
}

fn ends_in_time(child: &Child) -> rustix::io::Result<bool> {
    let pidfd = pidfd_open(rustix::process::Pid::from_child(child), PidfdFlags::empty())?;
    ends(pidfd.as_fd())
}

/// Whether the process of a pidfd ends before patience does.
///
/// # Errors
/// Those of poll(2).
pub fn ends(pidfd: rustix::fd::BorrowedFd<'_>) -> rustix::io::Result<bool> {
    Ok(poll(&mut [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)], Some(&PATIENCE))? > 0)
}

/// Lets a seized process run to its end; gives its peak and how it ended.
fn follow(pid: Pid) -> Result<(Option<f64>, WaitStatus)> {
    let mut peak = None;
    loop {
        match waitpid(pid, Some(WaitPidFlag::__WALL)).doing("wait")? {
            WaitStatus::PtraceEvent(_, _, event) => {
                if event == Event::PTRACE_EVENT_EXIT as i32 {
                    peak = Some(high_water(pid)?);
                }
                ptrace::cont(pid, None).doing("ptrace")?;
            }
            WaitStatus::Stopped(_, signal) => ptrace::cont(pid, signal).doing("ptrace")?,
            ended => return Ok((peak, ended)),
        }
    }
}

fn high_water(pid: Pid) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).doing(&path)?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    number.ok_or_else(|| Failure::new(format!("{path}: no VmHWM")))
}

/// What `hold PROGRAM ARGS` does: stops until someone has taken hold of this process, then becomes PROGRAM.
pub fn hold(mut words: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(program) = words.next() else { return ExitCode::FAILURE };
    if raise(Signal::SIGSTOP).is_ok() {
        let error = Command::new(&program).args(words).exec();
        eprintln!("{}: {error}", program.display());
    }
    ExitCode::FAILURE
}
