//! docs/cgroups.md, written from the files of results that a folder has: one section a file.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;

use crate::bus::{Bus, Messages};
use crate::devices::Verdicts;
use crate::differences::{self, Difference};
use crate::floor::{self, Floor};
use crate::many::{Many, Times};
use crate::runtimes::Driver;
use crate::table::{self, Outcome, Row, Table};

/// What stands before runc's own words in each of its errors.
const RUNC_SAYS: [&str; 3] = [
    "runc create failed: ",
    "unable to start container process: error during container init: ",
    "error setting cgroup config for procHooks process: ",
];

/// Writes the page.
pub fn write(results: &Path) -> Result<()> {
    let mut page = String::from(
        "# cgroup v2: pintle beside runc and crun\n\n\
         Written by `integration/cgroups/run`, which measures in the test machine (`cargo vm`), a fresh one for each part; not by\n\
         hand. `integration/cgroups/run PART` measures one part again.\n",
    );
    if let Some(floor) = read::<Floor>(results, "floor")? {
        floor_section(&mut page, &floor)?;
    }
    let buses = ["bus-system", "bus-user"].map(|part| read::<Bus>(results, part));
    bus_section(&mut page, buses)?;
    let drivers = ["cgroupfs", "systemd"];
    many_section(&mut page, drivers.map(|driver| read::<Many>(results, &format!("many-{driver}"))))?;
    devices_section(
        &mut page,
        drivers.map(|driver| read::<Verdicts>(results, &format!("devices-{driver}"))),
    )?;
    let known = differences::read()?;
    for driver in [Driver::Cgroupfs, Driver::Systemd] {
        if let Some(table) = read::<Table>(results, &format!("table-{}", driver.name()))? {
            table_section(&mut page, &table, &known)?;
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cgroups.md");
    fs::write(&path, page).with_context(|| format!("write {}", path.display()))
}

/// The results of a part, if it was measured.
fn read<T: DeserializeOwned>(results: &Path, part: &str) -> Result<Option<T>> {
    let path = results.join(format!("{part}.json"));
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_str(&text).map(Some).with_context(|| format!("read {}", path.display()))
}

/// Those of the parts that were measured.
fn there<T, const N: usize>(parts: [Result<Option<T>>; N]) -> Result<Vec<T>> {
    parts.into_iter().filter_map(Result::transpose).collect()
}

fn floor_section(page: &mut String, floor: &Floor) -> Result<()> {
    writeln!(
        page,
        "\n## The smallest memory limit\n\n\
         Part `floor`. {}; driver cgroupfs.\n\n\
         The smallest `linux.resources.memory.limit`, and swap the same, with which `run` of a static program succeeds three times\n\
         in a row, in KiB: the median of several searches by halving (least, most). Runtime and container share one processor.\n",
        floor.versions.join(", ")
    )?;
    let names: Vec<&str> = floor.versions.iter().filter_map(|version| version.split(' ').next()).collect();
    writeln!(page, "| program | {} |\n|---|{}", names.join(" | "), "---|".repeat(names.len()))?;
    for (program, least) in &floor.least {
        let cells = names.iter().map(|name| match least.get(*name).map(Vec::as_slice) {
            Some(found @ [first, .., last]) => {
                format!("{} ({}, {})", floor::middle(found) >> 10, first >> 10, last >> 10)
            }
            _ => "not measured".into(),
        });
        writeln!(page, "| {program} | {} |", cells.collect::<Vec<_>>().join(" | "))?;
    }
    Ok(())
}

fn bus_section(page: &mut String, buses: [Result<Option<Bus>>; 2]) -> Result<()> {
    let buses = there(buses)?;
    let Some(first) = buses.first() else { return Ok(()) };
    writeln!(
        page,
        "\n## D-Bus messages, driver systemd\n\n\
         Parts `bus-system` and `bus-user`. {}.\n\n\
         Messages to and from the client for one `create` and one `delete --force`: calls + replies + signals, as read from and\n\
         written to its sockets in a trace of its system calls, and as a monitor of the bus hears them in another run.\n\n\
         | bus | runtime | create | delete | traced, all | heard, all | connections | sockets |\n|---|---|---|---|---|---|---|---|",
        first.versions.join(", ")
    )?;
    let sum =
        |messages: Messages| format!("{} + {} + {}", messages.calls, messages.replies, messages.signals);
    for bus in &buses {
        for run in &bus.runs {
            let (create, delete) = (&run.create, &run.delete);
            let mut sockets = create.sockets.clone();
            sockets.extend(delete.sockets.iter().filter(|path| !create.sockets.contains(path)).cloned());
            writeln!(
                page,
                "| {} | {} | {} | {} | {} | {} | {} | {} |",
                bus.bus,
                run.runtime,
                sum(create.traced),
                sum(delete.traced),
                (create.traced + delete.traced).total(),
                (create.monitored + delete.monitored).total(),
                create.connections + delete.connections,
                sockets.join(", ")
            )?;
        }
    }
    writeln!(page, "\nThe methods, in order:\n")?;
    for bus in &buses {
        for run in &bus.runs {
            let (create, delete) = (run.create.methods.join(", "), run.delete.methods.join(", "));
            writeln!(page, "- {}, {}: {create}; {delete}", bus.bus, run.runtime)?;
        }
    }
    Ok(())
}

fn many_section(page: &mut String, many: [Result<Option<Many>>; 2]) -> Result<()> {
    let many = there(many)?;
    let Some(first) = many.first() else { return Ok(()) };
    writeln!(
        page,
        "\n## Many containers\n\n\
         Parts `many-cgroupfs` and `many-systemd`. {}.\n\n\
         So many containers created and deleted one after the other, then as many created, all alive at once, then deleted.\n\
         Milliseconds, the medians of the first and the last ten, in an emulated machine; then what was there that was not before:\n\
         units, cgroups, BPF programs.\n\n\
         | driver | runtime | containers | in turn: first, last | create: first, last | delete: first, last | left |\n\
         |---|---|---|---|---|---|---|",
        first.versions.join(", ")
    )?;
    let pair = |times: &Times| format!("{:.0}, {:.0}", times.first, times.last);
    for all in &many {
        for run in &all.runs {
            let left = if run.left.is_empty() { "nothing".into() } else { run.left.join(", ") };
            writeln!(
                page,
                "| {} | {} | {} | {} | {} | {} | {left} |",
                all.driver.name(),
                run.runtime,
                all.count,
                pair(&run.in_turn),
                pair(&run.create),
                pair(&run.delete)
            )?;
        }
    }
    Ok(())
}

fn devices_section(page: &mut String, verdicts: [Result<Option<Verdicts>>; 2]) -> Result<()> {
    let verdicts = there(verdicts)?;
    let Some(first) = verdicts.first() else { return Ok(()) };
    writeln!(
        page,
        "\n## Device rules\n\n\
         Parts `devices-cgroupfs` and `devices-systemd`. {}.\n\n\
         Random lists of `linux.resources.devices`, each given to a container of both runtimes. Inside, a program makes a node of\n\
         each of some devices, and opens one for reading, for writing and for both: the kernel asks the container's device program.\n\
         Where a list denies only reading or only writing, runc lets an open for both through: its program looks for a rule that\n\
         denies all of what is asked. cgroup v1, whose rules these are, denies it, and so does pintle; that is the column `both`.\n\n\
         | driver | seed | lists | refused by both | verdicts | of them deny | both | lists that differ otherwise |\n\
         |---|---|---|---|---|---|---|---|",
        first.versions.join(", ")
    )?;
    for all in &verdicts {
        writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} | {} | {} |",
            all.driver.name(),
            all.seed,
            all.lists,
            all.refused,
            all.verdicts,
            all.denied,
            all.both,
            all.differences.len()
        )?;
    }
    Ok(())
}

