//! Requests that are answered at once, and those that only go into a container's queue.

use super::{Service, Waiting};
use crate::call::{Call, Verb};
use crate::metrics;
use crate::process::{Origin, Phase};
use crate::wire::options::ProcessDetails;
use crate::wire::task::{
    CheckpointRequest, CloseIoRequest, ConnectResponse, ContainerRequest, KillRequest, PidsResponse,
    ProcessInfo, ProcessRequest, ResizePtyRequest, ShutdownRequest, StateResponse, StatsResponse,
    UpdateRequest,
};
use crate::wire::{Answer, Any, Code, Empty, Failure};
use pintle::cgroup::{self, Cgroup, Layout};
use pintle::error::Kind;
use pintle::state::Container;

impl Service {
    pub(super) fn state(&mut self, request: &ProcessRequest) -> Answer<StateResponse> {
        let process = self.process(self.number_of(&request.id, &request.exec_id)?)?;
        let task = self.task(&request.id)?;
        let id = if process.exec.is_empty() { &task.id } else { &process.exec };
        Ok(StateResponse {
            id: id.clone(),
            bundle: task.bundle.display().to_string(),
            pid: process.pid,
            status: self.status(task, process) as i32,
            stdin: process.stdio.stdin.clone(),
            stdout: process.stdio.stdout.clone(),
            stderr: process.stdio.stderr.clone(),
            terminal: process.stdio.terminal,
            exit_status: process.exit.map_or(0, |exit| exit.status),
            exited_at: process.exit.map(|exit| exit.at),
            exec_id: process.exec.clone(),
        })
    }

    pub(super) fn pids(&mut self, request: &ContainerRequest) -> Answer<PidsResponse> {
        let cgroup = self.cgroup(&request.id)?;
        let task = self.task(&request.id)?;
        let named = |pid: u32| {
            let exec = |number: &u32| self.processes.get(number).filter(|process| process.pid == pid);
            task.execs.values().find_map(exec).map(|process| {
                let details = ProcessDetails { exec_id: process.exec.clone() };
                Any::of("containerd.runc.v1.ProcessDetails", &details)
            })
        };
        let mut pids = cgroup.map_or(Ok(Vec::new()), |cgroup| cgroup.pids())?;
        let init = self.process(task.init)?;
        if pids.is_empty() && (init.exit.is_some() || init.held.is_some()) {
            // A daemon that starts again takes a shim without processes for one that was left over, and the exit status with it.
            pids.push(init.pid.cast_signed());
        }
        let info = |pid: i32| ProcessInfo { pid: pid.cast_unsigned(), info: named(pid.cast_unsigned()) };
        Ok(PidsResponse { processes: pids.into_iter().map(info).collect() })
    }

    pub(super) fn stats(&mut self, request: &ContainerRequest) -> Answer<StatsResponse> {
        let cgroup = self.cgroup(&request.id)?;
        let missing = || Failure::new(Code::NotFound, "cgroup does not exist");
        let found = metrics::of(&cgroup.ok_or_else(missing)?)?;
        Ok(StatsResponse { stats: Some(Any::of(crate::wire::metrics::TYPE, &found)) })
    }

    /// The cgroup of a container; none where it is gone.
    fn cgroup(&self, id: &str) -> Answer<Option<Cgroup>> {
        let task = self.task(id)?;
        if let Some(library) = task.runtime.library() {
            return match Container::load(&library, id) {
                Err(error) if error.kind() == Kind::NotFound => Ok(None),
                other => Ok(other?.cgroup()?),
            };
        }
        let process = self.process(task.init)?;
        if process.exit.is_some() || process.held.is_some() {
            return Ok(None);
        }
        let top = Layout::find()?.directory("/".as_ref());
        Ok(Cgroup::open(&cgroup::of_process(process.pid.cast_signed(), &top)?)?)
    }

