//! The task service: what an engine asks about containers, and what is done for it. A request is answered at once or, where the runtime has
//! to be asked first, when that is done; a container's own requests then queue, and no container waits for another.

pub(crate) mod births;
mod create;
mod delete;
mod exits;
mod loggers;
mod memory;
mod requests;
mod start;
mod streams;

use crate::call::{Call, Verb};
use crate::child;
use crate::poll::Poll;
use crate::process::{Origin, Phase, Process};
use crate::publisher::Publisher;
use crate::relay::Relay;
use crate::runtime::Runtime;
use crate::wire::frame::Request;
use crate::wire::task::{self, Status};
use crate::wire::{Answer, Code, Empty, Failure, Mount};
use births::Bearing;
use exits::Ended;
use loggers::Unready;
use memory::Memory;
use pintle::error::Error;
use pintle::log;
use pintle::ops::start::Release;
use prost::Message;
use rustix::fd::OwnedFd;
use rustix::process::Signal;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long a call of the runtime may take, unless the command line says otherwise.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long what was killed may take to end: the kernel may wait for somebody who does not answer, and not be disturbed in that.
const GRACE: Duration = Duration::from_secs(2);

/// A container.
#[derive(Debug)]
struct Task {
    id: String,
    bundle: PathBuf,
    /// Where it was mounted by this shim.
    rootfs: Option<PathBuf>,
    runtime: Runtime,
    /// Its first process.
    init: u32,
    /// The others, by their ids.
    execs: BTreeMap<String, u32>,
    /// It stands.
    created: bool,
    paused: bool,
    pausing: bool,
    /// The runtime changes it just now.
    busy: bool,
    /// What is to be done after that.
    queue: VecDeque<Waiting>,
    /// Looking into its root file system may keep one waiting.
    slow_root: bool,
    /// It sees nobody's processes but its own, so that these end with the first.
    own_pids: bool,
    /// What its root file system was mounted from, until that was told.
    mounts: Vec<Mount>,
}

/// A request whose turn has not come.
#[derive(Debug)]
struct Waiting {
    origin: Origin,
    verb: Verb,
    process: u32,
    /// What the runtime reads on its standard input.
    input: Vec<u8>,
}

/// What happens by itself at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Alarm {
    /// The call with this number took too long.
    Call(u32),
    /// This birth took too long.
    Birth(u32),
    /// This init was told to go on, and did not.
    Release(u32),
    /// The output of this process was waited for long enough.
    Drain(u32),
    /// This process's output was waited to be read for long enough.
    Unheard(u32),
    /// Another look whether the rest of this stream was read.
    Unread(u32),
    /// Another look for readers of this process's output.
    Readers(u32),
    /// This process's logger had the time that it needs to end by itself.
    Logger(u32),
    /// It did not get ready.
    Unready(u32),
}

/// All containers of this shim.
#[derive(Debug)]
pub struct Service {
    namespace: String,
    /// The socket that containerd has; others lie beside it.
    socket: PathBuf,
    poll: Poll,
    publisher: Publisher,
    tasks: BTreeMap<String, Task>,
    processes: BTreeMap<u32, Process>,
    /// By the child's process id.
    calls: BTreeMap<u32, Call>,
    /// By the process's number.
    births: BTreeMap<u32, Bearing>,
    /// Calls that do not even end when they are killed, by the child's process id: the bundles that they were about.
    abandoned: BTreeMap<u32, PathBuf>,
    patience: Duration,
    relays: BTreeMap<u32, (u32, Relay)>,
    /// Relays that have more to do.
    ready: VecDeque<u32>,
    /// Inits that were told to go on, by their numbers, and who asked for it.
    releases: BTreeMap<u32, (Origin, Release)>,
    /// By the first process's number.
    memory: BTreeMap<u32, Memory>,
    /// Children that ended before anybody knew whose they are.
    early: BTreeMap<u32, Ended>,
    /// Births that wait for a logger.
    unready: BTreeMap<u32, Unready>,
    /// By the logger's process id: whose it is, and the streams that it reads.
    loggers: BTreeMap<u32, (u32, [OwnedFd; 2])>,
    alarms: BTreeMap<(Instant, u32), Alarm>,
    answers: Vec<(Origin, Answer<Vec<u8>>)>,
    /// A child was started: it may have ended before anybody could be told.
    unseen: bool,
    /// The last number that was given to something.
    number: u32,
    over: bool,
    /// A container was asked for.
    used: bool,
}

