//! The processors that processes run on: all of the cgroup's, whatever the caller was confined to, unless
//! `execCPUAffinity` says otherwise. Every test needs two processors.

use pintle_tests::*;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::{Value, json};

/// This machine's first two processors that are ours.
fn two() -> (usize, usize) {
    let ours = sched_getaffinity(None).expect("an affinity");
    let mut numbers = (0..CpuSet::MAX_CPU).filter(|n| ours.is_set(*n));
    match (numbers.next(), numbers.next()) {
        (Some(first), Some(second)) => (first, second),
        _ => skip("one processor only"),
    }
}

/// Calls the runtime from a thread that is confined to one processor.
fn confined<T>(processor: usize, call: impl FnOnce() -> T) -> T {
    let before = sched_getaffinity(None).expect("an affinity");
    let mut one = CpuSet::new();
    one.set(processor);
    sched_setaffinity(None, &one).expect("a processor of ours");
    let result = call();
    sched_setaffinity(None, &before).expect("as before");
    result
}

fn allowed(report: &Value) -> &str {
    report["status"]["Cpus_allowed_list"].as_str().expect("a list")
}

/// A process that reports, with this affinity.
fn process(affinity: &Value) -> Value {
    json!({"args": ["/probe", "report"], "cwd": "/", "execCPUAffinity": affinity})
}

#[test]
fn a_confined_caller_does_not_confine_the_container() {
    behaviour(|| {
        let (first, _) = two();
        let t = Sandbox::new();
        let free = t.report(&t.bundle());
        let confined = confined(first, || t.report(&t.bundle()));
        assert_eq!(allowed(&confined), allowed(&free));
        assert_ne!(allowed(&confined), first.to_string());
    });
}

#[test]
fn a_confined_caller_does_not_confine_an_exec() {
    behaviour(|| {
        let (first, _) = two();
        let t = Sandbox::new();
        let c = t.waiting();
        let report = confined(first, || c.exec(&["/probe", "report"])).ok().json();
        assert_ne!(allowed(&report), first.to_string());
    });
}

#[test]
fn an_exec_runs_where_its_affinity_says() {
    let (first, second) = (0, 1);
    let cases = [
        ("initial", json!({"initial": "1"}), second),
        ("final", json!({"final": "0"}), first),
        ("both", json!({"initial": "0", "final": "1"}), second),
        ("blanks, and a processor that is not there", json!({"final": " 1 , 999,"}), second),
    ];
    rows(cases.map(|(n, affinity, expect)| (n, (affinity, expect))), |(affinity, expect)| {
        if two() != (first, second) {
            skip("the first two processors are not ours");
        }
        let t = Sandbox::new();
        let report = t.waiting().exec_process(&process(&affinity)).ok().json();
        assert_eq!(allowed(&report), expect.to_string());
    });
}

#[test]
fn the_containers_affinity_is_for_exec_and_not_for_itself() {
    behaviour(|| {
        let (first, second) = two();
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.set("/process/execCPUAffinity", json!({"initial": first.to_string(), "final": second.to_string()}));
        assert_ne!(allowed(&t.report(&b)), second.to_string());
        b.args(&["/probe", "wait"]);
        let c = t.start(&b);
        let second = second.to_string();
        assert_eq!(allowed(&c.exec(&["/probe", "report"]).ok().json()), second);
        for nothing in [json!(null), json!({}), json!({"initial": ""})] {
            assert_eq!(allowed(&c.exec_process(&process(&nothing)).ok().json()), second, "{nothing}");
        }
        let own = process(&json!({"initial": first.to_string()}));
        assert_eq!(allowed(&c.exec_process(&own).ok().json()), first.to_string());
    });
}

#[test]
fn the_affinity_before_the_cgroup_is_told_in_the_debug_log() {
    behaviour(|| {
        let (first, second) = two();
        let t = Sandbox::new();
        let mut b = t.bundle();
        let affinity = json!({"initial": first.to_string(), "final": second.to_string()});
        b.set("/process/execCPUAffinity", affinity).args(&["/probe", "wait"]);
        let c = t.start(&b);
        let mut command = t.command();
        command.args(["--debug", "exec", &c.id, "/probe", "print", "done"]);
        let said = t.finish(command).ok();
        let message = |record: &Value| record["msg"].as_str().unwrap_or_default().to_owned();
        let line = said.log.iter().map(message).find(|m| m.contains("nsexec") && m.contains("]: affinity: "));
        let line = line.expect("a line");
        assert!(line.ends_with(&format!("]: affinity: {:#x}", 1u64 << first)), "{line}");
    });
}

#[test]
fn a_wrong_affinity_is_an_error() {
    let cases = [
        (
            "initial",
            json!({"initial": "0,x"}),
            "bad CPUAffinity.Initial: strconv.ParseUint: parsing \"x\": invalid syntax",
        ),
        ("final", json!({"final": "3-2"}), "bad CPUAffinity.Final: invalid range: 3-2"),
        (
            "too large",
            json!({"final": "1024"}),
            "bad CPUAffinity.Final: values larger than 1023 are not supported",
        ),
        (
            "no such processor at first",
            json!({"initial": "999"}),
            "unable to start container process: error starting setns process: error setting initial CPU affinity: \
             invalid argument",
        ),
        (
            "no such processor in the end",
            json!({"final": "999"}),
            "unable to start container process: error setting final CPU affinity: invalid argument",
        ),
    ];
    rows(cases.map(|(n, affinity, text)| (n, (affinity, text))), |(affinity, text)| {
        let t = Sandbox::new();
        t.waiting().exec_process(&process(&affinity)).fails(255, text);
    });
}

#[test]
fn a_wrong_affinity_in_the_config_is_an_error_of_create() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.set("/process/execCPUAffinity", json!({"initial": "-"}));
        t.try_create(&b).fails(1, "bad CPUAffinity.Initial: strconv.ParseUint: parsing \"\": invalid syntax");
    });
}
