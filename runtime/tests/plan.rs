//! The plan as a whole: the steps of known bundles in their order, compared with text that is checked in
//! (`tests/golden`, rewritten with `GOLDEN=write`), and random bundles, which must neither panic nor be decided twice
//! in different ways. Nothing is done, so no root is needed.

#[path = "plan/edit.rs"]
mod edit;

use edit::edit;
use fastrand::Rng;
use pintle::host::{Facts, Host, IdRanges};
use pintle::plan::cgroup::Driver;
use pintle::plan::rdt::Machine;
use pintle::plan::{Options, Plan};
use pintle::spec::{Spec, parse};
use pintle_init::order::Step;
use serde_json::{Value, json};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

fn host() -> Host {
    Host {
        kernel: (6, 12),
        euid: 0,
        egid: 0,
        capabilities: 0x1ff_ffff_ffff,
        in_user_namespace: false,
        set_groups: true,
        selinux: false,
        kcore: true,
        tree_namespace: false,
        own_cgroup: "/own".into(),
    }
}

/// As if every namespace with a path had been opened, and had the maps that are listed.
fn facts(config: &Value) -> Facts {
    let all = || json!([{"containerID": 0, "hostID": 0, "size": u32::MAX}]);
    let map = |list: Value| serde_json::from_value(list).ok();
    let listed = |key: &str| map(config["linux"][key].clone()).or_else(|| map(all())).expect("a map of all");
    let list = config["linux"]["namespaces"].as_array().cloned().unwrap_or_default();
    Facts {
        rootfs: "/bundle/rootfs".into(),
        rootfs_mount: 1,
        namespaces: list.iter().map(|n| n["path"].as_str().map(|path| path.len() as u64 + 100)).collect(),
        own_network: 7,
        joined_maps: IdRanges { uids: listed("uidMappings"), gids: listed("gidMappings") },
    }
}

fn options() -> Options {
    Options {
        id: "golden".into(),
        bundle: "/bundle".into(),
        wait_for_start: true,
        environment: vec!["PATH=/bin".into()],
        cgroup_mount: "/sys/fs/cgroup".into(),
        resctrl: Some(Machine {
            root: "/sys/fs/resctrl".into(),
            cache: true,
            bandwidth: true,
            bandwidth_step: 10,
        }),
        ..Options::default()
    }
}

fn plan(config: &Value) -> Result<Plan, String> {
    plan_by(config, options())
}

/// By systemd, where cgroupsPath is written for it.
fn plan_by(config: &Value, options: Options) -> Result<Plan, String> {
    plan_on(&host(), config, options)
}

fn plan_on(host: &Host, config: &Value, options: Options) -> Result<Plan, String> {
    let text = serde_json::to_vec(config).unwrap();
    let spec: Spec = parse(&text, "config.json").map_err(|e| e.to_string())?;
    let for_systemd = config["linux"]["cgroupsPath"].as_str().is_some_and(|path| path.contains(".slice:"));
    let driver = if for_systemd { Driver::Systemd } else { Driver::Files };
    let options = Options { driver, ..options };
    Plan::new(&spec, host, &facts(config), &options).map_err(|e| e.to_string())
}

/// What `pintle spec` writes, without a terminal.
fn default_config() -> Value {
    let dir = std::env::temp_dir().join(format!(
        "pintle-plan-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    std::fs::create_dir_all(&dir).unwrap();
    pintle::ops::spec::spec(&dir, false).unwrap();
    let text = std::fs::read(dir.join("config.json")).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    let mut config: Value = serde_json::from_slice(&text).unwrap();
    config["process"]["terminal"] = json!(false);
    config
}

fn user_namespace() -> Value {
    let mut config = default_config();
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    config["linux"]["uidMappings"] = map.clone();
    config["linux"]["gidMappings"] = map;
    config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    config
}

fn all_joined() -> Value {
    let mut config = default_config();
    let kinds = ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"];
    config["linux"]["namespaces"] =
        kinds.iter().map(|kind| json!({"type": kind, "path": format!("/ns/{kind}")})).collect();
    config
}

fn everything() -> Value {
    let mut config = default_config();
    config["process"]["terminal"] = json!(true);
    config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_LOCAL"});
    config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["mkdir", "chmod"], "action": "SCMP_ACT_ERRNO"}]});
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
        config["hooks"][kind] = json!([{"path": format!("/hooks/{kind}"), "args": [kind], "timeout": 5}]);
    }
    config
}

