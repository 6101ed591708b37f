//! A bundle's config.json as the runtime takes it: what a process sees of it inside, next to what it sees under Docker.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, symlink};

use pintle_image::bundle::{IdMap, IdMaps, Options, prepare, runtime_config};
use pintle_image::config::Config;

use crate::sandbox::{Output, Sandbox, own};

/// Docker's default capabilities.
const DOCKERS: &str = "00000000a80425fb";
const NONE: &str = "0000000000000000";

/// An image whose configuration is this.
fn image(config: &str) -> Config {
    let document = format!(
        r#"{{"os":"linux","architecture":"amd64","config":{config},"rootfs":{{"type":"layers","diff_ids":[]}}}}"#
    );
    Config::parse(document.as_bytes()).expect("a configuration")
}

/// Writes config.json for this image, whose process is a script.
fn convert(sandbox: &Sandbox, config: &str, script: &str, options: Options) {
    let image = image(config);
    let options = Options { args: ["/bin/busybox", "sh", "-c", script].map(str::to_owned).into(), ..options };
    let rootfs = fs::File::open(sandbox.inside("")).expect("the rootfs");
    prepare(&image, rootfs.as_fd(), &options).expect("it can be prepared");
    let converted = runtime_config(&image, rootfs.as_fd(), &options).expect("it can be converted");
    fs::write(sandbox.bundle().join("config.json"), converted.json).expect("config.json");
}

/// Runs such a container as root, successfully.
#[track_caller]
fn run(sandbox: &Sandbox, config: &str, script: &str, options: Options) -> String {
    convert(sandbox, config, script, options);
    succeeded(sandbox.run())
}

#[track_caller]
fn succeeded(output: Output) -> String {
    assert_eq!(output.code, Some(0), "{output:?}");
    // Warnings would stand here, too.
    assert_eq!(output.stderr, "");
    output.stdout
}

/// The values of /proc/self/status, by name.
fn status<'a>(text: &'a str, name: &str) -> &'a str {
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    found.unwrap_or_else(|| panic!("{name}: {text}")).trim()
}

const USERS: (&str, &str) = (
    "root:x:0:0:root:/root:/bin/sh\napp:x:1000:100::/home/app:/bin/sh\n",
    "root:x:0:\nusers:x:100:\nvideo:x:44:app\n",
);

fn with_users(sandbox: &Sandbox) {
    fs::write(sandbox.inside("etc/passwd"), USERS.0).expect("passwd");
    fs::write(sandbox.inside("etc/group"), USERS.1).expect("group");
}

#[test]
fn root_has_dockers_capabilities_and_filter() {
    let Some(sandbox) = Sandbox::new() else { return };
    let text = run(&sandbox, "{}", "busybox cat /proc/self/status", Options::default());
    for (name, expect) in [
        ("CapInh", NONE),
        ("CapPrm", DOCKERS),
        ("CapEff", DOCKERS),
        ("CapBnd", DOCKERS),
        ("CapAmb", NONE),
        ("Seccomp", "2"),
        ("NoNewPrivs", "0"),
        ("Groups", ""),
    ] {
        assert_eq!(status(&text, name), expect, "{name}");
    }
}

