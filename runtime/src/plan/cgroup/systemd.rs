//! The container's cgroup as a unit of systemd: its name, its slice, and every property that systemd knows of what
//! config.json asks for, so that one StartTransientUnit carries them all. What systemd does not know, and the exact
//! values of what it rounds, are written to the cgroup's files afterwards, as with the other driver. systemd.scope(5),
//! systemd.slice(5), systemd.resource-control(5), org.freedesktop.systemd1(5).

use crate::bail;
use crate::error::Result;
use oci_spec::runtime::LinuxResources;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use zbus::Variant;

mod annotations;
mod properties;
mod value;

pub use properties::{adjusted, warnings};

/// The most that systemd takes as a unit's name.
const NAME_MAX: usize = 255;

/// A transient unit, before there is a process for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// `pintle-web.scope`
    pub name: String,
    /// It is a slice: systemd puts no process into it, so the runtime does.
    pub is_slice: bool,
    /// It belongs to the user's own systemd.
    pub user: bool,
    /// In the order of sending.
    pub properties: Vec<Property>,
}

/// A property of a unit, org.freedesktop.systemd1(5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// `MemoryMax`
    pub name: String,
    /// Its value, of the type that systemd expects.
    pub value: Variant<'static>,
    /// An older systemd may not know it: then the cgroup's file alone has the value.
    pub dispensable: bool,
}

impl Property {
    fn new(name: &str, value: impl Into<Variant<'static>>) -> Self {
        Self { name: name.into(), value: value.into(), dispensable: false }
    }

    fn dispensable(name: &str, value: impl Into<Variant<'static>>) -> Self {
        Self { dispensable: true, ..Self::new(name, value) }
    }
}

/// What decides about the unit.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The container's id.
    pub id: &'a str,
    /// `linux.cgroupsPath`: `slice:prefix:name`, or nothing.
    pub cgroups_path: Option<&'a str>,
    /// `linux.resources`.
    pub resources: Option<&'a LinuxResources>,
    /// The device rules, played through.
    pub devices: &'a super::devices::Rules,
    /// `org.systemd.property.NAME` passes properties on.
    pub annotations: Option<&'a BTreeMap<String, String>>,
    /// The user's own systemd, where `user.slice` is the default slice.
    pub user: bool,
    /// The runtime's own cgroup; it shows where the user's systemd lives.
    pub own: &'a str,
    /// The runtime's user.
    pub uid: u32,
}

/// A unit and where its cgroup will be, absolute within the hierarchy.
pub fn decide(input: &Input) -> Result<(Unit, PathBuf)> {
    let named = input.cgroups_path.filter(|path| !path.is_empty());
    let name = Name::new(named, input.id, input.user)?;
    let mut path = if input.user { user_manager(input.own, input.uid) } else { PathBuf::from("/") };
    path.push(expand(&name.slice)?.strip_prefix('/').unwrap_or_default());
    path.push(&name.unit);
    let is_slice = name.unit.ends_with(".slice");
    if is_slice
        && expand(&name.unit)? != format!("{}/{}", expand(&name.slice)?.trim_end_matches('/'), name.unit)
    {
        bail!("linux.cgroupsPath: by its name {} is not directly in {}", name.unit, name.slice);
    }
    let mut properties = vec![Property::new("Description", format!("pintle container {}", input.id))];
    if is_slice {
        properties.push(Property::new("Wants", vec![name.slice]));
    } else {
        properties.push(Property::new("Slice", name.slice));
        // The container makes its own cgroups below, and what the runtime writes to its files stays.
        properties.push(Property::new("Delegate", true));
    }
    for accounting in ["MemoryAccounting", "CPUAccounting", "IOAccounting", "TasksAccounting"] {
        properties.push(Property::new(accounting, true));
    }
    // It neither waits for the machine's boot nor ends before the engine does.
    properties.push(Property::new("DefaultDependencies", false));
    properties.extend(annotations::passed_on(input.annotations)?);
    properties.extend(properties::of_devices(input.devices));
    properties.extend(properties::of(input.resources)?);
    properties.extend(properties::oom_policy(input.resources));
    Ok((Unit { name: name.unit, is_slice, user: input.user, properties }, path))
}

/// Whether two cgroups belong to the same user's systemd.
pub fn share_manager(one: &Path, other: &Path) -> bool {
    let manager = |path: &Path| {
        let mut names = path.iter().filter_map(|name| name.to_str());
        names.find(|name| name.starts_with("user@") && name.ends_with(".service")).map(str::to_owned)
    };
    manager(one).is_some_and(|found| manager(other) == Some(found))
}

/// What `update` tells systemd: all limits, not only those that change, and nothing about devices.
pub fn changed(resources: &LinuxResources) -> Result<Vec<Property>> {
    properties::of(Some(resources))
}

/// What `update` tells systemd to have `old` back after [`changed`] for `new`.
pub fn undone(old: Option<&LinuxResources>, new: &LinuxResources) -> Result<Vec<Property>> {
    let mut properties = properties::of(old)?;
    for changed in properties::of(Some(new))? {
        if properties.iter().all(|property| property.name != changed.name) {
            properties.push(properties::neutral(&changed.name));
        }
    }
    Ok(properties)
}

/// `slice:prefix:name`, taken apart.
struct Name {
    slice: String,
    unit: String,
}

