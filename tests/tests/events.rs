//! `events`: the shape of what is measured, when running out of memory is told, and when the stream ends.

use pintle_tests::*;
use std::fs;
use std::process::{Child, Command, Stdio};

/// The keys of `events --stats` in their order, as runc 1.4.3 writes them. `?`: left out when zero. Of `raw` only the
/// name: the kernel decides what memory.stat holds.
const KEYS: &str = "\
    type id data \
    cpu usage total? kernel user throttling? periods? throttledPeriods? throttledTime? \
    psi some avg10 avg60 avg300 total full avg10 avg60 avg300 total \
    cpuset cpu_exclusive mem_hardwall mem_exclusive memory_migrate memory_spread_page memory_spread_slab \
    memory_pressure sched_load_balance sched_relax_domain_level \
    memory cache? usage? limit? usage? max? failcnt? swap? limit? usage? failcnt? raw? \
    psi some avg10 avg60 avg300 total full avg10 avg60 avg300 total \
    pids current? limit? \
    blkio ioServiceBytesRecursive? ioServicedRecursive? \
    psi some avg10 avg60 avg300 total full avg10 avg60 avg300 total \
    hugetlb 1GB? usage? failcnt? 2MB? usage? failcnt? intel_rdt network_interfaces";

/// The keys in the order of the text. Those of `raw` and of lists are left out.
fn keys(text: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let mut skipped = 0;
    let mut rest = text;
    while let Some(at) = rest.find(['"', '{', '}', '[', ']']) {
        let (mark, after) = (&rest[at..=at], &rest[at + 1..]);
        rest = after;
        match mark {
            "\"" => {
                let end = after.find('"').expect("a string ends");
                rest = &after[end + 1..];
                if rest.starts_with(':') && skipped == 0 {
                    keys.push(after[..end].to_owned());
                }
            }
            "{" if skipped == 0 && keys.last().is_none_or(|key| key != "raw") => {}
            "{" | "[" => skipped += 1,
            _ if skipped > 0 => skipped -= 1,
            _ => {}
        }
    }
    keys
}

#[track_caller]
fn assert_keys(text: &str) {
    let told = keys(text);
    let mut next = told.iter().peekable();
    for key in KEYS.split_whitespace() {
        let (name, may_lack) = key.strip_suffix('?').map_or((key, false), |name| (name, true));
        if next.peek().is_some_and(|told| *told == name) {
            next.next();
        } else {
            assert!(may_lack, "{name} is missing before {:?} in {text}", next.peek());
        }
    }
    assert_eq!(next.next(), None, "more than expected in {text}");
}

fn needs_all() {
    ["memory", "cpu", "cpuset", "pids", "io", "hugetlb"].into_iter().for_each(needs_controller);
}

#[test]
fn what_is_measured_has_runcs_keys_in_runcs_order() {
    let limited = json!({
        "memory": {"limit": 67_108_864},
        "cpu": {"quota": 10_000, "period": 100_000},
        "pids": {"limit": 20},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}],
    });
    rows([("without limits", json!({})), ("limited", limited)], |resources| {
        let limited = resources["memory"]["limit"].as_u64();
        if limited.is_some() {
            needs_all();
        }
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.args(&["/probe", "wait"]).set("/linux/resources", resources.clone());
        let c = t.start(&b);
        c.exec(&["/probe", "report"]).ok();
        let output = t.call(["events", "--stats", &c.id]).ok();
        assert_keys(&output.stdout);
        let data = &output.json()["data"];
        if limited.is_none() {
            return;
        }
        assert!(data["memory"]["usage"]["usage"].as_u64().is_some_and(|usage| usage > 0), "{data}");
        assert_eq!(data["memory"]["usage"]["limit"].as_u64(), limited);
        assert_eq!(data["pids"]["limit"].as_u64(), resources["pids"]["limit"].as_u64());
        assert_eq!(data["pids"]["current"].as_u64(), Some(1));
    });
}

/// `events` beside a container, its lines in a file.
struct Stream {
    child: Child,
    file: std::path::PathBuf,
}

