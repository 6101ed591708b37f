//! `linux.resources` → what is written into which file of a cgroup, in runc's order: pids, memory, io, cpu, cpuset,
//! hugetlb, rdma, and `unified` last. The resource names and numbers are those of cgroup v1, so most values are
//! converted; each formula is a function of its own below. Fields that only v1 has (kernel memory, swappiness,
//! realtime, leaf weights, network classes) are left out, as runc does on v2.

use crate::bail;
use crate::error::{Error, Result};
use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxRdma, LinuxResources, LinuxThrottleDevice,
    LinuxWeightDevice,
};
use std::collections::{BTreeMap, HashMap};

/// Everything that is written, and what is looked at before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// In the order of writing.
    pub writes: Vec<Write>,
    /// `memory.checkBeforeUpdate`: limits that must lie above the present use.
    pub above_usage: Option<AboveUsage>,
}

/// One write into one file of the cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Where the value comes from: `linux.resources.memory.limit`.
    pub origin: String,
    /// The file's name, whose part before the first dot is the controller.
    pub file: String,
    /// What is written.
    pub value: String,
    /// What a missing file means.
    pub missing: Missing,
    /// When it is written.
    pub turn: Turn,
}

/// What a missing file means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The limit can't be kept: an error.
    Refuse,
    /// The value is "no limit", which is what holds without the file.
    Harmless,
    /// Not every kernel has the file; accepted as long as its controller works in this cgroup.
    Accept,
    /// This file and value serve instead.
    Instead(&'static str, String),
    /// The file is somebody's own words (`unified`): an error in runc's words.
    Unified,
}

/// When a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Once, in one write.
    Once,
    /// Line by line, each in a write of its own.
    Lines,
    /// Once, but EINVAL only means that its turn comes after the writes that follow.
    Early,
    /// Only after the same file's early write met EINVAL.
    Again,
}

/// New limits that are refused when the cgroup already uses as much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AboveUsage {
    /// `memory.limit`, when positive.
    pub memory: Option<u64>,
    /// `memory.swap` (memory and swap), when positive.
    pub memory_and_swap: Option<u64>,
}

impl Write {
    fn new(origin: impl Into<String>, file: impl Into<String>, value: impl ToString) -> Self {
        Self {
            origin: origin.into(),
            file: file.into(),
            value: value.to_string(),
            missing: Missing::Refuse,
            turn: Turn::Once,
        }
    }

    fn if_missing(self, missing: Missing) -> Self {
        Self { missing, ..self }
    }

    fn at(self, turn: Turn) -> Self {
        Self { turn, ..self }
    }

    /// The controller that the file belongs to; `cgroup` for the files that every cgroup has.
    pub fn controller(&self) -> &str {
        self.file.split('.').next().unwrap_or_default()
    }
}

impl Limits {
    /// Decides what is written for `resources`.
    pub fn new(resources: Option<&LinuxResources>) -> Result<Self> {
        let mut limits = Self::default();
        let Some(resources) = resources else { return Ok(limits) };
        let writes = &mut limits.writes;
        if let Some(pids) = resources.pids() {
            writes.push(pids_max(pids.limit()));
        }
        if let Some(memory) = resources.memory() {
            limits.above_usage = above_usage(memory);
            memory_writes(memory, writes)?;
        }
        if let Some(io) = resources.block_io() {
            io_writes(io, writes)?;
        }
        if let Some(cpu) = resources.cpu() {
            cpu_writes(cpu, writes);
            cpuset_writes(cpu, writes)?;
        }
        hugetlb_writes(resources.hugepage_limits().as_deref().unwrap_or_default(), writes)?;
        if let Some(rdma) = resources.rdma() {
            rdma_writes(rdma, writes)?;
        }
        if let Some(unified) = resources.unified() {
            unified_writes(unified, writes)?;
        }
        Ok(limits)
    }

    /// Whether a controller is needed that only works on whole processes and so refuses threaded cgroups.
    pub fn needs_domain(&self) -> bool {
        self.writes.iter().any(|write| matches!(write.controller(), "memory" | "io" | "cpu" | "hugetlb"))
    }
}

/// 0 becomes 1, in runc so that both drivers agree: systemd's TasksMax can't be 0.
fn pids_max(limit: i64) -> Write {
    let origin = "linux.resources.pids.limit";
    match limit {
        ..0 => Write::new(origin, "pids.max", "max").if_missing(Missing::Harmless),
        0 => Write::new(origin, "pids.max", 1),
        1.. => Write::new(origin, "pids.max", limit),
    }
}

