//! What the kernel would have taken where it refused a value: one table, by file of the cgroup. Ranges are the
//! kernel's own (Documentation/admin-guide/cgroup-v2.rst, kernel/sched/core.c, block/blk-throttle.c); what depends on
//! the machine is read from the cgroups around and from /sys.

use super::super::file;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use std::path::Path;

/// Where a value was refused.
pub(super) struct Place<'a> {
    /// The cgroup's directory.
    pub(super) dir: &'a OwnedFd,
    /// /sys
    pub(super) sys: &'a Path,
}

/// Bandwidth of the scheduler, in microseconds.
const LEAST_QUOTA: u64 = 1000;
const MOST_QUOTA: u64 = (1 << 44) - 1;
const PERIODS: std::ops::RangeInclusive<u64> = 1000..=1_000_000;

/// What may stand in `file` here, for a person whose `value` was refused with `errno`; `None` if that says nothing
/// about the value.
pub(super) fn allowed(place: &Place, file: &str, value: &str, errno: Errno) -> Option<String> {
    let about_the_value =
        [Errno::INVAL, Errno::RANGE, Errno::NODEV, Errno::NXIO, Errno::NOSPC, Errno::BUSY, Errno::OVERFLOW];
    if !about_the_value.contains(&errno) {
        return None;
    }
    Some(match file {
        "cpu.max" => cpu_max(place, value),
        "cpu.max.burst" => match quota(place) {
            Some(quota) => format!("here it is at most the quota, which is {quota} microseconds"),
            None => format!("it is at most {MOST_QUOTA} microseconds"),
        },
        "cpu.weight" | "cpu.weight.nice" if place.text("cpu.idle") == "1" => {
            "an idle cgroup takes no weight: leave linux.resources.cpu.shares out".into()
        }
        "cpu.weight" => "it is 1 to 10000".into(),
        "cpu.weight.nice" => "it is -20 to 19".into(),
        "cpu.idle" => "it is 0 or 1".into(),
        "cpuset.cpus" => format!("here there are {}", place.offered("cpuset.cpus.effective", "CPUs")),
        "cpuset.mems" => format!("here there are {}", place.offered("cpuset.mems.effective", "memory nodes")),
        "pids.max" => "it is 0 to 4194304, or \"max\" (in linux.resources.pids.limit -1)".into(),
        "io.weight" => "it is 1 to 10000".into(),
        "io.bfq.weight" => "it is 1 to 1000".into(),
        "io.max" if errno == Errno::NODEV || errno == Errno::NXIO => {
            format!("limits are for whole block devices, here {}", place.disks())
        }
        "io.max" => "a rate is at least 1; \"max\" for none stands in linux.resources.unified".into(),
        "rdma.max" => format!("here there are {}", place.names("class/infiniband", "RDMA devices")),
        _ if file.starts_with("memory.") || file.starts_with("hugetlb.") => {
            "it is a number of bytes, or \"max\" (in a field of config.json -1)".into()
        }
        _ => return None,
    })
}

/// The sizes of huge pages that there are, where a file of another size is missing.
pub(super) fn page_sizes(place: &Place) -> String {
    let sizes: Vec<_> = super::super::stats::page_sizes(&place.sys.join("kernel/mm/hugepages"));
    if sizes.is_empty() { "no huge pages".into() } else { format!("huge pages of {}", sizes.join(" and ")) }
}

/// Which of the two numbers it was, and what it could be.
fn cpu_max(place: &Place, value: &str) -> String {
    let mut words = value.split_whitespace();
    let (quota, period) = (words.next().unwrap_or_default(), words.next().unwrap_or("100000"));
    if !period.parse().is_ok_and(|period| PERIODS.contains(&period)) {
        return format!(
            "the period (linux.resources.cpu.period) is {} to {} microseconds, not {period}",
            PERIODS.start(),
            PERIODS.end()
        );
    }
    let burst = place.text("cpu.max.burst").parse().unwrap_or(0);
    match quota.parse::<u64>() {
        Ok(LEAST_QUOTA..=MOST_QUOTA) if burst > 0 => {
            format!(
                "here the quota is at least the burst (linux.resources.cpu.burst), which is {burst} microseconds"
            )
        }
        _ => format!(
            "the quota is at least {LEAST_QUOTA} and at most {MOST_QUOTA} microseconds, or -1 for none"
        ),
    }
}

/// The quota in force.
fn quota(place: &Place) -> Option<u64> {
    place.text("cpu.max").split_whitespace().next()?.parse().ok()
}

