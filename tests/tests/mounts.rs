//! The mounts of config.json: every kind and option, the order, and what a mount must not do to the host.

use pintle_tests::*;
use std::fs;
use std::path::Path;

/// The options and the type of the last mount at this point, as the container sees it.
fn mounted(report: &Value, point: &str) -> Option<(String, String, String)> {
    let lines = report["mounts"].as_array().expect("mounts");
    let line = lines.iter().filter_map(Value::as_str).rfind(|l| l.split(' ').nth(4) == Some(point))?;
    let (left, right) = line.split_once(" - ")?;
    let mut right = right.split(' ');
    let options = left.split(' ').nth(5)?.to_owned();
    let kind = right.next()?.to_owned();
    Some((options, kind, right.nth(1)?.to_owned()))
}

#[track_caller]
fn options(report: &Value, point: &str) -> Vec<String> {
    let (options, _, _) = mounted(report, point).unwrap_or_else(|| panic!("nothing is mounted at {point}"));
    options.split(',').map(str::to_owned).collect()
}

#[test]
fn the_default_mounts_are_there() {
    behaviour(|| {
        let t = Sandbox::new();
        let report = t.report(&t.bundle());
        for (point, kind) in [
            ("/proc", "proc"),
            ("/dev", "tmpfs"),
            ("/dev/pts", "devpts"),
            ("/dev/shm", "tmpfs"),
            ("/dev/mqueue", "mqueue"),
            ("/sys", "sysfs"),
            ("/sys/fs/cgroup", "cgroup2"),
        ] {
            assert_eq!(mounted(&report, point).map(|m| m.1).as_deref(), Some(kind), "{point}");
        }
    });
}

#[test]
fn flags_of_a_new_mount_are_set() {
    let cases = [
        ("ro", "ro"),
        ("nosuid", "nosuid"),
        ("nodev", "nodev"),
        ("noexec", "noexec"),
        ("noatime", "noatime"),
        ("nodiratime", "nodiratime"),
        ("relatime", "relatime"),
        ("nosymfollow", "nosymfollow"),
    ];
    rows(cases, |shown| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.mount("/data", "tmpfs", "t", &[shown]);
        let options = options(&t.report(&b), "/data");
        assert!(options.iter().any(|o| o == shown), "{options:?}");
    });
}

#[test]
fn flags_of_a_bind_mount_are_set() {
    let cases = ["ro", "nosuid", "nodev", "noexec", "noatime", "nosymfollow"].map(|o| (o, o));
    rows(cases, |flag| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.mount("/data", "bind", "/tmp", &["bind", flag]);
        let options = options(&t.report(&b), "/data");
        assert!(options.iter().any(|o| o == flag), "{options:?}");
    });
}

#[test]
fn recursive_flags_reach_the_mounts_below() {
    let cases = [
        ("rro", "ro"),
        ("rnosuid", "nosuid"),
        ("rnodev", "nodev"),
        ("rnoexec", "noexec"),
        ("rnosymfollow", "nosymfollow"),
    ];
    rows(cases.map(|(o, s)| (o, (o, s))), |(option, shown)| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let source = b.beside("source");
        fs::create_dir(&source).unwrap();
        let _below = HostMount::new(&["-t", "tmpfs", "below"], &source.join("below"));
        b.mount("/data", "bind", &source.to_string_lossy(), &["rbind", option]);
        let report = t.report(&b);
        for point in ["/data", "/data/below"] {
            let options = options(&report, point);
            assert!(options.iter().any(|o| o == shown), "{point}: {options:?}");
        }
    });
}

#[test]
fn a_plain_ro_leaves_the_mounts_below_writable() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let source = b.beside("source");
        let _below = HostMount::new(&["-t", "tmpfs", "below"], &source.join("below"));
        b.mount("/data", "bind", &source.to_string_lossy(), &["rbind", "ro"]);
        let report = t.report(&b);
        assert!(options(&report, "/data").contains(&"ro".to_owned()));
        assert!(options(&report, "/data/below").contains(&"rw".to_owned()));
    });
}

