//! From create to delete: which verb is allowed when, and what it leaves.

use pintle_tests::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn create_prepares_everything_but_does_not_run_the_program() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.args(&["/probe", "print", "hello"]);
        let c = t.create(&b);
        assert_eq!(c.status(), "created");
        assert_eq!(c.stdout(), "");
        c.start().ok();
        c.wait_for_output("hello");
        c.wait_until("stopped");
    });
}

#[test]
fn run_passes_the_exit_code_on() {
    behaviour(|| {
        let t = Sandbox::new();
        for code in ["0", "1", "7", "255"] {
            let mut b = t.bundle();
            b.args(&["/probe", "exit", code]);
            t.run(&b).exits(code.parse().unwrap());
        }
    });
}

#[test]
fn run_tells_a_death_by_signal_as_128_and_its_number() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        // The first process of a pid namespace is safe from its own signals, so the host's number is used.
        b.without_namespace("pid").args(&["/probe", "die"]);
        t.run(&b).exits(128 + 6);
    });
}

#[test]
fn run_deletes_the_container_when_the_program_ends() {
    behaviour(|| {
        let t = Sandbox::new();
        t.run(&t.bundle()).ok();
        assert_eq!(t.entries(), 0);
    });
}

#[test]
fn run_keep_leaves_a_stopped_container() {
    behaviour(|| {
        let t = Sandbox::new();
        let b = t.bundle();
        let c = t.make(&b, &["run", "--keep"]);
        assert_eq!(c.status(), "stopped");
        c.call("delete").ok();
    });
}

#[test]
fn a_detached_run_returns_while_the_program_runs() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.waiting();
        assert_eq!(c.status(), "running");
    });
}

#[test]
fn later_edits_of_the_configuration_change_nothing() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.args(&["/probe", "print", "before"]);
        let c = t.create(&b);
        b.args(&["/probe", "print", "after"]).write();
        c.start().ok();
        c.wait_for_output("before");
    });
}

#[test]
fn the_bundle_is_the_current_folder_by_default() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.args(&["/probe", "print", "here"]).write();
        let mut command = t.command();
        command.arg("run").arg(t.id()).current_dir(&b.dir);
        assert_eq!(t.finish(command).ok().stdout, "here\n");
    });
}

#[test]
fn an_id_is_taken_once() {
    behaviour(|| {
        let t = Sandbox::new();
        let b = t.bundle();
        let c = t.create(&b);
        let dir = b.dir.to_string_lossy();
        t.call(["create", "-b", &dir, &c.id]).fails(1, "container with given ID already exists");
        t.call(["run", "-b", &dir, &c.id]).fails(1, "container with given ID already exists");
        assert_eq!(c.status(), "created", "the first is unharmed");
    });
}

#[test]
fn start_is_for_a_created_container_only() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.waiting();
        c.start().fails(1, "cannot start an already running container");
        c.kill("KILL").ok();
        c.wait_until("stopped");
        c.start().fails(1, "cannot start a container that has stopped");
    });
}

#[test]
fn delete_refuses_a_running_container() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.waiting();
        c.call("delete").fails(1, &format!("cannot delete container {} that is not stopped: running", c.id));
        assert_eq!(c.status(), "running");
    });
}

#[test]
fn delete_takes_a_created_container_without_force() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.create(&t.bundle());
        c.call("delete").ok();
        c.call("state").fails(1, "container does not exist");
    });
}

#[test]
fn delete_takes_a_stopped_container() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.start(&t.bundle());
        c.wait_until("stopped");
        c.call("delete").ok();
        c.call("delete").fails(1, "container does not exist");
    });
}

#[test]
fn delete_by_force_ends_a_running_container() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.waiting();
        let pid = c.pid();
        t.call(["delete", "--force", &c.id]).ok();
        c.call("state").fails(1, "container does not exist");
        wait_for("the end of the first process", || !alive(pid));
    });
}

#[test]
fn delete_by_force_of_nothing_succeeds() {
    behaviour(|| {
        let t = Sandbox::new();
        t.call(["delete", "--force", "nobody"]).ok();
    });
}

#[test]
fn delete_by_force_removes_a_broken_entry() {
    behaviour(|| {
        let t = Sandbox::new();
        fs::create_dir_all(t.root().join("broken")).unwrap();
        t.call(["delete", "broken"]).fails(1, "container does not exist");
        t.call(["delete", "--force", "broken"]).ok();
        assert!(!t.root().join("broken").exists());
    });
}

#[test]
fn delete_removes_the_cgroup() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.waiting();
        let cgroup = cgroup_of(c.pid());
        assert!(cgroup.exists() && cgroup.to_string_lossy().contains(&c.id), "{}", cgroup.display());
        t.call(["delete", "--force", &c.id]).ok();
        assert!(!cgroup.exists());
    });
}

#[test]
fn delete_ends_processes_that_outlive_the_first() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.without_namespace("pid").args(&["/probe", "fork"]);
        let c = t.start(&b);
        c.wait_until("stopped");
        t.call(["delete", "--force", &c.id]).ok();
        c.call("state").fails(1, "container does not exist");
    });
}

