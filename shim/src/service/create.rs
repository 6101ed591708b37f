//! A container is made: its root file system mounted, its streams laid, its first process born.

use super::{Service, Task};
use crate::call::{Call, Verb};
use crate::child;
use crate::process::{Origin, Process, Stdio};
use crate::rootfs;
use crate::runtime::{self, Runtime};
use crate::wire::events;
use crate::wire::task::CreateRequest;
use crate::wire::{Answer, Code, Failure};
use pintle::error::{Context as _, Result};
use pintle::log;
use serde::Deserialize;
use std::collections::{BTreeMap, VecDeque};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

impl Service {
    pub(super) fn create(&mut self, origin: Origin, request: &CreateRequest) -> Answer<()> {
        pintle::state::check_id(&request.id).map_err(|error| Failure::new(Code::InvalidArgument, error))?;
        if self.over {
            return Err(Failure::new(Code::FailedPrecondition, "this shim is leaving"));
        }
        if self.tasks.contains_key(&request.id) {
            return Err(Failure::new(Code::AlreadyExists, format!("container {}", request.id)));
        }
        if !request.checkpoint.is_empty() {
            let words = "restore from a checkpoint is not there yet";
            return Err(Failure::new(Code::Unimplemented, words));
        }
        self.used = true;
        let bundle = PathBuf::from(&request.bundle);
        if !bundle.is_absolute() {
            let words = format!("bundle {:?}: no absolute path", request.bundle);
            return Err(Failure::new(Code::InvalidArgument, words));
        }
        if let Some(other) = self.tasks.values().find(|task| task.bundle == bundle) {
            return Err(Failure::new(Code::InvalidArgument, format!("the bundle is that of {}", other.id)));
        }
        let runtime = Runtime::new(runtime::options(request.options.as_ref())?, &bundle, &self.namespace);
        runtime.keep(&bundle)?;
        let config = Config::of(&bundle);
        let waits = rootfs::may_wait(&request.rootfs);
        let slow_root =
            waits || request.rootfs.is_empty() && !rootfs::is_at_hand(&bundle.join(&config.root.path));
        let rootfs = mount(request, &bundle, waits)?;
        let init = self.next();
        let stdio = Stdio::new(&request.stdin, &request.stdout, &request.stderr, request.terminal);
        self.processes.insert(init, Process::new(&request.id, "", stdio));
        let task = Task {
            id: request.id.clone(),
            bundle,
            rootfs,
            runtime,
            init,
            execs: BTreeMap::new(),
            created: false,
            paused: false,
            pausing: false,
            busy: true,
            queue: VecDeque::new(),
            slow_root,
            own_pids: config.has_own_pids(),
            mounts: request.rootfs.clone(),
        };
        self.tasks.insert(request.id.clone(), task);
        let called = match waits {
            true => self.call_mount(origin, &request.id, init),
            false => self.bear_init(origin, &request.id, init),
        };
        called.map_err(|failure| self.undo_create(&request.id, failure))
    }

    /// Has the root file system mounted by somebody who can wait; the rest is done after that.
    fn call_mount(&mut self, origin: Origin, id: &str, init: u32) -> Answer<()> {
        let task = self.tasks.get(id).ok_or_else(super::not_created)?;
        let mark = task.runtime.mark();
        let command = rootfs::mounter::command(&task.mounts, &task.bundle, task.runtime.log())?;
        self.call(command, Call::new(Verb::Mount, origin, init, mark))
    }

    pub(super) fn bear_init(&mut self, origin: Origin, id: &str, init: u32) -> Answer<()> {
        let task = self.tasks.get(id).ok_or_else(super::not_created)?;
        let owner = (task.runtime.options().io_uid, task.runtime.options().io_gid);
        let call = Call::new(Verb::Create, origin, init, task.runtime.mark());
        let (logger, theirs) = self.process_mut(init)?.connect(owner)?;
        self.bear_with(logger, theirs, call)
    }

    /// It stands; a child has left its process id in a file.
    pub(super) fn created(&mut self, call: &Call, id: &str, pid: Option<u32>) -> Answer<()> {
        let task = self.tasks.get(id).ok_or_else(super::not_created)?;
        let pid = pid.map_or_else(|| runtime::read_pid(&task.bundle.join(runtime::INIT_PID)), Ok);
        let pid = pid.context("failed to retrieve OCI runtime container pid")?;
        if call.console.is_some() {
            self.lay_streams(call.process, call.console.as_ref())?;
        }
        let process = self.process_mut(call.process)?;
        process.pid = pid;
        let stdio = process.stdio.clone();
        let Some(task) = self.tasks.get_mut(id) else { return Ok(()) };
        task.created = true;
        task.busy = false;
        let io = events::Io {
            stdin: stdio.stdin,
            stdout: stdio.stdout,
            stderr: stdio.stderr,
            terminal: stdio.terminal,
        };
        let event = events::Create {
            container_id: id.into(),
            bundle: task.bundle.display().to_string(),
            rootfs: std::mem::take(&mut task.mounts),
            io: Some(io),
            checkpoint: String::new(),
            pid,
        };
        self.publisher.publish(&event);
        self.answer_birth(call.process, call.origin);
        self.known(call.process);
        Ok(())
    }

    /// Something was made that can't be used.
    pub(super) fn remove_created(&mut self, id: &str) {
        let Ok(runtime) = self.runtime_of(id) else { return };
        let mut command = runtime.command();
        self.unseen = true;
        // Its end concerns nobody: a later `delete` of containerd's looks again.
        if let Err(error) = child::spawn(command.args(["delete", "--force", id])).context("delete --force") {
            log::warn(format_args!("{id}: {error}"));
        }
    }

    /// Nothing of it is left but the failure, and what else went wrong.
    pub(super) fn undo_create(&mut self, id: &str, failure: Failure) -> Failure {
        let Some(task) = self.tasks.remove(id) else { return failure };
        self.drop_process(task.init);
        match task.rootfs.map(|_| rootfs::disassemble(&task.bundle)) {
            Some(Err(also)) => {
                Failure { message: format!("{}; and then: {also}", failure.message), ..failure }
            }
            _ => failure,
        }
    }
}

/// Makes the folder and, unless that may have to wait, mounts what belongs there.
fn mount(request: &CreateRequest, bundle: &Path, waits: bool) -> Result<Option<PathBuf>> {
    if request.rootfs.is_empty() {
        return Ok(None);
    }
    let rootfs = bundle.join(rootfs::NAME);
    match DirBuilder::new().mode(0o711).create(&rootfs) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("mkdir {}", rootfs.display()));
        }
        _ => {}
    }
    if !waits {
        rootfs::assemble(&request.rootfs, bundle).context("failed to mount rootfs component")?;
    }
    Ok(Some(rootfs))
}

/// What is to be known of config.json before the runtime reads it. What can't be read will be told by the runtime.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    root: Root,
    linux: Linux,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Root {
    path: PathBuf,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Linux {
    namespaces: Vec<Namespace>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Namespace {
    r#type: String,
    path: String,
}

impl Config {
    fn of(bundle: &Path) -> Self {
        let text = std::fs::read(bundle.join("config.json")).ok();
        text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    /// The container has a pid namespace of its own, and not one that others live in: its processes end with its first one.
    fn has_own_pids(&self) -> bool {
        self.linux.namespaces.iter().any(|namespace| namespace.r#type == "pid" && namespace.path.is_empty())
    }
}