fn above_usage(memory: &LinuxMemory) -> Option<AboveUsage> {
    let positive = |value: Option<i64>| value.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
    let check = AboveUsage { memory: positive(memory.limit()), memory_and_swap: positive(memory.swap()) };
    let asked = memory.check_before_update() == Some(true);
    (asked && (check.memory.is_some() || check.memory_and_swap.is_some())).then_some(check)
}

/// Swap first, then the limit: this order only loosens swap while the old limit still holds.
fn memory_writes(memory: &LinuxMemory, writes: &mut Vec<Write>) -> Result<()> {
    let (limit, swap) = (memory.limit().unwrap_or(0), memory.swap().unwrap_or(0));
    if let Some(value) = swap_max(limit, swap).map_err(|e| e.context("linux.resources.memory.swap"))? {
        // Without swap accounting there is no such file, and no swap to limit.
        let missing = if matches!(&*value, "max" | "0") { Missing::Harmless } else { Missing::Refuse };
        writes.push(Write::new("linux.resources.memory.swap", "memory.swap.max", value).if_missing(missing));
    }
    if let Some(value) = bytes(limit) {
        let missing = if value == "max" { Missing::Harmless } else { Missing::Refuse };
        writes.push(Write::new("linux.resources.memory.limit", "memory.max", value).if_missing(missing));
    }
    if let Some(value) = bytes(memory.reservation().unwrap_or(0)) {
        writes.push(Write::new("linux.resources.memory.reservation", "memory.low", value));
    }
    Ok(())
}

/// 0 is "not set" and -1 "no limit", as v1 had it.
fn bytes(value: i64) -> Option<String> {
    match value {
        0 => None,
        -1 => Some("max".into()),
        _ => Some(value.to_string()),
    }
}

/// v1's limit counts memory and swap together, v2's swap alone. The first rule that fits holds.
pub(super) fn swap_max(memory: i64, swap: i64) -> Result<Option<String>> {
    match (memory, swap) {
        (-1, 0) | (_, -1) => Ok(Some("max".into())),
        (_, 0) => Ok(None),
        (-1, _) => Ok(bytes(swap)),
        (0, _) => Err(Error::new("unable to set swap limit without memory limit")),
        (..0, _) => bail!("invalid memory value: {memory}"),
        _ if swap < memory => Err(Error::new("memory+swap limit should be >= memory limit")),
        _ => Ok(Some((swap - memory).to_string())),
    }
}

fn io_writes(io: &LinuxBlockIo, writes: &mut Vec<Write>) -> Result<()> {
    let origin = "linux.resources.blockIO";
    if let Some(weight) = io.weight().filter(|weight| *weight != 0) {
        let origin = format!("{origin}.weight");
        check_weight(&origin, weight)?;
        // The BFQ scheduler has the same scale as v1; without it the kernel's own weights serve.
        let instead = Missing::Instead("io.weight", io_weight(weight).to_string());
        writes.push(Write::new(origin, "io.bfq.weight", weight).if_missing(instead));
    }
    for (index, device) in io.weight_device().iter().flatten().enumerate() {
        writes.extend(device_weight(&format!("{origin}.weightDevice[{index}]"), device)?);
    }
    let throttles = [
        ("throttleReadBpsDevice", "rbps", io.throttle_read_bps_device()),
        ("throttleWriteBpsDevice", "wbps", io.throttle_write_bps_device()),
        ("throttleReadIOPSDevice", "riops", io.throttle_read_iops_device()),
        ("throttleWriteIOPSDevice", "wiops", io.throttle_write_iops_device()),
    ];
    for (field, key, devices) in throttles {
        for (index, device) in devices.iter().flatten().enumerate() {
            writes.push(throttle(format!("{origin}.{field}[{index}]"), key, device)?);
        }
    }
    Ok(())
}

/// Only BFQ knows weights per device; where it isn't loaded, runc goes without them and so does this.
fn device_weight(origin: &str, device: &LinuxWeightDevice) -> Result<Option<Write>> {
    let Some(weight) = device.weight().filter(|weight| *weight != 0) else { return Ok(None) };
    let number = device_number(origin, device.major(), device.minor())?;
    let origin = format!("{origin}.weight");
    check_weight(&origin, weight)?;
    Ok(Some(Write::new(origin, "io.bfq.weight", format!("{number} {weight}\n")).if_missing(Missing::Accept)))
}