#[test]
fn a_failed_create_leaves_no_entry() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.args(&["/nothing/here"]);
        t.try_create(&b).fails(1, "no such file or directory");
        assert_eq!(t.entries(), 0);
    });
}

#[test]
fn the_pid_file_holds_the_hosts_number_and_nothing_else() {
    behaviour(|| {
        let t = Sandbox::new();
        let b = t.bundle();
        let file = b.beside("pid");
        let c = t.make(&b, &["create", "--pid-file", &file.to_string_lossy()]);
        assert_eq!(fs::read_to_string(file).unwrap(), c.pid().to_string());
    });
}

#[test]
fn a_relative_pid_file_lies_where_the_caller_stands() {
    behaviour(|| {
        let t = Sandbox::new();
        let b = t.bundle();
        b.write();
        let id = t.id();
        let mut command = t.command();
        command.args(["create", "--pid-file", "pid", "--bundle"]).arg(&b.dir).arg(&id).current_dir(&t.dir);
        t.finish(command).ok();
        assert!(t.dir.join("pid").exists());
    });
}

#[test]
fn a_pid_file_that_cannot_be_written_fails_the_create() {
    behaviour(|| {
        let t = Sandbox::new();
        let b = t.bundle();
        b.write();
        t.call(["create", "--pid-file", "/nothing/pid", "-b", &b.dir.to_string_lossy(), &t.id()])
            .fails(1, "no such file or directory");
        assert_eq!(t.entries(), 0);
    });
}

#[test]
fn the_state_is_for_root_alone() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.create(&t.bundle());
        let mode = |path: std::path::PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(t.root()), 0o700);
        assert_eq!(mode(t.root().join(&c.id)), 0o711, "an init of a user namespace has to reach the fifo");
        assert_eq!(mode(t.root().join(&c.id).join("state.json")), 0o600);
    });
}

#[test]
fn pause_freezes_and_resume_thaws() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.waiting();
        c.call("pause").ok();
        assert_eq!(c.status(), "paused");
        let events = fs::read_to_string(cgroup_of(c.pid()).join("cgroup.events")).unwrap();
        assert!(events.contains("frozen 1"), "{events}");
        c.call("resume").ok();
        assert_eq!(c.status(), "running");
    });
}

#[test]
fn pause_and_resume_have_their_rules() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.waiting();
        c.call("resume").fails(1, "container not paused");
        c.call("pause").ok();
        c.call("pause").fails(1, "container not running");
        c.kill("KILL").ok();
        c.wait_until("stopped");
        c.call("pause").fails(1, "container not running");
        c.call("resume").fails(1, "container not paused");
    });
}

#[test]
fn a_created_container_can_be_paused() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.create(&t.bundle());
        c.call("pause").ok();
        assert_eq!(c.status(), "paused");
        c.call("resume").ok();
        assert_eq!(c.status(), "created");
    });
}

#[test]
fn a_paused_container_can_be_deleted_by_force() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.waiting();
        c.call("pause").ok();
        t.call(["delete", "--force", &c.id]).ok();
        c.call("state").fails(1, "container does not exist");
    });
}

#[test]
fn every_verb_names_an_unknown_container() {
    let verbs = ["state", "start", "kill", "delete", "ps", "pause", "resume", "events"];
    rows(verbs.map(|v| (v, v)), |verb| {
        Sandbox::new().call([verb, "nobody"]).fails(1, "container does not exist");
    });
}

#[test]
fn the_fifo_is_there_only_while_the_container_is_created() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.args(&["/probe", "wait"]);
        let c = t.create(&b);
        let fifo = t.root().join(&c.id).join("exec.fifo");
        assert!(fifo.exists());
        c.start().ok();
        assert!(!fifo.exists());
    });
}

#[test]
fn readiness_is_told_on_to_the_service_manager() {
    let cases: [(&str, &[&str]); 2] =
        [("alone", &["READY=1"]), ("among other words", &["STATUS=nearly", "READY=1"])];
    rows(cases, |words| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.args(&[&["/probe", "notify"], words].concat()).write();
        let path = t.dir.join("manager.sock");
        let manager = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        manager.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
        // It reads meanwhile: runc waits until its last message has been taken.
        let server = std::thread::spawn(move || {
            let (mut text, mut message) = (String::new(), [0; 512]);
            while let Ok(length @ 1..) = manager.recv(&mut message) {
                text.push_str(&String::from_utf8_lossy(&message[..length]));
                text.push('\n');
                if text.contains("MAINPID=") {
                    manager.set_read_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
                }
            }
            text
        });
        let (id, bundle) = (t.id(), b.dir.to_string_lossy().into_owned());
        let call = |args: &[&str]| {
            let mut command = t.command();
            command.args(args).env("NOTIFY_SOCKET", &path);
            t.finish(command).ok()
        };
        call(&["create", "--bundle", &bundle, &id]);
        call(&["start", &id]);
        let pid = &t.call(["state", &id]).ok().json()["pid"];
        let text = server.join().unwrap();
        let lines: Vec<&str> = text.lines().filter(|l| !l.is_empty()).take(2).collect();
        assert_eq!(lines, ["READY=1", &format!("MAINPID={pid}")], "{text:?}");
    });
}
