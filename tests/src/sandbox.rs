//! Where a test lives: a temporary folder with a `--root` of its own, the calls into the runtime, its containers.
//! Whatever the test leaves is deleted at the end, by force; a call that hangs is killed and fails the test.

use crate::{Bundle, Output, Runtime, Value, bundle, cgroup_mount, copy_program, skip, wait_for};
use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long a call may take before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(120);

static SANDBOXES: AtomicU32 = AtomicU32::new(0);

/// Whom root becomes where a test is about an ordinary user.
const NOBODY: u32 = 65_534;

/// A temporary folder, and the runtime with its state in it.
pub struct Sandbox {
    /// The folder.
    pub dir: PathBuf,
    name: String,
    count: Cell<u32>,
    /// Whom the runtime is called as, where that is not the caller.
    user: Option<u32>,
    /// systemd makes the cgroups.
    systemd: bool,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Sandbox {
    /// An empty one.
    pub fn new() -> Self {
        let name = format!("pt{}-{}", std::process::id(), SANDBOXES.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(&name);
        fs::create_dir(&dir).expect("a temporary folder");
        let systemd = std::env::var("PINTLE_TESTS_DRIVER").is_ok_and(|driver| driver == "systemd");
        Self { dir, name, count: Cell::new(0), user: None, systemd }
    }

    /// One whose containers' cgroups are made through the files, whatever the others' are.
    pub fn by_files() -> Self {
        let mut sandbox = Self::new();
        sandbox.systemd = false;
        sandbox
    }

    /// One whose containers are units of the host's systemd; skips where there is none.
    pub fn by_systemd() -> Self {
        if !Path::new("/run/systemd/system").is_dir() || cgroup_mount() != Path::new("/sys/fs/cgroup") {
            skip("the host's cgroups are not systemd's");
        }
        let mut sandbox = Self::new();
        sandbox.systemd = true;
        sandbox
    }

    /// One in which an ordinary user calls the runtime: the caller, or somebody else where the caller is root.
    pub fn ordinary() -> Self {
        let mut sandbox = Self::new();
        if rustix::process::geteuid().is_root() {
            sandbox.user = Some(NOBODY);
            sandbox.give(&sandbox.dir);
            // The checkout may lie where only root can look.
            copy_program(Runtime::under_test().binary(), sandbox.dir.join("runtime"));
        }
        sandbox
    }

    /// The user and the group that the runtime is called as.
    pub fn caller(&self) -> (u32, u32) {
        let own = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        self.user.map_or(own, |user| (user, user))
    }

    /// Gives a file or a folder to whom the runtime is called as.
    pub fn give(&self, path: &Path) {
        if let Some(user) = self.user {
            chown(path, Some(user), Some(user)).expect("root can chown");
        }
    }

    /// Where the runtime keeps its state.
    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// How many containers stand in the root. crun keeps a cache there under a name with a dot.
    pub fn entries(&self) -> usize {
        let counts = |e: &fs::DirEntry| {
            Runtime::under_test() != Runtime::Crun || !e.file_name().to_string_lossy().starts_with('.')
        };
        fs::read_dir(self.root()).map_or(0, |all| all.flatten().filter(counts).count())
    }

    /// A new bundle.
    pub fn bundle(&self) -> Bundle {
        let bundle = Bundle::new(self.dir.join(format!("bundle{}", self.next())));
        // Not the probe, which is a link.
        let folders = ["", "rootfs"].into_iter().map(PathBuf::from);
        let inner = bundle::FOLDERS.iter().map(|name| Path::new("rootfs").join(name));
        folders.chain(inner).for_each(|folder| self.give(&bundle.dir.join(folder)));
        bundle
    }

    /// An id that nobody else on the machine has.
    pub fn id(&self) -> String {
        format!("{}-{}", self.name, self.next())
    }

    /// The runtime with `--root` and a log in JSON, ready for more arguments.
    pub fn command(&self) -> Command {
        let mut command = match self.user {
            None => Command::new(Runtime::under_test().binary()),
            Some(user) => {
                let mut command = Command::new(self.dir.join("runtime"));
                command.uid(user).gid(user).current_dir(&self.dir);
                command
            }
        };
        command
            .arg("--root")
            .arg(self.root())
            .arg("--log")
            .arg(self.dir.join("log"))
            .args(["--log-format", "json"]);
        if self.systemd {
            command.arg("--systemd-cgroup");
        }
        command.stdin(Stdio::null());
        command
    }

    /// One call with these arguments, to its end.
    #[track_caller]
    pub fn call<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        let mut command = self.command();
        command.args(args);
        self.finish(command)
    }

    /// Runs any prepared command to its end. Its streams are files: a container may keep them open.
    #[track_caller]
    pub fn finish(&self, mut command: Command) -> Output {
        let n = self.next();
        let (out, err) = (self.dir.join(format!("out{n}")), self.dir.join(format!("err{n}")));
        let log = self.dir.join("log");
        let before = fs::metadata(&log).map_or(0, |m| m.len() as usize);
        command.stdout(File::create(&out).expect("a file")).stderr(File::create(&err).expect("a file"));
        let status = patiently(&mut command.spawn().expect("the runtime starts"), &command);
        let text = fs::read_to_string(&log).unwrap_or_default();
        Output {
            code: code(status),
            stdout: read(&out),
            stderr: read(&err),
            log: serde_json::Deserializer::from_str(&text[before.min(text.len())..])
                .into_iter()
                .collect::<Result<_, _>>()
                .unwrap_or_else(|e| panic!("the log is not JSON: {e}: {text}")),
        }
    }

    /// `run` in the foreground.
    #[track_caller]
    pub fn run(&self, bundle: &Bundle) -> Output {
        bundle.write();
        self.call([OsStr::new("run"), "--bundle".as_ref(), bundle.dir.as_os_str(), self.id().as_ref()])
    }

    /// `run` in the foreground, successful: the probe's report.
    #[track_caller]
    pub fn report(&self, bundle: &Bundle) -> Value {
        self.run(bundle).ok().json()
    }

    /// `create`, whatever becomes of it.
    #[track_caller]
    pub fn try_create(&self, bundle: &Bundle) -> Output {
        bundle.write();
        self.call([OsStr::new("create"), "--bundle".as_ref(), bundle.dir.as_os_str(), self.id().as_ref()])
    }

    /// A created container.
    #[track_caller]
    pub fn create(&self, bundle: &Bundle) -> Container<'_> {
        self.make(bundle, &["create"])
    }

