//! What the runtime says when it can't: containerd, Docker, podman, CRI-O and scripts look for these words.

use pintle_tests::*;
use std::fs;
use std::os::unix::fs::symlink;

type Edit = fn(&mut Bundle) -> &mut Bundle;

/// Each edit of the default bundle fails `run` and `create` with exit code 1 and these words.
#[track_caller]
fn refused(cases: &[(&str, Edit, &str)]) {
    rows(cases.iter().map(|&(name, edit, text)| (name, (edit, text))), |(edit, text)| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        edit(&mut b);
        let error = t.run(&b).fails(1, text).error();
        assert!(error.starts_with("runc run failed: ") || Runtime::under_test() == Runtime::Crun, "{error}");
        assert_eq!(t.entries(), 0, "nothing is left in the root");
    });
}

/// The text of config.json itself is wrong.
#[track_caller]
fn unreadable(cases: &[(&str, &str, &str)]) {
    rows(cases.iter().map(|&(name, json, text)| (name, (json, text))), |(json, text)| {
        let t = Sandbox::new();
        let b = t.bundle();
        fs::write(b.dir.join("config.json"), json).unwrap();
        t.call(["run", "-b", &b.dir.to_string_lossy(), &t.id()]).fails(1, text);
    });
}

#[test]
fn a_missing_configuration_is_named() {
    behaviour(|| {
        let t = Sandbox::new();
        let b = t.bundle();
        t.call(["create", "-b", &b.dir.to_string_lossy(), &t.id()])
            .fails(1, "JSON specification file config.json not found");
    });
}

#[test]
fn a_missing_bundle_is_named() {
    behaviour(|| {
        let t = Sandbox::new();
        t.call(["create", "-b", "/nothing/here", &t.id()])
            .fails(1, "/nothing/here: no such file or directory");
    });
}

#[test]
fn a_configuration_that_is_not_json_is_refused() {
    unreadable(&[
        ("empty", "", "EOF"),
        ("cut off", "{\"ociVersion\":", "EOF"),
        ("a number for a text", "{\"ociVersion\":1}", "ociVersion"),
        ("a negative uid", "{\"process\":{\"user\":{\"uid\":-1}}}", "process.user.uid"),
    ]);
}

#[test]
fn the_path_of_a_wrong_value_is_named() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.push("/linux/namespaces", json!({"type": 5}));
        t.run(&b).fails(1, "linux.namespaces");
    });
}

#[test]
fn what_is_missing_in_the_configuration_is_named() {
    refused(&[
        ("process", |b| b.remove("/process"), "process property must not be empty"),
        ("root", |b| b.remove("/root"), "root must be specified"),
        ("args", |b| b.set("/process/args", json!([])), "args must not be empty"),
        ("cwd", |b| b.remove("/process/cwd"), "Cwd property must not be empty"),
        ("absolute cwd", |b| b.set("/process/cwd", json!("tmp")), "Cwd must be an absolute path"),
    ]);
}

#[test]
fn namespaces_are_checked_before_anything_is_made() {
    refused(&[
        ("unknown", |b| b.push("/linux/namespaces", json!({"type": "foo"})), "namespace"),
        (
            "twice",
            |b| b.push("/linux/namespaces", json!({"type": "pid"})),
            "malformed spec file: duplicated ns",
        ),
        (
            "hostname",
            |b| b.without_namespace("uts"),
            "unable to set hostname without a private UTS namespace",
        ),
        (
            "domainname",
            |b| b.without_namespace("uts").remove("/hostname").set("/domainname", json!("d")),
            "unable to set domainname without a private UTS namespace",
        ),
        (
            "masked paths",
            |b| b.without_namespace("mount"),
            "unable to restrict sys entries without a private MNT namespace",
        ),
        (
            "user without maps",
            |b| b.new_namespace("user"),
            "user namespaces enabled, but no uid mappings found",
        ),
        (
            "time offsets",
            |b| b.set("/linux/timeOffsets", json!({"monotonic": {"secs": 1}})),
            "time namespace offsets specified, but time namespace isn't enabled in the config",
        ),
    ]);
}

#[test]
fn a_namespace_to_join_has_to_be_one_of_its_kind() {
    refused(&[
        ("missing", |b| b.join_namespace("network", "/nothing/ns"), "/nothing/ns: no such file or directory"),
        ("another kind", |b| b.join_namespace("network", "/proc/self/ns/uts"), "nvalid argument"),
        ("a plain file", |b| b.join_namespace("network", "/etc/passwd"), "nvalid argument"),
    ]);
}

