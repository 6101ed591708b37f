//! `linux.resources` → properties of the unit, systemd.resource-control(5). What systemd rounds, the files must round
//! alike, or the next change of the unit would undo them: [`adjusted`].

use super::Property;
use crate::error::Result;
use crate::plan::cgroup::devices::{Devices, Kind, MKNOD, READ, Rules, WRITE};
use crate::plan::cgroup::limits::{cpu_weight, io_weight, swap_max};
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};
use std::collections::HashMap;
use zbus::Variant;

/// No limit, in every property that takes bytes, tasks or time.
const INFINITY: u64 = u64::MAX;
/// A weight that is not set.
const UNSET: u64 = u64::MAX;
/// The weight that means `cpu.idle`.
const IDLE: u64 = 0;
/// µs; what holds where no period is named.
const DEFAULT_PERIOD: u64 = 100_000;
/// µs of each second, which is one percent: systemd keeps the quota as whole percents.
const QUOTA_STEP: u64 = 10_000;
/// No machine has so many processors; a list that names more is left to the kernel to refuse.
const MOST_CPUS: u32 = 1 << 13;
/// The kernel takes no longer text.
const LONGEST_LIST: usize = 4096;

/// Everything but devices.
pub(super) fn of(resources: Option<&LinuxResources>) -> Result<Vec<Property>> {
    let mut properties = Vec::new();
    let Some(resources) = resources else { return Ok(properties) };
    if let Some(memory) = resources.memory() {
        of_memory(memory, &mut properties)?;
    }
    if let Some(cpu) = resources.cpu() {
        of_cpu(cpu, &mut properties);
    }
    if let Some(pids) = resources.pids() {
        // TasksMax can't be 0.
        let most = u64::try_from(pids.limit()).map_or(INFINITY, |limit| limit.max(1));
        properties.push(Property::new("TasksMax", most));
    }
    if let Some(io) = resources.block_io() {
        of_io(io, &mut properties);
    }
    if let Some(files) = resources.unified() {
        of_unified(files, &mut properties);
    }
    Ok(properties)
}

/// -1 is no limit and 0 "not set".
fn bytes(value: i64) -> Option<u64> {
    (value != 0).then(|| u64::try_from(value).unwrap_or(INFINITY))
}

fn of_memory(memory: &LinuxMemory, properties: &mut Vec<Property>) -> Result<()> {
    let (limit, swap) = (memory.limit().unwrap_or(0), memory.swap().unwrap_or(0));
    let swap = swap_max(limit, swap).map_err(|error| error.context("linux.resources.memory.swap"))?;
    let found = [
        ("MemoryMax", bytes(limit)),
        ("MemoryLow", bytes(memory.reservation().unwrap_or(0))),
        ("MemorySwapMax", swap.as_deref().and_then(number_or_max)),
    ];
    properties.extend(found.into_iter().filter_map(|(name, value)| Some(Property::new(name, value?))));
    Ok(())
}

fn of_cpu(cpu: &LinuxCpu, properties: &mut Vec<Property>) {
    let shares = cpu.shares().filter(|shares| *shares != 0);
    properties.extend(weight(cpu.idle(), shares.map(cpu_weight)));
    properties.extend(quota(cpu.quota().unwrap_or(0), cpu.period().unwrap_or(0)));
    let sets = [("AllowedCPUs", cpu.cpus()), ("AllowedMemoryNodes", cpu.mems())];
    properties.extend(sets.into_iter().filter_map(|(name, list)| set(name, list.as_deref()?)));
}

/// An idle cgroup has no weight, so idle wins.
fn weight(idle: Option<i64>, weight: Option<u64>) -> Option<Property> {
    match (idle, weight) {
        (Some(1), _) => Some(Property::dispensable("CPUWeight", IDLE)),
        (_, Some(weight)) => Some(Property::new("CPUWeight", weight)),
        (Some(_), None) => Some(Property::new("CPUWeight", UNSET)),
        (None, None) => None,
    }
}

fn quota(quota: i64, period: u64) -> Vec<Property> {
    let mut properties = Vec::new();
    if period != 0 {
        properties.push(Property::dispensable("CPUQuotaPeriodUSec", period));
    }
    if quota != 0 || period != 0 {
        properties.push(Property::new("CPUQuotaPerSecUSec", quota_per_second(quota, period)));
    }
    properties
}

