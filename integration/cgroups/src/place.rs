//! The folder in which everything happens, on a file system with devices: one rootfs, the bundles, the runtimes' states.
//! Removed at the end.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use pintle_tests::{Bundle, Value, default_config, json};

/// Folders of the rootfs; nodes are put into the last.
const FOLDERS: [&str; 5] = ["proc", "sys", "dev", "tmp", "nodes"];

/// A folder below /var/tmp.
pub struct Place {
    /// The folder.
    pub dir: PathBuf,
    count: Cell<u32>,
}

impl Place {
    /// Makes the folder and the rootfs, which holds this program as /program and a static busybox.
    pub fn new() -> Result<Self> {
        let dir = PathBuf::from(format!("/var/tmp/pintle-cgroups-{}", std::process::id()));
        let place = Self { dir, count: Cell::new(0) };
        for folder in FOLDERS {
            let folder = place.rootfs().join(folder);
            fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        }
        let own = std::env::current_exe().context("own path")?;
        fs::copy(&own, place.rootfs().join("program")).context("copy the program into the rootfs")?;
        fs::copy("/usr/bin/busybox", place.rootfs().join("busybox"))
            .context("copy busybox into the rootfs")?;
        Ok(place)
    }

    /// The rootfs that all bundles share.
    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// A number that was not given before.
    pub fn next(&self) -> u32 {
        self.count.replace(self.count.get() + 1)
    }

    /// A bundle whose process runs `words`, with these resources beside the default device rules.
    pub fn bundle(&self, words: &[&str], resources: &Value) -> Result<Bundle> {
        let dir = self.dir.join(format!("bundle{}", self.next()));
        fs::create_dir(&dir).with_context(|| format!("make {}", dir.display()))?;
        let mut bundle = Bundle { dir, config: default_config() };
        bundle.args(words).set("/root/path", json!(self.rootfs()));
        for (name, value) in resources.as_object().into_iter().flatten() {
            bundle.config["linux"]["resources"][name] = value.clone();
        }
        bundle.write();
        Ok(bundle)
    }

    /// A path in the folder.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("cgroups: remove {}: {error}", self.dir.display());
        }
    }
}
