//! Each namespace: new, joined, or the runtime's own; alone and beside a user namespace. One row per cell.

use pintle_tests::*;
use rustix::time::{ClockId, clock_gettime};
use std::fs;
use std::os::unix::fs::MetadataExt;

/// The name in config.json, the file in /proc/PID/ns and unshare's flag.
const KINDS: [(&str, &str, &str); 7] = [
    ("network", "net", "--net"),
    ("ipc", "ipc", "--ipc"),
    ("uts", "uts", "--uts"),
    ("pid", "pid", "--pid"),
    ("cgroup", "cgroup", "--cgroup"),
    ("time", "time", "--time"),
    ("mount", "mnt", "--mount"),
];

fn inside<'a>(report: &'a Value, file: &str) -> &'a str {
    report["namespaces"][file].as_str().unwrap_or("")
}

fn cells() -> impl Iterator<Item = (&'static str, (&'static str, &'static str, &'static str))> {
    KINDS.into_iter().map(|kind| (kind.0, kind))
}

#[test]
fn a_new_namespace_is_not_the_runtimes() {
    rows(cells(), |(kind, file, _)| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.new_namespace(kind);
        assert_ne!(inside(&t.report(&b), file), namespace("self", file));
    });
}

#[test]
fn a_namespace_that_is_not_listed_is_the_runtimes() {
    rows(cells().filter(|(kind, _)| *kind != "mount"), |(kind, file, _)| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.without_namespace(kind);
        if kind == "uts" {
            b.remove("/hostname");
        }
        assert_eq!(inside(&t.report(&b), file), namespace("self", file));
    });
}

#[test]
fn a_joined_namespace_is_the_one_at_the_path() {
    rows(cells(), |(kind, file, flag)| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let children = matches!(kind, "pid" | "time");
        let holder =
            if children { Holder::new(&["--fork", "--kill-child", flag]) } else { Holder::new(&[flag]) };
        let shown = if children { format!("{file}_for_children") } else { file.to_owned() };
        let path = holder.path(&shown);
        let wanted = namespace(holder.pid(), &shown);
        b.join_namespace(kind, &path);
        assert_eq!(inside(&t.report(&b), file), wanted);
    });
}

#[test]
fn beside_a_new_user_namespace_every_kind_can_be_new() {
    rows(cells(), |(kind, file, _)| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.user_namespace().new_namespace(kind);
        let report = t.report(&b);
        assert_ne!(inside(&report, file), namespace("self", file));
        assert_ne!(inside(&report, "user"), namespace("self", "user"));
    });
}

#[test]
fn beside_a_joined_user_namespace_every_kind_can_be_new() {
    rows(cells(), |(kind, file, _)| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let holder = mapped_holder();
        b.join_namespace("user", &holder.path("user")).map_ids().remove("/linux/uidMappings");
        b.remove("/linux/gidMappings").new_namespace(kind);
        let report = t.report(&b);
        assert_ne!(inside(&report, file), namespace("self", file));
        assert_eq!(inside(&report, "user"), namespace(holder.pid(), "user"));
    });
}

#[test]
fn beside_a_new_user_namespace_some_kinds_can_be_joined() {
    rows([("ipc", "ipc"), ("uts", "uts"), ("network", "net")].map(|(k, f)| (k, (k, f))), |(kind, file)| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let holder = Holder::new(&[&format!("--{file}")]);
        b.user_namespace().join_namespace(kind, &holder.path(file));
        // These belong to the host's root: their file systems can't be mounted, their settings not changed.
        b.remove("/hostname");
        let mounts = b.config["mounts"].as_array_mut().unwrap();
        mounts.retain(|m| m["type"] != "sysfs" && m["type"] != "mqueue" && m["type"] != "cgroup");
        assert_eq!(inside(&t.report(&b), file), namespace(holder.pid(), file));
    });
}

