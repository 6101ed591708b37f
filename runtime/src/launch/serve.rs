//! The exchange with init, from the clone until all is prepared (docs/birth.md). init says what it needs, in its own
//! order; this answers. An end without a word is a death, and told as one.

use super::spawn::{self, Child};
use super::{ids, image, sentence};
use crate::bail;
use crate::cgroup::Cgroup;
use crate::error::{Context, Error, Kind, Result, phrase};
use crate::plan::Birth;
use crate::plan::namespaces;
use crate::plan::process::Sync;
use pintle_init::channel::{LONGEST, Message, receive, send_descriptor};
use pintle_init::order::{Field, Step};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::process::{Signal, WaitIdStatus};
use std::cell::OnceCell;

/// What the caller does at the two points where init waits for more than an answer.
pub struct Caller<'a> {
    /// init goes on as process `pid`: at once, and again after a second clone.
    pub born: &'a mut dyn FnMut(i32) -> Result<()>,
    /// Put the process, which waits for it, into its cgroup (`Birth::placed_later`).
    pub place: &'a mut dyn FnMut(i32) -> Result<()>,
    /// What can be done while init works, before it asks for anything.
    pub meanwhile: &'a mut dyn FnMut() -> Result<()>,
    /// Run the hooks of the runtime's side; returns the state for init's own.
    pub hooks: &'a mut dyn FnMut(i32) -> Result<Option<String>>,
    /// All stands: record it; returns the state for startContainer hooks.
    pub ready: &'a mut dyn FnMut(i32) -> Result<Option<String>>,
    /// To say whether a death was for want of memory.
    pub cgroup: &'a OnceCell<Cgroup>,
    /// A container is being born, not a process beside one.
    pub of_container: bool,
    /// The caller stays until the program runs: a failing execve is an error here.
    pub see_it_run: bool,
}

/// Answers `child` until it is done; returns the process that became the program's.
///
/// # Errors
/// What went wrong on either side, in runc's words; then nothing of the child is left.
pub fn serve(child: Child, birth: &Birth, caller: &mut Caller<'_>) -> Result<Child> {
    let mut serving = Serving { child, birth };
    match serving.run(caller) {
        Ok(()) => Ok(serving.child),
        Err(error) => {
            spawn::end(&serving.child);
            Err(if error.kind() == Kind::Program { error } else { error.context(phrase::START_PROCESS) })
        }
    }
}

struct Serving<'a> {
    child: Child,
    birth: &'a Birth,
}

