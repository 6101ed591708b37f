//! Mounts: what each option means (config.md "Mounts", config-linux.md), what is a bind and what a new file system,
//! where nothing may be mounted, and what is sealed read-only only after it was filled. mount(2), mount_setattr(2)

use super::namespaces::{self, Decided as Spaces, IdMaps};
use super::steps::{Slot, Steps, Texts, c_string, words};
use super::{Given, cgroup};
use crate::bail;
use crate::error::{Context, Error, Result};
use crate::spec::{Linux, Mount};
use pintle_init::order::{Numbers, Place, Step};
use pintle_sys::mount as attribute;
use std::ffi::CString;

const MS_REC: u32 = 0x4000;
/// MS_SLAVE
pub const MS_SLAVE: u32 = 1 << 19;
const S_RW: u64 =
    attribute::RDONLY | attribute::NOSUID | attribute::NODEV | attribute::NOEXEC | attribute::NOSYMFOLLOW;

/// What an option does to the attributes of a mount.
#[derive(Clone, Copy)]
enum Effect {
    Set(u64),
    Clear(u64),
    /// One of the ways to keep access times, which exclude each other.
    Atime(u64),
    /// Not that way, if it was chosen before; of a whole tree, the kernel's usual way.
    NotAtime(u64),
}

/// Options that are attributes; each also with an `r` in front, for the whole tree.
const ATTRIBUTES: [(&str, Effect); 18] = [
    ("ro", Effect::Set(attribute::RDONLY)),
    ("rw", Effect::Clear(attribute::RDONLY)),
    ("nosuid", Effect::Set(attribute::NOSUID)),
    ("suid", Effect::Clear(attribute::NOSUID)),
    ("nodev", Effect::Set(attribute::NODEV)),
    ("dev", Effect::Clear(attribute::NODEV)),
    ("noexec", Effect::Set(attribute::NOEXEC)),
    ("exec", Effect::Clear(attribute::NOEXEC)),
    ("nosymfollow", Effect::Set(attribute::NOSYMFOLLOW)),
    ("symfollow", Effect::Clear(attribute::NOSYMFOLLOW)),
    ("nodiratime", Effect::Set(attribute::NODIRATIME)),
    ("diratime", Effect::Clear(attribute::NODIRATIME)),
    ("noatime", Effect::Atime(attribute::NOATIME)),
    ("strictatime", Effect::Atime(attribute::STRICTATIME)),
    ("relatime", Effect::Atime(attribute::RELATIME)),
    ("atime", Effect::NotAtime(attribute::NOATIME)),
    ("norelatime", Effect::NotAtime(attribute::RELATIME)),
    ("nostrictatime", Effect::NotAtime(attribute::STRICTATIME)),
];

/// Options of a file system as a whole: what mount(2) has as flags and fsconfig(2) as words.
const SUPERBLOCK: [(&str, Option<&str>); 15] = [
    ("sync", Some("sync")),
    ("async", None),
    ("dirsync", Some("dirsync")),
    ("lazytime", Some("lazytime")),
    ("nolazytime", None),
    ("mand", Some("mand")),
    ("nomand", None),
    ("iversion", Some("iversion")),
    ("noiversion", None),
    // MS_SILENT only keeps the kernel's log quiet, and has no word.
    ("silent", None),
    ("loud", None),
    ("acl", Some("acl")),
    ("noacl", None),
    ("defaults", None),
    ("remount", None),
];

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

/// Every option name that has a meaning here, sorted: for `features`.
pub fn known_options() -> Vec<String> {
    let attributes = ATTRIBUTES.iter().flat_map(|(name, _)| [(*name).to_owned(), format!("r{name}")]);
    let superblock = SUPERBLOCK.iter().map(|(name, _)| (*name).to_owned());
    let propagations = PROPAGATION.iter().map(|(name, _)| (*name).to_owned());
    let others = ["bind", "rbind", "tmpcopyup", "idmap", "ridmap"].map(str::to_owned);
    let mut all: Vec<_> = attributes.chain(superblock).chain(propagations).chain(others).collect();
    all.sort();
    all.dedup();
    all
}

