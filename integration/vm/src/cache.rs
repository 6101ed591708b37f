//! Where the machine's parts lie: everything below `target/vm` of the checkout, or below `PINTLE_VM_CACHE` so that several
//! checkouts can share one machine.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The checkout that this program was built from.
pub fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("the package lies two folders below the checkout")
}

/// The cache's path below `name`.
pub fn path(name: &str) -> PathBuf {
    let base =
        std::env::var_os("PINTLE_VM_CACHE").map_or_else(|| checkout().join("target/vm"), PathBuf::from);
    base.join(name)
}

/// Waits for the cache's lock `name`, so that two commands never make the same part. Released when dropped.
pub fn lock(name: &str) -> Result<File> {
    fs::create_dir_all(path("")).with_context(|| format!("make {}", path("").display()))?;
    let lock = path(&format!("{name}.lock"));
    let file = File::create(&lock).with_context(|| format!("open {}", lock.display()))?;
    file.lock().with_context(|| format!("lock {}", lock.display()))?;
    Ok(file)
}

/// Removes what commands that were killed left in the temporary folder.
pub fn sweep() -> Result<()> {
    for entry in fs::read_dir(std::env::temp_dir()).context("list the temporary folder")? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name
            .strip_prefix("pintle-vm-")
            .and_then(|rest| rest.split_once('-'))
            .map(|(pid, _)| pid.to_owned());
        if pid.is_some_and(|pid| pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists()) {
            fs::remove_dir_all(entry.path()).with_context(|| format!("remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// A new folder of this process below the system's temporary folder: short enough for a socket's path. Removed when
/// dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Result<Scratch> {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pintle-vm-{}-{number}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Scratch(path))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("vm: remove {}: {error}", self.0.display());
        }
    }
}
