//! What the container's cgroup will be: its path, what is written into its files and in which order, and the program
//! that decides about devices. Nothing here looks at the machine; whether a controller is there is found out by
//! `crate::cgroup`, which carries this plan out. cgroups(7), Documentation/admin-guide/cgroup-v2.rst.

use crate::bail;
use crate::error::Result;
use oci_spec::runtime::LinuxResources;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

pub mod changes;
pub mod devices;
pub mod limits;
pub mod systemd;

pub use limits::{Limits, Missing, Turn, Write};

/// No longer path, and no longer name in it, can be made, path_resolution(7).
const PATH_MAX: usize = 4096;
const NAME_MAX: usize = 255;

/// Who makes the cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    /// The runtime, through the files of the hierarchy.
    #[default]
    Files,
    /// The machine's systemd, as a transient unit.
    Systemd,
    /// The user's own systemd.
    UserSystemd,
}

/// What decides about the cgroup.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// Who makes it.
    pub driver: Driver,
    /// The container's id, already checked.
    pub id: &'a str,
    /// `linux.cgroupsPath`; an empty one counts as absent.
    pub cgroups_path: Option<&'a str>,
    /// `linux.resources`.
    pub resources: Option<&'a LinuxResources>,
    /// The paths of `linux.devices`: a default device that is listed there loses its default rule, as with runc.
    pub device_paths: &'a [&'a str],
    /// The runtime's own cgroup, as in `0::PATH` of /proc/self/cgroup. Only read when [`needs_own_cgroup`].
    pub own: &'a str,
    /// Cgroups are not expected to be writable (`--rootless`).
    pub rootless: bool,
    /// The runtime itself is inside a user namespace, where bpf(2) is not expected to work.
    pub in_user_namespace: bool,
    /// The runtime's user.
    pub uid: u32,
    /// Annotations, some of which are properties of systemd's.
    pub annotations: Option<&'a BTreeMap<String, String>>,
}

/// A decided cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Absolute within the hierarchy: `/machine/web`. Of a unit: where it will most likely be.
    pub path: PathBuf,
    /// systemd makes the cgroup, for this unit, when there is a process to put into it.
    pub unit: Option<systemd::Unit>,
    /// What is written after it was made.
    pub limits: Limits,
    /// Who may use which devices.
    pub devices: Devices,
    /// A cgroup that must not be made is no error: rootless, no path named, no limit asked for.
    pub dispensable: bool,
    /// Rootless and no path named: the sentence for missing permission says so.
    pub rootless_without_path: bool,
}

/// The device rules as a program for the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Devices {
    /// The program; `None` when everything is allowed.
    pub program: Option<Vec<devices::Instruction>>,
    /// Whether a program that can't be loaded is an error.
    pub required: bool,
}

impl Plan {
    /// Decides everything about the cgroup.
    pub fn new(input: &Input) -> Result<Self> {
        let named = input.cgroups_path.filter(|path| !path.is_empty());
        let rules = devices::Rules::of_resources(input.resources, input.device_paths)?;
        let devices = Devices {
            program: if rules.allows_all() { None } else { Some(devices::program(&rules)?) },
            required: !input.rootless && !input.in_user_namespace,
        };
        let limits = limits(input.resources, input.driver)?;
        if input.driver != Driver::Files {
            let (unit, path) = unit(input, &rules)?;
            let unit = Some(unit);
            return Ok(Self {
                path,
                unit,
                limits,
                devices,
                dispensable: false,
                rootless_without_path: false,
            });
        }
        let rootless_without_path = input.rootless && named.is_none();
        Ok(Self {
            path: path(named, input.id, input.own)?,
            unit: None,
            dispensable: rootless_without_path && limits.writes.is_empty(),
            limits,
            devices,
            rootless_without_path,
        })
    }
}

fn unit(input: &Input, devices: &devices::Rules) -> Result<(systemd::Unit, PathBuf)> {
    systemd::decide(&systemd::Input {
        id: input.id,
        cgroups_path: input.cgroups_path,
        resources: input.resources,
        devices,
        annotations: input.annotations,
        user: input.driver == Driver::UserSystemd,
        own: input.own,
        uid: input.uid,
    })
}

/// What is written into the files, with either driver: systemd does not know all, and may not be told all.
pub fn limits(resources: Option<&LinuxResources>, driver: Driver) -> Result<Limits> {
    match (driver, resources) {
        (Driver::Files, _) | (_, None) => Limits::new(resources),
        (_, Some(resources)) => Limits::new(Some(&systemd::adjusted(resources))),
    }
}

/// Whether the path depends on the runtime's own cgroup.
pub fn needs_own_cgroup(cgroups_path: Option<&str>, driver: Driver) -> bool {
    match driver {
        Driver::Files => !cgroups_path.is_some_and(|path| path.starts_with('/')),
        Driver::Systemd => false,
        Driver::UserSystemd => true,
    }
}

