//! The only place that starts processes: init, hooks and host programs.

use super::{affinity, image};
use crate::bail;
use crate::error::{Context, Error, Result};
use crate::host::Opened;
use crate::log;
use crate::plan::Birth;
use crate::plan::steps::Slot;
use crate::spec::Hook;
use pintle_sys::spawn::{Birth as Raw, spawn};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use std::ffi::CString;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The descriptors that a birth's slots stand for.
#[derive(Debug, Default)]
pub struct Descriptors<'a> {
    /// Namespaces to join.
    pub opened: Option<&'a Opened>,
    /// pidfd of the container's init.
    pub container_init: Option<BorrowedFd<'a>>,
    /// The container's time namespace.
    pub container_time: Option<BorrowedFd<'a>>,
    /// User namespaces of id-mapped mounts.
    pub mount_maps: &'a [OwnedFd],
    /// Where the terminal's master goes.
    pub console: Option<BorrowedFd<'a>>,
    /// Where the pidfd goes.
    pub pidfd_socket: Option<BorrowedFd<'a>>,
    /// What `start` opens.
    pub fifo: Option<BorrowedFd<'a>>,
    /// Where a second process is to be born.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Standard streams in place of the caller's.
    pub stdio: [Option<BorrowedFd<'a>>; 3],
}

impl Descriptors<'_> {
    fn number(&self, slot: Slot, channel: BorrowedFd<'_>) -> Result<RawFd> {
        let found = match slot {
            Slot::Channel => Some(channel),
            Slot::Namespace(n) => {
                self.opened.and_then(|opened| opened.namespaces.get(n)?.as_ref()).map(AsFd::as_fd)
            }
            Slot::ContainerInit => self.container_init,
            Slot::ContainerTime => self.container_time,
            Slot::MountMap(n) => self.mount_maps.get(n).map(AsFd::as_fd),
            Slot::Console => self.console,
            Slot::PidfdSocket => self.pidfd_socket,
            Slot::Fifo => self.fifo,
            Slot::Cgroup => self.cgroup,
        };
        match found {
            Some(fd) => Ok(fd.as_raw_fd()),
            None => bail!("no descriptor for {slot:?}"),
        }
    }
}

/// A process that was started and not waited for.
#[derive(Debug)]
pub struct Child {
    /// Process id.
    pub pid: i32,
    /// pidfd.
    pub pidfd: OwnedFd,
    /// The socket to it.
    pub channel: OwnedFd,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// What it said itself.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
}

/// Starts init with the steps of `birth`, in `cgroup` if there is one.
///
/// # Errors
/// Those of clone3(2) in words; namespaces that the kernel does not give.
pub fn init(birth: &Birth, descriptors: &Descriptors<'_>, cgroup: Option<BorrowedFd<'_>>) -> Result<Child> {
    let (channel, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .context("socketpair")?;
    let slots = birth.steps.slots().iter();
    let mut numbers =
        slots.map(|slot| descriptors.number(*slot, theirs.as_fd())).collect::<Result<Vec<_>>>()?;
    let order = image::data("pintle-order", &birth.steps.order(birth.first_private, &numbers))?;
    numbers.push(order.as_raw_fd());
    let place = CString::new(order.as_raw_fd().to_string()).map_err(|_| Error::new("order"))?;
    let image = image::executable()?;
    // In runc's words, as people look for them in a debug log.
    log::debug("nsexec container setup");
    let raw = Raw {
        image: image.as_fd(),
        arguments: &[c"pintle-init", &place],
        inherit: &numbers,
        first_private: birth.first_private,
        stdio: descriptors.stdio.map(|end| end.map_or(-1, |end| end.as_raw_fd())),
        namespaces: u64::from(birth.namespaces),
        cgroup,
        keep_capabilities: birth.keep_capabilities,
    };
    let (born, processors) = match &birth.initial_affinity {
        Some(processors) => affinity::while_on(processors, || spawn(&raw))?,
        None => (spawn(&raw), affinity::Shown::default()),
    };
    let (pid, pidfd) = born.map_err(unborn).context("clone3")?;
    log::debug(format_args!("nsexec[{pid}]: affinity: {processors}"));
    log::debug(format_args!("child process in init(): {pid}"));
    Ok(Child { pid, pidfd, channel })
}

/// init has two short arguments: that they are too many means that the cgroup has no page for them.
fn unborn(errno: Errno) -> Error {
    match errno {
        Errno::TOOBIG => Error::out_of_memory("no memory for init's arguments (memory limit too low?)"),
        other => other.into(),
    }
}

/// Keeps the numbers of the descriptors to be handed over, from 3 on, from being given to anything of the runtime's: those that the caller
/// promised to hand over and did not open stay closed for the program.
///
/// # Errors
/// No descriptors left.
pub fn occupy(listen_fds: u32, preserve_fds: u32) -> Result<Vec<OwnedFd>> {
    let sum = listen_fds.checked_add(preserve_fds).and_then(|sum| sum.checked_add(3));
    let Some(first_private) = sum else {
        bail!("{listen_fds} + {preserve_fds} descriptors are more than there can be")
    };
    let mut held = Vec::new();
    if first_private <= 3 {
        return Ok(held);
    }
    loop {
        let fd = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).context("open /")?;
        if fd.as_raw_fd() as u32 >= first_private {
            return Ok(held);
        }
        held.push(fd);
    }
}

