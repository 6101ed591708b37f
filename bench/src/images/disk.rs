//! A disk that has never been written: ext4 in a file in memory, mounted by a loop device. What is removed from a used one
//! would make the next files slow, by ten times and more.

use crate::failure::{Doing, Failure, Result};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Sparse: memory goes only for what is written.
const SIZE: u64 = 8 << 30;

/// One disk; gone with all it held when dropped, or with the mount namespace.
#[derive(Debug)]
pub struct Disk {
    /// Where it is mounted.
    pub path: PathBuf,
    image: PathBuf,
}

/// Where disks are: a tmpfs of the view's own.
///
/// # Errors
/// Those of mount(2) and mkdir(2).
pub fn memory() -> Result<PathBuf> {
    let path = PathBuf::from("/run/bench-images");
    fs::create_dir_all(&path).doing(path.display())?;
    mount("tmpfs", &path, "tmpfs", MountFlags::empty(), c"size=85%").doing(path.display())?;
    Ok(path)
}

impl Disk {
    /// Makes and mounts one called `name`.
    ///
    /// # Errors
    /// Those of mkfs.ext4 and mount.
    pub fn new(memory: &Path, name: &str) -> Result<Self> {
        let (path, image) = (memory.join(name), memory.join(format!("{name}.ext4")));
        fs::create_dir(&path).doing(path.display())?;
        File::create(&image).and_then(|file| file.set_len(SIZE)).doing(image.display())?;
        // Nothing is left for the kernel to initialise while a program is measured.
        let options = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
        run(Command::new("mkfs.ext4").args(["-q", "-E", options]).arg(&image))?;
        run(Command::new("mount").args(["-o", "loop,noatime"]).arg(&image).arg(&path))?;
        Ok(Self { path, image })
    }

    /// A path on it.
    pub fn at(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Overlays stand on it. What does not go now goes with the namespace.
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for target in mounts.lines().rev().filter_map(|line| line.split(' ').nth(4)) {
            if Path::new(target).starts_with(&self.path) {
                let _later = unmount(target, UnmountFlags::empty());
            }
        }
        let _gone_already = fs::remove_file(&self.image).and_then(|()| fs::remove_dir(&self.path));
    }
}

/// Runs a command that is not measured.
///
/// # Errors
/// It can't be started or fails: then with its standard error.
pub fn run(command: &mut Command) -> Result<()> {
    let output = command.output().doing(format_args!("{command:?}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!("{command:?}: {}\n{}", output.status, said.trim_end())))
}
