//! The house rules as tests: what the compiler does not say about where things stand in the tree.

use std::fs;
use std::path::{Path, PathBuf};

fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the checkout")
}

/// Every Rust file below a folder of the checkout, with its text.
fn sources(dir: &str) -> Vec<(String, String)> {
    let mut open = vec![checkout().join(dir)];
    let mut found = Vec::new();
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path: PathBuf = entry.path();
            if path.is_dir() && path.file_name().is_some_and(|n| n != "target" && n != ".git") {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(checkout()).expect("below").display().to_string();
                found.push((name, fs::read_to_string(&path).expect("a source is text")));
            }
        }
    }
    found.sort();
    found
}

/// The lines of code that hold `word`, outside comments and outside the file's own tests.
fn uses<'a>(text: &'a str, word: &str) -> Vec<&'a str> {
    let code = text.split("#[cfg(test)]").next().unwrap_or("");
    let lines = code.lines().filter(|l| !l.trim_start().starts_with("//"));
    lines.filter(|l| l.split("//").next().unwrap_or("").contains(word)).collect()
}

/// No file of `sources` but those that `may` allows uses any of the words.
#[track_caller]
fn only(dir: &str, words: &[&str], may: impl Fn(&str) -> bool) {
    let mut wrong = Vec::new();
    for (name, text) in sources(dir).iter().filter(|(name, _)| !may(name)) {
        for word in words {
            wrong.extend(uses(text, word).iter().map(|line| format!("{name}: {}", line.trim())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_stands_only_in_sys() {
    only("", &["unsafe {", "unsafe fn", "unsafe extern", "unsafe impl", "unsafe(", "global_asm!"], |name| {
        name.starts_with("runtime/sys/") || name == "tests/tests/tidy.rs"
    });
}

#[test]
fn every_file_says_first_what_it_is_for() {
    // Attributes of a crate may stand before.
    let speaks =
        |text: &str| text.lines().find(|l| !l.starts_with("#![")).is_some_and(|l| l.starts_with("//!"));
    let silent: Vec<String> =
        sources("").into_iter().filter(|(_, text)| !speaks(text)).map(|(name, _)| name).collect();
    assert!(silent.is_empty(), "no //! at the top: {silent:?}");
}

#[test]
fn every_package_takes_the_lints_of_the_workspace() {
    let manifest = fs::read_to_string(checkout().join("Cargo.toml")).expect("the workspace");
    let members = manifest.lines().find_map(|l| l.strip_prefix("members = [")).expect("members");
    for member in members.trim_end_matches(']').split(',').map(|m| m.trim().trim_matches('"')) {
        let path = checkout().join(member).join("Cargo.toml");
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let own = member == "runtime/sys" && text.contains("[lints");
        assert!(
            own || text.contains("[lints]\nworkspace = true") || text.contains("lints.workspace = true"),
            "{member}"
        );
    }
}

#[test]
fn init_has_no_heap_and_no_standard_library() {
    let lib = fs::read_to_string(checkout().join("runtime/init/src/lib.rs")).expect("init");
    assert!(lib.contains("no_std"), "init is no_std");
    only(
        "runtime/init/src",
        &["extern crate alloc", "extern crate std", "use std::", "use alloc::", "std::vec", "format!("],
        |_| false,
    );
}

#[test]
fn init_does_not_panic_on_purpose() {
    only("runtime/init/src", &[".unwrap()", ".expect(", "panic!("], |_| false);
}

#[test]
fn only_the_log_writes_stderr() {
    only("runtime/src", &["eprintln!(", "eprint!(", "io::stderr(", "stdio::stderr("], |name| {
        matches!(name, "runtime/src/log.rs") || name.starts_with("runtime/src/log/")
    });
}

#[test]
fn only_spawn_starts_processes() {
    only("runtime/src", &["process::Command", "Command::new(", "fork()", "clone3("], |name| {
        // clap's Command describes arguments; it starts nothing.
        name == "runtime/src/launch/spawn.rs" || name.starts_with("runtime/src/cli")
    });
}

#[test]
fn only_the_command_line_reads_arguments_and_environment() {
    only("runtime/src", &["env::args", "env::var(", "env::var_os(", "env::vars"], |name| {
        name.starts_with("runtime/src/cli") || name == "runtime/src/main.rs"
    });
}

#[test]
fn image_tools_start_a_program_in_two_places_only() {
    // Credential helpers by the user's own configuration; newuidmap for an ordinary user. Nothing of an image is ever run.
    only("image-tools/src", &["process::Command", "process::{Command", "Command::new(", "fork()"], |name| {
        name == "image-tools/src/registry/credentials.rs" || name == "image-tools/src/rootless.rs"
    });
}

#[test]
fn image_tools_read_arguments_and_environment_on_the_command_line_only() {
    only("image-tools/src", &["env::args", "env::var(", "env::var_os(", "env::vars"], |name| {
        name.starts_with("image-tools/src/cli")
    });
    only("image-tools/src", &["eprintln!(", "eprint!("], |name| {
        name.starts_with("image-tools/src/cli") || name == "image-tools/src/progress.rs"
    });
}

#[test]
fn names_of_hosts_are_resolved_by_the_image_tools_own_resolver() {
    // The C library's would load NSS modules into a static program.
    only("image-tools/src", &["to_socket_addrs", "DefaultResolver"], |_| false);
}

#[test]
fn only_state_knows_where_the_state_is() {
    only("runtime/src", &["state.json\""], |name| name == "runtime/src/state.rs");
}

#[test]
fn the_plan_touches_nothing() {
    let acts = ["std::fs", "fs::File", "process::", "rustix::fs::open", "rustix::mount", "mount::", "env::"];
    let acts = acts.map(|a| format!("use {a}"));
    only("runtime/src/plan", &acts.each_ref().map(String::as_str), |_| false);
}

#[test]
fn main_is_short() {
    let main = fs::read_to_string(checkout().join("runtime/src/main.rs")).expect("main");
    assert!(main.lines().count() < 50, "{} lines", main.lines().count());
}

#[test]
fn the_image_of_init_is_small_static_and_has_no_libc() {
    // runtime/build.rs makes it somewhere below the target folder; without a build there is nothing to look at.
    let target = std::env::current_exe().expect("own path");
    let target =
        target.ancestors().find(|a| a.ends_with("debug") || a.ends_with("release")).and_then(Path::parent);
    let Some(image) = target.and_then(newest_image) else {
        println!("SKIP the_image_of_init_is_small_static_and_has_no_libc: no image of init was built");
        return;
    };
    check_image(&fs::read(&image).expect("the image can be read"))
        .unwrap_or_else(|e| panic!("{}: {e}", image.display()));
}

/// The newest ELF file called `pintle-init` below a folder.
fn newest_image(target: &Path) -> Option<PathBuf> {
    let mut open = vec![target.to_owned()];
    let mut found = Vec::new();
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() && !path.is_symlink() {
                open.push(path);
            } else if path.file_name().is_some_and(|n| n == "pintle-init" || n == "init-image") {
                let elf = fs::read(&path).is_ok_and(|b| b.starts_with(b"\x7fELF"));
                found.extend(
                    elf.then(|| entry.metadata().and_then(|m| m.modified()).ok())
                        .flatten()
                        .map(|t| (t, path)),
                );
            }
        }
    }
    found.into_iter().max().map(|(_, path)| path)
}

/// At most 96 KiB, executable and static: neither an interpreter nor a dynamic section; no name of libc or an allocator.
fn check_image(image: &[u8]) -> Result<(), String> {
    let number = |at: usize, size: usize| -> Result<usize, String> {
        let bytes = image.get(at..at + size).ok_or("cut off")?;
        Ok(bytes.iter().rev().fold(0, |n, &b| n << 8 | usize::from(b)))
    };
    if image.len() > 96 << 10 {
        return Err(format!("{} bytes are more than 96 KiB", image.len()));
    }
    if !image.starts_with(b"\x7fELF\x02\x01") || number(16, 2)? != 2 {
        return Err("not a 64-bit ELF program at fixed addresses".into());
    }
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for header in 0..count {
        match number(table + header * size, 4)? {
            2 => return Err("it has a dynamic section".into()),
            3 => return Err("it has an interpreter".into()),
            _ => {}
        }
    }
    for name in ["malloc", "__libc_start", "__rust_alloc", "pthread_", "rust_panic_with_hook"] {
        if image.windows(name.len()).any(|w| w == name.as_bytes()) {
            return Err(format!("it names {name}"));
        }
    }
    Ok(())
}

#[test]
fn the_check_of_the_image_can_fail() {
    let own = fs::read(std::env::current_exe().expect("own path")).expect("own image");
    assert!(check_image(&own).is_err(), "a test binary is no init");
    assert_eq!(check_image(b"#!/bin/sh\n"), Err("not a 64-bit ELF program at fixed addresses".into()));
}

/// Whether there is a conformance test `subject::name`, or one beside them.
fn is_test(id: &str) -> bool {
    let (subject, name) = id.rsplit_once("::").unwrap_or(("leaks", id));
    let file = checkout().join(format!("tests/tests/{}.rs", subject.replace("::", "/")));
    fs::read_to_string(file).is_ok_and(|text| text.contains(&format!("fn {name}()")))
}

/// The tests that fail where this patch takes a defence away; all of them are there.
fn fails(patch: &str) -> Vec<String> {
    let path = checkout().join(format!("tests/undefended/{patch}.patch"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let tests: Vec<_> =
        text.lines().filter_map(|line| line.strip_prefix("Fails: ")).map(str::to_owned).collect();
    tests.iter().for_each(|test| assert!(is_test(test), "{patch}: {test}: no such test"));
    tests
}

#[test]
fn the_table_of_holes_names_tests_and_patches_that_exist() {
    let text = fs::read_to_string(checkout().join("docs/cve.md")).expect("docs/cve.md");
    let table = text.split("## Image tools").next().unwrap_or(&text);
    let mut patches = Vec::new();
    for line in table.lines().filter(|line| line.starts_with("| ") && line.ends_with(" |")) {
        let cells: Vec<&str> = line.split('|').collect();
        for id in cells[cells.len() - 3].split('`').skip(1).step_by(2) {
            assert!(is_test(id), "docs/cve.md: {id}: no such test");
        }
        let shown: Vec<_> = cells[cells.len() - 2].split('`').skip(1).step_by(2).map(str::to_owned).collect();
        let tests = |patch: &String| fails(patch).iter().any(|test| line.contains(&format!("`{test}`")));
        assert!(
            shown.is_empty() || shown.iter().any(tests),
            "docs/cve.md: no test of this row fails: {line}"
        );
        patches.extend(shown);
    }
    patches.sort();
    patches.dedup();
    let files = fs::read_dir(checkout().join("tests/undefended")).expect("tests/undefended").flatten();
    let mut there: Vec<String> = files
        .filter_map(|file| Some(file.file_name().to_str()?.strip_suffix(".patch")?.to_owned()))
        .collect();
    there.sort();
    assert_eq!(patches, there, "docs/cve.md and tests/undefended name the same patches");
}

#[test]
fn every_listed_difference_names_a_behaviour_that_exists() {
    let table = fs::read_to_string(checkout().join("docs/compatibility.md")).expect("docs/compatibility.md");
    for line in table.lines().filter(|l| l.starts_with("| `")) {
        let ids = line.split('|').nth(1).unwrap_or("").split('`').skip(1).step_by(2);
        for id in ids {
            let test = id.split('/').next().unwrap_or(id);
            assert!(is_test(test), "{id}: no such test");
        }
    }
}
