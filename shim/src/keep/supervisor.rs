//! The supervisor of one container: one thread, one epoll, in the background. It has the runtime bear the container, copies what it prints
//! into the log and to clients, writes down how it ended, and has it born again where that is wanted.

use super::args::{Run, absolute};
use super::clients::Clients;
use super::log::Log;
use super::packet::{Packet, Stream};
use super::restart::{self, Restart};
use super::state::{Folder, Record, SOCKET, Status};
use super::streams::Streams;
use super::{PATIENCE, default_root};
use crate::idle::Idle;
use crate::poll::{EventFlags, Poll, Token};
use crate::runtime::{self, INIT_PID, Runtime};
use crate::server::block_signals;
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use pintle::error::{Context as _, Error, Result};
use pintle::time::rfc3339_nano;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, WaitOptions, WaitStatus};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// The status of a container that was to be started again and could not be.
const NOT_STARTED: u8 = 125;
/// Where the log is that nobody named, in the container's directory.
const LOG: &str = "log";
/// Names the signal that ends a container, as images have it.
const STOP_SIGNAL: &str = "org.opencontainers.image.stopSignal";
/// How long until another try to write down what could not be.
const AGAIN: Duration = Duration::from_secs(1);

/// What the supervisor waits for.
#[derive(Debug)]
enum Phase {
    /// For the runtime, called when its records ended at the mark.
    Birth { child: Pid, mark: u64 },
    /// For the container's first process, which it is the parent of.
    Running { pid: Pid, since: Instant },
    /// For the runtime, which clears away.
    Clearing { child: Pid, lived: Duration },
    /// For the moment of another birth.
    Pause { until: Instant },
    /// For nothing any more.
    Over,
}

/// What `stop` asked for.
#[derive(Debug)]
struct Stop {
    /// What is sent first.
    signal: i32,
    /// It was asked for, and nothing is started again.
    asked: bool,
    /// When it is killed.
    deadline: Option<Instant>,
}

struct Supervisor {
    folder: Folder,
    record: Record,
    /// When the record has to be written again, which could not be.
    unsaved: Option<Instant>,
    policy: Restart,
    pause: Option<Duration>,
    runtime: Runtime,
    poll: Poll,
    signals: SignalFd,
    clients: Clients,
    log: Log,
    streams: Streams,
    phase: Phase,
    /// Children that ended while the runtime had not said yet whose they are.
    early: Vec<(Pid, WaitStatus)>,
    stop: Stop,
    /// Who waits for the first birth.
    caller: Option<OwnedFd>,
}

/// Is the supervisor, from its beginning to its end. The first birth, or why there was none, is told on standard output.
pub fn supervise(home: &Path, run: &Run) {
    let caller = match leave_caller() {
        Ok(caller) => caller,
        // Then nobody can be told.
        Err(_) => return,
    };
    match Supervisor::new(home, run) {
        Ok(mut supervisor) => {
            supervisor.caller = Some(caller);
            if let Err(error) = supervisor.live() {
                supervisor.record.trouble = error.to_string();
                supervisor.tell(Err(&error));
            }
            // The lock goes with the process and not before: who finds it free finds no supervisor, either.
            std::mem::forget(supervisor);
        }
        Err(error) => tell(caller, Err(&error)),
    }
}

/// Gives back what was the caller's: its session and its open files.
fn leave_caller() -> Result<OwnedFd> {
    pintle_sys::fd::close_all_but(3, std::iter::empty()).context("close_range")?;
    rustix::process::setsid().context("setsid")?;
    let caller = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3).context("dup")?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .context("open /dev/null")?;
    rustix::stdio::dup2_stdout(&null).context("dup2")?;
    rustix::process::set_child_subreaper(Pid::from_raw(1)).context("become a subreaper")?;
    Ok(caller)
}

fn tell(caller: OwnedFd, born: std::result::Result<(), &Error>) {
    let words = born.map_or_else(|error| format!("-{error}"), |()| "+".to_owned());
    // It may not have waited.
    let _unheard = std::fs::File::from(caller).write_all(words.as_bytes());
}

fn now() -> String {
    rfc3339_nano(SystemTime::now())
}