impl Serving<'_> {
    fn run(&mut self, caller: &mut Caller<'_>) -> Result<()> {
        if self.birth.placed_later {
            (caller.born)(self.child.pid)?;
            (caller.place)(self.child.pid)?;
            self.first_go()?;
        } else {
            self.first_go()?;
            (caller.born)(self.child.pid)?;
        }
        (caller.meanwhile)()?;
        let forks = self.forks();
        if !self.birth.loopback && !forks {
            self.go_ahead()?;
        }
        let mut buffer = [0; LONGEST];
        let mut done = false;
        loop {
            let (length, descriptor) = receive(&self.child.channel, &mut buffer).context("read from init")?;
            if length == 0 {
                // After `Done` the socket closes with the execve.
                return if done { Ok(()) } else { Err(self.death(caller)) };
            }
            let message =
                Message::take(&mut &buffer[..length]).map_err(|_| Error::new("init sent rubbish"))?;
            match message {
                Message::Forked { pid } => {
                    self.forked(pid, descriptor, caller)?;
                    if !self.birth.loopback {
                        self.go_ahead()?;
                    }
                }
                Message::Maps => self.map_ids()?,
                Message::Loopback => {
                    let Some(socket) = descriptor else { bail!("init sent no socket") };
                    pintle_sys::net::loopback_up(&socket).context("bring up the loopback interface")?;
                    self.go_ahead()?;
                }
                Message::Source { step } => self.open_source(usize::from(step))?,
                Message::RunHooks => {
                    let state = (caller.hooks)(self.child.pid)?;
                    self.go_with_state(state)?;
                }
                Message::Ready => {
                    self.set_limits()?;
                    let state = (caller.ready)(self.child.pid)?;
                    self.go_with_state(state)?;
                }
                Message::Done if caller.see_it_run => done = true,
                Message::Done => return Ok(()),
                Message::Failed { step, errno, operation, text } => {
                    let error =
                        sentence::failure(&self.birth.steps, usize::from(step), errno, operation, text);
                    return Err(self.in_init(error, done, caller));
                }
                Message::SeccompFd { .. } | Message::Opened => bail!("init sent what nobody asked for"),
            }
        }
    }

    /// runc says of a container, not of an exec, that its init failed; and what fails after everything stood is the
    /// program's own failure, which init has told on the program's standard error.
    fn in_init(&self, error: Error, done: bool, caller: &Caller<'_>) -> Error {
        match (done, caller.of_container) {
            (true, _) => error.after_prepared(),
            (false, true) => error.context(phrase::CONTAINER_INIT),
            (false, false) => error,
        }
    }

    /// A second process will go on, which is the one to be given a score and a go.
    fn forks(&self) -> bool {
        let mut forks = false;
        self.birth.steps.each(|_, step| forks |= matches!(step, Step::Fork { .. }));
        forks
    }

    /// What init waits for at once: its maps, its cgroup, or nothing.
    fn first_go(&self) -> Result<()> {
        match self.birth.namespaces & namespaces::USER != 0 {
            true => self.map_ids(),
            false if self.birth.placed_later => self.go(None),
            false => Ok(()),
        }
    }

    /// The parent's part is done: said before it is asked for, so that init finds it there and need not sleep.
    fn go_ahead(&self) -> Result<()> {
        if self.birth.sync != Some(Sync::Init) {
            return Ok(());
        }
        self.adjust_oom_score()?;
        self.go(None)
    }

    fn go(&self, descriptor: Option<BorrowedFd<'_>>) -> Result<()> {
        match descriptor {
            Some(fd) => send_descriptor(&self.child.channel, b"g", fd),
            None => rustix::net::send(&self.child.channel, b"g", rustix::net::SendFlags::NOSIGNAL).map(drop),
        }
        // init is gone: the next message says why.
        .or_else(|errno| if errno == rustix::io::Errno::PIPE { Ok(()) } else { Err(errno) })
        .context("write to init")
    }

    fn go_with_state(&self, state: Option<String>) -> Result<()> {
        let file = state.map(|state| image::data("pintle-state", state.as_bytes())).transpose()?;
        self.go(file.as_ref().map(AsFd::as_fd))
    }

    fn map_ids(&self) -> Result<()> {
        if let Some(maps) = &self.birth.id_maps {
            ids::write(self.child.pid, maps)?;
        }
        self.adjust_oom_score()?;
        self.go(None)
    }

    fn adjust_oom_score(&self) -> Result<()> {
        let Some(score) = self.birth.oom_score_adj else { return Ok(()) };
        let path = format!("/proc/{}/oom_score_adj", self.child.pid);
        std::fs::write(&path, score.to_string())
            .with_context(|| format!("process.oomScoreAdj: write {score} to {path}"))
    }

    fn forked(&mut self, pid: i32, pidfd: Option<OwnedFd>, caller: &mut Caller<'_>) -> Result<()> {
        let Some(pidfd) = pidfd else { bail!("init sent no pidfd") };
        let first = std::mem::replace(&mut self.child.pidfd, pidfd);
        self.child.pid = pid;
        spawn::wait(first.as_fd())?;
        (caller.born)(pid)
    }

    /// For an init whose ids can't reach a source: a process with ours, in its mount namespace, opens it.
    fn open_source(&self, index: usize) -> Result<()> {
        let mut source = None;
        self.birth.steps.each(|n, step| {
            if let (true, Step::Bind { source: path, .. }) = (n == index, step) {
                source = Some((*path).to_owned());
            }
        });
        let Some(source) = source else { bail!("init asked for the source of a step that has none") };
        let opened = open_beside(self.child.pid, &source);
        match opened {
            Ok(fd) => self.go(Some(fd.as_fd())),
            Err(_) => self.go(None),
        }
    }

    fn set_limits(&self) -> Result<()> {
        if self.birth.id_maps.is_none() {
            self.adjust_oom_score()?;
        }
        for limit in &self.birth.rlimits {
            pintle_sys::process::set_limit_of(self.child.pid, limit.resource, limit.soft, limit.hard)
                .with_context(|| {
                    format!("error setting rlimits for ready process: error setting rlimit {}", limit.name)
                })?;
        }
        Ok(())
    }

    /// init ended without a word. The socket closes a moment before the process is dead.
    fn death(&self, caller: &Caller<'_>) -> Error {
        let status = match spawn::wait(self.child.pidfd.as_fd()) {
            Ok(status) => status,
            Err(error) => return error,
        };
        let shortage = caller.cgroup.get().and_then(|cgroup| cgroup.shortage().ok().flatten());
        let signal = status.terminating_signal();
        let killed = signal == Some(Signal::KILL.as_raw());
        let short = shortage.is_some_and(|shortage| killed && shortage.kills > 0);
        // A page that the kernel can't give it while it is loaded is a segmentation fault.
        let faulted =
            signal == Some(Signal::SEGV.as_raw()) && shortage.is_some_and(|shortage| shortage.limited > 0);
        if (short || faulted) && caller.of_container {
            return Error::out_of_memory(phrase::OOM_AT_START);
        }
        let error = Error::new(describe(status)).context(phrase::CONTAINER_INIT);
        // systemd clears a unit away as soon as it is empty, and the count with it; of a container's count nobody knows
        // whether it is about this exec.
        let cleared = killed && shortage.is_none() && caller.cgroup.get().is_some_and(Cgroup::is_gone);
        match short || cleared {
            true => Error::out_of_memory(format!("{error} (possibly OOM-killed)")),
            false => error,
        }
    }
}

fn describe(status: WaitIdStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("init left without a word, exit status {code}"),
        (None, Some(signal)) => format!("init was killed by signal: {}", sentence::signal_name(signal)),
        (None, None) => "init is gone".to_owned(),
    }
}

/// Opens `path` as this process would, in the mount namespace of `pid`.
fn open_beside(pid: i32, path: &std::ffi::CStr) -> Result<OwnedFd> {
    use crate::plan::steps::{Slot, Steps};
    let process = rustix::process::Pid::from_raw(pid).ok_or_else(|| Error::new("no process"))?;
    let pidfd =
        rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty()).context("pidfd_open")?;
    let mut steps = Steps::new();
    steps.push(&Step::Undumpable {});
    let descriptor = steps.slot(Slot::ContainerInit);
    steps.push(&Step::Join { kinds: namespaces::MOUNT, descriptor, deferrable: false });
    steps.push(&Step::SendPath { path });
    let birth = Birth { steps, first_private: 3, ..Birth::default() };
    let descriptors =
        spawn::Descriptors { container_init: Some(pidfd.as_fd()), ..spawn::Descriptors::default() };
    let helper = spawn::init(&birth, &descriptors, None)?;
    let mut buffer = [0; LONGEST];
    let answer = receive(&helper.channel, &mut buffer).context("read from helper");
    spawn::end(&helper);
    answer?.1.ok_or_else(|| Error::new("open: permission denied"))
}
