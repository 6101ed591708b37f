//! Containers as units of systemd: what stands in the unit and in the cgroup's files, and what is left of either.

use pintle_tests::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A property of a unit, as `systemctl show` prints it.
#[track_caller]
fn property(unit: &str, name: &str) -> String {
    let output = Command::new("systemctl").args(["show", "--value", "--property", name, unit]).output();
    String::from_utf8(output.expect("systemctl").stdout).expect("text").trim().to_owned()
}

/// A bundle whose container is the scope `engine-NAME.scope` in `machine-NAME.slice`.
fn bundle(t: &Sandbox) -> (Bundle, String, PathBuf) {
    let name = t.id().replace('-', "_");
    let mut b = t.bundle();
    b.args(&["/probe", "wait"]);
    b.set("/linux/cgroupsPath", json!(format!("machine-{name}.slice:engine:{name}")));
    let cgroup = format!("/sys/fs/cgroup/machine.slice/machine-{name}.slice/engine-{name}.scope");
    (b, format!("engine-{name}.scope"), cgroup.into())
}

#[track_caller]
fn is_gone(unit: &str, cgroup: &Path) {
    wait_for("the unit's end", || property(unit, "LoadState") == "not-found");
    assert!(!cgroup.exists(), "{}", cgroup.display());
}

#[test]
fn a_container_is_a_scope_in_its_slice() {
    behaviour(|| {
        let t = Sandbox::by_systemd();
        let (b, unit, cgroup) = bundle(&t);
        let c = t.start(&b);
        assert_eq!(cgroup_of(c.pid()), cgroup);
        assert_eq!(property(&unit, "ActiveState"), "active");
        assert_eq!(property(&unit, "Delegate"), "yes");
        assert_eq!(
            Some(property(&unit, "Slice").as_str()),
            cgroup.parent().unwrap().file_name().unwrap().to_str()
        );
        let inside = c.exec(&["/probe", "try", "read", "/proc/self/cgroup"]).ok().json();
        assert_eq!(inside[0]["found"], "0::/\n", "the container sees its own cgroup as the root: {inside}");
        t.call(["delete", "--force", &c.id]).ok();
        is_gone(&unit, &cgroup);
    });
}

#[test]
fn without_a_path_the_slice_is_the_systems() {
    behaviour(|| {
        let t = Sandbox::by_systemd();
        let c = t.waiting();
        let cgroup = cgroup_of(c.pid());
        assert_eq!(cgroup.parent().unwrap(), Path::new("/sys/fs/cgroup/system.slice"));
        assert!(cgroup.to_string_lossy().ends_with(&format!("-{}.scope", c.id)), "{}", cgroup.display());
    });
}

#[test]
fn limits_stand_in_the_unit_and_in_the_files() {
    behaviour(|| {
        let t = Sandbox::by_systemd();
        let (mut b, unit, cgroup) = bundle(&t);
        b.set(
            "/linux/resources",
            json!({"memory": {"limit": 67_108_864, "reservation": 1_048_576}, "pids": {"limit": 42},
                "cpu": {"shares": 512, "quota": 5000, "period": 30_000}, "hugepageLimits": [{"pageSize": "2MB",
                "limit": 4_194_304}], "unified": {"memory.high": "50331648"}}),
        );
        let _c = t.start(&b);
        for (name, file, expect) in [
            ("MemoryMax", "memory.max", "67108864"),
            ("MemoryLow", "memory.low", "1048576"),
            ("MemoryHigh", "memory.high", "50331648"),
            ("TasksMax", "pids.max", "42"),
            ("CPUWeight", "cpu.weight", "59"),
        ] {
            assert_eq!(property(&unit, name), expect, "{name}");
            assert_eq!(fs::read_to_string(cgroup.join(file)).unwrap().trim(), expect, "{file}");
        }
        // systemd keeps whole percents: 16.7 becomes 17, in both.
        assert_eq!(property(&unit, "CPUQuotaPerSecUSec"), "170ms");
        assert_eq!(fs::read_to_string(cgroup.join("cpu.max")).unwrap().trim(), "5100 30000");
        assert_eq!(fs::read_to_string(cgroup.join("hugetlb.2MB.max")).unwrap().trim(), "4194304");
    });
}

