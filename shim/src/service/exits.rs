//! Children end: calls of the runtime, and processes of containers, which fall to this process when the runtime has gone. The order in
//! which others hear of it: no end before its beginning, and a container's first process last.

use super::births::pid_file;
use super::{Alarm, Service};
use crate::call::{Call, Verb};
use crate::process::{Exit, Origin, Phase};
use crate::rootfs;
use crate::runtime;
use crate::wire::task::WaitResponse;
use crate::wire::{Answer, Code, Empty, Failure, Timestamp, events};
use pintle::error::{Error, phrase};
use pintle::launch::spawn::{Ending, exit_code};
use pintle::log;
use rustix::process::{WaitOptions, WaitStatus, wait};

/// How a child ended, and when.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    ending: Ending,
    at: Timestamp,
}

impl Ended {
    fn of(status: WaitStatus) -> Self {
        let ending = Ending { code: status.exit_status(), signal: status.terminating_signal() };
        Self { ending, at: Timestamp::now() }
    }

    /// Without the moment.
    pub fn ending(self) -> Ending {
        self.ending
    }

    fn exit(self) -> Exit {
        Exit { status: u32::from(exit_code(self.ending)), at: self.at }
    }

    /// As containerd's library for runtimes says it.
    fn words(&self, name: &str) -> String {
        format!("{name} did not terminate successfully: exit status {}", self.exit().status)
    }
}