/// µs of processor time in each second, rounded up as systemd rounds.
fn quota_per_second(quota: i64, period: u64) -> u64 {
    let period = if period == 0 { DEFAULT_PERIOD } else { period };
    match u64::try_from(quota) {
        Ok(quota @ 1..) => {
            let exact = u128::from(quota) * 1_000_000 / u128::from(period);
            let rounded = exact.next_multiple_of(u128::from(QUOTA_STEP));
            u64::try_from(rounded).unwrap_or(INFINITY / QUOTA_STEP * QUOTA_STEP)
        }
        _ => INFINITY,
    }
}

/// The limits as systemd will have them: a quota of whole percents, and no weight beside idle.
pub fn adjusted(resources: &LinuxResources) -> LinuxResources {
    let mut new = resources.clone();
    let idle_by_file = resources.unified().as_ref().is_some_and(is_idle);
    if let Some(cpu) = resources.cpu() {
        let mut cpu = cpu.clone();
        if let Some(quota @ 1..) = cpu.quota() {
            let period = cpu.period().filter(|period| *period != 0).unwrap_or(DEFAULT_PERIOD);
            let rounded = u128::from(quota_per_second(quota, period)) * u128::from(period) / 1_000_000;
            cpu.set_quota(i64::try_from(rounded).ok().or(Some(quota)));
        }
        if cpu.idle() == Some(1) || idle_by_file {
            cpu.set_shares(None);
        }
        new.set_cpu(Some(cpu));
    }
    if let Some(files) = resources.unified().as_ref().filter(|_| idle_by_file) {
        let kept = files.iter().filter(|(name, _)| *name != "cpu.weight");
        new.set_unified(Some(kept.map(|(name, value)| (name.clone(), value.clone())).collect()));
    }
    new
}

/// What of the limits gives way to others.
pub fn warnings(resources: &LinuxResources) -> Vec<String> {
    let shares = |cpu: &LinuxCpu| cpu.idle() == Some(1) && cpu.shares().is_some_and(|shares| shares != 0);
    let weight = |files: &HashMap<String, String>| is_idle(files) && files.contains_key("cpu.weight");
    let both =
        resources.cpu().as_ref().is_some_and(shares) || resources.unified().as_ref().is_some_and(weight);
    both.then(|| "unable to apply both CPUWeight and CPUIdle, ignoring CPUWeight".to_owned())
        .into_iter()
        .collect()
}

fn is_idle(files: &HashMap<String, String>) -> bool {
    files.get("cpu.idle").is_some_and(|value| value.trim() == "1")
}

/// A list like `0-3,5` as a mask of bits, the lowest first; `None` for what is no such list.
fn set(name: &str, list: &str) -> Option<Property> {
    if list.len() > LONGEST_LIST {
        return None;
    }
    let mut mask: Vec<u8> = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= MOST_CPUS {
            return None;
        }
        let longest = last as usize / 8 + 1;
        if mask.len() < longest {
            mask.resize(longest, 0);
        }
        for bit in first..=last {
            *mask.get_mut(bit as usize / 8)? |= 1 << (bit % 8);
        }
    }
    (!mask.is_empty()).then(|| Property::dispensable(name, mask))
}

fn of_io(io: &LinuxBlockIo, properties: &mut Vec<Property>) {
    let in_range = |weight: &u16| (10..=1000).contains(weight);
    if let Some(weight) = io.weight().filter(in_range) {
        properties.push(Property::dispensable("IOWeight", io_weight(weight)));
    }
    let weights = io.weight_device().iter().flatten().filter_map(|device| {
        Some((block_device(device.major(), device.minor()), io_weight(device.weight().filter(in_range)?)))
    });
    properties.extend(by_device("IODeviceWeight", weights.collect()));
    for (name, devices) in [
        ("IOReadBandwidthMax", io.throttle_read_bps_device()),
        ("IOWriteBandwidthMax", io.throttle_write_bps_device()),
        ("IOReadIOPSMax", io.throttle_read_iops_device()),
        ("IOWriteIOPSMax", io.throttle_write_iops_device()),
    ] {
        let rate =
            |device: &LinuxThrottleDevice| (block_device(device.major(), device.minor()), device.rate());
        let named = devices.iter().flatten().filter(|device| device.rate() != 0);
        properties.extend(by_device(name, named.map(rate).collect()));
    }
}