/// Kills and collects a child; it being gone already is as good.
pub fn end(child: &Child) {
    // ESRCH and ECHILD mean what was wanted.
    let _gone = pidfd_send_signal(&child.pidfd, Signal::KILL);
    let _collected = wait(child.pidfd.as_fd());
}

/// Waits for a child's end.
///
/// # Errors
/// ECHILD when it is not (or no longer) a child.
pub fn wait(pidfd: BorrowedFd<'_>) -> Result<Ending> {
    loop {
        match waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED) {
            Err(Errno::INTR) => {}
            Ok(Some(status)) => {
                return Ok(Ending { code: status.exit_status(), signal: status.terminating_signal() });
            }
            Ok(None) => bail!("waitid: no status"),
            Err(errno) => return Err(errno).context("waitid"),
        }
    }
}

/// Whether a process, anybody's child, has ended; without waiting for that.
///
/// # Errors
/// None in practice.
pub fn has_ended(pidfd: BorrowedFd<'_>) -> Result<bool> {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    loop {
        match poll(&mut [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)], Some(&now)) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).context("poll"),
        }
    }
}

/// runc's exit status for a process that ended so: its own, or 128 and the signal.
pub fn exit_code(ending: Ending) -> u8 {
    match (ending.code, ending.signal) {
        (Some(code), _) => code as u8,
        (None, Some(signal)) => 128u8.wrapping_add(signal as u8),
        (None, None) => 255,
    }
}

/// Runs a host program to its end and returns what it printed.
///
/// # Errors
/// A program that is missing or fails, with its standard error.
pub fn output(program: &str, arguments: &[String]) -> Result<Vec<u8>> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().context(program)?;
    if !output.status.success() {
        bail!("{program}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(output.stdout)
}

/// Runs one hook of the runtime's side, with `state` on its standard input and `directory` to work in.
///
/// # Errors
/// In runc's words: its exit status, its signal, its time, with all that it said.
pub fn hook(hook: &Hook, state: &str, directory: &Path) -> Result<()> {
    use std::os::unix::process::CommandExt;
    let arguments = hook.args().clone().unwrap_or_default();
    let mut command = Command::new(hook.path());
    if let Some((name, rest)) = arguments.split_first() {
        command.arg0(name).args(rest);
    }
    let variables = hook.env().iter().flatten().filter_map(|variable| variable.split_once('='));
    let stdin = std::fs::File::from(image::data("pintle-state", state.as_bytes())?);
    use std::io::Seek;
    (&stdin).rewind().context("rewind")?;
    let mut child = command
        .env_clear()
        .envs(variables)
        .current_dir(directory)
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| Error::from(error).context(format!("fork/exec {}", hook.path().display())))?;
    let mut said = [Vec::new(), Vec::new()];
    let limit = hook.timeout().and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    let in_time = attend(&mut child, &mut said, limit)?;
    if !in_time {
        child.kill().context("kill hook")?;
    }
    let status = child.wait().context("wait for hook")?;
    if let (false, Some(limit)) = (in_time, limit) {
        bail!("hook ran past specified timeout of {:.1}s", limit.as_secs_f64());
    }
    if !status.success() {
        use std::os::unix::process::ExitStatusExt;
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (None, signal) => format!("signal: {}", super::sentence::signal_name(signal.unwrap_or(0))),
        };
        let [out, err] = said.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        bail!("{how}, stdout: {out}, stderr: {err}");
    }
    Ok(())
}

/// Reads what the hook says until it ends; false when its time is up first. A grandchild that keeps the pipes open
/// does not keep the hook alive.
fn attend(child: &mut std::process::Child, said: &mut [Vec<u8>; 2], limit: Option<Duration>) -> Result<bool> {
    /// No more of a hook's words than fits an error.
    const MOST: usize = 16 << 10;
    let pid = rustix::process::Pid::from_child(child);
    let pidfd =
        rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).context("pidfd_open")?;
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    let deadline = limit.map(|limit| Instant::now() + limit);
    let mut words = [0; 4096];
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(false);
        }
        let mut events = vec![PollFd::new(&pidfd, PollFlags::IN)];
        events.extend(out.as_ref().map(|out| PollFd::new(out, PollFlags::IN)));
        events.extend(err.as_ref().map(|err| PollFd::new(err, PollFlags::IN)));
        let timeout =
            left.map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
        match poll(&mut events, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).context("poll"),
        }
        let ready: Vec<bool> = events.iter().map(|event| !event.revents().is_empty()).collect();
        let out_ready = out.is_some() && ready.get(1) == Some(&true);
        let err_ready =
            err.is_some() && ready.last() == Some(&true) && ready.len() > 1 + usize::from(out.is_some());
        let mut read = |pipe: &mut dyn Read, said: &mut Vec<u8>| -> Result<bool> {
            let length = pipe.read(&mut words).context("read hook's output")?;
            said.extend(words[..length].iter().take(MOST.saturating_sub(said.len())));
            Ok(length > 0)
        };
        if out_ready && !out.as_mut().map_or(Ok(false), |pipe| read(pipe, &mut said[0]))? {
            out = None;
        }
        if err_ready && !err.as_mut().map_or(Ok(false), |pipe| read(pipe, &mut said[1]))? {
            err = None;
        }
        // What it said is read; a grandchild that goes on talking is not waited for.
        if ready[0] {
            return Ok(true);
        }
    }
}