const PROPAGATION: [(&str, u32); 8] = [
    ("private", 1 << 18),
    ("rprivate", 1 << 18 | MS_REC),
    ("slave", MS_SLAVE),
    ("rslave", MS_SLAVE | MS_REC),
    ("shared", 1 << 20),
    ("rshared", 1 << 20 | MS_REC),
    ("unbindable", 1 << 17),
    ("runbindable", 1 << 17 | MS_REC),
];

/// The mount(2) flags of a kind of propagation.
pub fn propagation(name: &str) -> Option<u32> {
    PROPAGATION.iter().find(|(known, _)| *known == name).map(|(_, flags)| *flags)
}

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
fn below(path: &str, rootfs: &std::path::Path) -> String {
    match std::path::Path::new(path).strip_prefix(rootfs) {
        Ok(rest) if rootfs != std::path::Path::new("/") => format!("/{}", rest.to_string_lossy()),
        _ => path.to_owned(),
    }
}

/// The options of one mount, understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Read {
    bind: bool,
    recursive: bool,
    copy_up: bool,
    id_map: bool,
    id_map_recursive: bool,
    set: u64,
    clear: u64,
    /// A way to keep access times was chosen: it is in `set`.
    atime_given: bool,
    /// Something was said of the attributes, be it without effect.
    attributes_given: bool,
    tree_set: u64,
    tree_clear: u64,
    propagation: Vec<u32>,
    superblock: Vec<&'static str>,
    data: Vec<String>,
}

impl Read {
    fn new(options: &[String]) -> Self {
        let mut read = Self::default();
        options.iter().for_each(|option| read.option(option));
        read
    }

    fn attribute(&mut self, effect: Effect) {
        self.attributes_given = true;
        match effect {
            Effect::Atime(_) => self.atime_given = true,
            Effect::NotAtime(way) if self.atime_given && self.set & attribute::ATIME == way => {
                self.atime_given = false;
            }
            Effect::NotAtime(_) => return,
            Effect::Set(_) | Effect::Clear(_) => {}
        }
        apply(effect, &mut self.set, &mut self.clear);
    }

    fn tree_attribute(&mut self, effect: Effect) {
        if matches!(effect, Effect::Atime(_) | Effect::NotAtime(_)) {
            self.tree_clear |= attribute::ATIME;
        }
        apply(effect, &mut self.tree_set, &mut self.tree_clear);
    }

    fn option(&mut self, option: &str) {
        let attribute =
            |name: &str| ATTRIBUTES.iter().find(|(known, _)| *known == name).map(|(_, effect)| *effect);
        if let Some(effect) = attribute(option) {
            self.attribute(effect);
        } else if let Some(flags) = propagation(option) {
            self.propagation.push(flags);
        } else if let Some(effect) = option.strip_prefix('r').and_then(attribute) {
            self.tree_attribute(effect);
        } else if let Some((_, word)) = SUPERBLOCK.iter().find(|(known, _)| *known == option) {
            self.superblock.extend(*word);
        } else {
            match option {
                "bind" => self.bind = true,
                "rbind" => (self.bind, self.recursive) = (true, true),
                "tmpcopyup" => self.copy_up = true,
                "idmap" => self.id_map = true,
                "ridmap" => (self.id_map, self.id_map_recursive) = (true, true),
                "" => {}
                other => self.data.extend(split_data(other)),
            }
        }
    }
}

fn apply(effect: Effect, set: &mut u64, clear: &mut u64) {
    match effect {
        Effect::Set(bits) => (*set, *clear) = (*set | bits, *clear & !bits),
        Effect::Clear(bits) => (*set, *clear) = (*set & !bits, *clear | bits),
        Effect::Atime(value) => *set = *set & !attribute::ATIME | value,
        Effect::NotAtime(_) => *set &= !attribute::ATIME,
    }
}

/// What a bind changes of its source's attributes. Access times are kept unless a way to keep them was chosen; then all
/// of it is as chosen. mount(2) with MS_REMOUNT | MS_BIND
struct BindChange {
    /// Cleared where the kernel lets us.
    clear: u64,
    /// Cleared, or it is an error.
    clear_explicit: u64,
}

impl BindChange {
    fn new(read: &Read) -> Self {
        let atime = read.atime_given || read.set & attribute::NODIRATIME != 0;
        let times = if atime { attribute::ATIME | attribute::NODIRATIME & !read.set } else { 0 };
        Self { clear: S_RW & !read.set, clear_explicit: read.clear & S_RW | times }
    }
}