#[test]
fn beside_a_joined_user_namespace_its_own_others_can_be_joined() {
    rows([("ipc", "ipc"), ("uts", "uts"), ("network", "net")].map(|(k, f)| (k, (k, f))), |(kind, file)| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let holder = mapped_holder();
        b.join_namespace("user", &holder.path("user")).map_ids().remove("/linux/uidMappings");
        b.remove("/linux/gidMappings").join_namespace(kind, &holder.path(file));
        let report = t.report(&b);
        assert_eq!(inside(&report, file), namespace(holder.pid(), file));
        assert_eq!(inside(&report, "user"), namespace(holder.pid(), "user"));
    });
}

/// A process in a user namespace with a range of ids, and in others that belong to it.
fn mapped_holder() -> Holder {
    let holder = Holder::new(&["--user", "--net", "--ipc", "--uts"]);
    for file in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{}/{file}", holder.pid()), "0 100000 65536").expect("root may write maps");
    }
    holder
}

#[test]
fn the_maps_of_a_user_namespace_are_as_listed() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.user_namespace();
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 10}, {"containerID": 20, "hostID": 200_000, "size": 5}]);
        b.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
        let report = t.report(&b);
        let words =
            |key: &str| report[key].as_str().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words("uid_map"), "0 100000 10 20 200000 5");
        assert_eq!(words("gid_map"), "0 100000 10 20 200000 5");
    });
}

#[test]
fn the_cgroup_goes_to_the_user_whom_a_joined_user_namespace_says() {
    rows([("maps not listed", false), ("maps listed", true)], |listed| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let holder = mapped_holder();
        b.join_namespace("user", &holder.path("user")).map_ids().args(&["/probe", "wait"]);
        if !listed {
            b.remove("/linux/uidMappings").remove("/linux/gidMappings");
        }
        let mounts = b.config["mounts"].as_array_mut().unwrap();
        let cgroup = mounts.iter_mut().find(|mount| mount["type"] == "cgroup").unwrap();
        cgroup["options"] = json!(["nosuid", "noexec", "nodev"]);
        let c = t.start(&b);
        let owner = |file: &str| fs::metadata(cgroup_of(c.pid()).join(file)).unwrap().uid();
        assert_eq!([".", "cgroup.procs", "cgroup.subtree_control"].map(owner), [100_000; 3]);
    });
}

#[test]
fn maps_that_a_joined_user_namespace_does_not_have_are_refused() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let holder = mapped_holder();
        b.join_namespace("user", &holder.path("user")).map_ids();
        b.set("/linux/uidMappings", json!([{"containerID": 0, "hostID": 1000, "size": 10}]));
        t.try_create(&b).fails(1, "both namespace path and non-matching mapping specified");
    });
}

#[test]
fn all_eight_namespaces_can_be_new_at_once() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.user_namespace().new_namespace("time");
        let report = t.report(&b);
        for file in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
            assert_ne!(inside(&report, file), namespace("self", file), "{file}");
        }
    });
}

#[test]
fn the_first_process_of_a_pid_namespace_is_number_1() {
    behaviour(|| {
        let t = Sandbox::new();
        assert_eq!(t.report(&t.bundle())["pid"], 1);
    });
}

#[test]
fn hostname_and_domainname_are_set() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.set("/hostname", json!("box")).set("/domainname", json!("example.org"));
        let report = t.report(&b);
        assert_eq!((&report["hostname"], &report["domainname"]), (&json!("box"), &json!("example.org")));
    });
}

#[test]
fn loopback_is_up_in_a_new_network_namespace() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        assert_eq!(t.report(b.args(&["/probe", "try", "tcp"]))[0]["errno"], "");
    });
}

#[test]
fn a_joined_network_is_left_as_it_is() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let holder = Holder::new(&["--net"]);
        b.join_namespace("network", &holder.path("net"));
        assert_eq!(t.report(b.args(&["/probe", "try", "tcp"]))[0]["errno"], "ENETUNREACH");
    });
}

