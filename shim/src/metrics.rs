//! What a container uses, from its cgroup, in the units and under the names of containerd's metrics for cgroup v2.

use crate::wire::metrics::{Cpu, HugeTlb, Io, IoEntry, Memory, MemoryEvents, Metrics, Pids, Pressure, Psi};
use pintle::cgroup::Cgroup;
use pintle::cgroup::stats::{self, Stats};
use pintle::error::Result;
use std::collections::BTreeMap;

/// Measures now. What a missing controller would measure is missing.
///
/// # Errors
/// A cgroup that can't be read.
pub fn of(cgroup: &Cgroup) -> Result<Metrics> {
    let found = cgroup.stats()?;
    let events = cgroup.watch("memory.events")?.and_then(|watch| watch.read().ok().flatten());
    let events = events.map(|text| counts(&text));
    Ok(convert(&found, events.as_ref()))
}

fn counts(text: &str) -> BTreeMap<String, u64> {
    let count = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(count).collect()
}

fn convert(found: &Stats, events: Option<&BTreeMap<String, u64>>) -> Metrics {
    let limit = |limit: u64| if limit == 0 { u64::MAX } else { limit };
    let event = |name: &str| events.and_then(|events| events.get(name)).copied().unwrap_or(0);
    Metrics {
        pids: Some(Pids { current: found.pids.current, limit: found.pids.limit }),
        cpu: Some(cpu(&found.cpu)),
        memory: (!found.memory.raw.is_empty()).then(|| memory(&found.memory, limit)),
        io: Some(io(&found.blkio)),
        hugetlb: found.hugetlb.iter().map(|(size, one)| huge(size, one)).collect(),
        memory_events: events.map(|_| MemoryEvents {
            low: event("low"),
            high: event("high"),
            max: event("max"),
            oom: event("oom"),
            oom_kill: event("oom_kill"),
            oom_group_kill: event("oom_group_kill"),
        }),
        ..Metrics::default()
    }
}

fn cpu(cpu: &stats::Cpu) -> Cpu {
    let micro = |nanoseconds: u64| nanoseconds / 1000;
    Cpu {
        usage_usec: micro(cpu.usage.total),
        user_usec: micro(cpu.usage.user),
        system_usec: micro(cpu.usage.kernel),
        nr_periods: cpu.throttling.periods,
        nr_throttled: cpu.throttling.throttled_periods,
        throttled_usec: micro(cpu.throttling.throttled_time),
        psi: cpu.psi.as_ref().map(psi),
        ..Cpu::default()
    }
}

fn memory(memory: &stats::Memory, limit: impl Fn(u64) -> u64) -> Memory {
    let raw = |name: &str| memory.raw.get(name).copied().unwrap_or(0);
    Memory {
        anon: raw("anon"),
        file: raw("file"),
        kernel_stack: raw("kernel_stack"),
        slab: raw("slab"),
        sock: raw("sock"),
        shmem: raw("shmem"),
        file_mapped: raw("file_mapped"),
        file_dirty: raw("file_dirty"),
        file_writeback: raw("file_writeback"),
        anon_thp: raw("anon_thp"),
        inactive_anon: raw("inactive_anon"),
        active_anon: raw("active_anon"),
        inactive_file: raw("inactive_file"),
        active_file: raw("active_file"),
        unevictable: raw("unevictable"),
        slab_reclaimable: raw("slab_reclaimable"),
        slab_unreclaimable: raw("slab_unreclaimable"),
        pgfault: raw("pgfault"),
        pgmajfault: raw("pgmajfault"),
        // Since Linux 5.9 there are two.
        workingset_refault: raw("workingset_refault_anon") + raw("workingset_refault_file"),
        workingset_activate: raw("workingset_activate_anon") + raw("workingset_activate_file"),
        workingset_nodereclaim: raw("workingset_nodereclaim"),
        pgrefill: raw("pgrefill"),
        pgscan: raw("pgscan"),
        pgsteal: raw("pgsteal"),
        pgactivate: raw("pgactivate"),
        pgdeactivate: raw("pgdeactivate"),
        pglazyfree: raw("pglazyfree"),
        pglazyfreed: raw("pglazyfreed"),
        thp_fault_alloc: raw("thp_fault_alloc"),
        thp_collapse_alloc: raw("thp_collapse_alloc"),
        usage: memory.usage.usage,
        usage_limit: limit(memory.usage.limit),
        // The library adds the two, as cgroup v1 did.
        swap_usage: memory.swap.usage.saturating_sub(memory.usage.usage),
        swap_limit: match memory.swap.limit {
            u64::MAX => u64::MAX,
            sum => sum.saturating_sub(memory.usage.limit),
        },
        max_usage: memory.usage.max,
        psi: memory.psi.as_ref().map(psi),
        ..Memory::default()
    }
}

fn io(blkio: &stats::Blkio) -> Io {
    let mut devices: BTreeMap<(u64, u64), IoEntry> = BTreeMap::new();
    let lists = [(&blkio.io_service_bytes_recursive, true), (&blkio.io_serviced_recursive, false)];
    for (list, bytes) in lists {
        for one in list {
            let device = devices.entry((one.major, one.minor)).or_insert_with(|| IoEntry {
                major: one.major,
                minor: one.minor,
                ..IoEntry::default()
            });
            match (one.op, bytes) {
                ("Read", true) => device.rbytes = one.value,
                ("Read", false) => device.rios = one.value,
                (_, true) => device.wbytes = one.value,
                (_, false) => device.wios = one.value,
            }
        }
    }
    Io { usage: devices.into_values().collect(), psi: blkio.psi.as_ref().map(psi) }
}

fn huge(size: &str, one: &stats::Hugetlb) -> HugeTlb {
    HugeTlb { current: one.usage, max: u64::MAX, pagesize: size.into(), failcnt: one.failcnt }
}

fn psi(found: &stats::Psi) -> Psi {
    let pressure = |found: &stats::Pressure| {
        Some(Pressure { avg10: found.avg10, avg60: found.avg60, avg300: found.avg300, total: found.total })
    };
    Psi { some: pressure(&found.some), full: pressure(&found.full) }
}
