//! The machine before and after, whole: what a runtime can leave behind is looked for everywhere, not by name.
//!
//! Processes, mounts, cgroups, network namespaces, BPF programs, /run and /tmp. Others work on the same machine, so
//! a difference counts only if it stays; `run.sh` runs the comparing tests in a private view where only they act.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Everything that is there, as lines of text.
pub struct Snapshot {
    things: BTreeSet<String>,
    bpf_programs: usize,
}

impl Snapshot {
    /// Takes one.
    pub fn take() -> Self {
        let mut things = BTreeSet::new();
        things.extend(crate::mounts().into_iter().map(|m| format!("mount {m}")));
        processes(&mut things);
        tree("cgroup", Path::new("/sys/fs/cgroup"), 12, &mut things);
        tree("run", Path::new("/run"), 6, &mut things);
        tree("tmp", &std::env::temp_dir(), 2, &mut things);
        Self { things, bpf_programs: bpf_programs() }
    }

    /// Compares with the machine now; what is new has twenty seconds to go away. `births` is how many containers
    /// lived in between: BPF programs, which are only counted, may not have grown with them.
    #[track_caller]
    pub fn compare(&self, births: usize) {
        let begin = Instant::now();
        let new = loop {
            let now = Self::take();
            let mut new: Vec<String> = now.things.difference(&self.things).cloned().collect();
            new.extend(
                self.things
                    .difference(&now.things)
                    .filter(|t| t.starts_with("mount"))
                    .map(|m| format!("gone: {m}")),
            );
            if births > 1 && now.bpf_programs >= self.bpf_programs + births.div_ceil(2) {
                new.push(format!("bpf programs: {} became {}", self.bpf_programs, now.bpf_programs));
            }
            if new.is_empty() || begin.elapsed() > Duration::from_secs(20) {
                break new;
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        assert!(new.is_empty(), "left behind:\n{}", new.join("\n"));
    }
}

fn processes(things: &mut BTreeSet<String>) {
    let mut networks = BTreeSet::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        if let Ok(link) = fs::read_link(entry.path().join("ns/net")) {
            networks.insert(format!("network {}", link.display()));
        }
        // Kernel threads come and go by themselves: they have no memory of their own.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        if fields.get(20) != Some(&"0") || fields.first() == Some(&"Z") {
            let start = fields.get(19).copied().unwrap_or("");
            let what = stat.split(')').next().unwrap_or("");
            things.insert(format!("process {what}) started {start}"));
        }
    }
    things.extend(networks);
}

fn tree(what: &str, dir: &Path, depth: usize, things: &mut BTreeSet<String>) {
    let folders_only = what == "cgroup";
    let mut open: Vec<(PathBuf, usize)> = vec![(dir.to_owned(), depth)];
    while let Some((dir, left)) = open.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() || !folders_only {
                things.insert(format!("{what} {}", entry.path().display()));
            }
            if kind.is_dir() && left > 1 {
                open.push((entry.path(), left - 1));
            }
        }
    }
}

/// Every loaded program has an allocation of its own. No other list of them is there without bpf(2).
fn bpf_programs() -> usize {
    fs::read_to_string("/proc/vmallocinfo").unwrap_or_default().matches("bpf_prog_alloc").count()
}
