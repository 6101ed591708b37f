//! linux.netDevices: the host's devices that become the container's. Each test has a network namespace of its own in
//! place of the host's.

use pintle_tests::*;
use std::process::Command;

/// Runs `test` in a new network namespace with the device `outer`, a veth that is up and has addresses; what it is about
/// stays in its thread.
fn host(test: impl FnOnce(&Sandbox) + Send) {
    needs_program("ip");
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace");
            for line in [
                "link add outer type veth peer name other",
                "addr add 10.9.8.1/24 dev outer",
                "addr add fd00:9::1/64 dev outer nodad",
                "link set other up",
                "link set outer up",
            ] {
                ip(line);
            }
            test(&Sandbox::new());
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

#[track_caller]
fn ip(line: &str) -> String {
    let output = Command::new("ip").args(line.split(' ')).output().expect("ip(8)");
    assert!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The device and its addresses as the container sees them.
fn looked_at(t: &Sandbox, b: &mut Bundle, name: &str) -> Vec<String> {
    let flags = format!("/sys/class/net/{name}/flags");
    let words = [
        "/probe",
        "try",
        "read",
        "/proc/net/fib_trie",
        ",",
        "read",
        "/proc/net/if_inet6",
        ",",
        "read",
        &flags,
    ];
    let report = t.report(b.args(&words));
    (0..3).map(|n| report[n]["found"].as_str().unwrap_or_default().to_owned()).collect()
}

/// IFF_UP, in /sys/class/net/NAME/flags
fn is_up(flags: &str) -> bool {
    u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).expect("flags") & 1 == 1
}

#[test]
fn a_device_moves_with_its_addresses() {
    let names = [
        ("its own name", None, "outer"),
        ("another", Some("eth0"), "eth0"),
        ("a number", Some("eth%d"), "eth0"),
    ];
    rows(names.map(|(row, to, name)| (row, (to, name))), |(to, name): (Option<&str>, &str)| {
        host(|t| {
            let mut b = t.bundle();
            b.set("/linux/netDevices", json!({"outer": to.map_or(json!({}), |to| json!({"name": to}))}));
            let seen = looked_at(t, &mut b, name);
            assert!(seen[0].contains("10.9.8.1") && seen[0].contains("10.9.8.255"), "{seen:?}");
            assert!(
                seen[1].lines().any(|line| line.starts_with("fd0000090000") && line.ends_with(name)),
                "{seen:?}"
            );
            assert!(is_up(&seen[2]), "{seen:?}");
            // A veth goes with its namespace; a real device comes back.
            assert!(!ip("-o link").contains("outer"));
        });
    });
}

/// A container with these kernel parameters, and a bundle that joins its network namespace.
fn beside_another<'a>(t: &'a Sandbox, sysctl: &Value) -> (Container<'a>, Bundle) {
    let mut b = t.bundle();
    b.set("/linux/sysctl", sysctl.clone());
    let other = t.start(b.args(&["/probe", "wait"]));
    other.wait_for_output("ready");
    let mut b = t.bundle();
    b.join_namespace("network", &format!("/proc/{}/ns/net", other.pid()));
    (other, b)
}

#[test]
fn a_device_moves_into_a_namespace_that_is_joined() {
    behaviour(|| {
        host(|t| {
            let (other, mut b) = beside_another(t, &json!({}));
            b.set("/linux/netDevices", json!({"outer": {"name": "joined"}}));
            assert!(looked_at(t, &mut b, "joined")[0].contains("10.9.8.1"));
            other.kill("KILL").ok();
        });
    });
}

/// A bundle that joins a network namespace in which IPv6 is disabled, and takes `outer` along; the container that holds it.
fn where_ipv6_is_disabled(t: &Sandbox) -> (Container<'_>, Bundle) {
    let (other, mut b) = beside_another(t, &json!({"net.ipv6.conf.all.disable_ipv6": "1"}));
    b.set("/linux/netDevices", json!({"outer": {"name": "joined"}}));
    (other, b)
}

#[test]
fn an_ipv6_address_stays_behind_where_ipv6_is_disabled() {
    behaviour(|| {
        host(|t| {
            let (other, mut b) = where_ipv6_is_disabled(t);
            let seen = looked_at(t, &mut b, "joined");
            assert!(seen[0].contains("10.9.8.1") && !seen[1].contains("fd0000090000"), "{seen:?}");
            assert!(is_up(&seen[2]), "{seen:?}");
            other.kill("KILL").ok();
        });
    });
}

