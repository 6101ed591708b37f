//! The list of differences that are known, each with its reason: integration/cgroups/differences, lines
//! `DRIVER | RUNTIME | ROW | WHY`. DRIVER may be *; ROW is a row's name, or its beginning with a * after it. RUNTIME differs
//! from runc there.

use anyhow::{Context, Result};

use crate::runtimes::Driver;

/// The list, as it was when this program was built.
const LIST: &str = include_str!("../differences");

/// One line of the list.
pub struct Difference {
    driver: String,
    runtime: String,
    row: String,
    why: String,
}

/// Reads the list.
pub fn read() -> Result<Vec<Difference>> {
    let lines = LIST.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|(number, line)| {
            parse(line).with_context(|| {
                format!("differences: line {}: not DRIVER | RUNTIME | ROW | WHY: {line}", number + 1)
            })
        })
        .collect()
}

fn parse(line: &str) -> Option<Difference> {
    let mut cells = line.splitn(4, " | ").map(|cell| cell.trim().to_owned());
    Some(Difference { driver: cells.next()?, runtime: cells.next()?, row: cells.next()?, why: cells.next()? })
}

impl Difference {
    /// Why this row may differ, if the line is about it.
    pub fn why(&self, driver: Driver, runtime: &str, row: &str) -> Option<&str> {
        let named = match self.row.strip_suffix('*') {
            Some(beginning) => row.starts_with(beginning),
            None => row == self.row,
        };
        let about = (self.driver == "*" || self.driver == driver.name()) && self.runtime == runtime && named;
        about.then_some(&self.why)
    }

    /// Whether the line names just this row, and not several: then it should go when nothing differs.
    pub fn is_only(&self, driver: Driver, runtime: &str, row: &str) -> bool {
        self.why(driver, runtime, row).is_some() && self.driver != "*" && !self.row.ends_with('*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_a_row_or_its_beginning_for_one_driver_or_all() {
        let line = parse(r#"* | crun | {"cpu":* | its formula | is older"#).expect("a line");
        let row = r#"{"cpu":{"shares":3}}"#;
        assert_eq!(line.why(Driver::Systemd, "crun", row), Some("its formula | is older"));
        assert_eq!(line.why(Driver::Systemd, "pintle", row), None);
        assert_eq!(line.why(Driver::Systemd, "crun", "{}"), None);
        assert!(parse("* | crun | why").is_none());
    }

    #[test]
    fn the_list_can_be_read() {
        read().expect("the list");
    }
}