fn check_weight(origin: &str, weight: u16) -> Result<()> {
    if !(10..=1000).contains(&weight) {
        bail!("{origin}: {weight} is not between 10 and 1000");
    }
    Ok(())
}

/// Linear from 10..1000 to 1..10000, in whole numbers.
pub(super) fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight) - 10) * 9999 / 990
}

fn throttle(origin: String, key: &str, device: &LinuxThrottleDevice) -> Result<Write> {
    let number = device_number(&origin, device.major(), device.minor())?;
    // v1 took 0 for "no limit"; the kernel refuses it here, and says so.
    let value = format!("{number} {key}={}", device.rate());
    Ok(Write::new(origin, "io.max", value))
}

fn device_number(origin: &str, major: i64, minor: i64) -> Result<String> {
    for (field, number) in [("major", major), ("minor", minor)] {
        if u32::try_from(number).is_err() {
            bail!("{origin}.{field}: {number} is no device number");
        }
    }
    Ok(format!("{major}:{minor}"))
}

fn cpu_writes(cpu: &LinuxCpu, writes: &mut Vec<Write>) {
    if let Some(idle) = cpu.idle() {
        writes.push(Write::new("linux.resources.cpu.idle", "cpu.idle", idle));
    }
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        writes.push(Write::new("linux.resources.cpu.shares", "cpu.weight", cpu_weight(shares)));
    }
    let quota = cpu.quota().unwrap_or(0);
    let period = cpu.period().unwrap_or(0);
    if let Some(burst) = cpu.burst() {
        // A burst above the old quota is refused until the new quota is there.
        let turn = if quota == 0 { Turn::Once } else { Turn::Early };
        writes.push(Write::new("linux.resources.cpu.burst", "cpu.max.burst", burst).at(turn));
    }
    if quota != 0 || period != 0 {
        let origin = if quota == 0 { "linux.resources.cpu.period" } else { "linux.resources.cpu.quota" };
        let missing = if quota > 0 { Missing::Refuse } else { Missing::Harmless };
        writes.push(Write::new(origin, "cpu.max", cpu_max(quota, period)).if_missing(missing));
    }
    if let (Some(burst), true) = (cpu.burst(), quota != 0) {
        writes.push(Write::new("linux.resources.cpu.burst", "cpu.max.burst", burst).at(Turn::Again));
    }
}

/// The period that is not named is the kernel's default, 100 ms.
fn cpu_max(quota: i64, period: u64) -> String {
    let period = if period == 0 { 100_000 } else { period };
    match quota {
        1.. => format!("{quota} {period}"),
        _ => format!("max {period}"),
    }
}

/// v1's shares (2..262144, default 1024) to v2's weight (1..10000, default 100), by a curve through these three
/// points: 10^((l² + 125·l)/612 − 7/34) for l = log2(shares), rounded up.
pub(super) fn cpu_weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let l = (shares as f64).log2();
            let weight = 10f64.powf((l * l + 125.0 * l - 126.0) / 612.0);
            // At 1024 it is exactly 100; an error in the last digit must not make 101 of it.
            (weight - 1e-9).ceil() as u64
        }
    }
}

fn cpuset_writes(cpu: &LinuxCpu, writes: &mut Vec<Write>) -> Result<()> {
    for (field, list) in [("cpus", cpu.cpus()), ("mems", cpu.mems())] {
        let Some(list) = list.as_ref().filter(|list| !list.is_empty()) else { continue };
        let origin = format!("linux.resources.cpu.{field}");
        if list.contains(|c: char| c.is_control() && c != '\n') {
            bail!("{origin}: {list:?} is no list of numbers");
        }
        writes.push(Write::new(origin, format!("cpuset.{field}"), list));
    }
    Ok(())
}

fn hugetlb_writes(limits: &[LinuxHugepageLimit], writes: &mut Vec<Write>) -> Result<()> {
    for (index, limit) in limits.iter().enumerate() {
        let origin = format!("linux.resources.hugepageLimits[{index}]");
        let size = limit.page_size();
        if !is_page_size(size) {
            bail!("{origin}.pageSize: {size:?} is no size of a page, which is written like 2MB");
        }
        let value = limit.limit();
        if value < 0 {
            bail!("{origin}.limit: {value} is negative");
        }
        let origin = format!("{origin}.limit");
        writes.push(Write::new(&*origin, format!("hugetlb.{size}.max"), value));
        // Limits of reservations came with Linux 5.7 and can be left out of a kernel.
        let reserved = Write::new(origin, format!("hugetlb.{size}.rsvd.max"), value);
        writes.push(reserved.if_missing(Missing::Accept));
    }
    Ok(())
}