#[test]
fn bind_shows_one_mount_and_rbind_the_tree() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let source = b.beside("source");
        let _below = HostMount::new(&["-t", "tmpfs", "below"], &source.join("below"));
        b.folder("/one", 0o755).folder("/tree", 0o755);
        b.mount("/one", "bind", &source.to_string_lossy(), &["bind"]);
        b.mount("/tree", "bind", &source.to_string_lossy(), &["rbind"]);
        let report = t.report(&b);
        assert!(mounted(&report, "/one/below").is_none());
        assert!(mounted(&report, "/tree/below").is_some());
    });
}

#[test]
fn a_bind_source_may_be_relative_to_the_bundle() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        fs::write(b.beside("note"), "from the bundle").unwrap();
        b.mount("/data/note", "bind", "note", &["bind"]).args(&["/probe", "try", "read", "/data/note"]);
        assert_eq!(t.report(&b)[0]["found"], "from the bundle");
    });
}

#[test]
fn a_missing_mount_point_is_made_of_the_right_kind() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.mount("/made/by/mount", "tmpfs", "t", &[]).mount("/made/file", "bind", "/etc/hostname", &["bind"]);
        let try_both = ["/probe", "try", "stat", "/made/by/mount", ",", "stat", "/made/file"];
        let report = t.report(b.args(&try_both));
        assert_eq!(
            (&report[0]["found"]["kind"], &report[1]["found"]["kind"]),
            (&json!("folder"), &json!("file"))
        );
    });
}

#[test]
fn a_destination_through_a_link_stays_in_the_rootfs() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let outside = b.beside("outside");
        fs::create_dir(&outside).unwrap();
        b.link("/away", &outside).link("/up", "../../../../../..");
        b.mount("/away/a", "tmpfs", "t", &[]).mount("/up/b", "tmpfs", "t", &[]);
        b.mount("/../../c", "tmpfs", "t", &[]);
        t.report(&b);
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        assert!(!Path::new("/b").exists() && !Path::new("/c").exists());
    });
}

#[test]
fn mounts_come_in_the_order_of_the_list() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.mount("/data", "tmpfs", "first", &[]).mount("/data", "tmpfs", "second", &[]);
        b.mount("/data/in", "tmpfs", "third", &[]);
        assert!(mounted(&t.report(&b), "/data/in").is_some());
    });
}

#[test]
fn a_tmpfs_takes_its_data_and_the_mode_of_what_it_covers() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.folder("/data", 0o1733);
        b.mount("/data", "tmpfs", "t", &["size=128k"]).mount("/tmp", "tmpfs", "t", &["mode=0711"]);
        let report = t.report(b.args(&[
            "/probe",
            "try",
            "stat",
            "/data",
            ",",
            "stat",
            "/tmp",
            ",",
            "read",
            "/proc/self/mountinfo",
        ]));
        assert_eq!(report[0]["found"]["mode"], "1733");
        assert_eq!(report[1]["found"]["mode"], "711");
        assert!(report[2]["found"].as_str().unwrap().contains("size=128k"));
    });
}

#[test]
fn tmpcopyup_fills_a_tmpfs_with_what_was_there() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.file("/data/sub/file", "kept", 0o640).link("/data/link", "sub/file");
        b.mount("/data", "tmpfs", "t", &["tmpcopyup"]);
        let report = t.report(b.args(&[
            "/probe",
            "try",
            "read",
            "/data/link",
            ",",
            "stat",
            "/data/sub/file",
            ",",
            "write",
            "/data/new",
            "x",
        ]));
        assert_eq!(report[0]["found"], "kept");
        assert_eq!(report[1]["found"]["mode"], "640");
        assert_eq!(report[2]["errno"], "");
        assert!(!b.inside("/data/new").exists());
    });
}

