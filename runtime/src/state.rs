//! What is kept of a container between two calls: `<root>/<id>/state.json`, a lock on that directory, and the fifo
//! whose presence means "created". Nobody else knows these paths. The keys are a superset of runc's, because
//! monitoring tools read them; what is pintle's own stands under `pintle`, with a version.

use crate::bail;
use crate::cgroup::Cgroup;
use crate::error::{Context, Error, Kind, Result, phrase};
use crate::ops;
use crate::plan::{Saved, namespaces};
use oci_spec::runtime::LinuxResources;
use procfs::FromRead;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FlockOperation, Gid, Mode, OFlags, RenameFlags, Uid, chownat, flock, fstat, mkdirat,
    openat, renameat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

const FILE: &str = "state.json";
const FIFO: &str = "exec.fifo";
const NOTIFY: &str = "notify";
const FILTER: &str = "seccomp.bpf";
/// Changes when a container made before can't be served any more.
const VERSION: u32 = 1;

/// What is saved of a container.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The id.
    pub id: String,
    /// Process id of init; 0 while there is none.
    pub pid: i32,
    /// Its start time (field 22 of /proc/PID/stat): tells it from a later process with the same id.
    pub start_time: u64,
    /// RFC 3339 with nanoseconds.
    pub created: String,
    /// Absolute path of the cgroup directory.
    pub cgroup: Option<PathBuf>,
    /// Its inode, which tells it from a later one at the same path; 0 while there is none.
    pub cgroup_inode: u64,
    /// The cgroups above it that were made for it.
    pub cgroup_parents: Vec<PathBuf>,
    /// The unit of systemd's that has the cgroup.
    pub unit: Option<Unit>,
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// The rootfs, absolute.
    pub rootfs: PathBuf,
    /// Created without the right to use cgroups.
    pub rootless: bool,
    /// `create` is still at work, or was killed.
    pub creating: bool,
    /// The limits.
    pub resources: Option<LinuxResources>,
    /// What `create` decided for later verbs.
    pub saved: Saved,
}

/// A unit of systemd's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Its name.
    pub name: String,
    /// It belongs to the user's own systemd.
    pub user: bool,
}

/// The part of state.json that is pintle's own.
#[derive(Serialize, Deserialize)]
struct Own {
    version: u32,
    creating: bool,
    bundle: PathBuf,
    #[serde(default)]
    cgroup_inode: u64,
    cgroup_parents: Vec<PathBuf>,
    #[serde(default)]
    unit: Option<Unit>,
    resources: Option<LinuxResources>,
    saved: Saved,
}

/// state.json, as far as it is read back.
#[derive(Deserialize)]
struct Read_ {
    id: String,
    init_process_pid: i32,
    init_process_start: u64,
    created: String,
    rootless: bool,
    cgroup_paths: std::collections::BTreeMap<String, PathBuf>,
    config: Config,
    pintle: Own,
}

#[derive(Deserialize)]
struct Config {
    rootfs: PathBuf,
}

/// Where a container is in its life (runtime.md, "State").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    /// The word of the specification (and runc's `paused`).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// A container that has a state.
#[derive(Debug)]
pub struct Container {
    /// What is saved.
    pub state: State,
    dir: OwnedFd,
    path: PathBuf,
}

/// Held while a container changes; released when dropped, and by the kernel when the holder dies.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code, reason = "closing it is what releases the lock")] OwnedFd);

/// Refuses an id that runc refuses.
///
/// # Errors
/// `container id cannot be empty`, `invalid container ID format: …`.
pub fn check_id(id: &str) -> Result<()> {
    if id.is_empty() {
        bail!("{}", phrase::EMPTY_ID);
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    if !id.chars().all(allowed) || id == "." || id == ".." || id.len() > 255 {
        bail!("{}", phrase::INVALID_ID);
    }
    Ok(())
}

fn open_directory(path: &Path) -> std::result::Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty())
}

fn lock(dir: BorrowedFd<'_>) -> Result<Lock> {
    loop {
        match lock_by(dir, FlockOperation::LockExclusive) {
            Err(Errno::INTR) => {}
            other => return other.context("lock the container's state"),
        }
    }
}

