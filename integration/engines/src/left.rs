//! What may be left of a namespace, or of everything: processes, mounts, cgroups, bundles, states, sockets. It has a little
//! time to go, since daemons clean up in the background.

use crate::daemon::mounts_below;
use crate::engine::Engine;
use crate::place::{self, Shim, scratch};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long what is ending may take to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Processes by number, with their arguments.
pub fn processes() -> Vec<(i32, Vec<String>)> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
    pids.filter_map(|pid| {
        let text = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let words = text.split(|&b| b == 0).map(|w| String::from_utf8_lossy(w).into_owned()).collect();
        Some((pid, words))
    })
    .collect()
}

/// The shims that work in a containerd namespace: told by their program, and by that namespace in their arguments,
/// environment or folder.
pub fn shims(namespace: &str) -> Vec<i32> {
    let program = fs::canonicalize(Shim::under_test().program()).unwrap_or_default();
    let variable = format!("NAMESPACE={namespace}");
    let is_one = |pid: i32, words: &[String]| {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let environment = fs::read(proc.join("environ")).unwrap_or_default();
        let folder = fs::read_link(proc.join("cwd")).unwrap_or_default();
        fs::read_link(proc.join("exe")).is_ok_and(|exe| exe == program)
            && (words.iter().any(|w| w == namespace)
                || environment.split(|&b| b == 0).any(|v| v == variable.as_bytes())
                || folder.components().any(|part| part.as_os_str() == namespace))
    };
    processes().into_iter().filter(|(pid, words)| is_one(*pid, words)).map(|(pid, _)| pid).collect()
}

/// Nothing is left of a namespace.
pub fn of(engine: &Engine) -> Result<(), String> {
    let cgroup = Path::new("/sys/fs/cgroup").join(&engine.namespace);
    let result = nothing(|| {
        let mut found: Vec<String> =
            shims(&engine.namespace).iter().map(|pid| format!("shim {pid}")).collect();
        found.extend(entries(&engine.daemon.bundles(&engine.namespace)));
        found.extend(entries(&Path::new("/run/containerd/runc").join(&engine.namespace)));
        found.extend(folders(&cgroup));
        let state = engine.daemon.dir.join("state");
        let mounts = mounts_below(&state);
        found.extend(mounts.into_iter().filter(|m| m.contains(&format!("/{}/", engine.namespace))));
        found.extend(engine.left_sockets().iter().map(|path| path.display().to_string()));
        found
    });
    // The parent of the containers' cgroups is the engine's: no shim removes it.
    let _ = fs::remove_dir(cgroup);
    result
}

/// Ends what a failed check may have left, so that it is told once: shims without a daemon, their containers.
pub fn destroy(engine: &Engine) {
    for pid in shims(&engine.namespace) {
        kill(pid);
    }
    let _ = fs::write(Path::new("/sys/fs/cgroup").join(&engine.namespace).join("cgroup.kill"), "1");
    let groups = folders(&Path::new("/sys/fs/cgroup").join(&engine.namespace));
    std::thread::sleep(Duration::from_millis(100));
    groups.iter().for_each(|group| drop(fs::remove_dir(group)));
    let _ = fs::remove_dir(Path::new("/sys/fs/cgroup").join(&engine.namespace));
    for point in mounts_below(&engine.daemon.bundles(&engine.namespace)) {
        let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
    }
    engine.left_sockets().iter().for_each(|path| drop(fs::remove_file(path)));
    let _ = fs::remove_dir_all(Path::new("/run/containerd/runc").join(&engine.namespace));
}

/// Kills a process of ours that may be gone.
pub fn kill(pid: i32) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// What was there before the first check: in the test machine a whole system.
static BEFORE: OnceLock<Vec<String>> = OnceLock::new();

/// Looks at what is there before the first check.
pub fn remember() {
    BEFORE.get_or_init(everything);
}

/// Nothing is left of anything, once the daemons are down.
pub fn at_all() -> Result<(), String> {
    let before = BEFORE.get_or_init(Vec::new);
    nothing(|| everything().into_iter().filter(|one| !before.contains(one)).collect())
}

fn everything() -> Vec<String> {
    let own = std::process::id() as i32;
    let counts = |pid: i32, words: &[String]| {
        pid > 1 && pid != own && !words.join("").is_empty() && !caller(pid, own) && !is_the_machines(pid)
    };
    let mut found: Vec<String> = processes()
        .into_iter()
        .filter(|(pid, words)| counts(*pid, words))
        .map(|(pid, words)| format!("process {pid}: {}", words.join(" ")))
        .collect();
    found.extend(zombies());
    found.extend(mounts_below(&scratch()));
    found.extend(entries(Path::new("/run/containerd/s")));
    found.extend(folders(Path::new("/sys/fs/cgroup")).into_iter().filter(|f| !f.ends_with("/init")));
    found
}

/// A process of a system that lives beside the checks, and starts what it likes.
fn is_the_machines(pid: i32) -> bool {
    place::in_machine() && fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.starts_with("/usr"))
}

fn nothing(find: impl Fn() -> Vec<String>) -> Result<(), String> {
    let begin = Instant::now();
    loop {
        let found = find();
        if found.is_empty() {
            return Ok(());
        }
        if begin.elapsed() > PATIENCE {
            return Err(format!("left behind:\n{}", found.join("\n")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a process is this one's parent, or further up.
fn caller(pid: i32, mut of: i32) -> bool {
    while of > 1 {
        let stat = fs::read_to_string(format!("/proc/{of}/stat")).unwrap_or_default();
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
        of = parent.unwrap_or(0);
        if of == pid {
            return true;
        }
    }
    false
}

/// But for the harness's own children, of a check that failed.
fn zombies() -> Vec<String> {
    let stats =
        processes().into_iter().filter_map(|(pid, _)| fs::read_to_string(format!("/proc/{pid}/stat")).ok());
    let own = format!(") Z {} ", std::process::id());
    stats
        .filter(|stat| stat.contains(") Z ") && !stat.contains(&own))
        .map(|stat| format!("zombie {}", stat.trim()))
        .collect()
}

fn entries(dir: &Path) -> Vec<String> {
    let all = fs::read_dir(dir).into_iter().flatten().flatten();
    all.map(|entry| entry.path().display().to_string()).collect()
}

fn folders(dir: &Path) -> Vec<String> {
    let all = fs::read_dir(dir).into_iter().flatten().flatten();
    let dirs = all.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    dirs.map(|entry| entry.path().display().to_string()).collect()
}