#[test]
fn a_mount_that_fails_is_told_with_source_and_destination() {
    refused(&[
        (
            "unknown type",
            |b| b.mount("/data", "foofs", "foo", &[]),
            "error mounting \"foo\" to rootfs at \"/data\": ",
        ),
        ("unknown type, cause", |b| b.mount("/data", "foofs", "foo", &[]), "no such device"),
        (
            "bad data",
            |b| b.mount("/data", "tmpfs", "t", &["foo=bar"]),
            "error mounting \"t\" to rootfs at \"/data\": ",
        ),
        (
            "bind source",
            |b| b.mount("/data", "bind", "/nothing/here", &["bind"]),
            "/nothing/here: no such file or directory",
        ),
        (
            "bind with data",
            |b| b.mount("/data", "bind", "/tmp", &["bind", "foo=bar"]),
            "bind mounts cannot have any filesystem-specific options applied",
        ),
        ("a file on a folder", |b| b.mount("/data", "bind", "/etc/hostname", &["bind"]), "not a directory"),
        ("a folder on a file", |b| b.mount("/probe", "bind", "/etc", &["bind"]), "not a directory"),
        ("on the rootfs", |b| b.mount("/", "tmpfs", "t", &[]), "is on the top of rootfs"),
        ("a NUL", |b| b.mount("/da\0ta", "tmpfs", "t", &[]), "null byte"),
    ]);
}

#[test]
fn nothing_is_mounted_over_proc() {
    refused(&[
        (
            "bind",
            |b| b.mount("/proc", "bind", "/tmp", &["bind"]),
            "cannot be mounted because it is not of type proc",
        ),
        (
            "tmpfs",
            |b| b.mount("/proc", "tmpfs", "t", &[]),
            "cannot be mounted because it is not of type proc",
        ),
        (
            "inside",
            |b| b.mount("/proc/sys/kernel", "tmpfs", "t", &[]),
            "cannot be mounted because it is inside /proc",
        ),
    ]);
}

#[test]
fn proc_and_sys_are_mounted_on_ordinary_directories() {
    fn file_at_proc(b: &mut Bundle) -> &mut Bundle {
        fs::remove_dir(b.inside("/proc")).unwrap();
        b.file("/proc", "", 0o644)
    }
    refused(&[
        ("proc is a link", |b| b.link("/proc", "/data"), "must be mounted on ordinary directory"),
        ("sys is a link", |b| b.link("/sys", "/data"), "must be mounted on ordinary directory"),
        ("proc is a file", file_at_proc, "must be mounted on ordinary directory"),
    ]);
}

#[test]
fn a_program_that_cannot_be_found_is_told_by_create_already() {
    let cases: [(&str, Edit, &str); 8] = [
        ("bare name", |b| b.args(&["foo"]), "exec: \"foo\": executable file not found in $PATH"),
        ("empty name", |b| b.args(&[""]), "exec: \"\": executable file not found in $PATH"),
        (
            "absolute",
            |b| b.args(&["/bin/foo"]),
            "exec: \"/bin/foo\": stat /bin/foo: no such file or directory",
        ),
        ("relative", |b| b.args(&["bin/foo"]), "exec: \"bin/foo\": stat bin/foo: no such file or directory"),
        ("a folder", |b| b.args(&["/etc"]), "exec: \"/etc\": is a directory"),
        (
            "not executable",
            |b| b.file("/bin/ne", "x", 0o644).args(&["/bin/ne"]),
            "exec: \"/bin/ne\": permission denied",
        ),
        (
            "bare and not executable",
            |b| b.file("/bin/ne", "x", 0o644).args(&["ne"]),
            "exec: \"ne\": executable file not found in $PATH",
        ),
        (
            "long",
            |b| b.set("/process/args", json!(["/".to_owned() + &"a".repeat(300)])),
            "file name too long",
        ),
    ];
    rows(cases.map(|(n, e, text)| (n, (e, text))), |(edit, text)| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        edit(&mut b);
        let error = t.try_create(&b).fails(1, text).error();
        let context = "runc create failed: unable to start container process: error during container init: ";
        assert!(error.starts_with(context), "{error}");
    });
}

#[test]
fn an_execve_that_fails_is_told_on_the_containers_own_stderr() {
    let cases: [(&str, Edit, &str); 4] = [
        (
            "missing interpreter",
            |b| b.file("/s", "#!/nothing\n", 0o755).args(&["/s"]),
            "exec /s: no such file or directory\n",
        ),
        ("no format", |b| b.file("/s", "garbage\n", 0o755).args(&["/s"]), "exec /s: exec format error\n"),
        (
            "too long",
            |b| b.set("/process/args", json!(["/probe", "a".repeat(200_000)])),
            "exec /probe: argument list too long\n",
        ),
        ("a NUL", |b| b.args(&["/probe", "a\0b"]), "exec /probe: invalid argument\n"),
    ];
    rows(cases.map(|(n, e, text)| (n, (e, text))), |(edit, text)| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        edit(&mut b);
        let output = t.run(&b).exits(255);
        assert_eq!(output.stderr, text);
    });
}

