//! Mounts (config.md "Mounts"): what is a bind and what a new file system, where nothing may be mounted, and what is
//! sealed read-only only after it was filled. mount(2), mount_setattr(2)

use self::options::{BindChange, Read};
use super::lsm::{MountLabel, Way};
use super::namespaces::{self, Decided as Spaces, IdMaps, Writer};
use super::steps::{Slot, Steps, Texts, c_string, words};
use super::{Given, cgroup};
use crate::bail;
use crate::error::{Context, Error, Result};
use crate::host::Facts;
use crate::spec::{Linux, Mount};
use pintle_init::order::{self, Numbers, Place, Step};
use pintle_sys::mount as attribute;
use std::ffi::{CStr, CString};
use std::path::Path;

mod options;

pub use self::options::{MS_SLAVE, known_options, propagation};

/// What lxcfs and its like may cover inside /proc.
const IN_PROC: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// File systems whose making needs no path of the host's: no device, no directory.
const ALL_THEIR_OWN: [&CStr; 17] = [
    c"binfmt_misc",
    c"bpf",
    c"cgroup2",
    c"configfs",
    c"debugfs",
    c"devpts",
    c"devtmpfs",
    c"efivarfs",
    c"fusectl",
    c"hugetlbfs",
    c"mqueue",
    c"proc",
    c"pstore",
    c"securityfs",
    c"sysfs",
    c"tmpfs",
    c"tracefs",
];

/// `/` and the path without `.`, `..`, double or trailing slashes; nothing climbs above the top.
pub fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    format!("/{}", parts.join("/"))
}

/// A destination that is written as a path of the host's, through the rootfs, means what is below it, as with runc.
fn below(path: &str, rootfs: &Path) -> String {
    match Path::new(path).strip_prefix(rootfs) {
        Ok(rest) if rootfs != Path::new("/") => format!("/{}", rest.to_string_lossy()),
        _ => path.to_owned(),
    }
}

/// Whose maps an id-mapped mount has.
#[derive(Clone, Debug)]
pub enum MountMap {
    /// Its own, or those that the container's user namespace will have.
    Given(IdMaps),
    /// Those of the user namespace that the container joins: an element of `linux.namespaces`.
    Joined(usize),
}

/// One mount, decided.
#[derive(Clone, Debug)]
enum One {
    Filesystem {
        kind: CString,
        source: CString,
        options: Texts,
        label: CString,
        inherit_mode: bool,
        copy_up: bool,
        ordinary: bool,
        sealed: bool,
    },
    Bind {
        source: CString,
        read: Read,
        only_proc: bool,
        id_map: Option<MountMap>,
    },
    Cgroup {
        fallback: CString,
        bind: bool,
    },
}

impl One {
    /// What statfs(2) calls it, where that is sure.
    fn magic(&self, target: &CStr) -> Option<u64> {
        const PROC_SUPER_MAGIC: u64 = 0x9fa0;
        const SYSFS_MAGIC: u64 = 0x6265_6572;
        match self {
            Self::Bind { only_proc: true, .. } => Some(PROC_SUPER_MAGIC),
            Self::Filesystem { kind, .. } if kind.as_c_str() == c"proc" => Some(PROC_SUPER_MAGIC),
            Self::Filesystem { kind, .. } if kind.as_c_str() == c"sysfs" => Some(SYSFS_MAGIC),
            // What engines do where the network is the host's and the user namespace is not.
            Self::Bind { source, .. } if [source.as_c_str(), target] == [c"/sys"; 2] => Some(SYSFS_MAGIC),
            _ => None,
        }
    }
}

/// A path to be hidden or read-only, below the mount of a kernel's file system that it lies in, or below the rootfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protected {
    mount_point: CString,
    magic: u64,
    path: CString,
}

impl Protected {
    /// As a step takes it.
    pub fn step(&self) -> order::Protected<'_> {
        order::Protected { mount_point: &self.mount_point, magic: self.magic, path: &self.path }
    }
}

/// Where a decided mount goes.
#[derive(Clone, Debug)]
struct Target {
    path: CString,
    attributes: u64,
    tree_set: u64,
    tree_clear: u64,
    in_proc: bool,
    propagation: Vec<u8>,
}

