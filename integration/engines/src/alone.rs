//! A shim without a daemon: a bundle made by hand, events taken by us, `start` and `delete` as containerd calls them.

use crate::call::{self, Answer, Call, happens};
use crate::engine::Engine;
use crate::place::{self, Shim as Which};
use crate::task::{Shim, path};
use crate::wire::{Fields, Message, serve_events};
use serde_json::{Value, json};
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// An event: its topic, and what it says.
#[derive(Clone, Debug)]
pub struct Event {
    /// `/tasks/exit`.
    pub topic: String,
    /// The message inside, numbered as its type says.
    pub fields: Fields,
}

/// A shim that only this check knows.
pub struct Alone<'a> {
    engine: &'a Engine,
    /// The container it was started for.
    pub id: String,
    /// Its folder.
    pub bundle: PathBuf,
    /// Its socket.
    pub socket: PathBuf,
    events: Arc<Mutex<Vec<Event>>>,
    gone: Arc<std::sync::atomic::AtomicBool>,
    variables: Vec<(&'static str, String)>,
}

/// While events are not taken.
pub struct Away<'a>(&'a Alone<'a>);

impl Away<'_> {
    /// Takes them again.
    pub fn back(self) {
        self.0.gone.store(false, std::sync::atomic::Ordering::SeqCst);
        self.0.listen();
    }
}

impl<'a> Alone<'a> {
    /// `start` in a new bundle with this configuration. Its log is read.
    #[track_caller]
    pub fn start(engine: &'a Engine, config: &Value) -> Self {
        let alone = Self::prepare(engine, config);
        drain(&alone.bundle.join("log"));
        alone.go(&[])
    }

    /// Bundle and listener, and no shim yet.
    pub fn prepare(engine: &'a Engine, config: &Value) -> Self {
        let id = engine.id();
        let bundle = make_bundle(engine, &id, config);
        let events = Arc::new(Mutex::new(Vec::new()));
        let alone = Self {
            engine,
            id,
            bundle,
            socket: PathBuf::new(),
            events,
            gone: Arc::default(),
            variables: Vec::new(),
        };
        alone.listen();
        alone
    }

    /// With this in the shim's environment.
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }

    /// Takes events from now on. A listener that was there before is replaced.
    pub fn listen(&self) {
        let path = self.events_socket();
        let _ = fs::remove_file(&path);
        let sink = Arc::clone(&self.events);
        let gone = Arc::clone(&self.gone);
        serve_events(UnixListener::bind(&path).expect("a socket for events"), move |envelope| {
            // As a daemon that dies before it has taken the event: the connection ends.
            if gone.load(std::sync::atomic::Ordering::SeqCst) {
                return false;
            }
            let event = Event { topic: envelope.text(3), fields: envelope.message(4).message(2) };
            sink.lock().expect("no panic holds it").push(event);
            true
        });
    }

    /// From now on nobody takes events, until the value comes back.
    pub fn away(&self) -> Away<'_> {
        self.gone.store(true, std::sync::atomic::Ordering::SeqCst);
        let _ = fs::remove_file(self.events_socket());
        Away(self)
    }

    fn events_socket(&self) -> PathBuf {
        self.engine.dir.join(format!("{}.ev", self.id))
    }

    /// `start`, with these flags.
    #[track_caller]
    pub fn go(mut self, flags: &[&str]) -> Self {
        let answer = self.action(&[flags, &["start"]].concat()).ok();
        assert_eq!(answer.stderr, "", "stderr of start is taken for a part of the address");
        self.socket = path(&answer.stdout);
        self.engine.note_socket(&self.socket);
        self
    }

    /// The shim's program with the arguments and the environment that containerd gives it.
    #[track_caller]
    pub fn action(&self, words: &[&str]) -> Answer {
        call::finish(self.command(words), &self.engine.dir)
    }

    /// The same, and it goes on.
    #[track_caller]
    pub fn begin(&self, words: &[&str]) -> Call {
        call::begin(self.command(words), &self.engine.dir)
    }

    /// The same with one variable more.
    #[track_caller]
    pub fn action_with(&self, name: &str, value: &str, words: &[&str]) -> Answer {
        let mut command = self.command(words);
        command.env(name, value);
        call::finish(command, &self.engine.dir)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command =
            Command::new(place::programs().join(Which::under_test().program().file_name().expect("a name")));
        let grpc = self.engine.dir.join("c.sock");
        crate::daemon::environment(&mut command);
        command.args([
            "-namespace",
            &self.engine.namespace,
            "-id",
            &self.id,
            "-publish-binary",
            "/bin/false",
            "-address",
        ]);
        command.arg(&grpc).args(words).current_dir(&self.bundle).stdin(std::process::Stdio::null());
        command.env("TTRPC_ADDRESS", self.events_socket()).env("GRPC_ADDRESS", &grpc);
        command.env("NAMESPACE", &self.engine.namespace).env("GOMAXPROCS", "2").env("MAX_SHIM_VERSION", "2");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// `start` with parameters on stdin, as containerd 2.3 and later; what it answers, in bytes.
    pub fn bootstrap(&self, parameters: &Message) -> Vec<u8> {
        let file = self.engine.dir.join("bootstrap");
        fs::write(&file, &parameters.0).expect("a file");
        let mut command = self.command(&["start"]);
        command.stdin(fs::File::open(&file).expect("just written"));
        command.stderr(std::process::Stdio::inherit()).output().expect("the shim starts").stdout
    }

    /// Where events go to.
    pub fn events_address(&self) -> String {
        self.events_socket().display().to_string()
    }

    /// Holds the log open, as a daemon that reads it.
    pub fn open_log(&self) -> fs::File {
        OpenOptions::new().read(true).write(true).open(self.bundle.join("log")).expect("a fifo")
    }

    /// Holds the log open, and it is full.
    pub fn full_log(&self) -> fs::File {
        let file = self.open_log();
        rustix::fs::fcntl_setfl(&file, rustix::fs::OFlags::NONBLOCK).expect("a flag");
        while (&file).write(b"full").is_ok() {}
        file
    }

    /// `delete`, as containerd calls it for a shim that is gone.
    #[track_caller]
    pub fn delete(&self) -> Answer {
        self.action(&["-bundle", &self.bundle.to_string_lossy(), "delete"])
    }

    /// A connection.
    #[track_caller]
    pub fn connect(&self) -> Shim {
        Shim::at(&self.socket)
    }

    /// The events so far.
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().expect("no panic holds it").clone()
    }

    /// The events' topics so far, without `/tasks/`; an exit has the id of its process.
    pub fn topics(&self) -> Vec<String> {
        let name = |event: &Event| match event.topic.as_str() {
            "/tasks/exit" => format!("exit {}", event.fields.text(2)),
            other => other.trim_start_matches("/tasks/").to_owned(),
        };
        self.events().iter().map(name).collect()
    }

    /// Waits until an event of this topic (as [`Alone::topics`] names it) came.
    #[track_caller]
    pub fn wait_for(&self, topic: &str) {
        let came = happens(Duration::from_secs(30), || self.topics().iter().any(|t| t == topic));
        assert!(came, "waited for {topic:?} in {:?}", self.topics());
    }

    /// Kills and deletes the container, and demands that the shim ends when it is told to.
    #[track_caller]
    pub fn end(self) {
        let mut shim = self.connect();
        let pid = shim.pid();
        let _ = shim.kill(&self.id, "", 9);
        if shim.ask("State", &self.id, "").is_ok() {
            shim.wait(&self.id, "");
            shim.ask("Delete", &self.id, "").expect("a deletion");
        }
        shim.shutdown(&self.id);
        crate::wait_for("the end of the shim", || !pintle_tests::alive(pid));
        assert!(!self.socket.exists(), "the socket is left: {}", self.socket.display());
        let _ = fs::remove_file(self.events_socket());
    }
}

