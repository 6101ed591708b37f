//! What is known of a container, in a directory of its own: the record (state.json), the socket, and a lock on the directory itself that
//! the supervisor holds as long as it lives. Who wants to know whether it lives, or waits for its end, asks for the lock. flock(2)

use crate::runtime::Runtime;
use crate::wire::options::Options;
use pintle::bail;
use pintle::error::{Context as _, Error, Result};
use rustix::fd::OwnedFd;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const RECORD: &str = "state.json";
/// Where the supervisor listens.
pub const SOCKET: &str = "socket";
/// How often is looked whether the lock is free, where nobody wants to wait for ever.
const LOOK: Duration = Duration::from_millis(20);

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is being born.
    Starting,
    /// It runs.
    Running,
    /// It ended, and will be started again.
    Restarting,
    /// It ended for good.
    Exited,
    /// Nobody knows: its supervisor was killed. Never written down.
    Lost,
}

/// What is written down.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The container.
    pub id: String,
    /// Where it is in its life.
    pub status: Status,
    /// Its first process; 0 while there is none.
    pub pid: i32,
    /// How it ended last: its exit status, or 128 and the signal.
    pub exit_status: Option<u8>,
    /// How often it was started again.
    pub restarts: u32,
    /// RFC 3339 with nanoseconds, as all moments here.
    pub created: String,
    /// When it ended for good.
    pub finished: String,
    /// What went wrong that did not end it, and when.
    pub trouble: String,
    /// The process that looks after it.
    pub supervisor: u32,
    /// The bundle, absolute.
    pub bundle: PathBuf,
    /// The runtime's directory.
    pub root: PathBuf,
    /// systemd makes the cgroup.
    pub systemd_cgroup: bool,
    /// The log's newest file.
    pub log: PathBuf,
    /// How many there are.
    pub log_files: u16,
    /// It has a terminal.
    pub terminal: bool,
    /// It takes what is sent to it.
    pub interactive: bool,
}

/// The directory of one container.
#[derive(Debug)]
pub struct Folder {
    /// Its path.
    pub path: PathBuf,
    directory: OwnedFd,
}