impl Target {
    fn place(&self) -> Place<'_> {
        Place {
            target: &self.path,
            tree_set: self.tree_set,
            tree_clear: self.tree_clear,
            in_proc: self.in_proc,
            propagation: Numbers(&self.propagation),
        }
    }
}

/// What a mount's meaning depends on.
struct Around<'a> {
    bundle: &'a Path,
    rootfs: &'a Path,
    linux: &'a Linux,
    /// What a cgroup mount shows when it has to be a bind.
    cgroup: &'a str,
    label: Option<&'a MountLabel>,
    has_cgroup_namespace: bool,
    /// The user namespace that is joined: an element of `linux.namespaces`.
    joined_user_namespace: Option<usize>,
    /// An ordinary user, who can't map the ids of a mount.
    unprivileged: bool,
    kernel: (u32, u32),
}

/// All mounts, decided.
#[derive(Clone, Debug)]
pub struct Decided {
    mounts: Vec<(One, Target)>,
    seals: Vec<CString>,
    /// /dev is the container's own, so nodes are made in it.
    pub makes_dev: bool,
    /// One of the mounts is a new procfs.
    pub has_procfs: bool,
    /// The container sees its cgroup writable.
    pub writable_cgroup: bool,
    mask_missing_cgroup: bool,
    /// init is in a user namespace, where nobody can map the ids of a mount.
    maps_by_parent: bool,
}

impl Decided {
    /// Decides each mount in its order.
    pub(super) fn new(
        given: Given<'_>,
        spaces: &Spaces,
        cgroup: &cgroup::Plan,
        label: Option<&MountLabel>,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        let Given { spec, linux, options, facts, .. } = given;
        let mut decided = Self {
            mounts: Vec::new(),
            seals: Vec::new(),
            makes_dev: true,
            has_procfs: false,
            writable_cgroup: false,
            mask_missing_cgroup: options.rootless,
            maps_by_parent: spaces.has(namespaces::USER),
        };
        let own = if spaces.has(namespaces::CGROUP) { cgroup.path.as_path() } else { "/".as_ref() };
        let own = options.cgroup_mount.join(own.strip_prefix("/").unwrap_or(own));
        let around = Around {
            bundle: &options.bundle,
            rootfs: &facts.rootfs,
            linux,
            cgroup: &own.to_string_lossy(),
            label,
            has_cgroup_namespace: spaces.has(namespaces::CGROUP),
            joined_user_namespace: spaces.joined(namespaces::USER),
            unprivileged: given.host.euid != 0,
            kernel: given.host.kernel,
        };
        for (n, mount) in spec.mounts.iter().flatten().enumerate() {
            let place = format!("mounts[{n}]");
            let destination = mount.destination.as_deref().unwrap_or_default();
            if !destination.starts_with('/') {
                warnings.push(format!(
                    "{place}.destination: {destination:?} is not absolute; relative destinations are deprecated, using it as relative to /"
                ));
            }
            decided.add(mount, destination, &around).context(place)?;
        }
        if let Some(directory) = &options.notify {
            decided.add_notify(&directory.to_string_lossy())?;
        }
        Ok(decided)
    }

    fn add_notify(&mut self, directory: &str) -> Result<()> {
        let read = Read { bind: true, set: attribute::RDONLY, attributes_given: true, ..Read::default() };
        let target = Target::new("/run/notify", &read, 0, false)?;
        let source = c_string(directory, "notify socket")?;
        self.mounts.push((One::Bind { source, read, only_proc: false, id_map: None }, target));
        Ok(())
    }

