//! The Task service of a shim, called directly: one method for each call, fields as the protocol numbers them.

use crate::Task;
use crate::call::happens;
use crate::wire::{Client, Fields, Message, Result, Status};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// containerd.v1.types.Status.
pub mod status {
    /// Created, not started.
    pub const CREATED: u64 = 1;
    /// Its program runs.
    pub const RUNNING: u64 = 2;
    /// Ended, not deleted.
    pub const STOPPED: u64 = 3;
    /// Frozen.
    pub const PAUSED: u64 = 4;
}

/// gRPC's numbers for errors.
pub mod code {
    /// There is no such thing.
    pub const NOT_FOUND: u64 = 5;
    /// There is one already.
    pub const ALREADY_EXISTS: u64 = 6;
    /// Not in this state.
    pub const FAILED_PRECONDITION: u64 = 9;
    /// No such method.
    pub const UNIMPLEMENTED: u64 = 12;
}

/// The three stdio fields of a request.
#[derive(Default, Clone)]
pub struct Stdio {
    /// A fifo, or empty.
    pub stdin: String,
    /// A fifo or a URI, or empty.
    pub stdout: String,
    /// A fifo or a URI, or empty.
    pub stderr: String,
    /// A terminal instead of pipes.
    pub terminal: bool,
}

/// A connection to a shim.
pub struct Shim {
    /// The connection.
    pub client: Client,
    /// `containerd.task.v2.Task` or that of version 3.
    pub service: String,
}

impl Shim {
    /// Connects to the shim at this socket.
    #[track_caller]
    pub fn at(socket: &Path) -> Self {
        let mut client = Client::connect(socket).unwrap_or_else(|e| panic!("{}: {e}", socket.display()));
        // Any id will do: connect never fails, but where the service is not there.
        let mut has = |service: &str| {
            let answer = client.call(service, "Connect", &Message::new().text(1, "any"));
            !matches!(answer, Err(Status { code: code::UNIMPLEMENTED, .. }))
        };
        let service = ["containerd.task.v2.Task", "containerd.task.v3.Task"].into_iter().find(|s| has(s));
        Self { client, service: service.expect("a task service").to_owned() }
    }

    /// Connects to the shim of a task.
    #[track_caller]
    pub fn of(task: &Task) -> Self {
        Self::at(&socket(&task.engine.bundle(&task.id)))
    }

    /// Any method.
    #[track_caller]
    pub fn call(&mut self, method: &str, request: &Message) -> Result {
        self.client.call(&self.service, method, request)
    }

    /// Any method, whose answer is waited for later.
    #[track_caller]
    pub fn begin(&mut self, method: &str, request: &Message) -> u32 {
        self.client.begin(&self.service, method, request)
    }

    /// A method that takes a container and perhaps an exec.
    #[track_caller]
    pub fn ask(&mut self, method: &str, id: &str, exec: &str) -> Result {
        self.call(method, &Message::new().text(1, id).text(2, exec))
    }

    /// Creates a container of a bundle.
    #[track_caller]
    pub fn create(&mut self, id: &str, bundle: &Path, stdio: &Stdio, options: Option<&Message>) -> Result {
        let mut request = Message::new().text(1, id).text(2, &bundle.to_string_lossy());
        request = request.number(4, stdio.terminal.into()).text(5, &stdio.stdin);
        request = request.text(6, &stdio.stdout).text(7, &stdio.stderr);
        if let Some(options) = options {
            request = request.message(10, &Message::any("containerd.runc.v1.Options", &options.0));
        }
        self.call("Create", &request)
    }

    /// Asks for a container whose root file system is mounted first, see [`mount`]; its answer is waited for later.
    #[track_caller]
    pub fn begin_create(&mut self, id: &str, bundle: &Path, mounts: &[Message]) -> u32 {
        let request = Message::new().text(1, id).text(2, &bundle.to_string_lossy());
        let request = mounts.iter().fold(request, |request, mount| request.message(3, mount));
        self.begin("Create", &request)
    }

