//! `ctr tasks kill`: every signal from 1 to 64, to the first process and to an exec.

use pintle_engines::{Check, Engine, check, left, wait_for};
use std::fs;

pub const CHECKS: &[Check] = &[
    check!(the_first_process_gets_every_signal),
    check!(an_exec_gets_every_signal),
    check!(an_exec_ends_by_what_it_does_not_catch),
    check!(the_first_process_ignores_what_it_does_not_catch),
    check!(sigstop_stops_and_sigcont_continues),
    check!(sigkill_is_137),
    check!(with_a_shared_pid_namespace_the_end_of_the_first_process_is_everyones),
    check!(what_is_gone_is_not_found),
];

/// What a shell can catch: not KILL and STOP, and not the two that the C library keeps for itself.
fn catchable() -> impl Iterator<Item = u32> {
    (1..=64).filter(|n| ![9, 19, 32, 33].contains(n))
}

/// A shell that tells each of them, and lives on.
fn reporter() -> String {
    let traps: String = catchable().map(|n| format!("trap 'echo signal {n}.' {n}; ")).collect();
    format!("{traps} echo ready; while :; do sleep 1000 & wait; done")
}

fn the_first_process_gets_every_signal(e: &Engine) {
    let task = e.script(&reporter());
    for n in catchable() {
        task.kill(&n.to_string()).ok();
        task.wait_for(&format!("signal {n}."));
    }
    assert_eq!(task.status(), "RUNNING");
    task.remove();
}

fn an_exec_gets_every_signal(e: &Engine) {
    let task = e.idle();
    let call = e.begin(&task.exec_words("x", &[], &["sh", "-c", &reporter()]));
    wait_for("the exec", || call.stdout().contains("ready"));
    for n in catchable() {
        task.kill_exec("x", &n.to_string()).ok();
        wait_for(&format!("signal {n}"), || call.stdout().contains(&format!("signal {n}.")));
    }
    task.kill_exec("x", "KILL").ok();
    call.end().exits(137);
    task.remove();
}

fn an_exec_ends_by_what_it_does_not_catch(e: &Engine) {
    let task = e.idle();
    // Of those that end a process, among them what no C library lets a program catch.
    for n in [1, 2, 3, 6, 9, 10, 13, 14, 15, 24, 31, 32, 33, 34, 37, 50, 64] {
        let name = format!("x{n}");
        let call = e.begin(&task.exec_words(&name, &[], &["sh", "-c", "echo ready; exec sleep 1000"]));
        wait_for("the exec", || call.stdout() == "ready\n");
        task.kill_exec(&name, &n.to_string()).ok();
        call.end().exits(128 + n);
    }
    task.remove();
}

fn the_first_process_ignores_what_it_does_not_catch(e: &Engine) {
    let task = e.idle();
    for n in [1, 2, 15, 32, 33, 34, 64] {
        task.kill(&n.to_string()).ok();
    }
    task.exec(&[], &["true"]).ok();
    assert_eq!(task.status(), "RUNNING");
    task.remove();
}

fn sigstop_stops_and_sigcont_continues(e: &Engine) {
    let task = e.idle();
    let state = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", task.pid())).unwrap_or_default();
        stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next().map(str::to_owned))
    };
    task.kill("STOP").ok();
    wait_for("a stopped process", || state().as_deref() == Some("T"));
    task.kill("CONT").ok();
    wait_for("a process that goes on", || state().as_deref() == Some("S"));
    task.remove();
}

fn sigkill_is_137(e: &Engine) {
    let id = e.id();
    let call = e.begin(&e.run_words(&["--rm"], &id, &["sh", "-c", "echo ready; sleep 1000"]));
    wait_for("the container", || call.stdout() == "ready\n");
    e.task(&id).kill("KILL").ok();
    call.end().exits(137);
}

fn with_a_shared_pid_namespace_the_end_of_the_first_process_is_everyones(e: &Engine) {
    let script = "trap 'echo first.' USR1; sleep 1001 & sleep 1002 & echo ready; while :; do wait; done";
    let task = e.start(&["--with-ns", "pid:/proc/1/ns/pid"], &["sh", "-c", script]);
    task.wait_for("ready");
    assert_eq!(task.processes(), 3, "processes");
    e.ctr(&["tasks", "kill", "--all", "--signal", "USR1", &task.id]).ok();
    task.wait_for("first.");
    task.kill("KILL").ok();
    task.end().exits(137);
    let left = |n| left::processes().iter().any(|(_, words)| words.iter().any(|w| w == n));
    wait_for("the end of its children", || !left("1001") && !left("1002"));
}

fn what_is_gone_is_not_found(e: &Engine) {
    let task = e.start(&[], &["true"]);
    task.wait_until("STOPPED");
    task.kill("KILL").fails("not found");
    task.kill_exec("nosuch", "KILL").fails("not found");
    task.end().ok();
    e.ctr(&["containers", "rm", &task.id]).ok();
    task.kill("KILL").fails("not found");
}
