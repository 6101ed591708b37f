//! What `update` makes of the limits a container has: what is named replaces the old value, the rest stays, with the
//! exceptions that runc's callers know. Devices are never touched, so that what others attached stays.

use crate::error::Result;
use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources, LinuxThrottleDevice, LinuxWeightDevice,
    LinuxWeightDeviceBuilder,
};
use serde::Deserialize;
use std::collections::HashMap;

/// The new limits: a `LinuxResources` object in which absent and null are the same, and are not zero.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs)]
pub struct Changes {
    pub memory: Option<Memory>,
    pub cpu: Option<Cpu>,
    pub pids: Option<Pids>,
    #[serde(rename = "blockIO")]
    pub block_io: Option<BlockIo>,
    pub unified: Option<HashMap<String, String>>,
}

/// `memory`
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs)]
pub struct Memory {
    pub limit: Option<i64>,
    pub reservation: Option<i64>,
    pub swap: Option<i64>,
    pub check_before_update: Option<bool>,
}

/// `cpu`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs)]
pub struct Cpu {
    pub shares: Option<u64>,
    pub quota: Option<i64>,
    pub period: Option<u64>,
    pub burst: Option<u64>,
    pub idle: Option<i64>,
    pub realtime_runtime: Option<i64>,
    pub realtime_period: Option<u64>,
    pub cpus: Option<String>,
    pub mems: Option<String>,
}

/// `pids`
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Pids {
    pub limit: Option<i64>,
}

/// `blockIO`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs)]
pub struct BlockIo {
    pub weight: Option<u16>,
    pub leaf_weight: Option<u16>,
    pub weight_device: Option<Vec<LinuxWeightDevice>>,
    pub throttle_read_bps_device: Option<Vec<LinuxThrottleDevice>>,
    pub throttle_write_bps_device: Option<Vec<LinuxThrottleDevice>>,
    #[serde(rename = "throttleReadIOPSDevice")]
    pub throttle_read_iops_device: Option<Vec<LinuxThrottleDevice>>,
    #[serde(rename = "throttleWriteIOPSDevice")]
    pub throttle_write_iops_device: Option<Vec<LinuxThrottleDevice>>,
}

impl Changes {
    /// The first JSON value of `text`; what follows it is not looked at, as with runc.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(crate::spec::first::<Option<Self>>(text.as_bytes())?.unwrap_or_default())
    }

    /// The limits of `old` with these changes.
    pub fn over(&self, old: Option<&LinuxResources>) -> LinuxResources {
        let mut new = old.cloned().unwrap_or_default();
        new.set_memory(memory(self.memory.unwrap_or_default(), new.memory().as_ref()));
        new.set_cpu(Some(cpu(self.cpu.clone().unwrap_or_default(), new.cpu().as_ref())));
        new.set_block_io(block_io(self.block_io.as_ref(), new.block_io().as_ref()));
        // Replaced even when absent, as with runc: what was written stays in the files, but is not written again.
        new.set_pids(self.pids.and_then(|pids| pids.limit).map(|limit| {
            let mut pids = LinuxPids::default();
            pids.set_limit(limit);
            pids
        }));
        new.set_unified(self.unified.clone().filter(|files| !files.is_empty()));
        new
    }
}

fn memory(change: Memory, old: Option<&LinuxMemory>) -> Option<LinuxMemory> {
    let mut new = old.copied().unwrap_or_default();
    // Unlimited memory makes swap unlimited too, unless swap is named: 0 leaves that to the planner's rule.
    let swap = if change.limit == Some(-1) { change.swap.or(Some(0)) } else { change.swap };
    new.set_limit(change.limit.or(new.limit()));
    new.set_reservation(change.reservation.or(new.reservation()));
    new.set_swap(swap.or(new.swap()));
    new.set_check_before_update(change.check_before_update.or(new.check_before_update()));
    (new != LinuxMemory::default()).then_some(new)
}

