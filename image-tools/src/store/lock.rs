//! Advisory locks of files in the store, and of folders that commands make (flock(2)): dropped by the kernel with the process, however it ends.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, fstat, openat, stat};
use rustix::io::Errno;

use crate::error::{Context, Error, Result};

/// A lock file; what of it is held ends with it.
pub struct Lock(OwnedFd);

impl Lock {
    /// Opens the lock file of this name, not yet locked.
    pub fn open(dir: BorrowedFd<'_>, name: &str) -> Result<Self> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self(openat(dir, name, flags, Mode::from_raw_mode(0o600)).with_context(|| name.to_owned())?))
    }

    /// Takes a folder for one command alone. That somebody else works there is an error: nobody waits for it.
    pub fn folder(dir: &Path) -> Result<Self> {
        let place = || dir.display().to_string();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let lock = Self(openat(CWD, dir, flags, Mode::empty()).with_context(place)?);
        let ours = fstat(&lock.0)?;
        // Whoever had the lock may have removed the folder, or mounted over it, meanwhile.
        let is_there = |there: rustix::fs::Stat| (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino);
        if !lock.try_exclusive()? || !stat(dir).is_ok_and(is_there) {
            return Err(Error::other("another command is at work there")).with_context(place);
        }
        Ok(lock)
    }

    /// Waits for its turn among many.
    pub fn shared(&self) -> Result<()> {
        self.take(FlockOperation::LockShared)
    }

    /// Waits until nobody else has it.
    pub fn exclusive(&self) -> Result<()> {
        self.take(FlockOperation::LockExclusive)
    }

    /// False: somebody has it.
    pub fn try_exclusive(&self) -> Result<bool> {
        match flock(&self.0, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(e) => Err(e).context("lock"),
        }
    }

    fn take(&self, operation: FlockOperation) -> Result<()> {
        loop {
            match flock(&self.0, operation) {
                Err(Errno::INTR) => {}
                other => return other.context("lock"),
            }
        }
    }
}