    /// A running container, detached.
    #[track_caller]
    pub fn start(&self, bundle: &Bundle) -> Container<'_> {
        self.make(bundle, &["run", "--detach"])
    }

    /// A running container whose program waits for signals.
    #[track_caller]
    pub fn waiting(&self) -> Container<'_> {
        let mut bundle = self.bundle();
        bundle.args(&["/probe", "wait"]);
        let container = self.start(&bundle);
        container.wait_for_output("ready");
        container
    }

    /// A container made by this verb and flags.
    #[track_caller]
    pub fn make(&self, bundle: &Bundle, verb: &[&str]) -> Container<'_> {
        bundle.write();
        let id = self.id();
        let (out, err) = (self.dir.join(format!("{id}.out")), self.dir.join(format!("{id}.err")));
        let mut command = self.command();
        command.args(verb).arg("--bundle").arg(&bundle.dir).arg(&id);
        command.stdout(File::create(&out).expect("a file")).stderr(File::create(&err).expect("a file"));
        let status = patiently(&mut command.spawn().expect("the runtime starts"), &command);
        assert!(status.success(), "{verb:?}: {status}: {}{}", read(&err), read(&self.dir.join("log")));
        Container { sandbox: self, id, out, err }
    }

    /// Ends what a killed runtime left hanging: processes that still name this sandbox's root in their arguments.
    fn end_hanging(&self) {
        let root = self.root().to_string_lossy().into_owned();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
            let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if arguments.split(|&b| b == 0).any(|a| a == root.as_bytes()) {
                crate::kill(pid);
            }
        }
    }

    fn next(&self) -> u32 {
        self.count.replace(self.count.get() + 1)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.end_hanging();
        for entry in fs::read_dir(self.root()).into_iter().flatten().flatten() {
            let mut delete = self.command();
            delete.arg("delete").arg("--force").arg(entry.file_name());
            delete.stdout(Stdio::null()).stderr(Stdio::null());
            if let Ok(mut child) = delete.spawn() {
                let _ = child.wait();
            }
        }
        // A mount below would let the removal reach into the host's own files.
        if unmount_below(&self.dir) {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// A container of the sandbox.
pub struct Container<'a> {
    sandbox: &'a Sandbox,
    /// Its id.
    pub id: String,
    out: PathBuf,
    err: PathBuf,
}

impl Container<'_> {
    /// `VERB ID`, to its end.
    #[track_caller]
    pub fn call(&self, verb: &str) -> Output {
        self.sandbox.call([verb, &self.id])
    }

    /// `start`.
    #[track_caller]
    pub fn start(&self) -> Output {
        self.call("start")
    }

    /// `kill ID SIGNAL`.
    #[track_caller]
    pub fn kill(&self, signal: &str) -> Output {
        self.sandbox.call(["kill", &self.id, signal])
    }

    /// `exec ID ARGS`.
    #[track_caller]
    pub fn exec(&self, args: &[&str]) -> Output {
        self.exec_with(&[], args)
    }

    /// `exec FLAGS ID ARGS`.
    #[track_caller]
    pub fn exec_with(&self, flags: &[&str], args: &[&str]) -> Output {
        let mut all = vec!["exec"];
        all.extend(flags);
        all.push(&self.id);
        all.extend(args);
        self.sandbox.call(all)
    }

    /// `exec --process FILE` with this process.
    #[track_caller]
    pub fn exec_process(&self, process: &Value) -> Output {
        let file = self.sandbox.dir.join(format!("process{}.json", self.sandbox.next()));
        fs::write(&file, process.to_string()).expect("a file");
        self.exec_with(&["--process", &file.to_string_lossy()], &[])
    }

    /// The output of `state`.
    #[track_caller]
    pub fn state(&self) -> Value {
        self.call("state").ok().json()
    }

    /// `created`, `running`, `paused` or `stopped`.
    #[track_caller]
    pub fn status(&self) -> String {
        self.state()["status"].as_str().expect("a status").to_owned()
    }

    /// The first process, as the host numbers it.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        self.state()["pid"].as_i64().expect("a pid") as i32
    }

    /// Waits until it has this status.
    #[track_caller]
    pub fn wait_until(&self, status: &str) {
        wait_for(format!("the status {status}"), || self.status() == status);
    }

    /// What the container wrote on stdout so far.
    pub fn stdout(&self) -> String {
        read(&self.out)
    }

    /// What the container wrote on stderr so far.
    pub fn stderr(&self) -> String {
        read(&self.err)
    }

    /// Waits until its output holds `text`.
    #[track_caller]
    pub fn wait_for_output(&self, text: &str) {
        wait_for(format!("{text:?} in the output"), || self.stdout().contains(text));
    }
}

#[track_caller]
fn patiently(child: &mut Child, command: &Command) -> ExitStatus {
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return status;
        }
        if begin.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            panic!("hangs: {command:?}");
        }
        std::thread::sleep(Duration::from_millis(if begin.elapsed().as_millis() < 50 { 1 } else { 10 }));
    }
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// Detaches every mount below `dir`; false if one stays.
fn unmount_below(dir: &Path) -> bool {
    let below = || {
        let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = text.lines().filter_map(|l| l.split(' ').nth(4).map(PathBuf::from));
        points.filter(|p| p.starts_with(dir)).collect::<Vec<_>>()
    };
    for point in below().iter().rev() {
        let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
    }
    below().is_empty()
}