impl Place<'_> {
    /// A file of the cgroup, without its last newline; empty where it can't be read.
    fn text(&self, name: &str) -> String {
        let mut text = file::read(self.dir, name).unwrap_or_default();
        text.truncate(text.trim_end().len());
        text
    }

    /// What the parent has to give, as a list of numbers.
    fn offered(&self, name: &str, what: &str) -> String {
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        let parent = rustix::fs::openat(self.dir.as_fd(), "..", flags, rustix::fs::Mode::empty());
        match parent.and_then(|parent| file::read(&parent, name)) {
            Ok(list) if !list.trim().is_empty() => format!("{what} {}", list.trim()),
            _ => format!("no {what} to choose from"),
        }
    }

    /// The block devices with their numbers, loop and memory devices that nothing is behind left out.
    fn disks(&self) -> String {
        let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let mut disks: Vec<_> = entries(&self.sys.join("block"))
            .into_iter()
            .filter(|name| read(&self.sys.join("block").join(name).join("size")) != "0")
            .map(|name| format!("{} ({name})", read(&self.sys.join("block").join(&name).join("dev"))))
            .collect();
        disks.truncate(16);
        if disks.is_empty() { "there are none".into() } else { disks.join(", ") }
    }

    fn names(&self, below: &str, what: &str) -> String {
        let names = entries(&self.sys.join(below));
        if names.is_empty() { format!("no {what}") } else { format!("{what} {}", names.join(", ")) }
    }
}

/// The names in a directory, in order; none where there is no such directory.
fn entries(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;

    /// A cgroup below a parent, and a /sys.
    fn fake(name: &str) -> (PathBuf, OwnedFd) {
        let top = std::env::temp_dir().join(format!("pintle-refusals-{}-{name}", std::process::id()));
        let files = [
            ("parent/cpuset.cpus.effective", "0-3\n"),
            ("parent/cpuset.mems.effective", "\n"),
            ("parent/own/cpu.max", "50000 100000\n"),
            ("parent/own/cpu.max.burst", "0\n"),
            ("parent/own/cpu.idle", "0\n"),
            ("parent/idle/cpu.idle", "1\n"),
            ("parent/idle/cpu.max", "max 100000\n"),
            ("parent/idle/cpu.max.burst", "40000\n"),
            ("sys/block/vda/dev", "254:0\n"),
            ("sys/block/vda/size", "20\n"),
            ("sys/block/loop0/dev", "7:0\n"),
            ("sys/block/loop0/size", "0\n"),
            ("sys/class/infiniband/mlx5_0/x", ""),
            ("sys/kernel/mm/hugepages/hugepages-2048kB/x", ""),
            ("sys/kernel/mm/hugepages/hugepages-1048576kB/x", ""),
        ];
        for (path, text) in files {
            let path = top.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let dir = fs::File::open(top.join("parent").join(name)).unwrap();
        (top, dir.into())
    }

    fn check(name: &str, cases: &[(&str, &str, Errno, Option<&str>)]) {
        let (top, dir) = fake(name);
        let place = Place { dir: &dir, sys: &top.join("sys") };
        let told: Vec<_> = cases.iter().map(|(f, v, e, _)| allowed(&place, f, v, *e)).collect();
        let sizes = page_sizes(&place);
        fs::remove_dir_all(&top).unwrap();
        for ((file, value, _, expect), told) in cases.iter().zip(told) {
            assert_eq!(told.as_deref(), *expect, "{file} {value}");
        }
        assert_eq!(sizes, "huge pages of 2MB and 1GB");
    }

    #[test]
    fn what_the_kernel_takes_is_told_by_file() {
        let quota = "the quota is at least 1000 and at most 17592186044415 microseconds, or -1 for none";
        check(
            "own",
            &[
                ("cpu.max", "999 100000", Errno::INVAL, Some(quota)),
                (
                    "cpu.max",
                    "50000 2000000",
                    Errno::INVAL,
                    Some(
                        "the period (linux.resources.cpu.period) is 1000 to 1000000 microseconds, not 2000000",
                    ),
                ),
                (
                    "cpu.max.burst",
                    "60000",
                    Errno::INVAL,
                    Some("here it is at most the quota, which is 50000 microseconds"),
                ),
                ("cpu.weight", "0", Errno::RANGE, Some("it is 1 to 10000")),
                ("cpu.idle", "2", Errno::INVAL, Some("it is 0 or 1")),
                ("cpuset.cpus", "9", Errno::RANGE, Some("here there are CPUs 0-3")),
                ("cpuset.mems", "9", Errno::INVAL, Some("here there are no memory nodes to choose from")),
                (
                    "io.max",
                    "9:9 rbps=1",
                    Errno::NODEV,
                    Some("limits are for whole block devices, here 254:0 (vda)"),
                ),
                ("rdma.max", "x hca_handle=1", Errno::NODEV, Some("here there are RDMA devices mlx5_0")),
            ],
        );
    }

    #[test]
    fn what_is_set_already_counts() {
        let burst =
            "here the quota is at least the burst (linux.resources.cpu.burst), which is 40000 microseconds";
        let idle = "an idle cgroup takes no weight: leave linux.resources.cpu.shares out";
        check(
            "idle",
            &[
                ("cpu.max", "20000 100000", Errno::INVAL, Some(burst)),
                ("cpu.max.burst", "1", Errno::INVAL, Some("it is at most 17592186044415 microseconds")),
                ("cpu.weight", "100", Errno::INVAL, Some(idle)),
            ],
        );
    }

    #[test]
    fn what_is_no_matter_of_the_value_is_left_alone() {
        check("own", &[("cpu.max", "1", Errno::ACCESS, None), ("cgroup.type", "x", Errno::INVAL, None)]);
    }
}
