//! Clients that go and come back: detached containers, attaching, readers that are gone, a terminal left behind.

use pintle_engines::alone::{Alone, Output, config, fifo};
use pintle_engines::task::Stdio;
use pintle_engines::wire::Message;
use pintle_engines::{Check, Engine, check, wait_for};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Stdio as Pipe;
use std::time::Duration;

pub const CHECKS: &[Check] = &[
    check!(attach_brings_what_a_detached_container_says),
    check!(attach_takes_words_in),
    check!(a_killed_client_leaves_a_container_that_goes_on),
    check!(a_full_fifo_without_reader_does_not_hold_up_kill_and_delete),
    check!(a_terminal_is_attached_again),
    check!(a_reader_that_comes_back_gets_the_rest),
    check!(stdin_ends_when_it_is_closed_and_not_before),
    check!(close_before_the_start_is_not_lost),
    check!(a_terminal_changes_size_by_request),
    check!(a_resize_without_a_terminal_is_nothing),
    check!(a_child_that_holds_the_streams_does_not_hold_the_exit),
];

fn attach_brings_what_a_detached_container_says(e: &Engine) {
    let id = e.id();
    e.ctr(&e.run_words(&["--detach"], &id, &["sh", "-c", "while :; do echo tick; sleep 0.1; done"])).ok();
    let call = e.begin(&["tasks", "attach", &id]);
    wait_for("what it says", || call.stdout().contains("tick\ntick"));
    e.task(&id).kill("KILL").ok();
    call.end().exits(137);
}

fn attach_takes_words_in(e: &Engine) {
    let id = e.id();
    let script = "while read line; do echo got $line; [ $line = end ] && exit 6; done";
    e.ctr(&e.run_words(&["--detach"], &id, &["sh", "-c", script])).ok();
    let mut command = e.command(&["tasks", "attach", &id]);
    command.stdin(Pipe::piped());
    let mut call = pintle_engines::call::begin(command, &e.dir);
    let mut stdin = call.child.stdin.take().expect("a pipe");
    stdin.write_all(b"words\n").unwrap();
    // ctr sends words before it has opened stdout, and gives up opening it once the task has ended.
    wait_for("an answer", || call.stdout() == "got words\n");
    stdin.write_all(b"end\n").unwrap();
    let answer = call.end();
    assert_eq!((answer.code, answer.stdout.as_str()), (6, "got words\ngot end\n"), "{answer:?}");
}

fn a_killed_client_leaves_a_container_that_goes_on(e: &Engine) {
    let id = e.id();
    let mut call = e.begin(&e.run_words(&[], &id, &["sh", "-c", "while :; do echo tick; sleep 0.05; done"]));
    wait_for("its first words", || call.stdout().contains("tick"));
    call.child.kill().unwrap();
    call.child.wait().unwrap();
    let task = e.task(&id);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(task.status(), "RUNNING");
    task.exec(&[], &["true"]).ok();
    let again = e.begin(&["tasks", "attach", &id]);
    wait_for("more words", || again.stdout().contains("tick"));
    task.kill("KILL").ok();
    again.end().exits(137);
}

fn a_full_fifo_without_reader_does_not_hold_up_kill_and_delete(e: &Engine) {
    let id = e.id();
    e.ctr(&e.run_words(&["--detach"], &id, &["yes"])).ok();
    let task = e.task(&id);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(task.status(), "RUNNING");
    task.exec(&[], &["true"]).ok();
    task.kill("KILL").ok();
    task.end().exits(137);
}

fn a_terminal_is_attached_again(e: &Engine) {
    let id = e.id();
    let script = "while read line; do echo got $line; [ $line = end ] && exit 7; done";
    let (pty, mut client) = e.on_terminal(24, 80, &e.run_words(&["--tty"], &id, &["sh", "-c", script]));
    pty.write("first\r");
    pty.wait_for("got first");
    client.kill().unwrap();
    client.wait().unwrap();
    assert_eq!(e.task(&id).status(), "RUNNING");
    let (pty, mut client) = e.on_terminal(24, 80, &["tasks", "attach", &id]);
    pty.write("second\r");
    pty.wait_for("got second");
    pty.write("end\r");
    assert_eq!(client.wait().unwrap().code(), Some(7), "{}", pty.text());
}

fn a_reader_that_comes_back_gets_the_rest(e: &Engine) {
    let alone = Alone::start(
        e,
        &config(&["sh", "-c", "n=0; while [ $n -lt 20000 ]; do n=$((n+1)); echo line $n; done"]),
    );
    let path = e.dir.join("stdout");
    fifo(&path);
    let stderr = Output::new(e.dir.join("stderr"));
    let mut shim = alone.connect();
    let stdio = Stdio {
        stdout: path.display().to_string(),
        stderr: stderr.path.display().to_string(),
        ..Stdio::default()
    };
    // Somebody who reads has to be there when the fifo is opened.
    let open = || OpenOptions::new().read(true).custom_flags(0o4000).open(&path).expect("a fifo");
    let first = open();
    shim.create(&alone.id, &alone.bundle, &stdio, None).expect("a container");
    shim.ask("Start", &alone.id, "").expect("a start");
    drop(first);
    std::thread::sleep(Duration::from_millis(300));
    let mut second = open();
    let mut text = Vec::new();
    wait_for("the rest", || {
        let mut buffer = [0; 65536];
        while let Ok(n @ 1..) = std::io::Read::read(&mut second, &mut buffer) {
            text.extend_from_slice(&buffer[..n]);
        }
        text.ends_with(b"line 20000\n")
    });
    let lines: Vec<&str> = std::str::from_utf8(&text).unwrap().lines().collect();
    assert_eq!(lines.len(), 20_000, "nothing is lost while nobody reads");
    assert_eq!(shim.wait(&alone.id, "").0, 0);
    alone.end();
}

