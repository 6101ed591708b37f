//! The smallest `linux.resources.memory.limit` with which a static program that does nothing starts and ends well, found by
//! halving, in steps of a page. Swap is limited to the same, so there is none. Runtime and container share one processor: the
//! kernel charges memory ahead for each processor that asks, which makes the figures of several ones a matter of luck.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};
use pintle_tests::json;
use serde::{Deserialize, Serialize};

use crate::place::Place;
use crate::runtimes::{Driver, Runtime};

const PAGE: u64 = 4096;
/// Any runtime starts with this.
const ENOUGH: u64 = 64 << 20;
/// All of so many starts have to go well.
const TRIES: usize = 3;
/// The search is made so often; the median counts.
const ROUNDS: usize = 3;
/// A runtime whose container is killed may wait for it without end.
const ON_ONE_CPU: [&str; 6] = ["taskset", "--cpu-list", "0", "timeout", "--signal=KILL", "30"];

/// What is judged.
const USUAL: &str = "busybox true, static";
/// A program of no libc: one system call.
const NOTHING: &str = r#"void _start(void) { __asm__("mov $60, %eax\n xor %edi, %edi\n syscall"); }"#;

/// The limits, in bytes.
#[derive(Debug, Serialize, Deserialize)]
pub struct Floor {
    pub versions: Vec<String>,
    /// By program, then by runtime: each round's, in order of size.
    pub least: BTreeMap<String, BTreeMap<String, Vec<u64>>>,
}

/// Finds the limits.
pub fn measure(place: &Place, runtimes: &[Runtime], driver: Driver) -> Result<Floor> {
    compile(place)?;
    let versions = runtimes.iter().map(Runtime::version).collect::<Result<_>>()?;
    let mut floor = Floor { versions, least: BTreeMap::new() };
    let programs: [(&str, &[&str]); 2] =
        [("one system call, no libc", &["/nothing"]), (USUAL, &["/busybox", "true"])];
    for _ in 0..ROUNDS {
        for runtime in runtimes {
            for (program, words) in programs {
                let least = least(place, runtime, driver, words)?;
                println!("{:<8}{program}: {least} ({} KiB)", runtime.name, least >> 10);
                let found =
                    floor.least.entry(program.into()).or_default().entry(runtime.name.clone()).or_default();
                found.push(least);
                found.sort_unstable();
            }
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
    let mut bundle =
        place.bundle(words, &json!({"memory": {"limit": limit, "swap": limit}, "cpu": {"cpus": "0"}}))?;
    let id = format!("{}-{}", runtime.name, place.next());
    bundle.set("/linux/cgroupsPath", json!(driver.cgroups_path(&id))).write();
    let dir = bundle.dir.to_string_lossy();
    let ended = runtime.call_by(place, &ON_ONE_CPU, driver, &["run", "--bundle", &dir, &id])?;
    if !ended.status.success() {
        runtime.call_by(place, &ON_ONE_CPU, driver, &["delete", "--force", &id])?;
    }
    fs::remove_dir_all(&bundle.dir).context("remove the bundle")?;
    Ok(ended.status.success())
}

/// The median.
pub fn middle(sorted: &[u64]) -> u64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// pintle may need no more than crun for a usual program. The other shows what the runtimes' own work needs.
pub fn judge(floor: &Floor) -> Result<bool> {
    let mut none_more = true;
    for (program, least) in &floor.least {
        let of = |name: &str| least.get(name).map(|found| middle(found));
        let (Some(pintle), Some(crun)) = (of("pintle"), of("crun")) else { continue };
        println!("{program}: pintle {} KiB, crun {} KiB", pintle >> 10, crun >> 10);
        none_more &= program != USUAL || pintle <= crun;
    }
    Ok(none_more)
}
