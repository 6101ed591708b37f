//! Tables and bars in the terminal. Colours only on a terminal, and not where NO_COLOR asks for none.

use std::fmt::Display;
use std::io::{IsTerminal, Write};

const BOLD: &str = "1";
const DIM: &str = "2";
const CYAN: &str = "36";
/// The longest bar.
const BAR: u64 = 36;

fn painted(colour: &str, text: impl Display) -> String {
    let plain = !std::io::stdout().is_terminal() || std::env::var_os("NO_COLOR").is_some();
    if plain { text.to_string() } else { format!("\x1b[{colour}m{text}\x1b[0m") }
}

/// What comes next, and how it is found out.
pub fn heading(title: &str, how: &str) {
    println!("\n{}  {}", painted(BOLD, title), painted(DIM, how));
}

/// A line below a heading.
pub fn note(text: &str) {
    println!("  {text}");
}

/// Rows for whoever reads them on the other side: a name, a tab, a value.
pub fn lines(rows: &[(&str, String)]) -> crate::Result {
    let text: String = rows.iter().map(|(name, value)| format!("{name}\t{value}\n")).collect();
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

/// Three columns, each as wide as it has to be.
pub fn table(head: [&str; 3], rows: &[[String; 3]]) {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0).max(head[column].len())
    };
    let (first, second) = (width(0), width(1));
    note(&painted(DIM, format!("{:first$}   {:second$}   {}", head[0], head[1], head[2])));
    for [name, middle, last] in rows {
        note(format!("{name:first$}   {middle:second$}   {}", painted(CYAN, last)).trim_end());
    }
}

/// Times in microseconds, to scale.
pub fn bars(rows: &[(String, u64)]) {
    let longest = rows.iter().map(|(_, time)| *time).max().unwrap_or(0).max(1);
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, time) in rows {
        let bar = "█".repeat((time * BAR).div_ceil(longest) as usize);
        note(&format!("{name:width$}   {:>7.2} ms   {}", *time as f64 / 1000.0, painted(CYAN, bar)));
    }
}
