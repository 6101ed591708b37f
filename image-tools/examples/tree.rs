//! tree DIR: the tree as lines, for a shell; tree DIR DIR: what differs, and exit status 1 if anything does.

#[path = "../tests/tree.rs"]
mod tree;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let folders: Vec<String> = std::env::args().skip(1).collect();
    let trees: std::io::Result<Vec<tree::Tree>> =
        folders.iter().map(|folder| tree::walk(Path::new(folder))).collect();
    match trees.as_deref() {
        Ok([one]) => print!("{}", text(one)),
        Ok([one, other]) => {
            let lines = tree::diff(one, other);
            lines.iter().for_each(|line| println!("{line}"));
            return if lines.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        Ok(_) => eprintln!("usage: tree DIR [DIR]"),
        Err(error) => eprintln!("tree: {error}"),
    }
    if matches!(trees.as_deref(), Ok([_])) { ExitCode::SUCCESS } else { ExitCode::from(2) }
}

/// One line per entry, `path field=value field=value …`.
fn text(tree: &tree::Tree) -> String {
    let line = |(path, entry): (&String, &tree::Entry)| {
        let fields: Vec<String> = entry.iter().map(|(field, value)| format!(" {field}={value}")).collect();
        format!("{path}{}\n", fields.concat())
    };
    tree.iter().map(line).collect()
}
