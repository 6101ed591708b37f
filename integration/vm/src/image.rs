//! Making the machine, once: an emulator, a root folder, the disk that it becomes. The recipes are the scripts in `image/`;
//! this file knows their order, runs them where something is missing or the recipe changed, and shows what happens.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::accel::{self, Accel};
use crate::cache;

/// A complete machine in the cache.
#[derive(Clone)]
pub struct Image {
    /// The unpacked emulator.
    pub qemu: PathBuf,
    /// What the machine's disk was made from: natively run suites use it too.
    pub root: PathBuf,
    /// vmlinux, initramfs, disk.ext4.
    pub boot: PathBuf,
    pub accel: Accel,
}

impl Image {
    /// The words that start a program of the unpacked emulator: by its own dynamic loader, since the host's libraries are too
    /// old for it.
    pub fn emulator(&self, program: &str) -> [OsString; 4] {
        let inside = |path: &str| self.qemu.join(path).into_os_string();
        let libraries = inside("usr/lib/x86_64-linux-gnu");
        [
            inside("usr/lib64/ld-linux-x86-64.so.2"),
            "--library-path".into(),
            libraries,
            inside(&format!("usr/bin/{program}")),
        ]
    }

    /// What the machine was made from: two images with the same identity give the same results.
    pub fn identity(&self) -> Result<String> {
        PARTS.iter().filter(|part| part.recipe != "qemu").map(recipe).collect()
    }

    /// A package of the machine's and its version, `runc 1.4.3+ds1-1`.
    pub fn version(&self, package: &str) -> Result<String> {
        let status = self.root.join("var/lib/dpkg/status");
        let text = fs::read_to_string(&status).with_context(|| format!("read {}", status.display()))?;
        let stanza = text.split("\n\n").find(|stanza| stanza.starts_with(&format!("Package: {package}\n")));
        let version =
            stanza.and_then(|stanza| stanza.lines().find_map(|line| line.strip_prefix("Version: ")));
        Ok(format!("{package} {}", version.with_context(|| format!("the machine has no package {package}"))?))
    }
}

/// A part of the machine: a script of `image/`, what it makes and what it is made from.
struct Part {
    recipe: &'static str,
    about: &'static str,
    /// Folders of the checkout whose change makes the part anew.
    inputs: &'static [&'static str],
}

const PARTS: [Part; 4] = [
    Part {
        recipe: "qemu",
        about: "unpack the emulator",
        inputs: &["integration/vm/image/qemu", "integration/vm/image/apt.sh"],
    },
    Part {
        recipe: "root",
        about: "bootstrap the root folder: about 300 packages",
        inputs: &[
            "integration/vm/image/root",
            "integration/vm/image/apt.sh",
            "integration/vm/image/packages",
            "integration/vm/guest/root",
        ],
    },
    Part {
        recipe: "suites",
        about: "build upstream's suites inside it",
        inputs: &["integration/vm/image/suites", "integration/suites/runc/prepare"],
    },
    Part {
        recipe: "boot",
        about: "write kernel and disk",
        inputs: &["integration/vm/image/boot", "integration/vm/guest/init"],
    },
];

/// Makes what is missing. A part that is made anew takes with it what was made from it.
pub fn build() -> Result<Image> {
    let _lock = cache::lock("build")?;
    cache::sweep()?;
    let mut stale = false;
    for part in &PARTS {
        // The emulator is made of nothing that comes later, and nothing of it.
        stale = (stale && part.recipe != "root") || !is_made(part)?;
        if stale {
            make(part)?;
        }
    }
    let [qemu, root, boot] = ["qemu", "root", "boot"].map(cache::path);
    let mut image = Image { qemu, root, boot, accel: Accel::Tcg };
    image.accel = accel::choose(&image)?;
    Ok(image)
}

fn is_made(part: &Part) -> Result<bool> {
    let made = fs::read_to_string(cache::path(part.recipe).with_extension("recipe")).unwrap_or_default();
    Ok(made == recipe(part)?)
}

/// The recipe's text: what has to be the same for a part to be reused.
fn recipe(part: &Part) -> Result<String> {
    let mut text = String::new();
    for input in part.inputs {
        read_tree(&cache::checkout().join(input), &mut text)?;
    }
    Ok(text)
}

fn read_tree(path: &Path, text: &mut String) -> Result<()> {
    if !path.is_dir() {
        let file = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        text.push_str(&format!("=== {}\n{file}", path.strip_prefix(cache::checkout())?.display()));
        return Ok(());
    }
    let entries = fs::read_dir(path).with_context(|| format!("list {}", path.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    paths.iter().try_for_each(|path| read_tree(path, text))
}

fn make(part: &Part) -> Result<()> {
    // /proc/self belongs to the effective user.
    if fs::metadata("/proc/self").context("look at /proc/self")?.uid() != 0 {
        bail!("{}: making the machine needs root: run cargo vm build as root once", part.recipe);
    }
    let made = cache::path(part.recipe);
    let remembered = made.with_extension("recipe");
    let log = made.with_extension("log");
    // Without it the part counts as missing, whatever happens from here on.
    if remembered.exists() {
        fs::remove_file(&remembered).with_context(|| format!("remove {}", remembered.display()))?;
    }
    for old in [&made, &cache::path("saved")] {
        if old.exists() {
            fs::remove_dir_all(old).with_context(|| format!("remove {}", old.display()))?;
        }
    }
    let start = Instant::now();
    let bar = spinner(&format!("{}: {}", part.recipe, part.about));
    let result = script(part, &made, &log, &bar);
    bar.finish_and_clear();
    result?;
    eprintln!("vm: {}: {} ({:.0} s)", part.recipe, part.about, start.elapsed().as_secs_f32());
    fs::write(&remembered, recipe(part)?).with_context(|| format!("write {}", remembered.display()))
}

/// Runs a recipe, its words to the log and its last one to the progress line.
fn script(part: &Part, made: &Path, log: &Path, bar: &ProgressBar) -> Result<()> {
    let script = cache::checkout().join("integration/vm/image").join(part.recipe);
    let output = File::create(log).with_context(|| format!("write {}", log.display()))?;
    let mut child = Command::new(&script)
        .arg(made)
        .env("PINTLE_VM_CACHE", cache::path(""))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(output)
        .spawn()
        .with_context(|| format!("run {}", script.display()))?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if let Some(line) = last_line(log) {
            bar.set_message(line);
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    if !status.success() {
        bail!(
            "{}: {status}: {} (all of it: {})",
            script.display(),
            last_line(log).unwrap_or_default(),
            log.display()
        );
    }
    Ok(())
}

fn last_line(log: &Path) -> Option<String> {
    BufReader::new(File::open(log).ok()?)
        .lines()
        .map_while(Result::ok)
        .filter(|line| !line.trim().is_empty())
        .last()
}

/// A line that moves while something takes long, on a terminal.
pub fn spinner(what: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("{spinner} {prefix} [{elapsed}] {wide_msg}");
    bar.set_style(style.expect("the template is right"));
    bar.set_prefix(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