fn lock_by(dir: BorrowedFd<'_>, operation: FlockOperation) -> std::result::Result<Lock, Errno> {
    // A descriptor of its own: dropping it is what unlocks.
    let own = openat(dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    flock(&own, operation)?;
    Ok(Lock(own))
}

impl Container {
    /// Takes the id: a directory of its own under the root, locked.
    ///
    /// # Errors
    /// `container with given ID already exists`, and a root that can't be made.
    pub fn reserve(context: &ops::Context, state: State) -> Result<(Self, Lock)> {
        use std::os::unix::fs::DirBuilderExt;
        check_id(&state.id)?;
        let path = context.root.join(&state.id);
        // 0711: the root of a user namespace has to reach the fifo.
        let mode = Mode::from_raw_mode(0o711);
        let made = match mkdirat(CWD, &path, mode) {
            Err(Errno::NOENT) => {
                let root = &context.root;
                let built = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(root);
                built.with_context(|| format!("mkdir {}", root.display()))?;
                mkdirat(CWD, &path, mode)
            }
            other => other,
        };
        match made {
            Err(Errno::EXIST) => bail!("{}", phrase::EXISTS),
            other => other.with_context(|| format!("mkdir {}", path.display()))?,
        }
        let dir = open_directory(&path).with_context(|| format!("open {}", path.display()))?;
        let lock = lock(dir.as_fd())?;
        let container = Self { state, dir, path };
        if container.is_gone()? {
            // A `delete --force` came between: it took the empty directory for what a crash left.
            return Err(Error::not_found());
        }
        Ok((container, lock))
    }

    /// Reads the state of `id`.
    ///
    /// # Errors
    /// `container does not exist`, also when its directory holds no state.
    pub fn load(context: &ops::Context, id: &str) -> Result<Self> {
        check_id(id)?;
        let path = context.root.join(id);
        let dir = match open_directory(&path) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Err(Error::not_found()),
            other => other.with_context(|| format!("open {}", path.display()))?,
        };
        let mut container = Self { state: State::default(), dir, path };
        container.read()?;
        Ok(container)
    }

    fn read(&mut self) -> Result<()> {
        let text = match self.read_file(FILE) {
            Err(Errno::NOENT) => return Err(Error::not_found()),
            other => other.with_context(|| format!("read {}", self.path.join(FILE).display()))?,
        };
        let read: Read_ = serde_json::from_slice(&text)
            .map_err(|error| Error::new(format!("{}: {error}", self.path.join(FILE).display())))?;
        if read.pintle.version > VERSION {
            bail!(
                "{}: made by a newer pintle (version {})",
                self.path.join(FILE).display(),
                read.pintle.version
            );
        }
        self.state = State {
            id: read.id,
            pid: read.init_process_pid,
            start_time: read.init_process_start,
            created: read.created,
            cgroup: read.cgroup_paths.into_values().next().filter(|path| !path.as_os_str().is_empty()),
            cgroup_inode: read.pintle.cgroup_inode,
            cgroup_parents: read.pintle.cgroup_parents,
            unit: read.pintle.unit,
            bundle: read.pintle.bundle,
            rootfs: read.config.rootfs,
            rootless: read.rootless,
            creating: read.pintle.creating,
            resources: read.pintle.resources,
            saved: read.pintle.saved,
        };
        Ok(())
    }

    fn read_file(&self, name: &str) -> std::result::Result<Vec<u8>, Errno> {
        let file =
            openat(&self.dir, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let mut text = Vec::new();
        std::fs::File::from(file).read_to_end(&mut text).map_err(|_| Errno::IO)?;
        Ok(text)
    }

    /// Writes the state, whole or not at all.
    ///
    /// # Errors
    /// A file system that is full or read-only.
    pub fn save(&self) -> Result<()> {
        let text = serde_json::to_vec(&self.document()).map_err(|error| Error::new(error.to_string()))?;
        self.write_file(FILE, &text).with_context(|| format!("write {}", self.path.join(FILE).display()))
    }

    fn write_file(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let temporary = format!(".{name}.tmp");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.dir, temporary.as_str(), flags, Mode::RUSR | Mode::WUSR)?;
        std::fs::File::from(file).write_all(bytes)?;
        let (from, to) = (temporary.as_str(), name);
        // Exchanged, not replaced: some file systems write a file out to disk when it is renamed over another.
        match renameat_with(&self.dir, from, &self.dir, to, RenameFlags::EXCHANGE) {
            Ok(()) => unlinkat(&self.dir, from, AtFlags::empty())?,
            Err(Errno::NOENT | Errno::INVAL) => renameat(&self.dir, from, &self.dir, to)?,
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }

    /// runc's keys (libcontainer's `State`), then pintle's own.
    fn document(&self) -> serde_json::Value {
        let state = &self.state;
        let cgroup = state.cgroup.as_deref().map(|path| path.display().to_string()).unwrap_or_default();
        let group = state.saved.rdt.as_ref();
        let mut document = json!({
            "id": state.id,
            "init_process_pid": state.pid,
            "init_process_start": state.start_time,
            "created": state.created,
            "config": {
                "rootfs": state.rootfs,
                "labels": [format!("bundle={}", state.bundle.display())],
                "cgroups": { "path": cgroup, "Systemd": state.unit.is_some() },
                "namespaces": NAMESPACE_PATHS.iter().filter(|(kind, ..)| state.saved.namespaces & kind != 0)
                    .map(|(_, name, _)| json!({ "type": name })).collect::<Vec<_>>(),
            },
            "rootless": state.rootless,
            "cgroup_paths": if cgroup.is_empty() { json!({}) } else { json!({ "": cgroup }) },
            "namespace_paths": namespace_paths(state.pid),
            "external_descriptors": [],
            "intel_rdt_path": group.map_or("".as_ref(), |group| group.directory.as_path()),
            "pintle": Own {
                version: VERSION,
                creating: state.creating,
                bundle: state.bundle.clone(),
                cgroup_inode: state.cgroup_inode,
                cgroup_parents: state.cgroup_parents.clone(),
                unit: state.unit.clone(),
                resources: state.resources.clone(),
                saved: state.saved.clone(),
            },
        });
        if let Some(monitor) = group.and_then(|group| group.monitor.as_ref()) {
            document["intel_rdt_mon_path"] = json!(monitor);
        }
        document
    }

    /// Keeps others from changing it, and reads again what may have changed until then.
    ///
    /// # Errors
    /// `container does not exist` when it was deleted meanwhile.
    pub fn lock(&mut self) -> Result<Lock> {
        let lock = lock(self.dir.as_fd())?;
        self.read_again()?;
        Ok(lock)
    }

    /// The same without waiting; none while somebody else changes it.
    ///
    /// # Errors
    /// As for [`Container::lock`].
    pub fn try_lock(&mut self) -> Result<Option<Lock>> {
        let lock = match lock_by(self.dir.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            other => other.context("lock the container's state")?,
        };
        self.read_again()?;
        Ok(Some(lock))
    }

    fn read_again(&mut self) -> Result<()> {
        if self.is_gone()? { Err(Error::not_found()) } else { self.read() }
    }

    fn is_gone(&self) -> Result<bool> {
        Ok(fstat(&self.dir).context("fstat")?.st_nlink == 0)
    }

    /// Where it is in its life now: nothing of this is stored but what a birth leaves.
    ///
    /// # Errors
    /// A cgroup that can't be read.
    pub fn status(&self) -> Result<Status> {
        if self.state.creating {
            return Ok(Status::Creating);
        }
        if !self.is_alive() {
            return Ok(Status::Stopped);
        }
        if self.is_frozen()? {
            return Ok(Status::Paused);
        }
        Ok(if self.has_fifo() { Status::Created } else { Status::Running })
    }

    /// Its cgroup, if that is there and not somebody else's by now: systemd clears a unit away that is empty, and another
    /// container may have made one of the same name.
    ///
    /// # Errors
    /// Those of open(2) but ENOENT.
    pub fn cgroup(&self) -> Result<Option<Cgroup>> {
        let cgroup = self.state.cgroup.as_deref().map(Cgroup::open).transpose()?.flatten();
        let Some(cgroup) = cgroup else { return Ok(None) };
        let same = self.state.cgroup_inode == 0 || cgroup.inode()? == self.state.cgroup_inode;
        Ok(same.then_some(cgroup))
    }

    fn is_frozen(&self) -> Result<bool> {
        self.cgroup()?.map_or(Ok(false), |cgroup| cgroup.is_frozen())
    }

    /// Whether init is a live process: neither gone, nor a zombie, nor somebody else with its number.
    pub fn is_alive(&self) -> bool {
        start_time(self.state.pid).is_some_and(|start| start == self.state.start_time)
    }

    /// A pidfd of init, if init is alive.
    ///
    /// # Errors
    /// Those of pidfd_open(2) but ESRCH.
    pub fn init(&self) -> Result<Option<OwnedFd>> {
        let Some(pid) = rustix::process::Pid::from_raw(self.state.pid) else { return Ok(None) };
        match rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
            // After the open: a number that was reused before it shows now.
            Ok(pidfd) => Ok(self.is_alive().then_some(pidfd)),
            Err(Errno::SRCH | Errno::INVAL) => Ok(None),
            Err(errno) => Err(errno).context("pidfd_open"),
        }
    }

    /// Makes the fifo that `start` opens, for the root of the container's user namespace.
    ///
    /// # Errors
    /// A file system that is full or read-only.
    pub fn make_fifo(&self, owner: (u32, u32)) -> Result<OwnedFd> {
        let mode = Mode::from_raw_mode(0o622);
        rustix::fs::mknodat(&self.dir, FIFO, rustix::fs::FileType::Fifo, mode, 0)
            .context("mkfifo exec.fifo")?;
        let path = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::chmodat(&self.dir, FIFO, mode, AtFlags::empty()).context("chmod exec.fifo")?;
        if owner != (0, 0) {
            let (uid, gid) = (Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)));
            chownat(&self.dir, FIFO, uid, gid, AtFlags::SYMLINK_NOFOLLOW).context("chown exec.fifo")?;
        }
        openat(&self.dir, FIFO, path, Mode::empty()).context("open exec.fifo")
    }

    /// Opens the fifo to release init. Never blocks.
    ///
    /// # Errors
    /// `cannot start an already running container` when it is gone.
    pub fn open_fifo(&self) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&self.dir, FIFO, flags, Mode::empty()).context("open exec fifo")
    }

    /// Takes the fifo away: from here on the container counts as running.
    ///
    /// # Errors
    /// Those of unlink(2).
    pub fn remove_fifo(&self) -> Result<()> {
        unlinkat(&self.dir, FIFO, AtFlags::empty()).context("remove exec fifo")
    }

    fn has_fifo(&self) -> bool {
        statat(&self.dir, FIFO, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Makes the directory that will hold the notify socket; any user of the container may pass through it.
    ///
    /// # Errors
    /// A file system that is full or read-only.
    pub fn make_notify_directory(&self) -> Result<()> {
        mkdirat(&self.dir, NOTIFY, Mode::from_raw_mode(0o755)).context("mkdir notify")
    }

    /// The socket on which the container says that it is ready, if it was created with one.
    ///
    /// # Errors
    /// A socket that can't be made.
    pub fn notify_socket(&self) -> Result<Option<std::os::unix::net::UnixDatagram>> {
        let directory = self.path.join(NOTIFY);
        if !directory.is_dir() {
            return Ok(None);
        }
        crate::launch::notify::listen(&directory).map(Some)
    }

    /// Keeps the seccomp filter for `exec`.
    ///
    /// # Errors
    /// A file system that is full or read-only.
    pub fn save_filter(&self) -> Result<()> {
        if self.state.saved.seccomp_program.is_empty() {
            return Ok(());
        }
        self.write_file(FILTER, &self.state.saved.seccomp_program).context("write seccomp filter")
    }

    /// Reads the seccomp filter, if the container has one.
    ///
    /// # Errors
    /// A filter that should be there and is not.
    pub fn load_filter(&mut self) -> Result<()> {
        if self.state.saved.seccomp_flags.is_some() {
            self.state.saved.seccomp_program = self.read_file(FILTER).context("read seccomp filter")?;
        }
        Ok(())
    }

    /// Removes everything that is kept of it.
    ///
    /// # Errors
    /// What can't be removed, by name.
    pub fn remove(&self) -> Result<()> {
        remove_directory(&self.path)
    }

    /// The user that owns the state, for `list`.
    pub fn owner(&self) -> u32 {
        fstat(&self.dir).map_or(0, |stat| stat.st_uid)
    }
}

/// The directory of a container's notify socket, before there is a container.
pub fn notify_directory(context: &ops::Context, id: &str) -> PathBuf {
    context.root.join(id).join(NOTIFY)
}

/// The process id of `pid` as it sees itself: 1 for the first in its pid namespace.
pub fn pid_inside(pid: i32) -> i32 {
    let status = procfs::process::Process::new(pid).and_then(|process| process.status()).ok();
    status.and_then(|status| status.nspid?.last().copied()).unwrap_or(pid)
}

/// What a crash left under the id `id`: a directory without a state. Taken only if nobody is at work in it.
///
/// # Errors
/// What can't be removed.
pub fn remove_leftover(context: &ops::Context, id: &str) -> Result<()> {
    let path = context.root.join(id);
    let dir = match open_directory(&path) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        other => other.with_context(|| format!("open {}", path.display()))?,
    };
    let _lock = lock(dir.as_fd())?;
    match statat(&dir, FILE, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => remove_directory(&path),
        _ => Ok(()),
    }
}

