//! `kill`: names and numbers, whom it reaches, and what it says when it can't. And what `run` passes on.

use pintle_tests::*;
use std::process::Stdio;

#[test]
fn a_signal_has_many_names() {
    let names = ["10", "USR1", "SIGUSR1", "usr1", "sigusr1", "SigUsr1"];
    rows(names.map(|n| (n, n)), |name| {
        let t = Sandbox::new();
        let c = t.waiting();
        c.kill(name).ok();
        c.wait_for_output("signal SIGUSR1");
    });
}

#[test]
fn the_default_is_sigterm() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.waiting();
        c.call("kill").ok();
        c.wait_until("stopped");
    });
}

#[test]
fn an_unknown_signal_is_named() {
    rows(["FOO", "SIGNOPE", "sigusr9", "SIG"].map(|n| (n, n)), |name| {
        let t = Sandbox::new();
        t.waiting().kill(name).fails(1, &format!("unknown signal \"{name}\""));
    });
}

#[test]
fn a_number_that_is_no_signal_is_refused() {
    behaviour(|| {
        let t = Sandbox::new();
        t.waiting().kill("99").fails(1, "invalid argument");
    });
}

#[test]
fn signal_zero_asks_whether_it_is_there() {
    behaviour(|| {
        let t = Sandbox::new();
        t.waiting().kill("0").ok();
    });
}

#[test]
fn a_stopped_container_is_not_running() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.start(&t.bundle());
        c.wait_until("stopped");
        c.kill("KILL").fails(1, "container not running");
        t.call(["kill", "--all", &c.id, "KILL"]).ok();
    });
}

#[test]
fn a_created_container_can_be_killed() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.create(&t.bundle());
        c.kill("KILL").ok();
        c.wait_until("stopped");
    });
}

#[test]
fn a_signal_goes_to_the_first_process_only() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.args(&["/probe", "crowd", "1"]);
        let c = t.start(&b);
        wait_for("both", || c.stdout().matches("ready").count() == 2);
        c.kill("USR1").ok();
        c.wait_for_output("signal SIGUSR1");
        assert_eq!(c.stdout().matches("signal SIGUSR1").count(), 1);
    });
}

#[test]
fn sigkill_without_a_pid_namespace_ends_everyone() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.without_namespace("pid").args(&["/probe", "crowd", "3"]);
        let c = t.start(&b);
        wait_for("all four", || c.stdout().matches("ready").count() == 4);
        let pids = t.call(["ps", "-f", "json", &c.id]).ok().json();
        c.kill("KILL").ok();
        for pid in pids.as_array().unwrap() {
            wait_for("the end of all", || !alive(pid.as_i64().unwrap() as i32));
        }
    });
}

#[test]
fn sigkill_ends_a_paused_container() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.waiting();
        c.call("pause").ok();
        c.kill("KILL").ok();
        c.wait_until("stopped");
    });
}

#[test]
fn run_passes_signals_on_to_the_program() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.args(&["/probe", "wait"]).write();
        let (out, id) = (t.dir.join("stdout"), t.id());
        let mut command = t.command();
        command.arg("run").arg("-b").arg(&b.dir).arg(&id);
        command.stdout(std::fs::File::create(&out).unwrap()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let text = || std::fs::read_to_string(&out).unwrap();
        wait_for("ready", || text().contains("ready"));
        let send =
            |signal| nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), signal).unwrap();
        send(nix::sys::signal::Signal::SIGUSR2);
        wait_for("the signal", || text().contains("signal SIGUSR2"));
        send(nix::sys::signal::Signal::SIGTERM);
        assert!(child.wait().unwrap().success());
    });
}

/// A foreground `run` whose program has begun, and what it wrote.
fn foreground(t: &Sandbox, b: &Bundle) -> (std::process::Child, std::path::PathBuf) {
    b.write();
    let out = t.dir.join("stdout");
    let mut command = t.command();
    command.arg("run").arg("-b").arg(&b.dir).arg(t.id());
    command.stdout(std::fs::File::create(&out).unwrap()).stderr(Stdio::null());
    let child = command.spawn().unwrap();
    wait_for("ready", || std::fs::read_to_string(&out).unwrap().contains("ready"));
    (child, out)
}

fn send(child: &std::process::Child, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), signal).unwrap();
}

#[test]
fn run_passes_every_signal_on() {
    use nix::sys::signal::Signal;
    let signals = [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGALRM,
        Signal::SIGCONT,
        Signal::SIGWINCH,
        Signal::SIGIO,
        Signal::SIGPWR,
        Signal::SIGTSTP,
        Signal::SIGXCPU,
    ];
    rows(signals.map(|s| (s, s)), |signal| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let (mut child, out) = foreground(&t, b.args(&["/probe", "wait"]));
        send(&child, signal);
        let arrived = std::panic::catch_unwind(|| {
            let text = format!("signal {signal}");
            wait_for(&text, || std::fs::read_to_string(&out).unwrap().contains(&text));
        });
        send(&child, Signal::SIGTERM);
        let status = child.wait().unwrap();
        assert!(arrived.is_ok(), "{signal} does not arrive");
        assert!(status.success(), "{status}");
    });
}

#[test]
fn run_ends_with_128_and_the_number_of_the_signal_it_passed_on() {
    use nix::sys::signal::Signal;
    // In a pid namespace of its own the first process is deaf to what it does not handle.
    let signals = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1, Signal::SIGHUP, Signal::SIGQUIT];
    rows(signals.map(|s| (s, s)), |signal| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.without_namespace("pid").args(&["/probe", "sleep"]);
        let (mut child, _) = foreground(&t, &b);
        send(&child, signal);
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(128 + signal as i32), "{status}");
        assert_eq!(t.entries(), 0);
    });
}

#[test]
fn sigkill_without_a_pid_namespace_ends_those_who_outlived_their_init() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.without_namespace("pid").args(&["/probe", "crowd", "3"]);
        let c = t.start(&b);
        wait_for("all four", || c.stdout().matches("ready").count() == 4);
        let pids = t.call(["ps", "-f", "json", &c.id]).ok().json();
        let init = c.pid();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(init), nix::sys::signal::Signal::SIGKILL).unwrap();
        c.wait_until("stopped");
        c.kill("KILL").ok();
        for pid in pids.as_array().unwrap() {
            wait_for("the end of all", || !alive(pid.as_i64().unwrap() as i32));
        }
    });
}

#[test]
fn what_asks_a_program_to_end_ends_a_created_container() {
    rows(["TERM", "INT", "HUP", "QUIT"].map(|s| (s, s)), |signal| {
        let t = Sandbox::new();
        let c = t.create(&t.bundle());
        c.kill(signal).ok();
        c.wait_until("stopped");
    });
}
