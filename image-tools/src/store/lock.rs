//! Advisory locks of files in the store (flock(2)): dropped by the kernel with the process, however it ends.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat};
use rustix::io::Errno;

use crate::error::{Context, Result};

/// A lock file; what of it is held ends with it.
pub struct Lock(OwnedFd);

impl Lock {
    /// Opens the lock file of this name, not yet locked.
    pub fn open(dir: BorrowedFd<'_>, name: &str) -> Result<Self> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self(openat(dir, name, flags, Mode::from_raw_mode(0o600)).with_context(|| name.to_owned())?))
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
