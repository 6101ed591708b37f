//! What an ordinary user has of the runtime: the bundle that `spec --rootless` writes, in a user namespace whose only
//! ids are the caller's.

use pintle_tests::*;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

const KINDS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A bundle with the configuration for rootless use, and the probe as its program.
fn bundle(t: &Sandbox, args: &[&str]) -> Bundle {
    let mut b = t.bundle();
    t.call(["spec", "--rootless", "--bundle", &b.dir.to_string_lossy()]).ok();
    b.config = fs::read_to_string(b.dir.join("config.json")).unwrap().parse().unwrap();
    b.args(args).set("/process/terminal", json!(false));
    b
}

fn tried(t: &Sandbox, b: &Bundle) -> Vec<Value> {
    t.report(b).as_array().unwrap().clone()
}

#[test]
fn the_caller_is_root_in_namespaces_of_its_own() {
    behaviour(|| {
        let t = Sandbox::ordinary();
        let report = t.report(&bundle(&t, &["/probe", "report"]));
        let (uid, gid) = t.caller();
        let map = |id: u32| vec!["0".to_owned(), id.to_string(), "1".to_owned()];
        let words = |key: &str| {
            report[key].as_str().unwrap().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!((words("uid_map"), words("gid_map")), (map(uid), map(gid)));
        assert_eq!((&report["pid"], &report["setgroups"]), (&json!(1), &json!("deny")));
        assert_eq!(report["status"]["Uid"], "0 0 0 0");
        for kind in ["pid", "ipc", "uts", "mnt", "cgroup", "user"] {
            assert_ne!(report["namespaces"][kind], *namespace("self", kind), "{kind} is new");
        }
        assert_eq!(report["namespaces"]["net"], *namespace("self", "net"));
    });
}

#[test]
fn a_container_lives_in_parts() {
    behaviour(|| {
        let t = Sandbox::ordinary();
        let c = t.create(&bundle(&t, &["/probe", "wait"]));
        assert_eq!(c.status(), "created");
        let owner = fs::metadata(format!("/proc/{}", c.pid())).unwrap().uid();
        assert!([t.caller().0, 0].contains(&owner), "{owner}");
        c.start().ok();
        c.wait_for_output("ready");
        assert_eq!(c.status(), "running");
        assert_eq!(t.call(["list", "--quiet"]).ok().stdout.trim(), c.id);
        c.kill("USR1").ok();
        c.wait_for_output("signal SIGUSR1");
        c.kill("TERM").ok();
        c.wait_until("stopped");
        c.call("delete").ok();
        assert_eq!(t.entries(), 0);
    });
}

#[test]
fn the_exit_code_of_the_program_is_told() {
    behaviour(|| {
        let t = Sandbox::ordinary();
        t.run(&bundle(&t, &["/probe", "exit", "7"])).exits(7);
        assert_eq!(t.entries(), 0);
    });
}

#[test]
fn delete_by_force_ends_a_running_container() {
    behaviour(|| {
        let t = Sandbox::ordinary();
        let c = t.start(&bundle(&t, &["/probe", "wait"]));
        let pid = c.pid();
        t.call(["delete", "--force", &c.id]).ok();
        assert_eq!((alive(pid), t.entries()), (false, 0));
    });
}

#[test]
fn exec_joins_the_container() {
    behaviour(|| {
        let t = Sandbox::ordinary();
        let c = t.start(&bundle(&t, &["/probe", "wait"]));
        let report = c.exec(&["/probe", "report"]).ok().json();
        for kind in ["pid", "ipc", "uts", "mnt", "cgroup", "user", "net"] {
            assert_eq!(report["namespaces"][kind], *c.exec(&["/probe", "try", "readlink", &format!("/proc/1/ns/{kind}")]).ok().json()[0]["found"].as_str().unwrap(), "{kind}");
        }
        assert_eq!(report["status"]["Uid"], "0 0 0 0");
        c.exec(&["/probe", "exit", "9"]).exits(9);
    });
}

#[test]
fn exec_joins_the_time_namespace_too() {
    behaviour(|| {
        let t = Sandbox::ordinary();
        let mut b = bundle(&t, &["/probe", "wait"]);
        b.push("/linux/namespaces", json!({"type": "time"}));
        b.set("/linux/timeOffsets", json!({"boottime": {"secs": 1_000_000, "nanosecs": 0}}));
        let c = t.start(&b);
        c.wait_for_output("ready");
        let look = ["/probe", "try", "readlink", "/proc/1/ns/time"];
        let report = c.exec(&["/probe", "report"]).ok().json();
        assert_eq!(report["namespaces"]["time"], c.exec(&look).ok().json()[0]["found"]);
        assert!(report["boottime"].as_u64().unwrap() >= 1_000_000, "{report}");
    });
}

#[test]
fn ids_that_are_not_mapped_are_refused() {
    rows([("uid", "7"), ("gid", "0:7")].map(|(n, u)| (n, u)), |user| {
        let t = Sandbox::ordinary();
        let c = t.start(&bundle(&t, &["/probe", "wait"]));
        let output = c.exec_with(&["--user", user], &["/probe", "exit", "0"]);
        assert!(output.code != 0 && !output.error().is_empty(), "{output:?}");
    });
}

#[test]
fn additional_groups_are_refused() {
    behaviour(|| {
        let t = Sandbox::ordinary();
        let mut b = bundle(&t, &["/probe", "exit", "0"]);
        b.set("/process/user/additionalGids", json!([0]));
        t.run(&b).fails(1, "cannot set any additional groups in a rootless container");
        assert_eq!(t.entries(), 0);
    });
}

#[test]
fn hooks_run_as_the_caller() {
    behaviour(|| {
        let t = Sandbox::ordinary();
        let mut b = bundle(&t, &["/probe", "exit", "0"]);
        b.set("/root/readonly", json!(false));
        let marks = b.beside("marks");
        for kind in KINDS.iter().filter(|kind| **kind != "startContainer") {
            b.hook(kind, &format!("echo {kind} $(id -u) >> {}", marks.display()));
        }
        b.push(
            "/hooks/startContainer",
            json!({"path": "/probe", "args": ["probe", "try", "mkdir", "/data/mark"]}),
        );
        t.run(&b).ok();
        let uid = t.caller().0;
        // The third kind runs in the container's user namespace, where the caller is root.
        let line = |kind: &&str| format!("{kind} {}\n", if *kind == "createContainer" { 0 } else { uid });
        let expected: String = KINDS.iter().filter(|kind| **kind != "startContainer").map(line).collect();
        assert_eq!(fs::read_to_string(marks).unwrap(), expected);
        assert!(b.inside("data/mark").is_dir(), "startContainer");
    });
}

#[test]
fn a_failing_hook_stops_the_create() {
    behaviour(|| {
        let t = Sandbox::ordinary();
        let mut b = bundle(&t, &["/probe", "wait"]);
        b.hook("createRuntime", "exit 3");
        t.try_create(&b).fails(1, "error running createRuntime hook #0: exit status 3");
        assert_eq!(t.entries(), 0);
    });
}

#[test]
fn the_master_of_a_terminal_comes_through_the_console_socket() {
    behaviour(|| {
        let t = Sandbox::ordinary();
        let mut b = bundle(&t, &["/probe", "terminal"]);
        b.set("/process/terminal", json!(true));
        let socket = ConsoleSocket::new(&t.dir);
        t.give(&socket.path);
        let c = t.make(&b, &["create", "--console-socket", &socket.path.to_string_lossy()]);
        let (_, pty) = socket.master();
        c.start().ok();
        pty.wait_for("}");
        let tty: Value = pty.text().lines().next().unwrap().parse().unwrap();
        assert_eq!((&tty["tty"], &tty["console_is_it"]), (&json!([true, true, true]), &json!(true)));
        pty.write("hello\n");
        pty.wait_for("line hello");
        pty.write("quit\n");
        c.wait_until("stopped");
    });
}

#[test]
fn a_foreground_run_joins_the_persons_terminal_to_the_containers() {
    behaviour(|| {
        let t = Sandbox::ordinary();
        let mut b = bundle(&t, &["/probe", "terminal"]);
        b.set("/process/terminal", json!(true)).write();
        let (pty, slave) = Pty::open(20, 70);
        let [stdin, stdout, stderr] = Pty::streams(&slave);
        let mut command = t.command();
        command.arg("run").arg("-b").arg(&b.dir).arg(t.id()).stdin(stdin).stdout(stdout).stderr(stderr);
        let mut child = command.spawn().unwrap();
        pty.wait_for("20x70");
        pty.write("quit\n");
        assert!(child.wait().unwrap().success(), "{}", pty.text());
    });
}

#[test]
fn the_root_filesystem_is_read_only() {
    behaviour(|| {
        let t = Sandbox::ordinary();
        let b = bundle(
            &t,
            &[
                "/probe",
                "try",
                "mkdir",
                "/data/x",
                ",",
                "remount",
                "/",
                "nodev",
                ",",
                "write",
                "/dev/null",
                "x",
            ],
        );
        let results = tried(&t, &b);
        let errnos: Vec<_> = results.iter().map(|r| r["errno"].as_str().unwrap()).collect();
        // Without CAP_SYS_ADMIN in its capabilities nothing is remounted.
        assert_eq!(errnos, ["EROFS", "EPERM", ""]);
    });
}

#[test]
fn devices_are_the_hosts() {
    behaviour(|| {
        let t = Sandbox::ordinary();
        let b = bundle(
            &t,
            &[
                "/probe",
                "try",
                "stat",
                "/dev/null",
                ",",
                "read-one",
                "/dev/zero",
                ",",
                "mknod",
                "/dev/x",
                "1",
                "3",
            ],
        );
        let results = tried(&t, &b);
        assert_eq!(
            (&results[0]["found"]["kind"], &results[0]["found"]["device"]),
            (&json!("char"), &json!("1:3"))
        );
        assert_eq!((&results[1]["found"], &results[2]["errno"]), (&json!(1), &json!("EPERM")));
    });
}

#[test]
fn files_of_others_are_nobodys_and_closed() {
    behaviour(|| {
        let t = Sandbox::ordinary();
        let mut b = bundle(
            &t,
            &["/probe", "try", "stat", "/etc/host", ",", "read", "/etc/host", ",", "write", "/etc/host", "x"],
        );
        b.set("/root/readonly", json!(false));
        // Of root, whom the map does not have, and which only it may read.
        b.mount("/etc/host", "bind", "/etc/shadow", &["bind"]).file("/etc/host", "", 0o644);
        let results = tried(&t, &b);
        assert_eq!(results[0]["found"]["uid"], 65_534);
        assert_eq!((&results[1]["errno"], &results[2]["errno"]), (&json!("EACCES"), &json!("EACCES")));
    });
}

#[test]
fn what_needs_a_cgroup_says_so_and_leaves_nothing() {
    let cases = [
        ("a limit", "/linux/resources/pids/limit", json!(42)),
        ("a path", "/linux/cgroupsPath", json!("/pintle-tests-of-somebody")),
    ];
    rows(cases.map(|(n, p, v)| (n, (p, v))), |(pointer, value)| {
        let t = Sandbox::ordinary();
        let mut b = bundle(&t, &["/probe", "wait"]);
        b.set(pointer, value);
        t.try_create(&b).fails(1, "unable to apply cgroup configuration");
        assert_eq!(t.entries(), 0);
    });
}

#[test]
fn a_container_without_a_cgroup_cannot_be_paused() {
    rows(["pause", "ps"].map(|verb| (verb, verb)), |verb| {
        let t = Sandbox::ordinary();
        let c = t.start(&bundle(&t, &["/probe", "wait"]));
        c.call(verb).fails(1, "cgroup");
        assert_eq!(c.status(), "running");
    });
}

#[test]
fn ids_of_others_cannot_be_mapped() {
    behaviour(|| {
        let t = Sandbox::ordinary();
        let mut b = bundle(&t, &["/probe", "wait"]);
        b.push("/linux/uidMappings", json!({"containerID": 1, "hostID": 1, "size": 1}));
        t.try_create(&b).fails(1, "newuidmap");
        assert_eq!(t.entries(), 0);
    });
}

/// The caller's range of `file` (subuid(5)), of which so many ids are used; skips where it has none.
fn granted(t: &Sandbox, file: &str, count: u32) -> Value {
    let (uid, _) = t.caller();
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let name =
        users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|of| of[2] == uid.to_string());
    let name = name.map_or_else(String::new, |of| of[0].to_owned());
    let ranges = fs::read_to_string(file).unwrap_or_default();
    let range = ranges
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|of| of[0] == name || of[0] == uid.to_string());
    match range {
        Some(of) if of[2].parse::<u32>().is_ok_and(|size| size >= count) => {
            json!(of[1].parse::<u32>().unwrap())
        }
        _ => skip(format!("{file} gives user {uid} no {count} ids")),
    }
}

