//! A task's life beyond run and kill: pause, ps, metrics, update, what may be deleted when, what is told of its end.

use pintle_engines::alone::{Alone, config};
use pintle_engines::place::has_controller;
use pintle_engines::task::{Shim, Stdio, code, status};
use pintle_engines::wire::{Message, Status};
use pintle_engines::{Check, Engine, check, happens, skip, wait_for};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub const CHECKS: &[Check] = &[
    check!(pause_freezes_and_resume_thaws),
    check!(a_paused_container_can_be_killed),
    check!(ps_lists_everyone_and_names_execs),
    check!(metrics_tell_what_was_used),
    check!(update_changes_a_limit),
    check!(an_out_of_memory_kill_is_told),
    check!(a_running_task_is_not_deleted),
    check!(a_task_is_deleted_once),
    check!(its_end_is_told_the_same_by_all),
    check!(wait_works_before_the_start_and_after_the_end),
    check!(what_was_never_started_can_be_deleted),
    check!(states_follow_each_other),
    check!(exec_ids_and_states),
    check!(there_is_nothing_of_what_is_unknown),
    check!(shutdown_waits_for_containers),
    check!(a_second_start_runs_a_task_again),
];

fn pause_freezes_and_resume_thaws(e: &Engine) {
    // Into a file, where nothing is on its way any more when it is frozen.
    let task = e.script("while :; do echo tick >>/ticks; echo ready; sleep 0.02; done");
    let ticks = PathBuf::from(format!("/proc/{}/root/ticks", task.pid()));
    let ticks = || fs::metadata(&ticks).expect("ticks").len();
    task.call("pause").ok();
    assert_eq!(task.status(), "PAUSED");
    let before = ticks();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(ticks(), before, "it ran on");
    task.exec(&[], &["true"]).fails("paused");
    task.call("resume").ok();
    assert_eq!(task.status(), "RUNNING");
    wait_for("it to run on", || ticks() > before);
    task.exec(&[], &["true"]).ok();
    task.remove();
}

fn a_paused_container_can_be_killed(e: &Engine) {
    let task = e.idle();
    task.call("pause").ok();
    task.kill("KILL").ok();
    // What thaws it differs with the hierarchy; at the latest this does, unless it has ended just now.
    if !happens(Duration::from_secs(2), || task.status() == "STOPPED") {
        task.call("resume");
    }
    task.end().exits(137);
}

fn ps_lists_everyone_and_names_execs(e: &Engine) {
    let task = e.script("sleep 1001 & sleep 1002 & echo ready; wait");
    e.ctr(&task.exec_words("someone", &["--detach"], &["sleep", "1003"])).ok();
    wait_for("four processes", || task.processes() == 4);
    let list = task.call("ps").ok().stdout;
    assert!(list.contains("someone"), "{list}");
    assert!(list.contains(&task.pid().to_string()), "{list}");
    task.remove();
}

fn metrics_tell_what_was_used(e: &Engine) {
    let task = e.script("n=0; while [ $n -lt 200000 ]; do n=$((n+1)); done; echo ready; sleep 1000");
    if has_controller("pids") {
        let file = format!("/sys/fs/cgroup/{}/{}/pids.current", e.namespace, task.id);
        wait_for("its second process", || fs::read_to_string(&file).is_ok_and(|text| text.trim() == "2"));
    }
    let answer = Shim::of(&task).ask("Stats", &task.id, "").expect("stats");
    let any = answer.message(1);
    assert!(any.text(1).ends_with("io.containerd.cgroups.v2.Metrics"), "{}", any.text(1));
    let text = e.ctr(&["tasks", "metrics", "--format", "json", &task.id]).ok().stdout;
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let usage = json["cpu"]["usage_usec"].as_u64().unwrap_or(0);
    let counted =
        fs::read_to_string(format!("/sys/fs/cgroup/{}/{}/cpu.stat", e.namespace, task.id)).expect("cpu.stat");
    let counted =
        counted.lines().find_map(|l| l.strip_prefix("usage_usec ")?.parse::<u64>().ok()).expect("usage");
    // The Go shim leaves out what no controller in use counts.
    if has_controller("cpu") || usage != 0 {
        assert!(usage <= counted && usage * 2 >= counted, "{usage} of {counted}: {text}");
    }
    if has_controller("memory") {
        assert!(json["memory"]["usage"].as_u64().is_some_and(|n| n > 0), "{text}");
        assert_eq!(json["pids"]["current"].as_u64(), Some(2), "{text}");
    }
    task.remove();
    task.call("metrics").fails("not found");
}

