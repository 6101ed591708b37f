//! The container's cgroup on the machine: made, limited, frozen, killed, measured, removed as
//! [`crate::plan::cgroup`] decided. cgroup v2 only, through its files; with the other driver systemd makes it first,
//! [`systemd`], and it ends in the same [`Cgroup`]. Waiting is by poll(2) on `cgroup.events`. cgroups(7).

use crate::bail;
use crate::error::{Context, Error, Result, phrase};
use crate::state::Container;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::path::{Path, PathBuf};

mod create;
mod delegate;
mod delete;
mod devices;
mod events;
mod file;
mod freeze;
mod limits;
mod pids;
pub mod stats;
pub mod systemd;

pub use create::{check_place, create, enter_unit};
pub use delete::delete;
pub use events::{Events, Watch};

/// Where cgroup2 is mounted on a machine that has nothing else.
const UNIFIED: &str = "/sys/fs/cgroup";
/// Where it is on a machine whose controllers mostly belong to v1.
const HYBRID: &str = "/sys/fs/cgroup/unified";
const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;

/// Where this machine has cgroup2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The mount.
    pub mount: PathBuf,
    /// Controllers of cgroup v1 are mounted beside it, so some are missing here.
    pub hybrid: bool,
}

impl Layout {
    /// Looks where cgroup2 is mounted.
    pub fn find() -> Result<Self> {
        if is_cgroup2(UNIFIED) {
            return Ok(Self { mount: UNIFIED.into(), hybrid: false });
        }
        if is_cgroup2(HYBRID) {
            return Ok(Self { mount: HYBRID.into(), hybrid: true });
        }
        bail!(
            "{UNIFIED} is no cgroup2 filesystem and there is none at {HYBRID}: a cgroup v1 only host; pintle needs \
             cgroup v2 (boot with systemd.unified_cgroup_hierarchy=1, or mount -t cgroup2 none {UNIFIED})"
        )
    }

    /// The absolute path of a cgroup that is named within the hierarchy.
    pub fn directory(&self, path: &Path) -> PathBuf {
        self.mount.join(path.strip_prefix("/").unwrap_or(path))
    }
}

fn is_cgroup2(path: &str) -> bool {
    rustix::fs::statfs(path).is_ok_and(|answer| answer.f_type == CGROUP2_SUPER_MAGIC)
}

/// The runtime's own cgroup, which decides about relative paths.
pub fn own() -> Result<String> {
    path_of("self")
}

/// Where a process lives within the hierarchy.
fn path_of(process: &str) -> Result<String> {
    let file = format!("/proc/{process}/cgroup");
    match crate::plan::cgroup::unified_path(&crate::host::read_small(&file)?) {
        Some(path) => Ok(path.into()),
        None => bail!("read {file}: cgroup path not found"),
    }
}

/// The cgroup that process `pid` lives in, if it is `top` or below, else `top`.
///
/// # Errors
/// A process that is gone.
pub fn of_process(pid: i32, top: &Path) -> Result<PathBuf> {
    let path = Layout::find()?.directory(Path::new(&path_of(&pid.to_string())?));
    Ok(if path.starts_with(top) { path } else { top.to_owned() })
}

/// How often memory ran short in a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// The kernel killed a process.
    pub kills: u64,
    /// The limit was reached: what was asked for was taken from elsewhere or refused.
    pub limited: u64,
}

/// A container's cgroup, open.
#[derive(Debug)]
pub struct Cgroup {
    dir: OwnedFd,
    path: PathBuf,
    made: Vec<PathBuf>,
}

impl Cgroup {
    /// Opens the cgroup at an absolute path; `None` when it is gone.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        match directory(path) {
            Ok(dir) => Ok(Some(Self { dir, path: path.into(), made: Vec::new() })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("open cgroup {}", path.display())),
        }
    }

    /// The cgroup of a container that has one.
    pub fn of(container: &Container) -> Result<Self> {
        container.cgroup()?.ok_or_else(|| Error::new(phrase::NO_CGROUP))
    }

    /// The directory, as clone3(2) takes it for CLONE_INTO_CGROUP.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// The directory's absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its inode, which no other cgroup gets until the next boot.
    ///
    /// # Errors
    /// Those of fstat(2).
    pub fn inode(&self) -> Result<u64> {
        let found = rustix::fs::fstat(&self.dir);
        Ok(found.with_context(|| format!("fstat {}", self.path.display()))?.st_ino)
    }

    /// The directories that [`create()`] made, parents first.
    pub fn made(&self) -> &[PathBuf] {
        &self.made
    }

    /// Moves a process into it.
    ///
    /// # Errors
    /// Those of cgroup.procs, cgroups(7).
    fn add(&self, pid: i32) -> Result<()> {
        let told = || format!("write {pid} to {}/cgroup.procs", self.path.display());
        file::write(&self.dir, "cgroup.procs", &pid.to_string()).with_context(told)
    }

    /// Refuses what a process must not be born into: a cgroup that is frozen, itself or from above. With
    /// CLONE_VFORK the parent would sleep until somebody thaws it, and by turns nobody would be told why nothing happens.
    pub fn join_check(&self) -> Result<()> {
        if self.events()?.is_some_and(|events| events.frozen) {
            bail!("{}", FROZEN);
        }
        Ok(())
    }

    /// Whether it hands controllers to cgroups below it, so that no process may live in it itself.
    pub fn is_parent(&self) -> bool {
        file::read(&self.dir, "cgroup.subtree_control").is_ok_and(|text| !text.trim().is_empty())
    }

    /// How often memory ran short in it; `None` without the memory controller.
    pub fn shortage(&self) -> Result<Option<Shortage>> {
        let text =
            file::read_if_there(&self.dir, "memory.events").with_context(|| self.told("memory.events"))?;
        let count = |text: &str, key: &str| value_of(text, key).unwrap_or(0);
        Ok(text.map(|text| Shortage { kills: count(&text, "oom_kill"), limited: count(&text, "max") }))
    }

    /// Somebody removed it.
    pub fn is_gone(&self) -> bool {
        matches!(file::read_if_there(&self.dir, "cgroup.procs"), Ok(None))
    }

    /// The most memory that its processes ever took together, in bytes. Before Linux 5.19: what they take now.
    ///
    /// # Errors
    /// No memory controller.
    pub fn memory_peak(&self) -> Result<u64> {
        let text = match file::read(&self.dir, "memory.peak") {
            Err(Errno::NOENT) => file::read(&self.dir, "memory.current"),
            text => text,
        };
        let text = text.with_context(|| self.told("memory.peak"))?;
        text.trim().parse().map_err(|_| Error::new(format!("memory.peak: {text:?} is no number")))
    }

    /// `read PATH/FILE`, for errors.
    fn told(&self, file: &str) -> String {
        format!("read {}/{file}", self.path.display())
    }
}

const FROZEN: &str = "container's cgroup unexpectedly frozen";

/// A cgroup's directory. No symlink is followed: none belongs there.
fn directory(path: &Path) -> std::result::Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat2(rustix::fs::CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)
}

/// The number behind `key ` in a file of such lines.
fn value_of(text: &str, key: &str) -> Option<u64> {
    let value = |line: &str| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok();
    text.lines().find_map(value)
}