#[test]
fn a_working_folder_that_cannot_be_is_refused() {
    refused(&[
        ("a file", |b| b.set("/process/cwd", json!("/probe")), "not a directory"),
        (
            "long",
            |b| b.set("/process/cwd", json!("/".to_owned() + &"a".repeat(70_000))),
            "file name too long",
        ),
    ]);
}

#[test]
fn a_rootfs_that_cannot_be_is_refused() {
    refused(&[
        ("missing", |b| b.set("/root/path", json!("nope")), "nope: no such file or directory"),
        ("a file", |b| b.set("/root/path", json!("config.json")), "not a directory"),
        ("the host's", |b| b.set("/root/path", json!("/")), ""),
    ]);
}

#[test]
fn sysctls_outside_the_containers_namespaces_are_refused() {
    fn set<'a>(b: &'a mut Bundle, key: &str) -> &'a mut Bundle {
        b.set("/linux/sysctl", json!({key: "1"}))
    }
    refused(&[
        ("vm", |b| set(b, "vm.swappiness"), "sysctl \"vm.swappiness\" is not in a separate kernel namespace"),
        (
            "hostname",
            |b| set(b, "kernel.hostname"),
            "sysctl \"kernel.hostname\" is not allowed as it conflicts with the OCI \"hostname\" field",
        ),
        (
            "net",
            |b| set(b.without_namespace("network"), "net.ipv4.ip_forward"),
            "sysctl \"net.ipv4.ip_forward\" not allowed in host network namespace",
        ),
        (
            "ipc",
            |b| set(b.without_namespace("ipc"), "fs.mqueue.msg_max"),
            "sysctl \"fs.mqueue.msg_max\" is not allowed in the hosts ipc namespace",
        ),
        (
            "ipc with slashes",
            |b| set(b.without_namespace("ipc"), "kernel/shmmax"),
            "is not allowed in the hosts ipc namespace",
        ),
        (
            "user",
            |b| set(b, "user.max_pid_namespaces"),
            "setting ucounts without a user namespace not allowed: user.max_pid_namespaces",
        ),
        ("unknown", |b| set(b, "net.foo"), "no such file or directory"),
    ]);
}

#[test]
fn values_of_the_process_are_checked() {
    refused(&[
        (
            "rlimit name",
            |b| b.set("/process/rlimits", json!([{"type": "RLIMIT_FOO", "soft": 1, "hard": 1}])),
            "RLIMIT_FOO",
        ),
        (
            "rlimit order",
            |b| b.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 1}])),
            "invalid argument",
        ),
        ("oom score", |b| b.set("/process/oomScoreAdj", json!(2000)), "nvalid argument"),
        (
            "environment without =",
            |b| b.set("/process/env", json!(["FOO"])),
            "invalid environment variable: missing '='",
        ),
        (
            "environment without a name",
            |b| b.set("/process/env", json!(["=x"])),
            "invalid environment variable: name cannot be empty",
        ),
        (
            "environment with a NUL",
            |b| b.set("/process/env", json!(["A=a\0b"])),
            "invalid environment variable \"A\": contains nul byte (\\x00)",
        ),
        ("scheduler", |b| b.set("/process/scheduler", json!({"policy": "SCHED_FOO"})), "SCHED_FOO"),
        (
            "nice",
            |b| b.set("/process/scheduler", json!({"policy": "SCHED_OTHER", "nice": 30})),
            "invalid scheduler.nice: 30",
        ),
        (
            "priority of an ordinary policy",
            |b| b.set("/process/scheduler", json!({"policy": "SCHED_OTHER", "priority": 3})),
            "scheduler.priority can only be specified for SchedFIFO or SchedRR policy",
        ),
        (
            "I/O class",
            |b| b.set("/process/ioPriority", json!({"class": "FOO", "priority": 1})),
            "invalid ioPriority.Class: \"FOO\"",
        ),
        (
            "I/O priority",
            |b| b.set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 9})),
            "invalid ioPriority.Priority: 9",
        ),
        (
            "selinux without selinux",
            |b| b.set("/process/selinuxLabel", json!("a:b:c")),
            "selinux label is specified in config, but selinux is disabled or not supported",
        ),
    ]);
}

#[test]
fn values_of_linux_are_checked() {
    refused(&[
        (
            "propagation",
            |b| b.set("/linux/rootfsPropagation", json!("foo")),
            "rootfsPropagation=foo is not supported",
        ),
        (
            "personality",
            |b| b.set("/linux/personality", json!({"domain": "FOO"})),
            "invalid personality domain FOO",
        ),
        (
            "device type",
            |b| b.set("/linux/devices", json!([{"path": "/dev/foo", "type": "z", "major": 1, "minor": 3}])),
            "invalid device type \"z\"",
        ),
        (
            "unified name",
            |b| b.set("/linux/resources/unified", json!({"foo/bar": "1"})),
            "unified resource \"foo/bar\" must be a file name (no slashes)",
        ),
        ("hostname", |b| b.set("/hostname", json!("a".repeat(65))), "nvalid argument"),
    ]);
}

