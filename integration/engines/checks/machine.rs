//! What wants every controller, the freezer and systemd: kept for the test machine, which has them (`run --machine`).

use pintle_engines::alone::{Alone, Output, config};
use pintle_engines::task::{Shim, Stdio, status};
use pintle_engines::wire::{Fields, Message};
use pintle_engines::{Check, Engine, check, place, skip, wait_for};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub const CHECKS: &[Check] = &[
    check!(an_out_of_memory_kill_is_told_once),
    check!(one_that_takes_all_along_is_told_once),
    check!(limits_are_in_force_and_counted),
    check!(limits_of_the_command_line_are_in_force),
    check!(update_changes_every_limit),
    check!(the_freezer_freezes_and_thaws),
    check!(systemd_has_a_unit_for_the_container),
    check!(systemd_by_the_command_line),
];

/// The machine that all of this is about.
fn machine() {
    if !place::in_machine() {
        skip("wants every controller, and systemd: integration/engines/run --machine");
    }
}

/// A shell script, with these resources.
fn limited(script: &str, resources: Value) -> Value {
    let mut config = config(&["sh", "-c", script]);
    config["linux"]["resources"] = resources;
    config
}

/// The container runs; its output, and the folder of its cgroup.
fn run(e: &Engine, alone: &Alone, options: Option<&Message>) -> (Shim, Output, PathBuf) {
    let output = Output::new(e.dir.join(format!("{}.out", alone.id)));
    let path = output.path.display().to_string();
    let stdio = Stdio { stdout: path.clone(), stderr: path, ..Stdio::default() };
    let mut shim = alone.connect();
    shim.create(&alone.id, &alone.bundle, &stdio, options).expect("a container");
    shim.ask("Start", &alone.id, "").expect("a start");
    output.wait_for("ready");
    (shim, output, Path::new("/sys/fs/cgroup").join(&e.namespace).join(&alone.id))
}

fn read(cgroup: &Path, file: &str) -> String {
    let path = cgroup.join(file);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).trim().to_owned()
}

/// A line of a file of names and numbers.
fn number(cgroup: &Path, file: &str, name: &str) -> u64 {
    let text = read(cgroup, file);
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    line.unwrap_or_else(|| panic!("{name} in {file}: {text}"))
}

fn ooms(alone: &Alone) -> usize {
    alone.topics().iter().filter(|topic| *topic == "oom").count()
}

/// All of it in one process: whoever asks for memory beside a greedy one may be killed for it.
const HOG: &str = "busybox tail /dev/zero >/dev/null";
const SMALL: u64 = 16 << 20;

fn an_out_of_memory_kill_is_told_once(e: &Engine) {
    machine();
    let wait = "while [ ! -e /told$n ]; do busybox usleep 20000; done";
    let script = format!("echo ready; for n in 1 2 3; do {HOG}; {wait}; done; exit 7");
    let alone = Alone::start(e, &limited(&script, json!({"memory": {"limit": SMALL, "swap": SMALL}})));
    let (mut shim, _output, cgroup) = run(e, &alone, None);
    // Two kills that the shim sees at once are one event.
    for n in 1..=3 {
        wait_for("an event of each", || ooms(&alone) == n);
        fs::write(alone.bundle.join(format!("rootfs/told{n}")), "").expect("a file");
    }
    assert_eq!(shim.wait(&alone.id, "").0, 7, "only the greedy ones end");
    assert_eq!(number(&cgroup, "memory.events", "oom_kill "), 3);
    assert_eq!(ooms(&alone), 3);
    alone.end();
}

fn one_that_takes_all_along_is_told_once(e: &Engine) {
    machine();
    let script = format!("sleep 1000 & sleep 1000 & echo ready; {HOG}; sleep 1000");
    let resources = json!({"memory": {"limit": SMALL, "swap": SMALL}, "unified": {"memory.oom.group": "1"}});
    let alone = Alone::start(e, &limited(&script, resources));
    let (mut shim, _output, cgroup) = run(e, &alone, None);
    assert_eq!(shim.wait(&alone.id, "").0, 137);
    assert_eq!(number(&cgroup, "memory.events", "oom_group_kill "), 1);
    wait_for("the event", || ooms(&alone) > 0);
    std::thread::sleep(Duration::from_millis(500));
    assert!(number(&cgroup, "memory.events", "oom_kill ") > 2, "each process is counted");
    assert_eq!(ooms(&alone), 1, "it is one kill");
    alone.end();
}

