//! `update`: which files of the cgroup change and which stay, what is refused, and that a refused change leaves
//! nothing. Needs the controllers of cgroup v2, as the test machine has them.

use pintle_tests::*;
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

/// What is limited before each change; one more of everything would be another value.
fn limits() -> Value {
    json!({
        "devices": [{"allow": false, "access": "rwm"}],
        "memory": {"limit": 67_108_864, "reservation": 33_554_432},
        "cpu": {"shares": 512, "quota": 500_000, "period": 1_000_000, "cpus": "0"},
        "pids": {"limit": 20},
        "unified": {"memory.high": "62914560"},
    })
}

const FILES: [&str; 14] = [
    "memory.max",
    "memory.low",
    "memory.high",
    "memory.swap.max",
    "cpu.weight",
    "cpu.max",
    "cpu.max.burst",
    "cpu.idle",
    "cpuset.cpus",
    "cpuset.mems",
    "pids.max",
    "io.weight",
    "io.max",
    "cgroup.freeze",
];

/// A container with [`limits`], and what is told about it.
struct Limited<'a> {
    sandbox: &'a Sandbox,
    container: Container<'a>,
    cgroup: std::path::PathBuf,
}

/// What a change might touch: the files, the device programs, the saved state.
#[derive(Debug, PartialEq)]
struct All {
    files: BTreeMap<&'static str, String>,
    programs: String,
    state: String,
}

impl<'a> Limited<'a> {
    fn new(sandbox: &'a Sandbox) -> Self {
        ["memory", "cpu", "cpuset", "pids", "io"].into_iter().for_each(needs_controller);
        let mut bundle = sandbox.bundle();
        bundle.args(&["/probe", "wait"]).set("/linux/resources", limits());
        let container = sandbox.start(&bundle);
        let cgroup = cgroup_of(container.pid());
        Self { sandbox, container, cgroup }
    }

    fn all(&self) -> All {
        let read = |name: &&'static str| Some((*name, fs::read_to_string(self.cgroup.join(name)).ok()?));
        let programs = Command::new("bpftool").args(["cgroup", "show"]).arg(&self.cgroup).output();
        let state = self.sandbox.root().join(&self.container.id).join("state.json");
        All {
            files: FILES
                .iter()
                .filter_map(read)
                .map(|(name, text)| (name, text.trim().replace('\n', ",")))
                .collect(),
            programs: programs.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default(),
            state: fs::read_to_string(state).unwrap_or_default(),
        }
    }

    /// By flags, or by JSON on stdin where the only word is an object.
    fn update(&self, words: &str) -> Output {
        let mut command = self.sandbox.command();
        command.arg("update");
        if words.starts_with(['{', '[', 'n']) || words.is_empty() {
            let file = self.sandbox.dir.join("resources.json");
            fs::write(&file, words).unwrap();
            command.args(["--resources", "-"]).stdin(fs::File::open(file).unwrap());
        } else {
            command.args(words.split(' '));
        }
        command.arg(&self.container.id);
        self.sandbox.finish(command)
    }
}

