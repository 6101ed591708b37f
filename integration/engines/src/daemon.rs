//! A containerd with root, state, socket and configuration in a folder of its own: started, stopped, killed, started again.

use crate::call;
use crate::place;
use crate::record;
use std::fs::{self, File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What needs a network, a device or another system, and what only Kubernetes needs; by the names of 1.6 and of 2.x.
pub const WITHOUT: &[&str] = &[
    "io.containerd.grpc.v1.cri",
    "io.containerd.cri.v1.images",
    "io.containerd.cri.v1.runtime",
    "io.containerd.internal.v1.tracing",
    "io.containerd.tracing.processor.v1.otlp",
    "io.containerd.nri.v1.nri",
    "io.containerd.podsandbox.controller.v1.podsandbox",
    "io.containerd.grpc.v1.sandbox-controllers",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.erofs",
    "io.containerd.snapshotter.v1.zfs",
];

/// One containerd, running or not.
pub struct Daemon {
    /// Its folder.
    pub dir: PathBuf,
    child: Mutex<Option<Child>>,
}

impl Daemon {
    /// Starts one in a new folder.
    pub fn start(dir: PathBuf) -> Self {
        fs::create_dir(&dir).expect("a folder for the daemon");
        let folder = dir.display();
        let without: Vec<String> = WITHOUT.iter().map(|id| format!("{id:?}")).collect();
        let text = format!(
            "version = 2\nroot = \"{folder}/root\"\nstate = \"{folder}/state\"\ndisabled_plugins = [{}]\n\
             [grpc]\naddress = \"{folder}/c.sock\"\n",
            without.join(", ")
        );
        fs::write(dir.join("config.toml"), text).expect("the configuration");
        let daemon = Self { dir, child: Mutex::new(None) };
        daemon.again();
        daemon
    }

    /// Starts it after it was stopped or killed, and waits until it answers.
    pub fn again(&self) {
        let mut child = self.child.lock().expect("no panic holds it");
        assert!(child.is_none(), "the daemon runs");
        let log = self.log();
        let mut command = Command::new(place::daemon_program("containerd"));
        command.arg("--config").arg(self.dir.join("config.toml"));
        command.stdin(Stdio::null()).stderr(log.try_clone().expect("a copy")).stdout(log);
        environment(&mut command);
        *child = Some(command.spawn().expect("containerd starts"));
        drop(child);
        self.wait_until_it_answers();
    }

    fn wait_until_it_answers(&self) {
        let begin = Instant::now();
        while std::os::unix::net::UnixStream::connect(self.address()).is_err() || !self.answers() {
            assert!(
                begin.elapsed() < Duration::from_secs(60),
                "containerd does not answer:\n{}",
                self.end_of_log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn answers(&self) -> bool {
        call::finish(self.ctr(&["version"]), &self.dir).code == 0
    }

    /// Stops it in order (SIGTERM). Shims stay.
    pub fn stop(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    /// Kills it (SIGKILL). Shims stay.
    pub fn kill(&self) {
        self.signal(rustix::process::Signal::KILL);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let Some(mut child) = self.child.lock().expect("no panic holds it").take() else { return };
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).expect("a signal");
        child.wait().expect("the daemon ends");
    }

    /// Where clients connect.
    pub fn address(&self) -> PathBuf {
        self.dir.join("c.sock")
    }

    /// Where it keeps the bundles of a namespace.
    pub fn bundles(&self, namespace: &str) -> PathBuf {
        self.dir.join("state/io.containerd.runtime.v2.task").join(namespace)
    }

    /// ctr on its socket.
    pub fn ctr(&self, args: &[&str]) -> Command {
        let mut command = Command::new(place::daemon_program("ctr"));
        command.arg("--address").arg(self.address()).args(args).stdin(Stdio::null());
        environment(&mut command);
        command
    }

    fn log(&self) -> File {
        OpenOptions::new().create(true).append(true).open(self.dir.join("log")).expect("the daemon's log")
    }

    /// What it and its shims logged.
    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.join("log")).unwrap_or_default()).into_owned()
    }

    fn end_of_log(&self) -> String {
        let text = self.log_text();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Nothing of the caller's environment but where programs are.
pub fn environment(command: &mut Command) {
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", place::programs().display());
    command.env_clear().env("PATH", path).env("HOME", "/root").env("LC_ALL", "C.UTF-8");
    command.env("TMPDIR", place::scratch());
    if let Some(file) = std::env::var_os(record::FILE) {
        command.env(record::FILE, file).env(record::SHIM, place::Shim::under_test().program());
    }
    // Makes std fork: glibc's posix_spawn leaves signal 32 ignored, which shims and containers would inherit.
    command.uid(0);
}

/// The mount points at or below a folder.
pub fn mounts_below(dir: &Path) -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = text.lines().filter_map(|line| line.split(' ').nth(4)).map(str::to_owned);
    points.filter(|point| Path::new(point).starts_with(dir)).collect()
}
