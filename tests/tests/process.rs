//! What the program finds when it begins: ids, capabilities, limits, scheduling, environment, working folder.

use pintle_tests::*;
use std::fs;

fn status<'a>(report: &'a Value, key: &str) -> &'a str {
    report["status"][key].as_str().unwrap_or_else(|| panic!("no {key}"))
}

#[test]
fn uid_gid_and_groups_are_as_asked() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.set("/process/user", json!({"uid": 11, "gid": 12, "additionalGids": [13, 14]}));
        let report = t.report(&b);
        assert_eq!(status(&report, "Uid"), "11 11 11 11");
        assert_eq!(status(&report, "Gid"), "12 12 12 12");
        assert_eq!(status(&report, "Groups"), "13 14");
    });
}

#[test]
fn the_callers_groups_are_dropped() {
    behaviour(|| {
        let t = Sandbox::new();
        assert_eq!(status(&t.report(&t.bundle()), "Groups"), "");
    });
}

#[test]
fn the_umask_is_0022_unless_asked() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        assert_eq!(status(&t.report(&b), "Umask"), "0022");
        b.set("/process/user/umask", json!(0o77));
        assert_eq!(status(&t.report(&b), "Umask"), "0077");
    });
}

#[test]
fn home_comes_from_the_containers_passwd() {
    let cases = [
        ("listed", "www:x:33:33:w:/var/www:/bin/sh\n", 33, "HOME=/var/www"),
        ("not listed", "www:x:34:33:w:/var/www:/bin/sh\n", 33, "HOME=/"),
        ("the first counts", "a:x:33:33::/a:\nb:x:33:33::/b:\n", 33, "HOME=/a"),
        ("a broken line before", "broken\n::::\nwww:x:33:33:w:/w:/bin/sh\n", 33, "HOME=/w"),
        ("no file", "", 0, "HOME=/"),
    ];
    rows(cases.map(|(n, p, u, h)| (n, (p, u, h))), |(passwd, uid, home)| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        if !passwd.is_empty() {
            b.file("/etc/passwd", passwd, 0o644);
        }
        b.set("/process/user/uid", json!(uid));
        let env = t.report(&b)["env"].clone();
        assert_eq!(env.as_array().unwrap().last().unwrap(), home);
    });
}

#[test]
fn a_home_that_is_given_stays_and_an_empty_one_is_filled() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.set("/process/env", json!(["HOME=/given"]));
        assert_eq!(t.report(&b)["env"], json!(["HOME=/given"]));
        b.set("/process/env", json!(["HOME="]));
        assert_eq!(t.report(&b)["env"], json!(["HOME=/"]));
    });
}

#[test]
fn of_two_variables_of_a_name_the_last_wins_and_the_order_stays() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.set("/process/env", json!(["A=1", "B=2", "A=3", "HOME=/"]));
        assert_eq!(t.report(&b)["env"], json!(["B=2", "A=3", "HOME=/"]));
    });
}

#[test]
fn nothing_of_the_callers_environment_comes_in() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.set("/process/env", json!(["HOME=/"])).write();
        let mut command = t.command();
        command.env("LEAK", "1").arg("run").arg("-b").arg(&b.dir).arg(t.id());
        assert_eq!(t.finish(command).ok().json()["env"], json!(["HOME=/"]));
    });
}

#[test]
fn arguments_come_as_written() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let args = json!(["/probe", "report", "", "two words", "ü", "\n"]);
        b.set("/process/args", args.clone());
        assert_eq!(t.report(&b)["args"], args);
    });
}

#[test]
fn a_bare_name_is_looked_up_in_the_containers_path() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.folder("/my/bin", 0o755).set("/process/env", json!(["PATH=/nope:/my/bin"]));
        fs::hard_link(b.inside("/probe"), b.inside("/my/bin/tool")).unwrap();
        assert_eq!(t.run(b.args(&["tool", "print", "found"])).ok().stdout, "found\n");
    });
}

#[test]
fn the_working_folder_is_made_when_missing() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.writable()
            .set("/process/cwd", json!("/new/deep"))
            .args(&["/probe", "try", "getcwd", ",", "stat", "/new"]);
        let report = t.report(&b);
        assert_eq!(report[0]["found"], "/new/deep");
        assert_eq!((&report[1]["found"]["mode"], &report[1]["found"]["uid"]), (&json!("755"), &json!(0)));
    });
}

