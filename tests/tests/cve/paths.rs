//! Holes by paths that an image, a volume or a configuration lays out, with nothing moving: links in the place of
//! folders and of devices, false files where the runtime writes.

use super::guard::{Attack, Target};
use super::race::points;
use super::{node, without_mounts_in};
use pintle_tests::*;
use std::fs;
use std::path::Path;

type Edit = fn(&mut Bundle) -> &mut Bundle;

/// CVE-2019-16884: a volume over /proc swallowed the writes of labels.
#[test]
fn cve_2019_16884_nothing_is_mounted_over_proc() {
    let points = [
        "/proc",
        "/proc/self",
        "/proc/self/attr",
        "/proc/thread-self/attr/exec",
        "/proc/sys",
        "/data/../proc",
    ];
    let kinds = ["tmpfs", "bind"].into_iter();
    rows(
        kinds.flat_map(|kind| points.map(|point| (format!("{kind} at {point}"), (kind, point)))),
        |(kind, point)| {
            let t = Attack::new();
            let mut b = t.bundle();
            let volume = Target::new(&t, "volume", &["attr"]);
            match kind {
                "bind" => b.mount(point, "bind", &volume.dir.to_string_lossy(), &["bind"]),
                _ => b.mount(point, "tmpfs", "t", &[]),
            };
            t.run(&b).fails(1, "cannot be mounted because it is");
            volume.is_untouched();
        },
    );
}

/// CVE-2019-16884: without a procfs of its own the image's files stood where the label was written.
#[test]
fn cve_2019_16884_no_label_is_written_into_a_false_proc() {
    let kinds = [("AppArmor", "/process/apparmorProfile"), ("SELinux", "/process/selinuxLabel")];
    rows(kinds, |place| {
        let t = Attack::new();
        let mut b = t.bundle();
        without_mounts_in("/proc", &mut b);
        b.writable().remove("/linux/maskedPaths").remove("/linux/readonlyPaths");
        let files = ["self", "thread-self", "1"]
            .map(|of| ["attr/exec", "attr/apparmor/exec"].map(|file| format!("/proc/{of}/{file}")));
        let files: Vec<String> = files.into_iter().flatten().collect();
        for file in &files {
            b.file(file, "bait", 0o666);
        }
        b.set(place, json!("unconfined_u:unconfined_r:unconfined_t:s0"))
            .args(&["/probe", "print", "it runs"]);
        t.run(&b);
        for file in &files {
            assert_eq!(
                fs::read_to_string(b.inside(file)).unwrap(),
                "bait",
                "{file}: the label was written there"
            );
        }
    });
}

/// CVE-2023-27561, CVE-2023-28642, CVE-2025-54867: /proc or /sys was a link in the image.
#[test]
fn cve_2023_27561_proc_or_sys_as_a_link_is_refused() {
    let links = ["data", "/data", "../../../../../../proc", "/"];
    let places = ["/proc", "/sys"].into_iter();
    rows(
        places.flat_map(|place| links.map(|link| (format!("{place} to {link}"), (place, link)))),
        |(place, link)| {
            let t = Attack::new();
            let mut b = t.bundle();
            t.run(b.link(place, link)).fails(1, "must be mounted on ordinary directory");
        },
    );
}

/// CVE-2019-18837: links in the path of a mount's target were followed out of the rootfs.
#[test]
fn cve_2019_18837_a_link_in_a_mounts_target_stays_inside() {
    let rows_ = [("absolute", true), ("upwards", false)];
    rows(rows_, |absolute| {
        let t = Attack::new();
        let mut b = t.bundle();
        let target = Target::new(&t, "target", &["there"]);
        let up = Path::new("../../../../../../../../..").join(target.dir.strip_prefix("/").unwrap());
        b.link("/way", if absolute { target.dir.clone() } else { up });
        b.mount("/way/there", "tmpfs", "there", &[]).mount("/way/made/deep", "tmpfs", "made", &[]);
        let output = t.run(b.args(&["/probe", "try", "read", "/proc/self/mountinfo"])).ok().json();
        let list = output[0]["found"].as_str().unwrap();
        for (source, path) in [("there", "there"), ("made", "made/deep")] {
            assert_eq!(points(list, source), [target.dir.join(path).to_string_lossy()], "{list}");
        }
        target.is_untouched();
    });
}

/// CVE-2025-31133, CVE-2025-62161: with a false or without a /dev/null, masks bound something else, or nothing.
#[test]
fn cve_2025_31133_a_false_dev_null_is_no_mask() {
    let cases: [(&str, Edit); 6] = [
        ("none", |b| b),
        ("a link", |b| b.link("/dev/null", "/etc/bait")),
        ("a link to the host's", |b| b.link("/dev/null", "../../../../../../../../etc/passwd")),
        ("a file", |b| b.file("/dev/null", "bait", 0o666)),
        ("a folder", |b| b.folder("/dev/null", 0o755)),
        ("another device", |b| {
            node(&b.inside("/dev/null"), 1, 5);
            b
        }),
    ];
    let wheres = [("in the rootfs", false), ("in a volume", true)];
    let cases = cases
        .into_iter()
        .flat_map(|(what, edit)| wheres.map(|(place, volume)| (format!("{what}, {place}"), (edit, volume))));
    rows(cases, |(edit, volume)| {
        let t = Attack::new();
        let mut b = t.bundle();
        without_mounts_in("/dev", &mut b);
        b.writable().file("/etc/secret", "hidden", 0o644).file("/etc/bait", "bait", 0o666);
        edit(&mut b);
        if volume {
            let source = b.inside("/dev").to_string_lossy().into_owned();
            b.mount("/dev", "bind", &source, &["bind"]);
        }
        b.set("/linux/maskedPaths", json!(["/etc/secret"])).args(&["/probe", "try", "read", "/etc/secret"]);
        let output = t.run(&b);
        assert!(output.code != 0 || output.json()[0]["found"] == "", "{output:?}");
        assert_eq!(fs::read_to_string(b.inside("/etc/bait")).unwrap(), "bait");
    });
}

