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
        Ok([one]) => print!("{}", tree::text(one)),
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