fn no_mount_namespace() -> Value {
    let mut config = default_config();
    config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "mount");
    let linux = config["linux"].as_object_mut().unwrap();
    linux.remove("maskedPaths");
    linux.remove("readonlyPaths");
    config
}

fn by_systemd(mut config: Value) -> Value {
    config["linux"]["cgroupsPath"] = json!("a-b.slice:engine:web");
    config["annotations"] = json!({"org.systemd.property.CollectMode": "'inactive-or-failed'"});
    config["linux"]["resources"] = rich()["linux"]["resources"].clone();
    config
}

/// The clone's namespaces, and the name of each step on a line of its own.
fn steps(plan: &Plan) -> String {
    let mut text = String::new();
    if let Some(unit) = &plan.cgroup.unit {
        text = format!("{} in {}\n", unit.name, plan.cgroup.path.display());
        for property in &unit.properties {
            text.push_str(&format!("{} {}\n", property.name, property.value));
        }
        for write in &plan.cgroup.limits.writes {
            text.push_str(&format!("{} {:?}\n", write.file, write.value));
        }
    }
    text.push_str(&format!("clone3 {:#x}\n", plan.birth.namespaces));
    plan.birth.steps.each(|_, step| {
        let words = format!("{step:?}");
        let name: String = words.chars().take_while(char::is_ascii_alphanumeric).collect();
        text.push_str(&name);
        text.push('\n');
    });
    text
}

#[track_caller]
fn golden(name: &str, config: &Value) {
    golden_plan(name, &plan(config).unwrap());
}

