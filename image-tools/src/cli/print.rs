//! What verbs found out, on standard output: a table for people, JSON for programs.

use std::io::Write;

use serde::Serialize;

use crate::error::{Context, Result};
use crate::ops::history::Step;
use crate::ops::load::Loaded;
use crate::ops::ls::Line;
use crate::progress::bytes as size;
use crate::store::gc::Collected;
use crate::terminal::line;

fn out(text: &str) -> Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("standard output")
}

fn json(value: &(impl Serialize + ?Sized)) -> Result<()> {
    out(&(serde_json::to_string_pretty(value).expect("plain data") + "\n"))
}

pub(super) fn bytes(bytes: &[u8]) -> Result<()> {
    std::io::stdout().write_all(bytes).context("standard output")?;
    // A document without a last line end would meet the prompt.
    if std::io::IsTerminal::is_terminal(&std::io::stdout()) { out("\n") } else { Ok(()) }
}

/// Columns as wide as their widest cell.
fn table(head: &[&str], rows: &[Vec<String>]) -> Result<()> {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| line(cell)).collect()).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    let head: Vec<String> = head.iter().map(|h| (*h).to_owned()).collect();
    for row in std::iter::once(&head).chain(&rows) {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("   ").trim_end());
        text.push('\n');
    }
    out(&text)
}

pub(super) fn loaded(loaded: &[Loaded], as_json: bool) -> Result<()> {
    if as_json {
        return json(loaded);
    }
    let lines = loaded.iter().map(|one| match &one.name {
        Some(name) => line(name) + "\n",
        None => format!("{}\n", one.digest),
    });
    out(&lines.collect::<String>())
}

pub(super) fn list(lines: &[Line], as_json: bool) -> Result<()> {
    if as_json {
        return json(lines);
    }
    let rows: Vec<Vec<String>> = lines
        .iter()
        .map(|image| {
            vec![
                image.name.clone(),
                image.id.as_ref().map_or("-", |id| id.short()).to_owned(),
                image.platform.clone().unwrap_or_else(|| "-".into()),
                image.created.as_deref().map_or("-", |c| c.get(..10).unwrap_or(c)).to_owned(),
                image.layers.to_string(),
                size(image.size),
                if image.applied { "yes" } else { "no" }.to_owned(),
            ]
        })
        .collect();
    table(&["NAME", "ID", "PLATFORM", "CREATED", "LAYERS", "SIZE", "APPLIED"], &rows)
}

pub(super) fn history(steps: &[Step], as_json: bool) -> Result<()> {
    if as_json {
        return json(steps);
    }
    let rows: Vec<Vec<String>> = steps
        .iter()
        .map(|step| {
            let what = if step.created_by.is_empty() { &step.comment } else { &step.created_by };
            let what: String = what.chars().take(100).collect();
            let when = step.created.get(..10).unwrap_or(&step.created).to_owned();
            vec![when, step.size.map_or("-".into(), size), what]
        })
        .collect();
    table(&["CREATED", "SIZE", "BY"], &rows)
}

pub(super) fn collected(collected: &Collected, as_json: bool) -> Result<()> {
    if as_json {
        return json(collected);
    }
    let Collected { blobs, layers, bytes } = collected;
    out(&format!("removed {blobs} blobs ({}) and {layers} applied layers\n", size(*bytes)))
}

pub(super) fn problems(problems: &[String], as_json: bool) -> Result<()> {
    match as_json {
        true => json(problems),
        false => out(&problems.iter().map(|p| line(p) + "\n").collect::<String>()),
    }
}