    pub(super) fn kill(&mut self, origin: Origin, request: &KillRequest) -> Answer<()> {
        let number = self.number_of(&request.id, &request.exec_id)?;
        if !request.exec_id.is_empty() {
            let process = self.process_mut(number)?;
            if process.phase == Phase::Starting {
                process.signals.push((origin, request.signal));
                return Ok(());
            }
            self.process(number)?.kill(request.signal)?;
            self.answer(origin, Ok(Empty {}));
            return Ok(());
        }
        let task = self.task(&request.id)?;
        let Some(library) = task.runtime.library() else {
            let mark = task.runtime.mark();
            let mut command = task.runtime.command();
            command.arg("kill");
            if request.all {
                command.arg("--all");
            }
            command.args([request.id.as_str(), &request.signal.to_string()]);
            let call = Call::new(Verb::Kill, origin, number, mark);
            return self.call(command, call);
        };
        let killed =
            pintle::ops::kill::kill(&library, &request.id, request.signal.cast_signed(), request.all);
        killed.map_err(|error| match error.kind() {
            Kind::NotRunning => Failure::new(Code::NotFound, "process already finished"),
            Kind::NotFound => Failure::new(Code::NotFound, "no such container"),
            _ => Failure::unknown(format!("unknown error after kill: {error}")),
        })?;
        self.answer(origin, Ok(Empty {}));
        Ok(())
    }

    pub(super) fn resize(&mut self, request: &ResizePtyRequest) -> Answer<Empty> {
        let process = self.process(self.number_of(&request.id, &request.exec_id)?)?;
        if let Some(console) = &process.console {
            let cells = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
            let size = rustix::termios::Winsize {
                ws_row: cells(request.height),
                ws_col: cells(request.width),
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            rustix::termios::tcsetwinsize(console, size).map_err(pintle::error::Error::from)?;
        }
        Ok(Empty {})
    }

    pub(super) fn close_io(&mut self, request: &CloseIoRequest) -> Answer<Empty> {
        let number = self.number_of(&request.id, &request.exec_id)?;
        let process = self.process_mut(number)?;
        process.input_closed = true;
        let Some(number) = process.input else { return Ok(Empty {}) };
        if let Some((_, relay)) = self.relays.get_mut(&number) {
            relay.close_input();
            self.ready.push_back(number);
        }
        Ok(Empty {})
    }

    pub(super) fn connect(&mut self, request: &ContainerRequest) -> Answer<ConnectResponse> {
        let init = self.tasks.get(&request.id).and_then(|task| self.processes.get(&task.init));
        Ok(ConnectResponse {
            shim_pid: std::process::id(),
            task_pid: init.map_or(0, |init| init.pid),
            version: env!("CARGO_PKG_VERSION").into(),
        })
    }

    pub(super) fn shutdown(&mut self, _: &ShutdownRequest) -> Answer<Empty> {
        // Others of the pod live on.
        self.over |= self.tasks.is_empty();
        Ok(Empty {})
    }

    pub(super) fn pause(&mut self, origin: Origin, request: &ContainerRequest) -> Answer<()> {
        self.change(origin, Verb::Pause, &request.id, Vec::new())
    }

    pub(super) fn resume(&mut self, origin: Origin, request: &ContainerRequest) -> Answer<()> {
        self.change(origin, Verb::Resume, &request.id, Vec::new())
    }

    pub(super) fn update(&mut self, origin: Origin, request: &UpdateRequest) -> Answer<()> {
        let resources = request.resources.as_ref().map_or(Vec::new(), |any| any.value.clone());
        self.change(origin, Verb::Update, &request.id, resources)
    }

    pub(super) fn checkpoint(&mut self, _: Origin, request: &CheckpointRequest) -> Answer<()> {
        self.task(&request.id)?;
        Err(Failure::new(Code::Unimplemented, "checkpoint is not there yet"))
    }

    fn change(&mut self, origin: Origin, verb: Verb, id: &str, input: Vec<u8>) -> Answer<()> {
        let process = self.task(id)?.init;
        self.enqueue(id, Waiting { origin, verb, process, input })
    }
}