fn limits_are_in_force_and_counted(e: &Engine) {
    machine();
    let resources = json!({
        "memory": {"limit": 64 << 20}, "pids": {"limit": 5}, "cpu": {"quota": 20_000, "period": 100_000},
    });
    let fork = "n=0; while [ $n -lt 8 ]; do sleep 1000 & n=$((n+1)); done 2>/dev/null";
    let spin = "while [ ! -e /go ]; do :; done";
    let script = format!("echo ready; {spin}; (trap '' TERM; {fork}); sleep 1000");
    let alone = Alone::start(e, &limited(&script, resources));
    let (mut shim, _output, cgroup) = run(e, &alone, None);
    assert_eq!(read(&cgroup, "memory.max"), (64 << 20).to_string());
    assert_eq!(read(&cgroup, "cpu.max"), "20000 100000");
    assert_eq!(read(&cgroup, "pids.max"), "5");
    wait_for("a throttled period", || number(&cgroup, "cpu.stat", "nr_throttled ") > 0);
    fs::write(alone.bundle.join("rootfs/go"), "").expect("a sign");
    wait_for("a refused process", || number(&cgroup, "pids.events", "max ") > 0);
    let stats = stats(&mut shim, &alone.id);
    let (pids, cpu, memory) = (stats.message(1), stats.message(2), stats.message(4));
    assert_eq!(pids.number(2), 5, "pids, limit");
    assert!((1..=5).contains(&pids.number(1)), "{} pids", pids.number(1));
    assert!(cpu.number(1) > 0 && cpu.number(1) <= number(&cgroup, "cpu.stat", "usage_usec "), "usage_usec");
    assert!(cpu.number(5) > 0, "never throttled");
    assert_eq!(memory.number(33), 64 << 20, "memory, limit");
    assert!(memory.number(32) > 0 && memory.number(32) < 64 << 20, "{} bytes", memory.number(32));
    assert!(memory.number(1) > 0, "anon");
    alone.end();
}

/// io.containerd.cgroups.v2.Metrics
fn stats(shim: &mut Shim, id: &str) -> Fields {
    let any = shim.ask("Stats", id, "").expect("stats").message(1);
    assert!(any.text(1).ends_with("io.containerd.cgroups.v2.Metrics"), "{}", any.text(1));
    any.message(2)
}

fn limits_of_the_command_line_are_in_force(e: &Engine) {
    machine();
    let id = e.id();
    let flags = ["--detach", "--memory-limit", "16777216", "--cpus", "0.5"];
    let script = format!("while [ ! -e /go ]; do sleep 0.1; done; {HOG}; sleep 1000");
    e.ctr(&e.run_words(&flags, &id, &["sh", "-c", &script])).ok();
    let task = e.task(&id);
    let cgroup = Path::new("/sys/fs/cgroup").join(&e.namespace).join(&id);
    assert_eq!(read(&cgroup, "memory.max"), "16777216");
    assert_eq!(read(&cgroup, "cpu.max"), "50000 100000");
    task.go();
    wait_for("a kill", || number(&cgroup, "memory.events", "oom_kill ") > 0);
    task.remove();
}

fn update_changes_every_limit(e: &Engine) {
    machine();
    let resources = json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 50}});
    let alone = Alone::start(e, &limited("echo ready; sleep 1000", resources));
    let (mut shim, _output, cgroup) = run(e, &alone, None);
    update(
        &mut shim,
        &alone.id,
        &json!({"memory": {"limit": 32 << 20}, "pids": {"limit": 20}, "cpu": {"quota": 30_000, "period": 100_000, "shares": 512}}),
    );
    let told = ["memory.max", "pids.max", "cpu.max"].map(|file| read(&cgroup, file));
    assert_eq!(told, ["33554432", "20", "30000 100000"]);
    assert_ne!(read(&cgroup, "cpu.weight"), "100");
    // What is not named stays.
    update(&mut shim, &alone.id, &json!({"pids": {"limit": 21}}));
    let told = ["memory.max", "pids.max", "cpu.max"].map(|file| read(&cgroup, file));
    assert_eq!(told, ["33554432", "21", "30000 100000"]);
    assert_eq!(stats(&mut shim, &alone.id).message(4).number(33), 32 << 20);
    alone.end();
}

fn update(shim: &mut Shim, id: &str, resources: &Value) {
    let any = Message::any(
        "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources",
        resources.to_string().as_bytes(),
    );
    shim.call("Update", &Message::new().text(1, id).message(2, &any)).expect("an update");
}

