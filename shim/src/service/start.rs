//! Programs are started: a container's own, and those beside it.

use super::births::pid_file;
use super::memory::Memory;
use super::{Alarm, Service, Waiting, check};
use crate::call::{Call, Verb};
use crate::poll::{EventFlags, Token};
use crate::process::{Origin, Phase, Process, Stdio};
use crate::runtime;
use crate::wire::events;
use crate::wire::task::{ExecRequest, PidResponse, ProcessRequest};
use crate::wire::{Answer, Code, Empty, Failure};
use pintle::cgroup::Cgroup;
use pintle::error::{Context as _, Error};
use pintle::ops::start;
use pintle::state::Container;

impl Service {
    pub(super) fn exec(&mut self, request: &ExecRequest) -> Answer<Empty> {
        let task = self.task(&request.id)?;
        pintle::state::check_id(&request.exec_id)
            .map_err(|error| Failure::new(Code::InvalidArgument, error))?;
        if task.execs.contains_key(&request.exec_id) {
            return Err(Failure::new(Code::AlreadyExists, format!("id {}", request.exec_id)));
        }
        check(Verb::Exec, self.process(task.init)?.phase, task.paused)?;
        let spec = request.spec.as_ref().map_or(&[][..], |any| &any.value);
        let mut spec: serde_json::Value =
            serde_json::from_slice(spec).map_err(|error| Failure::new(Code::InvalidArgument, error))?;
        let Some(fields) = spec.as_object_mut() else {
            return Err(Failure::new(Code::InvalidArgument, "the process is no JSON object"));
        };
        fields.insert("terminal".into(), request.terminal.into());
        let stdio = Stdio::new(&request.stdin, &request.stdout, &request.stderr, request.terminal);
        let mut process = Process::new(&request.id, &request.exec_id, stdio);
        process.spec = spec.to_string().into_bytes();
        let number = self.next();
        self.processes.insert(number, process);
        self.task_mut(&request.id)?.execs.insert(request.exec_id.clone(), number);
        let (container_id, exec_id) = (request.id.clone(), request.exec_id.clone());
        self.publisher.publish(&events::ExecAdded { container_id, exec_id });
        Ok(Empty {})
    }

    pub(super) fn start(&mut self, origin: Origin, request: &ProcessRequest) -> Answer<()> {
        let process = self.number_of(&request.id, &request.exec_id)?;
        if request.exec_id.is_empty() {
            let waiting = Waiting { origin, verb: Verb::Start, process, input: Vec::new() };
            return self.enqueue(&request.id, waiting);
        }
        let init = self.process(self.task(&request.id)?.init)?;
        if init.exit.is_some() || init.held.is_some() {
            let words = format!("container {} init process is not running", request.id);
            return Err(Failure::new(Code::FailedPrecondition, words));
        }
        check(Verb::Start, self.process(process)?.phase, false)?;
        let started = self.bear_exec(origin, &request.id, process);
        if started.is_err() {
            self.not_executed(process);
        }
        started
    }

    fn bear_exec(&mut self, origin: Origin, id: &str, number: u32) -> Answer<()> {
        let task = self.task(id)?;
        let owner = (task.runtime.options().io_uid, task.runtime.options().io_gid);
        let call = Call::new(Verb::Exec, origin, number, task.runtime.mark());
        let process = self.process_mut(number)?;
        let (logger, theirs) = process.connect(owner)?;
        self.bear_with(logger, theirs, call)?;
        self.process_mut(number)?.phase = Phase::Starting;
        Ok(())
    }

    /// Tells init to go on, without a child. False: only the runtime's own process can wait for what has to be waited for.
    pub(super) fn release(&mut self, id: &str, waiting: &Waiting) -> Answer<bool> {
        let Some(library) = self.task(id)?.runtime.library() else { return Ok(false) };
        let Some(release) = start::begin(&library, id).map_err(not_started)? else { return Ok(false) };
        for fd in release.waits_for() {
            let token = Token::Release(waiting.process);
            self.poll.add(fd, token, EventFlags::IN | EventFlags::ET).map_err(Error::from)?;
        }
        self.process_mut(waiting.process)?.phase = Phase::Starting;
        self.releases.insert(waiting.process, (waiting.origin, release));
        self.alarm(super::PATIENCE, Alarm::Release(waiting.process));
        Ok(true)
    }