/// One option may hold several for the file system, separated by commas that are neither quoted nor escaped.
fn split_data(option: &str) -> Vec<String> {
    let (mut parts, mut part, mut quoted, mut escaped) = (Vec::new(), String::new(), false, false);
    for c in option.chars() {
        match c {
            _ if escaped => {
                if c != ',' {
                    part.push('\\');
                }
                part.push(c);
            }
            '\\' => {}
            ',' if !quoted => parts.push(std::mem::take(&mut part)),
            '"' => quoted = !quoted,
            _ => part.push(c),
        }
        escaped = c == '\\' && !escaped;
    }
    parts.push(part);
    parts.retain(|part| !part.is_empty());
    parts
}

/// One mount, decided.
#[derive(Clone, Debug)]
enum One {
    Filesystem {
        kind: CString,
        source: CString,
        options: Texts,
        inherit_mode: bool,
        copy_up: bool,
        ordinary: bool,
    },
    Bind {
        source: CString,
        read: Read,
        only_proc: bool,
        id_map: Option<IdMaps>,
    },
    Cgroup {
        fallback: CString,
        bind: bool,
    },
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
    bundle: &'a std::path::Path,
    rootfs: &'a std::path::Path,
    linux: &'a Linux,
    /// What a cgroup mount shows when it has to be a bind.
    cgroup: &'a str,
    has_cgroup_namespace: bool,
    has_user_namespace: bool,
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
}

impl Decided {
    /// Decides each mount in its order.
    pub(super) fn new(
        given: Given<'_>,
        spaces: &Spaces,
        cgroup: &cgroup::Plan,
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
        };
        let own = if spaces.has(namespaces::CGROUP) { cgroup.path.as_path() } else { "/".as_ref() };
        let own = options.cgroup_mount.join(own.strip_prefix("/").unwrap_or(own));
        let around = Around {
            bundle: &options.bundle,
            rootfs: &facts.rootfs,
            linux,
            cgroup: &own.to_string_lossy(),
            has_cgroup_namespace: spaces.has(namespaces::CGROUP),
            has_user_namespace: spaces.has(namespaces::USER),
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
            let id_map = id_map(mount, &read, around.linux)?;
            if id_map.is_some() && around.has_user_namespace {
                bail!("id-mapped mounts beside a user namespace are not there yet");
            }
            return self.add_bind(&path, &source, read, id_map, in_proc);
        }
        if read.id_map || mount.uid_mappings.is_some() || mount.gid_mappings.is_some() {
            bail!("id-mapped mounts are only possible for bind mounts");
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
        self.add_filesystem(&path, kind, source, read, in_proc)
    }

    fn add_bind(
        &mut self,
        path: &str,
        source: &str,
        read: Read,
        id_map: Option<IdMaps>,
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
        kind: &str,
        source: &str,
        mut read: Read,
        in_proc: bool,
    ) -> Result<()> {
        if kind.is_empty() {
            bail!("type: a mount that is no bind needs one");
        }
        // What has to be filled yet becomes read-only later.
        if read.set & attribute::RDONLY != 0 && (kind == "tmpfs" || path == "/dev") {
            read.set &= !attribute::RDONLY;
            self.seals.push(c_string(path, "destination")?);
        }
        let mut options = Texts::default();
        let mut push = |text: &str| options.push(text, || "options".to_owned());
        let readonly = (read.set & attribute::RDONLY != 0).then_some("ro");
        for word in readonly.into_iter().chain(read.superblock.iter().copied()) {
            push(word)?;
        }
        for option in &read.data {
            match option.split_once('=') {
                Some((key, value)) => {
                    push(key)?;
                    push(&format!("={value}"))?;
                }
                None => push(option)?,
            }
        }
        let one = One::Filesystem {
            kind: c_string(kind, "type")?,
            source: c_string(source, "source")?,
            options,
            inherit_mode: kind == "tmpfs" && !read.data.iter().any(|option| option.starts_with("mode=")),
            copy_up: kind == "tmpfs" && read.copy_up,
            ordinary: kind == "proc" || kind == "sysfs",
        };
        let target = Target::new(path, &read, read.set, in_proc)?;
        self.mounts.push((one, target));
        Ok(())
    }