impl Service {
    /// Collects every child that ended.
    pub fn reap(&mut self) {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.ended(pid.as_raw_pid().cast_unsigned(), status),
                Err(rustix::io::Errno::INTR) => {}
                // None at all, or none that ended.
                Ok(None) | Err(_) => break,
            }
        }
        self.look_after_births();
    }

    fn ended(&mut self, pid: u32, status: WaitStatus) {
        let ended = Ended::of(status);
        if self.logger_ended(pid) || self.abandoned_ended(pid) {
            return;
        }
        if let Some(call) = self.calls.remove(&pid) {
            self.disarm(Alarm::Call(call.number));
            let outcome = self.outcome(&call, &ended);
            return self.returned(call, outcome.map(|()| None));
        }
        match self
            .processes
            .iter()
            .find(|(_, process)| process.pid == pid && process.exit.is_none() && process.held.is_none())
        {
            Some((number, _)) => {
                let number = *number;
                self.process_ended(number, ended.exit());
            }
            // Its birth is still under way, or it is somebody whose parent left before it did.
            None if self.bears() => drop(self.early.insert(pid, ended)),
            None => {}
        }
    }

    /// A call that was killed and does not end: whoever waits for it has waited long enough.
    pub(super) fn abandon(&mut self, child: u32) {
        let Some(call) = self.calls.remove(&child) else { return };
        log::warn(format_args!("{}: it does not end when it is killed", call.verb.failed()));
        let task = self.processes.get(&call.process).and_then(|process| self.tasks.get(&process.task));
        self.abandoned.insert(child, task.map_or_else(Default::default, |task| task.bundle.clone()));
        let late = call.too_late();
        self.returned(call, Err(late));
    }

    /// It ended after all, and may have mounted something before.
    fn abandoned_ended(&mut self, pid: u32) -> bool {
        let Some(bundle) = self.abandoned.remove(&pid) else { return false };
        if !self.tasks.values().any(|task| task.bundle == bundle)
            && let Err(error) = rootfs::disassemble(&bundle)
        {
            log::warn(format_args!("{}: {error}", bundle.display()));
        }
        true
    }

    /// The process has a number by now: did it end before?
    pub(super) fn known(&mut self, number: u32) {
        let pid = self.processes.get(&number).map_or(0, |process| process.pid);
        if let Some(ended) = self.early.remove(&pid) {
            self.process_ended(number, ended.exit());
        } else if let Some(task) = self.processes.get(&number).map(|process| process.task.clone()) {
            self.settle(&task);
        }
    }

    fn process_ended(&mut self, number: u32, exit: Exit) {
        let Some(process) = self.processes.get_mut(&number) else { return };
        process.held = Some(exit);
        let task = process.task.clone();
        if process.exec.is_empty() {
            self.end_with_init(&task);
        }
        self.settle(&task);
    }

    /// Where the container has no pid namespace of its own, nobody ends its other processes but us; and nobody anywhere those that are only
    /// being born.
    fn end_with_init(&mut self, id: &str) {
        let execs = self.tasks.get(id).map(|task| task.execs.values().copied().collect::<Vec<_>>());
        for exec in execs.into_iter().flatten() {
            self.give_up_birth(exec, Error::new(phrase::EXEC_STOPPED));
        }
        let Some(task) = self.tasks.get(id).filter(|task| !task.own_pids) else { return };
        let killed = match task.runtime.library() {
            Some(library) => pintle::ops::kill::kill(&library, id, 9, true),
            None => {
                let mut command = task.runtime.command();
                self.unseen = true;
                crate::child::spawn(command.args(["kill", "--all", id, "KILL"]))
                    .map(drop)
                    .map_err(Error::from)
            }
        };
        if let Err(error) = killed {
            log::debug(format_args!("{id}: kill all: {error}"));
        }
    }

    /// Tells of the ends that may be told of.
    pub(super) fn settle(&mut self, id: &str) {
        let Some(task) = self.tasks.get(id).filter(|task| task.created) else { return };
        let (init, execs) = (task.init, task.execs.values().copied().collect::<Vec<_>>());
        for exec in execs {
            if self.processes.get(&exec).is_some_and(|process| process.phase == Phase::Running) {
                self.tell(exec);
            }
        }
        let Some(task) = self.tasks.get(id) else { return };
        let alive =
            |number: &u32| self.processes.get(number).is_some_and(crate::process::Process::is_under_way);
        let starting = self.processes.get(&init).is_none_or(|process| process.phase == Phase::Starting);
        if !starting && !task.execs.values().any(alive) {
            self.tell(init);
        }
    }

    fn tell(&mut self, number: u32) {
        let Some(process) = self.processes.get_mut(&number) else { return };
        let Some(exit) = process.held.take() else { return };
        process.exit = Some(exit);
        process.phase = Phase::Stopped;
        let input = process.input.take();
        if let Some(task) = self.tasks.get_mut(&process.task).filter(|_| process.exec.is_empty()) {
            // Nothing is left that could be frozen.
            task.paused = false;
        }
        let waiters = std::mem::take(&mut process.waiters);
        let id = if process.exec.is_empty() { process.task.clone() } else { process.exec.clone() };
        let event = events::Exit {
            container_id: process.task.clone(),
            id,
            pid: process.pid,
            exit_status: exit.status,
            exited_at: Some(exit.at),
        };
        self.publisher.publish(&event);
        if let Some(relay) = input {
            self.relays.remove(&relay);
        }
        for origin in waiters {
            self.answer(origin, Ok(waited(exit)));
        }
    }

    pub(super) fn wait(&mut self, origin: Origin, request: &crate::wire::task::ProcessRequest) -> Answer<()> {
        let number = self.number_of(&request.id, &request.exec_id)?;
        let process = self.process_mut(number)?;
        match process.exit {
            None => process.waiters.push(origin),
            Some(exit) => self.answer(origin, Ok(waited(exit))),
        }
        Ok(())
    }

    /// Some process has no number yet.
    fn bears(&self) -> bool {
        !self.calls.is_empty() || !self.births.is_empty()
    }

    /// The runtime is done with a call; with the process that was born where that is known.
    pub(super) fn returned(&mut self, call: Call, outcome: Answer<Option<u32>>) {
        self.finish(&call, outcome);
        if !self.bears() {
            // Nobody's.
            self.early.clear();
        }
    }

    fn finish(&mut self, call: &Call, outcome: Answer<Option<u32>>) {
        let Some(process) = self.processes.get(&call.process) else {
            return self.answer::<Empty>(call.origin, Err(super::not_created()));
        };
        let id = process.task.clone();
        let done = outcome.and_then(|pid| {
            self.succeeded(call, &id, pid).inspect_err(|_| {
                if call.verb == Verb::Create {
                    self.remove_created(&id);
                }
            })
        });
        if let Err(failure) = done {
            self.failed(call, &id, failure);
        }
        if call.verb.is_exclusive() {
            self.is_free(&id);
        }
    }

    /// Whatever the runtime did with a container is done.
    pub(super) fn is_free(&mut self, id: &str) {
        if let Some(task) = self.tasks.get_mut(id) {
            (task.busy, task.pausing) = (false, false);
        }
        self.go_on(id);
    }

    fn outcome(&self, call: &Call, ended: &Ended) -> Answer<()> {
        if ended.ending.code == Some(0) {
            return Ok(());
        }
        let runtime = self.runtime_of(&self.process(call.process)?.task)?;
        let failure = runtime.failure(call.verb.failed(), call.mark, &ended.words(runtime.name()));
        if call.given_up {
            return Err(call.too_late());
        }
        let gone = failure.message.contains(pintle::error::phrase::NOT_FOUND);
        match call.verb {
            // Somebody else was faster.
            Verb::Delete if gone => Ok(()),
            Verb::Kill if gone => Err(Failure::new(Code::NotFound, "no such container")),
            Verb::Kill if failure.message.contains(pintle::error::phrase::NOT_RUNNING) => {
                Err(Failure::new(Code::NotFound, "process already finished"))
            }
            _ => Err(failure),
        }
    }

    fn succeeded(&mut self, call: &Call, id: &str, pid: Option<u32>) -> Answer<()> {
        match call.verb {
            Verb::Mount => self.bear_init(call.origin, id, call.process)?,
            Verb::Create => self.created(call, id, pid)?,
            Verb::Start => self.started(call.origin, call.process)?,
            Verb::Exec => self.executed(call, id, pid)?,
            Verb::Delete => self.deleted(call.origin, call.process, id)?,
            Verb::Update | Verb::Kill => self.answer(call.origin, Ok(Empty {})),
            Verb::Pause => {
                self.task_mut(id)?.paused = true;
                self.publisher.publish(&events::Paused { container_id: id.into() });
                self.answer(call.origin, Ok(Empty {}));
            }
            Verb::Resume => {
                self.task_mut(id)?.paused = false;
                self.publisher.publish(&events::Resumed { container_id: id.into() });
                self.answer(call.origin, Ok(Empty {}));
            }
        }
        Ok(())
    }

    pub(super) fn failed(&mut self, call: &Call, id: &str, failure: Failure) {
        let failure = match call.verb {
            Verb::Mount => self.undo_create(id, failure),
            Verb::Create => {
                if call.given_up {
                    self.remove_created(id);
                }
                self.undo_create(id, failure)
            }
            Verb::Start => return self.not_started(call.process, call.origin, id, failure),
            Verb::Exec => {
                if call.file.is_some() {
                    self.find_unwanted(call.process);
                }
                self.not_executed(call.process);
                self.settle(id);
                failure
            }
            Verb::Delete => {
                if let Some(process) = self.processes.get_mut(&call.process) {
                    process.deleting = None;
                }
                failure
            }
            Verb::Pause | Verb::Resume | Verb::Update | Verb::Kill => failure,
        };
        self.answer::<Empty>(call.origin, Err(failure));
    }
}