/// Quota and period keep their old value unless named and not 0; burst, idle, cpus and mems are replaced even when
/// absent. An idle cgroup takes no weight, so naming idle alone drops the shares.
fn cpu(change: Cpu, old: Option<&LinuxCpu>) -> LinuxCpu {
    let mut new = old.cloned().unwrap_or_default();
    let shares = if change.idle.is_some() { change.shares.or(Some(0)) } else { change.shares };
    new.set_shares(shares.or(new.shares()));
    new.set_quota(change.quota.filter(|quota| *quota != 0).or(new.quota()));
    new.set_period(change.period.filter(|period| *period != 0).or(new.period()));
    new.set_realtime_runtime(change.realtime_runtime.or(new.realtime_runtime()));
    new.set_realtime_period(change.realtime_period.or(new.realtime_period()));
    new.set_burst(change.burst);
    new.set_idle(change.idle);
    new.set_cpus(change.cpus.filter(|list| !list.is_empty()));
    new.set_mems(change.mems.filter(|list| !list.is_empty()));
    new
}

fn block_io(change: Option<&BlockIo>, old: Option<&LinuxBlockIo>) -> Option<LinuxBlockIo> {
    let Some(change) = change else { return old.cloned() };
    let mut new = old.cloned().unwrap_or_default();
    new.set_weight(change.weight.or(new.weight()));
    new.set_leaf_weight(change.leaf_weight.or(new.leaf_weight()));
    new.set_weight_device(weights(new.weight_device().clone(), change.weight_device.as_deref()));
    new.set_throttle_read_bps_device(throttles(
        new.throttle_read_bps_device().clone(),
        change.throttle_read_bps_device.as_deref(),
    ));
    new.set_throttle_write_bps_device(throttles(
        new.throttle_write_bps_device().clone(),
        change.throttle_write_bps_device.as_deref(),
    ));
    new.set_throttle_read_iops_device(throttles(
        new.throttle_read_iops_device().clone(),
        change.throttle_read_iops_device.as_deref(),
    ));
    new.set_throttle_write_iops_device(throttles(
        new.throttle_write_iops_device().clone(),
        change.throttle_write_iops_device.as_deref(),
    ));
    Some(new)
}

/// A device that is there already changes in place (the last of its kind, which is the one that counts).
fn weights(
    old: Option<Vec<LinuxWeightDevice>>,
    changes: Option<&[LinuxWeightDevice]>,
) -> Option<Vec<LinuxWeightDevice>> {
    let Some(changes) = changes else { return old };
    let mut new = old.unwrap_or_default();
    for change in changes {
        let same = |device: &&mut LinuxWeightDevice| {
            (device.major(), device.minor()) == (change.major(), change.minor())
        };
        match new.iter_mut().rev().find(same) {
            Some(device) => *device = merged(*device, *change),
            None => new.push(*change),
        }
    }
    Some(new)
}

/// The type has no setters, and a builder whose setters take no absence.
fn merged(old: LinuxWeightDevice, change: LinuxWeightDevice) -> LinuxWeightDevice {
    let mut builder = LinuxWeightDeviceBuilder::default().major(old.major()).minor(old.minor());
    if let Some(weight) = change.weight().or(old.weight()) {
        builder = builder.weight(weight);
    }
    if let Some(weight) = change.leaf_weight().or(old.leaf_weight()) {
        builder = builder.leaf_weight(weight);
    }
    builder.build().unwrap_or(change)
}

