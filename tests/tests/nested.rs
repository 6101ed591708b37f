//! A container in a container: the runtime itself inside a privileged container of its own.

use pintle_tests::*;
use std::fs;

/// The names of the capabilities by number, capabilities(7).
#[rustfmt::skip]
const NAMES: [&str; 41] = [
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
];

/// What this process may do.
fn capabilities_of_the_host() -> Vec<String> {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let bits = status.lines().find_map(|l| l.strip_prefix("CapPrm:")).unwrap().trim();
    let bits = u64::from_str_radix(bits, 16).unwrap();
    let held = NAMES.iter().enumerate().filter(|(n, _)| bits & 1 << n != 0);
    held.map(|(_, name)| format!("CAP_{name}")).collect()
}

/// A container that may do all that the host may, with the runtime under test at /runtime and a bundle at /inner.
fn privileged(t: &Sandbox, inner: &Bundle, cgroup: &str) -> Bundle {
    inner.write();
    let mut b = t.bundle();
    b.writable().args(&["/probe", "wait"]).set("/process/noNewPrivileges", json!(false));
    let all = json!(capabilities_of_the_host());
    b.set("/process/capabilities", json!({"bounding": all, "effective": all, "permitted": all}));
    b.remove("/linux/maskedPaths").remove("/linux/readonlyPaths");
    b.set("/linux/resources/devices", json!([{"allow": true, "access": "rwm"}]));
    for mount in b.config["mounts"].as_array_mut().unwrap() {
        match mount["type"].as_str() {
            Some("cgroup") => mount["options"] = json!(["nosuid", "noexec", "nodev", cgroup]),
            Some("sysfs") => mount["options"] = json!(["nosuid", "noexec", "nodev"]),
            _ => {}
        }
    }
    b.mount("/inner", "bind", &inner.dir.to_string_lossy(), &["rbind"]);
    let binary = fs::canonicalize(Runtime::under_test().binary()).unwrap();
    copy_program(&binary, b.inside("/runtime"));
    if Runtime::under_test() != Runtime::Pintle {
        // An oracle's libraries are where it was unpacked.
        let place = binary.ancestors().nth(2).unwrap().to_string_lossy().into_owned();
        b.mount(&place, "bind", &place, &["rbind", "ro"]);
    }
    b
}

#[test]
fn a_container_lives_inside_a_privileged_container() {
    behaviour(|| {
        let t = Sandbox::new();
        let inner = t.bundle();
        let c = t.start(&privileged(&t, &inner, "rw"));
        let call = |args: &[&str]| c.exec(&[&["/runtime", "--root", "/run/inner"], args].concat());
        let report = call(&["run", "--bundle", "/inner", "one"]).ok().json();
        assert_eq!((&report["pid"], &report["hostname"]), (&json!(1), &json!("runc")));
        for file in ["cgroup", "ipc", "mnt", "net", "pid", "uts"] {
            let outside = [namespace("self", file), namespace(c.pid(), file)];
            assert!(!outside.iter().any(|link| report["namespaces"][file] == **link), "{file} is new");
        }
        assert_eq!(report["cgroup"].as_array().unwrap().last().unwrap(), "0::/");
        assert_eq!(call(&["list", "--quiet"]).ok().stdout, "");
        let left = fs::read_dir(cgroup_of(c.pid())).unwrap().flatten();
        let folders: Vec<_> = left.filter(|e| e.path().is_dir()).map(|e| e.file_name()).collect();
        assert!(folders.is_empty(), "{folders:?}");
    });
}

#[test]
fn a_life_in_parts_works_inside_a_privileged_container() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut inner = t.bundle();
        let c = t.start(&privileged(&t, inner.args(&["/probe", "wait"]), "rw"));
        let call = |args: &[&str]| c.exec(&[&["/runtime", "--root", "/run/inner"], args].concat());
        // Detached: the created container holds the streams, on whose end an exec may wait.
        let create = ["/runtime", "--root", "/run/inner", "create", "--bundle", "/inner", "one"];
        c.exec_with(&["--detach"], &create).ok();
        let created = || {
            let output = call(&["state", "one"]);
            output.code == 0 && output.json()["status"] == "created"
        };
        wait_for("the created container", created);
        call(&["start", "one"]).ok();
        assert_eq!(call(&["state", "one"]).ok().json()["status"], "running");
        assert_eq!(call(&["exec", "one", "/probe", "print", "hello"]).ok().stdout, "hello\n");
        call(&["delete", "--force", "one"]).ok();
        call(&["state", "one"]).exits(1);
    });
}

#[test]
fn a_read_only_cgroup_mount_around_the_runtime_is_told_as_such() {
    behaviour(|| {
        let t = Sandbox::new();
        let inner = t.bundle();
        let c = t.start(&privileged(&t, &inner, "ro"));
        let log = ["--root", "/run/inner", "--log", "/run/log"];
        let output = c.exec(&[&["/runtime"], &log[..], &["run", "--bundle", "/inner", "one"]].concat());
        assert_ne!(output.code, 0, "{output:?}");
        assert_eq!(output.stderr.matches("read-only").count(), 1, "{output:?}");
        assert_eq!(output.stderr.trim().lines().count(), 1, "{output:?}");
        let text = fs::read_to_string(format!("/proc/{}/root/run/log", c.pid())).unwrap();
        assert_eq!(text.matches("level=error").count(), 1, "{text}");
        let state = c.exec(&["/probe", "try", "list", "/run/inner"]).ok().json();
        assert!(state[0]["found"] == json!([]) || state[0]["errno"] == "ENOENT", "{state}");
    });
}