    fn add(&mut self, mount: &Mount, destination: &str, around: &Around<'_>) -> Result<()> {
        let path = below(&clean(destination), around.rootfs);
        let kind = mount.kind.as_deref().unwrap_or_default();
        let source = mount.source.as_deref().unwrap_or_default();
        let read = Read::new(mount.options.as_deref().unwrap_or_default());
        let bind = read.bind || kind == "bind";
        let is_proc = kind == "proc" && !bind;
        if path == "/" {
            bail!(
                "error mounting {source:?} to rootfs at {destination:?}: mountpoint is on the top of rootfs"
            );
        }
        let in_proc = proc_rule(&path, bind, is_proc)
            .with_context(|| format!("error mounting {source:?} to rootfs at {destination:?}"))?;
        if bind {
            let source = around.bundle.join(source).to_string_lossy().into_owned();
            let id_map = id_map(mount, &read, around)?;
            return self.add_bind(&path, &source, read, id_map, in_proc);
        }
        if read.id_map || mount.uid_mappings.is_some() || mount.gid_mappings.is_some() {
            bail!("id-mapped mounts are only supported for bind-mounts");
        }
        if kind == "cgroup" {
            self.writable_cgroup |= path == "/sys/fs/cgroup" && read.set & attribute::RDONLY == 0;
            let target = Target::new(&path, &read, read.set, in_proc)?;
            self.mounts.push((
                One::Cgroup {
                    fallback: c_string(around.cgroup, "cgroup")?,
                    bind: !around.has_cgroup_namespace,
                },
                target,
            ));
            return Ok(());
        }
        // Only one that hides nothing and can be written serves as init's own handle.
        let plain = read.set & attribute::RDONLY == 0 && read.superblock.is_empty() && read.data.is_empty();
        self.has_procfs |= is_proc && plain;
        self.add_filesystem(&path, (kind, source), read, in_proc, around)
    }

    fn add_bind(
        &mut self,
        path: &str,
        source: &str,
        read: Read,
        id_map: Option<MountMap>,
        in_proc: bool,
    ) -> Result<()> {
        if !read.data.is_empty() {
            bail!("options {:?}: bind mounts cannot have any filesystem-specific options applied", read.data);
        }
        self.makes_dev &= path != "/dev";
        let target = Target::new(path, &read, 0, in_proc)?;
        let source = c_string(source, "source")?;
        self.mounts.push((One::Bind { source, read, only_proc: path == "/proc", id_map }, target));
        Ok(())
    }

    fn add_filesystem(
        &mut self,
        path: &str,
        (kind, source): (&str, &str),
        mut read: Read,
        in_proc: bool,
        around: &Around<'_>,
    ) -> Result<()> {
        let label = around.label;
        if kind.is_empty() {
            bail!("type: a mount that is no bind needs one");
        }
        // What has to be filled yet becomes read-only later.
        let sealed = read.set & attribute::RDONLY != 0 && (kind == "tmpfs" || path == "/dev");
        if sealed {
            if self.seals.len() == order::SEALS {
                bail!("options: more than {} file systems are read-only tmpfs or /dev", order::SEALS);
            }
            read.set &= !attribute::RDONLY;
            self.seals.push(c_string(path, "destination")?);
        }
        let mut said = Texts::default();
        let mut push = |text: &str| said.push(text, || "options".to_owned());
        let readonly = (read.set & attribute::RDONLY != 0).then_some("ro");
        for word in readonly.into_iter().chain(read.superblock.iter().copied()) {
            push(word)?;
        }
        for option in &read.data {
            for (key, value) in options::settings(kind, option, around.kernel).context("options")? {
                push(&key)?;
                if let Some(value) = value {
                    push(&format!("={value}"))?;
                }
            }
        }
        options::check_length("source", source)?;
        let way = label.map_or(Way::None, |_| Way::of(kind));
        let own = |name: &str| read.data.iter().any(|option| option.split('=').next() == Some(name));
        if let (Some(MountLabel { option, label }), Way::Option) = (label, way)
            && !own(option)
        {
            push(option)?;
            push(&format!("={label}"))?;
        }
        let attribute = label.filter(|_| way == Way::Attribute).map_or("", |label| &label.label);
        let one = One::Filesystem {
            label: c_string(attribute, "linux.mountLabel")?,
            kind: c_string(kind, "type")?,
            source: c_string(source, "source")?,
            options: said,
            inherit_mode: kind == "tmpfs" && !read.data.iter().any(|option| option.starts_with("mode=")),
            copy_up: kind == "tmpfs" && read.copy_up,
            ordinary: kind == "proc" || kind == "sysfs",
            sealed,
        };
        let target = Target::new(path, &read, read.set, in_proc)?;
        self.mounts.push((one, target));
        Ok(())
    }