fn throttles(
    old: Option<Vec<LinuxThrottleDevice>>,
    changes: Option<&[LinuxThrottleDevice]>,
) -> Option<Vec<LinuxThrottleDevice>> {
    let Some(changes) = changes else { return old };
    let mut new = old.unwrap_or_default();
    for change in changes {
        let same = |device: &&mut LinuxThrottleDevice| {
            (device.major(), device.minor()) == (change.major(), change.minor())
        };
        match new.iter_mut().rev().find(same) {
            Some(device) => *device = *change,
            None => new.push(*change),
        }
    }
    Some(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(old: Value, change: &str, expect: Value) {
        let resources: LinuxResources = serde_json::from_value(old.clone()).expect("resources");
        let new = Changes::parse(change).expect("changes").over(Some(&resources));
        let expect: LinuxResources = serde_json::from_value(expect).expect("resources");
        // An empty object says as little as none.
        let plain = |r: &LinuxResources| {
            let mut value = serde_json::to_value(r).expect("json");
            value.as_object_mut().expect("object").retain(|_, v| v != &json!({}));
            value
        };
        assert_eq!(plain(&new), plain(&expect), "{old} changed by {change}");
    }

    #[test]
    fn what_is_not_named_stays() {
        let old = json!({"memory":{"limit":100,"reservation":50},"cpu":{"shares":7,"quota":8,"period":9},
            "blockIO":{"weight":10},"devices":[{"allow":true,"access":"rwm"}],
            "hugepageLimits":[{"pageSize":"2MB","limit":1}]});
        check(old.clone(), "{}", old.clone());
        check(
            old,
            r#"{"memory":{"limit":200},"cpu":{"quota":5}}"#,
            json!({
            "memory":{"limit":200,"reservation":50},"cpu":{"shares":7,"quota":5,"period":9},
            "blockIO":{"weight":10},"devices":[{"allow":true,"access":"rwm"}],
            "hugepageLimits":[{"pageSize":"2MB","limit":1}]}),
        );
    }

    #[test]
    fn some_are_replaced_even_when_absent() {
        check(
            json!({"pids":{"limit":9},"unified":{"memory.high":"1"},
                "cpu":{"burst":1,"idle":1,"cpus":"0","mems":"0","shares":5}}),
            "{}",
            json!({"cpu":{"shares":5}}),
        );
        check(json!({}), r#"{"pids":{"limit":0}}"#, json!({"pids":{"limit":0}}));
        check(json!({"pids":{"limit":4}}), r#"{"pids":{"limit":null}}"#, json!({}));
    }

    #[test]
    fn unlimited_memory_makes_swap_unlimited() {
        let old = json!({"memory":{"limit":100,"swap":200}});
        check(old.clone(), r#"{"memory":{"limit":-1}}"#, json!({"memory":{"limit":-1,"swap":0}}));
        check(old, r#"{"memory":{"limit":-1,"swap":300}}"#, json!({"memory":{"limit":-1,"swap":300}}));
    }

    #[test]
    fn idle_drops_shares_that_are_not_named() {
        let old = json!({"cpu":{"shares":500}});
        check(old.clone(), r#"{"cpu":{"idle":1}}"#, json!({"cpu":{"idle":1,"shares":0}}));
        check(old, r#"{"cpu":{"idle":0,"shares":9}}"#, json!({"cpu":{"idle":0,"shares":9}}));
    }

    #[test]
    fn zero_leaves_quota_and_period_as_they_were() {
        let old = json!({"cpu":{"quota":5,"period":6}});
        check(old.clone(), r#"{"cpu":{"quota":0,"period":7}}"#, json!({"cpu":{"quota":5,"period":7}}));
        check(old, r#"{"cpu":{"quota":-1}}"#, json!({"cpu":{"quota":-1,"period":6}}));
    }

    #[test]
    fn devices_of_block_io_change_one_by_one() {
        check(
            json!({"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1},{"major":8,"minor":16,"rate":2}],
                "weightDevice":[{"major":8,"minor":0,"weight":10}]}}),
            r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":16,"rate":3},{"major":9,"minor":0,"rate":4}],
                "weightDevice":[{"major":8,"minor":0,"leafWeight":20}]}}"#,
            json!({"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1},{"major":8,"minor":16,"rate":3},
                {"major":9,"minor":0,"rate":4}],"weightDevice":[{"major":8,"minor":0,"weight":10,"leafWeight":20}]}}),
        );
    }

    #[test]
    fn null_is_absent_and_the_rest_of_the_text_is_not_read() {
        check(
            json!({"memory":{"limit":1}}),
            r#"{"memory":null,"cpu":{"quota":null}} trailing"#,
            json!({"memory":{"limit":1}}),
        );
        check(json!({"memory":{"limit":1}}), "null", json!({"memory":{"limit":1}}));
    }

    #[test]
    fn errors_name_the_path() {
        for (text, expect) in [
            (r#"{"memory":{"limit":"a"}}"#, "memory.limit: invalid type: string \"a\", expected i64"),
            (r#"{"cpu":{"shares":-1}}"#, "cpu.shares: invalid value: integer `-1`, expected u64"),
            ("[]", "invalid type: sequence, expected struct Changes"),
            ("{", "EOF while parsing an object"),
            (r#"{"pids":{"limit":99999999999999999999}}"#, "pids.limit: invalid type: floating point"),
        ] {
            let error = Changes::parse(text).expect_err(text).to_string();
            assert!(error.starts_with(expect), "{error}");
        }
    }
}