#[test]
fn an_address_that_stays_behind_is_told() {
    behaviour(|| {
        host(|t| {
            let (other, b) = where_ipv6_is_disabled(t);
            let output = t.run(&b).ok();
            assert!(output.warns("linux.netDevices.outer: fd00:9::1/64 stays behind"), "{output:?}");
            other.kill("KILL").ok();
        });
    });
}

#[test]
fn a_device_moves_whoever_owns_the_namespace() {
    rows([("the container's user namespace", false), ("the machine's", true)], |joined| {
        host(|t| {
            let mut b = t.bundle();
            let other = t.start(b.args(&["/probe", "wait"]));
            other.wait_for_output("ready");
            let mut b = t.bundle();
            b.user_namespace();
            if joined {
                b.join_namespace("network", &format!("/proc/{}/ns/net", other.pid()));
                // Without its network namespace root inside may mount no sysfs.
                b.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/sys");
                b.config["mounts"]
                    .as_array_mut()
                    .unwrap()
                    .retain(|mount| mount["destination"] != "/sys/fs/cgroup");
            }
            b.set("/linux/netDevices", json!({"outer": {"name": "eth0"}}));
            let report = t.report(b.args(&["/probe", "try", "read", "/proc/net/fib_trie"]));
            assert!(report[0]["found"].as_str().unwrap().contains("10.9.8.1"), "{report}");
            other.kill("KILL").ok();
        });
    });
}

#[test]
fn a_name_that_is_taken_where_others_are_moves_nothing() {
    behaviour(|| {
        host(|t| {
            let (other, mut b) = beside_another(t, &json!({}));
            b.set("/linux/netDevices", json!({"other": {}, "outer": {"name": "lo"}}));
            t.run(&b).fails(1, "move network device outer");
            assert!(ip("-o link show dev outer").contains(",UP"));
            assert!(ip("-o link show dev other").contains(",UP"));
            other.kill("KILL").ok();
        });
    });
}

#[test]
fn what_can_not_move_is_told_and_stays_as_it_was() {
    type Change = fn(&mut Bundle) -> &mut Bundle;
    let cases: [(&str, Change, &str); 7] = [
        (
            "no such device",
            |b| b.set("/linux/netDevices", json!({"nobody": {}})),
            "link not found for interface nobody on runtime namespace",
        ),
        (
            "a name that is taken",
            |b| b.set("/linux/netDevices", json!({"outer": {"name": "lo"}})),
            "move network device outer",
        ),
        (
            "two of one name",
            |b| b.set("/linux/netDevices", json!({"other": {"name": "eth0"}, "outer": {"name": "eth0"}})),
            "move network device outer",
        ),
        (
            "another after it",
            |b| b.set("/linux/netDevices", json!({"outer": {"name": "eth0"}, "zero": {}})),
            "link not found for interface zero",
        ),
        (
            "no network namespace",
            |b| b.without_namespace("network").set("/linux/netDevices", json!({"outer": {}})),
            "unable to move network devices without a NET namespace",
        ),
        (
            "a name that no device has",
            |b| b.set("/linux/netDevices", json!({"a/b": {}})),
            "invalid network device name \"a/b\"",
        ),
        (
            "a new name that no device has",
            |b| b.set("/linux/netDevices", json!({"outer": {"name": "sixteen-letters-"}})),
            "invalid network device name \"sixteen-letters-\"",
        ),
    ];
    rows(cases.map(|(row, change, text)| (row, (change, text))), |(change, text)| {
        host(|t| {
            let mut b = t.bundle();
            change(&mut b);
            t.run(&b).fails(1, text);
            assert_eq!(t.entries(), 0);
            let left = ip("-o addr show dev outer");
            assert!(left.contains("10.9.8.1/24") && left.contains("fd00:9::1/64"), "{left}");
            assert!(ip("-o link show dev outer").contains(",UP"), "it is up");
            assert!(ip("-o link show dev other").contains(",UP"), "the other is up");
        });
    });
}

#[test]
fn features_tell_of_network_devices() {
    behaviour(|| {
        let t = Sandbox::new();
        assert_eq!(t.call(["features"]).ok().json()["linux"]["netDevices"]["enabled"], json!(true));
    });
}
