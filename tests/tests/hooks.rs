//! The six kinds of hooks: where and when they run, what they are told, and what becomes of a failure.

use pintle_tests::*;
use std::fs;

const OUTSIDE: [&str; 4] = ["prestart", "createRuntime", "poststart", "poststop"];

/// A hook of this kind that appends its name to `marks` beside the rootfs.
fn mark(b: &mut Bundle, kind: &str) {
    let file = b.beside("marks");
    b.hook(kind, &format!("echo {kind} >> {}", file.display()));
}

fn marks(b: &Bundle) -> Vec<String> {
    fs::read_to_string(b.beside("marks")).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[test]
fn hooks_run_in_the_order_of_the_life_of_a_container() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        for kind in ["poststop", "poststart", "createContainer", "createRuntime", "prestart"] {
            mark(&mut b, kind);
        }
        t.run(&b).ok();
        assert_eq!(marks(&b), ["prestart", "createRuntime", "createContainer", "poststart", "poststop"]);
    });
}

#[test]
fn create_runs_the_first_three_start_the_fourth_delete_the_last() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.args(&["/probe", "wait"]);
        for kind in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
            mark(&mut b, kind);
        }
        let c = t.create(&b);
        assert_eq!(marks(&b), ["prestart", "createRuntime", "createContainer"]);
        c.start().ok();
        assert_eq!(marks(&b).len(), 4);
        t.call(["delete", "--force", &c.id]).ok();
        assert_eq!(marks(&b).len(), 5);
    });
}

#[test]
fn hooks_of_one_kind_run_in_the_order_of_the_list() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let file = b.beside("marks").display().to_string();
        for n in 1..=3 {
            b.hook("createRuntime", &format!("echo {n} >> {file}"));
        }
        t.run(&b).ok();
        assert_eq!(marks(&b), ["1", "2", "3"]);
    });
}

#[test]
fn hooks_stop_at_the_first_failure() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.hook("createRuntime", "exit 1");
        mark(&mut b, "createRuntime");
        t.try_create(&b).fails(1, "error running createRuntime hook #0: exit status 1");
        assert_eq!(marks(&b), Vec::<String>::new());
    });
}

#[test]
fn a_hook_reads_the_state_on_its_stdin() {
    let wanted = [
        ("prestart", "creating"),
        ("createRuntime", "creating"),
        ("createContainer", "creating"),
        ("poststop", "stopped"),
    ];
    rows(wanted.map(|(k, s)| (k, (k, s))), |(kind, status)| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let file = b.beside("state");
        b.set("/annotations", json!({"a": "b"})).hook(kind, &format!("cat > {}", file.display()));
        t.run(&b).ok();
        let state: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        assert_eq!(state["status"], status);
        assert_eq!(state["bundle"], json!(b.dir));
        assert_eq!(state["annotations"], json!({"a": "b"}));
        assert!(state["ociVersion"].is_string() && state["id"].is_string(), "{state}");
        assert_eq!(state["pid"].is_u64(), kind != "poststop", "{state}");
    });
}

#[test]
fn poststart_hooks_see_a_running_container() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let file = b.beside("state");
        b.args(&["/probe", "wait"]).hook("poststart", &format!("cat > {}", file.display()));
        let c = t.create(&b);
        c.start().ok();
        let state: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        assert_eq!((&state["status"], &state["pid"]), (&json!("running"), &json!(c.pid())));
    });
}

#[test]
fn a_create_container_hook_is_told_its_own_pid_namespaces_number() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let file = b.beside("state");
        b.hook("createContainer", &format!("cat > {}", file.display()));
        t.run(&b).ok();
        let state: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        assert_eq!(state["pid"], 1);
    });
}

#[test]
fn hooks_of_the_runtime_run_in_the_runtimes_namespaces() {
    rows(OUTSIDE.map(|k| (k, k)), |kind| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let file = b.beside("ns");
        b.hook(kind, &format!("readlink /proc/self/ns/mnt /proc/self/ns/net > {}", file.display()));
        t.run(&b).ok();
        let wanted = format!("{}\n{}\n", namespace("self", "mnt"), namespace("self", "net"));
        assert_eq!(fs::read_to_string(file).unwrap(), wanted);
    });
}

#[test]
fn a_create_container_hook_is_found_outside_and_runs_inside() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let file = b.beside("ns");
        b.hook("createContainer", &format!("readlink /proc/self/ns/net > {}; pwd >> {0}", file.display()));
        t.run(&b).ok();
        let text = fs::read_to_string(file).unwrap();
        assert_ne!(text.lines().next(), Some(namespace("self", "net").as_str()));
        assert_eq!(text.lines().nth(1), Some(&*b.rootfs().to_string_lossy()), "it stands in the rootfs");
    });
}

#[test]
fn a_start_container_hook_is_found_inside_and_runs_before_the_program() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.writable().args(&["/probe", "try", "read", "/data/mark"]);
        b.push(
            "/hooks/startContainer",
            json!({"path": "/probe", "args": ["probe", "try", "write", "/data/mark", "ran"]}),
        );
        assert_eq!(t.report(&b)[0]["found"], "ran");
    });
}