    /// The steps that mount; the maps of id-mapped ones go to `maps`.
    pub fn mount(&self, steps: &mut Steps, maps: &mut Vec<IdMaps>) {
        for (one, target) in &self.mounts {
            let place = target.place();
            match one {
                One::Filesystem { kind, source, options, inherit_mode, copy_up, ordinary } => {
                    steps.push(&Step::Filesystem {
                        kind,
                        source,
                        options: options.strings(),
                        attributes: target.attributes,
                        inherit_mode: *inherit_mode,
                        copy_up: *copy_up,
                        ordinary: *ordinary,
                        place,
                    });
                }
                One::Bind { source, read, only_proc, id_map } => {
                    let map = id_map.as_ref().map(|map| {
                        maps.push(map.clone());
                        steps.slot(Slot::MountMap(maps.len() - 1))
                    });
                    let BindChange { clear, clear_explicit } = BindChange::new(read);
                    steps.push(&Step::Bind {
                        source,
                        recursive: read.recursive,
                        change: read.attributes_given,
                        set: read.set,
                        clear,
                        clear_explicit,
                        only_proc: *only_proc,
                        id_map: map.unwrap_or(0),
                        id_map_recursive: read.id_map_recursive,
                        place,
                    });
                }
                One::Cgroup { fallback, bind } => steps.push(&Step::CgroupMount {
                    attributes: target.attributes,
                    bind: *bind,
                    fallback,
                    mask_missing: self.mask_missing_cgroup,
                    place,
                }),
            }
        }
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
fn id_map(mount: &Mount, read: &Read, linux: &Linux) -> Result<Option<IdMaps>> {
    let (uids, gids) = (mount.uid_mappings.as_deref(), mount.gid_mappings.as_deref());
    if !read.id_map && uids.is_none() && gids.is_none() {
        return Ok(None);
    }
    let uids = uids.or(linux.uid_mappings.as_deref()).unwrap_or_default();
    let gids = gids.or(linux.gid_mappings.as_deref()).unwrap_or_default();
    if uids.is_empty() || gids.is_empty() {
        bail!("an id-mapped mount needs uidMappings and gidMappings, its own or the container's");
    }
    Ok(Some(IdMaps::new(uids, gids, false)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: &[&str]) -> Read {
        Read::new(&options.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

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
    fn access_times_of_a_bind_are_kept_unless_a_way_is_chosen() {
        let times = attribute::ATIME | attribute::NODIRATIME;
        for (options, set, clear) in [
            (&["ro"][..], attribute::RDONLY, 0),
            (&["atime"], 0, 0),
            (&["noatime", "atime"], 0, 0),
            (&["diratime"], 0, 0),
            (&["relatime"], 0, times),
            (&["noatime"], attribute::NOATIME, times),
            (&["nodiratime"], attribute::NODIRATIME, attribute::ATIME),
        ] {
            let read = read(options);
            let change = BindChange::new(&read);
            assert_eq!((read.set, change.clear_explicit), (set, clear), "{options:?}");
            assert!(read.attributes_given, "{options:?}");
        }
    }

    #[test]
    fn the_last_of_contrary_options_wins() {
        assert_eq!(read(&["ro", "rw"]).set, 0);
        assert_eq!(read(&["rw", "ro"]).set, attribute::RDONLY);
        assert_eq!(read(&["noatime", "strictatime"]).set, attribute::STRICTATIME);
        assert_eq!(read(&["rro"]).tree_set, attribute::RDONLY);
        assert_eq!(read(&["rslave", "shared"]).propagation, [MS_SLAVE | MS_REC, 1 << 20]);
    }

    #[test]
    fn data_is_split_at_commas_that_are_neither_quoted_nor_escaped() {
        for (option, expect) in [
            ("mode=755,size=64k", vec!["mode=755", "size=64k"]),
            ("context=\"a:b:c1,c2\"", vec!["context=a:b:c1,c2"]),
            (r"lowerdir=/a\,b,upperdir=/c", vec!["lowerdir=/a,b", "upperdir=/c"]),
            (r"lowerdir=/a\:b", vec![r"lowerdir=/a\:b"]),
        ] {
            assert_eq!(split_data(option), expect, "{option}");
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
