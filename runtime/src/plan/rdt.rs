//! `linux.intelRdt`: which group of the resctrl file system a container's processes are in, and what stands in its
//! schemata (config-linux.md; the kernel's Documentation/filesystems/resctrl.rst). Whether a schema fits the machine is
//! the kernel's to say: [`crate::resctrl`] writes it and tells the kernel's words.

use crate::bail;
use crate::error::Result;
use crate::spec::LinuxIntelRdt;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What stands in the root beside the groups, or in every group.
const RESERVED: [&str; 3] = ["info", "mon_data", "mon_groups"];

/// What a mounted resctrl offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Where it is mounted.
    pub root: PathBuf,
    /// Parts of the L3 cache can be given out (CAT).
    pub cache: bool,
    /// Memory bandwidth can be given out (MBA).
    pub bandwidth: bool,
    /// What the kernel rounds a bandwidth up to, in percent; 0 where it does not say.
    pub bandwidth_step: u64,
}

/// Who made the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// Named after the container: made for it, and removed with it.
    Container,
    /// A closID with schemata: made where it is missing; where it is there, it has them already. Others may use it too.
    Shared,
    /// A closID alone: somebody made it before.
    Given,
}

/// A group, decided. Kept with the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Where resctrl is mounted.
    pub root: PathBuf,
    /// The group's directory; the root itself for the closID `/`.
    pub directory: PathBuf,
    /// Who made it.
    pub origin: Origin,
    /// Lines for its schemata.
    pub schemata: Vec<String>,
    /// The directory of the container's own monitoring group.
    pub monitor: Option<PathBuf>,
    /// [`Machine::bandwidth_step`]
    pub bandwidth_step: u64,
}

/// What `update` is told.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// `--l3-cache-schema`
    pub l3_cache_schema: Option<String>,
    /// `--mem-bw-schema`
    pub mem_bw_schema: Option<String>,
}

impl Plan {
    /// Decides for the container `id`.
    ///
    /// # Errors
    /// In runc's words: no resctrl, or without what is asked of it; a closID that can't be a directory's name.
    pub fn new(rdt: &LinuxIntelRdt, id: &str, machine: Option<&Machine>) -> Result<Self> {
        let Some(machine) = machine else {
            bail!("intelRdt is specified in config, but Intel RDT is not enabled")
        };
        let given = |text: &Option<String>| text.clone().unwrap_or_default();
        let (l3, bandwidth) = (given(rdt.l3_cache_schema()), given(rdt.mem_bw_schema()));
        if !l3.is_empty() && !machine.cache {
            bail!("intelRdt.l3CacheSchema is specified in config, but Intel RDT/CAT is not enabled");
        }
        if !bandwidth.is_empty() && !machine.bandwidth {
            bail!("intelRdt.memBwSchema is specified in config, but Intel RDT/MBA is not enabled");
        }
        let mut schemata = lines(&l3, &bandwidth);
        schemata.extend(rdt.schemata().iter().flatten().filter(|line| !line.trim().is_empty()).cloned());
        let closid = rdt.clos_id().as_deref().unwrap_or_default();
        check_name(if closid.is_empty() { id } else { closid })?;
        let (name, origin) = match closid {
            "" => (id, Origin::Container),
            _ if schemata.is_empty() => (closid, Origin::Given),
            _ => (closid, Origin::Shared),
        };
        let directory = if name == "/" { machine.root.clone() } else { machine.root.join(name) };
        let monitored = rdt.enable_monitoring().unwrap_or(false);
        Ok(Self {
            root: machine.root.clone(),
            monitor: monitored.then(|| directory.join("mon_groups").join(id)),
            directory,
            origin,
            schemata,
            bandwidth_step: machine.bandwidth_step,
        })
    }

    /// Whether a group with the schemata `existing` has what is asked for.
    ///
    /// # Errors
    /// The first value that differs.
    pub fn compare(&self, existing: &str) -> Result<()> {
        let there = values(existing.lines());
        for ((resource, domain), wanted) in values(self.schemata.iter().flat_map(|lines| lines.lines())) {
            let place = format!("{resource}:{domain}=");
            match there.get(&(resource, domain)) {
                Some(found) if same(resource, found, wanted, self.bandwidth_step) => {}
                found => bail!(
                    "{} exists already with other schemata: {place}{wanted} is asked for, {place}{} is there",
                    self.directory.display(),
                    found.unwrap_or(&"")
                ),
            }
        }
        Ok(())
    }
}