#[track_caller]
fn golden_plan(name: &str, plan: &Plan) {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.txt"));
    let is = steps(plan);
    if std::env::var("GOLDEN").is_ok_and(|word| word == "write") {
        std::fs::write(&path, &is).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let at = is.lines().zip(wanted.lines()).position(|(a, b)| a != b);
    let at = at.unwrap_or_else(|| is.lines().count().min(wanted.lines().count()));
    assert!(is == wanted, "{name}: line {}: the steps are\n{is}", at + 1);
}

#[test]
fn the_default_bundle_has_these_steps() {
    golden("default", &default_config());
}

#[test]
fn a_new_user_namespace_has_these_steps() {
    golden("user-namespace", &user_namespace());
}

#[test]
fn eight_joined_namespaces_have_these_steps() {
    golden("all-joined", &all_joined());
}

#[test]
fn terminal_seccomp_and_hooks_have_these_steps() {
    golden("terminal-seccomp-hooks", &everything());
}

#[test]
fn no_mount_namespace_has_these_steps() {
    golden("no-mount-namespace", &no_mount_namespace());
}

#[test]
fn by_systemd_init_waits_first_and_makes_its_cgroup_namespace_itself() {
    golden("systemd", &by_systemd(default_config()));
    golden("systemd-user-namespace", &by_systemd(user_namespace()));
}

#[test]
fn a_mount_label_is_an_option_an_attribute_or_nothing() {
    let labels = |annotation: Option<&str>| -> Vec<(String, String, String)> {
        let mut config = default_config();
        config["linux"]["mountLabel"] = json!("a:b:c:s0,c1");
        if let Some(kind) = annotation {
            config["annotations"] = json!({"run.oci.mount_context_type": kind});
        }
        let selinux = Host { selinux: true, ..host() };
        let mut found = Vec::new();
        plan_on(&selinux, &config, options()).unwrap().birth.steps.each(|_, step| {
            if let Step::Filesystem { kind, options, label, .. } = step {
                let words: Vec<_> = options.iter().map(|word| word.to_string_lossy().into_owned()).collect();
                let at = words.iter().position(|word| word.contains("a:b:c")).filter(|at| *at > 0);
                let option = at.map_or(String::new(), |at| words[at - 1..=at].concat());
                let name = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
                found.push((name(kind), option, name(label)));
            }
        });
        found
    };
    for (annotation, option) in
        [(None, "context=a:b:c:s0,c1"), (Some("rootcontext"), "rootcontext=a:b:c:s0,c1")]
    {
        for (kind, found, attribute) in labels(annotation) {
            let expected = match kind.as_str() {
                "proc" | "sysfs" => ("", ""),
                "mqueue" => ("", "a:b:c:s0,c1"),
                _ => (option, ""),
            };
            assert_eq!((found.as_str(), attribute.as_str()), expected, "{kind}");
        }
    }
}

/// A bundle that binds a file of the host's.
fn with_bind(source: &str) -> Value {
    let mut config = default_config();
    let bind = json!({"destination": "/mnt", "type": "bind", "source": source, "options": ["rbind"]});
    config["mounts"].as_array_mut().unwrap().push(bind);
    config
}

#[test]
fn on_a_newer_kernel_nothing_of_the_hosts_mounts_is_copied() {
    let newer = Host { tree_namespace: true, ..host() };
    golden_plan("own-root", &plan_on(&newer, &with_bind("/srv"), options()).unwrap());
    let mut shared = default_config();
    shared["linux"]["rootfsPropagation"] = json!("rshared");
    let crowd = (0..pintle_init::order::TREES).fold(with_bind("/srv"), |mut config, _| {
        let bind = config["mounts"].as_array().unwrap().last().unwrap().clone();
        config["mounts"].as_array_mut().unwrap().push(bind);
        config
    });
    // What somebody else looks for among the host's mounts, or what may not be known before.
    let ordinary = [
        (user_namespace(), options()),
        (all_joined(), options()),
        (everything(), options()),
        (no_mount_namespace(), options()),
        (with_bind("/bundle/rootfs/tmp"), options()),
        (with_bind("rootfs/tmp"), options()),
        (with_bind("/srv/../bundle/rootfs"), options()),
        (shared, options()),
        (crowd, options()),
        (default_config(), Options { no_pivot: true, ..options() }),
    ];
    for (config, options) in ordinary {
        let [before, after] =
            [&host(), &newer].map(|host| steps(&plan_on(host, &config, options.clone()).unwrap()));
        assert_eq!(after, before);
        assert!(!after.contains("OwnRoot"));
    }
}

#[test]
fn by_turns_a_second_process_is_born_as_else_the_first() {
    for config in [default_config(), all_joined(), everything()] {
        let [direct, turns] =
            [false, true].map(|by_turns| plan_by(&config, Options { by_turns, ..options() }).unwrap());
        let mut kinds = None;
        turns.birth.steps.each(|_, step| {
            if let Step::ForkInto { kinds: found, .. } = step {
                assert_eq!(kinds.replace(*found), None, "once");
            }
        });
        assert_eq!((turns.birth.namespaces, kinds), (0, Some(direct.birth.namespaces)));
        let rest = |plan: &Plan| -> Vec<String> {
            steps(plan).lines().skip(1).filter(|line| *line != "ForkInto").map(str::to_owned).collect()
        };
        assert_eq!(rest(&turns), rest(&direct));
    }
}

/// Beside numbers and signs, what the edits put in: a few that are right somewhere, a few that are nowhere.
const WORDS: &[&str] = &[
    "",
    "/",
    "a\0b",
    "../../x",
    "/proc/self/fd/3",
    "tmpfs",
    "bind",
    "rbind",
    "idmap",
    "cgroup",
    "CAP_SYS_ADMIN",
    "RLIMIT_NPROC",
    "SCMP_ACT_ERRNO",
    "size=1k",
    "/dev/null",
];

/// Things that the default configuration lacks, so that the edits reach their code too.
fn rich() -> Value {
    let mut config = everything();
    let linux = config["linux"].as_object_mut().unwrap();
    linux.insert("sysctl".into(), json!({"net.ipv4.ip_forward": "1", "kernel.domainname": "x"}));
    linux.insert("timeOffsets".into(), json!({"monotonic": {"secs": 5, "nanosecs": 6}}));
    linux.insert("personality".into(), json!({"domain": "LINUX32"}));
    linux.insert("cgroupsPath".into(), json!("/a/b"));
    linux.insert(
        "memoryPolicy".into(),
        json!({"mode": "MPOL_BIND", "nodes": "0-3,7", "flags": ["MPOL_F_STATIC_NODES"]}),
    );
    linux.insert(
        "intelRdt".into(),
        json!({"closID": "gold", "l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=20", "schemata": ["L2:0=3"],
            "enableMonitoring": true}),
    );
    linux.insert(
        "devices".into(),
        json!([{"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "fileMode": 438, "uid": 0, "gid": 0}]),
    );
    linux.insert(
        "resources".into(),
        json!({"memory": {"limit": 100_000_000, "swap": 200_000_000, "reservation": 1000},
            "cpu": {"shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0-1", "mems": "0", "idle": 1},
            "pids": {"limit": 5}, "unified": {"memory.high": "1000", "cgroup.max.depth": "3"},
            "blockIO": {"weight": 100, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1000}]},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}],
            "devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "access": "r"}]}),
    );
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 10}]);
    config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
    config["mounts"].as_array_mut().unwrap().push(json!({"destination": "/data", "type": "bind",
        "source": "/src", "options": ["rbind", "ro", "idmap"], "uidMappings": map, "gidMappings": map}));
    let process = config["process"].as_object_mut().unwrap();
    process.insert("scheduler".into(), json!({"policy": "SCHED_BATCH", "nice": 3}));
    process.insert("ioPriority".into(), json!({"class": "IOPRIO_CLASS_BE", "priority": 3}));
    process.insert("oomScoreAdj".into(), json!(100));
    process.insert("execCPUAffinity".into(), json!({"initial": "0-1", "final": "1,3"}));
    process.insert("consoleSize".into(), json!({"height": 10, "width": 20}));
    config
}

