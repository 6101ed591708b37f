//! What once was a hole in some runtime, each by its number: it must not be one here. docs/cve.md is the list.
//!
//! Here are the attacks on the runtime's binary; those on paths, on processes and on what lies outside of a container
//! are in files of their own, and so are the races. `tests/undefended` takes the defences away, one by one, and
//! demands that these tests notice.

mod guard;
mod outside;
mod paths;
mod processes;
mod race;
mod races;

use guard::Attack;
use pintle_tests::*;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Takes every mount at or below `point` out of the configuration: the rootfs' own files show.
fn without_mounts_in(point: &str, b: &mut Bundle) {
    let mounts = b.config["mounts"].as_array_mut().expect("a list of mounts");
    mounts.retain(|mount| !Path::new(mount["destination"].as_str().unwrap_or_default()).starts_with(point));
}

/// A character device on the host's side of a rootfs.
fn node(path: &Path, major: u32, minor: u32) {
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    let mode = Mode::from_raw_mode(0o666);
    mknodat(CWD, path, FileType::CharacterDevice, mode, makedev(major, minor)).expect("root can make nodes");
}

/// The same command by a caller who left its descriptor 9 open on a folder of the host, as an engine once did.
fn leaking(command: &Command, dir: &Path) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", "exec 9<\"$0\"; exec \"$@\""])
        .arg(dir)
        .arg(command.get_program())
        .args(command.get_args());
    shell.stdin(std::process::Stdio::null());
    shell
}

/// CVE-2019-5736: the container opens /proc/1/exe, the runtime in disguise, for writing.
#[test]
fn cve_2019_5736_the_runtime_cannot_be_overwritten() {
    behaviour(|| {
        let t = Attack::new();
        let binary = Runtime::under_test().binary();
        let before = fs::read(&binary).unwrap();
        let c = t.create(&t.bundle());
        let exe = fs::read_link(format!("/proc/{}/exe", c.pid())).unwrap();
        assert_ne!(fs::canonicalize(&binary).unwrap(), exe, "the first process is not the host's binary");
        let out = c
            .exec(&["/probe", "try", "reopen-write", "/proc/1/exe", ",", "write", "/proc/1/exe", "x"])
            .ok()
            .json();
        assert!(out[0]["errno"] != "" && out[1]["errno"] != "", "{out}");
        assert!(fs::read(&binary).unwrap() == before);
    });
}

/// CVE-2019-5736, the other way: the entrypoint itself is /proc/self/exe.
#[test]
fn cve_2019_5736_proc_self_exe_as_the_program_is_harmless() {
    behaviour(|| {
        let t = Attack::new();
        let binary = Runtime::under_test().binary();
        let before = fs::read(&binary).unwrap();
        for program in ["/proc/self/exe", "/script"] {
            let mut b = t.bundle();
            b.file("/script", "#!/proc/self/exe\n", 0o755).args(&[program, "init"]);
            t.run(&b);
        }
        assert!(fs::read(&binary).unwrap() == before);
    });
}

/// CVE-2019-5736: what stands in /proc/1/exe can't be written, even with all the rights to try.
#[test]
fn cve_2019_5736_the_first_program_is_a_sealed_copy() {
    /// F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE
    const SEALS: u64 = 0xf;
    let whole = |results: &Value| {
        assert_eq!(results[1]["found"], "/memfd:pintle-init (deleted)", "{results}");
        assert_eq!(results[2]["found"].as_u64().map(|seals| seals & SEALS), Some(SEALS), "{results}");
        for write in 3..7 {
            assert_ne!(results[write]["errno"], "", "{results}");
        }
        assert!(results[0]["found"]["size"].as_u64().unwrap() > 1000, "{results}");
        assert_eq!(results[0]["found"], results[7]["found"], "{results}");
    };
    let attempts = |exe: &str| {
        let words = ["stat", "readlink", "seals", "reopen-write", "open-write", "truncate", "write"];
        let mut all = vec!["/probe".to_owned(), "try".to_owned()];
        for word in words {
            all.extend([word, exe].map(str::to_owned));
            all.extend((word == "write").then(|| "x".to_owned()));
            all.push(",".into());
        }
        all.extend(["stat", exe].map(str::to_owned));
        all
    };
    rows([("from an exec", true), ("from the host", false)], |inside| {
        let t = Attack::new();
        let c = t.create(&t.bundle());
        let exe = if inside { "/proc/1/exe".to_owned() } else { format!("/proc/{}/exe", c.pid()) };
        let words = attempts(&exe);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if inside {
            let rights = ["--cap", "CAP_SYS_ADMIN", "--cap", "CAP_SYS_PTRACE", "--cap", "CAP_DAC_OVERRIDE"];
            whole(&c.exec_with(&rights, &words).ok().json());
        } else {
            let mut probe = Command::new(t.bundle().inside("/probe"));
            probe.args(&words[1..]);
            whole(&t.finish(probe).ok().json());
        }
    });
}

/// CVE-2019-5736 with an attacker who has every right to look, and a program that leads to the runtime.
#[test]
fn cve_2019_5736_no_attack_on_running_programs_reaches_the_hosts_binary() {
    let programs = [("itself", "/proc/self/exe"), ("a script", "/script"), ("a link", "/link")];
    let verbs = programs.into_iter().flat_map(|(name, program)| {
        ["run", "create", "exec"].map(|verb| (format!("{verb} of {name}"), (verb, program)))
    });
    rows(verbs, |(verb, program)| {
        let t = Attack::new();
        let binary = Runtime::under_test().binary();
        let before = fs::read(&binary).unwrap();
        // The attacker shares the pid namespace with whatever is born beside it.
        let mut attacker = t.bundle();
        attacker.args(&["/probe", "overwrite"]).file("/script", "#!/proc/self/exe\n", 0o755);
        attacker.link("/link", "/proc/self/exe").set("/process/noNewPrivileges", json!(false));
        for set in ["bounding", "effective", "permitted"] {
            for right in ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"] {
                attacker.push(&format!("/process/capabilities/{set}"), json!(right));
            }
        }
        let c = t.start(&attacker);
        c.wait_for_output("ready");
        let mut b = t.bundle();
        b.config = attacker.config.clone();
        b.join_namespace("pid", &format!("/proc/{}/ns/pid", c.pid()));
        b.file("/script", "#!/proc/self/exe\n", 0o755).link("/link", "/proc/self/exe");
        b.args(&[program, "init"]);
        for _ in 0..8 {
            // Whether such a program runs is up to the runtime; it has to end.
            match verb {
                "run" => drop(t.run(&b)),
                "create" => {
                    let id = t.id();
                    b.write();
                    t.call(["create", "--bundle", &b.dir.to_string_lossy(), &id]);
                    t.call(["start", &id]);
                    t.call(["delete", "--force", &id]);
                }
                _ => {
                    let rights = ["--cap", "CAP_SYS_ADMIN", "--cap", "CAP_SYS_PTRACE"];
                    c.exec_with(&rights, &[program, "init"]);
                }
            }
        }
        assert_eq!(c.stdout().matches("changed").count(), 0, "{}", c.stdout());
        assert!(fs::read(&binary).unwrap() == before, "the binary has changed");
    });
}
