//! `--log-uri`: loggers as programs (binary://) that work, crash, hang or are not there; files.

use pintle_engines::alone::{Alone, config};
use pintle_engines::task::Stdio;
use pintle_engines::{Check, Engine, Task, check, happens, left, wait_for};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

pub const CHECKS: &[Check] = &[
    check!(a_logger_gets_both_streams_and_knows_whose),
    check!(a_logger_gets_all_before_it_is_ended),
    check!(an_exec_has_a_logger_of_its_own),
    check!(a_terminal_is_logged),
    check!(a_logger_that_crashes_at_once_does_not_harm),
    check!(a_logger_that_crashes_later_does_not_harm),
    check!(a_logger_that_does_not_end_is_killed),
    check!(a_missing_logger_is_named),
    check!(a_logger_that_is_never_ready_holds_up_nobody_else),
    check!(a_file_is_made_with_its_folders),
];

/// A logger of these shell lines; `$OUT` is what its files begin with.
fn logger(e: &Engine, lines: &str) -> (String, PathBuf) {
    let path = e.dir.join(e.id());
    let out = path.with_extension("log");
    fs::write(&path, format!("#!/bin/sh\nOUT={}\n{lines}\n", out.display())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    (format!("binary://{}", path.display()), out)
}

/// Copies both streams; whoever holds the fifth descriptor is not ready.
const COPIES: &str = "exec 5>&-; cat <&3 >$OUT.1 & cat <&4 >$OUT.2 & wait";

fn read(out: &std::path::Path, extension: &str) -> String {
    fs::read_to_string(format!("{}.{extension}", out.display())).unwrap_or_default()
}

fn start<'a>(e: &'a Engine, flags: &[&str], args: &[&str]) -> Task<'a> {
    let id = e.id();
    let flags = [&["--detach"], flags].concat();
    e.ctr(&e.run_words(&flags, &id, args)).ok();
    e.task(&id)
}

fn a_logger_gets_both_streams_and_knows_whose(e: &Engine) {
    let lines = format!("echo $CONTAINER_ID $CONTAINER_NAMESPACE $* >$OUT.names; {COPIES}");
    let (uri, out) = logger(e, &lines);
    let task = start(
        e,
        &["--log-uri", &format!("{uri}?key=value")],
        &["sh", "-c", "echo out; echo err >&2; exit 3"],
    );
    task.end().exits(3);
    wait_for("both streams", || read(&out, "1") == "out\n" && read(&out, "2") == "err\n");
    assert_eq!(read(&out, "names"), format!("{} {} key value\n", task.id, e.namespace));
}

fn a_logger_gets_all_before_it_is_ended(e: &Engine) {
    for _ in 0..5 {
        let (uri, out) = logger(e, &format!("trap '' TERM; exec 5>&-; sleep 0.2; {COPIES}"));
        let task =
            start(e, &["--log-uri", &uri], &["sh", "-c", "head -c 50000 /dev/zero | tr '\\0' a; echo end"]);
        task.end().ok();
        wait_for("all of it", || read(&out, "1").len() == 50_004);
    }
}

fn an_exec_has_a_logger_of_its_own(e: &Engine) {
    let task = e.idle();
    let (uri, out) = logger(e, COPIES);
    e.ctr(&task.exec_words("x", &["--detach", "--log-uri", &uri], &["sh", "-c", "echo out; echo err >&2"]))
        .ok();
    wait_for("both streams", || read(&out, "1") == "out\n" && read(&out, "2") == "err\n");
    task.remove();
}

fn a_terminal_is_logged(e: &Engine) {
    let (uri, out) = logger(e, COPIES);
    let mut config = config(&["sh", "-c", "tty; exit 3"]);
    config["process"]["terminal"] = true.into();
    let alone = Alone::start(e, &config);
    let mut shim = alone.connect();
    let stdio = Stdio { stdout: uri, terminal: true, ..Stdio::default() };
    shim.create(&alone.id, &alone.bundle, &stdio, None).expect("a container");
    shim.ask("Start", &alone.id, "").expect("a start");
    assert_eq!(shim.wait(&alone.id, "").0, 3);
    wait_for("its words", || read(&out, "1") == "/dev/pts/0\r\n");
    alone.end();
}

