//! What a suite says of its tests: TAP lines as bats writes them, `ok 3 name in 12ms # skip why`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// How one test ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Passed,
    Failed,
    Skipped,
}

#[derive(PartialEq, Eq, Debug)]
pub struct Test {
    pub name: String,
    pub verdict: Verdict,
}

/// Reads a file of results. A file that ended before its plan was fulfilled holds one more test, which failed.
pub fn read(path: &Path) -> Result<Vec<Test>> {
    let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    Ok(parse(&String::from_utf8_lossy(&text)))
}

fn parse(text: &str) -> Vec<Test> {
    text.lines().filter_map(test).collect()
}

fn test(line: &str) -> Option<Test> {
    if let Some(why) = line.strip_prefix("# aborted: ") {
        return Some(Test { name: format!("(aborted) {why}"), verdict: Verdict::Failed });
    }
    let (rest, failed) = match line.strip_prefix("not ok ") {
        Some(rest) => (rest, true),
        None => (line.strip_prefix("ok ")?, false),
    };
    let (number, rest) = rest.split_once(' ')?;
    number.parse::<u32>().ok()?;
    let (name, skipped) = match rest.split_once(" # skip") {
        Some((name, _)) => (name, true),
        None => (rest, false),
    };
    let verdict = match (failed, skipped) {
        (true, _) => Verdict::Failed,
        (_, true) => Verdict::Skipped,
        _ => Verdict::Passed,
    };
    Some(Test { name: untimed(name).to_owned(), verdict })
}

/// Without bats' "in 12ms".
fn untimed(name: &str) -> &str {
    match name.rsplit_once(" in ") {
        Some((name, time)) if time.strip_suffix("ms").is_some_and(|ms| ms.parse::<u64>().is_ok()) => name,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_and_names_are_read() {
        let said = "1..4\nok 1 runc exec in 188ms\nnot ok 2 in place in 3ms\n#   `[ 1 -eq 0 ]' failed\n\
                    ok 3 idle in 2ms # skip test requires cgroups_v1\n# aborted: exec: 3 of 4 tests, exit status 124\n";
        let test = |name: &str, verdict| Test { name: name.to_owned(), verdict };
        assert_eq!(
            parse(said),
            [
                test("runc exec", Verdict::Passed),
                test("in place", Verdict::Failed),
                test("idle", Verdict::Skipped),
                test("(aborted) exec: 3 of 4 tests, exit status 124", Verdict::Failed),
            ]
        );
    }
}
