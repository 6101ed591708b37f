//! The cgroup room on the real kernel: needs root and a writable cgroup2, works below `/pintle-dev-*` and removes all
//! of it. Where either is missing, each test prints why and passes.

use fastrand::Rng;
use pintle::cgroup::{Cgroup, Layout, create, delete};
use pintle::plan::cgroup::{Driver, Input, Limits, Plan};
use pintle_sys::bpf;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(5);

/// A cgroup's name that nobody else uses, and the removal of everything below it.
struct Place {
    layout: Layout,
    top: String,
    children: Vec<Child>,
    /// A controller that the test enables in the root, to be disabled again.
    enabled: Option<&'static str>,
}

impl Place {
    fn new(name: &str) -> Option<Self> {
        let layout = match Layout::find() {
            Ok(layout) => layout,
            Err(error) => {
                println!("skipped: {error}");
                return None;
            }
        };
        let top = format!("/pintle-dev-{}-{name}", std::process::id());
        let place = Self { layout, top, children: Vec::new(), enabled: None };
        let path = place.path("");
        if let Err(error) = std::fs::create_dir(&path).and_then(|()| std::fs::remove_dir(&path)) {
            println!("skipped: mkdir {}: {error}", path.display());
            return None;
        }
        Some(place)
    }

    fn path(&self, below: &str) -> PathBuf {
        self.layout.directory(Path::new(&format!("{}{below}", self.top)))
    }

    fn plan(&self, below: &str, resources: &str) -> Plan {
        let resources = serde_json::from_str(resources).expect("resources");
        let path = format!("{}{below}", self.top);
        Plan::new(&Input {
            driver: Driver::Files,
            uid: 0,
            annotations: None,
            id: "c1",
            cgroups_path: Some(&path),
            resources: Some(&resources),
            device_paths: &[],
            own: "/",
            rootless: false,
            in_user_namespace: false,
        })
        .expect("a plan")
    }

    fn create(&self, below: &str, resources: &str) -> pintle::error::Result<Cgroup> {
        self.make(&self.plan(below, resources))
    }

    /// As a birth does it: the cgroup, then its device rules.
    fn make(&self, plan: &Plan) -> pintle::error::Result<Cgroup> {
        let cgroup = create(&self.layout, plan)?.expect("a cgroup");
        cgroup.restrict_devices(&plan.devices).map(|()| cgroup)
    }

    /// Runs a shell in the cgroup.
    fn shell(&self, below: &str, script: &str) -> Command {
        let mut command = Command::new("sh");
        let procs = self.path(below).join("cgroup.procs");
        command.arg("-c").arg(format!("echo 0 > {} && {script}", procs.display()));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn sleeper(&mut self, below: &str) -> u32 {
        let child = self.shell(below, "exec sleep 1000").spawn().expect("sh");
        let id = child.id();
        self.children.push(child);
        let end = Instant::now() + SOON;
        while !std::fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|name| name == "sleep\n") {
            assert!(Instant::now() < end, "the sleeper does not sleep");
            std::thread::yield_now();
        }
        id
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        delete(&self.path(""), SOON).expect("nothing stays behind");
        assert!(!self.path("").exists());
        if let Some(name) = self.enabled {
            let control = self.layout.mount.join("cgroup.subtree_control");
            std::fs::write(control, format!("-{name}")).expect("the root is as it was");
        }
    }
}

/// Numbers begin again at the end of their range: the later process may have the lower one.
fn sorted<const N: usize>(mut ids: [u32; N]) -> [i32; N] {
    ids.sort_unstable();
    ids.map(|id| id as i32)
}

/// A folder whose device nodes can be opened: /tmp may be mounted nodev. None where the checkout's file system is, too.
fn folder_for_nodes(name: &str) -> Option<PathBuf> {
    use rustix::fs::StatVfsMountFlags;
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
    if rustix::fs::statvfs(parent).expect("a file system").f_flag.contains(StatVfsMountFlags::NODEV) {
        let thread = std::thread::current();
        let (test, path) = (thread.name().unwrap_or(name), parent.display());
        // Past libtest, which would keep it for itself. Nobody reads a closed stream.
        let _closed = writeln!(std::io::stdout(), "SKIP {test}: {path} is mounted nodev");
        return None;
    }
    let dir = parent.join(format!("pintle-dev-{}-{name}", std::process::id()));
    std::fs::create_dir(&dir).expect("a directory");
    Some(dir)
}

