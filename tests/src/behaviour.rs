//! What a test means: a named behaviour passes, fails, is skipped for a fact of the host, or differs as listed.
//!
//! The name of the behaviour is the test's own (`hooks::a_failing_hook_stops_the_create`), with `/row` for a row
//! of a table. On an oracle a listed difference has to fail, and an unlisted one may not.

use crate::{Runtime, compatibility};
use std::fmt::Display;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};

/// One behaviour, told by the body; the test's name is its name.
#[track_caller]
pub fn behaviour(body: impl FnOnce()) {
    let complaint = judge(&test_name(), outcome(body));
    complain(complaint.into_iter().collect());
}

/// One behaviour with many cases as data. Every row is tried, whatever became of the one before.
#[track_caller]
pub fn rows<N: Display, T>(rows: impl IntoIterator<Item = (N, T)>, body: impl Fn(T)) {
    let test = test_name();
    let complaints = rows
        .into_iter()
        .filter_map(|(row, case)| judge(&format!("{test}/{row}"), outcome(|| body(case))))
        .collect();
    complain(complaints);
}

/// Leaves the behaviour as skipped. The fact is what the host lacks, in a few words.
pub fn skip(fact: impl Display) -> ! {
    panic_any(Skip(fact.to_string()))
}

struct Skip(String);

enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
}

fn outcome(body: impl FnOnce()) -> Outcome {
    let Err(payload) = catch_unwind(AssertUnwindSafe(body)) else { return Outcome::Passed };
    if let Some(Skip(fact)) = payload.downcast_ref() {
        return Outcome::Skipped(fact.clone());
    }
    match payload.downcast_ref::<String>() {
        Some(text) => Outcome::Failed(text.clone()),
        None => match payload.downcast_ref::<&str>() {
            Some(text) => Outcome::Failed((*text).to_owned()),
            None => resume_unwind(payload),
        },
    }
}

/// Writes the verdict down and gives the complaint that fails the test, if there is one.
fn judge(id: &str, outcome: Outcome) -> Option<String> {
    let runtime = Runtime::under_test();
    let listed = compatibility::differs(id, runtime);
    match (outcome, listed) {
        (Outcome::Passed, false) => verdict("PASS", id, ""),
        (Outcome::Failed(how), true) => verdict("DIFFERS", id, &how),
        (Outcome::Skipped(fact), _) => verdict("SKIP", id, &fact),
        (Outcome::Passed, true) => {
            let why = format!("the listed difference of {runtime} no longer differs: docs/compatibility.md");
            verdict("FAIL", id, &why);
            return Some(format!("{id}: {why}"));
        }
        (Outcome::Failed(how), false) => {
            verdict("FAIL", id, &how);
            return Some(format!("{id}: {how}"));
        }
    }
    None
}

/// One line on stdout and, for the closing line of `run.sh`, in the file that `PINTLE_TESTS_VERDICTS` names.
fn verdict(word: &str, id: &str, text: &str) {
    let first = text.lines().collect::<Vec<_>>().join(" ⏎ ");
    let line = if first.is_empty() { format!("{word} {id}\n") } else { format!("{word} {id}: {first}\n") };
    print!("{line}");
    if let Some(path) = std::env::var_os("PINTLE_TESTS_VERDICTS") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut f| f.write_all(line.as_bytes())).expect("the file of verdicts can be written");
    }
}

fn complain(complaints: Vec<String>) {
    assert!(
        complaints.is_empty(),
        "{} of this behaviour failed:\n{}",
        complaints.len(),
        complaints.join("\n")
    );
}

/// libtest names the thread of a test after it.
fn test_name() -> String {
    std::thread::current().name().expect("a test runs in a thread of its own name").to_owned()
}
