//! Each resource of config.json → what the files of the cgroup say, and systemd's unit, that they don't say of a container
//! without limits. The container is only created: the limits are there by then.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use pintle_tests::{Value, cgroup_of, json};
use serde::{Deserialize, Serialize};

use crate::differences;
use crate::place::Place;
use crate::rows::{self, Stage};
use crate::runtimes::{Container, Driver, Runtime};

/// Files, or properties, and what they say.
pub type Settings = BTreeMap<String, String>;

/// The table of one driver.
#[derive(Debug, Serialize, Deserialize)]
pub struct Table {
    pub driver: Driver,
    /// The runtimes' versions, in the order of the columns.
    pub versions: Vec<String>,
    /// The kernel and systemd.
    pub machine: Vec<String>,
    pub rows: Vec<Row>,
}

/// What became of one value.
#[derive(Debug, Serialize, Deserialize)]
pub struct Row {
    /// The value as JSON, and the stage where it is not the first.
    pub name: String,
    /// By runtime.
    pub outcomes: BTreeMap<String, Outcome>,
}

/// What one runtime made of one value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It created the container; then these differ.
    Set { files: Settings, properties: Settings },
    /// It did not, and said this.
    Refused(String),
}

impl Outcome {
    /// Whether this comes to the same as what runc made of the value: the same content of the files, and no property of
    /// the unit less. More properties are no difference, and why something is refused is told in each runtime's own words.
    pub fn agrees(&self, runc: &Self) -> bool {
        match (self, runc) {
            (Outcome::Refused(_), Outcome::Refused(_)) => true,
            (
                Outcome::Set { files, properties },
                Outcome::Set { files: runc_files, properties: runc_properties },
            ) => {
                let has = |(name, value): (&String, &String)| properties.get(name) == Some(value);
                files == runc_files && runc_properties.iter().all(has)
            }
            _ => false,
        }
    }
}

/// What one container's cgroup and unit say.
struct Seen {
    files: Settings,
    properties: Settings,
}

/// Measures the rows whose names begin with `only`, or those that are quick.
pub fn measure(
    place: &Place,
    runtimes: &[Runtime],
    driver: Driver,
    only: &str,
    quick: bool,
) -> Result<Table> {
    let versions = runtimes.iter().map(Runtime::version).collect::<Result<_>>()?;
    let machine = vec![said("uname", &["-sr"])?, first_line(&said("systemctl", &["--version"])?)];
    let mut table = Table { driver, versions, machine, rows: Vec::new() };
    for stage in [Stage::Plain, Stage::Bfq, Stage::Rdma] {
        let values = if quick { rows::quick(stage) } else { rows::of(stage) };
        let rows = values.into_iter().map(|value| (name(stage, &value), value));
        let rows: Vec<_> = rows.filter(|(name, _)| name.starts_with(only)).collect();
        if rows.is_empty() {
            continue;
        }
        if let Err(error) = prepare(stage) {
            println!("SKIP {stage:?}: {error:#}");
            continue;
        }
        measure_stage(place, runtimes, &rows, &mut table)?;
    }
    Ok(table)
}

fn measure_stage(
    place: &Place,
    runtimes: &[Runtime],
    rows: &[(String, Value)],
    table: &mut Table,
) -> Result<()> {
    let driver = table.driver;
    let mut without = Vec::new();
    for runtime in runtimes {
        match look(place, runtime, driver, &json!({}))? {
            Ok((seen, _)) => without.push(seen),
            Err(refusal) => bail!("{}: a container without limits: {refusal}", runtime.name),
        }
    }
    let bare_unit = bare_unit(driver)?;
    for (name, value) in rows {
        let mut outcomes = BTreeMap::new();
        for (runtime, without) in runtimes.iter().zip(&without) {
            let outcome = match look(place, runtime, driver, value)? {
                Ok((seen, bare)) => {
                    // The first row shows what every container has that an empty cgroup beside it has not.
                    let nothing = value.as_object().is_some_and(serde_json::Map::is_empty);
                    let files = changed(&seen.files, if nothing { &bare } else { &without.files });
                    let properties =
                        changed(&seen.properties, if nothing { &bare_unit } else { &without.properties });
                    Outcome::Set { files, properties }
                }
                Err(refusal) => Outcome::Refused(refusal),
            };
            outcomes.insert(runtime.name.clone(), outcome);
        }
        show(name, &outcomes);
        table.rows.push(Row { name: name.clone(), outcomes });
    }
    Ok(())
}