#[test]
fn a_user_of_the_image_has_its_groups_and_no_capability() {
    let Some(sandbox) = Sandbox::new() else { return };
    with_users(&sandbox);
    let script = "busybox cat /proc/self/status; echo HOME: $HOME";
    let text = run(&sandbox, r#"{"User":"app"}"#, script, Options::default());
    for (name, expect) in [
        ("Uid", "1000\t1000\t1000\t1000"),
        ("Gid", "100\t100\t100\t100"),
        ("Groups", "44 100"),
        ("CapPrm", NONE),
        ("CapEff", NONE),
        ("CapBnd", DOCKERS),
        ("Seccomp", "2"),
        ("HOME", "/home/app"),
    ] {
        assert_eq!(status(&text, name), expect, "{name}");
    }
}

#[test]
fn the_file_systems_are_dockers() {
    let Some(sandbox) = Sandbox::new() else { return };
    let text = run(&sandbox, "{}", "busybox cat /proc/mounts", Options::default());
    for (target, kind, options) in [
        ("/proc", "proc", "rw,nosuid,nodev,noexec"),
        ("/dev", "tmpfs", "rw,nosuid,size=65536k,mode=755"),
        ("/dev/pts", "devpts", "rw,nosuid,noexec,gid=5,mode=620,ptmxmode=666"),
        ("/sys", "sysfs", "ro,nosuid,nodev,noexec"),
        ("/dev/mqueue", "mqueue", "rw,nosuid,nodev,noexec"),
        ("/dev/shm", "tmpfs", "rw,nosuid,nodev,noexec,size=65536k"),
        ("/proc/sys", "proc", "ro,nosuid,nodev,noexec"),
        ("/proc/bus", "proc", "ro,nosuid,nodev,noexec"),
    ] {
        // The last one covers those before.
        let mount = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let mount = mount.rev().find(|fields| fields[1] == target);
        let mount = mount.unwrap_or_else(|| panic!("{target}: {text}"));
        assert_eq!(mount[2], kind, "{target}");
        for option in options.split(',') {
            assert!(mount[3].split(',').any(|has| has == option), "{target}: {option} of {}", mount[3]);
        }
    }
}

#[test]
fn what_would_tell_of_the_host_is_masked() {
    let Some(sandbox) = Sandbox::new() else { return };
    let script = "cd /proc; busybox wc -c interrupts kcore timer_list keys 2>/dev/null | busybox grep -v ' 0 '
        busybox ls /sys/firmware /sys/devices/virtual/powercap /proc/acpi /proc/scsi 2>/dev/null | busybox grep -v : 
        for cpu in /sys/devices/system/cpu/cpu*/thermal_throttle; do [ -d $cpu ] && busybox ls $cpu; done
        echo 1 2>/dev/null >/proc/sysrq-trigger && echo sysrq; echo x 2>/dev/null >/proc/sys/kernel/hostname && echo sys
        echo end";
    let text = run(&sandbox, "{}", script, Options::default());
    assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["end"], "{text}");
}

#[test]
fn what_could_reach_the_host_is_not_permitted() {
    let Some(sandbox) = Sandbox::new() else { return };
    let script = "busybox mount -t tmpfs x /tmp; busybox unshare -U true; busybox hostname x
        busybox mknod /tmp/disk b 8 0 && busybox cat /tmp/disk; busybox chroot / /bin/busybox echo chroot
        busybox cat /proc/sys/net/ipv4/ip_unprivileged_port_start
        busybox cat /proc/sys/net/ipv4/ping_group_range; busybox ls /sys/class/net";
    convert(&sandbox, "{}", script, Options::default());
    let output = sandbox.run();
    assert_eq!(output.stdout.split_whitespace().collect::<Vec<_>>().join(" "), {
        "chroot 0 0 2147483647 lo"
    });
    let refused = output.stderr.to_lowercase();
    assert_eq!(refused.matches("not permitted").count() + refused.matches("permission denied").count(), 4);
}

#[test]
fn the_command_environment_and_directory_are_the_images() {
    let Some(sandbox) = Sandbox::new() else { return };
    let config =
        r#"{"Entrypoint":["/bin/sh","-c"],"WorkingDir":"/not/there/yet","Env":["A= b ","PATH=/bin"]}"#;
    let image = image(config);
    let options =
        Options { args: vec!["pwd; echo \"$A|$HOME|$HOSTNAME|$PATH\"".into()], ..Options::default() };
    let rootfs = fs::File::open(sandbox.inside("")).expect("the rootfs");
    prepare(&image, rootfs.as_fd(), &options).expect("it can be prepared");
    let made = fs::metadata(sandbox.inside("not/there/yet")).expect("it was made");
    assert_eq!(made.permissions().mode() & 0o7777, 0o755);
    let converted = runtime_config(&image, rootfs.as_fd(), &options).expect("it can be converted");
    fs::write(sandbox.bundle().join("config.json"), converted.json).expect("config.json");
    assert_eq!(succeeded(sandbox.run()), "/not/there/yet\n b |/|pintle|/bin\n");
}