#[test]
fn a_read_only_tmpfs_still_gets_its_mount_points() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.mount("/data", "tmpfs", "t", &["ro"]).mount("/data/below", "tmpfs", "t", &[]);
        let report = t.report(b.args(&["/probe", "try", "mkdir", "/data/x", ",", "mkdir", "/data/below/x"]));
        assert_eq!((&report[0]["errno"], &report[1]["errno"]), (&json!("EROFS"), &json!("")));
    });
}

#[test]
fn propagation_is_as_asked() {
    let cases = [
        ("private", ""),
        ("slave", "master:"),
        ("shared", "shared:"),
        ("rprivate", ""),
        ("rslave", "master:"),
    ];
    rows(cases.map(|(o, s)| (o, (o, s))), |(option, shown)| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let source = b.beside("source");
        let _shared = HostMount::new(&["-t", "tmpfs", "source"], &source);
        let made = std::process::Command::new("mount").arg("--make-shared").arg(&source).status().unwrap();
        assert!(made.success());
        b.mount("/data", "bind", &source.to_string_lossy(), &["rbind", option]);
        let report = t.report(&b);
        let lines = report["mounts"].as_array().unwrap();
        let line = lines.iter().filter_map(Value::as_str).find(|l| l.contains(" /data ")).unwrap();
        let tags = line.split(" - ").next().unwrap().split(' ').skip(6).collect::<Vec<_>>().join(" ");
        assert!(if shown.is_empty() { tags.is_empty() } else { tags.contains(shown) }, "{tags:?}");
    });
}

#[test]
fn a_mount_made_inside_never_shows_outside() {
    let kinds = [("bind", ["rbind", "rprivate"]), ("slave", ["rbind", "rslave"])];
    rows(kinds, |options| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let source = b.beside("source");
        let _host = HostMount::new(&["-t", "tmpfs", "source"], &source);
        std::process::Command::new("mount").arg("--make-shared").arg(&source).status().unwrap();
        fs::create_dir(source.join("sub")).unwrap();
        b.push("/process/capabilities/bounding", json!("CAP_SYS_ADMIN"));
        b.push("/process/capabilities/effective", json!("CAP_SYS_ADMIN"));
        b.push("/process/capabilities/permitted", json!("CAP_SYS_ADMIN"));
        b.mount("/data", "bind", &source.to_string_lossy(), &options);
        let report =
            t.report(b.args(&["/probe", "try", "tmpfs", "/data/sub", ",", "write", "/data/sub/inside", "x"]));
        assert_eq!(report[0]["errno"], "");
        assert!(!source.join("sub/inside").exists());
        assert!(!mounts().iter().any(|m| m.contains(&*source.join("sub").to_string_lossy())));
    });
}

#[test]
fn nothing_that_the_runtime_mounts_shows_outside() {
    behaviour(|| {
        let t = Sandbox::new();
        let b = t.bundle();
        let _c = t.create(&b);
        let dir = b.dir.to_string_lossy().into_owned();
        assert_eq!(
            mounts().into_iter().filter(|m| m.contains(&dir)).collect::<Vec<_>>(),
            Vec::<String>::new()
        );
    });
}

#[test]
fn no_mount_of_a_container_is_a_peer_of_the_hosts() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let source = b.beside("source");
        let _host = HostMount::new(&["-t", "tmpfs", "source"], &source);
        let made = std::process::Command::new("mount").arg("--make-shared").arg(&source).status().unwrap();
        assert!(made.success());
        b.mount("/data", "bind", &source.to_string_lossy(), &["rbind"]);
        let report = t.report(&b);
        assert!(mounted(&report, "/data").is_some());
        for line in report["mounts"].as_array().unwrap().iter().filter_map(Value::as_str) {
            assert!(!line.contains(" shared:"), "{line}");
        }
    });
}