/// The path in the line `0::PATH` of /proc/PID/cgroup.
pub fn unified_path(proc_cgroup: &str) -> Option<&str> {
    proc_cgroup.lines().find_map(|line| line.strip_prefix("0::"))
}

/// Where the cgroup is, as runc has it: an absolute path counts from the mount, a relative one (and the id, when
/// nothing is named) from the parent of the runtime's own cgroup, whose processes would stand in the way of
/// controllers. No `..` leaves the place it starts from.
fn path(named: Option<&str>, id: &str, own: &str) -> Result<PathBuf> {
    let text = named.unwrap_or(id);
    if text.contains(['\0', '\n']) {
        bail!("linux.cgroupsPath: {text:?} contains a NUL or a newline, which no cgroup's name can");
    }
    if text.len() >= PATH_MAX || text.split('/').any(|name| name.len() > NAME_MAX) {
        bail!("linux.cgroupsPath: file name too long ({} bytes)", text.len());
    }
    let inner = clean(Path::new(text));
    if inner == Path::new("/") {
        bail!("linux.cgroupsPath: {text:?} is not below any cgroup, name one for the container");
    }
    if text.starts_with('/') {
        return Ok(inner);
    }
    let mut path = clean(Path::new(own));
    path.pop();
    path.extend(inner.components().skip(1));
    Ok(clean(&path))
}

/// The path from `/` without `.`, `..`, double or trailing slashes.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(named: Option<&str>, own: &str, expect: &str) {
        let path = path(named, "c1", own).expect("a path");
        assert_eq!(path, Path::new(expect), "cgroupsPath {named:?}, own cgroup {own:?}");
    }

    #[test]
    fn a_path_is_where_runc_puts_it() {
        check(Some("/a/b"), "/user.slice/session.scope", "/a/b");
        check(Some("/a//b/./c/"), "/x", "/a/b/c");
        check(Some("a/b"), "/user.slice/session.scope", "/user.slice/a/b");
        check(Some("a/b"), "/", "/a/b");
        check(None, "/user.slice/session.scope", "/user.slice/c1");
        check(None, "/session.scope", "/c1");
        check(None, "/", "/c1");
        check(None, "", "/c1");
    }

    #[test]
    fn dots_do_not_leave() {
        check(Some("/../../etc"), "/x", "/etc");
        check(Some("/a/../../../b"), "/x", "/b");
        check(Some("../../../b"), "/p/q/own", "/p/q/b");
        check(Some("a/../../b"), "/p/own", "/p/b");
        check(None, "/../../outside/own", "/outside/c1");
    }

    #[test]
    fn a_path_without_a_name_is_refused() {
        for named in ["/", "/..", ".", "..", "a/..", "/./", "//"] {
            let error = path(Some(named), "c1", "/p/own").expect_err(named).to_string();
            assert!(error.starts_with("linux.cgroupsPath: "), "{error}");
        }
    }

    #[test]
    fn nul_and_newline_in_a_path_are_refused() {
        for named in ["/a\0b", "a\nb"] {
            let error = path(Some(named), "c1", "/").expect_err(named).to_string();
            assert!(error.contains("NUL or a newline"), "{error}");
        }
    }

    #[test]
    fn only_an_absolute_path_needs_no_own_cgroup() {
        let needs = |path| needs_own_cgroup(path, Driver::Files);
        assert!(!needs(Some("/a")));
        assert!(needs(Some("a")));
        assert!(needs(Some("")));
        assert!(needs(None));
        assert!(!needs_own_cgroup(None, Driver::Systemd));
        assert!(needs_own_cgroup(None, Driver::UserSystemd));
        assert_eq!(unified_path("5:cpu:/\n0::/user.slice\n"), Some("/user.slice"));
        assert_eq!(unified_path("5:cpu:/\n"), None);
    }

    #[test]
    fn only_a_rootless_cgroup_without_path_and_limits_is_dispensable() {
        let limited: LinuxResources = serde_json::from_str(r#"{"pids":{"limit":5}}"#).expect("resources");
        for (rootless, named, resources, expect) in [
            (true, None, None, true),
            (true, Some(""), None, true),
            (true, Some("/a"), None, false),
            (true, None, Some(&limited), false),
            (false, None, None, false),
        ] {
            let plan = Plan::new(&Input {
                driver: Driver::Files,
                uid: 0,
                annotations: None,
                id: "c1",
                cgroups_path: named,
                resources,
                device_paths: &[],
                own: "/",
                rootless,
                in_user_namespace: false,
            })
            .expect("a plan");
            assert_eq!(plan.dispensable, expect, "{rootless} {named:?}");
        }
    }
}
