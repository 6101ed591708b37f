//! The root of the container: read-only or not, masked and read-only paths, propagation, without pivot_root.

use pintle_tests::*;
use std::fs;

#[test]
fn a_read_only_rootfs_cannot_be_written() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let write = ["/probe", "try", "write", "/data/x", "y"];
        assert_eq!(t.report(b.args(&write))[0]["errno"], "EROFS");
        assert_eq!(t.report(b.writable())[0]["errno"], "");
        assert_eq!(fs::read_to_string(b.inside("/data/x")).unwrap(), "y");
    });
}

#[test]
fn an_absolute_rootfs_path_works() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let path = b.rootfs();
        t.report(b.set("/root/path", json!(path)));
    });
}

#[test]
fn masked_files_are_empty_and_masked_folders_too() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.file("/etc/secret", "hidden", 0o644).file("/data/folder/file", "hidden", 0o644).writable();
        b.set("/linux/maskedPaths", json!(["/etc/secret", "/data/folder", "/nothing/here"]));
        let report = t.report(b.args(&[
            "/probe",
            "try",
            "read",
            "/etc/secret",
            ",",
            "list",
            "/data/folder",
            ",",
            "write",
            "/data/folder/x",
            "y",
        ]));
        assert_eq!((&report[0]["found"], &report[1]["found"]), (&json!(""), &json!([])));
        assert_eq!(report[2]["errno"], "EROFS");
    });
}

#[test]
fn read_only_paths_can_be_read_but_not_written() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.file("/data/file", "old", 0o644).file("/etc/file", "old", 0o644).writable();
        b.set("/linux/readonlyPaths", json!(["/data", "/etc/file", "/nothing/here"]));
        let report = t.report(b.args(&[
            "/probe",
            "try",
            "read",
            "/data/file",
            ",",
            "write",
            "/data/file",
            "x",
            ",",
            "write",
            "/etc/file",
            "x",
            ",",
            "write",
            "/etc/other",
            "x",
        ]));
        assert_eq!(report[0]["found"], "old");
        assert_eq!([&report[1]["errno"], &report[2]["errno"], &report[3]["errno"]], ["EROFS", "EROFS", ""]);
    });
}

#[test]
fn the_default_masks_and_read_only_paths_hold() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let report = t.report(b.args(&[
            "/probe",
            "try",
            "read",
            "/proc/keys",
            ",",
            "read",
            "/proc/timer_list",
            ",",
            "list",
            "/sys/firmware",
            ",",
            "write",
            "/proc/sys/kernel/core_pattern",
            "x",
            ",",
            "open-write",
            "/proc/sysrq-trigger",
        ]));
        assert_eq!((&report[0]["found"], &report[2]["found"]), (&json!(""), &json!([])));
        assert!(report[1]["found"] == "" || report[1]["errno"] == "ENOENT");
        assert_eq!(report[3]["errno"], "EROFS");
        assert!(
            report[4]["errno"] == "EROFS" || report[4]["errno"] == "ENOENT",
            "some kernels have no sysrq"
        );
    });
}

#[test]
fn the_root_is_slave_of_nothing_by_default_and_shared_when_asked() {
    let cases = [("", ""), ("rprivate", ""), ("shared", "shared:"), ("rshared", "shared:")];
    rows(cases.map(|(p, s)| (if p.is_empty() { "default" } else { p }, (p, s))), |(propagation, shown)| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        if !propagation.is_empty() {
            b.set("/linux/rootfsPropagation", json!(propagation));
        }
        let report = t.report(&b);
        let line = report["mounts"][0].as_str().unwrap();
        let tags = line.split(" - ").next().unwrap().split(' ').skip(6).collect::<Vec<_>>().join(" ");
        assert!(if shown.is_empty() { !tags.contains("shared:") } else { tags.contains(shown) }, "{line}");
    });
}

#[test]
fn nothing_of_the_hosts_root_is_left_to_see() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let report = t.report(&b);
        assert_eq!(report["root"], json!(["data", "dev", "etc", "probe", "proc", "run", "sys", "tmp"]));
        assert_eq!(report["mounts"][0].as_str().unwrap().split(' ').nth(4), Some("/"));
        let up = t.report(b.args(&["/probe", "try", "list", "/../../.."]));
        assert_eq!(up[0]["found"], report["root"]);
    });
}

#[test]
fn without_pivot_root_the_container_sees_the_same() {
    behaviour(|| {
        let t = Sandbox::new();
        let b = t.bundle();
        b.write();
        let report = t.call(["run", "--no-pivot", "-b", &b.dir.to_string_lossy(), &t.id()]).ok().json();
        assert_eq!(report["root"], json!(["data", "dev", "etc", "probe", "proc", "run", "sys", "tmp"]));
    });
}

#[test]
fn without_pivot_root_nobody_inside_gets_a_proc_or_sysfs_without_masks() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        // Whole ones, wherever the host has masks of its own, at a place that mountinfo escapes.
        let _proc = HostMount::new(&["-t", "proc", "proc"], &t.dir.join("a proc"));
        let _sys = HostMount::new(&["-t", "sysfs", "sysfs"], &t.dir.join("a sys"));
        b.set("/process/user", json!({"uid": 1000, "gid": 1000}));
        b.args(&["/probe", "try", "unshared", "mount", "proc", "/proc", "+", "mount", "sysfs", "/sys"])
            .write();
        let report = t.call(["run", "--no-pivot", "-b", &b.dir.to_string_lossy(), &t.id()]).ok().json();
        let tried = &report[0]["found"];
        assert_eq!((&tried[0]["errno"], &tried[1]["errno"]), (&json!("EPERM"), &json!("EPERM")), "{report}");
    });
}

