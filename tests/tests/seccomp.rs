//! Seccomp: actions, conditions and when the filter comes.

use pintle_tests::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

fn filter(b: &mut Bundle, default: &str, syscalls: Value) {
    b.set(
        "/linux/seccomp",
        json!({"defaultAction": default, "architectures": ["SCMP_ARCH_X86_64"], "syscalls": syscalls}),
    );
}

fn mkdir(t: &Sandbox, b: &mut Bundle) -> Value {
    t.report(b.writable().args(&["/probe", "try", "mkdir", "/data/x"]))[0]["errno"].clone()
}

#[test]
fn errno_is_eperm_unless_asked() {
    rows(
        [("default", Value::Null, "EPERM"), ("ENOSYS", json!(38), "ENOSYS"), ("EXDEV", json!(18), "EXDEV")]
            .map(|(n, r, e)| (n, (r, e))),
        |(number, errno)| {
            let t = Sandbox::new();
            let mut b = t.bundle();
            let mut rule = json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"});
            if number.is_number() {
                rule["errnoRet"] = number;
            }
            filter(&mut b, "SCMP_ACT_ALLOW", json!([rule]));
            assert_eq!(mkdir(&t, &mut b), errno);
        },
    );
}

#[test]
fn the_mode_is_filter() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        filter(&mut b, "SCMP_ACT_ALLOW", json!([{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]));
        assert_eq!(t.report(&b)["status"]["Seccomp"], "2");
    });
}

#[test]
fn conditions_on_arguments_decide() {
    let cases = [
        ("EQ 0", "SCMP_CMP_EQ", 0o700u64, 0, ""),
        ("EQ", "SCMP_CMP_EQ", 0o777, 0, "EPERM"),
        ("NE", "SCMP_CMP_NE", 0o777, 0, ""),
        ("LT", "SCMP_CMP_LT", 0o1000, 0, "EPERM"),
        ("LE", "SCMP_CMP_LE", 0o776, 0, ""),
        ("GE", "SCMP_CMP_GE", 0o777, 0, "EPERM"),
        ("GT", "SCMP_CMP_GT", 0o777, 0, ""),
        ("MASKED_EQ", "SCMP_CMP_MASKED_EQ", 0o700, 0o700, "EPERM"),
    ];
    rows(
        cases.map(|(n, o, v, m, e)| (n, (o, v, m, e))),
        |(op, value, two, errno): (&str, u64, u64, &str)| {
            let t = Sandbox::new();
            let mut b = t.bundle();
            filter(
                &mut b,
                "SCMP_ACT_ALLOW",
                json!([{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 1, "value": value, "valueTwo": two, "op": op}]}]),
            );
            assert_eq!(mkdir(&t, &mut b), errno);
        },
    );
}

#[test]
fn unknown_calls_are_passed_over() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        filter(
            &mut b,
            "SCMP_ACT_ALLOW",
            json!([{"names": ["no_such_call", "mkdir"], "action": "SCMP_ACT_ERRNO"}]),
        );
        assert_eq!(mkdir(&t, &mut b), "EPERM");
    });
}

#[test]
fn kill_ends_the_process() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        filter(&mut b, "SCMP_ACT_ALLOW", json!([{"names": ["mkdir"], "action": "SCMP_ACT_KILL_PROCESS"}]));
        t.run(b.writable().args(&["/probe", "try", "mkdir", "/data/x"])).exits(128 + 31);
    });
}

#[test]
fn log_lets_the_call_through() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        filter(&mut b, "SCMP_ACT_ALLOW", json!([{"names": ["mkdir"], "action": "SCMP_ACT_LOG"}]));
        assert_eq!(mkdir(&t, &mut b), "");
    });
}

#[test]
fn the_filter_holds_with_and_without_new_privileges() {
    rows([("with", true), ("without", false)], |no_new_privileges| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.set("/process/noNewPrivileges", json!(no_new_privileges));
        filter(&mut b, "SCMP_ACT_ALLOW", json!([{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]));
        assert_eq!(mkdir(&t, &mut b), "EPERM");
    });
}

#[test]
fn exec_has_the_filter_too() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        filter(&mut b, "SCMP_ACT_ALLOW", json!([{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]));
        b.writable().args(&["/probe", "wait"]);
        let c = t.start(&b);
        assert_eq!(c.exec(&["/probe", "try", "mkdir", "/data/x"]).ok().json()[0]["errno"], "EPERM");
    });
}

