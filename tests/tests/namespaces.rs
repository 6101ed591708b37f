//! Each namespace: new, joined, or the runtime's own; alone and beside a user namespace. One row per cell.

use pintle_tests::*;

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
        std::fs::write(format!("/proc/{}/{file}", holder.pid()), "0 100000 65536")
            .expect("root may write maps");
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

#[test]
fn time_offsets_move_the_clocks() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let now = t.report(&b);
        b.new_namespace("time");
        b.set(
            "/linux/timeOffsets",
            json!({"monotonic": {"secs": 100_000, "nanosecs": 5}, "boottime": {"secs": 200_000}}),
        );
        let moved = t.report(&b);
        let ahead = |key: &str| moved[key].as_i64().unwrap() - now[key].as_i64().unwrap();
        assert!((100_000..100_060).contains(&ahead("monotonic")), "{}", ahead("monotonic"));
        assert!((200_000..200_060).contains(&ahead("boottime")), "{}", ahead("boottime"));
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
