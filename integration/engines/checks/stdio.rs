//! Streams: pipes through fifos, terminals, attaching, readers that go away, files.

use pintle_engines::alone::{Alone, Output, config};
use pintle_engines::{Check, Engine, check, full, task, wait_for};
use std::fs;
use std::io::Write;
use std::process::Stdio;

pub const CHECKS: &[Check] = &[
    check!(stdout_and_stderr_come_out_apart),
    check!(megabytes_come_out_whole),
    check!(the_last_words_are_not_lost),
    check!(stdin_goes_in_and_its_end_is_seen),
    check!(megabytes_go_in_whole),
    check!(a_terminal_is_one),
    check!(a_terminal_follows_the_size),
    check!(no_streams_at_all),
    check!(a_file_takes_both_streams),
];

fn stdout_and_stderr_come_out_apart(e: &Engine) {
    let answer = e.run(&[], &["sh", "-c", "echo out; echo err >&2"]).ok();
    assert_eq!((answer.stdout.as_str(), answer.stderr.as_str()), ("out\n", "err\n"));
}

fn megabytes_come_out_whole(e: &Engine) {
    let answer = e.run(&[], &["sh", "-c", "yes 0123456789abcde | head -n 500000"]).ok();
    assert_eq!(answer.stdout.len(), 8_000_000);
    assert!(answer.stdout.lines().all(|line| line == "0123456789abcde"));
}

fn the_last_words_are_not_lost(e: &Engine) {
    // All is in the fifos when the task is deleted, however soon that is.
    for n in 0..full(10, 100) {
        let alone = Alone::start(e, &config(&["sh", "-c", "head -c 60000 /dev/zero; echo end"]));
        let [out, err] = ["out", "err"].map(|name| Output::new(e.dir.join(format!("{name}-{n}"))));
        let [stdout, stderr] = [&out, &err].map(|output| output.path.display().to_string());
        let mut shim = alone.connect();
        let stdio = task::Stdio { stdout, stderr, ..task::Stdio::default() };
        shim.create(&alone.id, &alone.bundle, &stdio, None).expect("a container");
        shim.ask("Start", &alone.id, "").expect("a start");
        shim.wait(&alone.id, "");
        shim.ask("Delete", &alone.id, "").expect("a deletion");
        alone.end();
        wait_for("the fifo to be read", || out.text().len() == 60_004);
    }
}

fn stdin_goes_in_and_its_end_is_seen(e: &Engine) {
    let id = e.id();
    let mut command = e.command(&e.run_words(&["--rm"], &id, &["sh", "-c", "cat; echo after"]));
    command.stdin(Stdio::piped());
    let mut call = pintle_engines::call::begin(command, &e.dir);
    let mut stdin = call.child.stdin.take().unwrap();
    stdin.write_all(b"some words\n").unwrap();
    wait_for("the words", || call.stdout() == "some words\n");
    drop(stdin);
    call.end().ok().says("some words\nafter\n");
}

fn megabytes_go_in_whole(e: &Engine) {
    let file = e.dir.join("in");
    fs::write(&file, vec![b'z'; 5_000_000]).unwrap();
    let id = e.id();
    let mut command = e.command(&e.run_words(&["--rm"], &id, &["wc", "-c"]));
    command.stdin(fs::File::open(&file).unwrap());
    pintle_engines::call::finish(command, &e.dir).ok().says("5000000\n");
}

fn a_terminal_is_one(e: &Engine) {
    let id = e.id();
    let script = "tty; test -t 0 && test -t 1 && test -t 2 && echo all; read line; echo got $line; exit 5";
    let (pty, mut ctr) = e.on_terminal(30, 90, &e.run_words(&["--rm", "--tty"], &id, &["sh", "-c", script]));
    pty.wait_for("/dev/pts/0");
    pty.wait_for("all");
    pty.write("typed\r");
    pty.wait_for("got typed");
    assert_eq!(ctr.wait().unwrap().code(), Some(5), "{}", pty.text());
}

fn a_terminal_follows_the_size(e: &Engine) {
    let id = e.id();
    let script =
        "trap 'stty size' WINCH; echo ready; while :; do read line && break; done; stty size; exit 0";
    let (pty, mut ctr) = e.on_terminal(30, 90, &e.run_words(&["--rm", "--tty"], &id, &["sh", "-c", script]));
    pty.wait_for("ready");
    Engine::resize(&pty, &ctr, 33, 99);
    pty.write("end\r");
    assert_eq!(ctr.wait().unwrap().code(), Some(0), "{}", pty.text());
}

fn no_streams_at_all(e: &Engine) {
    let script = "echo lost; echo lost >&2; cat; test $(readlink /proc/$$/fd/1) = /dev/null";
    e.run(&["--null-io"], &["sh", "-c", script]).ok().says("");
}

fn a_file_takes_both_streams(e: &Engine) {
    let log = e.dir.join("both.log");
    fs::write(&log, "before\n").unwrap();
    let uri = format!("file://{}", log.display());
    let id = e.id();
    let words = e.run_words(
        &["--detach", "--log-uri", &uri],
        &id,
        &["sh", "-c", "echo out; sleep 0.5; echo err >&2"],
    );
    e.ctr(&words).ok();
    let task = e.task(&id);
    task.end().ok();
    assert_eq!(fs::read_to_string(&log).unwrap(), "before\nout\nerr\n");
    e.ctr(&["containers", "rm", &id]).ok();
}
