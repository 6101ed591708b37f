//! Daemons that stop, die and come back; shims that die. A container goes on, or is reported dead and cleaned up.

use pintle_engines::events::Listener;
use pintle_engines::left::kill;
use pintle_engines::{Check, Engine, Task, check, full, happens, left, wait_for};
use std::time::Duration;

pub const CHECKS: &[Check] = &[
    check!(own containers_outlive_a_daemon_that_stops),
    check!(own containers_outlive_a_daemon_that_is_killed),
    check!(own what_ends_while_the_daemon_is_down_is_seen_afterwards),
    check!(own output_goes_on_while_the_daemon_is_down),
    check!(own a_terminal_outlives_the_daemon),
    check!(own a_shim_that_died_with_the_daemon_down_is_cleaned_up),
    check!(a_killed_shim_is_a_dead_container),
    check!(a_killed_shim_takes_execs_and_a_pod_along),
    check!(own the_daemon_is_killed_at_random_moments),
    check!(shims_are_killed_at_random_moments),
];

fn alive(pid: i32) -> bool {
    pintle_tests::alive(pid)
}

/// It runs, takes an exec, a signal and its end.
#[track_caller]
fn works(task: &Task) {
    assert_eq!(task.status(), "RUNNING");
    task.exec(&[], &["sh", "-c", "exit 12"]).exits(12);
    task.kill("USR1").ok();
    task.wait_for("signal");
    task.remove();
}

const LISTENS: &str = "trap 'echo signal' USR1; echo ready; while :; do sleep 1000 & wait; done";

fn containers_outlive_a_daemon_that_stops(e: &Engine) {
    let task = e.script(LISTENS);
    e.daemon.stop();
    e.daemon.again();
    works(&task);
}

fn containers_outlive_a_daemon_that_is_killed(e: &Engine) {
    let tasks = [e.script(LISTENS), e.script(LISTENS), e.script(LISTENS)];
    for _ in 0..3 {
        e.daemon.kill();
        e.daemon.again();
    }
    tasks.iter().for_each(works);
}

fn what_ends_while_the_daemon_is_down_is_seen_afterwards(e: &Engine) {
    let scripts = [0, 1, 7, 255].map(|code| format!("while [ ! -e /go ]; do sleep 0.02; done; exit {code}"));
    let tasks = scripts.each_ref().map(|script| e.start(&[], &["sh", "-c", script]));
    let killed = e.idle();
    let lives = e.script(LISTENS);
    let pids = tasks.each_ref().map(Task::pid);
    let victim = killed.pid();
    e.daemon.kill();
    for pid in pids {
        std::fs::write(format!("/proc/{pid}/root/go"), "").expect("a sign");
    }
    kill(victim);
    // containerd-shim-runc-v2 gives up an event after 15 s; State and Wait still know.
    std::thread::sleep(Duration::from_secs(full(3, 30)));
    e.daemon.again();
    for (task, code) in tasks.iter().zip([0, 1, 7, 255]) {
        task.end().exits(code);
    }
    killed.end().exits(137);
    works(&lives);
}

fn output_goes_on_while_the_daemon_is_down(e: &Engine) {
    let task = e.script("echo ready; while :; do echo tick; sleep 0.02; done");
    e.daemon.kill();
    let before = task.output().len();
    wait_for("more output", || task.output().len() > before + 50);
    e.daemon.again();
    let before = task.output().len();
    wait_for("more output", || task.output().len() > before + 50);
    task.remove();
}

fn a_terminal_outlives_the_daemon(e: &Engine) {
    let id = e.id();
    let script = "while read line; do echo got $line; [ $line = end ] && exit 7; done";
    let (pty, mut client) = e.on_terminal(24, 80, &e.run_words(&["--tty"], &id, &["sh", "-c", script]));
    pty.write("first\r");
    pty.wait_for("got first");
    // First: a client that sees its daemon go away takes the fifos with it.
    client.kill().unwrap();
    client.wait().unwrap();
    e.daemon.kill();
    e.daemon.again();
    let (pty, mut client) = e.on_terminal(24, 80, &["tasks", "attach", &id]);
    pty.write("second\r");
    pty.wait_for("got second");
    pty.write("end\r");
    assert_eq!(client.wait().unwrap().code(), Some(7), "{}", pty.text());
}

