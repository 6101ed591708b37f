//! What a container uses, with the keys, the order and the units of runc's `events --stats`: bytes and nanoseconds.
//! The shape is that of cgroup v1, which the readers of this output know; what v2 does not measure stays zero or
//! absent, and so does what a missing controller would measure.

use super::{Cgroup, file, value_of};
use crate::error::{Context, Result};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::path::Path;

/// One measurement: `data` of an event.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Stats {
    pub cpu: Cpu,
    pub cpuset: Cpuset,
    pub memory: Memory,
    pub pids: Pids,
    pub blkio: Blkio,
    pub hugetlb: BTreeMap<String, Hugetlb>,
    /// Filled by whoever knows the container's group.
    pub intel_rdt: crate::resctrl::stats::Stats,
    /// Always null: runc only counts interfaces that it made itself.
    pub network_interfaces: (),
}

/// `cpu`
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Cpu {
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: CpuUsage,
    #[serde(skip_serializing_if = "is_zero")]
    pub throttling: Throttling,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

/// `cpu.usage`
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct CpuUsage {
    #[serde(skip_serializing_if = "is_zero")]
    pub total: u64,
    pub kernel: u64,
    pub user: u64,
}

/// `cpu.throttling`
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Throttling {
    #[serde(skip_serializing_if = "is_zero")]
    pub periods: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_periods: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_time: u64,
}

/// How much work waits for a resource: of some tasks, of all tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Psi {
    pub some: Pressure,
    pub full: Pressure,
}

/// Shares of the last 10, 60 and 300 seconds in percent, and the sum in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Pressure {
    #[serde(serialize_with = "short")]
    pub avg10: f64,
    #[serde(serialize_with = "short")]
    pub avg60: f64,
    #[serde(serialize_with = "short")]
    pub avg300: f64,
    pub total: u64,
}

/// `cpuset`, which v2 does not measure.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Cpuset {
    pub cpu_exclusive: u64,
    pub mem_hardwall: u64,
    pub mem_exclusive: u64,
    pub memory_migrate: u64,
    pub memory_spread_page: u64,
    pub memory_spread_slab: u64,
    pub memory_pressure: u64,
    pub sched_load_balance: u64,
    pub sched_relax_domain_level: i64,
}

/// `memory`
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Memory {
    #[serde(skip_serializing_if = "is_zero")]
    pub cache: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: MemoryEntry,
    /// Memory and swap together, as v1 had it.
    #[serde(skip_serializing_if = "is_zero")]
    pub swap: MemoryEntry,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

/// Without a limit, `limit` is 2^64-1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct MemoryEntry {
    pub limit: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    pub failcnt: u64,
}

/// `pids`; without a limit, `limit` is 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Pids {
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

/// `blkio`; of v1's many lists, v2 fills two.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Blkio {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_bytes_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_serviced_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

/// One number of one device.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct BlkioEntry {
    #[serde(skip_serializing_if = "is_zero")]
    pub major: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub minor: u64,
    pub op: &'static str,
    #[serde(skip_serializing_if = "is_zero")]
    pub value: u64,
}

/// `hugetlb`, by size of page.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Hugetlb {
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    pub failcnt: u64,
}

/// Nothing, or of nothing but zeros.
fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Go writes a whole number without a point.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn short<S: Serializer>(number: &f64, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    if number.fract() == 0.0 {
        serializer.serialize_u64(*number as u64)
    } else {
        serializer.serialize_f64(*number)
    }
}

impl Cgroup {
    /// Measures now.
    pub fn stats(&self) -> Result<Stats> {
        let read = |name: &str| file::read_if_there(&self.dir, name).with_context(|| self.told(name));
        let psi = |name: &str| read(name).map(|text| text.map(|text| pressure(&text)));
        let mut stats = Stats { pids: pids(&read)?, memory: memory(&read)?, ..Stats::default() };
        stats.memory.psi = psi("memory.pressure")?;
        stats.blkio = blkio(&read("io.stat")?.unwrap_or_default());
        stats.blkio.psi = psi("io.pressure")?;
        stats.cpu = cpu(&read("cpu.stat")?.unwrap_or_default());
        stats.cpu.psi = psi("cpu.pressure")?;
        stats.hugetlb = hugetlb(&read)?;
        Ok(stats)
    }
}

/// Where the texts come from: the files of a cgroup, or of a test.
type Read<'a> = &'a dyn Fn(&str) -> Result<Option<String>>;

/// A file that holds one number, or "max".
fn number(read: Read, name: &str) -> Result<Option<u64>> {
    let text = read(name)?;
    Ok(text.and_then(|text| match text.trim() {
        "max" => Some(u64::MAX),
        digits => digits.parse().ok(),
    }))
}

fn pids(read: Read) -> Result<Pids> {
    let Some(current) = number(read, "pids.current")? else {
        // Without the controller the kernel still knows the processes.
        let text = read("cgroup.procs")?.unwrap_or_default();
        return Ok(Pids { current: text.lines().count() as u64, limit: 0 });
    };
    let limit = number(read, "pids.max")?.filter(|limit| *limit != u64::MAX);
    Ok(Pids { current, limit: limit.unwrap_or(0) })
}