fn programs(cgroup: &Cgroup) -> usize {
    bpf::attached_device_programs(cgroup.fd(), &mut [0; 64]).expect("a list of programs")
}

#[test]
fn a_cgroup_is_made_with_its_parents() {
    let Some(place) = Place::new("make") else { return };
    let cgroup = place.create("/a/b", "{}").expect("created");
    assert_eq!(cgroup.made(), [place.path(""), place.path("/a"), place.path("/a/b")]);
    assert_eq!(programs(&cgroup), 1);
}

#[test]
fn an_empty_cgroup_is_taken_as_it_is() {
    let Some(place) = Place::new("again") else { return };
    place.create("", "{}").expect("created");
    for resources in [r#"{}"#, r#"{"devices":[{"allow":true,"access":"rwm"}]}"#] {
        let cgroup = place.create("", resources).expect("taken");
        assert!(cgroup.made().is_empty());
        assert_eq!(programs(&cgroup), 1, "the old program was replaced");
    }
}

#[test]
fn a_cgroup_with_processes_is_refused() {
    let Some(mut place) = Place::new("busy") else { return };
    place.create("/inner", "{}").expect("created");
    place.sleeper("/inner");
    let error = place.create("", "{}").expect_err("busy").to_string();
    assert_eq!(error, "container's cgroup is not empty: 1 process(es) found");
}

#[test]
fn a_frozen_cgroup_is_refused_itself_and_from_above() {
    let Some(place) = Place::new("frozen") else { return };
    let cgroup = place.create("", "{}").expect("created");
    cgroup.freeze().expect("an empty cgroup freezes at once");
    for below in ["", "/inner"] {
        let error = place.create(below, "{}").expect_err("frozen").to_string();
        assert_eq!(error, "container's cgroup unexpectedly frozen", "{below:?}");
    }
    assert!(!place.path("/inner").exists(), "the failed create left its directory");
    assert!(cgroup.join_check().is_err());
    cgroup.thaw().expect("thawed");
    cgroup.join_check().expect("thawed");
}

#[test]
fn processes_freeze_and_thaw() {
    let Some(mut place) = Place::new("freeze") else { return };
    let cgroup = place.create("", "{}").expect("created");
    place.sleeper("");
    assert!(!cgroup.is_frozen().expect("readable"));
    cgroup.freeze().expect("frozen");
    assert!(cgroup.is_frozen().expect("readable"));
    assert!(cgroup.events().expect("readable").expect("there").frozen);
    cgroup.thaw().expect("thawed");
    assert!(!cgroup.is_frozen().expect("readable"));
}

#[test]
fn killing_reaches_cgroups_below_even_frozen() {
    let Some(mut place) = Place::new("kill") else { return };
    let cgroup = place.create("", "{}").expect("created");
    std::fs::create_dir_all(place.path("/a/b")).expect("nested");
    let ids = [place.sleeper(""), place.sleeper("/a"), place.sleeper("/a/b")];
    let mut pids = cgroup.pids().expect("pids");
    pids.sort_unstable();
    assert_eq!(pids, sorted(ids));
    assert!(!cgroup.wait_empty(Duration::from_millis(1)).expect("readable"));
    cgroup.freeze().expect("frozen");
    cgroup.kill().expect("killed");
    assert!(cgroup.wait_empty(SOON).expect("readable"), "nothing lives there");
    delete(cgroup.path(), SOON).expect("deleted");
    assert!(cgroup.events().expect("no error").is_none(), "the cgroup is gone");
    assert!(cgroup.wait_empty(SOON).expect("a cgroup that is gone is empty"));
    assert!(cgroup.pids().expect("a cgroup that is gone has no processes").is_empty());
}

