//! What the results of a suite amount to: a table on the terminal, a verdict, and docs/conformance.md.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;

use anyhow::{Context, Result};

use crate::cache;
use crate::image::Image;
use crate::known::Known;
use crate::suite::{Place, Subject, Suite};
use crate::tap::{self, Test, Verdict};

/// The results of a subject, a file each.
type Results = BTreeMap<String, Vec<Test>>;

fn read(image: &Image, subject: &Subject, files: &[String]) -> Result<Results> {
    let folder = subject.results(image)?;
    let mut results = Results::new();
    for file in files {
        let tap = folder.join(format!("{file}.tap"));
        if tap.exists() {
            results.insert(file.clone(), tap::read(&tap)?);
        }
    }
    Ok(results)
}

/// Passed, failed, skipped.
fn count<'a>(tests: impl IntoIterator<Item = &'a Test>) -> [usize; 3] {
    let mut counts = [0; 3];
    for test in tests {
        counts[match test.verdict {
            Verdict::Passed => 0,
            Verdict::Failed => 1,
            Verdict::Skipped => 2,
        }] += 1;
    }
    counts
}

/// Whether another runtime passed a test, where it is recorded.
fn verdict(results: &Results, file: &str, name: &str) -> Option<Verdict> {
    results.get(file)?.iter().find(|test| test.name == name).map(|test| test.verdict)
}

/// Shows the results of these files beside runc's, where these are recorded, and judges them: a test that fails must be
/// listed as known to fail. The exit status.
pub fn table(image: &Image, subject: &Subject, files: &[String]) -> Result<u8> {
    let known = Known::read(subject.suite)?;
    let results = read(image, subject, files)?;
    let runc = read(image, &Subject { runtime: "runc".into(), ..subject.clone() }, files)?;
    println!("{:<24}{:>26}{:>28}", "", subject.runtime, "runc");
    println!(
        "{:<24}{:>8}{:>8}{:>10}{:>10}{:>8}{:>10}",
        "file", "passed", "failed", "skipped", "passed", "failed", "skipped"
    );
    let (mut failed, mut differ, mut stale) = (Vec::new(), 0, Vec::new());
    for (file, tests) in &results {
        let [p, f, s] = count(tests);
        print!("{file:<24}{p:>8}{f:>8}{s:>10}");
        match runc.get(file) {
            Some(tests) => println!("{:>10}{:>8}{:>10}", count(tests)[0], count(tests)[1], count(tests)[2]),
            None => println!(),
        }
        for test in tests {
            let why = known.why(subject.place, file, &test.name);
            match test.verdict {
                Verdict::Failed if why.is_some() => differ += 1,
                Verdict::Failed => failed.push(format!("{file}: {}", test.name)),
                Verdict::Passed if known.is_named(subject.place, file, &test.name) => {
                    stale.push(format!("{file}: {}", test.name))
                }
                _ => {}
            }
        }
    }
    let [passed, _, skipped] = count(results.values().flatten());
    // Another runtime than ours fails what it fails: only the table is wanted.
    if subject.runtime != "pintle" {
        return Ok(0);
    }
    for name in &stale {
        println!("NOTE {name}: listed as known to fail, but it passes");
    }
    for name in &failed {
        println!("FAIL {name}");
    }
    println!("what each test said: {}", subject.results(image)?.display());
    println!("{passed} passed, {} failed, {skipped} skipped, {differ} differ as listed", failed.len());
    Ok(u8::from(!failed.is_empty()))
}