#[test]
fn random_bundles_never_panic_and_are_decided_once() {
    const ROUNDS: u64 = 2000;
    let bases = [rich(), user_namespace(), all_joined(), no_mount_namespace(), by_systemd(rich())];
    for base in &bases {
        plan(base).expect("what is edited is valid");
    }
    let (mut decided, mut refused) = (0, 0);
    for seed in 0..ROUNDS {
        let mut random = Rng::with_seed(seed);
        let mut config = random.choice(&bases).expect("some").clone();
        for _ in 0..=random.u8(..3) {
            edit(&mut config, &mut random, WORDS);
        }
        let outcomes = [(); 2].map(|()| {
            catch_unwind(AssertUnwindSafe(|| plan(&config)))
                .unwrap_or_else(|_| panic!("seed {seed}: a panic; config.json: {config}"))
        });
        match outcomes {
            [Ok(one), Ok(two)] => {
                let orders = [&one, &two].map(|plan| plan.birth.steps.order(3, &[]));
                assert!(orders[0] == orders[1], "seed {seed}: two orders; config.json: {config}");
                let rest = [&one, &two]
                    .map(|plan| format!("{:?} {:?} {:?}", plan.cgroup, plan.birth.mount_maps, plan.warnings));
                assert_eq!(rest[0], rest[1], "seed {seed}");
                decided += 1;
            }
            [Err(one), Err(two)] => {
                assert_eq!(one, two, "seed {seed}: two reasons; config.json: {config}");
                refused += 1;
            }
            _ => panic!("seed {seed}: once decided, once refused; config.json: {config}"),
        }
    }
    println!("seeds 0 to {}: {decided} decided, {refused} refused", ROUNDS - 1);
    assert!(decided > 200 && refused > 200, "the edits are too weak or too strong: {decided}, {refused}");
}