#[test]
fn a_limit_without_its_controller_is_never_dropped() {
    behaviour(|| {
        let controllers = fs::read_to_string(cgroup_mount().join("cgroup.controllers")).unwrap_or_default();
        if controllers.contains("memory") {
            skip("the unified hierarchy has the memory controller");
        }
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.set("/linux/resources/memory", json!({"limit": 100_000_000}));
        t.run(&b).fails(1, "memory.max");
    });
}

#[test]
fn an_id_is_letters_digits_and_a_few_signs() {
    let ids =
        [("slash", "a/b"), ("dots", ".."), ("dot", "."), ("space", "a b"), ("umlaut", "ä"), ("colon", "a:b")];
    rows(ids, |id| {
        let t = Sandbox::new();
        let b = t.bundle();
        b.write();
        t.call(["create", "-b", &b.dir.to_string_lossy(), id]).fails(1, "invalid container ID format");
    });
}

#[test]
fn an_empty_id_is_refused() {
    behaviour(|| {
        let t = Sandbox::new();
        let b = t.bundle();
        b.write();
        t.call(["create", "-b", &b.dir.to_string_lossy(), ""]).fails(1, "container id cannot be empty");
    });
}

#[test]
fn terminals_and_console_sockets_go_together() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.write();
        let dir = b.dir.to_string_lossy().into_owned();
        let unwanted = "cannot use console socket if runc will not detach or allocate tty";
        t.call(["create", "--console-socket", "/nothing", "-b", &dir, &t.id()]).fails(1, unwanted);
        b.set("/process/terminal", json!(true)).write();
        let missing = "cannot allocate tty if runc will detach without setting console socket";
        t.call(["create", "-b", &dir, &t.id()]).fails(1, missing);
        t.call(["run", "-d", "-b", &dir, &t.id()]).fails(1, missing);
        t.call(["run", "--console-socket", "/nothing", "-b", &dir, &t.id()]).fails(1, unwanted);
        t.call(["create", "--console-socket", "/nothing", "-b", &dir, &t.id()])
            .fails(1, "no such file or directory");
    });
}

#[test]
fn unknown_things_are_let_pass() {
    let cases: [(&str, Edit); 4] = [
        ("a key", |b| b.set("/org.example.unknown", json!({"a": 1}))),
        ("a key of linux", |b| b.set("/linux/unknown", json!(true))),
        ("a capability", |b| b.push("/process/capabilities/bounding", json!("CAP_FOO"))),
        ("a masked path", |b| b.push("/linux/maskedPaths", json!("/nothing/here"))),
    ];
    rows(cases, |edit| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        edit(&mut b);
        t.run(&b).ok();
    });
}

#[test]
fn doubtful_values_are_warned_of() {
    let cases: [(&str, Edit, &str); 3] = [
        (
            "capability",
            |b| b.push("/process/capabilities/bounding", json!("CAP_FOO")),
            "ignoring unknown or unavailable capabilities: [CAP_FOO]",
        ),
        ("relative destination", |b| b.mount("data", "tmpfs", "t", &[]), "is not absolute"),
        (
            "personality flags",
            |b| b.set("/linux/personality", json!({"domain": "LINUX", "flags": ["A"]})),
            "personality flag",
        ),
    ];
    rows(cases.map(|(n, e, text)| (n, (e, text))), |(edit, text)| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        edit(&mut b);
        let output = t.run(&b).ok();
        assert!(output.warns(text), "{output:?}");
    });
}

#[test]
fn a_cgroup_is_not_shared_with_strangers() {
    behaviour(|| {
        let t = Sandbox::new();
        let path = format!("/{}", t.id());
        let mut b = t.bundle();
        b.args(&["/probe", "wait"]).set("/linux/cgroupsPath", json!(path));
        let _first = t.start(&b);
        t.try_create(&b).fails(1, "container's cgroup is not empty");
    });
}

#[test]
fn a_root_of_links_works() {
    behaviour(|| {
        let t = Sandbox::new();
        let b = t.bundle();
        b.write();
        fs::create_dir(t.dir.join("real")).unwrap();
        symlink("real", t.dir.join("link")).unwrap();
        let mut command = std::process::Command::new(Runtime::under_test().binary());
        command.arg("--root").arg(t.dir.join("link")).arg("run").arg("-b").arg(&b.dir).arg(t.id());
        t.finish(command).ok();
    });
}