fn table_section(page: &mut String, table: &Table, known: &[Difference]) -> Result<()> {
    let driver = table.driver.name();
    writeln!(page, "\n## Resources, driver {driver}\n")?;
    writeln!(page, "Part `table-{driver}`. {}; {}.\n", table.versions.join(", "), table.machine.join(", "))?;
    let what = match table.driver {
        Driver::Cgroupfs => "What the files of the cgroup say",
        Driver::Systemd => "What the files of the cgroup, and the unit's properties, say",
    };
    writeln!(
        page,
        "{what} that they don't say of a container without limits, as soon as\n\
         the container is created; the first row: that they don't say of an empty cgroup beside it. `=` is the same as runc's: the\n\
         same content of the files, and no property of the unit less. Where both refuse, each does in its own words.\n"
    )?;
    let others: Vec<&String> = match table.rows.first() {
        Some(row) => row.outcomes.keys().filter(|name| *name != "runc").collect(),
        None => return Ok(()),
    };
    let mut others: Vec<&str> = others.into_iter().map(String::as_str).collect();
    others.sort_by_key(|name| *name != "pintle");
    for name in &others {
        let alike = table.rows.iter().filter(|row| alike(row, name)).count();
        writeln!(page, "- {name} and runc agree in {alike} of {} rows.", table.rows.len())?;
    }
    writeln!(
        page,
        "\n| linux.resources | runc | {} |\n|---|---|{}",
        others.join(" | "),
        "---|".repeat(others.len())
    )?;
    for row in &table.rows {
        let runc = row.outcomes.get("runc").map(cell).unwrap_or_default();
        let cells = others
            .iter()
            .map(|name| if alike(row, name) { "=".into() } else { other_cell(table, row, name, known) });
        let cells: Vec<String> = cells.collect();
        writeln!(page, "| {} | {runc} | {} |", code(&row.name), cells.join(" | "))?;
    }
    Ok(())
}

fn alike(row: &Row, name: &str) -> bool {
    match (row.outcomes.get("runc"), row.outcomes.get(name)) {
        (Some(runc), Some(other)) => other.agrees(runc),
        _ => false,
    }
}

/// What differs, and why it may.
fn other_cell(table: &Table, row: &Row, name: &str, known: &[Difference]) -> String {
    let outcome = row.outcomes.get(name).map(cell).unwrap_or_default();
    let why = known.iter().find_map(|line| line.why(table.driver, name, &row.name));
    format!("**{outcome}** ({})", why.unwrap_or("not explained"))
}

fn cell(outcome: &Outcome) -> String {
    let words = table::words(outcome);
    match outcome {
        Outcome::Refused(why) => {
            let why =
                RUNC_SAYS.iter().fold(why.as_str(), |text, part| text.strip_prefix(part).unwrap_or(text));
            format!("refused: {}", why.replace('|', "\\|"))
        }
        Outcome::Set { .. } => words.replace('|', "\\|"),
    }
}

fn code(text: &str) -> String {
    format!("`{}`", text.replace('|', "\\|"))
}