impl Supervisor {
    /// Everything but the container.
    fn new(home: &Path, run: &Run) -> Result<Self> {
        let bundle = absolute(&run.bundle)?;
        let spec = pintle::spec::load(&bundle)?;
        let terminal = spec.process.as_ref().is_some_and(|process| process.terminal == Some(true));
        let signal =
            spec.annotations.as_ref().and_then(|all| all.get(STOP_SIGNAL)).filter(|text| !text.is_empty());
        let signal = signal.map_or(Ok(Signal::SIGTERM as i32), |text| pintle::cli::signal::parse(text));
        let signal = signal.with_context(|| format!("annotations.{STOP_SIGNAL}"))?;
        let root = run.root.as_deref().map_or_else(default_root, absolute)?;
        let log = run.log.as_deref().map(absolute).transpose()?;
        let home = absolute(home)?;
        std::env::set_current_dir("/").context("chdir")?;
        let folder = Folder::make(&home, &run.id)?;
        let record = Record {
            id: run.id.clone(),
            status: Status::Starting,
            pid: 0,
            exit_status: None,
            restarts: 0,
            created: now(),
            finished: String::new(),
            trouble: String::new(),
            supervisor: std::process::id(),
            bundle,
            root,
            systemd_cgroup: run.systemd_cgroup,
            log: log.unwrap_or_else(|| folder.path.join(LOG)),
            log_files: run.log_files,
            terminal,
            interactive: run.interactive || terminal,
        };
        Self::with(folder, record, run, signal)
    }

    fn with(folder: Folder, record: Record, run: &Run, signal: i32) -> Result<Self> {
        let made = (|| {
            let poll = Poll::new()?;
            let signals = block_signals()?;
            poll.add(&signals, Token::Signals, EventFlags::IN).context("epoll_ctl")?;
            let log = Log::open(&record.log, run.log_size, run.log_files)?;
            let clients = Clients::listen(&folder.path.join(SOCKET), &poll)?;
            Ok((poll, signals, log, clients))
        })();
        let (poll, signals, log, clients) = match made {
            Ok(made) => made,
            Err(error) => {
                folder.remove()?;
                return Err(error);
            }
        };
        Ok(Self {
            runtime: record.runtime(&folder),
            folder,
            record,
            unsaved: None,
            policy: run.restart,
            pause: None,
            poll,
            signals,
            clients,
            log,
            streams: Streams::default(),
            phase: Phase::Over,
            early: Vec::new(),
            stop: Stop { signal, asked: false, deadline: None },
            caller: None,
        })
    }

    fn live(&mut self) -> Result<()> {
        self.bear();
        let mut idle = Idle::default();
        while !matches!(self.phase, Phase::Over) || self.unsaved.is_some() {
            let events = self.poll.wait(self.due().into_iter().chain(idle.due()).min())?;
            idle.awake(!events.is_empty());
            for (token, flags) in events {
                self.event(token, flags);
            }
            self.alarms();
        }
        Ok(())
    }

    /// Until when one may sleep.
    fn due(&self) -> Option<Instant> {
        let pause = match self.phase {
            Phase::Pause { until } => Some(until),
            _ => None,
        };
        [pause, self.stop.deadline, self.unsaved].into_iter().flatten().min()
    }

    fn alarms(&mut self) {
        let now = Instant::now();
        let is_due = |moment: Option<Instant>| moment.is_some_and(|moment| moment <= now);
        if is_due(self.stop.deadline) {
            self.stop.deadline = None;
            self.kill();
        }
        if is_due(self.unsaved) {
            self.save();
        }
        if let Phase::Pause { until } = self.phase
            && until <= now
        {
            self.record.restarts += 1;
            self.bear();
        }
    }

    fn event(&mut self, token: Token, flags: EventFlags) {
        match token {
            Token::Listener => self.clients.accept(&self.poll),
            Token::Signals => self.take_signals(),
            Token::Peer(client) => self.hear(client, flags),
            Token::Relay(stream) => drop(self.copy(if stream == 0 { Stream::Out } else { Stream::Err })),
            Token::Input => {
                self.streams.flush();
                self.clients.hold(&self.poll, self.streams.is_full());
            }
            Token::Publisher | Token::Memory(_) | Token::Release(_) | Token::Logger(_) | Token::Birth(_) => {}
        }
    }