impl Service {
    /// Without containers.
    pub fn new(namespace: &str, socket: PathBuf, poll: Poll, publisher: Publisher) -> Self {
        Self {
            namespace: namespace.into(),
            socket,
            poll,
            publisher,
            tasks: BTreeMap::new(),
            processes: BTreeMap::new(),
            calls: BTreeMap::new(),
            births: BTreeMap::new(),
            abandoned: BTreeMap::new(),
            patience: PATIENCE,
            relays: BTreeMap::new(),
            ready: VecDeque::new(),
            releases: BTreeMap::new(),
            memory: BTreeMap::new(),
            early: BTreeMap::new(),
            unready: BTreeMap::new(),
            loggers: BTreeMap::new(),
            alarms: BTreeMap::new(),
            answers: Vec::new(),
            unseen: false,
            number: 0,
            over: false,
            used: false,
        }
    }

    /// A call of the runtime may take so long.
    pub fn wait_for_calls(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// What is waited for.
    pub fn poll(&self) -> &Poll {
        &self.poll
    }

    /// The engine has no more use for this shim.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// There is no container.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// There never was one.
    pub fn is_new(&self) -> bool {
        self.tasks.is_empty() && !self.used
    }

    /// All events were taken.
    pub fn is_heard(&self) -> bool {
        self.publisher.is_empty()
    }

    /// Whose answers are ready.
    pub fn answers(&mut self) -> Vec<(Origin, Answer<Vec<u8>>)> {
        std::mem::take(&mut self.answers)
    }

    /// Until when one may sleep.
    pub fn due(&self) -> Option<Instant> {
        if self.unseen || !self.ready.is_empty() {
            return Some(Instant::now());
        }
        let alarm = self.alarms.first_key_value().map(|((moment, _), _)| *moment);
        alarm.into_iter().chain(self.publisher.due()).min()
    }

    /// Does what is due, and tells containerd what happened.
    pub fn turn(&mut self) {
        let now = Instant::now();
        while let Some(entry) = self.alarms.first_entry().filter(|entry| entry.key().0 <= now) {
            match entry.remove() {
                Alarm::Call(number) => self.give_up(number),
                Alarm::Birth(process) => self.birth_too_long(process),
                Alarm::Release(process) => self.not_released(process),
                Alarm::Drain(process) => self.stop_draining(process),
                Alarm::Unread(relay) => self.look_for_rest(relay),
                Alarm::Readers(process) => self.look_for_readers(process),
                Alarm::Unheard(process) => self.tell_birth(process),
                Alarm::Logger(process) => self.end_logger(process, Signal::TERM),
                Alarm::Unready(process) => self.logger_unready(process),
            }
        }
        if std::mem::take(&mut self.unseen) {
            self.reap();
        }
        for _ in 0..self.ready.len() {
            if let Some(relay) = self.ready.pop_front() {
                self.relay(relay);
            }
        }
        self.publisher.turn(&self.poll);
    }

    /// containerd may have answered.
    pub fn hear(&mut self) {
        self.publisher.turn(&self.poll);
    }

    /// Nobody waits on this connection any more.
    pub fn forget(&mut self, peer: u32) {
        for process in self.processes.values_mut() {
            process.waiters.retain(|origin| origin.peer != peer);
        }
        self.end_creates_of(peer);
    }

    fn alarm(&mut self, after: Duration, alarm: Alarm) {
        let number = self.next();
        self.alarms.insert((Instant::now() + after, number), alarm);
    }

    fn disarm(&mut self, alarm: Alarm) {
        self.alarms.retain(|_, armed| *armed != alarm);
    }

    fn next(&mut self) -> u32 {
        self.number = self.number.wrapping_add(1);
        self.number
    }

    fn answer<M: Message>(&mut self, origin: Origin, answer: Answer<M>) {
        self.answers.push((origin, answer.map(|message| message.encode_to_vec())));
    }

    /// A request of the engine's.
    pub fn request(&mut self, origin: Origin, request: &Request) {
        if !task::SERVICES.contains(&request.service.as_str()) {
            let failure =
                Failure { code: Code::Unimplemented, message: format!("service {}", request.service) };
            return self.answer::<Empty>(origin, Err(failure));
        }
        let bytes = request.payload.as_slice();
        match request.method.as_str() {
            "State" => self.at_once(origin, bytes, Self::state),
            "Pids" => self.at_once(origin, bytes, Self::pids),
            "Kill" => self.later(origin, bytes, Self::kill),
            "Exec" => self.at_once(origin, bytes, Self::exec),
            "ResizePty" => self.at_once(origin, bytes, Self::resize),
            "CloseIO" => self.at_once(origin, bytes, Self::close_io),
            "Stats" => self.at_once(origin, bytes, Self::stats),
            "Connect" => self.at_once(origin, bytes, Self::connect),
            "Shutdown" => self.at_once(origin, bytes, Self::shutdown),
            "Create" => self.later(origin, bytes, Self::create),
            "Start" => self.later(origin, bytes, Self::start),
            "Delete" => self.later(origin, bytes, Self::delete),
            "Pause" => self.later(origin, bytes, Self::pause),
            "Resume" => self.later(origin, bytes, Self::resume),
            "Update" => self.later(origin, bytes, Self::update),
            "Wait" => self.later(origin, bytes, Self::wait),
            "Checkpoint" => self.later(origin, bytes, Self::checkpoint),
            other => {
                let failure = Failure { code: Code::Unimplemented, message: format!("method {other}") };
                self.answer::<Empty>(origin, Err(failure));
            }
        }
    }

    fn at_once<Q: Message + Default, A: Message>(
        &mut self,
        origin: Origin,
        bytes: &[u8],
        method: fn(&mut Self, &Q) -> Answer<A>,
    ) {
        let answer = decode(bytes).and_then(|request| method(self, &request));
        self.answer(origin, answer);
    }

    /// A method that answers by itself, unless it fails before.
    fn later<Q: Message + Default>(
        &mut self,
        origin: Origin,
        bytes: &[u8],
        method: fn(&mut Self, Origin, &Q) -> Answer<()>,
    ) {
        if let Err(failure) = decode(bytes).and_then(|request| method(self, origin, &request)) {
            self.answer::<Empty>(origin, Err(failure));
        }
    }

    fn task(&self, id: &str) -> Answer<&Task> {
        self.tasks.get(id).filter(|task| task.created).ok_or_else(not_created)
    }

    fn task_mut(&mut self, id: &str) -> Answer<&mut Task> {
        self.tasks.get_mut(id).filter(|task| task.created).ok_or_else(not_created)
    }

    /// The number of a container's process.
    fn number_of(&self, id: &str, exec: &str) -> Answer<u32> {
        let task = self.task(id)?;
        match exec {
            "" => Ok(task.init),
            exec => task
                .execs
                .get(exec)
                .copied()
                .ok_or_else(|| Failure::new(Code::NotFound, format!("process does not exist {exec}"))),
        }
    }

    fn process(&self, number: u32) -> Answer<&Process> {
        self.processes.get(&number).ok_or_else(not_created)
    }

    fn process_mut(&mut self, number: u32) -> Answer<&mut Process> {
        self.processes.get_mut(&number).ok_or_else(not_created)
    }

    /// Calls the runtime, in whose hands the rest is.
    fn call(&mut self, mut command: Command, mut call: Call) -> Answer<()> {
        self.unseen = true;
        let child = match child::spawn(&mut command) {
            Ok(child) => child,
            Err(error) => {
                let runtime =
                    self.process(call.process).and_then(|process| self.runtime_of(&process.task))?;
                let name = runtime.name();
                let missing = error.kind() == std::io::ErrorKind::NotFound;
                let ended = match missing && !name.contains('/') {
                    true => format!("exec: {name:?}: executable file not found in $PATH"),
                    false => format!("fork/exec {name}: {}", Error::from(error)),
                };
                return Err(runtime.failure(call.verb.failed(), call.mark, &ended));
            }
        };
        call.number = self.next();
        self.alarm(self.patience, Alarm::Call(call.number));
        self.calls.insert(child, call);
        Ok(())
    }

    fn runtime_of(&self, id: &str) -> Answer<&Runtime> {
        self.tasks.get(id).map(|task| &task.runtime).ok_or_else(not_created)
    }

    /// A call that takes too long is ended, with all that it started; its end is then told as every other, if it ends.
    fn give_up(&mut self, number: u32) {
        let Some((child, call)) = self.calls.iter().find(|(_, call)| call.number == number) else {
            return;
        };
        let child = *child;
        if call.given_up {
            return self.abandon(child);
        }
        let why = format!("{}: no answer within {} s", call.verb.failed(), self.patience.as_secs());
        self.kill_call(child, &why);
    }

    fn kill_call(&mut self, child: u32, why: &str) {
        let Some(call) = self.calls.get_mut(&child) else { return };
        call.given_up = true;
        let number = call.number;
        if let Some(group) = rustix::process::Pid::from_raw(child.cast_signed()) {
            let killed = rustix::process::kill_process_group(group, Signal::KILL);
            log::warn(format_args!("{why}: killed: {killed:?}"));
        }
        self.alarm(GRACE, Alarm::Call(number));
    }

    /// Does something with a container when the runtime is not at it.
    fn enqueue(&mut self, id: &str, waiting: Waiting) -> Answer<()> {
        let task = self.task_mut(id)?;
        task.queue.push_back(waiting);
        self.go_on(id);
        Ok(())
    }

    /// The next request of a container's queue.
    fn go_on(&mut self, id: &str) {
        while let Some(task) = self.tasks.get_mut(id).filter(|task| !task.busy) {
            let Some(next) = task.queue.pop_front() else { return };
            let (origin, verb, process) = (next.origin, next.verb, next.process);
            match self.begin(id, next) {
                Ok(busy) => {
                    if let Some(task) = self.tasks.get_mut(id) {
                        task.busy = busy;
                    }
                }
                Err(failure) => {
                    log::debug(format_args!("{}: {}", verb.failed(), failure.message));
                    if let Some(process) = self.processes.get_mut(&process) {
                        process.deleting = None;
                    }
                    self.answer::<Empty>(origin, Err(failure));
                }
            }
        }
    }

    /// True: it goes on elsewhere, and others wait until it ends.
    fn begin(&mut self, id: &str, waiting: Waiting) -> Answer<bool> {
        let verb = waiting.verb;
        let task = self.task(id)?;
        let init = self.process(task.init)?;
        check(verb, init.phase, task.paused)?;
        match verb {
            Verb::Start if self.release(id, &waiting)? => return Ok(true),
            Verb::Delete if self.delete_at_once(id, &waiting)? => return Ok(false),
            _ => {}
        }
        let Waiting { origin, verb, process, input } = waiting;
        let task = self.task(id)?;
        let mark = task.runtime.mark();
        let mut command = task.runtime.command();
        match verb {
            Verb::Update => {
                let file = rustix::fs::memfd_create("resources", rustix::fs::MemfdFlags::CLOEXEC)
                    .map_err(pintle::error::Error::from)?;
                let mut file = std::fs::File::from(file);
                std::io::Write::write_all(&mut file, &input).map_err(pintle::error::Error::from)?;
                std::io::Seek::rewind(&mut file).map_err(pintle::error::Error::from)?;
                command.args(["update", "--resources", "-", id]).stdin(file);
            }
            Verb::Pause => drop(command.args(["pause", id])),
            Verb::Resume => drop(command.args(["resume", id])),
            Verb::Start => drop(command.args(["start", id])),
            Verb::Delete => drop(command.args(["delete", id])),
            Verb::Mount | Verb::Create | Verb::Exec | Verb::Kill => {}
        }
        self.call(command, Call::new(verb, origin, process, mark))?;
        match verb {
            Verb::Pause => self.task_mut(id)?.pausing = true,
            Verb::Start => self.process_mut(process)?.phase = Phase::Starting,
            _ => {}
        }
        Ok(true)
    }

    /// The status of a process, with its container's.
    fn status(&self, task: &Task, process: &Process) -> Status {
        match (task.pausing, task.paused) {
            (true, _) if process.phase != Phase::Stopped => Status::Pausing,
            (_, true) if process.phase != Phase::Stopped => Status::Paused,
            _ => process.status(),
        }
    }
}

/// Whether a container's state allows it, in the words of containerd's own shim.
fn check(verb: Verb, init: Phase, paused: bool) -> Answer<()> {
    let refused = match (verb, init, paused) {
        (Verb::Start, Phase::Running | Phase::Starting, false) => "cannot start a running process",
        (Verb::Start, Phase::Stopped, _) => "cannot start a stopped process",
        (Verb::Start, _, true) => "cannot start a paused process",
        (Verb::Delete, Phase::Running | Phase::Starting, false) => "cannot delete a running process",
        (Verb::Delete, Phase::Running | Phase::Starting, true) => "cannot delete a paused process",
        (Verb::Pause, Phase::Created | Phase::Starting, _) => "cannot pause task in created state",
        (Verb::Pause, Phase::Stopped, _) => "cannot pause a stopped container",
        (Verb::Pause, _, true) => "cannot pause a paused container",
        (Verb::Resume, Phase::Created | Phase::Starting, _) => "cannot resume task in created state",
        (Verb::Resume, Phase::Stopped, _) => "cannot resume a stopped container",
        (Verb::Resume, _, false) => "cannot resume a running process",
        (Verb::Update, Phase::Stopped, _) => "cannot update a stopped container",
        (Verb::Exec, Phase::Stopped, _) => "cannot exec in a stopped state",
        (Verb::Exec, _, true) => "cannot exec in a paused state",
        _ => return Ok(()),
    };
    Err(Failure::unknown(refused))
}

fn decode<Q: Message + Default>(bytes: &[u8]) -> Answer<Q> {
    Q::decode(bytes).map_err(|error| Failure::new(Code::InvalidArgument, error))
}

fn not_created() -> Failure {
    Failure::new(Code::NotFound, "container not created")
}
