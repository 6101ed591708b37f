//! Many containers in one shim, as Kubernetes has them.

use pintle_engines::{Check, Engine, Task, check, wait_for};
use std::time::{Duration, Instant};

pub const CHECKS: &[Check] = &[
    check!(ten_containers_have_one_shim),
    check!(runcs_own_annotation_groups_too),
    check!(the_first_may_end_first),
    check!(one_containers_trouble_is_not_anothers),
];

fn pod<'a>(e: &'a Engine, key: &str, count: usize) -> Vec<Task<'a>> {
    let annotation = format!("{key}={}-pod", e.namespace);
    (0..count)
        .map(|n| {
            e.start(&["--annotation", &annotation], &["sh", "-c", &format!("echo {n}; exec sleep 1000")])
        })
        .collect()
}

const SANDBOX: &str = "io.kubernetes.cri.sandbox-id";

fn ten_containers_have_one_shim(e: &Engine) {
    let tasks = pod(e, SANDBOX, 10);
    assert_eq!(e.shims().len(), 1, "shims");
    for (n, task) in tasks.iter().enumerate() {
        task.wait_for(&format!("{n}\n"));
        assert_eq!(task.processes(), 1);
        task.exec(&[], &["sh", "-c", &format!("exit {n}")]).exits(n as i32);
    }
    // In another order than they came.
    for n in [3, 9, 1, 0, 5, 2, 8, 4, 7, 6] {
        tasks[n].remove();
    }
    wait_for("the shim to end", || e.shims().is_empty());
}

fn runcs_own_annotation_groups_too(e: &Engine) {
    let tasks = pod(e, "io.containerd.runc.v2.group", 2);
    assert_eq!(e.shims().len(), 1, "shims");
    let other = e.idle();
    assert_eq!(e.shims().len(), 2, "shims");
    tasks.iter().for_each(Task::remove);
    other.remove();
}

fn the_first_may_end_first(e: &Engine) {
    let tasks = pod(e, SANDBOX, 3);
    tasks[0].remove();
    for task in &tasks[1..] {
        task.exec(&[], &["true"]).ok();
    }
    // And the pod takes another, as a restarted container.
    let again = pod(e, SANDBOX, 1);
    assert_eq!(e.shims().len(), 1, "shims");
    again[0].remove();
    tasks[1..].iter().for_each(Task::remove);
}

fn one_containers_trouble_is_not_anothers(e: &Engine) {
    let tasks = pod(e, SANDBOX, 3);
    // One is frozen, and execs in it can't go on; one is full of output that nobody reads.
    tasks[0].call("pause").ok();
    let stuck = e.begin(&tasks[0].exec_words("x", &[], &["true"]));
    let begin = Instant::now();
    tasks[1].exec(&[], &["true"]).ok();
    tasks[1].kill("KILL").ok();
    tasks[1].end().exits(137);
    assert!(begin.elapsed() < Duration::from_secs(10), "it took {:?}", begin.elapsed());
    tasks[0].call("resume").ok();
    stuck.end();
    tasks[2].remove();
    tasks[0].remove();
}
