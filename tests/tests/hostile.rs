//! Bundles made to harm: links where folders are expected, endless names, strange files. Nothing outside changes.

use pintle_tests::*;
use std::fs;
use std::path::Path;

type Edit = fn(&mut Bundle) -> &mut Bundle;

/// The bundle may fail or run; the runtime must not hang or panic, and the host's /dev and the root stay as they are.
#[track_caller]
fn harmless(cases: &[(&str, Edit)]) {
    rows(cases.iter().copied(), |edit| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        edit(&mut b);
        let listing = |dir: &Path| {
            let mut names: Vec<_> = fs::read_dir(dir).unwrap().flatten().map(|e| e.file_name()).collect();
            names.sort();
            names
        };
        let before = (listing(Path::new("/dev")), listing(Path::new("/")));
        let output = t.run(&b);
        assert!(!output.stderr.contains("panicked") && output.code < 129, "{output:?}");
        assert_eq!(before, (listing(Path::new("/dev")), listing(Path::new("/"))));
        assert_eq!(t.entries(), 0, "nothing is left");
    });
}

#[test]
fn links_in_the_place_of_folders_lead_nowhere_outside() {
    harmless(&[
        ("dev to the hosts", |b| b.link("/dev", "/dev")),
        ("dev upwards", |b| b.link("/dev", "../../../../../../dev")),
        ("proc", |b| b.link("/proc", "/etc")),
        ("sys", |b| b.link("/sys", "../../../../../sys")),
        ("a loop", |b| b.link("/dev", "/dev2").link("/dev2", "/dev")),
        ("etc", |b| b.link("/etc", "/etc")),
    ]);
}

#[test]
fn names_of_64_kib_are_refused_cleanly() {
    fn long() -> String {
        "/".to_owned() + &"a".repeat(70_000)
    }
    harmless(&[
        ("a namespace", |b| b.join_namespace("network", &long())),
        ("a mount", |b| b.mount(&long(), "tmpfs", "t", &[])),
        ("a deep mount", |b| b.mount(&"/a".repeat(35_000), "tmpfs", "t", &[])),
        ("a source", |b| b.mount("/data", "bind", &long(), &["bind"])),
        ("an option", |b| b.mount("/data", "tmpfs", "t", &[&long()])),
        ("the cwd", |b| b.set("/process/cwd", json!(long()))),
        ("the program", |b| b.set("/process/args", json!([long()]))),
        ("the rootfs", |b| b.set("/root/path", json!(long()))),
        ("a mask", |b| b.set("/linux/maskedPaths", json!([long()]))),
        ("a read-only path", |b| b.set("/linux/readonlyPaths", json!([long()]))),
        ("a device", |b| {
            b.set("/linux/devices", json!([{"path": long(), "type": "c", "major": 1, "minor": 3}]))
        }),
        ("a hook", |b| b.set("/hooks/createRuntime", json!([{"path": long()}]))),
        ("the hostname", |b| b.set("/hostname", json!(long()))),
        ("the cgroup", |b| b.set("/linux/cgroupsPath", json!(long()))),
        ("a sysctl", |b| b.set("/linux/sysctl", json!({"net.".to_owned() + &long(): "1"}))),
        ("a variable", |b| b.set("/process/env", json!(["A=".to_owned() + &long()]))),
    ]);
}

#[test]
fn nuls_are_refused_or_harmless() {
    harmless(&[
        ("the program", |b| b.args(&["/pro\0be"])),
        ("a variable", |b| b.set("/process/env", json!(["A=\0"]))),
        ("the cwd", |b| b.set("/process/cwd", json!("/da\0ta"))),
        ("a mask", |b| b.set("/linux/maskedPaths", json!(["/etc\0/x"]))),
        ("the rootfs", |b| b.set("/root/path", json!("root\0fs"))),
        ("a namespace", |b| b.join_namespace("ipc", "/proc/self\0/ns/ipc")),
        ("the cgroup", |b| b.set("/linux/cgroupsPath", json!("/a\0b"))),
        ("a hook", |b| b.set("/hooks/createRuntime", json!([{"path": "/bin/\0true"}]))),
        ("a mount option", |b| b.mount("/data", "tmpfs", "t", &["mode=7\x0000"])),
    ]);
}

/// What a path that climbs out of the cgroup file system would make, in this run.
fn climbed() -> String {
    format!("/tmp/climbed-{}", std::process::id())
}