/// Everything that is kept under `id`, readable or not.
///
/// # Errors
/// What can't be removed.
pub fn remove_all(context: &ops::Context, id: &str) -> Result<()> {
    check_id(id)?;
    remove_directory(&context.root.join(id))
}

/// What is there is mostly known; only the rest (a notify socket, what a crash left) takes a look around.
fn remove_directory(path: &Path) -> Result<()> {
    for name in [FILE, FIFO, FILTER] {
        // What can't be removed so, or is of another kind, is met again below.
        let _not_there = std::fs::remove_file(path.join(name));
    }
    if std::fs::remove_dir(path).is_ok() {
        return Ok(());
    }
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The ids under the root, sorted.
///
/// # Errors
/// A root that can't be read; a missing one only if it was named.
pub fn ids(context: &ops::Context) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(&context.root) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !context.root_is_explicit => {
            return Ok(Vec::new());
        }
        other => other.with_context(|| format!("open {}", context.root.display()))?,
    };
    let names = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut ids: Vec<_> = names.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    ids.sort();
    Ok(ids)
}

/// Field 22 of /proc/PID/stat, unless the process is dead.
pub fn start_time(pid: i32) -> Option<u64> {
    if pid <= 0 {
        return None;
    }
    let stat = procfs::process::Stat::from_file(format!("/proc/{pid}/stat")).ok()?;
    (!matches!(stat.state, 'Z' | 'X' | 'x')).then_some(stat.starttime)
}