impl Name {
    fn new(named: Option<&str>, id: &str, user: bool) -> Result<Self> {
        let default = if user { "user.slice" } else { "system.slice" };
        let (slice, prefix, name) = match named {
            None => (default, "pintle", id),
            Some(text) => match text.split(':').collect::<Vec<_>>()[..] {
                [slice, prefix, name] => (if slice.is_empty() { default } else { slice }, prefix, name),
                _ => bail!(
                    "linux.cgroupsPath: expected cgroupsPath to be of format \"slice:prefix:name\" for systemd \
                     cgroups, got {text:?} instead"
                ),
            },
        };
        let unit = match name.ends_with(".slice") {
            true => name.to_owned(),
            false => format!("{prefix}-{name}.scope"),
        };
        let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        if name.is_empty() || unit.len() > NAME_MAX || !unit.chars().all(allowed) {
            bail!(
                "linux.cgroupsPath: {unit:?} is no name for a unit of systemd: up to {NAME_MAX} letters, digits and \
                 any of \":-_.\\@\""
            );
        }
        Ok(Self { slice: slice.to_owned(), unit })
    }
}

/// A slice's place: `a-b.slice` lies in `a.slice`. `-.slice` is the root.
fn expand(slice: &str) -> Result<String> {
    let invalid = || crate::error::Error::new(format!("linux.cgroupsPath: invalid slice name: {slice}"));
    let stem = slice.strip_suffix(".slice").ok_or_else(invalid)?;
    if stem == "-" {
        return Ok("/".into());
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    if slice.len() > NAME_MAX || !stem.chars().all(allowed) {
        return Err(invalid());
    }
    let (mut path, mut prefix) = (String::new(), String::new());
    for part in stem.split('-') {
        if part.is_empty() {
            return Err(invalid());
        }
        prefix = if prefix.is_empty() { part.to_owned() } else { format!("{prefix}-{part}") };
        path.push_str(&format!("/{prefix}.slice"));
    }
    Ok(path)
}

/// The cgroup of the user's own systemd: the runtime mostly lives below it.
fn user_manager(own: &str, uid: u32) -> PathBuf {
    let service = format!("user@{uid}.service");
    let parts: Vec<&str> = own.split('/').collect();
    match parts.iter().position(|part| *part == service) {
        Some(place) => PathBuf::from(parts[..=place].join("/")),
        None => PathBuf::from(format!("/user.slice/user-{uid}.slice/{service}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_lie_in_each_other() {
        for (slice, expect) in [
            ("system.slice", "/system.slice"),
            ("a-b-c.slice", "/a.slice/a-b.slice/a-b-c.slice"),
            ("-.slice", "/"),
        ] {
            assert_eq!(expand(slice).expect(slice), expect);
        }
        for wrong in
            ["", "a", ".slice", "-a.slice", "a-.slice", "a--b.slice", "a/b.slice", "../x.slice", "a b.slice"]
        {
            let error = expand(wrong).expect_err(wrong).to_string();
            assert_eq!(error, format!("linux.cgroupsPath: invalid slice name: {wrong}"));
        }
    }

    #[test]
    fn names_are_made_as_runc_makes_them() {
        let name = |named, user| Name::new(named, "c1", user).map(|name| (name.slice, name.unit));
        let expect = |slice: &str, unit: &str| (slice.to_owned(), unit.to_owned());
        assert_eq!(name(None, false).unwrap(), expect("system.slice", "pintle-c1.scope"));
        assert_eq!(name(None, true).unwrap(), expect("user.slice", "pintle-c1.scope"));
        assert_eq!(
            name(Some("m-x.slice:docker:web"), false).unwrap(),
            expect("m-x.slice", "docker-web.scope")
        );
        assert_eq!(name(Some(":docker:web"), false).unwrap(), expect("system.slice", "docker-web.scope"));
        assert_eq!(name(Some("a.slice:x:a-b.slice"), false).unwrap(), expect("a.slice", "a-b.slice"));
        for wrong in ["/a/b", "a:b", "a:b:c:d", "system.slice:x:", "system.slice:x:a/b", "system.slice:x:a b"]
        {
            assert!(name(Some(wrong), false).is_err(), "{wrong}");
        }
    }

    #[test]
    fn processes_move_within_one_users_systemd() {
        let service = "/sys/fs/cgroup/user.slice/user-7.slice/user@7.service/app.slice/x.scope";
        for (own, expect) in [
            ("/user.slice/user-7.slice/user@7.service/y.scope", true),
            ("/user.slice/user-7.slice/session-1.scope", false),
            ("/user.slice/user-8.slice/user@8.service/y.scope", false),
        ] {
            assert_eq!(share_manager(own.as_ref(), service.as_ref()), expect, "{own}");
        }
        assert!(!share_manager("/a".as_ref(), "/a".as_ref()));
    }

    #[test]
    fn the_users_systemd_is_found_above_the_runtime() {
        let service = "/user.slice/user-7.slice/user@7.service";
        for (own, expect) in [
            ("/user.slice/user-7.slice/user@7.service/app.slice/x.scope", service),
            ("/user.slice/user-7.slice/session-1.scope", service),
            ("/nested/user@7.service/x", "/nested/user@7.service"),
        ] {
            assert_eq!(user_manager(own, 7), PathBuf::from(expect), "{own}");
        }
    }
}