impl Changes {
    /// The lines for the group of a container that has one.
    ///
    /// # Errors
    /// In runc's words: what this machine, or the container, does not have.
    pub fn lines(&self, machine: Option<&Machine>, has_group: bool) -> Result<Vec<String>> {
        let given = |text: &Option<String>| text.clone().unwrap_or_default();
        let (l3, bandwidth) = (given(&self.l3_cache_schema), given(&self.mem_bw_schema));
        if !l3.is_empty() && !machine.is_some_and(|machine| machine.cache) {
            bail!("Intel RDT/CAT: l3 cache schema is not enabled");
        }
        if !bandwidth.is_empty() && !machine.is_some_and(|machine| machine.bandwidth) {
            bail!("Intel RDT/MBA: memory bandwidth schema is not enabled");
        }
        if !self.is_empty() && !has_group {
            bail!("updating a non-existent Intel RDT configuration is not supported");
        }
        Ok(lines(&l3, &bandwidth))
    }

    /// Nothing changes.
    pub fn is_empty(&self) -> bool {
        [&self.l3_cache_schema, &self.mem_bw_schema]
            .iter()
            .all(|schema| schema.as_deref().is_none_or(str::is_empty))
    }
}

/// A name that stays in the mount, and is not one of the kernel's own.
fn check_name(name: &str) -> Result<()> {
    let outside = name == "." || name == ".." || (name != "/" && name.contains(['/', '\0', '\n']));
    if outside || RESERVED.contains(&name) {
        bail!("invalid intelRdt.ClosID {name:?}");
    }
    Ok(())
}

/// The cache's lines, then the bandwidth's: where there are any, those among the cache's do not count (config-linux.md),
/// and the kernel takes no domain twice.
fn lines(l3: &str, bandwidth: &str) -> Vec<String> {
    let dropped = |line: &str| !bandwidth.is_empty() && line.trim_start().starts_with("MB:");
    let cache = l3.lines().filter(|line| !dropped(line));
    cache.chain(bandwidth.lines()).filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
}

/// Value by resource and domain, of lines such as `L3:0=ff;1=f`; of several the last.
fn values<'a>(lines: impl IntoIterator<Item = &'a str>) -> BTreeMap<(&'a str, &'a str), &'a str> {
    let mut values = BTreeMap::new();
    for (resource, domains) in lines.into_iter().filter_map(|line| line.split_once(':')) {
        for (domain, value) in domains.split(';').filter_map(|domain| domain.split_once('=')) {
            values.insert((resource.trim(), domain.trim()), value.trim());
        }
    }
    values
}