/// It lives, and ends when it is told to, whatever became of its output.
#[track_caller]
fn goes_on(task: &Task) {
    assert_eq!(task.status(), "RUNNING");
    task.exec(&[], &["true"]).ok();
    task.remove();
}

fn a_logger_that_crashes_at_once_does_not_harm(e: &Engine) {
    let (uri, _) = logger(e, "kill -9 $$");
    let script = "trap '' PIPE; echo out; echo err >&2; while :; do sleep 1; done";
    let task = start(e, &["--log-uri", &uri], &["sh", "-c", script]);
    std::thread::sleep(Duration::from_millis(300));
    goes_on(&task);
}

fn a_logger_that_crashes_later_does_not_harm(e: &Engine) {
    let (uri, out) = logger(e, "exec 5>&-; head -n 1 <&3 >$OUT.1; kill -9 $$");
    let script =
        "trap '' PIPE; echo first; n=0; while :; do echo more; n=$((n+1)); [ $n -gt 20000 ] && sleep 1; done";
    let task = start(e, &["--log-uri", &uri], &["sh", "-c", script]);
    wait_for("the first line", || read(&out, "1") == "first\n");
    std::thread::sleep(Duration::from_millis(500));
    goes_on(&task);
}

fn a_logger_that_does_not_end_is_killed(e: &Engine) {
    let (uri, out) =
        logger(e, "trap '' TERM; echo $$ >$OUT.pid; exec 5>&-; while [ -e $0 ]; do sleep 0.1; done");
    let task = start(e, &["--log-uri", &uri], &["true"]);
    wait_for("the logger", || read(&out, "pid").ends_with('\n'));
    let pid: i32 = read(&out, "pid").trim().parse().unwrap();
    task.end().ok();
    assert!(happens(Duration::from_secs(25), || !pintle_tests::alive(pid)), "the logger lives on");
}

fn a_missing_logger_is_named(e: &Engine) {
    let id = e.id();
    let answer = e.ctr(&e.run_words(&["--detach", "--log-uri", "binary:///nosuch"], &id, &["true"]));
    let answer = answer.fails("failed to start binary process: fork/exec /nosuch: no such file or directory");
    assert!(answer.stderr.contains("failed to create init process I/O"), "{answer:?}");
    wait_for("the shim to go", || e.shims().is_empty());
}

fn a_logger_that_is_never_ready_holds_up_nobody_else(e: &Engine) {
    let annotation = format!("io.kubernetes.cri.sandbox-id={}-pod", e.namespace);
    let first = e.start(&["--annotation", &annotation], &["sleep", "1000"]);
    let (uri, out) = logger(e, "echo $$ >$OUT.pid; while [ -e $0 ]; do sleep 0.1; done");
    let id = e.id();
    let call =
        e.begin(&e.run_words(&["--detach", "--annotation", &annotation, "--log-uri", &uri], &id, &["true"]));
    wait_for("the logger", || read(&out, "pid").ends_with('\n'));
    first.exec(&[], &["true"]).ok();
    first.remove();
    // Whatever ends the logger ends the wait.
    left::kill(read(&out, "pid").trim().parse().unwrap());
    call.end();
}

fn a_file_is_made_with_its_folders(e: &Engine) {
    let log = e.dir.join("some/where/deep.log");
    let uri = format!("file://{}", log.display());
    let task = start(e, &["--log-uri", &uri], &["echo", "words"]);
    task.end().ok();
    assert_eq!(fs::read_to_string(&log).unwrap(), "words\n");
    assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o644);
}