fn a_shim_that_died_with_the_daemon_down_is_cleaned_up(e: &Engine) {
    let (task, lives) = (e.idle(), e.script(LISTENS));
    let init = task.pid();
    let shim = pintle_engines::task::Shim::of(&task).pid();
    e.daemon.kill();
    kill(shim);
    e.daemon.again();
    wait_for("its process to end", || !alive(init));
    wait_for("its task to go", || task.status().is_empty() || task.status() == "STOPPED");
    wait_for("its bundle to go", || !e.bundle(&task.id).exists());
    works(&lives);
}

fn a_killed_shim_is_a_dead_container(e: &Engine) {
    let listener = Listener::start(e);
    let task = e.idle();
    let init = task.pid();
    e.shims().into_iter().for_each(kill);
    wait_for("its process to end", || !alive(init));
    wait_for("its task to go", || task.status().is_empty());
    listener.wait_for(&task.id, &["create", "start", &format!("exit {}", task.id), "delete"]);
    let exit = listener.events().into_iter().find(|event| event.topic == "exit").expect("just seen");
    assert_eq!(exit.body["exit_status"], 137);
    wait_for("its bundle to go", || !e.bundle(&task.id).exists());
    // And the container can run again.
    e.ctr(&["tasks", "start", "--detach", &task.id]).ok();
    assert_eq!(task.status(), "RUNNING");
    task.remove();
}

fn a_killed_shim_takes_execs_and_a_pod_along(e: &Engine) {
    let annotation = format!("io.kubernetes.cri.sandbox-id={}-pod", e.namespace);
    let tasks: Vec<Task> =
        (0..3).map(|_| e.start(&["--annotation", &annotation], &["sleep", "1000"])).collect();
    assert_eq!(e.shims().len(), 1, "shims");
    e.ctr(&tasks[0].exec_words("x", &["--detach"], &["sleep", "1001"])).ok();
    let pids: Vec<i32> = tasks.iter().map(Task::pid).collect();
    kill(e.shims()[0]);
    wait_for("all processes to end", || !pids.iter().any(|pid| alive(*pid)));
    wait_for("all tasks to go", || tasks.iter().all(|task| task.status().is_empty()));
    let exec_lives = || left::processes().iter().any(|(_, words)| words.iter().any(|w| w == "1001"));
    wait_for("the exec to end", || !exec_lives());
}

fn the_daemon_is_killed_at_random_moments(e: &Engine) {
    for n in 0..full(6, 50) {
        let id = e.id();
        let call = e.begin(&e.run_words(&["--detach"], &id, &["sleep", "1000"]));
        std::thread::sleep(random(150));
        e.note_sockets();
        e.daemon.kill();
        // To its end, at which it takes its own mounts away.
        call.end();
        e.daemon.again();
        let task = e.task(&id);
        settled(&task, n);
        remove(e, &id, n);
    }
}

fn shims_are_killed_at_random_moments(e: &Engine) {
    for n in 0..full(6, 50) {
        let id = e.id();
        let call = e.begin(&e.run_words(&["--detach"], &id, &["sleep", "1000"]));
        std::thread::sleep(random(150));
        e.note_sockets();
        e.shims().into_iter().for_each(kill);
        call.end();
        settled(&e.task(&id), n);
        remove(e, &id, n);
    }
    // What nobody knew of is cleared away by the next one.
    e.idle().remove();
}

/// What is there goes, by force.
#[track_caller]
fn remove(e: &Engine, id: &str, n: usize) {
    let mut last = Vec::new();
    let gone = happens(Duration::from_secs(20), || {
        last = vec![e.ctr(&["tasks", "rm", "--force", id]), e.ctr(&["containers", "rm", id])];
        last.iter().all(|answer| answer.code == 0 || answer.stderr.contains("not found"))
    });
    assert!(gone, "round {n}: {id} is not removed: {last:?}");
    assert!(happens(Duration::from_secs(20), || e.shims().is_empty()), "round {n}: the shim of {id} stays");
}

/// It works, or there is no task.
#[track_caller]
fn settled(task: &Task, n: usize) {
    let mut last = String::new();
    let fine = happens(Duration::from_secs(20), || {
        last = task.status();
        match last.as_str() {
            "RUNNING" => task.exec(&[], &["true"]).code == 0,
            // Created, when the client died before it could start it.
            "" | "STOPPED" | "CREATED" => true,
            _ => false,
        }
    });
    assert!(fine, "round {n}: it stays {last:?}");
}

/// Up to so many milliseconds.
fn random(most: u64) -> Duration {
    Duration::from_millis(fastrand::u64(..most))
}