/// A bundle in the check's folder, named as its container: config.json, a root folder with busybox, a fifo for the log.
pub fn make_bundle(engine: &Engine, id: &str, config: &Value) -> PathBuf {
    let bundle = engine.dir.join("bundles").join(id);
    for folder in ["bin", "proc", "dev", "sys", "tmp"] {
        fs::create_dir_all(bundle.join("rootfs").join(folder)).expect("a root folder");
    }
    pintle_tests::copy_program(place::busybox(), bundle.join("rootfs/bin/busybox"));
    for name in ["sh", "sleep", "true", "cat", "echo", "stty", "head", "yes", "kill", "ls", "wc", "tty"] {
        std::os::unix::fs::symlink("busybox", bundle.join("rootfs/bin").join(name)).expect("a link");
    }
    let mut config = config.clone();
    if config["linux"]["cgroupsPath"].is_null() {
        config["linux"]["cgroupsPath"] = json!(format!("/{}/{id}", engine.namespace));
    }
    fs::write(bundle.join("config.json"), config.to_string()).expect("config.json");
    fifo(&bundle.join("log"));
    bundle
}

/// A configuration that runs these arguments.
pub fn config(args: &[&str]) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": {"user": {"uid": 0, "gid": 0}, "args": args, "env": ["PATH=/bin"], "cwd": "/"},
        "root": {"path": "rootfs"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]},
        ],
        "linux": {"namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}]},
    })
}

/// Reads a fifo to nowhere, for as long as the harness lives.
pub fn drain(fifo: &Path) {
    // Open for writing, too: so it never ends, and does not wait for a writer.
    let mut file = OpenOptions::new().read(true).write(true).open(fifo).expect("a fifo");
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while matches!(file.read(&mut buffer), Ok(1..)) {}
    });
}

/// A fifo for a container's output, read in the background.
pub struct Output {
    /// Its path.
    pub path: PathBuf,
    text: Arc<Mutex<Vec<u8>>>,
}

impl Output {
    /// A new fifo.
    pub fn new(path: PathBuf) -> Self {
        fifo(&path);
        let text = Arc::new(Mutex::new(Vec::new()));
        let mut file = OpenOptions::new().read(true).write(true).open(&path).expect("a fifo");
        let sink = Arc::clone(&text);
        std::thread::spawn(move || {
            let mut buffer = [0; 65536];
            while let Ok(n @ 1..) = file.read(&mut buffer) {
                sink.lock().expect("no panic holds it").extend_from_slice(&buffer[..n]);
            }
        });
        Self { path, text }
    }

    /// What came so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().expect("no panic holds it")).into_owned()
    }

    /// Waits for text.
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        let came = happens(Duration::from_secs(20), || self.text().contains(text));
        assert!(came, "waited for {text:?}; came {:?}", self.text());
    }
}

/// A new fifo, which nobody has open.
pub fn fifo(path: &Path) {
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).expect("a fifo");
}