impl Stream {
    fn new(t: &Sandbox, id: &str, interval: &str) -> Self {
        if Runtime::under_test() != Runtime::Pintle {
            // Without it runc's stream is empty.
            needs_controller("memory");
        }
        let file = t.dir.join(format!("{id}.events"));
        let mut command: Command = t.command();
        command.args(["events", "--interval", interval, id]).stdout(fs::File::create(&file).unwrap());
        Self { child: command.stderr(Stdio::null()).spawn().unwrap(), file }
    }

    fn count(&self, kind: &str) -> usize {
        let mark = format!(r#"{{"type":"{kind}","#);
        fs::read_to_string(&self.file).unwrap().lines().filter(|line| line.starts_with(&mark)).count()
    }

    /// It ends by itself.
    #[track_caller]
    fn end(mut self) {
        wait_for("the end of the stream", || self.child.try_wait().unwrap().is_some());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Stream {
    /// Until it watches: with an interval that ends, what it prints shows it.
    fn wait_for_stats(&self) {
        wait_for("the first measurement", || self.count("stats") > 0);
    }
}

#[test]
fn every_kill_for_want_of_memory_is_told_once() {
    behaviour(|| {
        needs_controller("memory");
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.args(&["/probe", "wait"]);
        b.set("/linux/resources/memory", json!({"limit": 33_554_432, "swap": 33_554_432}));
        let c = t.start(&b);
        let stream = Stream::new(&t, &c.id, "500ms");
        stream.wait_for_stats();
        for count in 1..=2 {
            c.exec(&["/probe", "eat"]).exits(137);
            wait_for("the event", || stream.count("oom") >= count);
        }
        let told = format!(r#"{{"type":"oom","id":"{}"}}"#, c.id);
        let text = fs::read_to_string(&stream.file).unwrap();
        let lines: Vec<_> = text.lines().filter(|line| line.contains("oom\",")).collect();
        c.kill("KILL").ok();
        stream.end();
        assert_eq!(lines, [&told, &told]);
    });
}

#[test]
fn a_container_that_dies_for_want_of_memory_is_told_before_the_end() {
    behaviour(|| {
        needs_controller("memory");
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.args(&["/probe", "eat"]);
        b.set("/linux/resources/memory", json!({"limit": 33_554_432, "swap": 33_554_432}));
        let c = t.create(&b);
        let stream = Stream::new(&t, &c.id, "500ms");
        stream.wait_for_stats();
        c.start();
        wait_for("the event", || stream.count("oom") > 0);
        stream.end();
    });
}

#[test]
fn the_stream_ends_with_the_container() {
    let ends = [("killed", &["kill"][..]), ("deleted by force", &["delete", "--force"])];
    rows(ends, |verb| {
        let t = Sandbox::new();
        let c = t.waiting();
        let stream = Stream::new(&t, &c.id, "100ms");
        stream.wait_for_stats();
        let mut args = verb.to_vec();
        args.push(&c.id);
        args.extend((verb == ["kill"]).then_some("KILL"));
        t.call(args).ok();
        stream.end();
    });
}

#[test]
fn an_interval_is_a_duration_as_go_writes_it() {
    let cases = [
        ("0", "duration interval must be greater than 0"),
        ("-1s", "duration interval must be greater than 0"),
        ("1", "invalid value \"1\" for flag -interval: parse error"),
        ("abc", "invalid value \"abc\" for flag -interval: parse error"),
        ("1d", "invalid value \"1d\" for flag -interval: parse error"),
        ("", "invalid value \"\" for flag -interval: parse error"),
    ];
    rows(
        cases.map(|(interval, expect)| (format!("<{interval}>"), (interval, expect))),
        |(interval, expect)| {
            let t = Sandbox::new();
            let c = t.waiting();
            t.call(["events", "--interval", interval, &c.id]).fails(1, expect);
        },
    );
}

#[test]
fn intervals_may_be_short() {
    rows([(".5s", ".5s"), ("1500us", "1500us"), ("0.1s", "0.1s")], |interval| {
        let t = Sandbox::new();
        let c = t.waiting();
        let stream = Stream::new(&t, &c.id, interval);
        wait_for("three measurements", || stream.count("stats") >= 3);
    });
}
