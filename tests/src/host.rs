//! What the tests ask of the machine: its namespaces, its mounts, helpers that live in namespaces of their own.

use crate::skip;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a test waits for what has to happen: far longer than it takes on an emulated machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Copies a program, by another process: while this one had it open for writing, a fork of another thread's would get the
/// descriptor, and nobody could execute it until that is gone (ETXTBSY).
#[track_caller]
pub fn copy_program(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    let (from, to) = (from.as_ref(), to.as_ref());
    let done = Command::new("cp").arg(from).arg(to).status().expect("cp starts");
    assert!(done.success(), "a copy of {} at {}", from.display(), to.display());
}

/// Waits for a condition; panics with its name, which may tell of the end of patience, when that has come.
#[track_caller]
pub fn wait_for(what: impl std::fmt::Display, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// `net:[4026531840]` of a process, given as in /proc.
pub fn namespace(pid: impl std::fmt::Display, file: &str) -> String {
    let link = fs::read_link(format!("/proc/{pid}/ns/{file}")).unwrap_or_else(|e| panic!("ns {file}: {e}"));
    link.to_string_lossy().into_owned()
}

/// Whether this process is there, neither a zombie nor just being collected by its parent.
pub fn alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| !s.contains(") Z") && !s.contains(") X"))
}

/// The host's busybox, if it is one for a container without libraries, and this process root: else the calling test is told as skipped.
pub fn static_busybox() -> Option<PathBuf> {
    let is_static =
        |path: &PathBuf| fs::read(path).is_ok_and(|elf| !elf.windows(9).any(|bytes| bytes == b"/ld-linux"));
    let found = ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from).into_iter().find(is_static);
    let found = found.filter(|_| rustix::process::geteuid().is_root());
    if found.is_none() {
        println!("SKIP {}: needs root and a static busybox", std::thread::current().name().unwrap_or(""));
    }
    found
}

/// Ends a process of the host that may be gone already.
pub fn kill(pid: i32) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
}

/// The mounts of this mount namespace, one line each.
pub fn mounts() -> Vec<String> {
    fs::read_to_string("/proc/self/mountinfo").expect("mountinfo").lines().map(str::to_owned).collect()
}

/// Whether the host has this program.
pub fn has_program(name: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').any(|dir| Path::new(dir).join(name).is_file())
}

/// Skips where the host lacks this program.
pub fn needs_program(name: &str) {
    if !has_program(name) {
        skip(format!("the host has no {name}"));
    }
}

/// Skips where devices in a sandbox do not work, which a container without a mount namespace has there.
pub fn needs_devices() {
    let flags = rustix::fs::statvfs(std::env::temp_dir()).expect("a folder of temporary files").f_flag;
    if flags.contains(rustix::fs::StatVfsMountFlags::NODEV) {
        skip("devices do not work in the folder of temporary files");
    }
}

/// Skips on an older kernel.
pub fn needs_linux(major: u32, minor: u32) {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < (major, minor) {
        skip(format!("Linux {release} is older than {major}.{minor}"));
    }
}

/// Where the unified hierarchy is mounted.
pub fn cgroup_mount() -> &'static Path {
    let unified = Path::new("/sys/fs/cgroup/unified");
    if unified.join("cgroup.procs").exists() { unified } else { Path::new("/sys/fs/cgroup") }
}

/// The cgroup of a process in the unified hierarchy, as a folder.
pub fn cgroup_of(pid: i32) -> std::path::PathBuf {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("a cgroup");
    let path = text.lines().find_map(|l| l.strip_prefix("0::/")).expect("a unified hierarchy").to_owned();
    cgroup_mount().join(path)
}

/// Skips where the unified hierarchy lacks this controller.
pub fn needs_controller(name: &str) {
    let text = fs::read_to_string(cgroup_mount().join("cgroup.controllers")).unwrap_or_default();
    if !text.split_whitespace().any(|c| c == name) {
        skip(format!("the unified hierarchy has no {name} controller"));
    }
}

/// A process of the host in namespaces of its own, for containers to join. It ends with the value.
pub struct Holder {
    child: Child,
}

impl Holder {
    /// `unshare FLAGS`, and sleep there.
    #[track_caller]
    pub fn new(flags: &[&str]) -> Self {
        let mut command = Command::new("unshare");
        command.args(flags).args(["--", "sleep", "1000"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let holder = Self { child: command.spawn().expect("unshare starts") };
        let pid = holder.pid();
        // With --fork it is a child of unshare that sleeps.
        let sleeps = |pid: &str| {
            fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c.starts_with("sleep"))
        };
        wait_for("the holder of namespaces", || {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            sleeps(&pid.to_string()) || children.split_whitespace().any(sleeps)
        });
        holder
    }

    /// `/proc/PID/ns/FILE`.
    pub fn path(&self, file: &str) -> String {
        format!("/proc/{}/ns/{file}", self.child.id())
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A mount on the host, made by mount(8) with these arguments and detached at the end.
pub struct HostMount {
    point: std::path::PathBuf,
}

impl HostMount {
    /// `mount ARGS POINT`; the folder is made.
    #[track_caller]
    pub fn new(args: &[&str], point: &Path) -> Self {
        fs::create_dir_all(point).expect("a mount point");
        let status = Command::new("mount").args(args).arg(point).status().expect("mount starts");
        assert!(status.success(), "mount {args:?} {}", point.display());
        Self { point: point.to_owned() }
    }
}

impl Drop for HostMount {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.point, rustix::mount::UnmountFlags::DETACH);
    }
}
