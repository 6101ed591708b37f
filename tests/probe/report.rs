//! What a process can see of itself and of its surroundings, mostly from /proc/self.

use rustix::termios::tcgetwinsize;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Map, Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt;

/// Everything at once.
pub fn everything() -> Value {
    let stat = stat();
    json!({
        "pid": std::process::id(),
        "args": std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect::<Vec<_>>(),
        "env": std::env::vars_os()
            .map(|(k, v)| format!("{}={}", k.to_string_lossy(), v.to_string_lossy())).collect::<Vec<_>>(),
        "cwd": std::env::current_dir().map(|d| d.to_string_lossy().into_owned()).unwrap_or_default(),
        "status": status(),
        "namespaces": links("/proc/self/ns"),
        "fds": links("/proc/self/fd"),
        "mounts": lines("/proc/self/mountinfo"),
        "limits": limits(),
        "hostname": line("/proc/sys/kernel/hostname"),
        "domainname": line("/proc/sys/kernel/domainname"),
        "oom_score_adj": line("/proc/self/oom_score_adj"),
        "personality": line("/proc/self/personality"),
        "cgroup": lines("/proc/self/cgroup"),
        "nice": stat.get(16), "rt_priority": stat.get(37), "policy": stat.get(38), "tty_nr": stat.get(4),
        "pgrp": stat.get(2), "session": stat.get(3),
        "uid_map": line("/proc/self/uid_map"), "gid_map": line("/proc/self/gid_map"),
        "setgroups": line("/proc/self/setgroups"),
        "timens_offsets": lines("/proc/self/timens_offsets"),
        "monotonic": clock_gettime(ClockId::Monotonic).tv_sec,
        "boottime": clock_gettime(ClockId::Boottime).tv_sec,
        "root": names("/"), "dev": names("/dev"), "network": lines("/proc/self/net/dev"),
        "children": lines("/proc/self/task/1/children"),
        "exe": fs::read_link("/proc/self/exe").map(|p| p.to_string_lossy().into_owned()).unwrap_or_default(),
        "keys": lines("/proc/keys"),
        // Of the first mapping, which is the program's: nobody gave it a policy of its own.
        "memory_policy": lines("/proc/self/numa_maps").first().and_then(|l| l.split(' ').nth(1)),
    })
}

/// The terminal on the three streams.
pub fn terminal() -> Value {
    let tty = [
        rustix::termios::isatty(rustix::stdio::stdin()),
        rustix::termios::isatty(rustix::stdio::stdout()),
        rustix::termios::isatty(rustix::stdio::stderr()),
    ];
    let stat = stat();
    let name = fs::read_link("/proc/self/fd/0").map(|p| p.to_string_lossy().into_owned()).unwrap_or_default();
    let owner = fs::metadata("/proc/self/fd/0").map(|m| [m.uid(), m.gid()]).unwrap_or_default();
    let console = fs::metadata("/dev/console").map(|m| m.rdev()).unwrap_or(0);
    let own = fs::metadata("/proc/self/fd/0").map(|m| m.rdev()).unwrap_or(1);
    let output = rustix::termios::tcgetattr(rustix::stdio::stdin())
        .map(|t| t.output_modes.contains(rustix::termios::OutputModes::ONLCR))
        .unwrap_or(false);
    json!({"tty": tty, "name": name, "size": size(), "controlling": stat.get(4).is_some_and(|n| n != "0"),
        "session": stat.get(3), "pid": std::process::id(), "owner": owner, "console_is_it": console == own,
        "onlcr": output})
}

/// `rows x columns`.
pub fn size() -> String {
    tcgetwinsize(rustix::stdio::stdin()).map(|s| format!("{}x{}", s.ws_row, s.ws_col)).unwrap_or_default()
}

/// The fields of /proc/self/stat after the name: state first.
fn stat() -> Vec<String> {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    text.rsplit(')').next().unwrap_or("").split_whitespace().map(str::to_owned).collect()
}

fn status() -> Value {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let pairs = text.lines().filter_map(|l| l.split_once(':'));
    Value::Object(pairs.map(|(k, v)| (k.to_owned(), Value::from(v.trim().replace('\t', " ")))).collect())
}

fn limits() -> Value {
    let text = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let rows = text.lines().skip(1).filter(|l| l.len() > 68);
    let row = |l: &str| (l[..26].trim().to_owned(), json!([l[26..47].trim(), l[47..68].trim()]));
    Value::Object(rows.map(row).collect())
}

fn links(dir: &str) -> Value {
    let mut map = Map::new();
    for name in names(dir) {
        // The folder's own descriptor is gone by now.
        if let Ok(target) = fs::read_link(format!("{dir}/{name}")) {
            map.insert(name, Value::from(target.to_string_lossy().into_owned()));
        }
    }
    Value::Object(map)
}

fn names(dir: &str) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn lines(path: &str) -> Vec<String> {
    fs::read(path)
        .map(|t| String::from_utf8_lossy(&t).lines().map(str::to_owned).collect())
        .unwrap_or_default()
}

fn line(path: &str) -> String {
    fs::read(path).map(|t| String::from_utf8_lossy(&t).trim().to_owned()).unwrap_or_default()
}
