//! What the containers are made of: one read-only rootfs with `true` and `sleep`, and runc's default spec.

use crate::failure::{Doing, Failure, Result};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Equal to what `runc spec` writes, without a terminal.
const SPEC: &str = include_str!("../config.json");

/// The rootfs of all containers, and what its programs are.
#[derive(Debug)]
pub struct Rootfs {
    /// Where it is.
    pub path: PathBuf,
    /// For the head of the table.
    pub programs: &'static str,
}

/// Makes the rootfs below `place`.
///
/// # Errors
/// Those of the filesystem.
pub fn rootfs(place: &Path) -> Result<Rootfs> {
    let path = place.join("rootfs");
    for dir in ["bin", "dev", "proc", "sys"] {
        fs::create_dir_all(path.join(dir)).doing("rootfs")?;
    }
    let busybox =
        ["/bin/busybox", "/usr/bin/busybox"].map(Path::new).into_iter().find(|path| is_static(path));
    let (source, programs) = match busybox {
        Some(path) => (path.to_owned(), "busybox-static"),
        None => (std::env::current_exe().doing("own path")?, "the bench's own (busybox-static is not there)"),
    };
    fs::copy(source, path.join("bin/busybox")).doing("bin/busybox")?;
    for name in ["true", "sleep"] {
        symlink("busybox", path.join("bin").join(name)).doing(name)?;
    }
    Ok(Rootfs { path, programs })
}

/// Makes a bundle whose process runs `words`.
///
/// # Errors
/// Those of the filesystem.
pub fn bundle(path: &Path, rootfs: &Path, words: &[&str]) -> Result<()> {
    let mut spec: Value = serde_json::from_str(SPEC).doing("bench/config.json")?;
    spec["process"]["args"] = json!(words);
    spec["root"]["path"] = json!(rootfs);
    fs::create_dir_all(path).doing(path.display())?;
    fs::write(path.join("config.json"), spec.to_string()).doing(path.display())
}

/// Whether a file is a 64-bit ELF program that asks for no interpreter.
fn is_static(path: &Path) -> bool {
    fs::read(path).is_ok_and(|image| interpreter(&image) == Some(false))
}

fn interpreter(image: &[u8]) -> Option<bool> {
    let number = |at: usize, size: usize| {
        let bytes = image.get(at..at.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0, |n: usize, &byte| n << 8 | usize::from(byte)))
    };
    if !image.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    Some((0..count).any(|header| number(table + header * size, 4) == Some(3)))
}

/// What `true` and `sleep` do where this binary stands in for busybox.
pub fn program(name: &str) -> Option<()> {
    match name {
        "true" => Some(()),
        "sleep" => loop {
            std::thread::park();
        },
        _ => None,
    }
}

/// A file's size.
///
/// # Errors
/// The file is not there.
pub fn size(path: &Path) -> Result<u64> {
    fs::metadata(path).map(|m| m.len()).map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}