#[test]
fn hooks_of_the_runtime_stand_in_the_bundle() {
    rows(["prestart", "createRuntime", "poststart"].map(|k| (k, k)), |kind| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let file = b.beside("cwd");
        b.hook(kind, &format!("pwd > {}", file.display()));
        t.run(&b).ok();
        assert_eq!(fs::read_to_string(file).unwrap().trim(), b.dir.to_string_lossy());
    });
}

#[test]
fn a_hook_has_exactly_the_environment_it_is_given() {
    rows(OUTSIDE.map(|k| (k, k)), |kind| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let file = b.beside("env");
        let script = format!("env > {}", file.display());
        b.push(
            &format!("/hooks/{kind}"),
            json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["FOO=bar"]}),
        );
        t.run(&b).ok();
        let text = fs::read_to_string(file).unwrap();
        let names: Vec<&str> = text
            .lines()
            .filter(|l| !l.starts_with("PWD=") && !l.starts_with("_=") && !l.starts_with("SHLVL="))
            .collect();
        assert_eq!(names, ["FOO=bar"]);
    });
}

#[test]
fn a_hook_of_the_runtime_without_env_has_the_runtimes() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let file = b.beside("env");
        b.hook("createRuntime", &format!("env > {}", file.display())).write();
        let mut command = t.command();
        command.env("PINTLE_HOOK_TEST", "seen").arg("run").arg("-b").arg(&b.dir).arg(t.id());
        t.finish(command).ok();
        assert!(fs::read_to_string(file).unwrap().contains("PINTLE_HOOK_TEST=seen"));
    });
}

#[test]
fn a_create_container_hook_without_env_has_none() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let file = b.beside("env");
        b.hook("createContainer", &format!("env > {}", file.display()));
        t.run(&b).ok();
        let text = fs::read_to_string(file).unwrap();
        assert!(
            text.lines().all(|l| l.starts_with("PWD=") || l.starts_with("_=") || l.starts_with("SHLVL=")),
            "{text}"
        );
    });
}

#[test]
fn the_args_of_a_hook_begin_with_its_name() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let file = b.beside("args");
        let script = format!("echo \"$0 $1\" > {}", file.display());
        b.push(
            "/hooks/createRuntime",
            json!({"path": "/bin/sh", "args": ["any name", "-c", script, "zero", "one"]}),
        );
        t.run(&b).ok();
        assert_eq!(fs::read_to_string(file).unwrap(), "zero one\n");
    });
}

#[test]
fn a_failing_hook_fails_the_create_with_its_words() {
    rows(["prestart", "createRuntime", "createContainer"].map(|k| (k, k)), |kind| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.hook(kind, "echo out; echo err >&2; exit 3");
        let text = format!("error running {kind} hook #0: exit status 3, stdout: out\n, stderr: err\n");
        t.try_create(&b).fails(1, &text);
        assert_eq!(t.entries(), 0);
    });
}

#[test]
fn a_hook_that_dies_is_told_by_its_signal() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.hook("createRuntime", "kill -9 $$");
        t.try_create(&b).fails(1, "error running createRuntime hook #0: signal: killed");
    });
}

#[test]
fn a_hook_that_is_not_there_is_named() {
    rows(["prestart", "createRuntime", "createContainer"].map(|k| (k, k)), |kind| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.set(&format!("/hooks/{kind}"), json!([{"path": "/nothing/here"}]));
        t.try_create(&b).fails(
            1,
            &format!("error running {kind} hook #0: fork/exec /nothing/here: no such file or directory"),
        );
    });
}

#[test]
fn a_slow_hook_is_ended_by_its_timeout() {
    rows(["prestart", "createRuntime", "createContainer"].map(|k| (k, k)), |kind| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.set(
            &format!("/hooks/{kind}"),
            json!([{"path": "/bin/sleep", "args": ["sleep", "20"], "timeout": 1}]),
        );
        t.try_create(&b)
            .fails(1, &format!("error running {kind} hook #0: hook ran past specified timeout of 1.0s"));
    });
}

#[test]
fn a_timed_out_hook_does_not_hold_the_runtime_by_its_children() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let file = b.beside("child");
        let script = format!("sleep 1000 & echo $! > {}; wait", file.display());
        b.set(
            "/hooks/createRuntime",
            json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "timeout": 2}]),
        );
        t.try_create(&b).fails(1, "hook ran past specified timeout of 2.0s");
        // The call would have hung with the child.
        let child = fs::read_to_string(&file).unwrap().trim().parse().unwrap();
        let outlived = alive(child);
        kill(child);
        assert!(outlived, "the call waited for the child");
    });
}