#[test]
fn a_cgroup_path_does_not_climb_out() {
    harmless(&[
        ("absolute", |b| b.set("/linux/cgroupsPath", json!(format!("/../../../..{}", climbed())))),
        ("relative", |b| b.set("/linux/cgroupsPath", json!(format!("../../../..{}", climbed())))),
    ]);
    assert!(!Path::new(&climbed()).exists());
}

#[test]
fn the_working_folder_cannot_be_a_folder_of_the_host() {
    behaviour(|| {
        let t = Sandbox::new();
        for n in 3..24 {
            for of in ["self", "1", "thread-self"] {
                let mut b = t.bundle();
                b.set("/process/cwd", json!(format!("/proc/{of}/fd/{n}")));
                let output = t.run(&b);
                assert_ne!(output.code, 0, "/proc/{of}/fd/{n}: {output:?}");
            }
        }
    });
}

#[test]
fn exec_cannot_stand_in_a_folder_of_the_host_either() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.waiting();
        for n in 3..24 {
            c.exec_with(&["--cwd", &format!("/proc/self/fd/{n}")], &["/probe", "report"]).exits(255);
        }
    });
}

#[test]
fn a_link_to_a_descriptor_is_no_working_folder() {
    behaviour(|| {
        let t = Sandbox::new();
        for n in 3..16 {
            let mut b = t.bundle();
            b.link("/way", format!("/proc/self/fd/{n}")).set("/process/cwd", json!("/way"));
            assert_ne!(t.run(&b).code, 0);
        }
    });
}

#[test]
fn a_huge_configuration_is_read() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let many: Vec<String> = (0..20_000).map(|n| format!("org.example.{n}={}", "x".repeat(20))).collect();
        b.set("/annotations", json!({"big": many.join(",")}));
        let env: Vec<String> = (0..2_000).map(|n| format!("V{n}=1")).collect();
        b.set("/process/env", json!(env));
        assert_eq!(t.report(&b)["env"].as_array().unwrap().len(), 2_001);
    });
}

#[test]
fn a_configuration_nested_without_end_is_refused() {
    behaviour(|| {
        let t = Sandbox::new();
        let b = t.bundle();
        let deep = "{\"a\":".repeat(100_000) + "1" + &"}".repeat(100_000);
        fs::write(b.dir.join("config.json"), deep).unwrap();
        let output = t.call(["run", "-b", &b.dir.to_string_lossy(), &t.id()]).exits(1);
        assert!(!output.error().is_empty());
    });
}

#[test]
fn a_hundred_mounts_are_made() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        for n in 0..100 {
            b.mount(&format!("/data/{n}"), "tmpfs", "t", &["size=4k"]);
        }
        let report = t.report(&b);
        let own = report["mounts"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|m| m.as_str().unwrap().contains(" /data/"))
            .count();
        assert_eq!(own, 100);
    });
}

#[test]
fn a_passwd_without_end_or_of_another_kind_does_not_stop_the_start() {
    fn pipe(b: &mut Bundle) -> &mut Bundle {
        let made = std::process::Command::new("mkfifo").arg(b.inside("/etc/passwd")).status().unwrap();
        assert!(made.success());
        b
    }
    let cases: [(&str, Edit); 4] = [
        ("a line of a MiB", |b| b.file("/etc/passwd", &"x".repeat(1 << 20), 0o644)),
        ("a folder", |b| b.folder("/etc/passwd", 0o755)),
        ("a link in a loop", |b| b.link("/etc/passwd", "passwd")),
        ("a pipe", pipe),
    ];
    rows(cases, |edit| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        edit(&mut b);
        let output = t.run(&b);
        assert!(output.code <= 1, "{output:?}");
    });
}

#[test]
fn a_console_that_is_a_link_hits_nothing() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let victim = b.beside("victim");
        fs::write(&victim, "unharmed").unwrap();
        let mounts = b.config["mounts"].as_array_mut().unwrap();
        mounts.retain(|m| m["destination"] != "/dev");
        b.writable().folder("/dev/pts", 0o755).folder("/dev/shm", 0o755).folder("/dev/mqueue", 0o755);
        b.link("/dev/console", &victim).link("/dev/null", &victim);
        b.set("/process/terminal", json!(true)).write();
        let socket = ConsoleSocket::new(&t.dir);
        let output = t.call([
            "create",
            "--console-socket",
            &socket.path.to_string_lossy(),
            "-b",
            &b.dir.to_string_lossy(),
            &t.id(),
        ]);
        assert!(!output.stderr.contains("panicked"), "{output:?}");
        assert_eq!(fs::read_to_string(victim).unwrap(), "unharmed");
    });
}
