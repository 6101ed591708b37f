//! The smallest `linux.resources.memory.limit` with which a static program that does nothing starts and ends well, found by
//! halving, in steps of a page. Swap is limited to the same, so there is none.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};
use pintle_tests::{cgroup_of, json};
use serde::{Deserialize, Serialize};

use crate::place::Place;
use crate::runtimes::{Container, Driver, Runtime};

const PAGE: u64 = 4096;
/// Any runtime starts with this.
const ENOUGH: u64 = 64 << 20;
/// All of so many starts have to go well.
const TRIES: usize = 3;
/// A runtime whose container is killed may wait for it without end.
const PATIENCE: [&str; 3] = ["timeout", "--signal=KILL", "30"];

/// A program of no libc: one system call.
const NOTHING: &str = r#"void _start(void) { __asm__("mov $60, %eax\n xor %edi, %edi\n syscall"); }"#;

/// The limits, in bytes.
#[derive(Debug, Serialize, Deserialize)]
pub struct Floor {
    pub versions: Vec<String>,
    /// By program, then by runtime.
    pub least: BTreeMap<String, BTreeMap<String, u64>>,
    /// `memory.peak` of a created container without limits, by runtime: the most that was charged until then.
    pub peak: BTreeMap<String, u64>,
}

/// Finds the limits.
pub fn measure(place: &Place, runtimes: &[Runtime], driver: Driver) -> Result<Floor> {
    compile(place)?;
    let versions = runtimes.iter().map(Runtime::version).collect::<Result<_>>()?;
    let mut floor = Floor { versions, least: BTreeMap::new(), peak: BTreeMap::new() };
    let programs: [(&str, &[&str]); 2] =
        [("one system call, no libc", &["/nothing"]), ("busybox true, static", &["/busybox", "true"])];
    for runtime in runtimes {
        let peak = peak(place, runtime, driver)?;
        println!("{:<8}created: memory.peak {peak}", runtime.name);
        floor.peak.insert(runtime.name.clone(), peak);
        for (program, words) in programs {
            let least = least(place, runtime, driver, words)?;
            println!("{:<8}{program}: {least} ({} KiB)", runtime.name, least >> 10);
            floor.least.entry(program.into()).or_default().insert(runtime.name.clone(), least);
        }
    }
    Ok(floor)
}

fn compile(place: &Place) -> Result<()> {
    let (source, program) = (place.path("nothing.c"), place.rootfs().join("nothing"));
    fs::write(&source, NOTHING).context("write nothing.c")?;
    let mut gcc = Command::new("gcc");
    gcc.args(["-Os", "-static", "-nostdlib", "-o"]).arg(&program).arg(&source);
    if !gcc.status().context("start gcc")?.success() {
        bail!("gcc can't compile a program of one system call");
    }
    Ok(())
}

fn peak(place: &Place, runtime: &Runtime, driver: Driver) -> Result<u64> {
    let mut bundle = place.bundle(&["/busybox", "true"], &json!({}))?;
    let container = match Container::create(runtime, place, driver, &mut bundle)? {
        Ok(container) => container,
        Err(refusal) => bail!("{}: {refusal}", runtime.name),
    };
    let file = cgroup_of(container.pid).join("memory.peak");
    let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    text.trim().parse().with_context(|| format!("{}: {text:?}", file.display()))
}

fn least(place: &Place, runtime: &Runtime, driver: Driver, words: &[&str]) -> Result<u64> {
    let (mut fails, mut works) = (0, ENOUGH / PAGE);
    if !starts(place, runtime, driver, words, works * PAGE)? {
        bail!("{}: {words:?} does not start with {ENOUGH} bytes", runtime.name);
    }
    while works - fails > 1 {
        let middle = fails + (works - fails) / 2;
        let mut well = true;
        for _ in 0..TRIES {
            well = well && starts(place, runtime, driver, words, middle * PAGE)?;
        }
        *if well { &mut works } else { &mut fails } = middle;
    }
    Ok(works * PAGE)
}

fn starts(place: &Place, runtime: &Runtime, driver: Driver, words: &[&str], limit: u64) -> Result<bool> {
    let mut bundle = place.bundle(words, &json!({"memory": {"limit": limit, "swap": limit}}))?;
    let id = format!("{}-{}", runtime.name, place.next());
    bundle.set("/linux/cgroupsPath", json!(driver.cgroups_path(&id))).write();
    let dir = bundle.dir.to_string_lossy();
    let ended = runtime.call_by(place, &PATIENCE, driver, &["run", "--bundle", &dir, &id])?;
    if !ended.status.success() {
        runtime.call_by(place, &PATIENCE, driver, &["delete", "--force", &id])?;
    }
    fs::remove_dir_all(&bundle.dir).context("remove the bundle")?;
    Ok(ended.status.success())
}

/// pintle may need no more than crun.
pub fn judge(floor: &Floor) -> Result<bool> {
    let more = floor.least.iter().filter(|(_, least)| match (least.get("pintle"), least.get("crun")) {
        (Some(pintle), Some(crun)) => pintle > crun,
        _ => false,
    });
    let more: Vec<_> = more.map(|(program, _)| program.as_str()).collect();
    for program in &more {
        println!("MORE than crun's: {program}");
    }
    Ok(more.is_empty())
}
