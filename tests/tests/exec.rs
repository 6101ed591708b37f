//! A further process in a container: where it runs, as whom, with what, and how it ends.

use pintle_tests::*;
use std::fs;

#[test]
fn exec_passes_the_exit_code_on() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.waiting();
        c.exec(&["/probe", "exit", "7"]).exits(7);
        c.exec(&["/probe", "die"]).exits(134);
    });
}

#[test]
fn exec_passes_the_streams_on() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.waiting();
        let input = t.dir.join("input");
        fs::write(&input, "typed\n").unwrap();
        let mut command = t.command();
        command.args(["exec", &c.id, "/probe", "cat"]).stdin(fs::File::open(input).unwrap());
        assert_eq!(t.finish(command).ok().stdout, "typed\n");
        assert_eq!(c.exec(&["/probe", "complain", "loud"]).ok().stderr, "loud\n");
    });
}

#[test]
fn exec_works_in_a_created_container() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.create(&t.bundle());
        assert_eq!(c.exec(&["/probe", "print", "early"]).ok().stdout, "early\n");
    });
}

#[test]
fn exec_fails_with_255_and_the_reason() {
    let cases: [(&str, &[&str], &[&str], &str); 13] = [
        (
            "bare name",
            &[],
            &["foo"],
            "exec failed: unable to start container process: exec: \"foo\": executable file not found in $PATH",
        ),
        ("absolute", &[], &["/bin/foo"], "exec: \"/bin/foo\": stat /bin/foo: no such file or directory"),
        ("a folder", &[], &["/etc"], "exec: \"/etc\": is a directory"),
        ("relative cwd", &["--cwd", "tmp"], &["/probe"], "Cwd must be an absolute path"),
        (
            "missing cwd",
            &["--cwd", "/nope"],
            &["/probe"],
            "chdir to cwd (\"/nope\") set in config.json failed: no such file or directory",
        ),
        (
            "cwd is a file",
            &["--cwd", "/probe"],
            &["/probe"],
            "chdir to cwd (\"/probe\") set in config.json failed: not a directory",
        ),
        ("environment without =", &["-e", "FOO"], &["/probe"], "invalid environment variable: missing '='"),
        (
            "terminal without socket",
            &["-t", "-d"],
            &["/probe"],
            "cannot allocate tty if runc will detach without setting console socket",
        ),
        (
            "socket without terminal",
            &["--console-socket", "/x"],
            &["/probe"],
            "cannot use console socket if runc will not detach or allocate tty",
        ),
        ("pid file", &["--pid-file", "/nothing/pid"], &["/probe", "exit", "0"], "no such file or directory"),
        ("process file", &["-p", "/nothing/here"], &[], "open /nothing/here: no such file or directory"),
        ("sub-cgroup", &["--cgroup", "nope"], &["/probe"], "no such file or directory"),
        ("sub-cgroup outside", &["--cgroup", "../.."], &["/probe"], "bad sub cgroup path: ../.."),
    ];
    rows(cases.map(|(n, f, a, text)| (n, (f, a, text))), |(flags, args, text)| {
        let t = Sandbox::new();
        t.waiting().exec_with(flags, args).fails(255, text);
    });
}

#[test]
fn exec_needs_a_container_that_runs() {
    behaviour(|| {
        let t = Sandbox::new();
        t.call(["exec", "nobody", "/probe"]).fails(255, "exec failed: container does not exist");
        let c = t.waiting();
        c.call("pause").ok();
        c.exec(&["/probe"]).fails(255, "cannot exec in a paused container (use --ignore-paused to override)");
        c.call("resume").ok();
        c.kill("KILL").ok();
        c.wait_until("stopped");
        c.exec(&["/probe"]).fails(255, "cannot exec in a stopped container");
    });
}

#[test]
fn the_user_is_given_as_uid_and_gid() {
    rows([("1", [1, 0]), ("1:2", [1, 2]), ("0:7", [0, 7])].map(|(u, i)| (u, (u, i))), |(user, ids)| {
        let t = Sandbox::new();
        let report = t.waiting().exec_with(&["-u", user], &["/probe", "report"]).ok().json();
        let first = |key: &str| {
            report["status"][key].as_str().unwrap().split(' ').next().unwrap().parse::<u32>().unwrap()
        };
        assert_eq!([first("Uid"), first("Gid")], ids);
    });
}

#[test]
fn a_user_that_is_no_number_is_refused() {
    rows(["root", "1:", ":1", "-1", "1:2:3", "4294967296", "4294967295"].map(|u| (u, u)), |user| {
        let t = Sandbox::new();
        let output = t.waiting().exec_with(&["-u", user], &["/probe", "exit", "0"]);
        assert_ne!(output.code, 0, "{output:?}");
    });
}

#[test]
fn additional_groups_are_added() {
    behaviour(|| {
        let t = Sandbox::new();
        let report = t.waiting().exec_with(&["-g", "5", "-g", "6"], &["/probe", "report"]).ok().json();
        assert_eq!(report["status"]["Groups"], "5 6");
    });
}

