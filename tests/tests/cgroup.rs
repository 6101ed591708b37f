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
fn exec_is_born_where_it_is_asked_to_be() {
    let cases: [(&str, &[&str], Result<&str, &str>); 16] = [
        ("nowhere named", &[], Ok("")),
        ("the top", &["/"], Ok("")),
        ("an empty path", &[""], Ok("")),
        ("a point", &["."], Ok("")),
        ("below", &["sub"], Ok("/sub")),
        ("below that", &["/sub/./deep/"], Ok("/sub/deep")),
        ("down and up again", &["sub/../other"], Ok("/other")),
        ("controllers named", &["memory,cpu:/sub"], Ok("")),
        ("two controllers", &["memory:/sub", "cpu:/other"], Ok("")),
        ("above", &[".."], Err("error starting setns process: bad sub cgroup path: ..")),
        ("beside", &["../x"], Err("bad sub cgroup path: ../x")),
        ("down and above", &["sub/../.."], Err("bad sub cgroup path: sub/../..")),
        ("missing", &["nope"], Err("nope: no such file or directory")),
        (
            "no controller named",
            &[":sub"],
            Err("invalid --cgroup argument: :sub (empty <controller> prefix)"),
        ),
        ("two places", &["sub", "/"], Err("invalid --cgroup argument: sub (missing <controller>: prefix)")),
        (
            "a controller twice",
            &["cpu:/sub", "cpu:/"],
            Err("invalid --cgroup argument(s): controller cpu specified multiple times"),
        ),
    ];
    rows(cases.map(|(name, words, expect)| (name, (words, expect))), |(words, expect)| {
        let t = Sandbox::new();
        let c = t.waiting();
        let cgroup = cgroup_of(c.pid());
        fs::create_dir_all(cgroup.join("sub/deep")).unwrap();
        fs::create_dir(cgroup.join("other")).unwrap();
        let pid_file = t.dir.join("pid").to_string_lossy().into_owned();
        let mut flags = vec!["--detach", "--pid-file", &pid_file];
        words.iter().for_each(|word| flags.extend(["--cgroup", word]));
        let output = c.exec_with(&flags, &["/probe", "wait"]);
        match expect {
            Err(text) => drop(output.fails(255, text)),
            Ok(place) => {
                output.ok();
                let pid = fs::read_to_string(&pid_file).unwrap().parse().unwrap();
                let top = cgroup.to_string_lossy().into_owned();
                assert_eq!(cgroup_of(pid).to_string_lossy(), format!("{top}{place}"));
            }
        }
    });
}

/// As systemd does it: processes only in leaves, controllers for all of them.
#[test]
fn exec_goes_where_init_went_when_the_top_takes_no_process() {
    behaviour(|| {
        needs_controller("memory");
        let t = Sandbox::new();
        let c = t.waiting();
        let cgroup = cgroup_of(c.pid());
        let leaf = cgroup.join("init.scope");
        fs::create_dir(&leaf).unwrap();
        fs::write(leaf.join("cgroup.procs"), c.pid().to_string()).unwrap();
        c.exec_with(&["--detach"], &["/probe", "wait"]).ok();
        let there =
            |dir: &std::path::Path| fs::read_to_string(dir.join("cgroup.procs")).unwrap().lines().count();
        assert_eq!((there(&cgroup), there(&leaf)), (1, 1), "no controller is handed down yet");
        let beside = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap();
        fs::write(leaf.join("cgroup.procs"), beside.trim()).unwrap();
        fs::write(cgroup.join("cgroup.subtree_control"), "+memory").unwrap();
        c.exec_with(&["--detach"], &["/probe", "wait"]).ok();
        assert_eq!((there(&cgroup), there(&leaf)), (0, 3));
        let output = c.exec_with(&["--cgroup", "/"], &["/probe"]).fails(255, "error adding pid ");
        assert!(output.error().ends_with("device or resource busy"), "{}", output.error());
        assert_eq!(t.call(["ps", "-f", "json", &c.id]).ok().json().as_array().unwrap().len(), 3);
    });
}