    /// Whether all that they show of the host can be had before any of them is there: file systems that look for nothing
    /// of the host's, and binds whose source doesn't lie in the rootfs, where an earlier mount could cover it, and which
    /// are not too many. `rootfs`: as config.json has it.
    pub fn can_be_taken_along(&self, facts: &Facts, rootfs: &Path) -> bool {
        let rootfs = clean(&rootfs.to_string_lossy());
        let known = |one: &One| match one {
            One::Filesystem { kind, .. } => ALL_THEIR_OWN.contains(&kind.as_c_str()),
            One::Bind { source, .. } => {
                let source = clean(&source.to_string_lossy());
                ![Path::new(&rootfs), &facts.rootfs]
                    .iter()
                    .any(|rootfs| Path::new(&source).starts_with(rootfs))
            }
            One::Cgroup { bind, .. } => !bind,
        };
        self.mounts.iter().all(|(one, _)| known(one)) && self.binds().count() <= order::TREES
    }

    fn binds(&self) -> impl Iterator<Item = (&CString, &Read, &Target)> {
        self.mounts.iter().filter_map(|(one, target)| match one {
            One::Bind { source, read, .. } => Some((source, read, target)),
            _ => None,
        })
    }

    /// The steps that take the sources of binds along into a mount namespace that will not have them.
    pub fn take_along(&self, steps: &mut Steps, propagation: u32) {
        for (source, read, target) in self.binds() {
            steps.push(&Step::Tree { source, recursive: read.recursive, propagation, target: &target.path });
        }
    }

    /// The steps that mount; the maps of id-mapped ones go to `maps`, in the order of their slots. `taken_along`: the host's
    /// mounts are out of sight by then.
    pub fn mount(
        &self,
        steps: &mut Steps,
        maps: &mut Vec<MountMap>,
        taken_along: bool,
        mask_options: &Texts,
    ) {
        for (one, target) in &self.mounts {
            let place = target.place();
            match one {
                One::Filesystem { kind, source, options, label, inherit_mode, copy_up, ordinary, sealed } => {
                    steps.push(&Step::Filesystem {
                        kind,
                        source,
                        options: options.strings(),
                        label,
                        attributes: target.attributes,
                        inherit_mode: *inherit_mode,
                        copy_up: *copy_up,
                        ordinary: *ordinary,
                        to_be_sealed: *sealed,
                        place,
                    });
                }
                One::Bind { source, read, only_proc, id_map } => {
                    maps.extend(id_map.clone());
                    let (id_map, parents_map) = match id_map {
                        None => (0, 0),
                        Some(_) if self.maps_by_parent => (0, maps.len() as u32),
                        Some(_) => (steps.slot(Slot::MountMap(maps.len() - 1)), 0),
                    };
                    let BindChange { clear, clear_explicit } = BindChange::new(read);
                    steps.push(&Step::Bind {
                        source,
                        recursive: read.recursive,
                        change: read.attributes_given,
                        set: read.set,
                        clear,
                        clear_explicit,
                        only_proc: *only_proc,
                        id_map,
                        id_map_recursive: read.id_map_recursive,
                        parents_map,
                        prepared: taken_along,
                        place,
                    });
                }
                One::Cgroup { fallback, bind } => steps.push(&Step::CgroupMount {
                    attributes: target.attributes,
                    bind: *bind,
                    fallback: if taken_along { c"" } else { fallback },
                    mask_missing: self.mask_missing_cgroup,
                    mask_options: mask_options.strings(),
                    place,
                }),
            }
        }
    }

    /// What `path`, as config.json has it, lies in; `place` is its own.
    ///
    /// # Errors
    /// A null byte.
    pub fn protected(&self, path: &str, place: &str) -> Result<Protected> {
        let whole = c_string(&clean(path), place)?;
        let below = |target: &CStr| {
            let rest = whole.to_bytes_with_nul().strip_prefix(target.to_bytes())?;
            (rest.first() == Some(&b'/')).then(|| CStr::from_bytes_with_nul(rest).ok()).flatten()
        };
        // The last one that it lies below is the one that is seen.
        let mut backwards = self.mounts.iter().rev();
        let seen =
            backwards.find_map(|(one, target)| Some((one.magic(&target.path), target, below(&target.path)?)));
        Ok(match seen {
            Some((Some(magic), target, rest)) => {
                Protected { mount_point: target.path.clone(), magic, path: rest.to_owned() }
            }
            _ => Protected { mount_point: CString::default(), magic: 0, path: whole },
        })
    }