#[test]
fn update_changes_the_unit_and_the_files_or_neither() {
    behaviour(|| {
        let t = Sandbox::by_systemd();
        let (mut b, unit, cgroup) = bundle(&t);
        b.set("/linux/resources", json!({"memory": {"limit": 67_108_864}, "pids": {"limit": 42}}));
        let c = t.start(&b);
        let limits =
            || (property(&unit, "MemoryMax"), fs::read_to_string(cgroup.join("memory.max")).unwrap());
        let both = |bytes: &str| (bytes.to_owned(), format!("{bytes}\n"));
        t.call(["update", "--memory", "33554432", &c.id]).ok();
        assert_eq!(limits(), both("33554432"));
        // systemd takes the one, and the kernel refuses the other.
        t.call(["update", "--memory", "16777216", "--cpu-idle", "7", &c.id]).fails(1, "cpu.idle");
        assert_eq!(limits(), both("33554432"));
        t.call(["update", "--pids-limit", "9", &c.id]).ok();
        assert_eq!(limits(), both("33554432"), "what is not named stays");
        let weight =
            || (property(&unit, "CPUWeight"), fs::read_to_string(cgroup.join("cpu.weight")).unwrap());
        let before = weight();
        t.call(["update", "--cpu-share", "512", "--cpuset-cpus", "99", &c.id]).fails(1, "cpuset.cpus");
        assert_eq!(weight(), before, "what was not set before is not set after");
        assert_eq!(property(&unit, "TasksMax"), "9");
    });
}

#[test]
fn annotations_become_properties() {
    behaviour(|| {
        let t = Sandbox::by_systemd();
        let (mut b, unit, _) = bundle(&t);
        b.set("/annotations/org.systemd.property.TimeoutStopSec", json!("7"));
        b.set("/annotations/org.systemd.property.CollectMode", json!("'inactive-or-failed'"));
        let _c = t.start(&b);
        assert_eq!(property(&unit, "TimeoutStopUSec"), "7s");
        assert_eq!(property(&unit, "CollectMode"), "inactive-or-failed");
    });
}

#[test]
fn bad_annotations_and_paths_leave_nothing() {
    let cases = [
        ("name", "/annotations/org.systemd.property.x", json!("7"), "name incorrect"),
        ("value", "/annotations/org.systemd.property.TimeoutStopSec", json!("'a"), "parse error"),
        ("unknown", "/annotations/org.systemd.property.NoSuchThing", json!("7"), "NoSuchThing"),
        (
            "path",
            "/linux/cgroupsPath",
            json!("/a/b"),
            "expected cgroupsPath to be of format \"slice:prefix:name\"",
        ),
        ("slice", "/linux/cgroupsPath", json!("a--b.slice:x:y"), "invalid slice name"),
    ];
    rows(cases.map(|(name, at, value, expect)| (name, (at, value, expect))), |(at, value, expect)| {
        let t = Sandbox::by_systemd();
        let (mut b, unit, cgroup) = bundle(&t);
        b.set(at, value);
        t.try_create(&b).fails(1, expect);
        assert_eq!(t.entries(), 0);
        is_gone(&unit, &cgroup);
    });
}

#[test]
fn a_unit_that_is_there_stays_whose_it_was() {
    behaviour(|| {
        let t = Sandbox::by_systemd();
        let (b, unit, cgroup) = bundle(&t);
        let first = t.start(&b);
        t.try_create(&b).fails(1, "container's cgroup is not empty: 1 process(es) found");
        assert_eq!(first.status(), "running");
        assert_eq!(cgroup_of(first.pid()), cgroup);
        assert_eq!(t.entries(), 1);
        t.call(["delete", "--force", &first.id]).ok();
        is_gone(&unit, &cgroup);
    });
}

#[test]
fn a_frozen_place_is_refused() {
    rows(["itself", "from above"].map(|name| (name, name)), |which| {
        let t = Sandbox::by_systemd();
        let (b, unit, cgroup) = bundle(&t);
        let frozen = if which == "itself" { cgroup.as_path() } else { cgroup.parent().unwrap() };
        fs::create_dir_all(frozen).unwrap();
        fs::write(frozen.join("cgroup.freeze"), "1").unwrap();
        let created = t.try_create(&b);
        fs::remove_dir(frozen).unwrap();
        created.fails(1, "container's cgroup unexpectedly frozen");
        assert_eq!(t.entries(), 0);
        is_gone(&unit, &cgroup);
    });
}