/// CVE-2025-52565: /dev/console, or the terminal to be bound there, was a link in the image.
#[test]
fn cve_2025_52565_a_link_in_the_terminals_place_hits_nothing() {
    let cases: [(&str, Edit); 4] = [
        ("the console leads out", |b| b.link("/dev/console", b.beside("victim"))),
        ("the console leads into /proc", |b| b.link("/dev/console", "/proc/sys/kernel/hostname")),
        ("the terminals are files", |b| b.file("/dev/pts/ptmx", "", 0o666).file("/dev/pts/0", "bait", 0o666)),
        ("the terminals are links", |b| {
            let victim = b.beside("victim");
            b.folder("/dev/pts", 0o755).link("/dev/pts/ptmx", "/dev/ptmx").link("/dev/pts/0", victim)
        }),
    ];
    rows(cases, |edit| {
        let t = Attack::new();
        let mut b = t.bundle();
        let devpts = b.config["mounts"][2].clone();
        without_mounts_in("/dev", &mut b);
        let victim = b.beside("victim");
        fs::write(&victim, "unharmed").unwrap();
        edit(&mut b);
        if !b.inside("/dev/pts").exists() {
            b.config["mounts"].as_array_mut().unwrap().push(devpts);
        }
        b.writable().set("/process/terminal", json!(true)).args(&["/probe", "sleep"]).write();
        // The connection is all that the runtime needs of it.
        let socket = t.dir.join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let (id, pid_file) = (t.id(), t.dir.join("pid"));
        let words = [
            "create",
            "--console-socket",
            &socket.to_string_lossy(),
            "--pid-file",
            &pid_file.to_string_lossy(),
        ];
        let output = t.call(words.into_iter().chain(["-b", &b.dir.to_string_lossy(), &id]));
        assert!(!output.stderr.contains("panicked"), "{output:?}");
        if output.code == 0 {
            let pid = fs::read_to_string(&pid_file).unwrap();
            let parameter = fs::metadata(format!("/proc/{pid}/root/proc/sys/kernel/hostname")).unwrap();
            assert!(parameter.is_file(), "the parameter is covered: {parameter:?}");
        }
        assert_eq!(fs::read_to_string(victim).unwrap(), "unharmed");
    });
}

/// CVE-2025-52881, CVE-2025-62596: a parameter was written through whatever lay over /proc.
#[test]
fn cve_2025_52881_a_sysctl_is_not_written_into_a_false_proc() {
    behaviour(|| {
        let t = Attack::new();
        let mut b = t.bundle();
        without_mounts_in("/proc", &mut b);
        b.writable().file("/proc/sys/net/ipv4/ip_forward", "bait", 0o666);
        b.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
        b.remove("/linux/maskedPaths").remove("/linux/readonlyPaths");
        t.run(&b);
        assert_eq!(fs::read_to_string(b.inside("/proc/sys/net/ipv4/ip_forward")).unwrap(), "bait");
    });
}

/// CVE-2025-52881: a link led a mount over the files of /proc that the runtime writes.
#[test]
fn cve_2025_52881_a_link_leads_no_mount_into_proc() {
    let ways = [
        "/proc",
        "/proc/self/attr",
        "/proc/thread-self/attr",
        "/proc/1/attr",
        "/proc/sys/net/ipv4",
        "/proc/self/fd",
    ];
    rows(ways.map(|way| (way, way)), |way| {
        let t = Attack::new();
        let mut b = t.bundle();
        let bait = Target::new(&t, "bait", &["attr"]);
        fs::write(bait.dir.join("secret"), "of the host").unwrap();
        b.link("/way", way).mount("/way", "bind", &bait.dir.to_string_lossy(), &["bind"]);
        b.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
        assert_ne!(t.run(b.args(&["/probe", "report"])).code, 0);
        bait.is_untouched();
    });
}

/// CVE-2026-41579, CVE-2026-47766: /dev as a link made the runtime work in the host's /dev.
#[test]
fn cve_2026_41579_dev_as_a_link_does_not_touch_the_hosts() {
    rows(["/dev", "../../../../../../../dev", "a folder of the host"].map(|l| (l, l)), |link| {
        // What becomes of the host's /dev is what every attack is asked at its end.
        let t = Attack::new();
        let mut b = t.bundle();
        let target = Target::new(&t, "target", &[]);
        without_mounts_in("/dev", &mut b);
        let link = if link.starts_with("a folder") { target.dir.as_path() } else { Path::new(link) };
        t.run(b.writable().link("/dev", link));
        target.is_untouched();
    });
}

/// CVE-2025-24965: a handler wrote a file of its own through the rootfs. There is no such handler here.
#[test]
fn cve_2025_24965_no_annotation_writes_through_the_rootfs() {
    behaviour(|| {
        let t = Attack::new();
        let mut b = t.bundle();
        let target = Target::new(&t, "target", &[]);
        b.link("/.krun_config.json", target.dir.join("secret"));
        b.set("/annotations", json!({"run.oci.handler": "krun", "krun.cpus": "1"}))
            .args(&["/probe", "exit", "0"]);
        t.run(&b);
        target.is_untouched();
    });
}
