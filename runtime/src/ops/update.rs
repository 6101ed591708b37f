//! `update`: changes the limits of a container.

use super::Context;
use crate::cgroup::Cgroup;
use crate::cgroup::systemd::Manager;
use crate::error::{Error, Result};
use crate::plan::cgroup::changes::{BlockIo, Changes, Cpu, Memory, Pids};
use crate::plan::cgroup::{self as plan, Driver, systemd};
use crate::state::{Container, Status};
use oci_spec::runtime::LinuxResources;

/// The new limits.
#[derive(Clone, Debug)]
pub enum Resources {
    /// `--resources FILE`, already read: the text of a LinuxResources object.
    Json(String),
    /// The single flags.
    Flags(Box<Flags>),
}

/// The flags of `update`; `None` is "not given". Sizes in bytes, times in microseconds.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct Flags {
    pub blkio_weight: Option<u16>,
    pub cpu_period: Option<u64>,
    pub cpu_quota: Option<i64>,
    pub cpu_burst: Option<u64>,
    pub cpu_share: Option<u64>,
    pub cpu_rt_period: Option<u64>,
    pub cpu_rt_runtime: Option<i64>,
    pub cpuset_cpus: Option<String>,
    pub cpuset_mems: Option<String>,
    pub cpu_idle: Option<i64>,
    pub memory: Option<i64>,
    pub memory_reservation: Option<i64>,
    pub memory_swap: Option<i64>,
    pub pids_limit: Option<i64>,
    pub l3_cache_schema: Option<String>,
    pub mem_bw_schema: Option<String>,
}

/// Applies new limits to the container `id`. What can't be applied leaves the old limits in force.
pub fn update(context: &Context, id: &str, resources: &Resources) -> Result<()> {
    let changes = changes(resources)?;
    let mut container = Container::load(context, id)?;
    let _lock = container.lock()?;
    if container.status()? == Status::Stopped {
        return Err(Error::not_running());
    }
    let new = changes.over(container.state.resources.as_ref());
    // Only limits: the device rules stay as whoever attached them left them.
    let driver = if container.state.unit.is_some() { Driver::Systemd } else { Driver::Files };
    let limits = plan::limits(Some(&new), driver)?;
    let cgroup = Cgroup::of(&container)?;
    let mut told = Told::new(context, &container)?;
    told.change(&new)?;
    if let Err(error) = cgroup.change(&limits) {
        return Err(told.take_back(container.state.resources.as_ref(), error));
    }
    container.state.resources = Some(new);
    container.save()
}

/// systemd, if it has the cgroup: it must know the limits, or it would write its own again.
struct Told(Option<Manager>);

impl Told {
    fn new(context: &Context, container: &Container) -> Result<Self> {
        let Some(unit) = &container.state.unit else { return Ok(Self(None)) };
        Ok(Self(Some(Manager::connect(&context.systemd(unit.user)?, &unit.name)?)))
    }

    fn change(&mut self, resources: &LinuxResources) -> Result<()> {
        let Some(manager) = &mut self.0 else { return Ok(()) };
        systemd::warnings(resources).iter().for_each(crate::log::warn);
        manager.change(&systemd::changed(resources)?)
    }

    fn take_back(mut self, old: Option<&LinuxResources>, error: Error) -> Error {
        match old.map_or(Ok(()), |old| self.change(old)) {
            Ok(()) => error,
            Err(also) => Error::new(format!("{error}; setting back failed: {also}")),
        }
    }
}

fn changes(resources: &Resources) -> Result<Changes> {
    match resources {
        Resources::Json(text) => Changes::parse(text),
        Resources::Flags(flags) => from_flags(flags),
    }
}

fn from_flags(flags: &Flags) -> Result<Changes> {
    // resctrl is not driven, in the words of a runc on a machine without it.
    if flags.l3_cache_schema.as_deref().is_some_and(|schema| !schema.is_empty()) {
        return Err(Error::new("Intel RDT/CAT: l3 cache schema is not enabled"));
    }
    if flags.mem_bw_schema.as_deref().is_some_and(|schema| !schema.is_empty()) {
        return Err(Error::new("Intel RDT/MBA: memory bandwidth schema is not enabled"));
    }
    Ok(Changes {
        memory: Some(Memory {
            limit: flags.memory,
            reservation: flags.memory_reservation,
            swap: flags.memory_swap,
            check_before_update: None,
        }),
        cpu: Some(Cpu {
            shares: flags.cpu_share,
            quota: flags.cpu_quota,
            period: flags.cpu_period,
            burst: flags.cpu_burst,
            idle: flags.cpu_idle,
            realtime_runtime: flags.cpu_rt_runtime,
            realtime_period: flags.cpu_rt_period,
            cpus: flags.cpuset_cpus.clone(),
            mems: flags.cpuset_mems.clone(),
        }),
        pids: Some(Pids { limit: flags.pids_limit }),
        block_io: Some(BlockIo {
            weight: flags.blkio_weight.filter(|weight| *weight != 0),
            ..BlockIo::default()
        }),
        unified: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_become_the_changes_of_the_same_names() {
        let flags = Flags { memory: Some(5), cpu_idle: Some(1), pids_limit: Some(0), ..Flags::default() };
        let new = from_flags(&flags).expect("changes").over(None);
        let json = serde_json::to_value(&new).expect("json");
        assert_eq!(json["memory"], serde_json::json!({"limit": 5}));
        assert_eq!(json["cpu"], serde_json::json!({"shares": 0, "idle": 1}));
        assert_eq!(json["pids"], serde_json::json!({"limit": 0}));
    }

    #[test]
    fn intel_rdt_is_refused() {
        let flags = Flags { l3_cache_schema: Some("L3:0=f".into()), ..Flags::default() };
        let error = from_flags(&flags).expect_err("refused").to_string();
        assert_eq!(error, "Intel RDT/CAT: l3 cache schema is not enabled");
    }
}