/// Bandwidths are decimal and may have been rounded; all else are bit masks.
fn same(resource: &str, found: &str, wanted: &str, step: u64) -> bool {
    let radix = if resource == "MB" { 10 } else { 16 };
    let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), radix).ok();
    let (Some(found_value), Some(wanted_value)) = (number(found), number(wanted)) else {
        return found == wanted;
    };
    let rounded = match resource {
        "MB" => wanted_value.checked_next_multiple_of(step),
        _ => None,
    };
    found_value == wanted_value || Some(found_value) == rounded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine { root: "/r".into(), cache: true, bandwidth: true, bandwidth_step: 10 }
    }

    fn decided(json: &str) -> Result<Plan> {
        Plan::new(&serde_json::from_str(json).unwrap(), "c1", Some(&machine()))
    }

    #[test]
    fn the_group_is_the_containers_or_the_one_that_is_named() {
        for (json, directory, origin) in [
            ("{}", "/r/c1", Origin::Container),
            (r#"{"closID":""}"#, "/r/c1", Origin::Container),
            (r#"{"closID":"x"}"#, "/r/x", Origin::Given),
            (r#"{"closID":"/"}"#, "/r", Origin::Given),
            (r#"{"closID":"x","memBwSchema":"MB:0=20"}"#, "/r/x", Origin::Shared),
            (r#"{"closID":"x","schemata":["L3:0=f"]}"#, "/r/x", Origin::Shared),
        ] {
            let plan = decided(json).unwrap();
            assert_eq!(
                (plan.directory, plan.origin, plan.monitor),
                (directory.into(), origin, None),
                "{json}"
            );
        }
        let monitor = |json| decided(json).unwrap().monitor.unwrap();
        assert_eq!(monitor(r#"{"enableMonitoring":true}"#), PathBuf::from("/r/c1/mon_groups/c1"));
        assert_eq!(monitor(r#"{"closID":"x","enableMonitoring":true}"#), PathBuf::from("/r/x/mon_groups/c1"));
        assert_eq!(monitor(r#"{"closID":"/","enableMonitoring":true}"#), PathBuf::from("/r/mon_groups/c1"));
    }

    #[test]
    fn the_cache_comes_first_and_the_schemata_last() {
        let all = r#"{"l3CacheSchema":"L3:0=f\nMB:0=90\n\nL2:0=3","memBwSchema":"MB:0=20","schemata":["MB:0=30",""],
            "enableCMT":true,"enableMBM":true}"#;
        assert_eq!(decided(all).unwrap().schemata, ["L3:0=f", "L2:0=3", "MB:0=20", "MB:0=30"]);
        // As runc does where there is no other line for the bandwidth.
        let cache = r#"{"l3CacheSchema":"L3:0=f\nMB:0=90\n"}"#;
        assert_eq!(decided(cache).unwrap().schemata, ["L3:0=f", "MB:0=90"]);
    }

    #[test]
    fn what_can_not_be_is_told_in_runcs_words() {
        let none = Plan::new(&LinuxIntelRdt::default(), "c1", None).unwrap_err().to_string();
        assert_eq!(none, "intelRdt is specified in config, but Intel RDT is not enabled");
        for closid in [".", "..", "a/b", "/a", "info", "mon_groups", "mon_data"] {
            let error = decided(&format!(r#"{{"closID":"{closid}"}}"#)).unwrap_err().to_string();
            assert_eq!(error, format!("invalid intelRdt.ClosID {closid:?}"));
        }
        let bare = Machine { cache: false, bandwidth: false, ..machine() };
        for (json, expect) in [
            (
                r#"{"l3CacheSchema":"L3:0=f"}"#,
                "intelRdt.l3CacheSchema is specified in config, but Intel RDT/CAT is not enabled",
            ),
            (
                r#"{"memBwSchema":"MB:0=10"}"#,
                "intelRdt.memBwSchema is specified in config, but Intel RDT/MBA is not enabled",
            ),
        ] {
            let error = Plan::new(&serde_json::from_str(json).unwrap(), "c1", Some(&bare)).unwrap_err();
            assert_eq!(error.to_string(), expect);
        }
    }

    #[test]
    fn a_group_that_is_there_has_to_have_what_is_asked_for() {
        const THERE: &str = "    MB:0=40;1=100\n    L3:0=0000f;1=fffff\n";
        let plan = |line: &str| Plan { schemata: vec![line.into()], ..decided(r#"{"closID":"x"}"#).unwrap() };
        for line in ["L3:0=f", "L3: 1 = FFFFF ; 0=0f", "MB:0=40", "MB:0=33;1=100", "L3:0=1\nL3:0=f", ""] {
            plan(line).compare(THERE).unwrap();
        }
        for (line, place) in [
            ("L3:0=ff", "L3:0=ff is asked for, L3:0=0000f is there"),
            ("L3:2=f", "L3:2=f is asked for, L3:2= is there"),
            ("MB:1=50", "MB:1=50 is asked for, MB:1=100 is there"),
        ] {
            let error = plan(line).compare(THERE).unwrap_err().to_string();
            assert_eq!(error, format!("/r/x exists already with other schemata: {place}"));
        }
    }

    #[test]
    fn an_update_needs_the_part_that_it_changes_and_a_group() {
        let changes =
            |l3: &str, mb: &str| Changes { l3_cache_schema: Some(l3.into()), mem_bw_schema: Some(mb.into()) };
        let machine = machine();
        assert_eq!(changes("L3:0=f", "MB:0=20").lines(Some(&machine), true).unwrap(), ["L3:0=f", "MB:0=20"]);
        assert!(changes("", "").lines(None, false).unwrap().is_empty());
        for (changes, machine, expect) in [
            (changes("L3:0=f", ""), None, "Intel RDT/CAT: l3 cache schema is not enabled"),
            (changes("", "MB:0=1"), None, "Intel RDT/MBA: memory bandwidth schema is not enabled"),
            (
                changes("L3:0=f", ""),
                Some(&machine),
                "updating a non-existent Intel RDT configuration is not supported",
            ),
        ] {
            assert_eq!(changes.lines(machine, false).unwrap_err().to_string(), expect);
        }
    }
}
