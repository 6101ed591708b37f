//! The exchange with init, from the clone until all is prepared (docs/birth.md). init says what it needs, in its own
//! order; this answers. An end without a word is a death, and told as one. A caller that must not sleep goes on by turns.

use super::helper::beside;
use super::spawn::{self, Child, Ending};
use super::{ids, image, net_devices, procfs, sentence};
use crate::bail;
use crate::cgroup::Cgroup;
use crate::error::{Context, Error, Kind, Result, phrase};
use crate::plan::Birth;
use crate::plan::namespaces;
use crate::plan::process::Sync;
use crate::plan::steps::Slot;
use pintle_init::channel::{LONGEST, Message, receive_by, send_descriptor};
use pintle_init::order::{Field, Step};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::process::{PidfdGetfdFlags, Signal, geteuid, pidfd_getfd, pidfd_send_signal};
use std::ffi::CStr;

/// What the parent of a birth does while init works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent {
    /// It sleeps.
    Sleeps,
    /// It goes on, and comes back by turns. init's first process is born beside the cgroup, where nobody can hold it up before it has a
    /// memory and descriptors of its own, and bears the second in it (docs/birth.md).
    GoesOn,
}

/// Whose birth it is, and what is done at the points where init waits for more than an answer.
pub trait Caller {
    /// init goes on as process `pid`: at once, and again after a second clone.
    ///
    /// # Errors
    /// Each of these ends the birth.
    fn born(&mut self, pid: i32) -> Result<()>;

    /// Put the process, which waits for it, into its cgroup (`Birth::placed_later`).
    ///
    /// # Errors
    /// See [`Caller::born`].
    fn place(&mut self, _pid: i32) -> Result<()> {
        Ok(())
    }

    /// What can be done while init works, before it asks for anything.
    ///
    /// # Errors
    /// See [`Caller::born`].
    fn meanwhile(&mut self) -> Result<()> {
        Ok(())
    }

    /// Run the hooks of the runtime's side; returns the state for init's own.
    ///
    /// # Errors
    /// See [`Caller::born`].
    fn hooks(&mut self, _pid: i32) -> Result<Option<String>> {
        Ok(None)
    }

    /// All stands; returns the state for startContainer hooks.
    ///
    /// # Errors
    /// See [`Caller::born`].
    fn ready(&mut self, _pid: i32) -> Result<Option<String>> {
        Ok(None)
    }

    /// The filter asks an agent: `listener` is where that hears of system calls.
    ///
    /// # Errors
    /// See [`Caller::born`].
    fn filtered(&mut self, pid: i32, listener: OwnedFd) -> Result<()>;

    /// The user namespaces of mounts that init has made for it, as `Birth::mount_maps` lists them.
    fn mount_maps(&self) -> &[OwnedFd] {
        &[]
    }

    /// To say whether a death was for want of memory.
    fn cgroup(&self) -> Option<&Cgroup>;

    /// A container is being born, not a process beside one.
    fn of_container(&self) -> bool;

    /// The caller stays until the program runs: a failing execve is an error here.
    fn see_it_run(&self) -> bool;
}