    fn take_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            match i32::try_from(signal.ssi_signo).map(Signal::try_from) {
                Ok(Ok(Signal::SIGCHLD)) => self.reap(),
                _ => self.end(PATIENCE),
            }
        }
    }

    fn hear(&mut self, client: u32, flags: EventFlags) {
        match self.clients.receive(client) {
            Some(Packet::Input(bytes)) if self.record.interactive => {
                self.streams.write(&bytes);
                self.clients.hold(&self.poll, self.streams.is_full());
            }
            Some(Packet::Size(rows, columns)) => self.streams.resize(rows, columns),
            Some(Packet::Stop(seconds)) => self.end(seconds),
            Some(_) => {}
            // Gone, while it was not read from.
            None if flags.contains(EventFlags::HUP) => self.clients.lose(client),
            None => {}
        }
    }

    /// Passes on what the container printed, in its turn; whether there was anything.
    fn copy(&mut self, stream: Stream) -> bool {
        let Some(bytes) = self.streams.read(stream) else { return false };
        let logged = self.log.write(stream, &bytes, &now());
        self.note(logged);
        self.clients.send(stream, bytes);
        true
    }

    /// What goes wrong beside the container's life is written down.
    fn note(&mut self, done: Result<()>) {
        if let Err(error) = done {
            self.record.trouble = format!("{}: {error}", now());
            self.save();
        }
    }

    fn save(&mut self) {
        self.unsaved = self.folder.save(&self.record).err().map(|_| Instant::now() + AGAIN);
    }

    /// Calls the runtime.
    fn bear(&mut self) {
        self.record.status = Status::Starting;
        self.save();
        let mark = self.runtime.mark();
        match self.call_run() {
            Ok(child) => self.phase = Phase::Birth { child, mark },
            Err(error) => self.not_born(&error),
        }
    }

    fn call_run(&mut self) -> Result<Pid> {
        let mut command = self.runtime.command();
        let pid_file = self.pid_file();
        command
            .args(["run", "--detach", "--bundle"])
            .arg(&self.record.bundle)
            .arg("--pid-file")
            .arg(pid_file);
        let (terminal, interactive) = (self.record.terminal, self.record.interactive);
        self.streams = Streams::lay(&mut command, &self.poll, &self.folder.path, terminal, interactive)?;
        let child = command.arg(&self.record.id).spawn().context("start the runtime")?;
        Ok(Pid::from_child(&child))
    }

    fn pid_file(&self) -> PathBuf {
        self.folder.path.join(INIT_PID)
    }

    /// Collects every child that ended.
    fn reap(&mut self) {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.ended(pid, status),
                Err(rustix::io::Errno::INTR) => {}
                // None at all, or none that ended.
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn ended(&mut self, pid: Pid, status: WaitStatus) {
        match self.phase {
            Phase::Birth { child, mark } if child == pid => self.called(status, mark),
            Phase::Birth { .. } => self.early.push((pid, status)),
            Phase::Running { pid: init, since } if init == pid => self.exited(status, since.elapsed()),
            Phase::Clearing { child, lived } if child == pid => {
                if status.exit_status() != Some(0) {
                    let failure = self.runtime.failure("delete", 0, "it did not succeed");
                    self.note(Err(Error::new(failure.message)));
                }
                self.cleared(lived);
            }
            // Somebody whose parent left before it did.
            _ => {}
        }
    }

    /// The runtime has borne the container, or not.
    fn called(&mut self, status: WaitStatus, mark: u64) {
        let early = std::mem::take(&mut self.early);
        if status.exit_status() != Some(0) {
            let failure = self.runtime.failure("run", mark, "the runtime was killed");
            let error = Error::new(failure.message);
            // One that was killed has not taken back what it did.
            if status.terminating_signal().is_some() {
                self.note(Err(error));
                self.record.exit_status = Some(NOT_STARTED);
                return self.clear(Duration::ZERO);
            }
            return self.not_born(&error);
        }
        let pid = match self.take_over() {
            Ok(pid) => pid,
            Err(error) => {
                self.note(Err(error));
                self.record.exit_status = Some(NOT_STARTED);
                return self.clear(Duration::ZERO);
            }
        };
        self.record.status = Status::Running;
        self.record.pid = pid.as_raw_pid();
        self.save();
        self.phase = Phase::Running { pid, since: Instant::now() };
        self.tell(Ok(()));
        if let Some((_, status)) = early.into_iter().find(|(early, _)| *early == pid) {
            self.exited(status, Duration::ZERO);
        } else if self.stop.asked {
            match self.stop.deadline {
                Some(_) => self.signal(self.stop.signal),
                // The time was over just as it was born, too late to end the runtime instead.
                None => self.kill(),
            }
        }
    }

    fn take_over(&mut self) -> Result<Pid> {
        self.streams.born(&self.poll)?;
        let pid = runtime::read_pid(&self.pid_file())?;
        Pid::from_raw(pid.cast_signed()).ok_or_else(|| Error::new("the runtime named no process"))
    }

    /// A first birth that fails is the caller's to know, and leaves nothing; a later one counts as an end.
    fn not_born(&mut self, error: &Error) {
        if self.caller.is_some() {
            self.streams = Streams::default();
            self.phase = Phase::Over;
            let removed = self.folder.remove();
            return self.tell(removed.as_ref().copied().and(Err(error)));
        }
        self.note(Err(error.clone()));
        self.record.exit_status = Some(NOT_STARTED);
        self.cleared(Duration::ZERO);
    }

    fn tell(&mut self, born: std::result::Result<(), &Error>) {
        if let Some(caller) = self.caller.take() {
            tell(caller, born);
        }
    }

    fn exited(&mut self, status: WaitStatus, lived: Duration) {
        let signalled = || status.terminating_signal().map(|signal| 128 + signal);
        let code = status.exit_status().or_else(signalled).unwrap_or(255);
        self.record.exit_status = Some(u8::try_from(code).unwrap_or(255));
        self.record.pid = 0;
        self.clear(lived);
    }

    /// Has the runtime end and remove what is left.
    fn clear(&mut self, lived: Duration) {
        match self.runtime.command().args(["delete", "--force", &self.record.id]).spawn() {
            Ok(child) => self.phase = Phase::Clearing { child: Pid::from_child(&child), lived },
            Err(error) => {
                self.note(Err(Error::from(error).context("start the runtime")));
                self.cleared(lived);
            }
        }
    }

    /// Nothing of that life is left but what it printed last.
    fn cleared(&mut self, lived: Duration) {
        for stream in [Stream::Out, Stream::Err] {
            while self.copy(stream) {}
            let ended = self.log.end(stream, &now());
            self.note(ended);
        }
        self.streams = Streams::default();
        self.clients.hold(&self.poll, false);
        if self.caller.is_some() {
            // It was told to end, or could not be taken over, before it was born.
            let error = Error::new(std::mem::take(&mut self.record.trouble));
            return self.not_born(&error);
        }
        let status = self.record.exit_status.unwrap_or(NOT_STARTED);
        if self.stop.asked || !self.policy.again(status, self.record.restarts) {
            return self.finish();
        }
        let pause = restart::pause(self.pause, lived);
        self.pause = Some(pause);
        self.phase = Phase::Pause { until: Instant::now() + pause };
        self.record.status = Status::Restarting;
        self.save();
    }

    fn finish(&mut self) {
        self.phase = Phase::Over;
        self.stop.deadline = None;
        self.record.status = Status::Exited;
        self.record.finished = now();
        self.save();
    }

    /// Ends the container, and does not start it again.
    fn end(&mut self, seconds: u32) {
        let deadline = Instant::now() + Duration::from_secs(seconds.into());
        let first = !std::mem::replace(&mut self.stop.asked, true);
        self.stop.deadline = Some(self.stop.deadline.map_or(deadline, |earlier| earlier.min(deadline)));
        match self.phase {
            Phase::Running { .. } if first => self.signal(self.stop.signal),
            Phase::Pause { .. } => self.finish(),
            _ => {}
        }
    }

    fn signal(&mut self, signal: i32) {
        let Phase::Running { pid, .. } = self.phase else { return };
        let sent = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
            .and_then(|init| pintle_sys::signal::send(init, signal));
        self.note(sent.with_context(|| format!("signal {signal}")));
    }

    /// The patience of whoever asked for the end is over.
    fn kill(&mut self) {
        match self.phase {
            Phase::Running { .. } => {
                let library = self.runtime.library().ok_or_else(Error::not_running);
                let killed = library.and_then(|it| pintle::ops::kill::kill(&it, &self.record.id, 9, true));
                self.note(killed);
            }
            Phase::Birth { child, .. } | Phase::Clearing { child, .. } => {
                let killed = rustix::process::kill_process_group(child, rustix::process::Signal::KILL);
                self.note(killed.context("kill the runtime"));
            }
            Phase::Pause { .. } | Phase::Over => {}
        }
    }
}