/// Each row: what is given, and the files that say something else afterwards.
#[test]
fn what_is_named_changes_and_the_rest_stays() {
    let cases: [(&str, &[(&str, &str)]); 46] = [
        ("--memory 50M", &[("memory.max", "52428800")]),
        ("--memory -1", &[("memory.max", "max")]),
        ("--memory 0", &[]),
        ("--memory 50M --memory-swap 60M", &[("memory.max", "52428800"), ("memory.swap.max", "10485760")]),
        ("--memory-swap 64M", &[("memory.swap.max", "0")]),
        ("--memory-swap -1", &[]),
        ("--memory -1 --memory-swap 100M", &[("memory.max", "max"), ("memory.swap.max", "104857600")]),
        ("--memory-reservation 20M", &[("memory.low", "20971520")]),
        ("--memory-reservation -1", &[("memory.low", "max")]),
        ("--cpu-share 100", &[("cpu.weight", "17")]),
        ("--cpu-share 0", &[]),
        ("--cpu-share 1", &[("cpu.weight", "1")]),
        ("--cpu-share 9999999", &[("cpu.weight", "10000")]),
        ("--cpu-quota 600000", &[("cpu.max", "600000 1000000")]),
        ("--cpu-quota -1", &[("cpu.max", "max 1000000")]),
        ("--cpu-quota 0", &[]),
        ("--cpu-period 500000", &[("cpu.max", "500000 500000")]),
        ("--cpu-period 100000 --cpu-quota 1000000", &[("cpu.max", "1000000 100000")]),
        ("--cpu-burst 100000", &[("cpu.max.burst", "100000")]),
        (
            "--cpu-burst 600000 --cpu-quota 700000",
            &[("cpu.max", "700000 1000000"), ("cpu.max.burst", "600000")],
        ),
        ("--cpu-idle 1", &[("cpu.idle", "1"), ("cpu.weight", "1")]),
        ("--cpuset-cpus 0-1", &[("cpuset.cpus", "0-1")]),
        ("--cpuset-mems 0", &[("cpuset.mems", "0")]),
        ("--pids-limit 0", &[("pids.max", "1")]),
        ("--pids-limit -1", &[("pids.max", "max")]),
        ("--pids-limit 30", &[("pids.max", "30")]),
        ("--blkio-weight 500", &[("io.weight", "default 4950")]),
        ("--blkio-weight 0", &[]),
        ("--cpu-rt-period 1000 --cpu-rt-runtime 500", &[]),
        ("{}", &[]),
        ("null", &[]),
        (r#"{"memory":{"limit":50000000}}"#, &[("memory.max", "49999872")]),
        (r#"{"memory":{"limit":50000000}} and more"#, &[("memory.max", "49999872")]),
        (r#"{"MEMORY":{"Limit":50000000},"x":{"y":1}}"#, &[("memory.max", "49999872")]),
        (r#"{"memory":{"limit":-1}}"#, &[("memory.max", "max")]),
        (r#"{"memory":{"limit":50000000,"checkBeforeUpdate":true}}"#, &[("memory.max", "49999872")]),
        (r#"{"cpu":{"quota":600000}}"#, &[("cpu.max", "600000 1000000")]),
        (r#"{"cpu":{"idle":1}}"#, &[("cpu.idle", "1"), ("cpu.weight", "1")]),
        (r#"{"pids":{"limit":0}}"#, &[("pids.max", "1")]),
        (r#"{"pids":{"limit":null}}"#, &[]),
        (r#"{"pids":{"limit":-1}}"#, &[("pids.max", "max")]),
        (r#"{"blockIO":{"weight":500}}"#, &[("io.weight", "default 4950")]),
        (
            r#"{"unified":{"memory.high":"31457280","pids.max":"9"}}"#,
            &[("memory.high", "31457280"), ("pids.max", "9")],
        ),
        (r#"{"devices":[{"allow":true,"access":"rwm"}]}"#, &[]),
        (r#"{"network":{"classID":5}}"#, &[]),
        (r#"{"hugepageLimits":[{"pageSize":"3MB","limit":1}]}"#, &[]),
    ];
    rows(cases.map(|(words, expect)| (words, (words, expect))), |(words, expect)| {
        let t = Sandbox::new();
        let c = Limited::new(&t);
        let before = c.all();
        assert!(!before.programs.is_empty() || !has_program("bpftool"), "no device program");
        c.update(words).ok();
        let after = c.all();
        let told: Vec<_> = after.files.iter().filter(|(name, text)| before.files[*name] != **text).collect();
        let told: Vec<_> = told.into_iter().map(|(name, text)| (*name, text.as_str())).collect();
        let mut expect = expect.to_vec();
        expect.sort_unstable();
        assert_eq!(told, expect);
        assert_eq!(after.programs, before.programs, "device programs");
    });
}

#[test]
fn a_second_update_keeps_what_the_first_named() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = Limited::new(&t);
        c.update("--memory 50M --memory-swap 60M --cpu-quota 200000").ok();
        c.update("--cpu-period 400000 --pids-limit 9").ok();
        let files = c.all().files;
        let told = ["memory.max", "memory.swap.max", "memory.low", "cpu.max", "pids.max"].map(|f| &*files[f]);
        assert_eq!(told, ["52428800", "10485760", "33554432", "200000 400000", "9"]);
    });
}

#[test]
fn a_refused_change_leaves_files_and_state_as_they_were() {
    let io = disk().map_or_else(String::new, |disk| {
        format!(r#"{{"blockIO":{{"throttleReadBpsDevice":[{disk},{{"major":9,"minor":99,"rate":10}}]}}}}"#)
    });
    let cases = [
        ("memory", "--memory 50M --cpu-quota 500", "write \"500 1000000\""),
        ("memory+swap", "--pids-limit 9 --memory-swap 10M", "memory+swap limit should be >= memory limit"),
        ("quota", "--pids-limit 9 --cpu-quota 1", "cpu.max: invalid argument"),
        ("period", "--cpu-period 100", "cpu.max: invalid argument"),
        ("burst", "--memory 50M --cpu-burst 600000", "cpu.max.burst: invalid argument"),
        ("idle", "--cpu-idle 2 --memory 50M", "cpu.idle: invalid argument"),
        ("idle and shares", "--cpu-idle 1 --cpu-share 200", "cpu.weight: invalid argument"),
        ("quota lowered, then a wrong CPU", "--cpu-quota 300000 --cpuset-cpus 99999", "cpuset.cpus: "),
        ("idle, then a wrong CPU", "--cpu-idle 1 --cpuset-cpus 99999", "numerical result out of range"),
        ("weight of io", "--pids-limit 9 --blkio-weight 5", ""),
        (
            "usage",
            r#"{"pids":{"limit":9},"memory":{"limit":8192,"checkBeforeUpdate":true}}"#,
            "rejecting memory limit 8192 <= usage ",
        ),
        (
            "unified",
            r#"{"pids":{"limit":9},"unified":{"memory.max":"x"}}"#,
            "unable to set unified resource \"memory.max\": failed to write \"x\"",
        ),
        (
            "unified without a controller",
            r#"{"pids":{"limit":9},"unified":{"nosuch.file":"1"}}"#,
            "unified resource \"nosuch.file\" can't be set: controller \"nosuch\" not available",
        ),
        ("unified with a slash", r#"{"unified":{"../pids.max":"1"}}"#, "must be a file name (no slashes)"),
        ("no device", &io, "io.max: no such device"),
        ("a list", "[]", ""),
        ("a wrong type", r#"{"memory":5}"#, "memory"),
        ("half an object", "{", "EOF"),
        ("nothing", "", "EOF"),
        (
            "Intel RDT",
            "--memory 50M --l3-cache-schema L3:0=1",
            "Intel RDT/CAT: l3 cache schema is not enabled",
        ),
    ];
    rows(cases.map(|(name, words, expect)| (name, (words, expect))), |(words, expect)| {
        let t = Sandbox::new();
        let c = Limited::new(&t);
        let before = c.all();
        c.update(words).fails(1, expect);
        assert_eq!(c.all(), before);
    });
}

/// A disk of this machine as a throttle of config.json.
fn disk() -> Option<Value> {
    let disks = fs::read_dir("/sys/block").ok()?.flatten().map(|entry| entry.path());
    let sized =
        |path: &std::path::PathBuf| fs::read_to_string(path.join("size")).is_ok_and(|s| s.trim() != "0");
    let number = fs::read_to_string(disks.into_iter().find(sized)?.join("dev")).ok()?;
    let (major, minor) = number.trim().split_once(':')?;
    Some(json!({"major": major.parse::<u32>().ok()?, "minor": minor.parse::<u32>().ok()?, "rate": 1_048_576}))
}

#[test]
fn throttles_are_changed_by_device() {
    behaviour(|| {
        needs_controller("io");
        let Some(disk) = disk() else { skip("the machine has no disk") };
        let t = Sandbox::new();
        let c = Limited::new(&t);
        c.update(&json!({"blockIO": {"throttleReadBpsDevice": [disk.clone()]}}).to_string()).ok();
        c.update(&json!({"blockIO": {"throttleWriteIOPSDevice": [disk.clone()]}}).to_string()).ok();
        let number = format!("{}:{}", disk["major"], disk["minor"]);
        assert_eq!(
            c.all().files["io.max"],
            format!("{number} rbps=1048576 wbps=max riops=max wiops=1048576")
        );
    });
}

#[test]
fn a_stopped_container_is_not_updated() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.waiting();
        c.kill("KILL").ok();
        c.wait_until("stopped");
        t.call(["update", "--cpu-rt-period", "1000", &c.id]).fails(1, "container not running");
        t.call(["update", "--cpu-rt-period", "1000", "nobody"]).fails(1, "container does not exist");
    });
}

#[test]
fn a_paused_container_is_updated_and_stays_paused() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = Limited::new(&t);
        c.container.call("pause").ok();
        c.update("--pids-limit 9").ok();
        let (files, status) = (c.all().files, c.container.status());
        c.container.call("resume").ok();
        assert_eq!((&*files["pids.max"], &*files["cgroup.freeze"], &*status), ("9", "1", "paused"));
    });
}
