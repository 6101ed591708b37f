//! What a `start` or `delete` that is killed in the middle would leave, or a server without a container: a socket on which nobody listens, and
//! after which nobody cleans up. Each notes its socket while it is at it, and takes away those that others noted who are gone.

use crate::socket;
use pintle::error::{Context as _, Result};
use rustix::fd::{AsRawFd as _, OwnedFd};
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, flock, linkat, open};
use std::fs::DirBuilder;
use std::io::Read as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The environment's word for where the note is that a server takes over.
pub const VARIABLE: &str = "PINTLE_SHIM_NOTE";

/// Where the notes are, beside the sockets.
const FOLDER: &str = ".unfinished";

/// Of this process's notes.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A note, as long as somebody is at it.
#[derive(Debug)]
pub struct Note {
    path: PathBuf,
    /// Its lock tells that its writer lives, or who took it over.
    file: OwnedFd,
    /// Another process takes it away.
    left: bool,
}

impl Note {
    /// Notes that something is done about `socket`, and does what was left undone by others.
    ///
    /// # Errors
    /// A file system that is full or read-only.
    pub fn of(socket: &Path) -> Result<Self> {
        let folder = socket.parent().unwrap_or(Path::new("/")).join(FOLDER);
        finish(&folder);
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).context("make a folder for notes")?;
        // It has its lock and its words before it has a name.
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = open(&folder, flags, Mode::from_raw_mode(0o600)).context("make a note")?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).context("lock a note")?;
        rustix::io::write(&file, socket.as_os_str().as_bytes()).context("write a note")?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("{}.{number}", std::process::id()));
        let own = format!("/proc/self/fd/{}", file.as_raw_fd());
        linkat(CWD, own, CWD, &path, AtFlags::SYMLINK_FOLLOW).context("name a note")?;
        Ok(Self { path, file, left: false })
    }

    /// The note that another process left to this one, which has its open file.
    pub fn taken_over(path: PathBuf, file: OwnedFd) -> Self {
        Self { path, file, left: false }
    }

    /// Where it is, and its open file: what a child takes over, in which the lock goes on when this process is gone.
    ///
    /// # Errors
    /// No descriptors are left.
    pub fn for_child(&self) -> Result<(&Path, OwnedFd)> {
        Ok((&self.path, rustix::io::fcntl_dupfd_cloexec(&self.file, 3).context("copy a note's descriptor")?))
    }

    /// Leaves it to the child that took it over.
    pub fn leave(mut self) {
        self.left = true;
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        if self.left {
            return;
        }
        let _gone = std::fs::remove_file(&self.path);
        // Unless there are others.
        let _empty = self.path.parent().map(std::fs::remove_dir);
    }
}

/// Takes away the sockets of those that are gone, and their notes.
fn finish(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(mut note) = std::fs::File::open(entry.path()) else { continue };
        if flock(&note, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        let mut words = Vec::new();
        if note.read_to_end(&mut words).is_ok() {
            socket::remove_dead(Path::new(&std::ffi::OsString::from_vec(words)));
        }
        let _gone = std::fs::remove_file(entry.path());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn what_others_left_undone_is_done() {
        let folder = std::env::temp_dir().join(format!("pintle-shim-notes-{}", std::process::id()));
        let notes = folder.join(FOLDER);
        std::fs::create_dir_all(&notes).unwrap();
        let [dead, alive, own] = ["dead", "alive", "own"].map(|name| folder.join(name));
        drop(UnixListener::bind(&dead).unwrap());
        let _listens = UnixListener::bind(&alive).unwrap();
        // Of processes that are gone: nobody has their locks.
        for (name, socket) in [("1", &dead), ("2", &alive)] {
            std::fs::write(notes.join(name), socket.as_os_str().as_bytes()).unwrap();
        }
        drop(UnixListener::bind(&own).unwrap());
        let note = Note::of(&own).unwrap();
        assert!(!dead.exists() && alive.exists() && own.exists());
        finish(&notes);
        assert!(own.exists() && note.path.exists(), "its writer lives");
        let (path, file) = note.for_child().unwrap();
        let taken = Note::taken_over(path.to_owned(), file);
        note.leave();
        finish(&notes);
        assert!(own.exists() && taken.path.exists(), "who took it over lives");
        drop(taken);
        assert!(!notes.exists());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