#[test]
fn environment_is_added_and_the_last_wins() {
    behaviour(|| {
        let t = Sandbox::new();
        let report = t
            .waiting()
            .exec_with(&["-e", "A=1", "-e", "A=2", "-e", "B=x,y"], &["/probe", "report"])
            .ok()
            .json();
        let env: Vec<&str> = report["env"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert!(env.contains(&"A=2") && !env.contains(&"A=1") && env.contains(&"B=x,y"), "{env:?}");
        assert!(env.contains(&"TERM=xterm") && env.iter().any(|e| e.starts_with("HOME=")), "{env:?}");
    });
}

#[test]
fn cwd_is_as_asked() {
    behaviour(|| {
        let t = Sandbox::new();
        let report = t.waiting().exec_with(&["--cwd", "/etc"], &["/probe", "report"]).ok().json();
        assert_eq!(report["cwd"], "/etc");
    });
}

#[test]
fn capabilities_can_be_added() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.waiting();
        let report = c.exec_with(&["--cap", "CAP_CHOWN"], &["/probe", "report"]).ok().json();
        assert_eq!(report["status"]["CapEff"], "0000000020000421");
        let without = c.exec(&["/probe", "report"]).ok().json();
        assert_eq!(without["status"]["CapEff"], "0000000020000420");
    });
}

#[test]
fn no_new_privileges_can_be_set() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.args(&["/probe", "wait"]).set("/process/noNewPrivileges", json!(false));
        let c = t.start(&b);
        let value = |flags: &[&str]| {
            c.exec_with(flags, &["/probe", "report"]).ok().json()["status"]["NoNewPrivs"].clone()
        };
        assert_eq!((value(&[]), value(&["--no-new-privs"])), (json!("0"), json!("1")));
    });
}

#[test]
fn a_detached_exec_returns_at_once_and_tells_its_pid() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.waiting();
        let file = t.dir.join("pid");
        c.exec_with(&["--detach", "--pid-file", &file.to_string_lossy()], &["/probe", "wait"]).ok();
        let pid: i32 = fs::read_to_string(file).unwrap().parse().unwrap();
        assert_eq!(namespace(pid, "pid"), namespace(c.pid(), "pid"));
        assert_eq!(cgroup_of(pid), cgroup_of(c.pid()));
    });
}

#[test]
fn a_process_file_says_everything() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.waiting();
        let process = json!({"args": ["/probe", "report"], "cwd": "/data", "env": ["X=1"],
            "user": {"uid": 5, "gid": 6, "additionalGids": [7]}});
        let report = c.exec_process(&process).ok().json();
        assert_eq!(report["cwd"], "/data");
        assert_eq!(report["env"], json!(["X=1", "HOME=/"]));
        assert_eq!(report["status"]["Groups"], "7");
        assert_eq!(report["status"]["Uid"], "5 5 5 5");
        assert_eq!(
            report["status"]["CapBnd"], "0000000020000420",
            "missing capabilities are the container's"
        );
    });
}

#[test]
fn a_process_file_is_checked() {
    let cases = [
        ("empty", json!({}), "Cwd property must not be empty"),
        ("no args", json!({"cwd": "/", "args": []}), "args must not be empty"),
        ("relative cwd", json!({"cwd": "x", "args": ["/probe"]}), "Cwd must be an absolute path"),
    ];
    rows(cases.map(|(n, p, text)| (n, (p, text))), |(process, text)| {
        let t = Sandbox::new();
        t.waiting().exec_process(&process).fails(255, text);
    });
}

#[test]
fn a_config_changed_after_create_does_not_change_an_exec() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.args(&["/probe", "wait"]);
        let c = t.start(&b);
        b.set("/process/env", json!(["FROM=new"])).set("/process/cwd", json!("/etc")).write();
        let report = c.exec(&["/probe", "report"]).ok().json();
        assert_eq!(report["cwd"], json!("/"));
        assert!(!report["env"].as_array().unwrap().contains(&json!("FROM=new")));
        fs::remove_file(b.dir.join("config.json")).unwrap();
        c.exec(&["/probe", "report"]).ok();
    });
}

#[test]
fn exec_joins_a_sub_cgroup_when_asked() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.waiting();
        let sub = cgroup_of(c.pid()).join("sub");
        fs::create_dir(&sub).unwrap();
        let report = c.exec_with(&["--cgroup", "sub"], &["/probe", "report"]).ok().json();
        let lines = report["cgroup"].as_array().unwrap();
        assert!(lines.contains(&json!("0::/sub")), "{lines:?}");
    });
}

#[test]
fn flags_after_the_command_are_the_commands() {
    behaviour(|| {
        let t = Sandbox::new();
        assert_eq!(t.waiting().exec(&["/probe", "print", "--cwd", "-t", "--"]).ok().stdout, "--cwd -t --\n");
    });
}

#[test]
fn many_execs_at_once_all_succeed() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.waiting();
        let start = |n: usize| {
            let mut command = t.command();
            command.args(["exec", &c.id, "/probe", "exit", &n.to_string()]).spawn().unwrap()
        };
        let children: Vec<_> = (0..16).map(start).collect();
        for (n, mut child) in children.into_iter().enumerate() {
            assert_eq!(child.wait().unwrap().code(), Some(n as i32));
        }
    });
}

#[test]
fn the_process_may_come_through_a_pipe() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.waiting();
        let process = json!({"args": ["/probe", "print", "piped"], "cwd": "/", "user": {"uid": 0, "gid": 0}});
        let fifo = t.dir.join("process");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let (path, text) = (fifo.clone(), process.to_string());
        let writer = std::thread::spawn(move || fs::write(path, text).unwrap());
        let output = c.exec_with(&["--process", &fifo.to_string_lossy()], &[]).ok();
        writer.join().unwrap();
        assert_eq!(output.stdout, "piped\n");
    });
}