    /// init did not execute the program in all the time that it had: it may still, but nobody waits for it.
    pub(super) fn not_released(&mut self, number: u32) {
        let Some((origin, _)) = self.releases.remove(&number) else { return };
        let Some(id) = self.processes.get(&number).map(|process| process.task.clone()) else { return };
        let message = format!("{}: init did not answer in time", Verb::Start.failed());
        self.not_started(number, origin, &id, Failure { code: Code::DeadlineExceeded, message });
        self.is_free(&id);
    }

    /// Something became of an init that was told to go on.
    pub fn released(&mut self, number: u32) {
        let Some((origin, release)) = self.releases.get_mut(&number) else { return };
        let (origin, turn) = (*origin, release.turn());
        let done = match turn {
            Ok(false) => return,
            Ok(true) => self.started(origin, number),
            Err(error) => Err(not_started(error)),
        };
        self.releases.remove(&number);
        self.disarm(Alarm::Release(number));
        let Some(id) = self.processes.get(&number).map(|process| process.task.clone()) else { return };
        if let Err(failure) = done {
            self.not_started(number, origin, &id, failure);
        }
        self.is_free(&id);
    }

    /// The program runs.
    pub(super) fn started(&mut self, origin: Origin, number: u32) -> Answer<()> {
        let process = self.process_mut(number)?;
        process.phase = Phase::Running;
        let (pid, container_id) = (process.pid, process.task.clone());
        self.publisher.publish(&events::Start { container_id, pid });
        self.answer(origin, Ok(PidResponse { pid }));
        self.watch_memory(number);
        self.known(number);
        Ok(())
    }

    /// It does not: the container is as it was, or has ended.
    pub(super) fn not_started(&mut self, number: u32, origin: Origin, id: &str, failure: Failure) {
        if let Some(process) = self.processes.get_mut(&number) {
            process.phase = Phase::Created;
        }
        self.settle(id);
        self.answer::<Empty>(origin, Err(failure));
    }

    /// The program beside the first one runs; a child has left its process id in a file.
    pub(super) fn executed(&mut self, call: &Call, id: &str, pid: Option<u32>) -> Answer<()> {
        let task = self.task(id)?;
        let exec = self.process(call.process)?.exec.clone();
        let pid = match pid {
            Some(pid) => pid,
            None => {
                let file = pid_file(&task.bundle, &exec);
                let pid = runtime::read_pid(&file).context("failed to retrieve OCI runtime exec pid")?;
                std::fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))?;
                pid
            }
        };
        let process = self.process_mut(call.process)?;
        process.pid = pid;
        process.phase = Phase::Running;
        if call.console.is_some() {
            self.lay_streams(call.process, call.console.as_ref())?;
        }
        self.publisher.publish(&events::ExecStarted { container_id: id.into(), exec_id: exec, pid });
        self.answer_birth(call.process, call.origin);
        self.deliver_signals(call.process);
        self.known(call.process);
        Ok(())
    }

    /// What was to reach a process while it was being born.
    pub(super) fn deliver_signals(&mut self, number: u32) {
        let Some(process) = self.processes.get_mut(&number) else { return };
        for (origin, signal) in std::mem::take(&mut process.signals) {
            let sent = self.process(number).and_then(|process| process.kill(signal));
            self.answer(origin, sent.map(|()| Empty {}));
        }
    }

    /// Has the kernel tell when it kills for want of memory; without a memory controller it never does.
    fn watch_memory(&mut self, init: u32) {
        let watch = || -> pintle::error::Result<_> {
            let process = self.processes.get(&init).ok_or_else(Error::not_found)?;
            let task = self.tasks.get(&process.task).ok_or_else(Error::not_found)?;
            let cgroup = match task.runtime.library() {
                Some(library) => Cgroup::of(&Container::load(&library, &task.id)?)?,
                None => return Ok(None),
            };
            let Some(watch) = cgroup.watch("memory.events")? else { return Ok(None) };
            self.poll.add(&watch, Token::Memory(init), EventFlags::PRI)?;
            Ok(Some(Memory::new(watch, cgroup.watch("memory.oom.group")?)))
        };
        match watch() {
            Ok(Some(memory)) => drop(self.memory.insert(init, memory)),
            Ok(None) => {}
            // It is over already.
            Err(error) => pintle::log::debug(format_args!("memory.events: {error}")),
        }
    }
}

fn not_started(error: Error) -> Failure {
    Failure::unknown(error.context(Verb::Start.failed()))
}