impl Folder {
    /// A new one, locked.
    ///
    /// # Errors
    /// There is one; a parent that belongs to others.
    pub fn make(home: &Path, id: &str) -> Result<Self> {
        pintle::state::check_id(id)?;
        let builder = |recursive| {
            let mut builder = DirBuilder::new();
            builder.mode(0o700).recursive(recursive);
            builder
        };
        builder(true).create(home).with_context(|| format!("mkdir {}", home.display()))?;
        let found = std::fs::metadata(home)?;
        if found.uid() != rustix::process::geteuid().as_raw() || found.mode() & 0o077 != 0 {
            bail!("{}: it is open to others, or theirs", home.display());
        }
        let path = home.join(id);
        match builder(false).create(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                bail!("{id} is there already: rm forgets one that has ended");
            }
            other => other.with_context(|| format!("mkdir {}", path.display()))?,
        }
        let folder = Self::open(home, id)?;
        folder.lock(FlockOperation::NonBlockingLockExclusive).context("lock the state")?;
        Ok(folder)
    }

    /// One that is there.
    ///
    /// # Errors
    /// There is none.
    pub fn open(home: &Path, id: &str) -> Result<Self> {
        pintle::state::check_id(id)?;
        let path = home.join(id);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Err(Errno::NOENT) => bail!("{id}: no such container here"),
            other => Ok(Self { directory: other.with_context(|| format!("open {}", path.display()))?, path }),
        }
    }

    /// All of them.
    ///
    /// # Errors
    /// A directory that can't be read; that there is none is no error.
    pub fn all(home: &Path) -> Result<Vec<(String, Self)>> {
        let entries = match std::fs::read_dir(home) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.with_context(|| format!("open {}", home.display()))?,
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        // One that goes away meanwhile is not there.
        let mut all: Vec<_> =
            names.filter_map(|id| Self::open(home, &id).ok().map(|folder| (id, folder))).collect();
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(all)
    }

    fn lock(&self, operation: FlockOperation) -> rustix::io::Result<()> {
        loop {
            match rustix::fs::flock(&self.directory, operation) {
                Err(Errno::INTR) => {}
                other => return other,
            }
        }
    }

    /// Waits until no supervisor has it, `limit` at most; whether that is so. Several may wait.
    ///
    /// # Errors
    /// None in practice.
    pub fn is_free_within(&self, limit: Option<Duration>) -> Result<bool> {
        let until = limit.map(|limit| Instant::now() + limit);
        let operation = match limit {
            Some(_) => FlockOperation::NonBlockingLockShared,
            None => FlockOperation::LockShared,
        };
        loop {
            match self.lock(operation) {
                Err(Errno::WOULDBLOCK) if until.is_some_and(|until| until <= Instant::now()) => {
                    return Ok(false);
                }
                Err(Errno::WOULDBLOCK) => std::thread::sleep(LOOK),
                other => return other.map(|()| true).context("wait for the supervisor"),
            }
        }
    }

    /// Whether a supervisor has it.
    ///
    /// # Errors
    /// None in practice.
    pub fn is_kept(&self) -> Result<bool> {
        Ok(!self.is_free_within(Some(Duration::ZERO))?)
    }

    /// What is written down.
    ///
    /// # Errors
    /// Nothing is, or nothing that can be understood.
    pub fn read(&self) -> Result<Record> {
        // In this order: a supervisor that ends between the two has written before.
        let kept = self.is_kept()?;
        let path = self.path.join(RECORD);
        let text = std::fs::read(&path).with_context(|| format!("open {}", path.display()))?;
        let mut record: Record = serde_json::from_slice(&text)
            .map_err(|error| Error::new(format!("{}: {error}", path.display())))?;
        if !kept && record.status != Status::Exited {
            record.status = Status::Lost;
        }
        Ok(record)
    }

    /// Writes it down, whole or not at all.
    ///
    /// # Errors
    /// A file system that is full.
    pub fn save(&self, record: &Record) -> Result<()> {
        let (path, new) = (self.path.join(RECORD), self.path.join(format!("{RECORD}.new")));
        let text = serde_json::to_vec(record).map_err(|error| Error::new(error.to_string()))?;
        let saved = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &path));
        saved.with_context(|| format!("write {}", path.display()))
    }

    /// Removes it with everything in it.
    ///
    /// # Errors
    /// What can't be removed.
    pub fn remove(&self) -> Result<()> {
        std::fs::remove_dir_all(&self.path).with_context(|| format!("remove {}", self.path.display()))
    }
}

impl Record {
    /// How the container's runtime is called.
    pub fn runtime(&self, folder: &Folder) -> Runtime {
        let root = self.root.display().to_string();
        let options = Options { root, systemd_cgroup: self.systemd_cgroup, ..Options::default() };
        Runtime::new(options, &folder.path, "")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_tells_who_lives() {
        let home = std::env::temp_dir().join(format!("pintle-keep-state-{}", std::process::id()));
        let made = Folder::make(&home, "c1").unwrap();
        assert_eq!(std::fs::metadata(&made.path).unwrap().mode() & 0o777, 0o700);
        let seen = Folder::open(&home, "c1").unwrap();
        assert!(seen.is_kept().unwrap());
        assert!(Folder::make(&home, "c1").unwrap_err().to_string().contains("there already"));
        assert_eq!(Folder::all(&home).unwrap().len(), 1);
        drop(made);
        assert!(seen.is_free_within(None).unwrap() && !seen.is_kept().unwrap());
        // Who looked, or waited, is in nobody's way.
        assert!(!Folder::open(&home, "c1").unwrap().is_kept().unwrap());
        seen.remove().unwrap();
        for id in ["", "..", "a/b", "c1"] {
            assert!(Folder::open(&home, id).is_err(), "{id}");
        }
        std::fs::remove_dir(&home).unwrap();
    }
}