/// Flag, libcontainer's name, name below /proc/PID/ns.
const NAMESPACE_PATHS: [(u32, &str, &str); 8] = [
    (namespaces::CGROUP, "NEWCGROUP", "cgroup"),
    (namespaces::IPC, "NEWIPC", "ipc"),
    (namespaces::NETWORK, "NEWNET", "net"),
    (namespaces::MOUNT, "NEWNS", "mnt"),
    (namespaces::PID, "NEWPID", "pid"),
    (namespaces::TIME, "NEWTIME", "time"),
    (namespaces::USER, "NEWUSER", "user"),
    (namespaces::UTS, "NEWUTS", "uts"),
];

fn namespace_paths(pid: i32) -> serde_json::Value {
    NAMESPACE_PATHS
        .iter()
        .map(|(_, name, file)| ((*name).to_owned(), json!(format!("/proc/{pid}/ns/{file}"))))
        .collect()
}

/// The state as hooks and `state` see it (runtime.md, "State"): `pid` is left out while there is none.
pub fn for_hooks(state: &State, status: &str, pid: Option<i32>) -> String {
    let mut document = serde_json::Map::new();
    let mut put = |key: &str, value: serde_json::Value| drop(document.insert(key.to_owned(), value));
    put("ociVersion", json!(crate::spec::VERSION));
    put("id", json!(state.id));
    put("status", json!(status));
    if let Some(pid) = pid {
        put("pid", json!(pid));
    }
    put("bundle", json!(state.bundle));
    if !state.saved.annotations.is_empty() {
        put("annotations", json!(state.saved.annotations));
    }
    serde_json::Value::Object(document).to_string()
}

