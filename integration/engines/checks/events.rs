//! Events: each once, in order, and the end of the first process last; a daemon that is away for a while gets them all.

use pintle_engines::alone::{Alone, config};
use pintle_engines::events::Listener;
use pintle_engines::task::Stdio;
use pintle_engines::{Check, Engine, check, full, wait_for};
use std::time::Duration;

pub const CHECKS: &[Check] = &[
    check!(short_runs_have_four_events_each_in_order),
    check!(execs_have_theirs_in_order),
    check!(the_end_of_the_first_process_is_last),
    check!(pause_and_resume_are_told),
    check!(a_create_that_fails_tells_nothing),
    check!(events_wait_for_a_daemon_that_is_away),
];

fn short_runs_have_four_events_each_in_order(e: &Engine) {
    let listener = Listener::start(e);
    let mut ids = Vec::new();
    for n in 0..full(50, 1000) {
        let (id, code) = (e.id(), n % 256);
        e.ctr(&e.run_words(&["--rm"], &id, &["sh", "-c", &format!("exit {code}")])).exits(code);
        ids.push((id, code));
    }
    for (id, code) in ids {
        listener.wait_for(&id, &["create", "start", &format!("exit {id}"), "delete"]);
        let exit = listener
            .events()
            .into_iter()
            .find(|e| e.topic == "exit" && e.text("id") == id)
            .expect("just seen");
        assert_eq!(exit.body["exit_status"].as_i64().unwrap_or(0), i64::from(code), "{exit:?}");
    }
    wait_for("the last shim to go", || e.shims().is_empty());
}

fn execs_have_theirs_in_order(e: &Engine) {
    let listener = Listener::start(e);
    let task = e.idle();
    for n in 0..full(10, 100) {
        let name = format!("x{n}");
        e.ctr(&task.exec_words(&name, &[], &["true"])).ok();
    }
    task.remove();
    wait_for("the last event", || listener.of(&task.id).last().is_some_and(|topic| topic == "delete"));
    let topics = listener.of(&task.id);
    for n in 0..full(10, 100) {
        let exit = format!("exit x{n}");
        let at = topics.iter().position(|t| *t == exit).unwrap_or_else(|| panic!("no {exit}: {topics:?}"));
        assert_eq!(topics.iter().filter(|t| **t == exit).count(), 1, "{topics:?}");
        let started = topics[..at].iter().filter(|t| *t == "exec-started").count();
        assert!(started > n, "{exit} before its start: {topics:?}");
    }
}

fn the_end_of_the_first_process_is_last(e: &Engine) {
    // In the machine's pid namespace execs do not end with it by themselves; in its own they all end at once.
    for shared in [false, true] {
        let listener = Listener::start(e);
        let flags: &[&str] = if shared { &["--with-ns", "pid:/proc/1/ns/pid"] } else { &[] };
        let task = e.start(flags, &["sleep", "1000"]);
        for n in 0..8 {
            let name = format!("x{n}");
            e.ctr(&task.exec_words(&name, &["--detach"], &["sleep", "1000"])).ok();
        }
        task.kill("KILL").ok();
        task.end().exits(137);
        wait_for("the last event", || listener.of(&task.id).last().is_some_and(|topic| topic == "delete"));
        let topics = listener.of(&task.id);
        let exits: Vec<&String> = topics.iter().filter(|topic| topic.starts_with("exit")).collect();
        assert_eq!(exits.len(), 9, "{topics:?}");
        assert_eq!(*exits[8], format!("exit {}", task.id), "{topics:?}");
    }
}

fn pause_and_resume_are_told(e: &Engine) {
    let listener = Listener::start(e);
    let task = e.idle();
    task.call("pause").ok();
    task.call("resume").ok();
    task.remove();
    let exit = format!("exit {}", task.id);
    listener.wait_for(&task.id, &["create", "start", "paused", "resumed", &exit, "delete"]);
}

fn a_create_that_fails_tells_nothing(e: &Engine) {
    let listener = Listener::start(e);
    let id = e.id();
    e.ctr(&e.run_words(&["--detach"], &id, &["/nosuch"])).fails("no such file or directory");
    e.run(&[], &["true"]).ok();
    wait_for("the events of another", || listener.events().iter().any(|event| event.topic == "delete"));
    let topics = listener.of(&id);
    assert!(!topics.iter().any(|topic| topic == "create" || topic == "start"), "{topics:?}");
}

fn events_wait_for_a_daemon_that_is_away(e: &Engine) {
    let alone = Alone::start(e, &config(&["sleep", "1000"]));
    let mut shim = alone.connect();
    shim.create(&alone.id, &alone.bundle, &Stdio::default(), None).expect("a container");
    shim.ask("Start", &alone.id, "").expect("a start");
    alone.wait_for("start");
    let away = alone.away();
    for n in 0..20 {
        let name = format!("x{n}");
        shim.exec(&alone.id, &name, &["true"], &Stdio::default()).expect("an exec");
        shim.ask("Start", &alone.id, &name).expect("a start");
        shim.wait(&alone.id, &name);
        shim.ask("Delete", &alone.id, &name).expect("a deletion");
    }
    std::thread::sleep(Duration::from_secs(full(3, 30)));
    away.back();
    alone.wait_for("exit x19");
    let topics = alone.topics();
    let after: Vec<&str> = topics.iter().skip(2).map(String::as_str).collect();
    let expected: Vec<String> = (0..20)
        .flat_map(|n| ["exec-added".to_owned(), "exec-started".to_owned(), format!("exit x{n}")])
        .collect();
    assert_eq!(after, expected);
    alone.end();
}
