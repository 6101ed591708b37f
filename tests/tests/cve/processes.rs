//! Holes by what a process is, has or is told: who may look into it on its way into a container, its descriptors, its
//! rights, its user, its root.

use super::guard::{Attack, Target};
use super::leaking;
use pintle_tests::*;
use std::fs;

/// CVE-2016-9962: what entered a container could be traced by it, with the host's descriptors still open.
#[test]
fn cve_2016_9962_nobody_looks_into_a_process_on_its_way_in() {
    const EXECS: usize = 1000;
    behaviour(|| {
        let t = Attack::new();
        let mut b = t.bundle();
        let c = t.start(b.args(&["/probe", "stalk", "/tmp/stop"]));
        c.wait_for_output("ready");
        let mut caller = super::race::Caller::new(&t);
        for _ in 0..EXECS {
            let mut exec = std::process::Command::new(Runtime::under_test().binary());
            exec.arg("--root").arg(t.root()).args(["exec", &c.id, "/probe", "exit", "0"]);
            let end = caller.call(&mut exec);
            assert!(end.ok, "{}", end.err);
        }
        fs::write(b.inside("/tmp/stop"), "").unwrap();
        c.wait_for_output("refused");
        let lines = c.stdout();
        assert!(!lines.contains("caught"), "{lines}");
        let refused: u64 = lines.rsplit("refused ").next().unwrap().trim().parse().unwrap();
        println!("RACE cve_2016_9962: {EXECS} execs, {refused} looks into a process on its way were refused");
        assert!(refused > 0, "nobody was met on the way: this was no race");
    });
}

/// CVE-2021-43784: a length of 16 bits overflowed.
#[test]
fn cve_2021_43784_a_namespace_path_of_70_kib_is_an_error() {
    behaviour(|| {
        let t = Attack::new();
        let mut b = t.bundle();
        b.join_namespace("network", &format!("/{}", "a".repeat(70_000)));
        t.run(&b).fails(1, "file name too long");
    });
}

/// CVE-2021-43784: what came after 64 KiB of a long text was read as the runtime's own next message.
#[test]
fn cve_2021_43784_what_is_longer_than_64_kib_arrives_whole() {
    rows([65_535, 65_536, 65_537, 70_000, 131_000].map(|n| (n, n)), |length| {
        let t = Attack::new();
        let mut b = t.bundle();
        let long = "a".repeat(length);
        let output = t.run(b.args(&["/probe", "print", &long])).ok();
        assert!(output.stdout.trim_end() == long, "{} bytes came", output.stdout.len());
        let c = t.waiting();
        let output = c.exec(&["/probe", "print", &long]).ok();
        assert!(output.stdout.trim_end() == long, "{} bytes came", output.stdout.len());
    });
}

/// CVE-2022-29162, CVE-2022-27650, CVE-2025-27612: capabilities of an exec were inheritable.
#[test]
fn cve_2022_29162_exec_has_no_inheritable_capabilities() {
    let users = [("root", "0"), ("another", "5")].into_iter();
    let ways = [("by its number", false), ("by a file", true)];
    rows(
        users.flat_map(|(name, user)| ways.map(|(way, file)| (format!("{name}, {way}"), (user, file)))),
        |(user, file)| {
            let t = Attack::new();
            let c = t.waiting();
            let report = if file {
                let rights = json!(["CAP_KILL", "CAP_AUDIT_WRITE"]);
                let uid: u32 = user.parse().unwrap();
                c.exec_process(&json!({
                    "args": ["/probe", "report"], "cwd": "/", "env": [], "user": {"uid": uid, "gid": 0},
                    "capabilities": {"bounding": rights, "effective": rights, "permitted": rights}
                }))
            } else {
                c.exec_with(&["-u", user, "--cap", "CAP_NET_RAW"], &["/probe", "report"])
            };
            let report = report.ok().json();
            assert_eq!(report["status"]["CapInh"], "0000000000000000");
            assert_eq!(report["status"]["CapAmb"], "0000000000000000");
        },
    );
}

/// CVE-2024-21626: a leaked descriptor of the host's served as working directory.
#[test]
fn cve_2024_21626_a_leaked_descriptor_is_no_working_directory() {
    let ways = ["/proc/self/fd/9", "/proc/self/fd/9/../..", "/proc/1/fd/9", "/proc/thread-self/fd/9", "/way"];
    let verbs = ["run", "exec"].into_iter();
    rows(verbs.flat_map(|verb| ways.map(|way| (format!("{verb} in {way}"), (verb, way)))), |(verb, way)| {
        let t = Attack::new();
        let target = Target::new(&t, "target", &[]);
        let mut b = t.bundle();
        b.link("/way", "/proc/self/fd/9");
        let look = ["/probe", "try", "getcwd", ",", "list", "."];
        let mut command = t.command();
        if verb == "run" {
            b.set("/process/cwd", json!(way)).args(&look).write();
            command.arg("run").arg("--bundle").arg(&b.dir).arg(t.id());
        } else {
            let c = t.start(b.args(&["/probe", "wait"]));
            command.args(["exec", "--cwd", way, &c.id]).args(look);
        }
        let output = t.finish(leaking(&command, &target.dir));
        assert_ne!(output.code, 0, "{output:?}");
        target.is_untouched();
    });
}