#[test]
fn delete_waits_for_processes_but_not_for_ever() {
    let Some(mut place) = Place::new("delete") else { return };
    let cgroup = place.create("/inner", "{}").expect("created");
    let top = place.path("");
    place.sleeper("/inner");
    let start = Instant::now();
    let error = delete(&top, Duration::from_millis(50)).expect_err("still alive").to_string();
    assert_eq!(error, format!("rmdir {}: device or resource busy", top.display()));
    assert!(start.elapsed() < SOON);
    // The death comes while delete waits.
    cgroup.kill().expect("killed");
    delete(&top, SOON).expect("deleted");
    delete(&top, SOON).expect("a cgroup that is not there is deleted");
}

#[test]
fn deep_nesting_is_removed_and_counted() {
    let Some(mut place) = Place::new("deep") else { return };
    let cgroup = place.create("", "{}").expect("created");
    std::fs::create_dir_all(place.path(&"/d".repeat(1100))).expect("nested");
    for n in 0..20 {
        std::fs::create_dir(place.path(&format!("/w{n}"))).expect("beside");
    }
    let deep = "/d".repeat(1000);
    let ids = [place.sleeper("/w7"), place.sleeper(&deep)];
    let mut pids = cgroup.pids().expect("pids");
    pids.sort_unstable();
    assert_eq!(pids, sorted(ids));
    cgroup.kill().expect("killed");
    delete(cgroup.path(), SOON).expect("deleted");
}

#[test]
fn device_rules_hold_for_real_nodes() {
    let Some(place) = Place::new("devices") else { return };
    let Some(dir) = folder_for_nodes("devices") else { return };
    // Reading, not writing, /dev/kmsg's number; nothing about /dev/nvram's.
    let rules = r#"{"devices":[{"allow":false,"access":"rwm"},
        {"allow":true,"type":"c","major":1,"minor":11,"access":"r"},
        {"allow":true,"type":"c","major":1,"minor":5,"access":"r"}]}"#;
    place.create("", rules).expect("created");
    for (script, expect) in [
        ("mknod null c 1 3", true),
        ("echo > null", true),
        ("mknod kmsg c 1 11", true),
        (": < kmsg", true),
        (": >> kmsg", false),
        (": <> kmsg", false),
        ("mknod mem c 1 1", true),
        (": < mem", false),
        ("mknod block b 7 0", true),
        (": < block", false),
        (": <> /dev/zero", true),
    ] {
        // A redirection of a special built-in ends the shell: `true` is none.
        let script = script.replace(": ", "true ");
        let status = place.shell("", &format!("({script})")).current_dir(&dir).status().expect("sh");
        assert_eq!(status.success(), expect, "{script}");
    }
    std::fs::remove_dir_all(&dir).expect("removed");
}

#[test]
fn random_rules_hold_for_real_nodes() {
    let Some(place) = Place::new("random") else { return };
    // Nodes whose opening does nothing: null, zero, full, random, urandom.
    let Some(dir) = folder_for_nodes("random") else { return };
    for minor in [3, 5, 7, 8, 9] {
        let node = dir.join(minor.to_string());
        let made = Command::new("mknod").arg(&node).args(["c", "1", &minor.to_string()]).status();
        assert!(made.expect("mknod").success());
    }
    let paths = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];
    let mut random = Rng::with_seed(7);
    for _ in 0..20 {
        let mut rules = vec![serde_json::json!({"allow": random.bool(), "access": "rwm"})];
        for _ in 0..random.usize(..6) {
            let minor = random.choice([3, 5, 7, 8, 9]);
            let access = random.choice(["r", "w", "rw", "rwm"]);
            let allow = random.bool();
            rules.push(serde_json::json!({"allow": allow, "type": "c", "major": 1, "minor": minor, "access": access}));
        }
        one_list(&place, &dir, &rules, &paths);
    }
    std::fs::remove_dir_all(&dir).expect("removed");
}