#[test]
fn unknown_words_of_a_profile_are_named() {
    let cases = [
        ("action", json!({"defaultAction": "SCMP_ACT_FOO"}), "SCMP_ACT_FOO"),
        (
            "architecture",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_FOO"]}),
            "SCMP_ARCH_FOO",
        ),
        (
            "operator",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_FOO"}]}]}),
            "SCMP_CMP_FOO",
        ),
    ];
    rows(cases.map(|(n, p, text)| (n, (p, text))), |(profile, text)| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.set("/linux/seccomp", profile);
        t.run(&b).fails(1, text);
    });
}

/// What a program of Rust and the runtimes need under a filter that refuses everything else: found by taking calls
/// away from runc's until it no longer ran. The scheduler of Go and its memory need the first list.
const ALWAYS: &[&str] = &[
    "brk",
    "clock_nanosleep",
    "clone",
    "clone3",
    "epoll_ctl",
    "epoll_pwait",
    "eventfd2",
    "exit",
    "exit_group",
    "futex",
    "getpid",
    "gettid",
    "madvise",
    "mmap",
    "mprotect",
    "munmap",
    "nanosleep",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_yield",
    "sigaltstack",
    "tgkill",
];
const LATE: &[&str] = &[
    "arch_prctl",
    "close",
    "execve",
    "fstat",
    "fstatfs",
    "getdents64",
    "openat",
    "openat2",
    "poll",
    "statx",
    "write",
];
const EARLY: &[&str] = &[
    "arch_prctl",
    "capget",
    "capset",
    "chdir",
    "close",
    "execve",
    "fstat",
    "fstatfs",
    "getcwd",
    "getdents64",
    "getppid",
    "newfstatat",
    "openat",
    "openat2",
    "poll",
    "prctl",
    "read",
    "setgid",
    "setgroups",
    "setuid",
    "statx",
    "write",
];

#[test]
fn the_smallest_filter_that_runc_can_work_with_is_enough() {
    // Without no_new_privs the filter comes before the change of user, and has to let that pass.
    let lists = [("with no_new_privs", true, LATE), ("without no_new_privs", false, EARLY)];
    rows(lists.map(|(n, nnp, list)| (n, (nnp, list))), |(no_new_privileges, list)| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.args(&["/probe", "print", "hi"]).set("/process/noNewPrivileges", json!(no_new_privileges));
        let names = [ALWAYS, list].concat();
        filter(&mut b, "SCMP_ACT_ERRNO", json!([{"names": names, "action": "SCMP_ACT_ALLOW"}]));
        assert_eq!(t.run(&b).ok().stdout, "hi\n");
        // The way of create and start, and that of exec.
        b.args(&["/probe", "sleep"]);
        let c = t.create(&b);
        c.start().ok();
        c.wait_for_output("ready");
        assert_eq!(c.exec(&["/probe", "print", "there"]).ok().stdout, "there\n");
    });
}

