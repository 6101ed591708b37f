//! What a container's group has and uses, with the keys and the order of runc's `events --stats`. A group of resctrl has
//! files only for what the machine can measure or limit; what is not there is absent here, too.

use crate::error::{Context, Result};
use crate::plan::rdt::Plan;
use serde::Serialize;
use std::io::ErrorKind;
use std::path::Path;

/// `intel_rdt`: empty for a container without a group.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs, reason = "runc's names")]
pub struct Stats {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3_cache_info: Option<CacheInfo>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub l3_cache_schema_root: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub l3_cache_schema: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_info: Option<BandwidthInfo>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mem_bw_schema_root: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mem_bw_schema: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schemata: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mbm_stats: Vec<Bandwidth>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cmt_stats: Vec<Occupancy>,
}

/// `l3_cache_info`: what a cache mask may be.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the kernel's names")]
pub struct CacheInfo {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cbm_mask: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub min_cbm_bits: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub num_closids: u64,
}

/// `mem_bw_info`: what a bandwidth may be.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the kernel's names")]
pub struct BandwidthInfo {
    #[serde(skip_serializing_if = "is_zero")]
    pub bandwidth_gran: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub delay_linear: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub min_bandwidth: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub num_closids: u64,
}

/// An element of `mbm_stats`: what went through one L3 cache since the group was made, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the kernel's names")]
pub struct Bandwidth {
    #[serde(skip_serializing_if = "is_zero")]
    pub mbm_total_bytes: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub mbm_local_bytes: u64,
}

/// An element of `cmt_stats`: what is in one L3 cache, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the kernel's names")]
pub struct Occupancy {
    #[serde(skip_serializing_if = "is_zero")]
    pub llc_occupancy: u64,
}

/// Reads the group of a container.
///
/// # Errors
/// A group that is gone, a file that can't be read or holds no number where one belongs.
pub fn read(plan: &Plan) -> Result<Stats> {
    measure(plan).context("unable to get container Intel RDT stats")
}

fn measure(plan: &Plan) -> Result<Stats> {
    let info = plan.root.join("info");
    let schemata = |directory: &Path| {
        let path = directory.join("schemata");
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    };
    let (of_root, of_group) = (schemata(&plan.root)?, schemata(&plan.directory)?);
    // Where code and data have masks of their own, their lines are L3CODE and L3DATA.
    let line = |text: &str, resource: &str| {
        text.lines().map(str::trim).find(|line| line.starts_with(resource)).unwrap_or_default().to_owned()
    };
    let mut stats = Stats {
        l3_cache_info: cache(&info.join("L3"))?,
        l3_cache_schema_root: line(&of_root, "L3"),
        l3_cache_schema: line(&of_group, "L3"),
        mem_bw_info: bandwidth(&info.join("MB"))?,
        mem_bw_schema_root: line(&of_root, "MB:"),
        mem_bw_schema: line(&of_group, "MB:"),
        schemata: of_group.lines().map(|line| line.trim().to_owned()).collect(),
        ..Stats::default()
    };
    monitors(plan.monitor.as_deref().unwrap_or(&plan.directory), &info, &mut stats)?;
    Ok(stats)
}

fn cache(info: &Path) -> Result<Option<CacheInfo>> {
    if !info.is_dir() {
        return Ok(None);
    }
    let of = |name: &str| number(&info.join(name)).map(Option::unwrap_or_default);
    Ok(Some(CacheInfo {
        cbm_mask: text(&info.join("cbm_mask"))?.unwrap_or_default(),
        min_cbm_bits: of("min_cbm_bits")?,
        num_closids: of("num_closids")?,
    }))
}

fn bandwidth(info: &Path) -> Result<Option<BandwidthInfo>> {
    if !info.is_dir() {
        return Ok(None);
    }
    let of = |name: &str| number(&info.join(name)).map(Option::unwrap_or_default);
    Ok(Some(BandwidthInfo {
        bandwidth_gran: of("bandwidth_gran")?,
        delay_linear: of("delay_linear")?,
        min_bandwidth: of("min_bandwidth")?,
        num_closids: of("num_closids")?,
    }))
}

/// One element for each L3 cache, in the order of their names.
fn monitors(group: &Path, info: &Path, stats: &mut Stats) -> Result<()> {
    let features = text(&info.join("L3_MON/mon_features"))?.unwrap_or_default();
    let has = |feature: &str| features.lines().any(|line| line == feature);
    let directory = group.join("mon_data");
    let entries = match std::fs::read_dir(&directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other.with_context(|| format!("open {}", directory.display()))?,
    };
    let mut caches: Vec<_> =
        entries.flatten().map(|entry| entry.path()).filter(|path| is_cache(path)).collect();
    caches.sort();
    for cache in caches {
        let of = |name: &str| match has(name) {
            true => number(&cache.join(name)).map(Option::unwrap_or_default),
            false => Ok(0),
        };
        if has("mbm_total_bytes") || has("mbm_local_bytes") {
            let (total, local) = (of("mbm_total_bytes")?, of("mbm_local_bytes")?);
            stats.mbm_stats.push(Bandwidth { mbm_total_bytes: total, mbm_local_bytes: local });
        }
        if has("llc_occupancy") {
            stats.cmt_stats.push(Occupancy { llc_occupancy: of("llc_occupancy")? });
        }
    }
    Ok(())
}

fn is_cache(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("mon_L3_"))
}

/// The content without the blanks around it; `None` where there is no such file.
fn text(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

/// A number; a counter that the hardware can't give right now counts as absent.
fn number(path: &Path) -> Result<Option<u64>> {
    match text(path)?.as_deref() {
        None | Some("Unavailable" | "Unassigned") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| {
            crate::error::Error::new(format!("unable to parse {text:?} as a uint from {}", path.display()))
        }),
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}