#[test]
fn a_failing_start_container_hook_ends_the_container_before_its_program() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.args(&["/probe", "print", "the program"]);
        b.push("/hooks/startContainer", json!({"path": "/probe", "args": ["probe", "exit", "3"]}));
        let c = t.create(&b);
        c.start();
        c.wait_until("stopped");
        assert!(!c.stdout().contains("the program"));
        let stderr = c.stderr();
        assert!(stderr.contains("error running startContainer hook #0: exit status 3"), "{stderr}");
    });
}

#[test]
fn a_failing_poststart_hook_fails_the_start_and_ends_the_container() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.args(&["/probe", "wait"]).hook("poststart", "exit 3");
        let c = t.create(&b);
        c.start().fails(1, "error running poststart hook #0: exit status 3");
        wait_for("its end", || c.call("state").code != 0 || c.status() == "stopped");
    });
}

#[test]
fn a_failing_poststop_hook_does_not_keep_the_container() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.hook("poststop", "exit 3");
        let c = t.start(&b);
        c.wait_until("stopped");
        c.call("delete");
        c.call("state").fails(1, "container does not exist");
    });
}

#[test]
fn a_failing_poststop_hook_is_a_warning_after_run() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.hook("poststop", "exit 3");
        let output = t.run(&b).ok();
        assert!(output.warns("error running poststop hook #0: exit status 3"), "{output:?}");
    });
}

#[test]
fn poststop_hooks_follow_a_failed_create() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.args(&["nothing"]);
        mark(&mut b, "poststop");
        t.try_create(&b).fails(1, "executable file not found");
        assert_eq!(marks(&b), ["poststop"]);
    });
}

#[test]
fn a_hook_inherits_only_its_three_streams() {
    rows(["prestart", "createRuntime", "poststart", "poststop"].map(|k| (k, k)), |kind| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let file = b.beside("fds");
        b.hook(kind, &format!("ls /proc/$$/fd > {}", file.display()));
        t.run(&b).ok();
        let text = fs::read_to_string(file).unwrap();
        // dash keeps a copy of a redirected stream at 10 and above.
        let low: Vec<u32> = text.lines().filter_map(|l| l.parse().ok()).filter(|&n| n < 10).collect();
        assert_eq!(low, [0, 1, 2]);
    });
}

#[test]
fn what_a_create_container_hook_mounts_is_seen_inside_and_nowhere_else() {
    rows([("plain", false), ("with a user namespace", true)], |user| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        if user {
            b.user_namespace();
        }
        let script =
            format!("mount -t tmpfs tmpfs {0} && echo there > {0}/file", b.inside("/data").display());
        b.file("/data/hidden", "", 0o644).hook("createContainer", &script);
        let report = t.report(b.args(&["/probe", "try", "list", "/data", ",", "read", "/data/file"]));
        assert_eq!(report[0]["found"], json!(["file"]), "{report}");
        assert_eq!(report[1]["found"], "there\n");
        let folder = t.dir.to_string_lossy().into_owned();
        assert!(!mounts().iter().any(|m| m.contains(&folder)), "shows outside");
        assert!(b.inside("/data/hidden").exists() && !b.inside("/data/file").exists());
    });
}

#[test]
fn every_hook_of_the_runtime_is_told_the_pid_as_the_host_numbers_it() {
    rows(["prestart", "createRuntime", "poststart"].map(|k| (k, k)), |kind| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let (state, link) = (b.beside("state"), b.beside("link"));
        // The number is tried, too: it leads to a process in the container's own namespaces.
        b.args(&["/probe", "wait"]).hook(
            kind,
            &format!(
                "cat > {0}; pid=$(tr -d ' \\n' < {0} | sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); \
                 readlink /proc/$pid/ns/net > {1}",
                state.display(),
                link.display()
            ),
        );
        let c = t.create(&b);
        c.start().ok();
        let told: Value = serde_json::from_str(&fs::read_to_string(state).unwrap()).unwrap();
        assert_eq!(told["pid"], json!(c.pid()));
        assert_eq!(fs::read_to_string(link).unwrap().trim(), namespace(c.pid(), "net"));
        assert_ne!(namespace(c.pid(), "net"), namespace("self", "net"));
    });
}

#[test]
fn a_start_container_hook_without_env_has_the_programs_home() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.file("/etc/passwd", "root:x:0:0::/of/root:/x\n", 0o644).set("/process/env", json!(["A=1"]));
        b.push("/hooks/startContainer", json!({"path": "/probe", "args": ["probe", "variables"]}));
        let c = t.create(&b);
        c.start();
        c.wait_until("stopped");
        assert!(c.stderr().contains("stdout: A=1 HOME=/of/root"), "{}", c.stderr());
    });
}

#[test]
fn a_start_container_hook_that_a_signal_ended_is_told_by_its_name() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.push("/hooks/startContainer", json!({"path": "/probe", "args": ["probe", "die"]}));
        let c = t.create(&b);
        c.start();
        c.wait_until("stopped");
        assert!(
            c.stderr().contains("error running startContainer hook #0: signal: aborted"),
            "{}",
            c.stderr()
        );
    });
}
