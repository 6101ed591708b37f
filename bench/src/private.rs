//! The private view in which all is measured: this binary executes itself again inside `private-v2`, with a /run of
//! its own. What is made here goes with the namespaces and the cgroup of the view, however the bench ends.

use crate::failure::{Doing, Failure, Result};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const SCRIPT: &str = include_str!("../private-v2");

/// Set inside the view.
const MARK: &str = "PINTLE_BENCH_INSIDE";

/// Whether this process is inside the view.
pub fn inside() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Becomes `private-v2` with this same command line; returns only if that fails.
pub fn enter() -> Failure {
    if !rustix::process::geteuid().is_root() {
        return Failure::new("the bench needs root: it makes containers in a private view of the machine");
    }
    let own = match std::env::current_exe() {
        Ok(own) => own,
        Err(error) => return Failure::new(format!("own path: {error}")),
    };
    let mut script = Command::new("bash");
    script.args(["-c", SCRIPT, "private-v2"]).arg(own).args(std::env::args_os().skip(1)).env(MARK, "1");
    Failure::new(format!("bash: {}", script.exec()))
}

/// Covers /run by a tmpfs of the view's own and gives a folder in it.
///
/// # Errors
/// Those of mount(2) and mkdir(2).
pub fn place() -> Result<PathBuf> {
    mount("tmpfs", "/run", "tmpfs", MountFlags::empty(), c"mode=755").doing("tmpfs on /run")?;
    let place = PathBuf::from("/run/pintle-bench");
    fs::create_dir(&place).doing(place.display())?;
    Ok(place)
}

/// Many mounts, as on a busy node; gone when dropped.
#[derive(Debug)]
pub struct Crowd {
    folder: PathBuf,
}

impl Crowd {
    /// Mounts `count` tmpfs.
    ///
    /// # Errors
    /// Those of mount(2); the kernel's limit is /proc/sys/fs/mount-max.
    pub fn new(place: &Path, count: usize) -> Result<Self> {
        let folder = place.join("crowd");
        fs::create_dir_all(&folder).doing(folder.display())?;
        mount("tmpfs", &folder, "tmpfs", MountFlags::empty(), c"mode=755").doing(folder.display())?;
        let crowd = Self { folder };
        for number in 1..count {
            let target = crowd.folder.join(number.to_string());
            fs::create_dir(&target).doing(target.display())?;
            mount("tmpfs", &target, "tmpfs", MountFlags::empty(), None).doing(target.display())?;
        }
        Ok(crowd)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // If this fails, they go with the namespace.
        let _later = unmount(&self.folder, UnmountFlags::DETACH);
    }
}
