//! `update`: changes the limits of a container.

use super::Context;
use crate::cgroup::Cgroup;
use crate::cgroup::systemd::Manager;
use crate::error::{Context as _, Error, Result};
use crate::plan::cgroup::changes::{BlockIo, Changes, Cpu, Memory, Pids};
use crate::plan::cgroup::{self as plan, Driver, Limits, systemd};
use crate::plan::rdt;
use crate::resctrl;
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
}

/// Applies new limits to the container `id`. What can't be applied leaves the old limits in force.
pub fn update(context: &Context, id: &str, resources: &Resources, schemata: &rdt::Changes) -> Result<()> {
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
    // Before systemd hears of them: it would not ask.
    cgroup.check(&limits)?;
    let old = container.state.resources.replace(new);
    let changed = change_schemata(&container, schemata)?;
    let done = change_limits(context, &container, &cgroup, old.as_ref(), &limits);
    if let (Err(error), Some((group, before))) = (&done, changed) {
        resctrl::restore(group, &before).with_context(|| error.to_string())?;
    }
    done
}

/// systemd first, if it has the cgroup: it must know the limits, or it would write its own again. A limit that is refused
/// and a state that can't be saved both leave everything as it was.
fn change_limits(
    context: &Context,
    container: &Container,
    cgroup: &Cgroup,
    old: Option<&LinuxResources>,
    limits: &Limits,
) -> Result<()> {
    let before = cgroup.before(limits);
    let unit = container.state.unit.as_ref().zip(container.state.resources.as_ref());
    let manager = match unit {
        Some((unit, new)) => Some((Manager::connect(&context.systemd(unit.user)?, &unit.name)?, new)),
        None => None,
    };
    let mut told = None;
    if let Some((mut manager, new)) = manager {
        systemd::warnings(new).iter().for_each(crate::log::warn);
        manager.change(&systemd::changed(new)?)?;
        told = Some((manager, systemd::undone(old, new)?));
    }
    let Err(error) = cgroup.apply(limits).and_then(|()| container.save()) else { return Ok(()) };
    // systemd writes files, too.
    let untold = told.map_or(Ok(()), |(mut manager, undone)| manager.change(&undone));
    match untold.and(cgroup.set_back(&before)) {
        Ok(()) => Err(error),
        Err(also) => Err(Error::new(format!("{error}; {also}"))),
    }
}

/// The group that was changed and its schemata before, if anything was asked for.
fn change_schemata<'a>(
    container: &'a Container,
    changes: &rdt::Changes,
) -> Result<Option<(&'a rdt::Plan, String)>> {
    if changes.is_empty() {
        return Ok(None);
    }
    let group = container.state.saved.rdt.as_ref();
    let lines = changes.lines(resctrl::find()?.as_ref(), group.is_some())?;
    group.map(|group| Ok((group, resctrl::change(group, &lines)?))).transpose()
}

fn changes(resources: &Resources) -> Result<Changes> {
    match resources {
        Resources::Json(text) => Changes::parse(text),
        Resources::Flags(flags) => from_flags(flags),
    }
}

fn from_flags(flags: &Flags) -> Result<Changes> {
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
}