#[test]
fn the_hosts_flags_cannot_be_cleared_from_a_user_namespace() {
    rows(["ro", "nodev", "nosuid", "noexec"].map(|f| (f, f)), |flag| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let source = b.beside("source");
        let _host = HostMount::new(&["-t", "tmpfs", "-o", flag, "source"], &source);
        b.user_namespace();
        for set in ["bounding", "effective", "permitted"] {
            b.push(&format!("/process/capabilities/{set}"), json!("CAP_SYS_ADMIN"));
        }
        b.mount("/data", "bind", &source.to_string_lossy(), &["rbind"]);
        let kept: Vec<&str> =
            ["ro", "nodev", "nosuid", "noexec"].into_iter().filter(|f| *f != flag).collect();
        let kept = kept.join(",");
        let report = t.report(b.args(&[
            "/probe",
            "try",
            "remount",
            "/data",
            &kept,
            ",",
            "read",
            "/proc/self/mountinfo",
        ]));
        assert_eq!(report[0]["errno"], "EPERM");
        let text = report[1]["found"].as_str().unwrap();
        let line = text.lines().find(|l| l.contains(" /data ")).unwrap();
        assert!(line.split(' ').nth(5).unwrap().split(',').any(|o| o == flag), "{line}");
    });
}

#[test]
fn an_id_mapped_mount_shows_other_owners() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let source = b.beside("source");
        fs::create_dir(&source).unwrap();
        fs::write(source.join("file"), "x").unwrap();
        std::os::unix::fs::chown(source.join("file"), Some(7), Some(7)).unwrap();
        let map = json!([{"containerID": 0, "hostID": 1000, "size": 100}]);
        b.push(
            "/mounts",
            json!({"destination": "/data", "type": "bind", "source": source, "options": ["bind", "idmap"],
                "uidMappings": map, "gidMappings": map}),
        );
        let report = t.report(b.args(&["/probe", "try", "stat", "/data/file"]));
        assert_eq!((&report[0]["found"]["uid"], &report[0]["found"]["gid"]), (&json!(1007), &json!(1007)));
    });
}

/// `run` of the probe, by a root that lacks a capability.
#[track_caller]
fn report_without(t: &Sandbox, bundle: &Bundle, capability: &str) -> Value {
    bundle.write();
    let mut command = t.command();
    command.args(["run", "--bundle", &bundle.dir.to_string_lossy(), &t.id()]);
    let mut shell = std::process::Command::new("setpriv");
    shell.arg(format!("--bounding-set=-{capability}")).arg(command.get_program()).args(command.get_args());
    t.finish(shell).ok().json()
}

#[test]
fn who_may_make_no_devices_binds_the_hosts() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let words = ["write", "/dev/null", "x", ",", "stat", "/dev/zero"];
        let report = report_without(&t, b.args(&[&["/probe", "try"][..], &words].concat()), "mknod");
        assert_eq!((&report[0]["errno"], &report[1]["errno"]), (&json!(""), &json!("")));
    });
}

#[test]
fn every_option_that_features_names_is_taken() {
    let features: Value = serde_json::from_str(&Sandbox::new().call(["features"]).ok().stdout).unwrap();
    // What makes it another kind of mount, or changes one that is there.
    let others = ["bind", "rbind", "idmap", "ridmap", "remount"];
    let named = features["mountOptions"].as_array().unwrap().iter().filter_map(Value::as_str);
    rows(named.filter(|name| !others.contains(name)).map(|name| (name, name)), |name| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.mount("/data", "tmpfs", "tmpfs", &[name]);
        assert!(mounted(&t.report(&b), "/data").is_some());
    });
}