/// Writes docs/conformance.md from what is recorded of runc's suite in the machine.
pub fn conformance(image: &Image) -> Result<()> {
    let files = Suite::Runc.files(image)?;
    let known = Known::read(Suite::Runc)?;
    let mut page = head(image)?;
    for (driver, user) in
        [("cgroupfs", None), ("systemd", None), ("cgroupfs", Some("tester")), ("systemd", Some("tester"))]
    {
        let subject = |runtime: &str| Subject {
            suite: Suite::Runc,
            runtime: runtime.into(),
            driver: driver.into(),
            user: user.map(str::to_owned),
            place: Place::Machine,
        };
        let pintle = read(image, &subject("pintle"), &files)?;
        if pintle.is_empty() {
            continue;
        }
        let runc = read(image, &subject("runc"), &files)?;
        let crun = read(image, &subject("crun"), &files)?;
        writeln!(page, "\n## As {}, cgroup driver {driver}\n", user.map_or("root", |_| "an ordinary user"))?;
        section(&mut page, &known, &pintle, &runc, &crun)?;
    }
    let path = cache::checkout().join("docs/conformance.md");
    fs::write(&path, page).with_context(|| format!("write {}", path.display()))?;
    eprintln!("vm: wrote {}", path.display());
    Ok(())
}

fn head(image: &Image) -> Result<String> {
    let suite = image.root.join("opt/suites/runc/version");
    let suite = fs::read_to_string(&suite).with_context(|| format!("read {}", suite.display()))?;
    Ok(format!(
        "# Conformance: runc's own integration suite\n\n\
         Written by `cargo vm conformance` from recorded runs (`cargo vm suite runc`); not by hand. All runtimes ran in the same\n\
         machine: Debian's {}, {}, under emulation; a fresh machine for each file.\n\n\
         - Suite: Debian's source package of runc {}, the newest whose files the mirror serves; its helper programs built in\n  \
         the machine's root folder by Debian's Go.\n\
         - Beside pintle: {}, {}.\n",
        image.version("linux-image-amd64")?,
        image.version("systemd")?,
        suite.trim(),
        image.version("runc")?,
        image.version("crun")?,
    ))
}

fn section(page: &mut String, known: &Known, pintle: &Results, runc: &Results, crun: &Results) -> Result<()> {
    writeln!(page, "Passed / failed / skipped:\n\n| file | pintle | runc | crun |\n|---|---|---|---|")?;
    let cell = |tests: Option<&Vec<Test>>| match tests {
        Some(tests) => count(tests).map(|n| n.to_string()).join(" / "),
        None => "not run".into(),
    };
    for (file, tests) in pintle {
        writeln!(
            page,
            "| {file} | {} | {} | {} |",
            cell(Some(tests)),
            cell(runc.get(file)),
            cell(crun.get(file))
        )?;
    }
    let all = |results: &Results| match results.is_empty() {
        true => "not run".into(),
        false => count(results.values().flatten()).map(|n| n.to_string()).join(" / "),
    };
    writeln!(page, "| **all** | {} | {} | {} |", all(pintle), all(runc), all(crun))?;
    differences(page, known, pintle, runc, "runc passes, pintle does not", |verdict| {
        verdict == Some(Verdict::Passed)
    })?;
    differences(page, known, pintle, runc, "Neither passes", |verdict| verdict != Some(Verdict::Passed))
}

/// The tests that pintle fails and of which runc's verdict is as `chosen` says.
fn differences(
    page: &mut String,
    known: &Known,
    pintle: &Results,
    runc: &Results,
    title: &str,
    chosen: impl Fn(Option<Verdict>) -> bool,
) -> Result<()> {
    let mut rows = String::new();
    for (file, tests) in pintle {
        for test in tests.iter().filter(|test| test.verdict == Verdict::Failed) {
            if chosen(verdict(runc, file, &test.name)) {
                let why = known.why(Place::Machine, file, &test.name).unwrap_or("**not explained**");
                writeln!(rows, "| {file} | {} | {why} |", test.name.replace('|', "\\|"))?;
            }
        }
    }
    if !rows.is_empty() {
        write!(page, "\n{title}: {}\n\n| file | test | why |\n|---|---|---|\n{rows}", rows.lines().count())?;
    }
    Ok(())
}
