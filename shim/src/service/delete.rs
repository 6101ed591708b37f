//! Containers and processes are removed, when they are over and what they said was heard.

use super::{Alarm, Service, Waiting, check};
use crate::call::Verb;
use crate::process::{Origin, Phase};
use crate::rootfs;
use crate::wire::events;
use crate::wire::task::{DeleteResponse, ProcessRequest};
use crate::wire::{Answer, Empty, Failure};
use pintle::error::{Error, Kind};
use pintle::log;
use rustix::process::Signal;
use std::time::Duration;

/// How long output is waited for that a process left behind when it ended.
const DRAIN: Duration = Duration::from_secs(10);

impl Service {
    pub(super) fn delete(&mut self, origin: Origin, request: &ProcessRequest) -> Answer<()> {
        // What has ended by itself is to be told before it is gone.
        self.reap();
        let number = self.number_of(&request.id, &request.exec_id)?;
        let paused = request.exec_id.is_empty() && self.task(&request.id)?.paused;
        let process = self.process_mut(number)?;
        check(Verb::Delete, process.phase, paused)?;
        if process.deleting.is_some() {
            return Err(Failure::unknown("it is being deleted already"));
        }
        process.deleting = Some(origin);
        if process.open == 0 || process.phase == Phase::Created {
            self.drained(number);
        } else {
            process.draining = true;
            self.alarm(DRAIN, Alarm::Drain(number));
            self.alarm(super::loggers::EOF, Alarm::Logger(number));
        }
        Ok(())
    }

    pub(super) fn stop_draining(&mut self, number: u32) {
        let Some(process) = self.processes.get(&number).filter(|process| process.draining) else { return };
        log::warn(format_args!("{}: its output is held open by others: closed", process.task));
        self.end_logger(number, Signal::KILL);
        self.close_streams(number);
        self.drained(number);
    }

    /// One more of its streams is over: perhaps the last that its removal waits for.
    pub(super) fn check_drained(&mut self, number: u32) {
        if self.processes.get(&number).is_some_and(|process| process.draining && process.open == 0) {
            self.drained(number);
        }
    }

    /// All that a process said was passed on: it can go.
    pub(super) fn drained(&mut self, number: u32) {
        let Some(process) = self.processes.get_mut(&number) else { return };
        process.draining = false;
        let Some(origin) = process.deleting else { return };
        let (task, exec) = (process.task.clone(), process.exec.clone());
        if exec.is_empty() {
            let waiting = Waiting { origin, verb: Verb::Delete, process: number, input: Vec::new() };
            if let Err(failure) = self.enqueue(&task, waiting) {
                self.answer::<Empty>(origin, Err(failure));
            }
            return;
        }
        let response = self.response(number);
        if let Some(process) = self.processes.get_mut(&number) {
            process.deleting = None;
        }
        if let Ok(task) = self.task_mut(&task) {
            task.execs.remove(&exec);
        }
        self.drop_process(number);
        self.answer(origin, Ok(response));
    }

    /// Removes a container without a child. False: only the runtime's own process can wait for what has to be waited for.
    pub(super) fn delete_at_once(&mut self, id: &str, waiting: &Waiting) -> Answer<bool> {
        let Some(library) = self.task(id)?.runtime.library() else { return Ok(false) };
        match pintle::ops::delete::delete_at_once(&library, id) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            // Somebody else was faster.
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => return Err(Failure::unknown(error.context(Verb::Delete.failed()))),
        }
        self.deleted(waiting.origin, waiting.process, id)?;
        Ok(true)
    }

    /// The runtime has removed the container.
    pub(super) fn deleted(&mut self, origin: Origin, number: u32, id: &str) -> Answer<()> {
        let unmounted = match self.tasks.get(id).and_then(|task| task.rootfs.as_deref()) {
            Some(rootfs) => rootfs::unmount_all(rootfs),
            None => Ok(()),
        };
        let DeleteResponse { pid, exit_status, exited_at } = self.response(number);
        if let Some(task) = self.tasks.remove(id) {
            task.execs.values().for_each(|exec| self.drop_process(*exec));
            for waiting in task.queue {
                self.answer::<Empty>(waiting.origin, Err(super::not_created()));
            }
        }
        self.drop_process(number);
        self.publisher.publish(&events::Delete {
            container_id: id.into(),
            pid,
            exit_status,
            exited_at,
            id: String::new(),
        });
        unmounted?;
        self.answer(origin, Ok(DeleteResponse { pid, exit_status, exited_at }));
        Ok(())
    }

    fn response(&self, number: u32) -> DeleteResponse {
        let process = self.processes.get(&number);
        let exit = process.and_then(|process| process.exit.or(process.held));
        DeleteResponse {
            pid: process.map_or(0, |process| process.pid),
            exit_status: exit.map_or(0, |exit| exit.status),
            exited_at: exit.map(|exit| exit.at),
        }
    }

    /// Nothing of a process is kept: its streams close, and whoever waits for it hears that it is not there.
    pub(super) fn drop_process(&mut self, number: u32) {
        self.close_streams(number);
        self.memory.remove(&number);
        self.give_up_birth(number, Error::not_found());
        let Some(process) = self.processes.remove(&number) else { return };
        let signals = process.signals.into_iter().map(|(origin, _)| origin);
        // The removal of a first process is answered by whoever removes it.
        let deleting = process.deleting.filter(|_| !process.exec.is_empty());
        for origin in process.waiters.into_iter().chain(signals).chain(deleting).chain(process.unheard) {
            self.answer::<Empty>(origin, Err(super::not_created()));
        }
    }
}