/// Compares the kernel's verdicts with the rules', which the unit tests compare with a model.
fn one_list(place: &Place, dir: &Path, rules: &[serde_json::Value], paths: &[&str]) {
    use pintle::plan::cgroup::devices::{Devices, Kind, READ, Rules, WRITE};
    let listed: Vec<_> =
        serde_json::from_value(serde_json::Value::Array(rules.to_vec())).expect("device rules");
    let Ok(decided) = Rules::of(&listed, paths) else { return };
    let resources = serde_json::from_value(serde_json::json!({"devices": rules})).expect("resources");
    let plan = Plan::new(&Input {
        driver: Driver::Files,
        uid: 0,
        annotations: None,
        id: "c1",
        cgroups_path: Some(&place.top),
        resources: Some(&resources),
        device_paths: paths,
        own: "/",
        rootless: false,
        in_user_namespace: false,
    })
    .expect("a plan");
    place.make(&plan).expect("created");
    let mut script = String::new();
    let mut expected = Vec::new();
    for minor in [3, 5, 7, 8, 9] {
        let devices = Devices { kind: Kind::Char, major: Some(1), minor: Some(minor) };
        let exception = decided.exceptions.get(&devices).copied().unwrap_or(0);
        for (operator, access) in [("<", READ), (">>", WRITE), ("<>", READ | WRITE)] {
            let number = expected.len();
            script += &format!("(true {operator} ./{minor}) && touch ok{number};");
            expected.push(if decided.allow { access & exception == 0 } else { access & !exception == 0 });
        }
    }
    place.shell("", &script).current_dir(dir).status().expect("sh");
    for (number, expect) in expected.iter().enumerate() {
        let mark = dir.join(format!("ok{number}"));
        assert_eq!(mark.exists(), *expect, "node {}, access {}, rules {rules:?}", number / 3, number % 3);
        let _ = std::fs::remove_file(mark);
    }
}

#[test]
fn the_kernel_takes_every_program() {
    let Some(place) = Place::new("programs") else { return };
    let mut random = Rng::with_seed(11);
    let mut taken = 0;
    for _ in 0..300 {
        let mut rules = vec![serde_json::json!({"allow": random.bool(), "access": "rwm"})];
        for _ in 0..random.usize(..7) {
            let (allow, kind) = (random.bool(), random.choice(["b", "c"]));
            let [major, minor] = [(); 2].map(|()| random.choice([None, Some(1), Some(5), Some(5000)]));
            let access = random.choice(["r", "w", "m", "rw", "rwm"]);
            rules.push(serde_json::json!({"allow": allow, "type": kind, "major": major, "minor": minor, "access": access}));
        }
        let resources = serde_json::from_value(serde_json::json!({"devices": rules})).expect("resources");
        let plan = Plan::new(&Input {
            driver: Driver::Files,
            uid: 0,
            annotations: None,
            id: "c1",
            cgroups_path: Some(&place.top),
            resources: Some(&resources),
            device_paths: &[],
            own: "/",
            rootless: false,
            in_user_namespace: false,
        });
        // Some lists are refused for holes in wider rules.
        if let Ok(plan) = plan {
            place.make(&plan).unwrap_or_else(|error| panic!("{rules:?}: {error}"));
            taken += 1;
        }
    }
    assert!(taken > 100, "only {taken} lists");
}

