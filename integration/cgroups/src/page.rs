//! docs/cgroups.md, written from the files of results that a folder has: one section a file.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;

use crate::differences::{self, Difference};
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
        "{what} that they don't say of a container without limits, as soon as the container is created; the first row:\n\
         that they don't say of an empty cgroup beside it. `=` is the same as runc's. Where both refuse, each does in its own\n\
         words.\n"
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