fn memory(read: Read) -> Result<Memory> {
    let Some(text) = read("memory.stat")? else { return Ok(Memory::default()) };
    let raw: BTreeMap<_, _> = text.lines().filter_map(key_and_value).collect();
    let usage = entry(read, "memory")?.unwrap_or_default();
    let mut swap = entry(read, "memory.swap")?.unwrap_or_default();
    swap.usage = swap.usage.saturating_add(usage.usage);
    swap.limit = swap.limit.saturating_add(usage.limit);
    // The highest of the sum is not the sum of the highest.
    swap.max = 0;
    Ok(Memory { cache: raw.get("file").copied().unwrap_or(0), usage, swap, raw, ..Memory::default() })
}

fn entry(read: Read, prefix: &str) -> Result<Option<MemoryEntry>> {
    let Some(usage) = number(read, &format!("{prefix}.current"))? else { return Ok(None) };
    let limit = number(read, &format!("{prefix}.max"))?.unwrap_or(0);
    // Since Linux 5.19, for swap 6.5.
    let max = number(read, &format!("{prefix}.peak"))?.unwrap_or(0);
    Ok(Some(MemoryEntry { limit, usage, max, failcnt: 0 }))
}

fn key_and_value(line: &str) -> Option<(String, u64)> {
    let (key, value) = line.split_once(' ')?;
    Some((key.into(), value.trim().parse().ok()?))
}

fn cpu(text: &str) -> Cpu {
    let value = |key: &str| value_of(text, key).unwrap_or(0);
    let nanoseconds = |key: &str| value(key).saturating_mul(1000);
    Cpu {
        usage: CpuUsage {
            total: nanoseconds("usage_usec"),
            kernel: nanoseconds("system_usec"),
            user: nanoseconds("user_usec"),
        },
        throttling: Throttling {
            periods: value("nr_periods"),
            throttled_periods: value("nr_throttled"),
            throttled_time: nanoseconds("throttled_usec"),
        },
        psi: None,
    }
}

/// Lines like `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`.
fn blkio(text: &str) -> Blkio {
    let mut blkio = Blkio::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let device = words.next().and_then(|word| word.split_once(':'));
        let Some((Ok(major), Ok(minor))) = device.map(|(a, b)| (a.parse(), b.parse())) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut blkio.io_service_bytes_recursive, "Read"),
                "wbytes" => (&mut blkio.io_service_bytes_recursive, "Write"),
                "rios" => (&mut blkio.io_serviced_recursive, "Read"),
                "wios" => (&mut blkio.io_serviced_recursive, "Write"),
                _ => continue,
            };
            let Ok(value) = value.parse() else { continue };
            list.push(BlkioEntry { major, minor, op, value });
        }
    }
    blkio
}