fn is_page_size(text: &str) -> bool {
    let digits = ["KB", "MB", "GB"].iter().find_map(|unit| text.strip_suffix(unit));
    digits.is_some_and(|digits| {
        !digits.is_empty() && digits.len() <= 10 && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn rdma_writes(limits: &HashMap<String, LinuxRdma>, writes: &mut Vec<Write>) -> Result<()> {
    for (device, limit) in limits.iter().collect::<BTreeMap<_, _>>() {
        let origin = format!("linux.resources.rdma[{device:?}]");
        if device.is_empty() || device.contains(|c: char| c.is_whitespace() || c.is_control()) {
            bail!("{origin}: {device:?} is no name of a device");
        }
        let mut value = device.clone();
        for (key, number) in [("hca_handle", limit.hca_handles()), ("hca_object", limit.hca_objects())] {
            if let Some(number) = number {
                value.push_str(&format!(" {key}={number}"));
            }
        }
        writes.push(Write::new(origin, "rdma.max", value));
    }
    Ok(())
}

fn unified_writes(files: &HashMap<String, String>, writes: &mut Vec<Write>) -> Result<()> {
    for (file, value) in files.iter().collect::<BTreeMap<_, _>>() {
        let origin = format!("linux.resources.unified[{file:?}]");
        if file.contains('/') {
            bail!("{origin}: unified resource {file:?} must be a file name (no slashes)");
        }
        if matches!(file.as_str(), "" | "." | "..") || file.contains(char::is_control) {
            bail!("{origin}: unified resource {file:?} must be in the form CONTROLLER.PARAMETER");
        }
        let turn = if value.contains('\n') { Turn::Lines } else { Turn::Once };
        writes.push(Write::new(origin, file, value).if_missing(Missing::Unified).at(turn));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(json: &str) -> Result<Limits> {
        let resources: LinuxResources = serde_json::from_str(json).expect("resources");
        Limits::new(Some(&resources))
    }

    /// Each write as `file=value`.
    fn check(json: &str, expect: &[&str]) {
        let limits = limits(json).unwrap_or_else(|error| panic!("{json}: {error}"));
        let writes: Vec<_> = limits.writes.iter().map(|w| format!("{}={}", w.file, w.value)).collect();
        assert_eq!(writes, expect, "{json}");
    }

    fn refused(json: &str, expect: &str) {
        let error = limits(json).err().unwrap_or_else(|| panic!("{json} was accepted"));
        assert_eq!(error.to_string(), expect);
    }

    #[test]
    fn nothing_asked_writes_nothing() {
        check("{}", &[]);
        check(r#"{"memory":{},"cpu":{},"blockIO":{}}"#, &[]);
        assert_eq!(Limits::new(None).expect("limits"), Limits::default());
    }

    #[test]
    fn files_are_written_in_runcs_order() {
        check(
            r#"{"unified":{"memory.high":"5","cgroup.max.depth":"3"},
                "rdma":{"mlx5_1":{"hcaHandles":3,"hcaObjects":1000},"mlx4_0":{"hcaObjects":7}},
                "hugepageLimits":[{"pageSize":"2MB","limit":4194304}],
                "cpu":{"shares":1024,"quota":50000,"period":100000,"burst":20000,"idle":0,"cpus":"0-1","mems":"0"},
                "blockIO":{"weight":100,"weightDevice":[{"major":8,"minor":0,"weight":500}],
                  "throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1}],
                  "throttleWriteBpsDevice":[{"major":8,"minor":0,"rate":2}],
                  "throttleReadIOPSDevice":[{"major":8,"minor":0,"rate":3}],
                  "throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":4}]},
                "memory":{"limit":1000,"reservation":500,"swap":3000},
                "pids":{"limit":7}}"#,
            &[
                "pids.max=7",
                "memory.swap.max=2000",
                "memory.max=1000",
                "memory.low=500",
                "io.bfq.weight=100",
                "io.bfq.weight=8:0 500\n",
                "io.max=8:0 rbps=1",
                "io.max=8:0 wbps=2",
                "io.max=8:0 riops=3",
                "io.max=8:0 wiops=4",
                "cpu.idle=0",
                "cpu.weight=100",
                "cpu.max.burst=20000",
                "cpu.max=50000 100000",
                "cpu.max.burst=20000",
                "cpuset.cpus=0-1",
                "cpuset.mems=0",
                "hugetlb.2MB.max=4194304",
                "hugetlb.2MB.rsvd.max=4194304",
                "rdma.max=mlx4_0 hca_object=7",
                "rdma.max=mlx5_1 hca_handle=3 hca_object=1000",
                "cgroup.max.depth=3",
                "memory.high=5",
            ],
        );
    }

    #[test]
    fn shares_become_weights() {
        let table = [
            (1, 1),
            (2, 1),
            (3, 2),
            (10, 4),
            (100, 17),
            (512, 59),
            (1024, 100),
            (2048, 174),
            (4096, 303),
            (10240, 639),
            (102_400, 4429),
            (262_143, 10_000),
            (262_144, 10_000),
            (u64::MAX, 10_000),
        ];
        for (shares, weight) in table {
            assert_eq!(cpu_weight(shares), weight, "shares {shares}");
        }
        check(r#"{"cpu":{"shares":0}}"#, &[]);
    }

    #[test]
    fn weights_never_fall_as_shares_rise() {
        let mut last = 0;
        for shares in 1..=262_144 {
            let weight = cpu_weight(shares);
            assert!(
                (1..=10_000).contains(&weight) && weight >= last,
                "shares {shares}: {weight} after {last}"
            );
            last = weight;
        }
    }

    #[test]
    fn memory_and_swap_become_swap() {
        let table = [
            (-1, 0, Some("max")),
            (0, 0, None),
            (100, 0, None),
            (100, -1, Some("max")),
            (0, -1, Some("max")),
            (-1, -1, Some("max")),
            (-1, 300, Some("300")),
            (100, 100, Some("0")),
            (100, 300, Some("200")),
            (1, i64::MAX, Some("9223372036854775806")),
        ];
        for (memory, swap, expect) in table {
            let value = swap_max(memory, swap).expect("a value");
            assert_eq!(value.as_deref(), expect, "memory {memory}, swap {swap}");
        }
    }

    #[test]
    fn swap_that_makes_no_sense_is_refused() {
        let at = "linux.resources.memory.swap";
        refused(
            r#"{"memory":{"swap":100}}"#,
            &format!("{at}: unable to set swap limit without memory limit"),
        );
        refused(r#"{"memory":{"limit":-5,"swap":100}}"#, &format!("{at}: invalid memory value: -5"));
        refused(
            r#"{"memory":{"limit":200,"swap":100}}"#,
            &format!("{at}: memory+swap limit should be >= memory limit"),
        );
    }

    #[test]
    fn a_missing_swap_file_matters_only_to_a_real_limit() {
        for (swap, missing) in [(-1, Missing::Harmless), (100, Missing::Harmless), (300, Missing::Refuse)] {
            let limits = limits(&format!(r#"{{"memory":{{"limit":100,"swap":{swap}}}}}"#)).expect("limits");
            assert_eq!(limits.writes[0].missing, missing, "swap {swap}");
        }
    }

    #[test]
    fn minus_one_is_no_limit_and_zero_is_unset() {
        check(
            r#"{"memory":{"limit":-1,"reservation":-1}}"#,
            &["memory.swap.max=max", "memory.max=max", "memory.low=max"],
        );
        check(r#"{"memory":{"limit":0,"reservation":0,"swap":0}}"#, &[]);
        check(r#"{"pids":{"limit":-1}}"#, &["pids.max=max"]);
        check(r#"{"pids":{"limit":0}}"#, &["pids.max=1"]);
    }

    #[test]
    fn quota_and_period_complete_each_other() {
        check(r#"{"cpu":{"quota":5000}}"#, &["cpu.max=5000 100000"]);
        check(r#"{"cpu":{"period":5000}}"#, &["cpu.max=max 5000"]);
        check(r#"{"cpu":{"quota":-1,"period":5000}}"#, &["cpu.max=max 5000"]);
        check(r#"{"cpu":{"quota":0,"period":0}}"#, &[]);
    }

    #[test]
    fn a_burst_waits_for_its_quota() {
        let with = limits(r#"{"cpu":{"quota":5000,"burst":9}}"#).expect("limits").writes;
        assert_eq!(with.iter().map(|w| w.turn).collect::<Vec<_>>(), [Turn::Early, Turn::Once, Turn::Again]);
        let without = limits(r#"{"cpu":{"period":5000,"burst":9}}"#).expect("limits").writes;
        assert_eq!(without.iter().map(|w| w.turn).collect::<Vec<_>>(), [Turn::Once, Turn::Once]);
    }

    #[test]
    fn io_weights_keep_their_scale_or_are_converted() {
        for (weight, expect) in [(10, 1), (100, 910), (500, 4950), (1000, 10_000)] {
            assert_eq!(io_weight(weight), expect, "weight {weight}");
        }
        let write = limits(r#"{"blockIO":{"weight":500}}"#).expect("limits").writes.remove(0);
        assert_eq!(write.missing, Missing::Instead("io.weight", "4950".into()));
        refused(
            r#"{"blockIO":{"weight":5}}"#,
            "linux.resources.blockIO.weight: 5 is not between 10 and 1000",
        );
        refused(
            r#"{"blockIO":{"weightDevice":[{"major":8,"minor":0,"weight":1001}]}}"#,
            "linux.resources.blockIO.weightDevice[0].weight: 1001 is not between 10 and 1000",
        );
    }

    #[test]
    fn only_numbers_of_devices_are_taken() {
        refused(
            r#"{"blockIO":{"throttleReadBpsDevice":[{"major":-1,"minor":0,"rate":1}]}}"#,
            "linux.resources.blockIO.throttleReadBpsDevice[0].major: -1 is no device number",
        );
        refused(
            r#"{"blockIO":{"throttleWriteIOPSDevice":[{"major":8,"minor":4294967296,"rate":1}]}}"#,
            "linux.resources.blockIO.throttleWriteIOPSDevice[0].minor: 4294967296 is no device number",
        );
    }

    #[test]
    fn hostile_names_are_refused() {
        for size in ["../../../x", "2MB/..", "", "MB", "2", "2mb", "2MB\u{0}", "99999999999MB"] {
            let json = serde_json::json!({"hugepageLimits": [{"pageSize": size, "limit": 1}]}).to_string();
            let error = limits(&json).expect_err(size).to_string();
            assert!(error.starts_with("linux.resources.hugepageLimits[0].pageSize: "), "{error}");
        }
        refused(
            r#"{"hugepageLimits":[{"pageSize":"2MB","limit":-1}]}"#,
            "linux.resources.hugepageLimits[0].limit: -1 is negative",
        );
        refused(
            r#"{"unified":{"../memory.max":"1"}}"#,
            r#"linux.resources.unified["../memory.max"]: unified resource "../memory.max" must be a file name (no slashes)"#,
        );
        for key in ["", ".", "..", "a\u{0}b", "memory\n.max"] {
            let json = serde_json::json!({"unified": {key: "1"}}).to_string();
            let error = limits(&json).expect_err(key).to_string();
            assert!(error.contains("must be in the form CONTROLLER.PARAMETER"), "{error}");
        }
        for name in ["", "a b", "a\nb"] {
            let json = serde_json::json!({"rdma": {name: {}}}).to_string();
            let error = limits(&json).expect_err(name).to_string();
            assert!(error.starts_with("linux.resources.rdma["), "{error}");
        }
        refused(
            "{\"cpu\":{\"cpus\":\"0\\u0000\"}}",
            "linux.resources.cpu.cpus: \"0\\0\" is no list of numbers",
        );
    }

    #[test]
    fn several_lines_are_written_one_by_one() {
        let writes = limits(r#"{"unified":{"io.max":"8:0 rbps=1\n8:16 rbps=2","memory.high":"1"}}"#)
            .expect("limits")
            .writes;
        assert_eq!(writes.iter().map(|w| w.turn).collect::<Vec<_>>(), [Turn::Lines, Turn::Once]);
    }

    #[test]
    fn a_check_before_update_needs_a_limit() {
        let check = |json: &str| limits(json).expect("limits").above_usage;
        assert_eq!(check(r#"{"memory":{"limit":5}}"#), None);
        assert_eq!(check(r#"{"memory":{"checkBeforeUpdate":true,"limit":-1}}"#), None);
        assert_eq!(
            check(r#"{"memory":{"checkBeforeUpdate":true,"limit":5,"swap":9}}"#),
            Some(AboveUsage { memory: Some(5), memory_and_swap: Some(9) })
        );
    }
}
