//! What an engine gives a container whose image says nothing about it: data of our own, after Docker's defaults (moby's of
//! 2026). Capabilities, mounts, namespaces, sysctls, masked and read-only paths. The seccomp profile stands beside.
//!
//! As in Docker, `noNewPrivileges` is off, for sudo(8) and ping(8) work in a container; there are no rlimits, so the caller's
//! hold; and no cgroup limits but the devices. Unlike Docker, there is always a cgroup namespace.

use std::path::Path;

use serde_json::{Value, json};

/// Where programs are looked for if the image does not say.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The capabilities: as a mask, 0xa80425fb.
const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// What tells of the host, its secrets among it: /proc/interrupts and the energy counters of powercap are side channels
/// (GHSA-6fw5-f8r9-fgfm, GHSA-jq35-85cj-fj4p).
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// What would change the host.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// `process.capabilities`. What execve(2) would take from an ordinary user is not given to one; nothing is inheritable.
pub fn capabilities(uid: u32) -> Value {
    match uid {
        0 => json!({"bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES}),
        _ => json!({"bounding": CAPABILITIES}),
    }
}

/// The mounts of every container. Without ids of its own for the group tty (5), devpts does without; without a network
/// namespace of its own, an ordinary user cannot mount sysfs and shows the host's.
pub fn mounts(rootless: bool, host_network: bool) -> Vec<Value> {
    let mount = |to: &str, kind: &str, source: &str, options: &[&str]| json!({"destination": to, "type": kind, "source": source, "options": options});
    let pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    let pts = if rootless { &pts[..5] } else { &pts };
    let sys = ["nosuid", "noexec", "nodev", "ro"];
    let sys = match rootless && host_network {
        true => mount("/sys", "none", "/sys", &["rbind", "nosuid", "noexec", "nodev", "ro"]),
        false => mount("/sys", "sysfs", "sysfs", &sys),
    };
    vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", "devpts", pts),
        sys,
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    ]
}

/// `linux.namespaces`, each new.
pub fn namespaces(rootless: bool, host_network: bool) -> Vec<Value> {
    let mut kinds = vec!["pid", "ipc", "uts", "mount", "cgroup"];
    if !host_network {
        kinds.push("network");
    }
    if rootless {
        kinds.push("user");
    }
    kinds.into_iter().map(|kind| json!({"type": kind})).collect()
}

/// `linux.sysctl`: in a network of its own, any port and ping(8) without privileges. The range of groups that may ping
/// can only name mapped ones, so not in a user namespace.
pub fn sysctls(rootless: bool, host_network: bool) -> Value {
    match (host_network, rootless) {
        (true, _) => json!({}),
        (false, true) => json!({"net.ipv4.ip_unprivileged_port_start": "0"}),
        (false, false) => json!({
            "net.ipv4.ip_unprivileged_port_start": "0",
            "net.ipv4.ping_group_range": "0 2147483647",
        }),
    }
}

/// `linux.maskedPaths`. `cpus` is /sys/devices/system/cpu: the counters of throttling below it are a side channel of the
/// same kind, and are masked where the host has them.
pub fn masked_paths(cpus: &Path) -> Vec<String> {
    let throttle = |cpu: &str| format!("{cpu}/thermal_throttle");
    let mut masked: Vec<String> = MASKED.map(str::to_owned).into();
    // One processor tells for all whether there are any.
    if !cpus.join(throttle("cpu0")).exists() {
        return masked;
    }
    let mut found: Vec<String> = std::fs::read_dir(cpus)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.strip_prefix("cpu").is_some_and(|n| n.parse::<u32>().is_ok()))
        .map(|cpu| format!("/sys/devices/system/cpu/{}", throttle(&cpu)))
        .collect();
    found.sort();
    masked.append(&mut found);
    masked
}

/// `linux.readonlyPaths`
pub fn read_only_paths() -> &'static [&'static str] {
    &READ_ONLY
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::tests::Tree;

    #[test]
    fn counters_of_throttling_are_masked_where_there_are_any() {
        let tree = Tree::new();
        for name in ["cpu0/thermal_throttle", "cpu1/thermal_throttle", "cpufreq", "cpuidle"] {
            tree.directory(name);
        }
        let masked = masked_paths(&tree.path(""));
        assert_eq!(
            masked[MASKED.len()..],
            ["cpu0", "cpu1"].map(|cpu| format!("/sys/devices/system/cpu/{cpu}/thermal_throttle"))
        );
        assert_eq!(masked_paths(&tree.path("nothing")), MASKED);
    }
}