#[test]
fn a_limit_without_its_controller_says_so_and_leaves_nothing() {
    let Some(place) = Place::new("missing") else { return };
    let offered = std::fs::read_to_string(place.layout.mount.join("cgroup.controllers")).expect("readable");
    if offered.split_whitespace().any(|name| name == "memory") {
        println!("skipped: this machine has the memory controller");
        return;
    }
    let error = place.create("/a", r#"{"memory":{"limit":10000000}}"#).expect_err("refused").to_string();
    let mount = place.layout.mount.display();
    let expect = format!(
        "linux.resources.memory.limit: cannot write memory.max: this host's cgroup2 hierarchy ({mount}) has no memory controller"
    );
    assert!(error.starts_with(&expect), "{error}");
    assert!(!place.path("").exists(), "the failed create left a directory");
    let error = place.create("", r#"{"unified":{"memory.high":"5"}}"#).expect_err("refused").to_string();
    assert!(
        error.contains(r#"unified resource "memory.high" can't be set: controller "memory" not available"#),
        "{error}"
    );
    place.create("", r#"{"memory":{"limit":-1},"pids":{"limit":-1}}"#).expect("no limit needs no controller");
}

#[test]
fn a_limit_with_its_controller_is_written() {
    let Some(mut place) = Place::new("hugetlb") else { return };
    let control =
        std::fs::read_to_string(place.layout.mount.join("cgroup.subtree_control")).expect("readable");
    let offered = std::fs::read_to_string(place.layout.mount.join("cgroup.controllers")).expect("readable");
    if !offered.split_whitespace().any(|name| name == "hugetlb") {
        println!("skipped: this machine has no hugetlb controller");
        return;
    }
    place.enabled = (!control.contains("hugetlb")).then_some("hugetlb");
    let cgroup = place
        .create(
            "/a",
            r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}],"unified":{"cgroup.max.depth":"3"}}"#,
        )
        .expect("created");
    let read = |name: &str| std::fs::read_to_string(cgroup.path().join(name)).expect("readable");
    assert_eq!(read("hugetlb.2MB.max"), "4194304\n");
    assert_eq!(read("hugetlb.2MB.rsvd.max"), "4194304\n");
    assert_eq!(read("cgroup.max.depth"), "3\n");
    let stats = cgroup.stats().expect("stats");
    assert!(stats.hugetlb.contains_key("2MB"), "{stats:?}");
    let bad = r#"{"hugepageLimits":[{"pageSize":"2MB","limit":0}],"unified":{"cgroup.max.depth":"x"}}"#;
    let bad = serde_json::from_str(bad).expect("resources");
    let bad = Limits::new(Some(&bad)).expect("limits");
    let before = cgroup.before(&bad);
    let error = cgroup.apply(&bad).expect_err("refused").to_string();
    cgroup.set_back(&before).expect("set back");
    assert_eq!(read("hugetlb.2MB.max"), "4194304\n", "the failed change was taken back");
    let path = cgroup.path().display();
    assert_eq!(
        error,
        format!(
            "linux.resources.unified[\"cgroup.max.depth\"]: unable to set unified resource \"cgroup.max.depth\": \
             failed to write \"x\": write {path}/cgroup.max.depth: invalid argument"
        )
    );
}

#[test]
fn below_a_threaded_cgroup_everything_is_threaded() {
    let Some(place) = Place::new("threaded") else { return };
    place.create("/a", "{}").expect("created");
    std::fs::write(place.path("/a/cgroup.type"), "threaded").expect("threaded");
    let cgroup = place.create("/b", "{}").expect("created");
    assert_eq!(std::fs::read_to_string(cgroup.path().join("cgroup.type")).expect("type"), "threaded\n");
    let error = place
        .create("/c", r#"{"hugepageLimits":[{"pageSize":"2MB","limit":0}]}"#)
        .expect_err("refused")
        .to_string();
    assert!(error.ends_with("with domain controllers -- it is in an invalid state"), "{error}");
}

#[test]
fn a_delegated_cgroup_belongs_to_its_user() {
    use std::os::unix::fs::MetadataExt;
    let Some(place) = Place::new("delegate") else { return };
    let cgroup = place.create("", "{}").expect("created");
    cgroup.delegate(1234).expect("delegated");
    for (name, owner) in
        [("", 1234), ("cgroup.procs", 1234), ("cgroup.subtree_control", 1234), ("cgroup.freeze", 0)]
    {
        let there = std::fs::metadata(cgroup.path().join(name)).expect("there").uid();
        assert_eq!(there, owner, "{name:?}");
    }
}

#[test]
fn what_is_used_is_measured() {
    let Some(mut place) = Place::new("stats") else { return };
    let cgroup = place.create("", "{}").expect("created");
    place.sleeper("");
    let stats = cgroup.stats().expect("stats");
    assert_eq!(stats.pids.current, 1);
    assert!(stats.cpu.usage.total > 0, "{stats:?}");
    assert!(Cgroup::open(Path::new("/sys/fs/cgroup/pintle-dev-none")).expect("no error").is_none());
}
