//! /dev: the nodes that are always there, those that config.json adds, and what the cgroup lets through.

use pintle_tests::*;
use std::fs;

fn stat(report: &Value) -> (String, String, String) {
    let found = &report["found"];
    let text = |key: &str| found[key].as_str().unwrap_or_else(|| panic!("{report}")).to_owned();
    (text("kind"), text("device"), text("mode"))
}

#[test]
fn the_six_default_nodes_are_there_for_everyone() {
    let nodes = [
        ("null", "1:3"),
        ("zero", "1:5"),
        ("full", "1:7"),
        ("random", "1:8"),
        ("urandom", "1:9"),
        ("tty", "5:0"),
    ];
    rows(nodes.map(|(n, d)| (n, (n, d))), |(name, device)| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let path = format!("/dev/{name}");
        let report = t.report(b.args(&["/probe", "try", "stat", &path]));
        assert_eq!(stat(&report[0]), ("char".into(), device.into(), "666".into()));
    });
}

#[test]
fn the_links_of_dev_are_there() {
    let links = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ];
    rows(links.map(|(n, l)| (n, (n, l))), |(name, target)| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let path = format!("/dev/{name}");
        let report = t.report(b.args(&["/probe", "try", "readlink", &path]));
        assert_eq!(report[0]["found"], target);
    });
}

#[test]
fn the_default_nodes_can_be_used() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let report = t.report(b.args(&[
            "/probe",
            "try",
            "read-one",
            "/dev/null",
            ",",
            "read-one",
            "/dev/zero",
            ",",
            "read-one",
            "/dev/urandom",
            ",",
            "open-write",
            "/dev/full",
        ]));
        let found: Vec<&Value> = report.as_array().unwrap().iter().map(|r| &r["found"]).collect();
        assert_eq!(found[..3], [&json!(0), &json!(1), &json!(1)]);
        assert_eq!(report[3]["errno"], "");
    });
}

#[test]
fn listed_devices_are_made_with_mode_and_owner() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.set("/linux/devices", json!([{"path": "/dev/sub/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 3, "gid": 4}]));
        let report = t.report(b.args(&["/probe", "try", "stat", "/dev/sub/mine"]));
        assert_eq!(stat(&report[0]), ("char".into(), "1:5".into(), "640".into()));
        assert_eq!((&report[0]["found"]["uid"], &report[0]["found"]["gid"]), (&json!(3), &json!(4)));
    });
}

#[test]
fn ptmx_is_the_containers_own_also_where_the_hosts_is_listed() {
    rows([("as root", false), ("in a user namespace", true)], |inside| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        if inside {
            b.user_namespace();
        }
        b.set("/linux/devices", json!([{"path": "/dev//ptmx", "type": "c", "major": 5, "minor": 2}]));
        let report = t.report(b.args(&["/probe", "try", "readlink", "/dev/ptmx"]));
        assert_eq!(report[0]["found"], "pts/ptmx");
    });
}

#[test]
fn the_umask_does_not_touch_the_mode_of_a_device() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.set("/process/user/umask", json!(0o777));
        b.set(
            "/linux/devices",
            json!([{"path": "/dev/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o666}]),
        );
        let report = t.report(b.args(&["/probe", "try", "stat", "/dev/mine"]));
        assert_eq!(stat(&report[0]).2, "666");
    });
}

#[test]
fn block_devices_and_fifos_can_be_listed() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.push(
            "/linux/devices",
            json!({"path": "/dev/block", "type": "b", "major": 7, "minor": 99, "fileMode": 0o600}),
        );
        b.push("/linux/devices", json!({"path": "/dev/pipe", "type": "p", "fileMode": 0o600}));
        let report = t.report(b.args(&["/probe", "try", "stat", "/dev/block", ",", "stat", "/dev/pipe"]));
        assert_eq!(stat(&report[0]).0, "block");
        assert_eq!(stat(&report[1]).0, "fifo");
    });
}

#[test]
fn a_node_outside_dev_can_be_listed() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.set(
            "/linux/devices",
            json!([{"path": "/data/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666}]),
        );
        let report = t.report(b.args(&["/probe", "try", "stat", "/data/null"]));
        assert_eq!(stat(&report[0]).1, "1:3");
    });
}

#[test]
fn in_a_user_namespace_nodes_are_the_hosts() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.user_namespace();
        let report = t.report(b.args(&[
            "/probe",
            "try",
            "stat",
            "/dev/null",
            ",",
            "open-write",
            "/dev/null",
            ",",
            "read-one",
            "/dev/zero",
        ]));
        assert_eq!(stat(&report[0]), ("char".into(), "1:3".into(), "666".into()));
        assert_eq!((&report[1]["errno"], &report[2]["found"]), (&json!(""), &json!(1)));
    });
}

#[test]
fn what_the_rules_do_not_allow_cannot_be_opened() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        // 1:11 is kmsg, which no default rule allows.
        b.set(
            "/linux/devices",
            json!([{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666}]),
        );
        let report = t.report(b.args(&["/probe", "try", "open-write", "/dev/kmsg"]));
        assert_eq!(report[0]["errno"], "EPERM");
    });
}

#[test]
fn what_the_rules_allow_can_be_opened() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.set(
            "/linux/devices",
            json!([{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666}]),
        );
        b.push(
            "/linux/resources/devices",
            json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": "w"}),
        );
        let report =
            t.report(b.args(&["/probe", "try", "open-write", "/dev/kmsg", ",", "read-one", "/dev/kmsg"]));
        assert_eq!((&report[0]["errno"], &report[1]["errno"]), (&json!(""), &json!("EPERM")));
    });
}

#[test]
fn a_node_can_be_made_but_not_used_against_the_rules() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        for set in ["bounding", "effective", "permitted"] {
            b.push(&format!("/process/capabilities/{set}"), json!("CAP_MKNOD"));
        }
        let report = t.report(b.args(&[
            "/probe",
            "try",
            "mknod",
            "/dev/kmsg",
            "1",
            "11",
            ",",
            "open-write",
            "/dev/kmsg",
        ]));
        assert_eq!((&report[0]["errno"], &report[1]["errno"]), (&json!(""), &json!("EPERM")));
    });
}

#[test]
fn dev_is_left_alone_when_the_bundle_binds_its_own() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let mounts = b.config["mounts"].as_array_mut().unwrap();
        mounts.retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
        b.mount("/dev", "bind", "/dev", &["rbind"]);
        let before: Vec<_> = fs::read_dir("/dev").unwrap().flatten().map(|e| e.file_name()).collect();
        let report = t.report(b.args(&["/probe", "try", "stat", "/dev/null"]));
        let after: Vec<_> = fs::read_dir("/dev").unwrap().flatten().map(|e| e.file_name()).collect();
        assert_eq!(stat(&report[0]).1, "1:3");
        assert_eq!(before, after);
    });
}

#[test]
fn unknown_letters_of_an_access_are_passed_over() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let node = json!({"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666});
        let rule = json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": "wa"});
        b.set("/linux/devices", json!([node])).push("/linux/resources/devices", rule);
        let report = t.report(b.args(&["/probe", "try", "open-write", "/dev/kmsg"]));
        assert_eq!(report[0]["errno"], "");
    });
}