fn stdin_ends_when_it_is_closed_and_not_before(e: &Engine) {
    let alone = Alone::start(e, &config(&["sh", "-c", "cat; echo after"]));
    let (stdin, stdout) = (e.dir.join("stdin"), Output::new(e.dir.join("stdout")));
    fifo(&stdin);
    let mut shim = alone.connect();
    let stdio = Stdio {
        stdin: stdin.display().to_string(),
        stdout: stdout.path.display().to_string(),
        stderr: stdout.path.display().to_string(),
        ..Stdio::default()
    };
    // As containerd's client: it opens while the shim does.
    let opens = std::thread::spawn(move || OpenOptions::new().write(true).open(stdin).expect("a fifo"));
    shim.create(&alone.id, &alone.bundle, &stdio, None).expect("a container");
    let mut writer = opens.join().unwrap();
    shim.ask("Start", &alone.id, "").expect("a start");
    writer.write_all(b"one\n").unwrap();
    stdout.wait_for("one\n");
    // A writer that goes away is not the end: another may come.
    drop(writer);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(stdout.text(), "one\n");
    let mut writer = OpenOptions::new().write(true).open(e.dir.join("stdin")).unwrap();
    writer.write_all(b"two\n").unwrap();
    stdout.wait_for("two\n");
    shim.close_stdin(&alone.id, "").expect("a close");
    drop(writer);
    stdout.wait_for("after\n");
    assert_eq!(shim.wait(&alone.id, "").0, 0);
    alone.end();
}

fn close_before_the_start_is_not_lost(e: &Engine) {
    let alone = Alone::start(e, &config(&["sleep", "1000"]));
    let (stdin, stdout) = (e.dir.join("stdin"), Output::new(e.dir.join("stdout")));
    fifo(&stdin);
    let mut shim = alone.connect();
    shim.create(&alone.id, &alone.bundle, &Stdio::default(), None).expect("a container");
    shim.ask("Start", &alone.id, "").expect("a start");
    let stdio = Stdio {
        stdin: stdin.display().to_string(),
        stdout: stdout.path.display().to_string(),
        stderr: stdout.path.display().to_string(),
        ..Stdio::default()
    };
    let writer = OpenOptions::new().read(true).write(true).open(&stdin).unwrap();
    shim.exec(&alone.id, "x", &["sh", "-c", "cat; echo after"], &stdio).expect("an exec");
    shim.close_stdin(&alone.id, "x").expect("a close");
    shim.ask("Start", &alone.id, "x").expect("a start");
    drop(writer);
    stdout.wait_for("after\n");
    assert_eq!(shim.wait(&alone.id, "x").0, 0);
    alone.end();
}

fn a_terminal_changes_size_by_request(e: &Engine) {
    let mut config = config(&["sh", "-c", "echo ready; read line; stty size; read line; stty size"]);
    config["process"]["terminal"] = true.into();
    let alone = Alone::start(e, &config);
    let (stdin, stdout) = (e.dir.join("stdin"), Output::new(e.dir.join("stdout")));
    fifo(&stdin);
    let mut shim = alone.connect();
    let stdio = Stdio {
        stdin: stdin.display().to_string(),
        stdout: stdout.path.display().to_string(),
        terminal: true,
        ..Stdio::default()
    };
    let mut writer = OpenOptions::new().read(true).write(true).open(&stdin).unwrap();
    shim.create(&alone.id, &alone.bundle, &stdio, None).expect("a container");
    shim.ask("Start", &alone.id, "").expect("a start");
    stdout.wait_for("ready");
    for (width, height) in [(101, 42), (102, 43)] {
        let request = Message::new().text(1, &alone.id).number(3, width).number(4, height);
        shim.call("ResizePty", &request).expect("a resize");
        writer.write_all(b"\n").unwrap();
        stdout.wait_for(&format!("{height} {width}"));
    }
    assert_eq!(shim.wait(&alone.id, "").0, 0);
    alone.end();
}

fn a_resize_without_a_terminal_is_nothing(e: &Engine) {
    let task = e.idle();
    let request = Message::new().text(1, &task.id).number(3, 80).number(4, 24);
    pintle_engines::task::Shim::of(&task).call("ResizePty", &request).expect("nothing");
    task.remove();
}

fn a_child_that_holds_the_streams_does_not_hold_the_exit(e: &Engine) {
    // An exec's child goes on in the container, with the exec's streams.
    let task = e.idle();
    let call = e.begin(&task.exec_words("x", &[], &["sh", "-c", "echo said; sleep 1000 & exit 3"]));
    wait_for("its words", || call.stdout() == "said\n");
    let mut shim = pintle_engines::task::Shim::of(&task);
    assert_eq!(shim.wait(&task.id, "x").0, 3);
    task.remove();
    // The client waits for the streams, which end with the container.
    assert_eq!(call.end().stdout, "said\n");
}