/// CVE-2024-21626: any number that the runtime itself may have left open.
#[test]
fn cve_2024_21626_no_descriptor_of_the_runtimes_own_is_a_working_directory() {
    rows([("run", "run"), ("exec", "exec")], |verb| {
        let t = Attack::new();
        let c = t.waiting();
        let mut b = t.bundle();
        for n in 3..64 {
            for way in [format!("/proc/self/fd/{n}"), format!("/proc/1/fd/{n}")] {
                let output = match verb {
                    "run" => t.run(b.set("/process/cwd", json!(way))),
                    _ => c.exec_with(&["--cwd", &way], &["/probe", "report"]),
                };
                assert_ne!(output.code, 0, "{way}: {output:?}");
            }
        }
    });
}

/// CVE-2024-21626: what the program itself has open.
#[test]
fn cve_2024_21626_the_program_has_no_descriptor_but_its_streams() {
    rows([("run", "run"), ("exec", "exec")], |verb| {
        let t = Attack::new();
        let target = Target::new(&t, "target", &[]);
        let mut command = t.command();
        let b = t.bundle();
        if verb == "run" {
            b.write();
            command.arg("run").arg("--bundle").arg(&b.dir).arg(t.id());
        } else {
            command.args(["exec", &t.waiting().id, "/probe", "report"]);
        }
        let report = t.finish(leaking(&command, &target.dir)).ok().json();
        let fds = report["fds"].as_object().unwrap();
        assert_eq!(fds.len(), 3, "{fds:?}");
    });
}

/// No number, the class of CVE-2024-21626: the program itself was named through a descriptor of the host's.
#[test]
fn a_leaked_descriptor_leads_to_no_program() {
    let ways = ["/proc/self/fd/9/program", "/proc/1/fd/9/program", "/way/program"];
    let verbs = ["run", "exec"].into_iter();
    rows(verbs.flat_map(|verb| ways.map(|way| (format!("{verb} of {way}"), (verb, way)))), |(verb, way)| {
        let t = Attack::new();
        let target = Target::new(&t, "target", &[]);
        let mut b = t.bundle();
        copy_program(b.inside("/probe"), t.dir.join("program"));
        fs::hard_link(t.dir.join("program"), target.dir.join("program")).unwrap();
        b.link("/way", "/proc/self/fd/9");
        let mut command = t.command();
        if verb == "run" {
            b.args(&[way, "print", "of the host"]).write();
            command.arg("run").arg("--bundle").arg(&b.dir).arg(t.id());
        } else {
            let c = t.start(b.args(&["/probe", "wait"]));
            command.args(["exec", &c.id, way, "print", "of the host"]);
        }
        let output = t.finish(leaking(&command, &target.dir));
        assert!(output.code != 0 && output.stdout.is_empty(), "{output:?}");
    });
}

/// CVE-2026-30892: `exec -u 1` ran as root.
#[test]
fn cve_2026_30892_a_user_is_the_number_that_was_typed_or_an_error() {
    let users = [
        ("1", Some("1 1 1 1")),
        ("1:1", Some("1 1 1 1")),
        ("5:7", Some("5 5 5 5")),
        ("65534", Some("65534 65534 65534 65534")),
        (":", None),
        ("1:", None),
        (":1", None),
        ("-1", None),
        ("+1", None),
        ("1:-1", None),
        ("1 ", None),
        (" 1", None),
        ("0x1", None),
        ("1.0", None),
        ("1:1:1", None),
        ("١", None),
        ("4294967295", None),
        ("4294967296", None),
        ("4294967297", None),
        ("18446744073709551616", None),
        ("root", None),
        ("nobody", None),
    ];
    rows(users.map(|(typed, expect)| (format!("{typed:?}"), (typed, expect))), |(typed, expect)| {
        let t = Attack::new();
        let output = t.waiting().exec_with(&[&format!("--user={typed}")], &["/probe", "report"]);
        match expect {
            Some(uids) => assert_eq!(output.ok().json()["status"]["Uid"], uids),
            None => assert!(output.code != 0 && output.stdout.is_empty(), "{output:?}"),
        }
    });
}

/// No number: a process that joined a container without a mount namespace stood in the host's root.
#[test]
fn an_exec_without_a_mount_namespace_stands_in_the_containers_root() {
    behaviour(|| {
        needs_devices();
        let t = Attack::new();
        let mut b = t.bundle();
        b.without_namespace("mount").remove("/linux/maskedPaths").remove("/linux/readonlyPaths");
        b.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] == "/proc");
        b.set("/root/readonly", json!(false)).args(&["/probe", "wait"]).write();
        // The rootfs is bound in the caller's mount namespace, so the caller has one of its own.
        let mut command = std::process::Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c"]);
        command.arg(
            "runtime() { \"$binary\" --root \"$root\" \"$@\"; }
            binary=$0 root=$2 id=$3
            runtime run --detach --bundle \"$1\" \"$id\" >/dev/null 2>&1 </dev/null || exit 9
            runtime exec \"$id\" /probe try list /; status=$?
            runtime delete --force \"$id\"; exit $status",
        );
        command.arg(Runtime::under_test().binary()).arg(&b.dir).arg(t.root()).arg(t.id());
        let output = t.finish(command).ok().json();
        let names = output[0]["found"].as_array().unwrap();
        assert!(names.contains(&json!("probe")) && names.contains(&json!("data")), "{output}");
        assert!(!names.contains(&json!("root")), "{output}");
    });
}