#[test]
fn a_volume_starts_as_the_image_and_keeps_the_root_file_system_clean() {
    let Some(sandbox) = Sandbox::new() else { return };
    with_users(&sandbox);
    fs::create_dir_all(sandbox.inside("var/data")).expect("a folder");
    fs::write(sandbox.inside("var/data/seed"), "seed\n").expect("a file");
    own(&sandbox.inside("var/data"), 1000, 44);
    own(&sandbox.inside("var/data/seed"), 1000, 44);
    fs::set_permissions(sandbox.inside("var/data"), PermissionsExt::from_mode(0o2770)).expect("chmod");
    symlink("/var", sandbox.inside("link")).expect("a link");
    let script =
        "cd /var/data; busybox stat -c '%a %u %g %n' . seed; busybox cat seed; echo new >new; busybox cat new
        busybox stat -c '%a %u %g' /empty; busybox stat -f -c %T . /empty";
    let config = r#"{"User":"app","Volumes":{"/link/data":{},"/empty":{}}}"#;
    let text = run(&sandbox, config, script, Options::default());
    assert_eq!(text, "2770 1000 44 .\n644 1000 44 seed\nseed\nnew\n755 0 0\ntmpfs\ntmpfs\n");
    assert!(!sandbox.inside("var/data/new").exists());
}

#[test]
fn no_volume_uncovers_what_is_masked() {
    for volume in ["/link", "/link/sys", "/proc/sys", "/link/../proc/interrupts"] {
        let Some(sandbox) = Sandbox::new() else { return };
        symlink("/proc", sandbox.inside("link")).expect("a link");
        let config = format!(r#"{{"Volumes":{{"{volume}":{{}}}}}}"#);
        convert(&sandbox, &config, "echo started", Options::default());
        let output = sandbox.run();
        assert_eq!((output.code, &*output.stdout), (Some(1), ""), "{volume}: {output:?}");
    }
}

#[test]
fn a_read_only_root_can_still_be_run() {
    let Some(sandbox) = Sandbox::new() else { return };
    let options = Options { read_only: true, ..Options::default() };
    let script = "busybox touch /x 2>/dev/null || echo read-only; busybox touch /dev/shm/x && echo shm; pwd";
    let text = run(&sandbox, r#"{"WorkingDir":"/srv/x"}"#, script, options);
    assert_eq!(text, "read-only\nshm\n/srv/x\n");
}

#[test]
fn an_ordinary_user_runs_it_in_a_user_namespace() {
    for host_network in [false, true] {
        let Some(sandbox) = Sandbox::new() else { return };
        with_users(&sandbox);
        let map = vec![IdMap { container: 0, host: 65_534, size: 1 }];
        let options = Options {
            user_namespace: Some(IdMaps { uids: map.clone(), gids: map }),
            host_network,
            ..Options::default()
        };
        fs::create_dir(sandbox.inside("data")).expect("a folder");
        fs::write(sandbox.inside("data/seed"), "seed\n").expect("a file");
        let script = "busybox id -u; busybox cat /data/seed; busybox ls /sys/class/net | busybox grep -x lo
            busybox cat /proc/self/status";
        convert(&sandbox, r#"{"User":"root","Volumes":{"/data":{}}}"#, script, options);
        let text = succeeded(sandbox.run_as(65_534));
        assert!(text.starts_with("0\nseed\nlo\n"), "{text}");
        assert_eq!((status(&text, "CapEff"), status(&text, "Seccomp")), (DOCKERS, "2"));
    }
}

#[test]
fn the_plan_of_it_has_no_warnings() {
    let Some(sandbox) = Sandbox::new() else { return };
    convert(&sandbox, r#"{"Volumes":{"/data":{}}}"#, "true", Options::default());
    let plan = succeeded(sandbox.runtime(&["plan", &sandbox.bundle().to_string_lossy()]));
    let mask = "Mask { path: Protected { mount_point: \"/proc\", magic: 40864, path: \"/interrupts\" }";
    for step in ["Seccomp {", "Bounding { set: 2818844155 }", mask] {
        assert!(plan.contains(step), "{step} is not in the plan");
    }
}
