//! The container's cgroup: where it is, what lives in it, and what the host's controllers allow to limit.

use pintle_tests::*;
use std::fs;

#[test]
fn every_process_is_in_the_containers_cgroup() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.args(&["/probe", "crowd", "2"]);
        let c = t.start(&b);
        wait_for("all three", || c.stdout().matches("ready").count() == 3);
        let procs = fs::read_to_string(cgroup_of(c.pid()).join("cgroup.procs")).unwrap();
        assert_eq!(procs.lines().count(), 3);
    });
}

#[test]
fn the_path_is_as_asked() {
    behaviour(|| {
        let t = Sandbox::by_files();
        let mut b = t.bundle();
        let name = t.id();
        b.args(&["/probe", "wait"]).set("/linux/cgroupsPath", json!(format!("/{name}/inner")));
        let c = t.start(&b);
        let cgroup = cgroup_of(c.pid());
        assert!(cgroup.ends_with(format!("{name}/inner")), "{}", cgroup.display());
        t.call(["delete", "--force", &c.id]).ok();
        assert!(!cgroup.exists());
        let _ = fs::remove_dir(cgroup.parent().unwrap());
    });
}

#[test]
fn a_created_container_is_in_its_cgroup_already() {
    behaviour(|| {
        let t = Sandbox::by_files();
        let c = t.create(&t.bundle());
        assert!(cgroup_of(c.pid()).ends_with(&c.id));
    });
}

#[test]
fn sub_cgroups_are_removed_with_the_container() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.waiting();
        let cgroup = cgroup_of(c.pid());
        fs::create_dir_all(cgroup.join("a/b")).unwrap();
        t.call(["delete", "--force", &c.id]).ok();
        assert!(!cgroup.exists());
    });
}

#[test]
fn ps_sees_sub_cgroups() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.waiting();
        let sub = cgroup_of(c.pid()).join("sub");
        fs::create_dir(&sub).unwrap();
        c.exec_with(&["--detach", "--cgroup", "sub"], &["/probe", "wait"]).ok();
        assert_eq!(t.call(["ps", "-f", "json", &c.id]).ok().json().as_array().unwrap().len(), 2);
    });
}

#[test]
fn a_failed_create_leaves_no_cgroup() {
    behaviour(|| {
        let t = Sandbox::by_files();
        let mut b = t.bundle();
        let name = t.id();
        b.args(&["nothing"]).set("/linux/cgroupsPath", json!(format!("/{name}")));
        t.try_create(&b).fails(1, "not found");
        assert!(!cgroup_mount().join(name).exists());
    });
}

#[test]
fn hugetlb_limits_are_set() {
    behaviour(|| {
        needs_controller("hugetlb");
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.args(&["/probe", "wait"]);
        b.set("/linux/resources/hugepageLimits", json!([{"pageSize": "2MB", "limit": 4_194_304}]));
        let c = t.start(&b);
        let text = fs::read_to_string(cgroup_of(c.pid()).join("hugetlb.2MB.max")).unwrap();
        assert_eq!(text.trim(), "4194304");
    });
}

#[test]
fn limits_are_set_where_the_host_has_the_controller() {
    let cases = [
        ("pids", json!({"pids": {"limit": 42}}), "pids.max", "42"),
        ("memory", json!({"memory": {"limit": 67_108_864}}), "memory.max", "67108864"),
        ("cpu", json!({"cpu": {"quota": 50_000, "period": 100_000}}), "cpu.max", "50000 100000"),
    ];
    rows(cases.map(|(n, r, f, v)| (n, (n, r, f, v))), |(controller, resources, file, value)| {
        needs_controller(controller);
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.args(&["/probe", "wait"]).set("/linux/resources", resources);
        let c = t.start(&b);
        assert_eq!(fs::read_to_string(cgroup_of(c.pid()).join(file)).unwrap().trim(), value);
    });
}

#[test]
fn unified_values_are_written_as_they_are() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.args(&["/probe", "wait"]).set("/linux/resources/unified", json!({"cgroup.max.depth": "7"}));
        let c = t.start(&b);
        assert_eq!(fs::read_to_string(cgroup_of(c.pid()).join("cgroup.max.depth")).unwrap().trim(), "7");
    });
}

