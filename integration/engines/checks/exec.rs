//! `ctr tasks exec`: status, streams, terminals, many at once, what can't be executed.

use pintle_engines::{Check, Engine, check, full, wait_for};
use std::io::Write;
use std::process::Stdio;

pub const CHECKS: &[Check] = &[
    check!(the_exit_code_is_the_programs),
    check!(streams_come_out_apart),
    check!(stdin_goes_in_and_its_end_is_seen),
    check!(a_terminal_is_one),
    check!(twelve_at_once),
    check!(many_one_after_the_other_leave_nothing),
    check!(an_unknown_program_is_named),
    check!(an_id_is_taken_once),
    check!(a_detached_one_is_seen_and_killed),
    check!(it_joins_the_containers_namespaces),
    check!(it_ends_with_the_container),
    check!(a_stopped_container_takes_none),
];

fn the_exit_code_is_the_programs(e: &Engine) {
    let task = e.idle();
    for code in [0, 1, 42, 127, 255] {
        task.exec(&[], &["sh", "-c", &format!("exit {code}")]).exits(code);
    }
    task.exec(&[], &["sh", "-c", "kill -9 $$"]).exits(137);
    task.exec(&[], &["sh", "-c", "kill -37 $$"]).exits(128 + 37);
    task.remove();
}

fn streams_come_out_apart(e: &Engine) {
    let task = e.idle();
    let answer = task.exec(&[], &["sh", "-c", "echo out; echo err >&2"]).ok();
    assert_eq!((answer.stdout.as_str(), answer.stderr.as_str()), ("out\n", "err\n"));
    let answer = task.exec(&[], &["sh", "-c", "yes 0123456789abcde | head -n 100000"]).ok();
    assert_eq!(answer.stdout.len(), 1_600_000);
    task.remove();
}

fn stdin_goes_in_and_its_end_is_seen(e: &Engine) {
    let task = e.idle();
    let mut command = e.command(&task.exec_words("x", &[], &["sh", "-c", "cat; echo after"]));
    command.stdin(Stdio::piped());
    let mut call = pintle_engines::call::begin(command, &e.dir);
    let mut stdin = call.child.stdin.take().unwrap();
    stdin.write_all(b"some words\n").unwrap();
    wait_for("the words", || call.stdout() == "some words\n");
    drop(stdin);
    call.end().ok().says("some words\nafter\n");
    task.remove();
}

fn a_terminal_is_one(e: &Engine) {
    let task = e.idle();
    // A signal ends a `read`, also one of a size on the way to the last.
    let script = "tty; read line; echo got $line; trap 'stty size' WINCH; echo trapped; \
                  while :; do read line && break; done; exit 5";
    let (pty, mut ctr) = e.on_terminal(31, 91, &task.exec_words("x", &["--tty"], &["sh", "-c", script]));
    pty.wait_for("/dev/pts/0");
    pty.write("typed\r");
    pty.wait_for("got typed");
    pty.wait_for("trapped");
    Engine::resize(&pty, &ctr, 33, 99);
    pty.write("end\r");
    assert_eq!(ctr.wait().unwrap().code(), Some(5), "{}", pty.text());
    task.remove();
}

fn twelve_at_once(e: &Engine) {
    let task = e.idle();
    for _ in 0..full(2, 20) {
        let names: Vec<String> = (0..12).map(|_| e.id()).collect();
        let scripts: Vec<String> = (0..12).map(|n| format!("echo {n}; exit {n}")).collect();
        let calls: Vec<_> =
            (0..12).map(|n| e.begin(&task.exec_words(&names[n], &[], &["sh", "-c", &scripts[n]]))).collect();
        for (n, call) in calls.into_iter().enumerate() {
            call.end().exits(n as i32).says(&format!("{n}\n"));
        }
    }
    task.remove();
}

fn many_one_after_the_other_leave_nothing(e: &Engine) {
    let task = e.idle();
    let shim = e.shims()[0];
    let count = |what: &str| std::fs::read_dir(format!("/proc/{shim}/{what}")).map_or(0, Iterator::count);
    task.exec(&[], &["true"]).ok();
    let before = count("fd");
    for _ in 0..full(20, 1000) {
        task.exec(&[], &["true"]).ok();
    }
    // What closes in the background may take its time.
    wait_for("the shim's descriptors to be closed", || count("fd") <= before + 2);
    assert_eq!(task.processes(), 1, "processes");
    task.remove();
}

fn an_unknown_program_is_named(e: &Engine) {
    let task = e.idle();
    let words = "OCI runtime exec failed: exec failed: unable to start container process: exec: ";
    task.exec(&[], &["nosuch"]).fails(&format!("{words}\"nosuch\": executable file not found in $PATH"));
    task.exec(&[], &["/nosuch"])
        .fails(&format!("{words}\"/nosuch\": stat /nosuch: no such file or directory"));
    task.exec(&[], &["/etc"]).fails(&format!("{words}\"/etc\": is a directory"));
    task.exec(&[], &["/etc/passwd"]).fails(&format!("{words}\"/etc/passwd\": permission denied"));
    assert_eq!(task.status(), "RUNNING");
    task.exec(&[], &["true"]).ok();
    task.remove();
}

fn an_id_is_taken_once(e: &Engine) {
    let task = e.idle();
    e.ctr(&task.exec_words("same", &["--detach"], &["sleep", "1000"])).ok();
    e.ctr(&task.exec_words("same", &["--detach"], &["true"])).fails("already exists");
    task.remove();
}

fn a_detached_one_is_seen_and_killed(e: &Engine) {
    let task = e.idle();
    e.ctr(&task.exec_words("x", &["--detach"], &["sleep", "1000"])).ok();
    let list = task.call("ps").ok().stdout;
    assert_eq!(task.processes(), 2, "{list}");
    assert!(list.contains('x'), "the exec is named: {list}");
    task.kill_exec("x", "KILL").ok();
    wait_for("its end", || task.processes() == 1);
    task.remove();
}

fn it_joins_the_containers_namespaces(e: &Engine) {
    let task = e.script("echo ready; exec sleep 1000");
    task.exec(&[], &["sh", "-c", "tr '\\0' ' ' < /proc/1/cmdline"]).ok().says("sleep 1000 ");
    task.exec(&[], &["hostname"]).ok();
    let inside = task.exec(&[], &["readlink", "/proc/self/ns/mnt"]).ok().stdout;
    let outside = std::fs::read_link(format!("/proc/{}/ns/mnt", task.pid())).unwrap();
    assert_eq!(inside.trim(), outside.to_string_lossy());
    task.remove();
}

fn it_ends_with_the_container(e: &Engine) {
    let task = e.idle();
    let call = e.begin(&task.exec_words("x", &[], &["sh", "-c", "echo ready; sleep 1000"]));
    wait_for("the exec", || call.stdout() == "ready\n");
    task.kill("KILL").ok();
    call.end().exits(137);
    task.end().exits(137);
}

fn a_stopped_container_takes_none(e: &Engine) {
    let task = e.start(&[], &["true"]);
    task.wait_until("STOPPED");
    let answer = task.exec(&[], &["true"]);
    assert_ne!(answer.code, 0, "{answer:?}");
    task.end().ok();
}