    /// The steps that make read-only what was to be filled first.
    pub fn seal(&self, steps: &mut Steps) {
        self.seals.iter().for_each(|target| steps.push(&Step::Seal { target }));
    }
}

impl Target {
    fn new(path: &str, read: &Read, attributes: u64, in_proc: bool) -> Result<Self> {
        Ok(Self {
            path: c_string(path, "destination")?,
            attributes,
            tree_set: read.tree_set,
            tree_clear: read.tree_clear,
            in_proc,
            propagation: words(read.propagation.iter().copied()),
        })
    }
}

/// Nothing may cover the files that security depends on (CVE-2019-16884); returns whether the target may lie in procfs.
fn proc_rule(path: &str, bind: bool, is_proc: bool) -> Result<bool> {
    if path == "/proc" {
        if !bind && !is_proc {
            return Err(Error::new("\"/proc\" cannot be mounted because it is not of type proc"));
        }
        return Ok(true);
    }
    if path.starts_with("/proc/") {
        if !IN_PROC.contains(&path) {
            bail!("{path:?} cannot be mounted because it is inside /proc");
        }
        return Ok(true);
    }
    Ok(false)
}

/// The maps of an id-mapped mount: its own, or the container's.
fn id_map(mount: &Mount, read: &Read, around: &Around<'_>) -> Result<Option<MountMap>> {
    let (uids, gids) = (mount.uid_mappings.as_deref(), mount.gid_mappings.as_deref());
    if !read.id_map && uids.is_none() && gids.is_none() {
        return Ok(None);
    }
    if around.unprivileged {
        bail!("id-mapped mounts are not supported for rootless containers");
    }
    if let (None, None, Some(place)) = (uids, gids, around.joined_user_namespace) {
        return Ok(Some(MountMap::Joined(place)));
    }
    let uids = uids.or(around.linux.uid_mappings.as_deref()).unwrap_or_default();
    let gids = gids.or(around.linux.gid_mappings.as_deref()).unwrap_or_default();
    if uids.is_empty() || gids.is_empty() {
        bail!("id-mapped mounts must have both uid and gid mappings specified, their own or the container's");
    }
    Ok(Some(MountMap::Given(IdMaps::new(uids, gids, Writer::Root))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_never_climb_above_the_top() {
        for (path, expect) in [
            ("/a//b/./c/", "/a/b/c"),
            ("../../x", "/x"),
            ("", "/"),
            ("/..", "/"),
            ("/a/../../b", "/b"),
            ("x", "/x"),
        ] {
            assert_eq!(clean(path), expect, "{path}");
        }
    }

    #[test]
    fn a_path_through_the_rootfs_is_one_below_it() {
        for (path, rootfs, expect) in [
            ("/b/rootfs/mnt/x", "/b/rootfs", "/mnt/x"),
            ("/b/rootfs", "/b/rootfs", "/"),
            ("/b/rootfs2/x", "/b/rootfs", "/b/rootfs2/x"),
            ("/mnt", "/", "/mnt"),
        ] {
            assert_eq!(below(path, rootfs.as_ref()), expect, "{path}");
        }
    }

    #[test]
    fn proc_is_covered_by_nothing_but_proc_and_the_files_of_lxcfs() {
        for (path, bind, is_proc, allowed) in [
            ("/proc", false, true, true),
            ("/proc", true, false, true),
            ("/proc", false, false, false),
            ("/proc/sys", true, false, false),
            ("/proc/self/attr", false, false, false),
            ("/proc/meminfo", true, false, true),
            ("/procfoo", true, false, true),
        ] {
            assert_eq!(proc_rule(path, bind, is_proc).is_ok(), allowed, "{path}");
        }
    }
}