impl Service {
    /// Nothing was born that could end: whoever waits hears of it all the same.
    pub(super) fn not_executed(&mut self, number: u32) {
        if let Some(process) = self.processes.get(&number).filter(|process| process.pid != 0) {
            // It runs, but nobody can be given its streams.
            if let Err(failure) = process.kill(9) {
                log::debug(failure.message);
            }
        }
        self.close_streams(number);
        self.deliver_signals(number);
        let Some(process) = self.processes.get_mut(&number) else { return };
        let exit = *process.exit.get_or_insert(Exit { status: 255, at: Timestamp::now() });
        process.phase = Phase::Stopped;
        for origin in std::mem::take(&mut process.waiters) {
            self.answer(origin, Ok(waited(exit)));
        }
    }

    /// A child that was killed may have got as far as to write down whom it bore.
    fn find_unwanted(&mut self, number: u32) {
        let Some(process) = self.processes.get_mut(&number) else { return };
        let Some(task) = self.tasks.get(&process.task) else { return };
        let file = pid_file(&task.bundle, &process.exec);
        let Ok(pid) = runtime::read_pid(&file) else { return };
        if !self.early.contains_key(&pid) {
            process.pid = pid;
        }
        let _gone = std::fs::remove_file(file);
    }
}

fn waited(exit: Exit) -> WaitResponse {
    WaitResponse { exit_status: exit.status, exited_at: Some(exit.at) }
}