#[test]
fn nobody_is_born_into_a_frozen_cgroup() {
    let frozen = "container's cgroup unexpectedly frozen";
    let sleeps = |runtimes: &[Runtime]| {
        if runtimes.contains(&Runtime::under_test()) {
            skip("sleeps until somebody thaws the cgroup");
        }
    };
    rows([("itself", ""), ("from above", "/inner")], |below| {
        sleeps(&[Runtime::Crun]);
        if !below.is_empty() {
            sleeps(&[Runtime::Runc]);
        }
        let t = Sandbox::by_files();
        let name = t.id();
        let place = cgroup_mount().join(&name);
        fs::create_dir_all(cgroup_mount().join(format!("{name}{below}"))).unwrap();
        let mut b = t.bundle();
        b.set("/linux/cgroupsPath", json!(format!("/{name}{below}")));
        fs::write(place.join("cgroup.freeze"), "1").unwrap();
        let outputs = [t.try_create(&b), t.run(&b)];
        let still = fs::read_to_string(place.join("cgroup.freeze")).unwrap();
        fs::write(place.join("cgroup.freeze"), "0").unwrap();
        let entries = t.entries();
        let _ = fs::remove_dir(place.join("inner"));
        let _ = fs::remove_dir(&place);
        outputs.into_iter().for_each(|output| drop(output.fails(1, frozen)));
        assert_eq!((&*still, entries), ("1\n", 0));
    });
    rows([("exec", ""), ("exec below", "sub"), ("exec, frozen from above", "..")], |where_| {
        if !where_.is_empty() {
            sleeps(&[Runtime::Runc, Runtime::Crun]);
        }
        let t = Sandbox::by_files();
        let name = t.id();
        let mut b = t.bundle();
        b.args(&["/probe", "wait"]).set("/linux/cgroupsPath", json!(format!("/{name}/inner")));
        let c = t.start(&b);
        let cgroup = cgroup_of(c.pid());
        fs::create_dir(cgroup.join("sub")).unwrap();
        let place = cgroup.join(where_);
        fs::write(place.join("cgroup.freeze"), "1").unwrap();
        let flags = if where_ == "sub" { &["--cgroup", "sub"][..] } else { &[] };
        if where_ == ".." {
            // What is frozen from above is so when the last process below is.
            let events = || fs::read_to_string(cgroup.join("cgroup.events")).unwrap();
            wait_for("the freeze", || events().contains("frozen 1"));
        }
        let output = c.exec_with(flags, &["/probe"]);
        fs::write(place.join("cgroup.freeze"), "0").unwrap();
        let why = if where_.is_empty() { "cannot exec in a paused container" } else { frozen };
        output.fails(255, why);
    });
}

/// A process that waits for a frozen disk does not stop for anybody.
#[test]
fn a_pause_that_cannot_be_completed_is_taken_back() {
    behaviour(|| {
        needs_controller("memory");
        ["mkfs.ext4", "fsfreeze", "losetup", "mount"].into_iter().for_each(needs_program);
        let t = Sandbox::new();
        let c = t.waiting();
        let (image, point) = (t.dir.join("disk"), t.dir.join("mounted"));
        fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
        let quiet = |program: &str, args: &[&std::path::Path]| {
            let output = std::process::Command::new(program).args(args).output().unwrap();
            output.status.success()
        };
        assert!(quiet("mkfs.ext4", &["-q".as_ref(), &image]));
        if !quiet("modprobe", &["loop".as_ref()]) && !std::path::Path::new("/dev/loop-control").exists() {
            skip("the machine has no loop devices");
        }
        let mounted = HostMount::new(&["-o", "loop", &image.to_string_lossy()], &point);
        assert!(quiet("fsfreeze", &["-f".as_ref(), &point]));
        let script = format!(
            "echo $$ >{}/cgroup.procs; echo x >{}/file",
            cgroup_of(c.pid()).display(),
            point.display()
        );
        let mut writer = std::process::Command::new("sh").args(["-c", &script]).spawn().unwrap();
        let waits = || {
            let status = fs::read_to_string(format!("/proc/{}/status", writer.id())).unwrap_or_default();
            status.contains("State:\tD")
        };
        wait_for("a process that waits for the disk", waits);
        let output = c.call("pause");
        let freeze = fs::read_to_string(cgroup_of(c.pid()).join("cgroup.freeze")).unwrap();
        let status = c.status();
        assert!(quiet("fsfreeze", &["-u".as_ref(), &point]));
        writer.wait().unwrap();
        drop(mounted);
        output.fails(1, "timeout of 10s reached waiting for the cgroup to freeze");
        assert_eq!((&*freeze, &*status), ("0\n", "running"));
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
