//! Who takes part: pintle, the oracles of `make oracles`, youki if it is installed, and the floor if there is a C
//! compiler. Who is missing is told in a line.

use crate::bundle::{Rootfs, bundle};
use crate::command::{Invocation, Meter};
use crate::failure::{Doing, Failure, Result};
use serde::Serialize;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const FLOOR: &str = include_str!("../floor.c");

/// One column of the comparison.
#[derive(Debug, Serialize)]
pub struct Runtime {
    /// pintle, runc, crun, youki or floor.
    pub name: &'static str,
    /// What `--version` says, in one line.
    pub version: String,
    /// Where the program is.
    pub program: PathBuf,
    /// Its own state directory and bundles.
    #[serde(skip)]
    pub place: PathBuf,
    #[serde(skip)]
    rootfs: PathBuf,
}

impl Runtime {
    fn new(name: &'static str, program: PathBuf, place: &Path, rootfs: &Path) -> Result<Self> {
        let place = place.join(name);
        bundle(&place.join("true"), rootfs, &["/bin/true"])?;
        bundle(&place.join("idle"), rootfs, &["/bin/sleep", "100000"])?;
        let version = if name == "floor" { "floor.c".into() } else { version(&program)? };
        Ok(Self { name, version, program, place, rootfs: rootfs.to_owned() })
    }

    /// Whether it is only the kernel's work of `run true`.
    pub fn is_floor(&self) -> bool {
        self.name == "floor"
    }

    /// Whether it is the one that all this is for.
    pub fn is_pintle(&self) -> bool {
        self.name == "pintle"
    }

    /// A command of it, with its own state directory.
    pub fn invocation(&self, words: &[&OsStr]) -> Invocation {
        let mut arguments = vec![OsString::from("--root"), self.place.join("state").into()];
        arguments.extend(words.iter().map(OsString::from));
        Invocation { program: self.program.clone(), arguments, stderr: self.place.join("stderr") }
    }

    /// `run` of a container that does nothing.
    ///
    /// # Errors
    /// Those of the command.
    pub fn run_true(&self, meter: Meter) -> Result<f64> {
        if self.is_floor() {
            let arguments = [self.rootfs.as_os_str(), "/sys/fs/cgroup".as_ref(), "/bin/true".as_ref()];
            let mut floor = self.invocation(&[]);
            floor.arguments = arguments.map(OsString::from).to_vec();
            return floor.measure(meter);
        }
        let (bundle, id) = (self.place.join("true"), format!("true-{}", self.name));
        self.invocation(&["run".as_ref(), "--bundle".as_ref(), bundle.as_ref(), id.as_ref()]).measure(meter)
    }
}

/// Those that are here, pintle first, and lines about those that are not.
///
/// # Errors
/// There is no pintle; a program that does not tell its version.
pub fn find(place: &Path, rootfs: &Rootfs) -> Result<(Vec<Runtime>, Vec<String>)> {
    let mut found = vec![Runtime::new("pintle", pintle()?, place, &rootfs.path)?];
    let mut notes = Vec::new();
    for name in ["runc", "crun"] {
        match fs::canonicalize(Path::new("target/oracles/bin").join(name)) {
            Ok(program) => found.push(Runtime::new(name, program, place, &rootfs.path)?),
            Err(_) => notes.push(format!("{name} is left out: `make oracles` unpacks it")),
        }
    }
    match on_path("youki") {
        Some(program) => found.push(Runtime::new("youki", program, place, &rootfs.path)?),
        None => notes.push("youki is left out: not on PATH".into()),
    }
    match floor(place) {
        Ok(program) => found.push(Runtime::new("floor", program, place, &rootfs.path)?),
        Err(why) => notes.push(format!("the floor is left out: {why}")),
    }
    Ok((found, notes))
}

/// `PINTLE`, or what the same build made, or the checkout's.
fn pintle() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("PINTLE") {
        return fs::canonicalize(&named).doing(format_args!("PINTLE={}", named.display()));
    }
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name("pintle"));
    let places = beside.into_iter().chain([PathBuf::from("target/release/pintle")]);
    places
        .filter_map(|path| fs::canonicalize(path).ok())
        .next()
        .ok_or_else(|| Failure::new("no pintle: `cargo build --release -p pintle` builds it"))
}

/// Where a program of the host is.
pub fn on_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// `NAME VERSION` from lines like `runc version 1.5.0`; pintle's own stands in the second line, after runc's.
fn version(program: &Path) -> Result<String> {
    let output = Command::new(program).arg("--version").output().doing(program.display())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let own = text.lines().find(|line| line.starts_with("pintle ")).or_else(|| text.lines().next());
    let commit = text.lines().find_map(|line| line.strip_prefix("commit: "));
    let own = own.unwrap_or("version unknown").replace("version ", "");
    // Distributions put the version there again; a hash is told short.
    let hash = commit.filter(|c| c.len() >= 40 && c.bytes().all(|b| b.is_ascii_hexdigit()));
    Ok(hash.map_or(own.clone(), |hash| format!("{own} ({})", &hash[..10])))
}

/// Compiles floor.c below `place`.
fn floor(place: &Path) -> Result<PathBuf> {
    let (source, program) = (place.join("floor.c"), place.join("floor-program"));
    fs::write(&source, FLOOR).doing(source.display())?;
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-static", "-o"]).arg(&program).arg(&source);
    let output = cc.output().doing("cc")?;
    if output.status.success() {
        return Ok(program);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!("cc: {}", said.lines().last().unwrap_or("fails"))))
}