/// The caller's ranges as the container's users and groups 1 to 65536.
fn map_range(t: &Sandbox, b: &mut Bundle) {
    for (kind, file) in [("uid", "/etc/subuid"), ("gid", "/etc/subgid")] {
        let first = granted(t, file, 65_536);
        b.push(&format!("/linux/{kind}Mappings"), json!({"containerID": 1, "hostID": first, "size": 65_536}));
    }
}

#[test]
fn a_range_of_ids_is_mapped_by_newuidmap_and_newgidmap() {
    behaviour(|| {
        let t = Sandbox::ordinary();
        let mut b = bundle(&t, &["/probe", "report"]);
        map_range(&t, &mut b);
        b.set("/process/user", json!({"uid": 1000, "gid": 1001, "additionalGids": [7, 8]}));
        let report = t.report(&b);
        assert_eq!(
            (&report["status"]["Uid"], &report["status"]["Gid"]),
            (&json!("1000 1000 1000 1000"), &json!("1001 1001 1001 1001"))
        );
        assert_eq!((&report["status"]["Groups"], &report["setgroups"]), (&json!("7 8"), &json!("allow")));
        // Inside, outside, how many.
        let map: Vec<_> = report["uid_map"].as_str().unwrap().split_whitespace().collect();
        assert_eq!((map[0], map[2], map[3], map[5]), ("0", "1", "1", "65536"), "the caller is root: {map:?}");

        let c = t.start(b.args(&["/probe", "wait"]));
        c.wait_for_output("ready");
        let report = c.exec_with(&["--user", "65536:65536"], &["/probe", "report"]).ok().json();
        assert_eq!(report["status"]["Uid"], "65536 65536 65536 65536");
        c.exec_with(&["--user", "65537"], &["/probe", "exit", "0"])
            .fails(255, "user 65537 or group 1001 is not mapped");
        t.call(["delete", "--force", &c.id]).ok();
        assert_eq!(t.entries(), 0);
    });
}