#[test]
fn without_pivot_root_the_host_keeps_its_proc_and_sysfs() {
    rows(["slave", "shared", "rshared"].map(|p| (p, p)), |propagation| {
        if Runtime::under_test() != Runtime::Pintle && propagation != "slave" {
            skip("an oracle might take the view's own off");
        }
        let t = Sandbox::new();
        let mut b = t.bundle();
        let around = t.dir.join("shared");
        let _around = HostMount::new(&["-t", "tmpfs", "shared"], &around);
        std::process::Command::new("mount").arg("--make-shared").arg(&around).status().unwrap();
        let _proc = HostMount::new(&["-t", "proc", "proc"], &around.join("proc"));
        let _sys = HostMount::new(&["-t", "sysfs", "sysfs"], &around.join("sys"));
        let own =
            || mounts().into_iter().filter(|m| m.contains(&*t.dir.to_string_lossy())).collect::<Vec<_>>();
        let before = own();
        b.set("/linux/rootfsPropagation", json!(propagation)).write();
        t.call(["run", "--no-pivot", "-b", &b.dir.to_string_lossy(), &t.id()]).ok();
        assert_eq!(own(), before);
    });
}

#[test]
fn sys_is_read_only_and_proc_is_the_containers() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let report = t.report(b.args(&[
            "/probe",
            "try",
            "list",
            "/proc",
            ",",
            "open-write",
            "/sys/kernel/uevent_helper",
            ",",
            "mkdir",
            "/sys/x",
        ]));
        let names = report[0]["found"].as_array().unwrap();
        let pids: Vec<&Value> =
            names.iter().filter(|n| n.as_str().unwrap().bytes().all(|b| b.is_ascii_digit())).collect();
        assert_eq!(pids, [&json!("1")]);
        assert_ne!(report[1]["errno"], "");
        assert_ne!(report[2]["errno"], "");
    });
}

#[test]
fn the_rootfs_may_lie_on_a_shared_mount() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let other = b.beside("shared");
        let _mount = HostMount::new(&["-t", "tmpfs", "shared"], &other);
        std::process::Command::new("mount").arg("--make-shared").arg(&other).status().unwrap();
        for folder in ["proc", "sys", "dev"] {
            fs::create_dir_all(other.join("rootfs").join(folder)).unwrap();
        }
        copy_program(b.inside("/probe"), other.join("rootfs/probe"));
        b.set("/root/path", json!(other.join("rootfs")));
        let before = mounts();
        t.report(&b);
        assert_eq!(
            before.iter().filter(|m| m.contains(&*t.dir.to_string_lossy())).count(),
            mounts().iter().filter(|m| m.contains(&*t.dir.to_string_lossy())).count()
        );
    });
}

#[test]
fn without_a_mount_namespace_no_mount_stays() {
    // Its mounts are the runtime's own: a mount namespace around all calls keeps them from the host.
    let scripts = [
        ("run", "$0 run -b $bundle $id"),
        ("create, start, delete", "$0 create -b $bundle $id && $0 start $id && ended && $0 delete $id"),
        ("create, delete by force", "$0 create -b $bundle $id && $0 delete --force $id"),
        ("a create that fails", "$0 create -b $broken $id"),
    ];
    rows(scripts.map(|(n, s)| (n, (n, s))), |(name, script)| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.without_namespace("mount").remove("/linux/maskedPaths").remove("/linux/readonlyPaths");
        b.args(&["/probe", "try", "list", "/", ",", "read", "/proc/1/cmdline"]).write();
        let mut broken = t.bundle();
        broken.config = b.config.clone();
        broken.args(&["/nothing"]).write();
        let (root, log) = (t.root(), t.dir.join("log"));
        let mut command = std::process::Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c"]).arg(format!(
            "runtime() {{ \"$runtime\" --root {} --log {} --log-format json \"$@\"; }}
             ended() {{ until runtime state $id | grep -q '\"stopped\"'; do sleep 0.05; done; }}
             cat /proc/self/mountinfo > $bundle/before
             {}; status=$?
             cat /proc/self/mountinfo > $bundle/after
             exit $status",
            root.display(),
            log.display(),
            script.replace("$0", "runtime")
        ));
        command.env("runtime", Runtime::under_test().binary()).env("bundle", &b.dir).env("id", t.id());
        command.env("broken", &broken.dir);
        let output = t.finish(command);
        // The copy of a mount of another test's goes when that test removes the mount point.
        let (own, others) = (format!("{}/", t.dir.display()), std::env::temp_dir().join("pt"));
        let text = |name: &str| {
            let all = std::fs::read_to_string(b.beside(name)).unwrap();
            let ours = |line: &&str| line.contains(&own) || !line.contains(&*others.to_string_lossy());
            all.lines().filter(ours).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(output.code == 0, name != "a create that fails", "{output:?}");
        if name.starts_with("run") || name.contains("start") {
            assert!(output.stdout.contains("probe") && output.stdout.contains("found"), "{output:?}");
        }
        assert_eq!(text("after"), text("before"), "mounts stay");
        assert_eq!(t.entries(), 0);
    });
}