/// How a child, by its process id and its pidfd, ended; none as long as it lives. Whoever is asked collects it.
pub type Endings<'a> = &'a mut dyn FnMut(i32, BorrowedFd<'_>) -> Result<Option<Ending>>;

/// A birth that goes on by itself, and has to be answered.
#[derive(Debug)]
pub struct Delivery<C> {
    caller: C,
    birth: Birth,
    child: Child,
    /// The processes before others that init went on in, until they have ended: they are collected, too.
    first: Vec<(i32, OwnedFd)>,
    /// How often init will go on in another process.
    forks: usize,
    stage: Stage,
    /// MSG_DONTWAIT for a caller that must not sleep.
    flags: RecvFlags,
}

#[derive(Debug)]
enum Stage {
    /// init works, and asks.
    Exchange,
    /// It said that all is prepared: the channel closes with the execve.
    Prepared,
    /// It closed the channel without a word: it is dying.
    Silent,
    /// Nothing has to be answered any more.
    Over(Result<()>),
}

impl<C: Caller> Delivery<C> {
    /// Answers what `child` waits for at once.
    pub fn begin(child: Child, birth: Birth, caller: C, parent: Parent) -> Self {
        let flags = if parent == Parent::Sleeps { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
        let mut forks = 0;
        birth.steps.each(|_, step| {
            forks += usize::from(matches!(step, Step::Fork { .. } | Step::ForkInto { .. }));
        });
        let (first, stage) = (Vec::new(), Stage::Exchange);
        let mut delivery = Self { caller, birth, child, first, forks, stage, flags };
        if let Err(error) = delivery.first_answers() {
            delivery.give_up(error);
        }
        delivery
    }

    /// Ends the birth. It is over when its process is.
    pub fn give_up(&mut self, error: Error) {
        if self.flags.contains(RecvFlags::DONTWAIT) {
            // It may go on in another process by now. What else it says, or fails with, plays no part any more.
            let _moot = self.hear();
        }
        for pidfd in self.first.iter().map(|(_, pidfd)| pidfd).chain([&self.child.pidfd]) {
            // ESRCH means what was wanted.
            let _gone = pidfd_send_signal(pidfd, Signal::KILL);
        }
        let of_program = error.kind() == Kind::Program;
        let error = if of_program { error } else { error.context(phrase::START_PROCESS) };
        self.stage = Stage::Over(Err(error));
    }

    /// Answers what init has asked. True: it is done, and `child` is the process that became the program's.
    ///
    /// # Errors
    /// What went wrong on either side, in runc's words; then its processes are dead.
    pub fn turn(&mut self, endings: Endings<'_>) -> Result<bool> {
        match self.hear() {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(error) => self.give_up(error),
        }
        while let Some((pid, pidfd)) = self.first.last() {
            if endings(*pid, pidfd.as_fd())?.is_none() {
                return Ok(false);
            }
            self.first.pop();
        }
        if let Stage::Over(Ok(())) = self.stage {
            return Ok(true);
        }
        let Some(ending) = endings(self.child.pid, self.child.pidfd.as_fd())? else { return Ok(false) };
        match std::mem::replace(&mut self.stage, Stage::Silent) {
            Stage::Over(over) => over.map(|()| true),
            _ => Err(self.death(ending).context(phrase::START_PROCESS)),
        }
    }

    /// Turns until it is done, for a caller that sleeps meanwhile.
    ///
    /// # Errors
    /// As for [`Delivery::turn`].
    pub fn complete(&mut self) -> Result<()> {
        while !self.turn(&mut |_, pidfd| spawn::wait(pidfd).map(Some))? {}
        Ok(())
    }

    /// What to wait for until the next turn, beside the end of its processes: input here.
    pub fn channel(&self) -> BorrowedFd<'_> {
        self.child.channel.as_fd()
    }

    /// The process by which init goes on.
    pub fn child(&self) -> &Child {
        &self.child
    }

    /// Whose birth it is.
    pub fn caller(&mut self) -> &mut C {
        &mut self.caller
    }

    /// The process, and whose birth it is.
    pub fn parts(&mut self) -> (&Child, &mut C) {
        (&self.child, &mut self.caller)
    }

    /// What is left of a birth that is over.
    pub fn into_parts(self) -> (Child, C) {
        (self.child, self.caller)
    }

    fn first_answers(&mut self) -> Result<()> {
        if self.birth.placed_later {
            self.caller.born(self.child.pid)?;
            self.caller.place(self.child.pid)?;
            self.first_go()?;
        } else {
            self.first_go()?;
            // By turns the first process only bears the second.
            if self.flags.is_empty() {
                self.caller.born(self.child.pid)?;
            }
        }
        self.caller.meanwhile()?;
        if !self.birth.loopback && self.forks == 0 {
            self.go_ahead()?;
        }
        Ok(())
    }

    /// Hears init out. True: it has nothing more to say.
    fn hear(&mut self) -> Result<bool> {
        let mut buffer = [0; LONGEST];
        while let Stage::Exchange | Stage::Prepared = self.stage {
            let (length, descriptor) = match receive_by(&self.child.channel, &mut buffer, self.flags) {
                Err(Errno::AGAIN) => return Ok(false),
                received => received.context("read from init")?,
            };
            if length == 0 {
                self.stage = match self.stage {
                    Stage::Prepared => Stage::Over(Ok(())),
                    _ => Stage::Silent,
                };
                continue;
            }
            let message =
                Message::take(&mut &buffer[..length]).map_err(|_| Error::new("init sent rubbish"))?;
            self.answer(message, descriptor)?;
        }
        Ok(true)
    }

    fn answer(&mut self, message: Message<'_>, descriptor: Option<OwnedFd>) -> Result<()> {
        match message {
            Message::Forked { pid } => {
                self.forked(pid, descriptor)?;
                if !self.birth.loopback && self.forks == 0 {
                    self.go_ahead()?;
                }
            }
            Message::Maps => self.map_ids()?,
            Message::Loopback => {
                let Some(socket) = descriptor else { bail!("init sent no socket") };
                pintle_sys::net::loopback_up(&socket).context("bring up the loopback interface")?;
                self.go_ahead()?;
            }
            Message::NetDevices => {
                let pid = self.child.pid;
                let path = format!("/proc/{pid}/ns/net");
                let namespace = openat(CWD, path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
                let socket =
                    beside(self.child.pidfd.as_fd(), namespaces::NETWORK, &[], |_| Step::SendRouteSocket {})?;
                net_devices::give(&self.birth.net_devices, socket, namespace.context(path)?)?;
                self.go(None)?;
            }
            Message::Source { step } => self.source(usize::from(step))?,
            Message::RunHooks => {
                let state = self.caller.hooks(self.child.pid)?;
                self.go_with_state(state)?;
            }
            Message::Ready => {
                self.set_limits()?;
                let state = self.caller.ready(self.child.pid)?;
                self.go_with_state(state)?;
            }
            Message::Done if self.caller.see_it_run() => self.stage = Stage::Prepared,
            Message::Done => self.stage = Stage::Over(Ok(())),
            Message::Failed { step, errno, operation, text } => {
                let error = sentence::failure(&self.birth.steps, usize::from(step), errno, operation, text);
                return Err(self.in_init(error));
            }
            Message::SeccompFd { fd } => {
                let listener = pidfd_getfd(&self.child.pidfd, fd, PidfdGetfdFlags::empty());
                // To the kernel an exec's init, which was executed before it joined, is no process of the container's.
                let why = match listener {
                    Err(Errno::PERM) if !self.caller.of_container() && !geteuid().is_root() => {
                        ": an ordinary user's exec can have no seccomp agent (listenerPath)"
                    }
                    _ => "",
                };
                let listener =
                    listener.with_context(|| format!("fetch the seccomp listener{why}: pidfd_getfd"))?;
                self.caller.filtered(self.child.pid, listener)?;
                self.go(None)?;
            }
            Message::Opened => bail!("init sent what nobody asked for"),
        }
        Ok(())
    }

    /// runc says of a container, not of an exec, that its init failed; and what fails after everything stood is the
    /// program's own failure, which init has told on the program's standard error.
    fn in_init(&self, error: Error) -> Error {
        match (matches!(self.stage, Stage::Prepared), self.caller.of_container()) {
            (true, _) => error.after_prepared(),
            (false, true) => error.context(phrase::CONTAINER_INIT),
            (false, false) => error,
        }
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
        .or_else(|errno| if errno == Errno::PIPE { Ok(()) } else { Err(errno) })
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
        let pid = self.child.pid;
        procfs::write(pid, "oom_score_adj", &score.to_string())
            .with_context(|| format!("process.oomScoreAdj: write {score} to /proc/{pid}/oom_score_adj"))
    }

    fn forked(&mut self, pid: i32, pidfd: Option<OwnedFd>) -> Result<()> {
        let Some(pidfd) = pidfd else { bail!("init sent no pidfd") };
        let first = std::mem::replace(&mut self.child.pidfd, pidfd);
        self.first.push((std::mem::replace(&mut self.child.pid, pid), first));
        let Some(left) = self.forks.checked_sub(1) else { bail!("init forked without being told") };
        self.forks = left;
        self.caller.born(pid)
    }

    /// What init may not do itself, a process with our ids does, in its mount namespace.
    fn source(&mut self, index: usize) -> Result<()> {
        let mut found = None;
        self.birth.steps.each(|n, step| {
            if let (true, Step::Bind { source, recursive, id_map_recursive, parents_map, place, .. }) =
                (n == index, step)
            {
                let (source, target) = ((*source).to_owned(), place.target.to_owned());
                found = Some((source, target, *parents_map, (*recursive, *id_map_recursive)));
            }
        });
        match found {
            Some((source, _, 0, _)) => self.open_source(&source),
            Some((source, target, map, recursive)) => {
                let Some(map) = self.caller.mount_maps().get(map as usize - 1) else {
                    bail!("init asked for maps that nobody has")
                };
                let map = map.try_clone().context("dup")?;
                let made = self.mapped_tree(&source, map, recursive);
                let tree =
                    made.map_err(|error| self.in_init(error.context(sentence::mounting(&source, &target))))?;
                self.go(Some(tree.as_fd()))
            }
            None => bail!("init asked for the source of a step that has none"),
        }
    }

    fn open_source(&self, path: &CStr) -> Result<()> {
        // Who must not sleep bears nobody with other ids than its own: what init can't open then, nobody here can.
        let opened = match self.flags.contains(RecvFlags::DONTWAIT) {
            true => Err(Error::new("nobody to open it")),
            false => beside(self.child.pidfd.as_fd(), namespaces::MOUNT, &[], |_| Step::SendPath { path }),
        };
        self.go(opened.ok().as_ref().map(AsFd::as_fd))
    }

    fn mapped_tree(&self, path: &CStr, map: OwnedFd, (recursive, all): (bool, bool)) -> Result<OwnedFd> {
        beside(self.child.pidfd.as_fd(), namespaces::MOUNT, &[map], |steps| {
            let id_map = steps.slot(Slot::MountMap(0));
            Step::SendTree { path, recursive, id_map, id_map_recursive: all }
        })
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
    fn death(&self, ending: Ending) -> Error {
        let cgroup = self.caller.cgroup();
        let shortage = cgroup.and_then(|cgroup| cgroup.shortage().ok().flatten());
        let killed = ending.signal == Some(Signal::KILL.as_raw());
        let short = shortage.is_some_and(|shortage| killed && shortage.kills > 0);
        // A page that the kernel can't give it while it is loaded is a segmentation fault.
        let faulted = ending.signal == Some(Signal::SEGV.as_raw())
            && shortage.is_some_and(|shortage| shortage.limited > 0);
        if (short || faulted) && self.caller.of_container() {
            return Error::out_of_memory(phrase::OOM_AT_START);
        }
        let error = Error::new(describe(ending)).context(phrase::CONTAINER_INIT);
        // systemd clears a unit away as soon as it is empty, and the count with it; of a container's count nobody knows
        // whether it is about this exec.
        let cleared = killed && shortage.is_none() && cgroup.is_some_and(Cgroup::is_gone);
        match short || cleared {
            true => Error::out_of_memory(format!("{error} (possibly OOM-killed)")),
            false => error,
        }
    }
}

fn describe(ending: Ending) -> String {
    match (ending.code, ending.signal) {
        (Some(code), _) => format!("init left without a word, exit status {code}"),
        (None, Some(signal)) => format!("init was killed by signal: {}", sentence::signal_name(signal)),
        (None, None) => "init is gone".to_owned(),
    }
}
