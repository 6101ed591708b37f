//! `update`: changes the limits of a container.

use super::Context;
use crate::error::{Error, Result};

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

/// Applies new limits to the container `id`.
pub fn update(_context: &Context, _id: &str, _resources: &Resources) -> Result<()> {
    Err(Error::new("update: not built yet"))
}
