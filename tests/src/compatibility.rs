//! docs/compatibility.md as the tests read it: which behaviour of which runtime is known to differ from pintle's.
//!
//! A row of its tables is `| ids | pintle | runc | crun | why |`: the ids in backticks, and `same` in the column of
//! a runtime that does as pintle does.

use crate::Runtime;
use std::sync::LazyLock;

/// Whether the table lists `id` as different for `runtime`.
pub fn differs(id: &str, runtime: Runtime) -> bool {
    let column = match runtime {
        Runtime::Pintle => return false,
        Runtime::Runc => 2,
        Runtime::Crun => 3,
    };
    ROWS.iter().any(|row| row.ids.iter().any(|listed| listed == id) && row.cells[column] != "same")
}

struct Row {
    ids: Vec<String>,
    cells: Vec<String>,
}

static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| {
    let path = crate::runtime::checkout().join("docs/compatibility.md");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().filter_map(row).collect()
});

fn row(line: &str) -> Option<Row> {
    let cells: Vec<String> = line
        .strip_prefix('|')?
        .trim_end()
        .strip_suffix('|')?
        .split('|')
        .map(|c| c.trim().to_owned())
        .collect();
    let ids: Vec<String> = cells[0].split('`').skip(1).step_by(2).map(str::to_owned).collect();
    if ids.is_empty() {
        return None; // the head of a table
    }
    assert_eq!(cells.len(), 5, "docs/compatibility.md: a row has five cells: {line}");
    Some(Row { ids, cells })
}