fn update_changes_a_limit(e: &Engine) {
    let task = e.idle();
    let mut shim = Shim::of(&task);
    let mut update = |resources: &str| {
        let any = Message::any(
            "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources",
            resources.as_bytes(),
        );
        shim.call("Update", &Message::new().text(1, &task.id).message(2, &any))
    };
    update("{}").expect("no change");
    update("{\"memory\": 7}").expect_err("a wrong type");
    if has_controller("pids") {
        update(r#"{"pids": {"limit": 77}}"#).expect("an update");
        let file = Path::new("/sys/fs/cgroup").join(&e.namespace).join(&task.id).join("pids.max");
        assert_eq!(fs::read_to_string(file).expect("pids.max").trim(), "77");
    }
    task.remove();
}

fn an_out_of_memory_kill_is_told(e: &Engine) {
    if !has_controller("memory") {
        skip("the unified hierarchy has no memory controller");
    }
    let listener = pintle_engines::events::Listener::start(e);
    let id = e.id();
    let words = ["sh", "-c", "echo ready; sleep 0.5; head -c 100000000 /dev/zero | tail"];
    e.ctr(&e.run_words(&["--detach", "--memory-limit", "8000000"], &id, &words)).ok();
    wait_for("the event", || listener.of(&id).iter().any(|topic| topic == "oom"));
    e.task(&id).end();
}

fn a_running_task_is_not_deleted(e: &Engine) {
    let task = e.idle();
    task.call("rm").fails("must be stopped before deletion");
    let status = Shim::of(&task).ask("Delete", &task.id, "").expect_err("it runs");
    assert!(status.message.contains("delete"), "{status:?}");
    task.exec(&[], &["true"]).ok();
    task.remove();
}

fn a_task_is_deleted_once(e: &Engine) {
    let task = e.start(&[], &["sh", "-c", "exit 3"]);
    task.end().exits(3);
    task.call("rm").fails("not found");
    e.ctr(&["containers", "rm", &task.id]).ok();
    e.ctr(&["containers", "rm", &task.id]).fails("not found");
}

fn its_end_is_told_the_same_by_all(e: &Engine) {
    let alone = Alone::start(e, &config(&["sh", "-c", "exit 9"]));
    let mut shim = alone.connect();
    let pid = shim.create(&alone.id, &alone.bundle, &Stdio::default(), None).expect("a container").number(1);
    assert_eq!(shim.ask("Start", &alone.id, "").expect("a start").number(1), pid);
    let (status, at) = shim.wait(&alone.id, "");
    assert_eq!(status, 9);
    let state = shim.ask("State", &alone.id, "").expect("a state");
    assert_eq!((state.number(3), state.number(4), state.number(9)), (pid, status::STOPPED, 9));
    assert_eq!(state.bytes(10), at, "exited_at of State");
    let gone = shim.ask("Delete", &alone.id, "").expect("a deletion");
    assert_eq!((gone.number(1), gone.number(2), gone.bytes(3)), (pid, 9, &at[..]));
    alone.wait_for("delete");
    assert_eq!(alone.topics(), ["create", "start", &format!("exit {}", alone.id), "delete"]);
    let exit = &alone.events()[2].fields;
    assert_eq!(
        (exit.text(1), exit.number(3), exit.number(4), exit.bytes(5)),
        (alone.id.clone(), pid, 9, &at[..])
    );
    alone.end();
}

fn wait_works_before_the_start_and_after_the_end(e: &Engine) {
    let alone = Alone::start(e, &config(&["sh", "-c", "exit 5"]));
    let mut shim = alone.connect();
    shim.create(&alone.id, &alone.bundle, &Stdio::default(), None).expect("a container");
    let mut other = alone.connect();
    let request = Message::new().text(1, &alone.id);
    let waits = [shim.begin("Wait", &request), shim.begin("Wait", &request)];
    let elsewhere = other.begin("Wait", &request);
    assert!(shim.client.is_pending(waits[0], Duration::from_millis(300)));
    shim.ask("Start", &alone.id, "").expect("a start");
    for number in waits {
        assert_eq!(shim.client.end(number).expect("an end").number(1), 5);
    }
    assert_eq!(other.client.end(elsewhere).expect("an end").number(1), 5);
    assert_eq!(shim.wait(&alone.id, "").0, 5, "after the end");
    alone.end();
}

fn what_was_never_started_can_be_deleted(e: &Engine) {
    let alone = Alone::start(e, &config(&["sleep", "1000"]));
    let mut shim = alone.connect();
    shim.create(&alone.id, &alone.bundle, &Stdio::default(), None).expect("a container");
    assert_eq!(shim.status(&alone.id, ""), status::CREATED);
    shim.ask("Delete", &alone.id, "").expect("a deletion");
    assert_eq!(shim.ask("State", &alone.id, "").expect_err("it is gone").code, code::NOT_FOUND);
    alone.end();
}

fn states_follow_each_other(e: &Engine) {
    let alone = Alone::start(e, &config(&["sleep", "1000"]));
    let mut shim = alone.connect();
    shim.create(&alone.id, &alone.bundle, &Stdio::default(), None).expect("a container");
    shim.create(&alone.id, &alone.bundle, &Stdio::default(), None).expect_err("it is there");
    assert_eq!(shim.status(&alone.id, ""), status::CREATED);
    shim.ask("Start", &alone.id, "").expect("a start");
    assert_eq!(shim.status(&alone.id, ""), status::RUNNING);
    shim.ask("Start", &alone.id, "").expect_err("it runs");
    shim.ask("Pause", &alone.id, "").expect("a pause");
    assert_eq!(shim.status(&alone.id, ""), status::PAUSED);
    shim.ask("Resume", &alone.id, "").expect("a resume");
    assert_eq!(shim.status(&alone.id, ""), status::RUNNING);
    let state = shim.ask("State", &alone.id, "").expect("a state");
    assert_eq!((state.text(1), state.text(2)), (alone.id.clone(), alone.bundle.display().to_string()));
    shim.kill(&alone.id, "", 9).expect("a kill");
    assert_eq!(shim.wait(&alone.id, "").0, 137);
    assert_eq!(shim.status(&alone.id, ""), status::STOPPED);
    shim.ask("Pause", &alone.id, "").expect_err("it is stopped");
    alone.wait_for("resumed");
    alone.end();
}

fn exec_ids_and_states(e: &Engine) {
    let alone = Alone::start(e, &config(&["sleep", "1000"]));
    let mut shim = alone.connect();
    shim.create(&alone.id, &alone.bundle, &Stdio::default(), None).expect("a container");
    shim.ask("Start", &alone.id, "").expect("a start");
    shim.exec(&alone.id, "x", &["sh", "-c", "exit 4"], &Stdio::default()).expect("an exec");
    let again = shim.exec(&alone.id, "x", &["true"], &Stdio::default()).expect_err("it is there");
    assert_eq!(again.code, code::ALREADY_EXISTS);
    assert_eq!(shim.status(&alone.id, "x"), status::CREATED);
    let early = shim.kill(&alone.id, "x", 9).expect_err("it is not started");
    assert_eq!(early.code, code::FAILED_PRECONDITION, "{early:?}");
    let wait = shim.begin("Wait", &Message::new().text(1, &alone.id).text(2, "x"));
    let pid = shim.ask("Start", &alone.id, "x").expect("a start").number(1);
    let end = shim.client.end(wait).expect("an end");
    assert_eq!(end.number(1), 4);
    let state = shim.ask("State", &alone.id, "x").expect("a state");
    assert_eq!((state.number(3), state.number(4), state.number(9)), (pid, status::STOPPED, 4));
    assert_eq!(state.bytes(10), end.bytes(2), "exited_at of State");
    assert_eq!(state.text(1), "x", "an exec's id stands where a container's does");
    let late = shim.kill(&alone.id, "x", 9).expect_err("it is gone");
    assert_eq!(late.code, code::NOT_FOUND, "{late:?}");
    let gone = shim.ask("Delete", &alone.id, "x").expect("a deletion");
    assert_eq!((gone.number(1), gone.number(2), gone.bytes(3)), (pid, 4, end.bytes(2)));
    assert_eq!(shim.ask("State", &alone.id, "x").expect_err("it is deleted").code, code::NOT_FOUND);
    // And what is registered can be deleted without a start.
    shim.exec(&alone.id, "y", &["true"], &Stdio::default()).expect("an exec");
    shim.ask("Delete", &alone.id, "y").expect("a deletion");
    alone.wait_for("exit x");
    let topics = alone.topics();
    assert_eq!(topics[..5], ["create", "start", "exec-added", "exec-started", "exit x"], "{topics:?}");
    alone.end();
}

/// Clients go by the number, or by the words where the Go shim has no number.
fn not_found(status: &Status) -> bool {
    status.code == code::NOT_FOUND || status.message.ends_with("not found")
}

fn there_is_nothing_of_what_is_unknown(e: &Engine) {
    let alone = Alone::start(e, &config(&["sleep", "1000"]));
    let mut shim = alone.connect();
    for method in [
        "State",
        "Start",
        "Delete",
        "Pids",
        "Pause",
        "Resume",
        "Kill",
        "CloseIO",
        "ResizePty",
        "Stats",
        "Wait",
    ] {
        let status = shim.ask(method, "nosuch", "").expect_err(method);
        assert!(not_found(&status), "{method}: {status:?}");
    }
    shim.create(&alone.id, &alone.bundle, &Stdio::default(), None).expect("a container");
    for method in ["State", "Start", "Delete", "Kill", "CloseIO", "ResizePty", "Wait"] {
        let status = shim.ask(method, &alone.id, "nosuch").expect_err(method);
        assert!(not_found(&status), "{method}: {status:?}");
    }
    alone.end();
}

fn shutdown_waits_for_containers(e: &Engine) {
    let alone = Alone::start(e, &config(&["sleep", "1000"]));
    let mut shim = alone.connect();
    shim.create(&alone.id, &alone.bundle, &Stdio::default(), None).expect("a container");
    shim.ask("Start", &alone.id, "").expect("a start");
    shim.call("Shutdown", &Message::new().text(1, &alone.id)).expect("an answer");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(shim.status(&alone.id, ""), status::RUNNING);
    alone.end();
}

fn a_second_start_runs_a_task_again(e: &Engine) {
    let task = e.start(&[], &["sh", "-c", "exit 3"]);
    for _ in 0..3 {
        task.end().exits(3);
        e.ctr(&["tasks", "start", "--detach", &task.id]).ok();
    }
    task.end().exits(3);
    e.ctr(&["containers", "rm", &task.id]).ok();
}