/// Whether an error of [`Container::load`] says that there is no such container.
pub fn is_missing(error: &Error) -> bool {
    error.kind() == Kind::NotFound
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fuzzer's find: no path was read as an empty one, which `join` and open(2) take for something else.
    #[test]
    fn an_empty_path_of_a_cgroup_is_none() {
        let root = std::env::temp_dir().join(format!("pintle-state-{}", std::process::id()));
        std::fs::create_dir_all(root.join("c")).unwrap();
        let context = ops::Context {
            root: root.clone(),
            root_is_explicit: true,
            driver: crate::plan::cgroup::Driver::Files,
            buses: crate::bus::Buses::default(),
            rootless: false,
            in_user_namespace: false,
            environment: Vec::new(),
        };
        let read = |path: &str| {
            let saved = serde_json::to_value(Saved::default()).unwrap();
            let document = json!({"id": "c", "init_process_pid": 0, "init_process_start": 0, "created": "", "rootless": false,
                "cgroup_paths": {"": path}, "config": {"rootfs": "/"}, "pintle": {"version": 1, "creating": false,
                "bundle": "/b", "cgroup_parents": [], "saved": saved}});
            std::fs::write(root.join("c").join(FILE), document.to_string()).unwrap();
            Container::load(&context, "c").unwrap().state.cgroup
        };
        let found = [read(""), read("/sys/fs/cgroup/a")];
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(found, [None, Some("/sys/fs/cgroup/a".into())]);
    }
}
