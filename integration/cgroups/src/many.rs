//! Many containers, one after the other and all at once: what they leave, and whether the last ones take longer than the
//! first.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use pintle_tests::{Value, json};
use serde::{Deserialize, Serialize};

use crate::place::Place;
use crate::runtimes::{Driver, Runtime};

/// So many containers at the beginning and at the end are compared.
const SAMPLE: usize = 10;
/// The last may take so much longer than the first.
const MOST: f64 = 1.5;
/// What systemd and the kernel put off is gone by then.
const PATIENCE: Duration = Duration::from_secs(20);

/// The runs of one driver.
#[derive(Debug, Serialize, Deserialize)]
pub struct Many {
    pub versions: Vec<String>,
    pub driver: Driver,
    pub count: usize,
    pub runs: Vec<Run>,
}

/// One runtime's containers.
#[derive(Debug, Serialize, Deserialize)]
pub struct Run {
    pub runtime: String,
    /// Each created and deleted before the next.
    pub in_turn: Times,
    /// Created while all before live.
    pub create: Times,
    /// Deleted, the first first.
    pub delete: Times,
    /// Units, cgroups and BPF programs that were not there before.
    pub left: Vec<String>,
}

/// Milliseconds: the medians of the first and of the last ten.
#[derive(Debug, Serialize, Deserialize)]
pub struct Times {
    pub first: f64,
    pub last: f64,
}

impl Times {
    fn of(all: &[f64]) -> Self {
        let sample = SAMPLE.min(all.len());
        Self { first: median(&all[..sample]), last: median(&all[all.len() - sample..]) }
    }
}

/// Makes `count` containers of each runtime, twice.
pub fn measure(place: &Place, runtimes: &[Runtime], driver: Driver, count: usize) -> Result<Many> {
    let versions = runtimes.iter().map(Runtime::version).collect::<Result<_>>()?;
    let mut many = Many { versions, driver, count, runs: Vec::new() };
    for runtime in runtimes {
        // The first one ever pays for what is loaded once.
        cycle(place, runtime, driver)?;
        let before = Things::look()?;
        let in_turn: Vec<f64> = (0..count).map(|_| cycle(place, runtime, driver)).collect::<Result<_>>()?;
        let (create, delete) = all_at_once(place, runtime, driver, count)?;
        let run = Run {
            runtime: runtime.name.clone(),
            in_turn: Times::of(&in_turn),
            create: Times::of(&create),
            delete: Times::of(&delete),
            left: left(&before)?,
        };
        println!("{run:?}");
        many.runs.push(run);
    }
    Ok(many)
}

/// One container, created and deleted; the milliseconds.
fn cycle(place: &Place, runtime: &Runtime, driver: Driver) -> Result<f64> {
    let (id, created) = create(place, runtime, driver)?;
    Ok(created + delete(place, runtime, driver, &id)?)
}

fn all_at_once(
    place: &Place,
    runtime: &Runtime,
    driver: Driver,
    count: usize,
) -> Result<(Vec<f64>, Vec<f64>)> {
    let (mut ids, mut created, mut deleted) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..count {
        let (id, took) = create(place, runtime, driver)?;
        ids.push(id);
        created.push(took);
    }
    for id in &ids {
        deleted.push(delete(place, runtime, driver, id)?);
    }
    Ok((created, deleted))
}

fn create(place: &Place, runtime: &Runtime, driver: Driver) -> Result<(String, f64)> {
    let mut bundle = place.bundle(&["/busybox", "true"], &json!({}))?;
    let id = format!("{}-{}", runtime.name, place.next());
    bundle.set("/linux/cgroupsPath", json!(driver.cgroups_path(&id))).write();
    let dir = bundle.dir.to_string_lossy();
    let took = time(place, runtime, driver, &["create", "--bundle", &dir, &id])?;
    Ok((id, took))
}

fn delete(place: &Place, runtime: &Runtime, driver: Driver, id: &str) -> Result<f64> {
    time(place, runtime, driver, &["delete", "--force", id])
}

fn time(place: &Place, runtime: &Runtime, driver: Driver, words: &[&str]) -> Result<f64> {
    let begin = Instant::now();
    let ended = runtime.call(place, driver, words)?;
    let took = begin.elapsed();
    ended.ok().with_context(|| format!("{} {}", runtime.name, words.join(" ")))?;
    Ok(took.as_secs_f64() * 1000.0)
}

fn median(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// What containers could leave.
struct Things(BTreeSet<String>);

impl Things {
    fn look() -> Result<Self> {
        let mut things = BTreeSet::new();
        cgroups(Path::new("/sys/fs/cgroup"), &mut things)?;
        let units = output("systemctl", &["list-units", "--all", "--plain", "--no-legend", "--full"])?;
        let names = units.lines().filter_map(|line| line.split_whitespace().next());
        things.extend(names.map(|name| format!("unit {name}")));
        let programs: Vec<Value> = serde_json::from_str(&output("bpftool", &["--json", "prog", "list"])?)?;
        things.extend(programs.iter().map(|program| format!("BPF program {}", program["id"])));
        Ok(Self(things))
    }
}

fn cgroups(dir: &Path, found: &mut BTreeSet<String>) -> Result<()> {
    // One may go while it is looked at.
    let Ok(entries) = fs::read_dir(dir) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.insert(format!("cgroup {}", entry.path().display()));
            cgroups(&entry.path(), found)?;
        }
    }
    Ok(())
}

fn output(program: &str, words: &[&str]) -> Result<String> {
    let output = Command::new(program).args(words).output().with_context(|| format!("start {program}"))?;
    if !output.status.success() {
        bail!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What stays, however long one waits. systemd's own programs come and go: theirs are not the containers'.
fn left(before: &Things) -> Result<Vec<String>> {
    let begin = Instant::now();
    loop {
        let left: Vec<String> = Things::look()?.0.difference(&before.0).cloned().collect();
        if left.is_empty() || begin.elapsed() > PATIENCE {
            return Ok(left);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// pintle leaves nothing and does not slow down.
pub fn judge(many: &Many) -> bool {
    let pintle = many.runs.iter().find(|run| run.runtime == "pintle");
    pintle.is_none_or(|run| {
        let slow =
            [&run.in_turn, &run.create, &run.delete].iter().any(|times| times.last > MOST * times.first);
        run.left.is_empty() && !slow
    })
}