fn block_device(major: i64, minor: i64) -> String {
    format!("/dev/block/{major}:{minor}")
}

fn by_device(name: &str, values: Vec<(String, u64)>) -> Option<Property> {
    (!values.is_empty()).then(|| Property::dispensable(name, Variant::from(values)))
}

/// Of the files that the user names, those that systemd knows by another name. What can't be read as such is for the
/// kernel to judge, when it is written.
fn of_unified(files: &HashMap<String, String>, properties: &mut Vec<Property>) {
    let text = |name: &str| files.get(name).map(|text| text.trim());
    let number = |name: &str| number_or_max(text(name)?);
    for (name, property, least) in [
        ("memory.min", "MemoryMin", 0),
        ("memory.low", "MemoryLow", 0),
        // systemd takes no 0 for these; the file will have it.
        ("memory.high", "MemoryHigh", 1),
        ("memory.max", "MemoryMax", 1),
        ("memory.swap.max", "MemorySwapMax", 0),
        ("pids.max", "TasksMax", 1),
    ] {
        properties.extend(number(name).map(|value: u64| Property::new(property, value.max(least))));
    }
    let zswap = number("memory.zswap.max");
    properties.extend(zswap.map(|value| Property::dispensable("MemoryZSwapMax", value)));
    let idle = text("cpu.idle").and_then(|value| value.parse().ok());
    properties.extend(weight(idle, text("cpu.weight").and_then(|value| value.parse().ok())));
    if let Some((most, period)) = text("cpu.max").and_then(cpu_max) {
        properties.extend(quota(most, period));
    }
    for (name, property) in [("cpuset.cpus", "AllowedCPUs"), ("cpuset.mems", "AllowedMemoryNodes")] {
        properties.extend(text(name).and_then(|list| set(property, list)));
    }
}