fn name(stage: Stage, value: &Value) -> String {
    match stage {
        Stage::Plain | Stage::Rdma => value.to_string(),
        Stage::Bfq => format!("{value} with BFQ"),
    }
}

/// Brings the machine to a stage.
fn prepare(stage: Stage) -> Result<()> {
    let script = match stage {
        Stage::Plain => {
            "modprobe loop
             for n in 0 1; do
                 losetup /dev/loop$n >/dev/null 2>&1 && continue
                 truncate -s 16M /var/tmp/loop$n && losetup /dev/loop$n /var/tmp/loop$n || exit
                 rm /var/tmp/loop$n
             done"
        }
        Stage::Bfq => "modprobe bfq && echo bfq | tee /sys/block/loop[01]/queue/scheduler >/dev/null",
        Stage::Rdma => {
            "[ -e /sys/class/infiniband/rxe0 ] && exit
             modprobe dummy && modprobe rdma_rxe && ip link add evidence0 type dummy && ip link set evidence0 up &&
             rdma link add rxe0 type rxe netdev evidence0"
        }
    };
    said("bash", &["-c", script]).map(drop)
}

/// Creates a container and looks at it, and at an empty cgroup beside it.
fn look(
    place: &Place,
    runtime: &Runtime,
    driver: Driver,
    resources: &Value,
) -> Result<std::result::Result<(Seen, Settings), String>> {
    let mut bundle = place.bundle(&["/program", "true"], resources)?;
    let container = match Container::create(runtime, place, driver, &mut bundle)? {
        Ok(container) => container,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let cgroup = cgroup_of(container.pid);
    let unit = cgroup.ancestors().find(|path| path.extension().is_some_and(|e| e == "scope"));
    let top = unit.unwrap_or(&cgroup);
    let bare = bare(top.parent().context("a parent cgroup")?)?;
    let mut files = settings(top)?;
    // crun makes one more cgroup in the unit; only what it says differently is of interest.
    if let Ok(below) = cgroup.strip_prefix(top)
        && !below.as_os_str().is_empty()
    {
        let inner = settings(&cgroup)?;
        let own = inner
            .iter()
            .filter(|(file, value)| bare.get(*file) != Some(value) && files.get(*file) != Some(value));
        let own: Settings =
            own.map(|(file, value)| (format!("{}/{file}", below.display()), value.clone())).collect();
        files.extend(own);
    }
    let properties = match unit.and_then(Path::file_name) {
        Some(unit) => properties(&unit.to_string_lossy(), &container.id)?,
        None => Settings::new(),
    };
    Ok(Ok((Seen { files, properties }, bare)))
}

/// What an empty cgroup in this one says.
fn bare(parent: &Path) -> Result<Settings> {
    let bare = parent.join("bare");
    fs::create_dir(&bare).with_context(|| format!("make {}", bare.display()))?;
    let settings = settings(&bare);
    fs::remove_dir(&bare).with_context(|| format!("remove {}", bare.display()))?;
    settings
}

/// The files of a cgroup that hold settings: those that can be read and written, without the processes, the marks of
/// past use, and the second name of cpu.weight.
fn settings(cgroup: &Path) -> Result<Settings> {
    let passing =
        ["cgroup.procs", "cgroup.threads", "cgroup.type", "cgroup.subtree_control", "cpu.weight.nice"];
    let mut settings = Settings::new();
    for entry in fs::read_dir(cgroup).with_context(|| format!("list {}", cgroup.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let mode = entry.metadata()?.permissions().mode();
        let kept = mode & 0o600 == 0o600 && entry.file_type()?.is_file();
        if !kept || passing.contains(&&*name) || name.ends_with(".pressure") || name.ends_with(".peak") {
            continue;
        }
        // Some files can't be read while their device or mode is off.
        if let Ok(text) = fs::read_to_string(entry.path()) {
            settings.insert(name, text.trim().replace('\n', "; "));
        }
    }
    Ok(settings)
}

/// What systemd says of a unit, but for what changes by itself.
fn properties(unit: &str, id: &str) -> Result<Settings> {
    const PARTS: [&str; 6] = ["Timestamp", "Current", "Peak", "Available", "NSec", "Watchdog"];
    const BEGINNINGS: [&str; 6] =
        ["ControlGroupId", "DropInPaths", "InvocationID", "Effective", "IPIngress", "IPEgress"];
    let passing = |name: &str| {
        let counter = name.starts_with("IORead") || name.starts_with("IOWrite");
        PARTS.iter().any(|part| name.contains(part))
            || BEGINNINGS.iter().any(|part| name.starts_with(part))
            || counter && !name.ends_with("Max")
    };
    let text = said("systemctl", &["show", unit])?;
    let lines = text.lines().filter_map(|line| line.split_once('='));
    let kept = lines.filter(|(name, _)| !passing(name));
    Ok(kept.map(|(name, value)| (name.to_owned(), value.replace(id, "ID"))).collect())
}

/// What systemd says of a scope of which nothing was asked.
fn bare_unit(driver: Driver) -> Result<Settings> {
    if driver == Driver::Cgroupfs {
        return Ok(Settings::new());
    }
    let unit = "evidence-bare.scope";
    let words = ["--quiet", "--scope", "--slice=system.slice", "--unit=evidence-bare.scope", "sleep", "60"];
    let mut scope = Command::new("systemd-run").args(words).spawn().context("start systemd-run")?;
    // It becomes what it runs once the scope is there.
    let name = format!("/proc/{}/comm", scope.id());
    while fs::read_to_string(&name).context("look at systemd-run")?.trim() != "sleep" {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let properties = properties(unit, "bare");
    scope.kill().context("end the bare scope")?;
    scope.wait().context("end the bare scope")?;
    properties
}

fn changed(now: &Settings, before: &Settings) -> Settings {
    let differs = now.iter().filter(|(name, value)| before.get(*name) != Some(value));
    differs.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn said(program: &str, arguments: &[&str]) -> Result<String> {
    let output =
        Command::new(program).args(arguments).output().with_context(|| format!("start {program}"))?;
    if !output.status.success() {
        bail!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// A row for people, as soon as it is known.
fn show(name: &str, outcomes: &BTreeMap<String, Outcome>) {
    println!("{name}");
    for (runtime, outcome) in outcomes {
        println!("    {runtime:<8}{}", words(outcome));
    }
}

/// An outcome in one line.
pub fn words(outcome: &Outcome) -> String {
    let list = |settings: &Settings| {
        settings.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ")
    };
    match outcome {
        Outcome::Refused(why) => format!("refused: {why}"),
        Outcome::Set { files, properties } => match (files.is_empty(), properties.is_empty()) {
            (true, true) => "nothing".into(),
            (false, true) => list(files),
            (true, false) => format!("unit: {}", list(properties)),
            (false, false) => format!("{}; unit: {}", list(files), list(properties)),
        },
    }
}

/// Compares the runtimes with runc. A difference of pintle's that is not listed fails, and so does a line of the list
/// that names one row which does not differ.
pub fn judge(table: &Table) -> Result<bool> {
    let known = differences::read()?;
    let (mut alike, mut listed, mut wrong) = (0, 0, Vec::new());
    for row in &table.rows {
        let Some(runc) = row.outcomes.get("runc") else { continue };
        for (runtime, outcome) in row.outcomes.iter().filter(|(name, _)| *name != "runc") {
            let why = known.iter().find_map(|line| line.why(table.driver, runtime, &row.name));
            let stale = known.iter().any(|line| line.is_only(table.driver, runtime, &row.name));
            match (outcome.agrees(runc), why) {
                (true, _) if stale => {
                    wrong.push(format!("{runtime}: {}: listed, but nothing differs", row.name))
                }
                (true, _) => alike += 1,
                (false, Some(_)) => listed += 1,
                (false, None) => wrong.push(format!(
                    "{runtime}: {}\n    {:<8}{}\n    runc    {}",
                    row.name,
                    runtime,
                    words(outcome),
                    words(runc)
                )),
            }
        }
    }
    let fatal = wrong.iter().filter(|line| line.starts_with("pintle")).count();
    for line in &wrong {
        println!("DIFFERS {line}");
    }
    println!(
        "{}: {} rows; beside runc {alike} alike, {listed} differ as listed, {} unlisted, {fatal} of them pintle's",
        table.driver.name(),
        table.rows.len(),
        wrong.len()
    );
    Ok(fatal == 0)
}