#[test]
fn a_limit_whose_controller_is_missing_says_where_what_and_what_to_do() {
    let cases = [
        ("memory", "/linux/resources/memory/limit", json!(67_108_864), "memory", "memory.max"),
        (
            "memory reservation",
            "/linux/resources/memory/reservation",
            json!(1_048_576),
            "memory",
            "memory.low",
        ),
        ("cpu quota", "/linux/resources/cpu/quota", json!(50_000), "cpu", "cpu.max"),
        ("cpu shares", "/linux/resources/cpu/shares", json!(512), "cpu", "cpu.weight"),
        ("cpuset", "/linux/resources/cpu/cpus", json!("0"), "cpuset", "cpuset.cpus"),
        ("cpuset nodes", "/linux/resources/cpu/mems", json!("0"), "cpuset", "cpuset.mems"),
        ("pids", "/linux/resources/pids/limit", json!(42), "pids", "pids.max"),
        ("io", "/linux/resources/blockIO/weight", json!(500), "io", "io.weight"),
        (
            "io throttle",
            "/linux/resources/blockIO/throttleReadBpsDevice",
            json!([{"major": 7, "minor": 0, "rate": 1000}]),
            "io",
            "io.max",
        ),
    ];
    rows(cases.map(|(n, p, v, c, f)| (n, (p, v, c, f))), |(pointer, value, controller, file)| {
        if Runtime::under_test() != Runtime::Pintle {
            skip("the words are pintle's own");
        }
        let text = fs::read_to_string(cgroup_mount().join("cgroup.controllers")).unwrap_or_default();
        if text.split_whitespace().any(|c| c == controller) {
            skip(format!("the unified hierarchy has the {controller} controller"));
        }
        let t = Sandbox::new();
        let mut b = t.bundle();
        let path = format!("/{}", t.id());
        b.set("/linux/cgroupsPath", json!(path)).set(pointer, value);
        for output in [t.try_create(&b), t.run(&b)] {
            let error = output.error();
            let place = pointer[1..].replace('/', ".");
            for word in [&*place, &format!("no {controller} controller"), file, "remove the limit"] {
                assert!(error.contains(word), "{word:?} in {error:?}");
            }
            assert_eq!(output.code, 1);
            assert_eq!((t.entries(), cgroup_mount().join(&path[1..]).exists()), (0, false), "left behind");
        }
    });
}

#[test]
fn parents_that_were_made_go_with_the_last_container() {
    rows([("one", 1), ("two below one parent", 2)], |count: usize| {
        let t = Sandbox::by_files();
        let top = t.id();
        let place = cgroup_mount().join(&top);
        let containers: Vec<_> = (0..count)
            .map(|n| {
                let mut b = t.bundle();
                b.args(&["/probe", "wait"]).set("/linux/cgroupsPath", json!(format!("/{top}/b/c{n}")));
                t.start(&b)
            })
            .collect();
        // The first one made the parents.
        for (n, c) in containers.iter().enumerate().rev() {
            assert!(cgroup_of(c.pid()).ends_with(format!("{top}/b/c{n}")));
            t.call(["delete", "--force", &c.id]).ok();
            let (own, parent) = (place.join(format!("b/c{n}")).exists(), place.join("b").exists());
            assert_eq!((own, parent), (false, n > 0), "number {n} of {count}");
        }
        let left = place.exists();
        let _ = fs::remove_dir(place.join("b")).and_then(|()| fs::remove_dir(&place));
        assert!(!left, "the parent stays");
    });
}

#[test]
fn a_parent_that_was_there_before_stays() {
    behaviour(|| {
        let t = Sandbox::by_files();
        let top = t.id();
        let place = cgroup_mount().join(&top);
        fs::create_dir(&place).unwrap();
        let mut b = t.bundle();
        b.set("/linux/cgroupsPath", json!(format!("/{top}/inner")));
        let output = t.run(&b);
        let (stays, inner) = (place.exists(), place.join("inner").exists());
        let _ = fs::remove_dir(&place);
        output.ok();
        assert_eq!((stays, inner), (true, false));
    });
}

#[test]
fn update_of_a_missing_controller_is_refused() {
    behaviour(|| {
        let text = fs::read_to_string(cgroup_mount().join("cgroup.controllers")).unwrap_or_default();
        if text.contains("pids") {
            skip("the unified hierarchy has the pids controller");
        }
        let t = Sandbox::new();
        t.call(["update", "--pids-limit", "5", &t.waiting().id]).fails(1, "pids.max");
    });
}

#[test]
fn update_reads_a_file_or_stdin() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.waiting();
        t.call(["update", "--resources", "/nothing/here", &c.id]).fails(1, "no such file or directory");
        let file = t.dir.join("resources.json");
        fs::write(&file, "{}").unwrap();
        t.call(["update", "--resources", &file.to_string_lossy(), &c.id]).ok();
        let mut command = t.command();
        command.args(["update", "--resources", "-", &c.id]).stdin(fs::File::open(&file).unwrap());
        t.finish(command).ok();
    });
}
