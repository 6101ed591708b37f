//! What a process sees of the machine it runs on: the same questions, asked on the host and in a container.

use rustix::fs::{Access, access};
use std::fs;

/// Where cgroup v2 may be mounted; in a container it is the first.
pub const CGROUP_MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// Names of what is looked at, and what is seen; those that begin with `ns/` are namespaces.
pub fn look() -> Vec<(&'static str, String)> {
    let processes = names("/proc").iter().filter(|name| name.bytes().all(|b| b.is_ascii_digit())).count();
    let mut seen = vec![
        ("its process id", std::process::id().to_string()),
        ("processes", processes.to_string()),
        ("host name", read("/proc/sys/kernel/hostname")),
        ("mounts", read("/proc/self/mountinfo").lines().count().to_string()),
        ("network interfaces", few(&interfaces())),
        ("in /", few(&names("/"))),
        ("devices in /dev", names("/dev").len().to_string()),
        ("may write to /", yes(access("/", Access::WRITE_OK).is_ok())),
        ("may change the kernel's settings", yes(access("/proc/sys/kernel/panic", Access::WRITE_OK).is_ok())),
        ("capabilities of root", capabilities()),
        ("may gain privileges", yes(status("NoNewPrivs:") == "0")),
        ("open files at most", open_files()),
        ("memory at most", limit("memory.max")),
        ("processes at most", limit("pids.max")),
    ];
    for space in ["ns/pid", "ns/mnt", "ns/net", "ns/uts", "ns/ipc", "ns/cgroup", "ns/user", "ns/time"] {
        let link = fs::read_link(format!("/proc/self/{space}")).unwrap_or_default();
        seen.push((space, link.to_string_lossy().into_owned()));
    }
    seen
}

/// Whether cgroup v2 has this controller here.
pub fn offers(controller: &str) -> bool {
    let offered = CGROUP_MOUNTS.map(|mount| read(&format!("{mount}/cgroup.controllers"))).join(" ");
    offered.split_whitespace().any(|name| name == controller)
}

/// The names in a directory, sorted.
pub fn names(directory: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn yes(answer: bool) -> String {
    if answer { "yes" } else { "no" }.to_owned()
}

/// The first names, and how many more.
fn few(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let first = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(" ");
    match names.len().checked_sub(SHOWN) {
        Some(more @ 1..) => format!("{first} +{more}"),
        _ => first,
    }
}

fn interfaces() -> Vec<String> {
    let table = read("/proc/self/net/dev");
    table.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect()
}

fn status(key: &str) -> String {
    let text = read("/proc/self/status");
    text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim().to_owned()
}

fn capabilities() -> String {
    let held = u64::from_str_radix(&status("CapEff:"), 16).unwrap_or(0).count_ones();
    let all = read("/proc/sys/kernel/cap_last_cap").parse().map_or(64, |last: u32| last + 1);
    format!("{held} of {all}")
}

fn open_files() -> String {
    let limits = read("/proc/self/limits");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|line| line.split_whitespace().next()).unwrap_or("?").to_owned()
}

/// A limit of this process' own cgroup. The root of all has none, and no file to say so.
fn limit(file: &str) -> String {
    let groups = read("/proc/self/cgroup");
    let own = groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let value =
        CGROUP_MOUNTS.iter().find_map(|mount| fs::read_to_string(format!("{mount}{own}/{file}")).ok());
    match value.as_deref().map(str::trim) {
        None | Some("max") => "no limit".to_owned(),
        Some(bytes) if file.starts_with("memory") => {
            bytes.parse().map_or("?".to_owned(), |n: u64| format!("{} MiB", n >> 20))
        }
        Some(other) => other.to_owned(),
    }
}
