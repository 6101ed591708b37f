//! Descriptors: none but the three streams comes in, except those that were asked for.

use pintle_tests::*;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

fn numbers(report: &Value) -> Vec<u32> {
    let mut numbers: Vec<u32> =
        report["fds"].as_object().unwrap().keys().map(|k| k.parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

/// The runtime's own call with descriptors 3 and 4 open, by way of a shell.
fn with_open(t: &Sandbox, env: &str, args: &[&str]) -> Output {
    let runtime = t.command();
    let mut command = Command::new("/bin/sh");
    let script = format!("exec 3</etc/hostname 4</etc/passwd; {env} exec \"$@\"");
    command.args(["-c", &script, "sh"]).arg(runtime.get_program()).args(runtime.get_args()).args(args);
    command.stdin(std::process::Stdio::null());
    t.finish(command)
}

#[test]
fn the_program_has_its_three_streams_and_nothing_else() {
    behaviour(|| {
        let t = Sandbox::new();
        assert_eq!(numbers(&t.report(&t.bundle())), [0, 1, 2]);
    });
}

#[test]
fn open_descriptors_of_the_caller_stay_outside() {
    behaviour(|| {
        let t = Sandbox::new();
        let b = t.bundle();
        b.write();
        let report = with_open(&t, "", &["run", "-b", &b.dir.to_string_lossy(), &t.id()]).ok().json();
        assert_eq!(numbers(&report), [0, 1, 2]);
    });
}

#[test]
fn preserved_descriptors_come_in() {
    behaviour(|| {
        let t = Sandbox::new();
        let b = t.bundle();
        b.write();
        let report =
            with_open(&t, "", &["run", "--preserve-fds", "2", "-b", &b.dir.to_string_lossy(), &t.id()])
                .ok()
                .json();
        assert_eq!(numbers(&report), [0, 1, 2, 3, 4]);
        assert_eq!(report["fds"]["4"], "/etc/passwd");
    });
}

#[test]
fn exec_preserves_descriptors_too_and_only_when_asked() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.waiting();
        assert_eq!(numbers(&with_open(&t, "", &["exec", &c.id, "/probe", "report"]).ok().json()), [0, 1, 2]);
        let report =
            with_open(&t, "", &["exec", "--preserve-fds", "1", &c.id, "/probe", "report"]).ok().json();
        assert_eq!(numbers(&report), [0, 1, 2, 3]);
    });
}

#[test]
fn listen_fds_come_in_with_their_variables() {
    behaviour(|| {
        let t = Sandbox::new();
        let b = t.bundle();
        b.write();
        let report = with_open(
            &t,
            "export LISTEN_FDS=1 LISTEN_PID=$$;",
            &["run", "-b", &b.dir.to_string_lossy(), &t.id()],
        )
        .ok()
        .json();
        assert_eq!(numbers(&report), [0, 1, 2, 3]);
        let env: Vec<&str> = report["env"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert!(env.contains(&"LISTEN_FDS=1") && env.contains(&"LISTEN_PID=1"), "{env:?}");
    });
}

#[test]
fn a_stream_that_is_closed_is_the_null_device_inside() {
    let closed =
        [("stdin", "0<&-", ["0"].as_slice()), ("stderr", "2>&-", &["2"]), ("both", "0<&- 2>&-", &["0", "2"])];
    rows(closed.map(|(row, how, which)| (row, (how, which))), |(how, which)| {
        let t = Sandbox::new();
        let holder = t.create(&t.bundle());
        let mut b = t.bundle();
        // What it holds of this namespace is the first that it opens.
        b.join_namespace("ipc", &format!("/proc/{}/ns/ipc", holder.pid())).write();
        let runtime = t.command();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("exec \"$@\" {how}"), "sh"]).arg(runtime.get_program());
        command.args(runtime.get_args()).args(["run", "-b", &b.dir.to_string_lossy(), &t.id()]);
        let report = t.finish(command).ok().json();
        assert_eq!(numbers(&report), [0, 1, 2]);
        for number in which {
            assert_eq!(report["fds"][number], "/dev/null", "{report}");
        }
    });
}

#[test]
fn a_detached_container_keeps_the_callers_streams() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let c = t.start(b.args(&["/probe", "report"]));
        c.wait_until("stopped");
        let report: Value = serde_json::from_str(&c.stdout()).unwrap();
        assert_eq!(report["fds"]["0"], "/dev/null");
        let out = report["fds"]["1"].as_str().unwrap();
        assert!(out.ends_with(".out"), "{out}");
    });
}

#[test]
fn no_process_of_the_runtime_stays_after_a_create() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.create(&t.bundle());
        let procs = std::fs::read_to_string(cgroup_of(c.pid()).join("cgroup.procs")).unwrap();
        assert_eq!(procs.trim(), c.pid().to_string());
    });
}

#[test]
fn no_descriptor_of_the_host_waits_in_a_created_container() {
    behaviour(|| {
        let t = Sandbox::new();
        let b = t.bundle();
        let c = t.create(&b);
        let of =
            |path: &std::path::Path| std::fs::metadata(path).map(|m| (m.dev(), m.ino())).unwrap_or_default();
        let (rootfs, cgroups) = (of(&b.rootfs()), of(cgroup_mount()).0);
        for entry in std::fs::read_dir(format!("/proc/{}/fd", c.pid())).unwrap().flatten() {
            let Ok(meta) = std::fs::metadata(entry.path()) else { continue };
            let outside =
                meta.is_dir() && (meta.dev() == rootfs.0 && meta.ino() != rootfs.1 || meta.dev() == cgroups);
            assert!(!outside, "{} is a folder of the host", entry.path().display());
        }
    });
}

#[test]
fn the_pidfd_of_the_process_comes_through_its_socket() {
    rows(
        [("create", "standard"), ("run", "standard"), ("exec", "setns")].map(|r| (r.0, r)),
        |(verb, word)| {
            let t = Sandbox::new();
            let mut b = t.bundle();
            b.args(&["/probe", "wait"]);
            let (socket, pid_file) = (PidfdSocket::new(&t), t.dir.join("pid"));
            let c = match verb {
                "create" => t.make(&b, &["create", "--pidfd-socket", &socket.path]),
                "run" => t.make(&b, &["run", "--detach", "--pidfd-socket", &socket.path]),
                _ => t.start(&b),
            };
            let pid = if verb == "exec" {
                let flags =
                    ["--detach", "--pidfd-socket", &socket.path, "--pid-file", &pid_file.to_string_lossy()];
                c.exec_with(&flags, &["/probe", "wait"]).ok();
                std::fs::read_to_string(&pid_file).unwrap().parse().unwrap()
            } else {
                c.pid()
            };
            assert_eq!(socket.received(), (word.to_owned(), pid));
        },
    );
}

/// Listens for one pidfd.
struct PidfdSocket {
    path: String,
    socket: ConsoleSocket,
}

impl PidfdSocket {
    fn new(t: &Sandbox) -> Self {
        let socket = ConsoleSocket::new(&t.dir);
        Self { path: socket.path.to_string_lossy().into_owned(), socket }
    }

    /// The word that came, and of which process the descriptor is.
    #[track_caller]
    fn received(self) -> (String, i32) {
        // Without a sender it would wait for ever.
        let _nobody = std::os::unix::net::UnixStream::connect(&self.path);
        let (word, fd) = self.socket.descriptor();
        let path = format!("/proc/self/fdinfo/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
        let info = std::fs::read_to_string(path).unwrap();
        let pid = info.lines().find_map(|l| l.strip_prefix("Pid:")).expect("a pidfd").trim().parse().unwrap();
        (word, pid)
    }
}