#[test]
fn exec_has_the_very_same_filter() {
    rows([("with no_new_privs", true), ("without no_new_privs", false)], |no_new_privileges| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.writable().set("/process/noNewPrivileges", json!(no_new_privileges));
        filter(
            &mut b,
            "SCMP_ACT_ALLOW",
            json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
                {"names": ["unlink", "unlinkat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 18}]),
        );
        let attempts =
            ["/probe", "try", "mkdir", "/data/x", ",", "unlink", "/data/y", ",", "read", "/proc/self/status"];
        let told = |results: &Value| {
            let status = results[2]["found"].as_str().unwrap();
            let line =
                |key: &str| status.lines().find_map(|l| l.strip_prefix(key)).unwrap_or("").trim().to_owned();
            json!([results[0]["errno"], results[1]["errno"], line("Seccomp:"), line("Seccomp_filters:")])
        };
        let own = told(&t.report(b.args(&attempts)));
        let c = t.start(b.args(&["/probe", "wait"]));
        let process = json!({"args": attempts, "cwd": "/", "user": {"uid": 0, "gid": 0},
            "noNewPrivileges": no_new_privileges});
        assert_eq!(own, json!(["ENOSYS", "EXDEV", "2", "1"]));
        assert_eq!(told(&c.exec(&attempts).ok().json()), own);
        assert_eq!(told(&c.exec_process(&process).ok().json()), own, "with a process of its own");
    });
}

/// A profile that asks the agent behind `socket` about mkdir(2).
fn ask(b: &mut Bundle, socket: &ConsoleSocket, no_new_privileges: bool) {
    b.writable().set("/process/noNewPrivileges", json!(no_new_privileges));
    b.set("/annotations", json!({"who": "asks"}));
    filter(b, "SCMP_ACT_ALLOW", json!([{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]));
    b.set("/linux/seccomp/listenerPath", json!(socket.path))
        .set("/linux/seccomp/listenerMetadata", json!("m"));
}

/// What an agent was told, without what differs from one container to the next.
fn told(text: &str, t: &Container, of: i32) -> Value {
    let mut told: Value = serde_json::from_str(text).unwrap();
    assert_eq!((&told["pid"], &told["state"]["id"]), (&json!(of), &json!(t.id)));
    for key in ["pid", "id", "bundle"] {
        assert!(!told["state"].as_object_mut().unwrap().remove(key).unwrap().is_null(), "{key}");
    }
    told.as_object_mut().unwrap().remove("pid");
    // Each runtime's own version of the specification.
    drop((
        told["state"].as_object_mut().unwrap().remove("ociVersion"),
        told.as_object_mut().unwrap().remove("ociVersion"),
    ));
    told
}

#[test]
fn an_agent_is_told_of_each_process_and_hears_of_its_calls() {
    rows([("with no_new_privs", true), ("without no_new_privs", false)], |no_new_privileges| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let agent = ConsoleSocket::new(&t.dir);
        ask(&mut b, &agent, no_new_privileges);
        let c = t.create(b.args(&["/probe", "wait"]));
        let (text, _listener) = agent.descriptor();
        let state = |status: &str| json!({"status": status, "annotations": {"who": "asks"}});
        let expect = |status| json!({"fds": ["seccompFd"], "metadata": "m", "state": state(status)});
        assert_eq!(told(&text, &c, c.pid()), expect("creating"));
        c.start().ok();
        c.wait_for_output("ready");

        std::fs::remove_file(t.dir.join("console.sock")).unwrap();
        let agent = ConsoleSocket::new(&t.dir);
        let pid_file = t.dir.join("pid");
        let flags = ["--detach", "--pid-file", &pid_file.to_string_lossy()];
        c.exec_with(&flags, &["/probe", "try", "mkdir", "/data/x"]).ok();
        let (text, listener) = agent.descriptor();
        let pid = std::fs::read_to_string(&pid_file).unwrap().parse().unwrap();
        assert_eq!(told(&text, &c, pid), expect("running"));
        let mut heard = [PollFd::new(&listener, PollFlags::IN)];
        let patience = Timespec { tv_sec: 10, tv_nsec: 0 };
        assert_eq!(poll(&mut heard, Some(&patience)), Ok(1), "its mkdir is reported");
        let proc = format!("/proc/{pid}/stat");
        assert!(std::path::Path::new(&proc).exists(), "and waits for the answer");
        // The last descriptor: nobody will answer.
        drop(listener);
        wait_for("the end of the call", || {
            !std::fs::read_to_string(&proc).is_ok_and(|stat| !stat.contains(") Z "))
        });
        assert!(!b.inside("/data/x").exists());
    });
}

#[test]
fn an_agent_that_is_gone_leaves_its_calls_without_an_answer() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let agent = ConsoleSocket::new(&t.dir);
        ask(&mut b, &agent, true);
        let c = t.create(b.args(&["/probe", "try", "mkdir", "/data/x"]));
        drop(agent.descriptor());
        c.start().ok();
        c.wait_until("stopped");
        let found: Value = serde_json::from_str(&c.stdout()).unwrap();
        assert_eq!(found[0]["errno"], "ENOSYS");
    });
}

#[test]
fn without_its_agent_nothing_is_created() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let agent = ConsoleSocket::new(&t.dir);
        ask(&mut b, &agent, true);
        b.set("/linux/seccomp/listenerPath", json!(t.dir.join("nobody")));
        t.try_create(&b).fails(1, "failed to connect with seccomp agent");
        assert_eq!(t.entries(), 0);
    });
}