/// Two lines like `some avg10=0.00 avg60=0.12 avg300=1.00 total=1234`.
fn pressure(text: &str) -> Psi {
    let mut psi = Psi::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let pressure = match words.next() {
            Some("some") => &mut psi.some,
            Some("full") => &mut psi.full,
            _ => continue,
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            match key {
                "avg10" => pressure.avg10 = value.parse().unwrap_or(0.0),
                "avg60" => pressure.avg60 = value.parse().unwrap_or(0.0),
                "avg300" => pressure.avg300 = value.parse().unwrap_or(0.0),
                "total" => pressure.total = value.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
    psi
}

/// For each size of page that the machine has, what is reserved, or in use where reservations are not counted.
fn hugetlb(read: Read) -> Result<BTreeMap<String, Hugetlb>> {
    let mut sizes = BTreeMap::new();
    for size in page_sizes(Path::new("/sys/kernel/mm/hugepages")) {
        let reserved = number(read, &format!("hugetlb.{size}.rsvd.current"))?;
        let name = format!("hugetlb.{size}.current");
        let Some(usage) = reserved.map_or_else(|| number(read, &name), |n| Ok(Some(n)))? else { break };
        let events = read(&format!("hugetlb.{size}.events"))?.unwrap_or_default();
        let failcnt = value_of(&events, "max").unwrap_or(0);
        sizes.insert(size, Hugetlb { usage, max: 0, failcnt });
    }
    Ok(sizes)
}

/// The sizes of huge pages as files of cgroups name them, from the smallest.
pub(super) fn page_sizes(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
    names.iter().filter_map(|name| page_size(name)).collect()
}

/// `hugepages-2048kB` is called 2MB in the names of files.
fn page_size(name: &str) -> Option<String> {
    let kilobytes: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    Some(match kilobytes {
        0..1024 => format!("{kilobytes}KB"),
        1024..1_048_576 => format!("{}MB", kilobytes >> 10),
        _ => format!("{}GB", kilobytes >> 20),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn files(name: &str) -> Result<Option<String>> {
        let text = match name {
            "memory.stat" => "anon 10\nfile 20\n",
            "memory.current" => "4096\n",
            "memory.max" => "max\n",
            "memory.peak" => "8192\n",
            "memory.swap.current" => "100\n",
            "memory.swap.max" => "1000\n",
            "memory.swap.peak" => "200\n",
            "pids.current" => "3\n",
            "pids.max" => "max\n",
            "broken" => return Err(Error::new("input/output error")),
            _ => return Ok(None),
        };
        Ok(Some(text.into()))
    }

    #[test]
    fn the_keys_are_runcs_in_runcs_order() {
        let cpuset = r#""cpuset":{"cpu_exclusive":0,"mem_hardwall":0,"mem_exclusive":0,"memory_migrate":0,"#
            .to_string()
            + r#""memory_spread_page":0,"memory_spread_slab":0,"memory_pressure":0,"sched_load_balance":0,"#
            + r#""sched_relax_domain_level":0}"#;
        let rest = r#""pids":{},"blkio":{},"hugetlb":{},"intel_rdt":{},"network_interfaces":null}"#;
        let json = |stats: &Stats| serde_json::to_string(stats).expect("json");
        assert_eq!(json(&Stats::default()), format!(r#"{{"cpu":{{}},{cpuset},"memory":{{}},{rest}"#));
        let mut stats = Stats::default();
        stats.cpu.usage.user = 1;
        stats.cpu.throttling.periods = 2;
        stats.memory.usage.limit = 3;
        assert_eq!(
            json(&stats),
            format!(r#"{{"cpu":{{"usage":{{"kernel":0,"user":1}},"throttling":{{"periods":2}}}},{cpuset},"#)
                + &format!(r#""memory":{{"usage":{{"limit":3,"failcnt":0}}}},{rest}"#)
        );
    }

    #[test]
    fn pressure_is_written_as_go_writes_it() {
        let psi = pressure(
            "some avg10=0.00 avg60=1.50 avg300=3.00 total=7\nfull avg10=0.25 avg60=0.00 avg300=0.00 total=0\n",
        );
        assert_eq!(
            serde_json::to_string(&psi).expect("json"),
            r#"{"some":{"avg10":0,"avg60":1.5,"avg300":3,"total":7},"full":{"avg10":0.25,"avg60":0,"avg300":0,"total":0}}"#
        );
    }

    #[test]
    fn swap_is_told_together_with_memory() {
        let memory = memory(&files).expect("memory");
        assert_eq!(memory.cache, 20);
        assert_eq!(memory.usage, MemoryEntry { limit: u64::MAX, usage: 4096, max: 8192, failcnt: 0 });
        assert_eq!(memory.swap, MemoryEntry { limit: u64::MAX, usage: 4196, max: 0, failcnt: 0 });
    }

    #[test]
    fn no_limit_of_pids_is_zero() {
        assert_eq!(pids(&files).expect("pids"), Pids { current: 3, limit: 0 });
        let only_procs = |name: &str| Ok((name == "cgroup.procs").then(|| "5\n6\n".to_string()));
        assert_eq!(pids(&only_procs).expect("pids"), Pids { current: 2, limit: 0 });
    }

    #[test]
    fn an_unreadable_file_is_an_error_and_a_missing_one_is_not() {
        assert!(number(&files, "broken").is_err());
        assert_eq!(number(&files, "missing").expect("absent"), None);
        assert_eq!(memory(&|_| Ok(None)).expect("memory"), Memory::default());
    }

    #[test]
    fn io_is_told_by_device_and_direction() {
        let told = blkio("8:0 rbytes=1 wbytes=2 rios=3 wios=0 dbytes=5 dios=6\nnonsense\n259:1 rbytes=9\n");
        let entry = |major, minor, op, value| BlkioEntry { major, minor, op, value };
        assert_eq!(
            told.io_service_bytes_recursive,
            [entry(8, 0, "Read", 1), entry(8, 0, "Write", 2), entry(259, 1, "Read", 9)]
        );
        assert_eq!(told.io_serviced_recursive, [entry(8, 0, "Read", 3), entry(8, 0, "Write", 0)]);
    }

    #[test]
    fn times_are_nanoseconds() {
        let cpu =
            cpu("usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 7\nnr_throttled 1\nthrottled_usec 4\n");
        assert_eq!(cpu.usage, CpuUsage { total: 5000, kernel: 2000, user: 3000 });
        assert_eq!(cpu.throttling, Throttling { periods: 7, throttled_periods: 1, throttled_time: 4000 });
    }

    #[test]
    fn pages_are_named_as_files_are() {
        for (name, expect) in [
            ("hugepages-64kB", Some("64KB")),
            ("hugepages-2048kB", Some("2MB")),
            ("hugepages-1048576kB", Some("1GB")),
            ("hugepages-2048", None),
            ("other", None),
        ] {
            assert_eq!(page_size(name).as_deref(), expect, "{name}");
        }
    }
}