#[test]
fn an_overlay_of_the_hosts_directories_is_one_however_long_their_names() {
    let cases = [("short", 1, 2), ("one value's worth and more", 100, 3), ("many", 200, 12)];
    rows(cases.map(|(name, length, count)| (name, (length, count))), |(length, count)| {
        if length > 1 {
            needs_linux(6, 8);
        }
        let t = Sandbox::new();
        let mut b = t.bundle();
        let layers: Vec<String> = (0..count)
            .map(|n| {
                let layer = b.beside(&format!("{n}{}", "x".repeat(length)));
                fs::create_dir(&layer).unwrap();
                fs::write(layer.join(format!("file{n}")), format!("{n}")).unwrap();
                layer.to_string_lossy().into_owned()
            })
            .collect();
        let option = format!("lowerdir={}", layers.join(":"));
        b.mount("/data", "overlay", "overlay", &[&option]);
        let last = format!("/data/file{}", count - 1);
        let words = ["/probe", "try", "read", "/data/file0", ",", "read", &last];
        let report = t.report(b.args(&words));
        assert_eq!(
            (&report[0]["found"], &report[1]["found"]),
            (&json!("0"), &json!(format!("{}", count - 1)))
        );
    });
}

#[test]
fn an_id_mapped_mount_stands_beside_a_user_namespace() {
    let own = json!([{"containerID": 0, "hostID": 100_000, "size": 100}]);
    let other = json!([{"containerID": 0, "hostID": 100_500, "size": 100}]);
    let cases = [("its own map", Some(own), 7), ("another", Some(other), 507), ("the container's", None, 7)];
    let ways = cases.into_iter().flat_map(|(row, map, uid)| {
        [("new", false), ("joined", true)]
            .map(|(how, joined)| (format!("{row}, {how}"), (map.clone(), uid, joined)))
    });
    rows(ways, |(map, uid, joined): (Option<Value>, u32, bool)| {
        let t = Sandbox::new();
        let mut other = t.bundle();
        let other = t.start(other.user_namespace().args(&["/probe", "wait"]));
        let mut b = t.bundle();
        b.user_namespace();
        if joined {
            b.join_namespace("user", &format!("/proc/{}/ns/user", other.pid()));
            b.remove("/linux/uidMappings").remove("/linux/gidMappings");
        }
        let source = b.beside("source");
        fs::create_dir(&source).unwrap();
        fs::write(source.join("file"), "x").unwrap();
        std::os::unix::fs::chown(source.join("file"), Some(7), Some(7)).unwrap();
        let mut mount = json!({"destination": "/data", "type": "bind", "source": source, "options": ["bind", "idmap", "ro"]});
        if let Some(map) = &map {
            (mount["uidMappings"], mount["gidMappings"]) = (map.clone(), map.clone());
        }
        // A second one, which is no less mapped.
        let mut again = mount.clone();
        again["destination"] = json!("/tmp");
        b.push("/mounts", mount).push("/mounts", again);
        let words = ["stat", "/data/file", ",", "write", "/data/file", "y", ",", "stat", "/tmp/file"];
        let report = t.report(b.args(&[&["/probe", "try"][..], &words].concat()));
        assert_eq!(report[2]["found"]["uid"], json!(uid));
        assert_eq!((&report[0]["found"]["uid"], &report[0]["found"]["gid"]), (&json!(uid), &json!(uid)));
        assert_eq!(report[1]["errno"], "EROFS");
    });
}

#[test]
fn an_id_map_that_the_source_can_not_have_is_told() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.user_namespace();
        // procfs has no id maps.
        b.push("/mounts", json!({"destination": "/data", "type": "bind", "source": "/proc/self", "options": ["bind", "idmap"]}));
        t.run(&b).fails(1, "invalid argument");
        assert_eq!(t.entries(), 0);
    });
}