#[test]
fn a_working_folder_that_only_the_user_may_enter_works() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.folder("/data/own", 0o700).set("/process/user", json!({"uid": 9, "gid": 9}));
        std::os::unix::fs::chown(b.inside("/data/own"), Some(9), Some(9)).unwrap();
        assert_eq!(t.report(b.set("/process/cwd", json!("/data/own")))["cwd"], "/data/own");
    });
}

#[test]
fn the_five_sets_of_capabilities_are_as_asked() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.set(
            "/process/capabilities",
            json!({"bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_FOWNER"], "permitted": ["CAP_CHOWN", "CAP_KILL"],
                "effective": ["CAP_CHOWN"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]}),
        );
        // Not root: for root, execve would fill the sets again.
        b.set("/process/user", json!({"uid": 5, "gid": 5}));
        let report = t.report(&b);
        assert_eq!(status(&report, "CapBnd"), "0000000000000029");
        assert_eq!(status(&report, "CapInh"), "0000000000000020");
        assert_eq!(status(&report, "CapAmb"), "0000000000000020");
        assert_eq!(status(&report, "CapPrm"), "0000000000000020");
        assert_eq!(status(&report, "CapEff"), "0000000000000020");
    });
}

#[test]
fn without_capabilities_there_are_none() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.set("/process/capabilities", json!({}));
        let report = t.report(&b);
        for set in ["CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb"] {
            assert_eq!(status(&report, set), "0000000000000000", "{set}");
        }
    });
}

#[test]
fn another_user_than_root_begins_without_effective_capabilities() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.set("/process/user/uid", json!(5));
        let report = t.report(&b);
        assert_eq!(
            (status(&report, "CapEff"), status(&report, "CapBnd")),
            ("0000000000000000", "0000000020000420")
        );
    });
}

#[test]
fn no_new_privileges_is_as_asked() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        assert_eq!(status(&t.report(&b), "NoNewPrivs"), "1");
        b.set("/process/noNewPrivileges", json!(false));
        assert_eq!(status(&t.report(&b), "NoNewPrivs"), "0");
    });
}

#[test]
fn limits_are_as_asked() {
    let cases = [
        ("RLIMIT_NOFILE", "Max open files", 77, 99),
        ("RLIMIT_CORE", "Max core file size", 1, 2),
        ("RLIMIT_STACK", "Max stack size", 1 << 20, 1 << 21),
        ("RLIMIT_FSIZE", "Max file size", 1 << 20, 1 << 21),
        ("RLIMIT_CPU", "Max cpu time", 100, 200),
        ("RLIMIT_MEMLOCK", "Max locked memory", 4096, 8192),
        ("RLIMIT_NPROC", "Max processes", 100, 200),
    ];
    rows(cases.map(|(n, s, a, b)| (n, (n, s, a, b))), |(name, shown, soft, hard): (&str, &str, u64, u64)| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.set("/process/rlimits", json!([{"type": name, "soft": soft, "hard": hard}]));
        assert_eq!(t.report(&b)["limits"][shown], json!([soft.to_string(), hard.to_string()]));
    });
}

#[test]
fn exec_has_the_limits_of_the_configuration() {
    behaviour(|| {
        let t = Sandbox::new();
        let report = t.waiting().exec(&["/probe", "report"]).ok().json();
        assert_eq!(report["limits"]["Max open files"], json!(["1024", "1024"]));
    });
}

#[test]
fn the_oom_score_is_as_asked() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.set("/process/oomScoreAdj", json!(321));
        assert_eq!(t.report(&b)["oom_score_adj"], "321");
    });
}

#[test]
fn the_oom_score_is_that_of_the_process_that_goes_on() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.args(&["/probe", "wait"]).set("/process/oomScoreAdj", json!(543));
        let c = t.start(&b);
        // Each exec is a second clone, which the first may be too late for.
        for _ in 0..20 {
            assert_eq!(c.exec(&["/probe", "report"]).ok().json()["oom_score_adj"], "543");
        }
    });
}

#[test]
fn the_scheduler_is_as_asked() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.set("/process/scheduler", json!({"policy": "SCHED_BATCH", "nice": 5}));
        let report = t.report(&b);
        assert_eq!((&report["policy"], &report["nice"]), (&json!("3"), &json!("5")));
    });
}

#[test]
fn the_io_priority_is_as_asked() {
    behaviour(|| {
        needs_program("ionice");
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.args(&["/probe", "wait"])
            .set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 6}));
        let c = t.start(&b);
        c.wait_for_output("ready");
        let output =
            std::process::Command::new("ionice").args(["-p", &c.pid().to_string()]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "best-effort: prio 6");
    });
}