/// The programs that may do more than their caller.
const TOOLS: [&str; 2] = ["newgidmap", "newuidmap"];

/// Stands in for one of them: leaves its arguments to the test, and waits for an exit status.
const STAND_IN: &str = r#"#!/bin/sh
name=${0##*/}
cd "${0%/*}" || exit 125
echo "$*" >"$name.new" && mv "$name.new" "$name.asked"
while [ ! -e "$name.code" ]; do [ -e "$0" ] && sleep 0.02 || exit 125; done
code=$(cat "$name.code")
rm "$name.code"
exit "$code"
"#;

/// Runs `life` in a thread in which no program gets more rights than its caller (PR_SET_NO_NEW_PRIVS, which all inherit that it
/// starts), with a PATH where the two tools only ask. The test calls the real ones: their names.
fn helped(t: Sandbox, life: impl FnOnce(&Sandbox, &str) + Send) -> Vec<&'static str> {
    let dir = t.dir.join("tools");
    fs::create_dir(&dir).unwrap();
    t.give(&dir);
    // By another process: what this one still has open for writing, a fork of another test's keeps from being executed.
    let write = r#"for name; do printf %s "$TEXT" >"$name" && chmod 755 "$name" || exit; done"#;
    let mut shell = Command::new("sh");
    shell.args(["-c", write, "sh"]).args(TOOLS).env("TEXT", STAND_IN).current_dir(&dir);
    assert!(shell.status().unwrap().success());
    let path = format!("{}:{}", dir.display(), std::env::var("PATH").unwrap());
    let (uid, gid) = t.caller();
    let call = |name: &str, arguments: &str| {
        let mut command = Command::new(name);
        command.args(arguments.split_whitespace()).uid(uid).gid(gid);
        command.status().ok().and_then(|status| status.code()).unwrap_or(126)
    };
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            rustix::thread::set_no_new_privs(true).unwrap();
            life(&t, &path);
        });
        let mut asked = Vec::new();
        while !thread.is_finished() {
            for name in TOOLS {
                let file = dir.join(format!("{name}.asked"));
                let Ok(arguments) = fs::read_to_string(&file) else { continue };
                fs::remove_file(file).unwrap();
                asked.push(name);
                let [new, code] = ["told", "code"].map(|end| dir.join(format!("{name}.{end}")));
                fs::write(&new, call(name, &arguments).to_string()).unwrap();
                fs::rename(new, code).unwrap();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        asked
    })
}