#[test]
fn an_id_map_reaches_the_mounts_below_only_if_it_is_recursive() {
    // The owner of both files on the host is 1000; the map has it as 7, and groups as 8.
    rows([("idmap", 1000), ("ridmap", 7)].map(|r| (r.0, r)), |(option, below)| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let source = b.beside("source");
        let _inner = HostMount::new(&["-t", "tmpfs", "tmpfs"], &source.join("below"));
        for file in ["file", "below/file"] {
            fs::write(source.join(file), "x").unwrap();
            std::os::unix::fs::chown(source.join(file), Some(1000), Some(1000)).unwrap();
        }
        let map = |to: u32| json!([{"containerID": 1000, "hostID": to, "size": 1}]);
        b.push(
            "/mounts",
            json!({"destination": "/data", "type": "bind", "source": source, "options": ["rbind", option],
                "uidMappings": map(7), "gidMappings": map(8)}),
        );
        let report =
            t.report(b.args(&["/probe", "try", "stat", "/data/file", ",", "stat", "/data/below/file"]));
        let uid = |n: usize| report[n]["found"]["uid"].clone();
        assert_eq!((uid(0), uid(1)), (json!(7), json!(below)), "{report}");
        assert_eq!(report[0]["found"]["gid"], 8, "{report}");
    });
}

#[test]
fn the_cgroup_mount_shows_the_container_as_its_root() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let report = t.report(b.args(&[
            "/probe",
            "try",
            "read",
            "/proc/self/cgroup",
            ",",
            "read",
            "/sys/fs/cgroup/cgroup.procs",
            ",",
            "mkdir",
            "/sys/fs/cgroup/x",
        ]));
        assert!(report[0]["found"].as_str().unwrap().lines().any(|l| l == "0::/"), "{report}");
        assert_eq!(report[1]["found"], "1\n");
        assert_eq!(report[2]["errno"], "EROFS");
    });
}

#[test]
fn without_a_cgroup_namespace_the_cgroup_mount_is_read_only_too() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.without_namespace("cgroup");
        let report = t.report(b.args(&["/probe", "try", "mkdir", "/sys/fs/cgroup/x"]));
        assert_eq!(report[0]["errno"], "EROFS");
    });
}

#[test]
fn access_times_of_a_bind_are_kept_unless_a_way_is_chosen() {
    let cases = [
        ("noatime", "ro", "noatime"),
        ("noatime", "atime", "noatime"),
        ("noatime", "norelatime", "noatime"),
        ("noatime", "relatime", "relatime"),
        ("noatime", "nodiratime", "nodiratime relatime"),
        ("nodiratime", "strictatime", ""),
        ("nodiratime", "dev", "nodiratime relatime"),
    ];
    rows(cases.map(|(s, o, e)| (format!("{s}, {o}"), (s, o, e))), |(source_has, option, expect)| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let source = b.beside("source");
        fs::create_dir(&source).unwrap();
        let _source = HostMount::new(&["-t", "tmpfs", "-o", source_has, "source"], &source);
        b.mount("/data", "bind", &source.to_string_lossy(), &["bind", option]);
        let mut times = options(&t.report(&b), "/data");
        times.retain(|option| option.ends_with("atime"));
        times.sort();
        assert_eq!(times.join(" "), expect);
    });
}

#[test]
fn nosymfollow_is_never_locked_for_a_user_namespace() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let source = b.beside("source");
        fs::create_dir(&source).unwrap();
        let _source = HostMount::new(&["-t", "tmpfs", "-o", "nodev,nosymfollow", "source"], &source);
        b.user_namespace();
        b.mount("/data", "bind", &source.to_string_lossy(), &["bind", "ro"]);
        let options = options(&t.report(&b), "/data");
        let has = |name: &str| options.iter().any(|option| option == name);
        assert!(has("ro") && has("nodev") && !has("nosymfollow"), "{options:?}");
    });
}

#[test]
fn a_destination_may_be_written_through_the_rootfs() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.mount("/data", "tmpfs", "one", &[]);
        let through = b.inside("/data").join("two");
        b.mount(&through.to_string_lossy(), "tmpfs", "two", &["noexec"]);
        let options = options(&t.report(&b), "/data/two");
        assert!(options.iter().any(|o| o == "noexec"), "{options:?}");
    });
}
