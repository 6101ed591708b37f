//! Container paths by descriptor only: whole verbs are traced, and every path in every call of init's is held
//! against the rules in `paths/rules.rs`. What they are for: docs/birth.md, "Paths". strace(1), openat2(2)

mod calls;
mod rules;
mod strace;

use pintle_tests::*;
use rules::{Findings, Known, Trace};
use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

/// Skips where nothing can be traced, and where there is no init of ours.
fn needs_traces() {
    if Runtime::under_test() != Runtime::Pintle {
        skip("it is pintle's init whose calls are known");
    }
    needs_program("strace");
    let mut strace = Command::new("strace");
    strace.args(["-qq", "-o", "/dev/null", "true"]).stdout(Stdio::null()).stderr(Stdio::null());
    if !strace.status().is_ok_and(|status| status.success()) {
        skip("ptrace is not possible here");
    }
}

/// What every container of the default bundle asks for.
fn known(b: &Bundle) -> Known {
    let listed = |paths: &[&str]| paths.iter().map(|p| (*p).to_owned()).collect();
    Known {
        rootfs: fs::canonicalize(b.rootfs()).unwrap().to_string_lossy().into_owned(),
        host: listed(&["/", "/proc", "/dev/null"]),
        inside: listed(&["/", "/probe", "/etc/passwd"]),
        joins_root: false,
    }
}

/// The runtime under strace, to be called with more arguments.
fn strace(t: &Sandbox) -> Command {
    let runtime = t.command();
    let mut command = Command::new("strace");
    command.args(["-ff", "-v", "-s", "100000", "-e", "signal=none", "--decode-pids=pidns", "-o"]);
    command.arg(t.dir.join("calls")).arg("--").arg(runtime.get_program()).args(runtime.get_args());
    command.stdin(Stdio::null());
    command
}

/// What strace wrote, which is then gone.
fn trace(t: &Sandbox) -> Trace {
    let mut trace = BTreeMap::new();
    for entry in fs::read_dir(&t.dir).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix("calls.").and_then(|pid| pid.parse().ok()) else { continue };
        let text = String::from_utf8_lossy(&fs::read(entry.path()).unwrap()).into_owned();
        let calls =
            text.lines().filter_map(|line| strace::Call::read(line).unwrap_or_else(|e| panic!("{e}")));
        trace.insert(pid, calls.collect());
        fs::remove_file(entry.path()).unwrap();
    }
    trace
}

/// Demands that every path was given by a rule, and that each of `rules` was used.
#[track_caller]
fn holds(t: &Sandbox, known: &Known, rules: &[&str]) {
    let Findings { wrong, used } = rules::check(&trace(t), known);
    println!("   {used:?}");
    assert!(wrong.is_empty(), "{} calls against the rules:\n{}", wrong.len(), wrong.join("\n"));
    for rule in ["a path in the container's own root"].iter().chain(rules) {
        assert!(used.contains_key(rule), "no call by the rule {rule:?}: {used:?}");
    }
}

type Edit = fn(&mut Bundle, &mut Known);

const DESCRIPTOR: &str = "a descriptor alone";
const IN_ROOT: &str = "openat2 in the root";
const NAME: &str = "a name beside its parent";
const NEW: &str = "a name in a file system that is mounted nowhere";
const PROCFS: &str = "openat2 in a procfs";
const HOST: &str = "a path of the host's";

/// Files and folders of the host, bound to places that are not there yet, some of them behind links to nothing.
fn binds(b: &mut Bundle, known: &mut Known) {
    let source = b.beside("source");
    fs::create_dir_all(source.join("folder/deep")).unwrap();
    fs::write(source.join("file"), "x").unwrap();
    let path = |name: &str| source.join(name).to_string_lossy().into_owned();
    b.writable().link("/data/link", "/tmp/far/away").link("/tmp/up", "../../../run");
    b.mount("/data/made/folder", "bind", &path("folder"), &["rbind", "ro", "nosuid"]);
    b.mount("/data/made/file", "bind", &path("file"), &["bind", "rslave"]);
    b.mount("/data/link/folder", "bind", &path("folder"), &["bind", "rro"]);
    b.mount("/tmp/up/file", "bind", &path("file"), &["bind"]);
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 100}]);
    b.push(
        "/mounts",
        json!({"destination": "/data/mapped", "type": "bind", "source": path("folder"), "options": ["bind", "idmap"],
            "uidMappings": map, "gidMappings": map}),
    );
    known.host.extend([path("folder"), path("file")]);
}