/// What /proc/PID/status says of `key`, as the host sees it.
fn status_of(pid: &str, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn nothing_but_newuidmap_and_newgidmap_does_more_than_the_caller_may() {
    let cases = [("one id", (false, &[][..])), ("65536 more", (true, &TOOLS[..]))];
    rows(cases, |(range, tools)| {
        let t = Sandbox::ordinary();
        let mut b = bundle(&t, &["/probe", "wait"]);
        b.set("/process/noNewPrivileges", json!(false));
        if range {
            map_range(&t, &mut b);
        }
        b.write();
        let (uid, _) = t.caller();
        let mut asked = helped(t, |t, path| {
            let id = t.id();
            let call = |args: &[&str]| {
                let mut command = t.command();
                command.args(args).env("PATH", path);
                t.finish(command).ok()
            };
            call(&["create", "--bundle", &b.dir.to_string_lossy(), &id]);
            let pid = call(&["state", &id]).json()["pid"].to_string();
            // Nobody else started it; and root inside is the caller outside.
            assert_eq!(status_of(&pid, "NoNewPrivs"), "1");
            assert_eq!(status_of(&pid, "Uid"), [uid; 4].map(|id| id.to_string()).join(" "));
            call(&["start", &id]);
            let inside = call(&["exec", &id, "/probe", "report"]).json();
            assert_eq!(
                (&inside["status"]["Uid"], &inside["status"]["NoNewPrivs"]),
                (&json!("0 0 0 0"), &json!("1"))
            );
            call(&["delete", "--force", &id]);
            assert_eq!(t.entries(), 0);
        });
        asked.sort_unstable();
        assert_eq!(asked, tools);
    });
}

#[test]
fn an_exec_under_an_agents_filter_fails_and_says_why() {
    behaviour(|| {
        let t = Sandbox::ordinary();
        let mut b = bundle(&t, &["/probe", "wait"]);
        let agent = ConsoleSocket::new(&t.dir);
        t.give(&agent.path);
        let asked = json!([{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]);
        b.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": asked}))
            .set("/linux/seccomp/listenerPath", json!(agent.path));
        let c = t.start(&b);
        let (told, _listener) = agent.descriptor();
        assert!(told.contains(&c.id), "the agent is told of the container: {told}");
        c.wait_for_output("ready");
        c.exec(&["/probe", "exit", "0"]).fails(255, "an ordinary user's exec can have no seccomp agent");
        assert_eq!(c.status(), "running");
    });
}