    /// Registers an exec of these arguments.
    #[track_caller]
    pub fn exec(&mut self, id: &str, exec: &str, args: &[&str], stdio: &Stdio) -> Result {
        let process = serde_json::json!({
            "terminal": stdio.terminal, "user": {"uid": 0, "gid": 0}, "args": args, "env": ["PATH=/bin"], "cwd": "/",
        });
        let spec = Message::any(
            "types.containerd.io/opencontainers/runtime-spec/1/Process",
            process.to_string().as_bytes(),
        );
        let request = Message::new().text(1, id).text(2, exec).number(3, stdio.terminal.into());
        let request = request.text(4, &stdio.stdin).text(5, &stdio.stdout).text(6, &stdio.stderr);
        self.call("Exec", &request.message(7, &spec))
    }

    /// Sends a signal.
    #[track_caller]
    pub fn kill(&mut self, id: &str, exec: &str, signal: u64) -> Result {
        self.call("Kill", &Message::new().text(1, id).text(2, exec).number(3, signal))
    }

    /// Closes stdin.
    #[track_caller]
    pub fn close_stdin(&mut self, id: &str, exec: &str) -> Result {
        self.call("CloseIO", &Message::new().text(1, id).text(2, exec).number(3, 1))
    }

    /// Its status, see [`status`].
    #[track_caller]
    pub fn status(&mut self, id: &str, exec: &str) -> u64 {
        self.ask("State", id, exec).expect("a state").number(4)
    }

    /// Waits for the end: exit status and the time, as its bytes.
    #[track_caller]
    pub fn wait(&mut self, id: &str, exec: &str) -> (u64, Vec<u8>) {
        let answer = self.ask("Wait", id, exec).expect("an end");
        (answer.number(1), answer.bytes(2).to_vec())
    }

    /// Pids of a container.
    #[track_caller]
    pub fn pids(&mut self, id: &str) -> Vec<u64> {
        let answer = self.ask("Pids", id, "").expect("pids");
        answer.all(1).into_iter().map(|one| Fields::read(one).expect("a process").number(1)).collect()
    }

    /// The shim's own pid.
    #[track_caller]
    pub fn pid(&mut self) -> i32 {
        self.ask("Connect", "any", "").expect("an answer").number(1) as i32
    }

    /// Asks it to end.
    #[track_caller]
    pub fn shutdown(&mut self, id: &str) {
        // Its end may be faster than its answer.
        let number = self.begin("Shutdown", &Message::new().text(1, id));
        let _ = self.client.is_pending_or_gone(number, Duration::from_secs(5));
    }
}

/// A mount as an engine's snapshotter describes it.
pub fn mount(kind: &str, source: &str, options: &[String]) -> Message {
    let mount = Message::new().text(1, kind).text(2, source);
    options.iter().fold(mount, |mount, option| mount.text(4, option))
}

/// Where the shim of a bundle listens, once it is written down.
#[track_caller]
pub fn socket(bundle: &Path) -> PathBuf {
    let mut found = None;
    let came = happens(Duration::from_secs(10), || {
        found = address(bundle);
        found.is_some()
    });
    assert!(came, "no address in {}", bundle.display());
    found.expect("just found")
}

/// Where the shim of a bundle listens, as the shim wrote it down, or the daemon.
pub fn address(bundle: &Path) -> Option<PathBuf> {
    let json = fs::read_to_string(bundle.join("bootstrap.json")).unwrap_or_default();
    let json = serde_json::from_str::<serde_json::Value>(&json).unwrap_or_default();
    let plain = || fs::read_to_string(bundle.join("address")).ok().filter(|text| !text.is_empty());
    json["address"].as_str().map(str::to_owned).or_else(plain).map(|text| path(&text))
}

/// The path of a `unix://` address, or what a shim answered to `start`: plain, or in JSON.
pub fn path(answer: &str) -> PathBuf {
    let json = serde_json::from_str::<serde_json::Value>(answer).ok();
    let address =
        json.and_then(|v| v["address"].as_str().map(str::to_owned)).unwrap_or_else(|| answer.to_owned());
    PathBuf::from(address.trim().trim_start_matches("unix://"))
}
