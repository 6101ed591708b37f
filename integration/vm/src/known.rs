//! The list of tests that are known to fail, each with its reason: `integration/suites/NAME/known`, lines
//! `PLACE | FILE | TEST | WHY`. PLACE is machine, native or *; TEST is a name, its beginning with a * after it, or *.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::cache;
use crate::suite::{Place, Suite};

pub struct Known {
    rows: Vec<[String; 4]>,
}

impl Known {
    pub fn read(suite: Suite) -> Result<Known> {
        let path = cache::checkout().join("integration/suites").join(suite.name()).join("known");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Known::parse(&text).with_context(|| format!("{}", path.display()))
    }

    fn parse(text: &str) -> Result<Known> {
        let mut rows = Vec::new();
        for (number, line) in text.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let cells: Vec<String> = line.splitn(4, " | ").map(|cell| cell.trim().to_owned()).collect();
            match <[String; 4]>::try_from(cells) {
                Ok(row) => rows.push(row),
                Err(_) => bail!("line {}: not PLACE | FILE | TEST | WHY: {line}", number + 1),
            }
        }
        Ok(Known { rows })
    }

    /// Whether a row names just this test, and not one among many: then it should go when the test passes.
    pub fn is_named(&self, place: Place, file: &str, test: &str) -> bool {
        self.rows
            .iter()
            .any(|row| (row[0] == "*" || row[0] == place.name()) && row[1] == file && row[2] == test)
    }

    /// Why this test is known to fail there, if it is.
    pub fn why(&self, place: Place, file: &str, test: &str) -> Option<&str> {
        let matches = |pattern: &str, name: &str| match pattern.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == pattern,
        };
        let row = self
            .rows
            .iter()
            .find(|row| matches(&row[0], place.name()) && row[1] == file && matches(&row[2], test));
        row.map(|row| row[3].as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_names_a_test_or_its_beginning_in_one_place_or_all() {
        let known =
            Known::parse("# why\n* | debug | * | private\nnative | exec | runc exec* | no pids\n").unwrap();
        assert_eq!(known.why(Place::Machine, "debug", "global --debug"), Some("private"));
        assert_eq!(known.why(Place::Native, "exec", "runc exec --user"), Some("no pids"));
        assert_eq!(known.why(Place::Machine, "exec", "runc exec --user"), None);
        assert_eq!(known.why(Place::Native, "exec", "other"), None);
        assert!(Known::parse("debug | why\n").is_err());
    }
}