fn the_freezer_freezes_and_thaws(e: &Engine) {
    machine();
    // Into a file, where nothing is on its way any more when it is frozen.
    let script = "echo >/ticks; echo ready; while :; do echo tick >>/ticks; busybox usleep 20000; done";
    let alone = Alone::start(e, &config(&["sh", "-c", script]));
    let (mut shim, _output, cgroup) = run(e, &alone, None);
    let ticks = || fs::metadata(alone.bundle.join("rootfs/ticks")).expect("ticks").len();
    for _ in 0..2 {
        shim.ask("Pause", &alone.id, "").expect("a pause");
        assert_eq!(shim.status(&alone.id, ""), status::PAUSED);
        assert_eq!(
            (read(&cgroup, "cgroup.freeze"), number(&cgroup, "cgroup.events", "frozen ")),
            ("1".into(), 1)
        );
        let before = ticks();
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(ticks(), before, "it ran on");
        shim.ask("Resume", &alone.id, "").expect("a resume");
        assert_eq!(number(&cgroup, "cgroup.events", "frozen "), 0);
        wait_for("it to run on", || ticks() > before);
    }
    // What is frozen is killed all the same.
    shim.ask("Pause", &alone.id, "").expect("a pause");
    shim.kill(&alone.id, "", 9).expect("a kill");
    assert_eq!(shim.wait(&alone.id, "").0, 137);
    alone.wait_for(&format!("exit {}", alone.id));
    let topics = alone.topics();
    assert_eq!(topics[2..7], ["paused", "resumed", "paused", "resumed", "paused"], "{topics:?}");
    alone.end();
}

/// One property of a unit.
fn property(unit: &str, name: &str) -> String {
    let output = Command::new("systemctl").args(["show", "--value", "-p", name, unit]).output();
    String::from_utf8_lossy(&output.expect("systemctl").stdout).trim().to_owned()
}

fn systemd_has_a_unit_for_the_container(e: &Engine) {
    machine();
    let mut config =
        limited("echo ready; sleep 1000", json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 50}}));
    let name = format!("{}-unit", e.namespace);
    config["linux"]["cgroupsPath"] = json!(format!("system.slice:eng:{name}"));
    let unit = format!("eng-{name}.scope");
    let alone = Alone::start(e, &config);
    let by_systemd = Message::new().number(9, 1);
    let (mut shim, _output, _) = run(e, &alone, Some(&by_systemd));
    assert_eq!(property(&unit, "ActiveState"), "active");
    assert_eq!(property(&unit, "MemoryMax"), (64 << 20).to_string());
    let cgroup = PathBuf::from(format!("/sys/fs/cgroup{}", property(&unit, "ControlGroup")));
    assert_eq!(read(&cgroup, "pids.max"), "50");
    shim.exec(&alone.id, "x", &["sh", "-c", "cat /proc/self/cgroup >&2; exit 4"], &Stdio::default())
        .expect("an exec");
    shim.ask("Start", &alone.id, "x").expect("a start");
    assert_eq!(shim.wait(&alone.id, "x").0, 4);
    shim.ask("Pause", &alone.id, "").expect("a pause");
    assert_eq!(number(&cgroup, "cgroup.events", "frozen "), 1);
    shim.ask("Resume", &alone.id, "").expect("a resume");
    update(&mut shim, &alone.id, &json!({"memory": {"limit": 32 << 20}, "pids": {"limit": 20}}));
    assert_eq!((read(&cgroup, "memory.max"), property(&unit, "TasksMax")), ("33554432".into(), "20".into()));
    assert_eq!(stats(&mut shim, &alone.id).message(4).number(33), 32 << 20);
    shim.kill(&alone.id, "", 15).expect("a signal that it ignores");
    shim.kill(&alone.id, "", 9).expect("a kill");
    assert_eq!(shim.wait(&alone.id, "").0, 137);
    alone.end();
    wait_for("the end of the unit", || property(&unit, "LoadState") == "not-found");
    assert!(!cgroup.exists(), "{} is left", cgroup.display());
}

fn systemd_by_the_command_line(e: &Engine) {
    machine();
    let cgroup = format!("system.slice:eng:{}-ctr", e.namespace);
    let flags = ["--runc-systemd-cgroup", "--cgroup", &cgroup];
    let unit = format!("eng-{}-ctr.scope", e.namespace);
    let task = e.start(&flags, &["sleep", "1000"]);
    assert_eq!(property(&unit, "ActiveState"), "active");
    let cgroup = PathBuf::from(format!("/sys/fs/cgroup{}", property(&unit, "ControlGroup")));
    assert!(read(&cgroup, "cgroup.procs").contains(&task.pid().to_string()), "{}", cgroup.display());
    task.remove();
    wait_for("the end of the unit", || property(&unit, "LoadState") == "not-found");
}