#[test]
fn the_personality_is_as_asked() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        // Only root of the host may read it.
        b.args(&["/probe", "wait"]).set("/linux/personality", json!({"domain": "LINUX32"}));
        let c = t.start(&b);
        c.wait_for_output("ready");
        let text = fs::read_to_string(format!("/proc/{}/personality", c.pid())).unwrap();
        assert_eq!(u32::from_str_radix(text.trim(), 16).unwrap() & 0xff, 8);
    });
}

#[test]
fn sysctls_of_the_containers_namespaces_are_set() {
    let cases = [
        ("kernel.shmmax", "/proc/sys/kernel/shmmax", "65537"),
        ("fs.mqueue.msg_max", "/proc/sys/fs/mqueue/msg_max", "11"),
        ("net.ipv4.ip_forward", "/proc/sys/net/ipv4/ip_forward", "1"),
        ("net/ipv4/ip_default_ttl", "/proc/sys/net/ipv4/ip_default_ttl", "77"),
        ("kernel.domainname", "/proc/sys/kernel/domainname", "d.example"),
    ];
    rows(cases.map(|(n, p, v)| (n, (n, p, v))), |(key, path, value)| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.set("/linux/sysctl", json!({key: value})).args(&["/probe", "try", "read", path]);
        assert_eq!(t.report(&b)[0]["found"].as_str().unwrap().trim(), value);
    });
}

#[test]
fn the_program_leads_a_session_of_its_own() {
    behaviour(|| {
        let t = Sandbox::new();
        assert_eq!(t.report(&t.bundle())["session"], "1");
    });
}

#[test]
fn no_signal_is_blocked_or_ignored_for_the_program() {
    behaviour(|| {
        let t = Sandbox::new();
        let report = t.report(&t.bundle());
        assert_eq!(status(&report, "SigBlk"), "0000000000000000");
    });
}

#[test]
fn the_session_keyring_is_the_containers_own() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.set("/linux/maskedPaths", json!([]));
        if !std::path::Path::new("/proc/keys").exists() {
            skip("the kernel has no keys");
        }
        let dir = b.write().dir.to_string_lossy().into_owned();
        let own = |flags: &[&str]| {
            let id = t.id();
            let report = t.call([&["run"], flags, &["-b", &dir, &id]].concat()).ok().json();
            report["keys"]
                .as_array()
                .unwrap()
                .iter()
                .any(|k| k.as_str().unwrap().contains(&format!("_ses.{id}:")))
        };
        assert!(own(&[]));
        assert!(!own(&["--no-new-keyring"]));
    });
}

#[test]
fn an_ambient_capability_that_cannot_be_raised_is_warned_of() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.set("/process/capabilities/inheritable", json!(["CAP_KILL"]));
        b.set("/process/capabilities/ambient", json!(["CAP_KILL", "CAP_CHOWN"]));
        let output = t.run(&b).ok();
        assert!(output.warns("can't raise ambient capability CAP_CHOWN: "), "{output:?}");
        assert_eq!(status(&output.json(), "CapAmb"), "0000000000000020");
    });
}

#[test]
fn a_flag_of_the_scheduler_is_named_as_in_the_specification() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let flags = ["SCHED_FLAG_RESET_ON_FORK"];
        b.set("/process/scheduler", json!({"policy": "SCHED_BATCH", "flags": flags}));
        assert_eq!(t.report(&b)["policy"], "3");
    });
}

#[test]
fn the_callers_groups_stay_if_an_annotation_says_so() {
    rows(
        [("kept", json!("1"), true), ("not", json!("0"), false)].map(|(n, v, k)| (n, (v, k))),
        |(value, kept)| {
            let t = Sandbox::new();
            let mut b = t.bundle();
            b.set("/annotations", json!({"run.oci.keep_original_groups": value}));
            b.set("/process/user/additionalGids", json!([7])).args(&["/probe", "report"]).write();
            let mut command = t.command();
            command.args(["run", "--bundle", &b.dir.to_string_lossy(), &t.id()]);
            let mut shell = std::process::Command::new("setpriv");
            shell.args(["--groups", "11,12"]).arg(command.get_program()).args(command.get_args());
            let report = t.finish(shell).ok().json();
            let groups: Vec<&str> = report["status"]["Groups"].as_str().unwrap().split_whitespace().collect();
            assert_eq!(groups, if kept { vec!["11", "12"] } else { vec!["7"] });
        },
    );
}