#[test]
fn a_failed_unit_is_forgotten() {
    behaviour(|| {
        let t = Sandbox::by_systemd();
        let (mut b, unit, cgroup) = bundle(&t);
        b.set("/annotations/org.systemd.property.RuntimeMaxSec", json!("5"));
        b.set("/annotations/org.systemd.property.TimeoutStopSec", json!("1"));
        let first = t.start(&b);
        first.wait_until("stopped");
        wait_for("the unit's failure", || property(&unit, "ActiveState") == "failed");
        // Its name is free for another container, even elsewhere, which the end of the first does not touch.
        b.config["annotations"] = json!({});
        let path = b.config["linux"]["cgroupsPath"].as_str().unwrap().replace("machine-", "machine-other-");
        b.set("/linux/cgroupsPath", json!(path));
        let second = t.start(&b);
        t.call(["delete", &first.id]).ok();
        assert_eq!(second.status(), "running");
        assert_eq!(property(&unit, "ActiveState"), "active");
        t.call(["delete", "--force", &second.id]).ok();
        is_gone(&unit, &cgroup);
    });
}

#[test]
fn delete_forgets_a_unit_that_failed() {
    behaviour(|| {
        let t = Sandbox::by_systemd();
        let (mut b, unit, cgroup) = bundle(&t);
        b.set("/annotations/org.systemd.property.RuntimeMaxSec", json!("5"));
        b.set("/annotations/org.systemd.property.TimeoutStopSec", json!("1"));
        let c = t.start(&b);
        wait_for("the unit's failure", || property(&unit, "ActiveState") == "failed");
        c.wait_until("stopped");
        t.call(["delete", &c.id]).ok();
        is_gone(&unit, &cgroup);
    });
}

#[test]
fn devices_stay_forbidden_when_systemd_reloads() {
    behaviour(|| {
        let t = Sandbox::by_systemd();
        let (mut b, unit, _) = bundle(&t);
        // 1:11 is kmsg, which no rule allows.
        b.set("/linux/devices", json!([{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11}]));
        let c = t.start(&b);
        let refused = || {
            let tried = c.exec(&["/probe", "try", "open-write", "/dev/kmsg"]).ok().json();
            tried[0]["errno"].as_str().expect("a word").to_owned()
        };
        assert_eq!(property(&unit, "DevicePolicy"), "strict");
        assert_eq!(refused(), "EPERM");
        assert!(Command::new("systemctl").arg("daemon-reload").status().unwrap().success());
        assert_eq!(refused(), "EPERM");
        t.call(["update", "--pids-limit", "99", &c.id]).ok();
        assert_eq!(refused(), "EPERM");
    });
}

#[test]
fn a_name_that_ends_in_slice_makes_a_slice() {
    behaviour(|| {
        let t = Sandbox::by_systemd();
        let (mut b, ..) = bundle(&t);
        let name = t.id().replace('-', "_");
        b.set("/linux/cgroupsPath", json!(format!("machine.slice:x:machine-{name}.slice")));
        let c = t.start(&b);
        let cgroup = PathBuf::from(format!("/sys/fs/cgroup/machine.slice/machine-{name}.slice"));
        assert_eq!(cgroup_of(c.pid()), cgroup);
        t.call(["delete", "--force", &c.id]).ok();
        assert!(!cgroup.exists());
        assert_ne!(property(&format!("machine-{name}.slice"), "ActiveState"), "active");
    });
}

#[test]
fn a_killed_create_leaves_nothing_that_delete_does_not_find() {
    behaviour(|| {
        let t = Sandbox::by_systemd();
        for round in 0..20u64 {
            let (b, unit, cgroup) = bundle(&t);
            b.write();
            let id = t.id();
            let mut create = t.command();
            create.args(["create", "--bundle"]).arg(&b.dir).arg(&id);
            let mut create = create.spawn().expect("the runtime starts");
            std::thread::sleep(Duration::from_millis(round * 7));
            create.kill().expect("killed");
            create.wait().expect("collected");
            t.call(["delete", "--force", &id]).ok();
            is_gone(&unit, &cgroup);
            assert_eq!(t.entries(), 0);
        }
    });
}

#[test]
fn a_host_without_systemd_says_so() {
    behaviour(|| {
        if Path::new("/run/systemd/system").is_dir() {
            skip("systemd runs this host");
        }
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.args(&["/probe"]).write();
        let mut create = t.command();
        create.args(["--systemd-cgroup", "create", "--bundle"]).arg(&b.dir).arg(t.id());
        t.finish(create).fails(1, "systemd support for managing cgroups is not available");
        assert_eq!(t.entries(), 0);
    });
}
