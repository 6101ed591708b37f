//! File systems of programs, types `fuse.NAME` and `fuse3.NAME`: mounted by mount.fuse(8), which starts NAME.

use super::Mount;
use pintle::error::{Context as _, Error, Result};
use std::path::Path;
use std::process::{Command, Stdio};

/// The helper for a type, and the program that it is to start.
pub fn of(kind: &str) -> Option<(&'static str, &str)> {
    let fuse = kind.strip_prefix("fuse.").map(|name| ("mount.fuse", name));
    fuse.or_else(|| kind.strip_prefix("fuse3.").map(|name| ("mount.fuse3", name)))
}

/// Has it mounted, and waits for that.
///
/// # Errors
/// A helper that is missing, or fails: with its words.
pub fn mount(one: &Mount, (helper, program): (&str, &str), target: &Path) -> Result<()> {
    let mut command = Command::new(helper);
    command.arg(&one.source).arg(target);
    for option in &one.options {
        command.args(["-o", option]);
    }
    command.args(["-t", program]).stdin(Stdio::null());
    // What it starts stays, and may keep its streams: they are not waited for but read from a file.
    let said = rustix::fs::memfd_create(helper, rustix::fs::MemfdFlags::CLOEXEC).context("memfd_create")?;
    let mut said = std::fs::File::from(said);
    command.stdout(said.try_clone()?).stderr(said.try_clone()?);
    let status = command.status().with_context(|| format!("exec {helper}"))?;
    if status.success() {
        return Ok(());
    }
    let mut words = String::new();
    std::io::Seek::rewind(&mut said)?;
    std::io::Read::read_to_string(&mut said, &mut words)?;
    Err(Error::new(format!("{helper}: {status}: {}", words.trim())))
}
