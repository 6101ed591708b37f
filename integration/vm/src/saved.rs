//! Booted machines kept as files: restoring one takes a fraction of a boot. A state is a layer of the disk and the memory of
//! a machine that waits for its script; it is made when a shape of machine is first asked for.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cache::{self, Scratch};
use crate::cli::Shape;
use crate::image::{self, Image};
use crate::machine;
use crate::qemu::{Disk, Qemu};

/// An emulated one, beside others that are at work.
const LONGEST_BOOT: Duration = Duration::from_secs(600);

/// The image's disk, as a layer names it: a checkout or cache that moves takes its machines along.
const BELOW: &str = "../../boot/disk.ext4";

/// A booted machine in the cache.
pub struct Saved {
    pub disk: PathBuf,
    pub memory: PathBuf,
}

/// The saved state of a shape; made where there is none.
pub fn state(image: &Image, shape: Shape) -> Result<Saved> {
    let dir = cache::path("saved").join(shape.name());
    let saved = Saved { disk: dir.join("disk.qcow2"), memory: dir.join("memory") };
    let _lock = cache::lock(&format!("saved-{}", shape.name()))?;
    if !saved.memory.exists() {
        let bar = image::spinner(&format!("boot a machine with {} once, and save it", shape.init.name()));
        fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        let made = save(image, shape, &saved);
        bar.finish_and_clear();
        made.context("save a booted machine")?;
    }
    Ok(saved)
}

fn save(image: &Image, shape: Shape, saved: &Saved) -> Result<()> {
    layer(image, saved)?;
    let nothing = Scratch::new()?;
    let mut qemu = Qemu::start(image, shape, Disk::Keep(&saved.disk), &nothing.path(""), false)?;
    machine::wait_until_ready(&mut qemu, LONGEST_BOOT)?;
    // Complete under its own name, or not there.
    let part = saved.memory.with_extension("part");
    qemu.monitor.save(&part)?;
    qemu.stop()?;
    fs::rename(&part, &saved.memory).with_context(|| format!("rename {}", part.display()))
}

fn layer(image: &Image, saved: &Saved) -> Result<()> {
    let [loader, words @ ..] = image.emulator("qemu-img");
    let made = Command::new(loader)
        .args(words)
        .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b", BELOW])
        .arg(&saved.disk)
        .output()
        .context("run qemu-img")?;
    if !made.status.success() {
        bail!("make {}: {}", saved.disk.display(), String::from_utf8_lossy(&made.stderr).trim());
    }
    Ok(())
}