/// `max`, or a number that may end in K, M, G or T, as the kernel reads it.
fn number_or_max(text: &str) -> Option<u64> {
    if text == "max" {
        return Some(INFINITY);
    }
    let shift = match text.bytes().last()?.to_ascii_uppercase() {
        b'K' => 10,
        b'M' => 20,
        b'G' => 30,
        b'T' => 40,
        _ => return text.parse().ok(),
    };
    text[..text.len() - 1].parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// What undoes a property that was not set before.
pub(super) fn neutral(name: &str) -> Property {
    let value = match name {
        "MemoryLow" | "MemoryMin" => Variant::U64(0),
        "AllowedCPUs" | "AllowedMemoryNodes" => Variant::from(Vec::<u8>::new()),
        "IODeviceWeight"
        | "IOReadBandwidthMax"
        | "IOWriteBandwidthMax"
        | "IOReadIOPSMax"
        | "IOWriteIOPSMax" => Variant::from(Vec::<(String, u64)>::new()),
        // No limit, or no weight.
        _ => Variant::U64(INFINITY),
    };
    Property::dispensable(name, value)
}

/// `QUOTA PERIOD`, the second of which may be missing.
fn cpu_max(text: &str) -> Option<(i64, u64)> {
    let mut words = text.split_whitespace();
    let quota = match words.next()? {
        "max" => -1,
        number => number.parse().ok()?,
    };
    Some((quota, words.next().map_or(Some(DEFAULT_PERIOD), |word| word.parse().ok())?))
}

/// What systemd does when the kernel kills for want of memory; it can only be said at the unit's start.
pub(super) fn oom_policy(resources: Option<&LinuxResources>) -> Option<Property> {
    let files = resources?.unified().as_ref()?;
    let policy = match files.get("memory.oom.group")?.trim() {
        "1" => "kill",
        "0" => "continue",
        _ => return None,
    };
    Some(Property::dispensable("OOMPolicy", policy))
}

/// The devices, as a list of what is allowed; systemd can't say "all but". The list never allows less than the rules:
/// the runtime's own program beside systemd's is the exact one.
pub(super) fn of_devices(rules: &Rules) -> Vec<Property> {
    if rules.allow {
        return vec![Property::new("DevicePolicy", "auto")];
    }
    let entries: Vec<(String, String)> =
        rules.exceptions.iter().map(|(devices, access)| (pattern(*devices), letters(*access))).collect();
    vec![Property::new("DevicePolicy", "strict"), Property::new("DeviceAllow", Variant::from(entries))]
}

fn pattern(devices: Devices) -> String {
    let kind = if devices.kind == Kind::Block { "block" } else { "char" };
    match (devices.major, devices.minor) {
        (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
        (Some(major), None) => format!("{kind}-{major}"),
        (None, _) => format!("{kind}-*"),
    }
}

fn letters(access: u8) -> String {
    let letters = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];
    letters.into_iter().filter(|(bit, _)| access & bit != 0).map(|(_, letter)| letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(json: &str) -> LinuxResources {
        serde_json::from_str(json).expect("resources")
    }

    #[track_caller]
    fn check(json: &str, expect: &[(&str, Variant<'static>)]) {
        let got = of(Some(&resources(json))).expect("properties");
        let got: Vec<_> =
            got.iter().map(|property| (property.name.as_str(), property.value.clone())).collect();
        assert_eq!(got, expect, "{json}");
    }

    fn number(value: u64) -> Variant<'static> {
        Variant::U64(value)
    }

    #[test]
    fn memory() {
        check(
            r#"{"memory":{"limit":100,"reservation":50,"swap":150}}"#,
            &[("MemoryMax", number(100)), ("MemoryLow", number(50)), ("MemorySwapMax", number(50))],
        );
        check(
            r#"{"memory":{"limit":-1}}"#,
            &[("MemoryMax", number(u64::MAX)), ("MemorySwapMax", number(u64::MAX))],
        );
        check(
            r#"{"memory":{"limit":100,"swap":100}}"#,
            &[("MemoryMax", number(100)), ("MemorySwapMax", number(0))],
        );
        check(r#"{"memory":{}}"#, &[]);
    }

    #[test]
    fn weights_and_idle() {
        check(r#"{"cpu":{"shares":1024}}"#, &[("CPUWeight", number(100))]);
        check(r#"{"cpu":{"shares":1024,"idle":1}}"#, &[("CPUWeight", number(0))]);
        check(r#"{"cpu":{"shares":1024,"idle":0}}"#, &[("CPUWeight", number(100))]);
        check(r#"{"cpu":{"idle":0}}"#, &[("CPUWeight", number(u64::MAX))]);
        let both = resources(r#"{"cpu":{"shares":1024,"idle":1}}"#);
        assert_eq!(warnings(&both), ["unable to apply both CPUWeight and CPUIdle, ignoring CPUWeight"]);
        assert_eq!(adjusted(&both).cpu().as_ref().expect("cpu").shares(), None);
        let both = resources(r#"{"cpu":{"shares":200},"unified":{"cpu.idle":"1","cpu.weight":"8"}}"#);
        assert_eq!(warnings(&both).len(), 1);
        assert_eq!(adjusted(&both).cpu().as_ref().expect("cpu").shares(), None);
        assert_eq!(adjusted(&both).unified().as_ref().expect("unified").len(), 1);
    }

    #[test]
    fn quotas_are_whole_percents_in_unit_and_file() {
        for (json, per_second, file) in [
            (r#"{"cpu":{"quota":5000}}"#, 50_000, 5000),
            (r#"{"cpu":{"quota":5000,"period":30000}}"#, 170_000, 5100),
            (r#"{"cpu":{"quota":1,"period":100000}}"#, 10_000, 1000),
            (r#"{"cpu":{"quota":600000,"period":100000}}"#, 6_000_000, 600_000),
            (
                r#"{"cpu":{"quota":9223372036854775807,"period":500000}}"#,
                u64::MAX / 10_000 * 10_000,
                9_223_372_036_854_775_000,
            ),
        ] {
            let resources = resources(json);
            let properties = of(Some(&resources)).expect("properties");
            let quota =
                properties.iter().find(|property| property.name == "CPUQuotaPerSecUSec").expect("quota");
            assert_eq!(quota.value, number(per_second), "{json}");
            assert_eq!(adjusted(&resources).cpu().as_ref().expect("cpu").quota(), Some(file), "{json}");
        }
        check(r#"{"cpu":{"quota":-1}}"#, &[("CPUQuotaPerSecUSec", number(u64::MAX))]);
        check(
            r#"{"cpu":{"period":50000}}"#,
            &[("CPUQuotaPeriodUSec", number(50_000)), ("CPUQuotaPerSecUSec", number(u64::MAX))],
        );
        check(
            r#"{"cpu":{"quota":9223372036854775807,"period":1}}"#,
            &[("CPUQuotaPeriodUSec", number(1)), ("CPUQuotaPerSecUSec", number(u64::MAX / 10_000 * 10_000))],
        );
    }

    #[test]
    fn sets_are_masks() {
        check(
            r#"{"cpu":{"cpus":"0","mems":"0-1"}}"#,
            &[("AllowedCPUs", Variant::from(vec![1u8])), ("AllowedMemoryNodes", Variant::from(vec![3u8]))],
        );
        check(r#"{"cpu":{"cpus":"5-8, 0"}}"#, &[("AllowedCPUs", Variant::from(vec![0b1110_0001u8, 1]))]);
        for left_to_the_kernel in ["x", "3-1", "0-4294967295", "-", ""] {
            assert_eq!(set("AllowedCPUs", left_to_the_kernel), None, "{left_to_the_kernel}");
        }
    }

    #[test]
    fn tasks() {
        for (limit, most) in [(5, 5), (0, 1), (-1, u64::MAX)] {
            check(&format!(r#"{{"pids":{{"limit":{limit}}}}}"#), &[("TasksMax", number(most))]);
        }
    }

    #[test]
    fn io() {
        let device = |rate: u64| Variant::from(vec![("/dev/block/8:16".to_owned(), rate)]);
        check(
            r#"{"blockIO":{"weight":500,"weightDevice":[{"major":8,"minor":16,"weight":10},{"major":8,"minor":0}],
                "throttleReadBpsDevice":[{"major":8,"minor":16,"rate":7},{"major":8,"minor":0,"rate":0}],
                "throttleWriteIOPSDevice":[{"major":8,"minor":16,"rate":9}]}}"#,
            &[
                ("IOWeight", number(4950)),
                ("IODeviceWeight", device(1)),
                ("IOReadBandwidthMax", device(7)),
                ("IOWriteIOPSMax", device(9)),
            ],
        );
    }

    #[test]
    fn files_that_systemd_knows() {
        check(
            r#"{"unified":{"memory.high":"10","memory.max":"max","pids.max":"7","cpu.weight":"42",
                "cpu.max":"5000 50000","cpuset.cpus":"1","memory.min":"10M","hugetlb.2MB.max":"1"}}"#,
            &[
                ("MemoryMin", number(10 << 20)),
                ("MemoryHigh", number(10)),
                ("MemoryMax", number(u64::MAX)),
                ("TasksMax", number(7)),
                ("CPUWeight", number(42)),
                ("CPUQuotaPeriodUSec", number(50_000)),
                ("CPUQuotaPerSecUSec", number(100_000)),
                ("AllowedCPUs", Variant::from(vec![2u8])),
            ],
        );
        let policy = |json| oom_policy(Some(&resources(json))).map(|property| property.value);
        assert_eq!(policy(r#"{"unified":{"memory.oom.group":"1"}}"#), Some(Variant::from("kill")));
        assert_eq!(policy(r#"{"unified":{"memory.oom.group":"0"}}"#), Some(Variant::from("continue")));
        assert_eq!(policy(r#"{"unified":{}}"#), None);
    }

    #[test]
    fn devices_are_a_list_that_is_never_too_short() {
        let rules = |json: &str| {
            Rules::of(&serde_json::from_str::<Vec<_>>(json).expect("rules"), &[]).expect("rules")
        };
        let all = of_devices(&rules(r#"[{"allow":true,"access":"rwm"}]"#));
        assert_eq!(all, [Property::new("DevicePolicy", "auto")]);
        let some = of_devices(&rules(
            r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"b","major":8,"access":"r"},
                {"allow":true,"type":"c","minor":9,"access":"w"}]"#,
        ));
        let [policy, list] = &some[..] else { panic!("{some:?}") };
        assert_eq!(policy.value, Variant::from("strict"));
        let list = list.value.to_string();
        for part in [
            r#"("block-8", "r")"#,
            r#"("char-*", "w")"#,
            r#"("/dev/char/1:3", "rwm")"#,
            r#"("char-136", "rwm")"#,
        ] {
            assert!(list.contains(part), "{part} in {list}");
        }
    }
}