/// The host's monotonic and boot time, in seconds.
fn clocks() -> [i64; 2] {
    [ClockId::Monotonic, ClockId::Boottime].map(|clock| clock_gettime(clock).tv_sec)
}

/// The clocks that a probe saw between then and now are ahead of the host's by so many seconds.
#[track_caller]
fn are_moved(report: &Value, before: [i64; 2], offsets: [i64; 2]) {
    let after = clocks();
    for (n, key) in ["monotonic", "boottime"].into_iter().enumerate() {
        let seen = report[key].as_i64().unwrap() - offsets[n];
        // The offsets have nanoseconds, too.
        assert!((before[n]..=after[n] + 1).contains(&seen), "{key}: {seen}, {before:?} to {after:?}");
    }
}

#[test]
fn time_offsets_move_the_clocks() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.new_namespace("time");
        b.set(
            "/linux/timeOffsets",
            json!({"monotonic": {"secs": 100_000, "nanosecs": 5}, "boottime": {"secs": 200_000}}),
        );
        let before = clocks();
        let moved = t.report(&b);
        are_moved(&moved, before, [100_000, 200_000]);
    });
}

#[test]
fn exec_enters_every_namespace_of_the_container() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.user_namespace().new_namespace("time").args(&["/probe", "wait"]);
        let c = t.start(&b);
        let report = c.exec(&["/probe", "report"]).ok().json();
        for file in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
            assert_eq!(inside(&report, file), namespace(c.pid(), file), "{file}");
        }
    });
}

/// The files of all eight in /proc/PID/ns.
const FILES: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

/// The name in config.json of a file in /proc/PID/ns.
fn kind_of(file: &str) -> &'static str {
    match file {
        "user" => "user",
        file => KINDS.iter().find(|kind| kind.1 == file).expect("a kind of namespace").0,
    }
}

/// A mix of namespaces: each of `joined` is the holder's, each of `new` is nobody's yet, the rest is the runtime's.
struct Mix {
    /// What unshare(1) gives the holder.
    holder: &'static [&'static str],
    joined: &'static [&'static str],
    new: &'static [&'static str],
}

/// The rights of [`default_config`], and some that only count in the container's own user namespace.
const RIGHTS: [&str; 3] = ["CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_CHOWN"];
const BITS: &str = "0000000020201421";

impl Mix {
    fn holder(&self) -> Holder {
        let children = self.holder.iter().any(|flag| matches!(*flag, "--pid" | "--time"));
        let fork: &[&str] = if children { &["--fork", "--kill-child"] } else { &[] };
        let holder = Holder::new(&[fork, self.holder].concat());
        if self.holder.contains(&"--user") {
            for file in ["uid_map", "gid_map"] {
                fs::write(format!("/proc/{}/{file}", holder.pid()), "0 100000 65536").unwrap();
            }
        }
        holder
    }

    /// Where the holder's namespace is: what it gives to its children counts, if it has one of that kind.
    fn path(&self, holder: &Holder, file: &str) -> String {
        match file {
            "pid" | "time" => holder.path(&format!("{file}_for_children")),
            file => holder.path(file),
        }
    }

    fn bundle(&self, t: &Sandbox, holder: &Holder) -> Bundle {
        let mut b = t.bundle();
        b.set("/linux/namespaces", json!([]));
        for file in FILES {
            if self.joined.contains(&file) {
                b.join_namespace(kind_of(file), &self.path(holder, file));
            } else if self.new.contains(&file) {
                b.new_namespace(kind_of(file));
            }
        }
        let own = |file: &str| self.joined.contains(&file) || self.new.contains(&file);
        if own("user") {
            b.map_ids();
            if self.joined.contains(&"user") {
                b.remove("/linux/uidMappings").remove("/linux/gidMappings");
            }
        }
        // File systems of a namespace that belongs to the host's root can't be mounted by another; their settings
        // can't be changed.
        let foreign = |file: &str| own("user") && !self.new.contains(&file) && !self.held(file);
        let mounts = b.config["mounts"].as_array_mut().unwrap();
        mounts.retain(|m| match m["type"].as_str() {
            Some("sysfs") => !foreign("net"),
            Some("mqueue") => !foreign("ipc"),
            Some("cgroup") => !foreign("cgroup") && !foreign("net"),
            _ => true,
        });
        if !own("uts") || foreign("uts") {
            b.remove("/hostname");
        }
        for set in ["bounding", "effective", "permitted"] {
            for right in RIGHTS {
                b.push(&format!("/process/capabilities/{set}"), json!(right));
            }
        }
        b
    }