/// A tmpfs that begins as a copy of all kinds of files.
fn copies(b: &mut Bundle, _: &mut Known) {
    b.file("/etc/file", "x", 0o4755).file("/etc/deep/er/file", "y", 0o600).link("/etc/link", "/far");
    fs::hard_link(b.inside("/etc/file"), b.inside("/etc/other")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        b.inside("/etc/pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    b.mount("/etc", "tmpfs", "t", &["tmpcopyup", "mode=755"]).mount("/data/a", "tmpfs", "t", &["size=4k"]);
}

/// What is made in the rootfs, hidden in it, written to procfs.
fn makes(b: &mut Bundle, known: &mut Known) {
    b.writable().file("/etc/secret", "x", 0o600).folder("/data/secrets", 0o700).link("/dev2", "dev");
    for (path, kind, number) in [("/dev/own/null", "c", 3), ("/dev2/full", "c", 7), ("/dev/pipe", "p", 0)] {
        b.push("/linux/devices", json!({"path": path, "type": kind, "major": 1, "minor": number, "uid": 5}));
    }
    for path in ["/etc/secret", "/data/secrets", "/nothing"] {
        b.push("/linux/maskedPaths", json!(path));
    }
    b.push("/linux/readonlyPaths", json!("/data")).push("/linux/readonlyPaths", json!("/etc/secret"));
    b.set("/process/cwd", json!("/tmp/made/for/it")).set("/root/readonly", json!(true));
    b.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1", "kernel.domainname": "example"}));
    b.hook("createRuntime", "true").hook("createContainer", "true");
    b.push("/hooks/startContainer", json!({"path": "/probe", "args": ["probe", "exit", "0"]}));
    known.host.push("/bin/sh".into());
    known.inside.push("/tmp/made/for/it".into());
}

/// In a user namespace nodes are bound.
fn in_user_namespace(b: &mut Bundle, known: &mut Known) {
    b.user_namespace();
    known
        .host
        .extend(["null", "zero", "full", "random", "urandom", "tty"].map(|name| format!("/dev/{name}")));
}

/// Without a cgroup namespace the container's directory is bound.
fn cgroup_by_bind(b: &mut Bundle, known: &mut Known) {
    b.without_namespace("cgroup");
    known.host.push(format!("{}/", cgroup_mount().display()));
}

/// Offsets of clocks and no procfs of the container's own.
fn by_private_procfs(b: &mut Bundle, _: &mut Known) {
    b.config["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != "/proc");
    b.remove("/linux/maskedPaths").remove("/linux/readonlyPaths").new_namespace("time");
    b.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
    b.set("/linux/timeOffsets", json!({"monotonic": {"secs": 7, "nanosecs": 5}}));
}

#[test]
fn no_call_on_the_way_into_the_rootfs_takes_a_path_through_it() {
    let cases: [(&str, Edit, &[&str]); 7] = [
        ("default", |_, _| {}, &[DESCRIPTOR, IN_ROOT, NAME, HOST]),
        ("binds", binds, &[DESCRIPTOR, IN_ROOT, NAME, HOST]),
        ("tmpcopyup", copies, &[DESCRIPTOR, IN_ROOT, NEW]),
        ("devices, masks, hooks, sysctl", makes, &[DESCRIPTOR, IN_ROOT, NAME, PROCFS]),
        ("a user namespace", in_user_namespace, &[DESCRIPTOR, IN_ROOT, NAME, HOST]),
        ("the cgroup by a bind", cgroup_by_bind, &[DESCRIPTOR, IN_ROOT, HOST]),
        ("no procfs", by_private_procfs, &[DESCRIPTOR, PROCFS]),
    ];
    rows(cases.map(|row| (row.0, row)), |(_, edit, rules)| {
        needs_traces();
        let t = Sandbox::new();
        let mut b = t.bundle();
        let mut known = known(&b);
        edit(b.args(&["/probe", "exit", "0"]), &mut known);
        b.write();
        let mut run = strace(&t);
        run.args(["run", "--bundle"]).arg(&b.dir).arg(t.id());
        t.finish(run).ok();
        holds(&t, &known, rules);
    });
}

#[test]
fn neither_do_the_other_ways_to_make_a_rootfs_the_root() {
    type Way = (&'static str, &'static [&'static str], Edit);
    let ways: [Way; 3] = [
        ("--no-pivot", &["--no-pivot"], |_, known| {
            // Whole procfs and sysfs of the host's are taken off, where they are mounted.
            let places = mounts().into_iter().filter_map(|line| line.split(' ').nth(4).map(str::to_owned));
            known.host.extend(places);
        }),
        ("without a mount namespace", &[], |b, _| {
            b.without_namespace("mount").remove("/linux/maskedPaths").remove("/linux/readonlyPaths");
        }),
        ("a joined pid namespace", &[], |_, _| {}),
    ];
    rows(ways.map(|way| (way.0, way)), |(name, flags, edit)| {
        needs_traces();
        if name == "without a mount namespace" {
            needs_devices();
        }
        let t = Sandbox::new();
        let other = t.waiting();
        let mut b = t.bundle();
        let mut known = known(&b);
        edit(b.args(&["/probe", "exit", "0"]), &mut known);
        if name.contains("pid") {
            b.join_namespace("pid", &format!("/proc/{}/ns/pid", other.pid()));
        }
        b.write();
        // What a container without a mount namespace mounts is mounted where the runtime is.
        let mut run = Command::new("unshare");
        let strace = strace(&t);
        run.args(["--mount", "--propagation", "private"]).arg(strace.get_program()).args(strace.get_args());
        run.arg("run").args(flags).arg("--bundle").arg(&b.dir).arg(t.id()).stdin(Stdio::null());
        t.finish(run).ok();
        holds(&t, &known, &[DESCRIPTOR, IN_ROOT]);
    });
}

#[test]
fn nor_does_a_create_with_a_terminal() {
    behaviour(|| {
        needs_traces();
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.set("/process/terminal", json!(true)).args(&["/probe", "wait"]).write();
        let (socket, id) = (ConsoleSocket::new(&t.dir), t.id());
        let mut create = strace(&t);
        create.args(["create", "--console-socket"]).arg(&socket.path).arg("--bundle").arg(&b.dir).arg(&id);
        // strace stays until the last process is gone, and so would whoever waits for it.
        let mut strace = create.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let (_, _master) = socket.master();
        wait_for("the container", || t.call(["state", &id]).stdout.contains("\"created\""));
        t.call(["start", &id]).ok();
        wait_for("the program", || t.call(["state", &id]).stdout.contains("\"running\""));
        t.call(["delete", "--force", &id]).ok();
        strace.wait().unwrap();
        holds(&t, &known(&b), &[DESCRIPTOR, IN_ROOT, NAME, "an own descriptor, opened anew"]);
    });
}

#[test]
fn exec_takes_no_path_of_the_hosts_once_it_is_inside() {
    let ways: [(&str, Edit); 4] = [
        ("default", |_, _| {}),
        ("a user namespace", in_user_namespace),
        ("a terminal", |_, known| known.inside.push("/dev/pts/ptmx".into())),
        ("without a mount namespace", |b, _| {
            b.without_namespace("mount").remove("/linux/maskedPaths").remove("/linux/readonlyPaths");
            b.remove("/mounts");
        }),
    ];
    rows(ways.map(|way| (way.0, way)), |(name, edit)| {
        needs_traces();
        if name == "without a mount namespace" {
            needs_devices();
        }
        let t = Sandbox::new();
        let mut b = t.bundle();
        let mut known = Known { joins_root: true, ..known(&b) };
        edit(b.args(&["/probe", "wait"]), &mut known);
        known.host.clear();
        let c = t.start(&b);
        c.wait_for_output("ready");
        let mut exec = strace(&t);
        exec.arg("exec");
        let socket = name.contains("terminal").then(|| ConsoleSocket::new(&t.dir));
        if let Some(socket) = &socket {
            exec.args(["--tty", "--detach", "--console-socket"]).arg(&socket.path);
        }
        exec.args([&c.id, "/probe", "exit", "0"]);
        t.finish(exec).ok();
        drop(socket.map(ConsoleSocket::master));
        holds(&t, &known, &[]);
    });
}

/// A trace of one init that does what it may, and then `calls`.
fn recorded(calls: &[&str]) -> Findings {
    let known = Known {
        rootfs: "/b/rootfs".into(),
        host: vec!["/".into(), "/proc".into(), "/src/".into()],
        inside: vec!["/cwd".into()],
        joins_root: false,
    };
    let runtime = r#"execve("/usr/sbin/pintle", ["pintle"], []) = 0
clone3({flags=CLONE_VM|CLONE_VFORK|CLONE_NEWPID, exit_signal=SIGCHLD}, 88) = 2 /* 20 in strace's PID NS */"#;
    let init = r#"execveat(5, "", ["pintle-init", "4"], [], AT_EMPTY_PATH) = 0
openat(AT_FDCWD, "/b/rootfs", O_RDONLY|O_PATH|O_CLOEXEC|O_DIRECTORY) = 5
open_tree(5, "", OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC|AT_EMPTY_PATH|AT_RECURSIVE) = 6
move_mount(6, "", 5, "", MOVE_MOUNT_F_EMPTY_PATH|MOVE_MOUNT_T_EMPTY_PATH) = 0
openat2(6, "/data", {flags=O_RDONLY|O_CLOEXEC|O_PATH, mode=0, resolve=RESOLVE_NO_MAGICLINKS|RESOLVE_IN_ROOT}, 24) = 7
openat(AT_FDCWD, "/proc", O_RDONLY|O_NOFOLLOW|O_CLOEXEC|O_PATH|O_DIRECTORY) = 8"#;
    let read = |text: &str| -> Vec<strace::Call> {
        text.lines().filter_map(|line| strace::Call::read(line).expect("a line of strace's")).collect()
    };
    let calls = read(init).into_iter().chain(read(&calls.join("\n"))).collect();
    rules::check(&BTreeMap::from([(10, read(runtime)), (20, calls)]), &known)
}

#[test]
fn every_kind_of_path_that_should_not_be_is_found_in_a_trace() {
    const VERIFY: &str = "fstatfs(8, {f_type=PROC_SUPER_MAGIC, f_bsize=4096}) = 0";
    const FIND: &str = concat!(
        r#"openat2(8, "self", {flags=O_PATH, mode=0, "#,
        "resolve=RESOLVE_NO_XDEV|RESOLVE_NO_MAGICLINKS|RESOLVE_BENEATH}, 24) = 9"
    );
    const PIVOT: &str = r#"pivot_root(".", ".") = 0"#;
    let cases: [(&str, &[&str], &str); 29] = [
        ("nothing", &[], ""),
        (
            "an absolute path",
            &[r#"mkdirat(AT_FDCWD, "/b/rootfs/dev", 0755) = 0"#],
            "a path through the rootfs",
        ),
        ("a path of an older call", &[r#"mkdir("/b/rootfs/dev", 0755) = 0"#], "a path through the rootfs"),
        ("a second name", &[r#"mkdirat(7, "dev/shm", 0755) = 0"#], "more than a name"),
        ("a slash at the end", &[r#"mkdirat(7, "dev/", 0755) = 0"#], "more than a name"),
        ("upwards", &[r#"openat(7, "..", O_RDONLY|O_NOFOLLOW) = 9"#], "more than a name"),
        ("a name", &[r#"mkdirat(7, "dev", 0755) = 0"#], ""),
        ("a followed name", &[r#"openat(7, "dev", O_RDONLY|O_CLOEXEC) = 9"#], "follows a link"),
        ("a followed owner", &[r#"fchownat(7, "dev", 0, 0, 0) = 0"#], "follows a link"),
        ("an owner", &[r#"fchownat(7, "dev", 0, 0, AT_SYMLINK_NOFOLLOW) = 0"#], ""),
        ("a way without directory", &[r#"mkdir("dev", 0755) = 0"#], "a path without a directory"),
        (
            "openat2 that leaves",
            &[r#"openat2(6, "/dev", {flags=O_PATH, mode=0, resolve=0}, 24) = 9"#],
            "nobody asked for",
        ),
        (
            "openat2 beneath",
            &[r#"openat2(6, "a/b", {flags=O_PATH, mode=0, resolve=RESOLVE_BENEATH}, 24) = 9"#],
            "restrictions",
        ),
        (
            "a link of magic",
            &[r#"openat2(6, "/a", {flags=O_PATH, mode=0, resolve=RESOLVE_IN_ROOT}, 24) = 9"#],
            "restrictions",
        ),
        ("a source of the host's", &[r#"openat(AT_FDCWD, "/src/x", O_RDONLY|O_PATH) = 9"#], ""),
        (
            "another path of the host's",
            &[r#"openat(AT_FDCWD, "/etc/shadow", O_RDONLY) = 9"#],
            "nobody asked for",
        ),
        ("a written one", &[r#"openat(AT_FDCWD, "/src/x", O_WRONLY) = 9"#], "for writing"),
        (
            "mount by path",
            &[r#"mount("/src/x", "/b/rootfs/data", NULL, MS_BIND, NULL) = 0"#],
            "a path through the rootfs",
        ),
        (
            "move_mount by path",
            &[r#"move_mount(9, "", 6, "data/x", MOVE_MOUNT_F_EMPTY_PATH) = 0"#],
            "more than a name",
        ),
        ("a verified procfs", &[VERIFY, FIND], ""),
        ("an unverified procfs", &[FIND], "restrictions"),
        ("a procfs by path", &[r#"openat(AT_FDCWD, "/proc/self/attr/exec", O_WRONLY) = 9"#], "for writing"),
        ("a new kind of call", &[r#"openat9(6, "/a", 0) = 9"#], "no table knows"),
        (
            "a socket",
            &[r#"connect(9, {sa_family=AF_UNIX, sun_path="/b/rootfs/x"}, 14) = 0"#],
            "a path through the rootfs",
        ),
        (
            "a path as an option",
            &[r#"fsconfig(9, FSCONFIG_SET_PATH, "lowerdir", "/x", AT_FDCWD) = 0"#],
            "none is expected",
        ),
        ("a cut path", &[r#"mkdirat(7, "dev"..., 0755) = 0"#], "no whole string"),
        ("the program's place", &["fchdir(6) = 0", PIVOT, r#"chdir("/cwd") = 0"#], ""),
        (
            "a path after the pivot",
            &["fchdir(6) = 0", PIVOT, r#"openat(AT_FDCWD, "/b/x", O_RDONLY) = 9"#],
            "nobody asked for",
        ),
        ("a pivot from elsewhere", &[PIVOT], "without a directory"),
    ];
    rows(cases.map(|case| (case.0, case)), |(_, calls, complaint)| {
        let wrong = recorded(calls).wrong;
        match complaint {
            "" => assert!(wrong.is_empty(), "{wrong:?}"),
            words => assert!(wrong.len() == 1 && wrong[0].contains(words), "{wrong:?}"),
        }
    });
    // The runtime itself, and a process that nobody bore.
    let read = |line: &str| strace::Call::read(line).unwrap().unwrap();
    let execve = read(r#"execve("/usr/sbin/pintle", ["pintle"], []) = 0"#);
    for line in
        [r#"openat(AT_FDCWD, "/b/rootfs/etc/passwd", O_RDONLY) = 3"#, r#"open("/proc/7/root", O_PATH) = 3"#]
    {
        let known =
            Known { rootfs: "/b/rootfs".into(), host: Vec::new(), inside: Vec::new(), joins_root: false };
        let calls = vec![execve.clone(), read(line)];
        assert_eq!(rules::check(&BTreeMap::from([(1, calls.clone())]), &known).wrong.len(), 1, "{line}");
        assert_eq!(
            rules::check(&BTreeMap::from([(1, calls.clone()), (2, calls)]), &known).wrong.len(),
            3,
            "{line}"
        );
    }
}