    /// Whether the namespace is joined and belongs to the joined user namespace.
    fn held(&self, file: &str) -> bool {
        self.joined.contains(&file) && self.joined.contains(&"user")
    }
}

#[test]
fn every_mix_of_new_and_joined_namespaces_is_as_listed_and_leaves_nothing() {
    const REST: [&str; 6] = ["cgroup", "ipc", "mnt", "net", "pid", "uts"];
    let mix = |holder, joined, new| Mix { holder, joined, new };
    let mixes = [
        // By path alone; mounts need a namespace of their own or the joined one.
        ("network joined", mix(&["--net"], &["net"], &["mnt"])),
        ("ipc joined", mix(&["--ipc"], &["ipc"], &["mnt"])),
        ("uts joined", mix(&["--uts"], &["uts"], &["mnt"])),
        ("pid joined", mix(&["--pid"], &["pid"], &["mnt"])),
        ("cgroup joined", mix(&["--cgroup"], &["cgroup"], &["mnt"])),
        ("time joined", mix(&["--time"], &["time"], &["mnt"])),
        ("mount joined", mix(&["--mount"], &["mnt"], &[])),
        ("user joined", mix(&["--user"], &["user"], &["mnt", "pid", "net", "ipc"])),
        // No user namespace.
        ("all new", mix(&["--net"], &[], &REST)),
        ("all new with time", mix(&["--net"], &[], &["cgroup", "ipc", "mnt", "net", "pid", "time", "uts"])),
        ("pid joined, rest new", mix(&["--pid"], &["pid"], &["cgroup", "ipc", "mnt", "net", "uts"])),
        ("pid joined, time new", mix(&["--pid"], &["pid"], &["mnt", "time"])),
        ("mount joined, rest new", mix(&["--mount"], &["mnt"], &["cgroup", "ipc", "net", "pid", "uts"])),
        ("time joined, pid new", mix(&["--time"], &["time"], &["mnt", "pid"])),
        ("pid and time joined", mix(&["--pid", "--time"], &["pid", "time"], &["mnt"])),
        (
            "all but user joined",
            mix(
                &["--cgroup", "--ipc", "--mount", "--net", "--pid", "--time", "--uts"],
                &["cgroup", "ipc", "mnt", "net", "pid", "time", "uts"],
                &[],
            ),
        ),
        // A new user namespace.
        (
            "user new, nothing joined",
            mix(&["--net"], &[], &["user", "cgroup", "ipc", "mnt", "net", "pid", "uts"]),
        ),
        ("user new with time", mix(&["--net"], &[], &["user", "ipc", "mnt", "net", "pid", "time", "uts"])),
        (
            "user new, network joined",
            mix(&["--net"], &["net"], &["user", "cgroup", "ipc", "mnt", "pid", "uts"]),
        ),
        ("user new, ipc joined", mix(&["--ipc"], &["ipc"], &["user", "cgroup", "mnt", "net", "pid", "uts"])),
        ("user new, uts joined", mix(&["--uts"], &["uts"], &["user", "cgroup", "ipc", "mnt", "net", "pid"])),
        (
            "user new, cgroup joined",
            mix(&["--cgroup"], &["cgroup"], &["user", "ipc", "mnt", "net", "pid", "uts"]),
        ),
        ("user new, time joined", mix(&["--time"], &["time"], &["user", "ipc", "mnt", "net", "pid", "uts"])),
        (
            "user new, network joined, time new",
            mix(&["--net"], &["net"], &["user", "ipc", "mnt", "pid", "time", "uts"]),
        ),
        // A joined user namespace.
        ("user joined, rest new", mix(&["--user"], &["user"], &REST)),
        (
            "user joined, rest new with time",
            mix(&["--user"], &["user"], &["cgroup", "ipc", "mnt", "net", "pid", "time", "uts"]),
        ),
        (
            "user and its network joined",
            mix(&["--user", "--net"], &["user", "net"], &["cgroup", "ipc", "mnt", "pid", "uts"]),
        ),
        (
            "user and its pid joined",
            mix(&["--user", "--pid"], &["user", "pid"], &["cgroup", "ipc", "mnt", "net", "uts"]),
        ),
        (
            "user and its mount joined",
            mix(&["--user", "--mount"], &["user", "mnt"], &["cgroup", "ipc", "net", "pid", "uts"]),
        ),
        (
            "all eight joined",
            mix(
                &["--user", "--cgroup", "--ipc", "--mount", "--net", "--pid", "--time", "--uts"],
                &["user", "cgroup", "ipc", "mnt", "net", "pid", "time", "uts"],
                &[],
            ),
        ),
    ];
    rows(mixes, |mix| {
        let t = Sandbox::new();
        let holder = mix.holder();
        let b = mix.bundle(&t, &holder);
        let report = t.report(&b);
        for file in FILES {
            let (is, own) = (inside(&report, file), namespace("self", file));
            if mix.joined.contains(&file) {
                let link = std::fs::read_link(mix.path(&holder, file)).unwrap();
                assert_eq!(is, link.to_string_lossy(), "{file} is the joined one");
            } else if mix.new.contains(&file) {
                assert_ne!(is, own, "{file} is new");
            } else {
                assert_eq!(is, own, "{file} is the runtime's");
            }
        }
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            assert_eq!(report["status"][set], BITS, "{set}");
        }
        // A life in two parts, too. A joined mount namespace has another root by now.
        let holder = mix.holder();
        let mut b = mix.bundle(&t, &holder);
        let c = t.create(b.args(&["/probe", "wait"]));
        let (pid, cgroup) = (c.pid(), cgroup_of(c.pid()));
        c.start().ok();
        t.call(["delete", "--force", &c.id]).ok();
        let left = [("process", alive(pid)), ("cgroup", cgroup.exists()), ("entry", t.entries() > 0)];
        assert_eq!(left.map(|(_, is_left)| is_left), [false; 3], "{left:?}");
        let below = |line: &String| line.contains(&*t.dir.to_string_lossy());
        assert_eq!(mounts().into_iter().filter(below).collect::<Vec<_>>(), Vec::<String>::new());
    });
}

#[test]
fn exec_sees_the_time_that_the_program_sees() {
    rows([("create and start", "create"), ("run", "run")], |verb| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.new_namespace("time").args(&["/probe", "wait"]);
        let offsets = json!({"monotonic": {"secs": 300_000, "nanosecs": 7}, "boottime": {"secs": 600_000, "nanosecs": 8}});
        b.set("/linux/timeOffsets", offsets);
        let c = if verb == "create" { t.create(&b) } else { t.start(&b) };
        if verb == "create" {
            c.start().ok();
        }
        c.wait_for_output("ready");
        let before = clocks();
        let report = c.exec(&["/probe", "report"]).ok().json();
        are_moved(&report, before, [300_000, 600_000]);
        let lines = report["timens_offsets"].as_array().unwrap().iter();
        let words: Vec<&str> = lines.flat_map(|line| line.as_str().unwrap().split_whitespace()).collect();
        assert_eq!(words, ["monotonic", "300000", "7", "boottime", "600000", "8"]);
        assert_eq!(inside(&report, "time"), namespace(c.pid(), "time"));
    });
}
