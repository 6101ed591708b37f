//! Which namespaces are made, which are joined, by whom and when: the table of docs/birth.md. See namespaces(7),
//! user_namespaces(7), clone(2).

use super::steps::{Slot, Steps};
use crate::bail;
use crate::error::Result;
use crate::host::{Facts, Host, IdRanges};
use crate::spec::{Linux, LinuxIdMapping, LinuxNamespaceType, Spec};
use pintle_init::order::Step;
use std::fmt::Write;

/// CLONE_NEWTIME
pub const TIME: u32 = 0x80;
/// CLONE_NEWNS
pub const MOUNT: u32 = 0x2_0000;
/// CLONE_NEWCGROUP
pub const CGROUP: u32 = 0x200_0000;
/// CLONE_NEWUTS
pub const UTS: u32 = 0x400_0000;
/// CLONE_NEWIPC
pub const IPC: u32 = 0x800_0000;
/// CLONE_NEWUSER
pub const USER: u32 = 0x1000_0000;
/// CLONE_NEWPID
pub const PID: u32 = 0x2000_0000;
/// CLONE_NEWNET
pub const NETWORK: u32 = 0x4000_0000;

/// The CLONE_NEW… flag of a kind of namespace.
pub fn flag(kind: LinuxNamespaceType) -> u32 {
    match kind {
        LinuxNamespaceType::Mount => MOUNT,
        LinuxNamespaceType::Cgroup => CGROUP,
        LinuxNamespaceType::Uts => UTS,
        LinuxNamespaceType::Ipc => IPC,
        LinuxNamespaceType::User => USER,
        LinuxNamespaceType::Pid => PID,
        LinuxNamespaceType::Network => NETWORK,
        LinuxNamespaceType::Time => TIME,
    }
}

/// The maps of a user namespace, as user_namespaces(7) takes them: a line `INSIDE OUTSIDE COUNT` each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMaps {
    /// /proc/PID/uid_map
    pub uids: String,
    /// /proc/PID/gid_map
    pub gids: String,
    /// setgroups(2) has to be given up first, because this process may only map its own group.
    pub deny_set_groups: bool,
    /// newuidmap(1) writes the users: this process may only map its own.
    pub uids_by_tool: bool,
    /// newgidmap(1) writes the groups.
    pub gids_by_tool: bool,
}

/// Who writes maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// Root of the namespace outside.
    Root,
    /// An ordinary user, by effective user and group.
    Ordinary {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

impl Writer {
    fn new(host: &Host) -> Self {
        if host.euid == 0 { Self::Root } else { Self::Ordinary { uid: host.euid, gid: host.egid } }
    }
}

impl IdMaps {
    /// Both maps as text, and who writes them: an ordinary user may map one id, its own.
    pub fn new(uids: &[LinuxIdMapping], gids: &[LinuxIdMapping], writer: Writer) -> Self {
        let only = |maps: &[LinuxIdMapping], own: u32| matches!(maps, [map] if (map.host_id(), map.size()) == (own, 1));
        let (own_user, own_group) = match writer {
            Writer::Root => (true, true),
            Writer::Ordinary { uid, gid } => (only(uids, uid), only(gids, gid)),
        };
        let text = |maps: &[LinuxIdMapping]| {
            maps.iter().fold(String::new(), |mut text, map| {
                // Writing to a String can't fail.
                let _infallible = writeln!(text, "{} {} {}", map.container_id(), map.host_id(), map.size());
                text
            })
        };
        Self {
            uids: text(uids),
            gids: text(gids),
            deny_set_groups: own_group && writer != Writer::Root,
            uids_by_tool: !own_user,
            gids_by_tool: !own_group,
        }
    }
}

/// A namespace to join: its flag and its place in `linux.namespaces`.
type Joined = (u32, usize);

/// The decided namespaces.
#[derive(Clone, Debug)]
pub struct Decided {
    new: u32,
    joined: Vec<Joined>,
    /// Maps of a new user namespace.
    pub id_maps: Option<IdMaps>,
    /// setgroups(2) will be allowed inside.
    pub can_set_groups: bool,
    /// The mount namespace is made of the rootfs alone, by init.
    pub mounts_of_rootfs: bool,
    /// The kernel enters a new time namespace by execve.
    time_by_exec: bool,
    /// The ids of a user namespace, new or joined.
    ids: Option<IdRanges>,
}

/// What is left to clone3 after the steps of [`Decided::enter`].
#[derive(Clone, Copy, Debug)]
pub struct Late {
    /// CLONE_NEW… flags of the clone.
    pub clone_flags: u32,
}

impl Decided {
    /// Decides, and refuses what can't be.
    pub fn new(
        spec: &Spec,
        linux: &Linux,
        host: &Host,
        facts: &Facts,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        let (mut new, mut joined) = (0, Vec::new());
        for (n, namespace) in linux.namespaces.iter().flatten().enumerate() {
            let kind = flag(namespace.typ());
            if new & kind != 0 || joined.iter().any(|(known, _)| *known == kind) {
                bail!(
                    "malformed spec file: duplicated ns {{{:?} {:?}}}",
                    namespace.typ().to_string(),
                    namespace.path()
                );
            }
            match facts.namespaces.get(n).copied().flatten() {
                Some(_) => joined.push((kind, n)),
                None => new |= kind,
            }
        }
        let mut decided = Self {
            new,
            joined,
            id_maps: None,
            can_set_groups: true,
            mounts_of_rootfs: false,
            time_by_exec: host.time_namespace_by_exec(),
            ids: None,
        };
        decided.ids = decided.map_ids(linux, host, facts, warnings)?;
        decided.check(spec, linux)?;
        Ok(decided)
    }

    fn map_ids(
        &mut self,
        linux: &Linux,
        host: &Host,
        facts: &Facts,
        warnings: &mut Vec<String>,
    ) -> Result<Option<IdRanges>> {
        if !self.has(USER) {
            return Ok(None);
        }
        let uids = linux.uid_mappings.clone().unwrap_or_default();
        let gids = linux.gid_mappings.clone().unwrap_or_default();
        if !self.is_new(USER) {
            let real = &facts.joined_maps;
            if !(uids.is_empty() && gids.is_empty()) {
                if !(same(&uids, &real.uids) && same(&gids, &real.gids)) {
                    bail!(
                        "user namespaces enabled, but both namespace path and non-matching mapping specified -- you \
                         may only provide one"
                    );
                }
                warnings.push(
                    "config.json has both a userns path to join and a matching userns mapping specified -- you may \
                     only provide one"
                        .into(),
                );
            }
            return Ok(Some(real.clone()));
        }
        check_maps(&uids, "linux.uidMappings")?;
        check_maps(&gids, "linux.gidMappings")?;
        if uids.is_empty() {
            bail!("user namespaces enabled, but no uid mappings found");
        }
        if gids.is_empty() {
            bail!("user namespaces enabled, but no gid mappings found");
        }
        let maps = IdMaps::new(&uids, &gids, Writer::new(host));
        self.can_set_groups = !maps.deny_set_groups && host.set_groups;
        self.id_maps = Some(maps);
        Ok(Some(IdRanges { uids, gids }))
    }

    fn check(&self, spec: &Spec, linux: &Linux) -> Result<()> {
        let set = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
        if set(&spec.hostname) && !self.has(UTS) {
            bail!("unable to set hostname without a private UTS namespace");
        }
        if set(&spec.domainname) && !self.has(UTS) {
            bail!("unable to set domainname without a private UTS namespace");
        }
        let hidden = [&linux.masked_paths, &linux.readonly_paths];
        if hidden.iter().any(|paths| paths.as_ref().is_some_and(|paths| !paths.is_empty()))
            && !self.has(MOUNT)
        {
            bail!("unable to restrict sys entries without a private MNT namespace");
        }
        if linux.time_offsets.as_ref().is_some_and(|offsets| !offsets.is_empty()) && !self.is_new(TIME) {
            bail!("time namespace offsets specified, but time namespace isn't enabled in the config");
        }
        Ok(())
    }

    /// Made anew or joined.
    pub fn has(&self, kind: u32) -> bool {
        self.kinds() & kind != 0
    }

    /// Made anew.
    pub fn is_new(&self, kind: u32) -> bool {
        self.new & kind != 0
    }

    /// Joined by path: its place in `linux.namespaces`.
    pub fn joined(&self, kind: u32) -> Option<usize> {
        self.joined.iter().find(|(known, _)| *known == kind).map(|(_, place)| *place)
    }

    /// All that are made anew or joined.
    pub fn kinds(&self) -> u32 {
        self.joined.iter().fold(self.new, |kinds, (kind, _)| kinds | kind)
    }

    /// Whether a user inside is one outside; always, where there is no user namespace.
    pub fn maps_uid(&self, uid: u32) -> bool {
        self.outside(uid).is_some()
    }

    /// The same for a group.
    pub fn maps_gid(&self, gid: u32) -> bool {
        self.ids.as_ref().is_none_or(|ids| outside(&ids.gids, gid).is_some())
    }

    /// The user outside that `uid` inside is.
    pub fn outside(&self, uid: u32) -> Option<u32> {
        self.ids.as_ref().map_or(Some(uid), |ids| outside(&ids.uids, uid))
    }

    /// User and group outside of whoever is 0 inside; of nobody, the machine's root.
    pub fn root_outside(&self) -> (u32, u32) {
        let ids = self.ids.as_ref();
        let root = |maps: fn(&IdRanges) -> &[LinuxIdMapping]| ids.and_then(|ids| outside(maps(ids), 0));
        (root(|ids| &ids.uids).unwrap_or(0), root(|ids| &ids.gids).unwrap_or(0))
    }

    /// The user namespace must come first (it is joined), or after what is joined (it is new): then init makes the rest.
    fn by_init(&self) -> bool {
        self.joined(USER).is_some() || (self.is_new(USER) && !self.joined.is_empty())
    }

    /// What clone3 makes.
    pub fn by_clone(&self, placed_later: bool) -> u32 {
        let by_clone = if self.by_init() { 0 } else { self.new & !TIME };
        let by_clone = if self.mounts_of_rootfs { by_clone & !MOUNT } else { by_clone };
        let by_clone = if placed_later { by_clone & !CGROUP } else { by_clone };
        if self.is_born_into_time() { by_clone & !PID } else { by_clone }
    }

    /// Without entry by execve, a process has to be born into the time namespace; the pid namespace waits for it.
    fn is_born_into_time(&self) -> bool {
        self.is_new(TIME) && !self.time_by_exec
    }

    /// The steps into the namespaces, and what clone3 makes. A process that is put into its cgroup later waits for that
    /// before anything that would count for its limits, and shows itself that cgroup as the root.
    pub fn enter(&self, steps: &mut Steps, linux: &Linux, placed_later: bool) -> Result<Late> {
        let by_clone = self.by_clone(placed_later);
        let born_into_time = self.is_born_into_time();
        if by_clone & USER != 0 {
            steps.push(&Step::AwaitMaps {});
        }
        steps.push(&Step::Undumpable {});
        if placed_later && by_clone & USER == 0 {
            steps.push(&Step::AwaitGo {});
        }
        if by_clone & USER != 0 {
            self.become_root(steps);
        }
        self.join(steps);
        if self.is_new(USER) && by_clone & USER == 0 {
            steps.push(&Step::Unshare { kinds: USER });
            steps.push(&Step::AskMaps {});
        }
        if self.has(USER) && by_clone & USER == 0 {
            self.become_root(steps);
        }
        let by_init = self.new & !(by_clone | USER | PID);
        let by_init = if self.mounts_of_rootfs { by_init & !MOUNT } else { by_init };
        if by_init != 0 {
            steps.push(&Step::Unshare { kinds: by_init });
        }
        self.offset_clocks(steps, linux)?;
        let born_anew = self.new & PID & !by_clone;
        if born_anew != 0 || self.joined(PID).is_some() || born_into_time {
            steps.push(&Step::Fork { kinds: born_anew });
        }
        Ok(Late { clone_flags: by_clone })
    }

    fn become_root(&self, steps: &mut Steps) {
        steps.push(&Step::Become { uid: 0, gid: 0, set_groups: self.can_set_groups });
    }

    /// The user namespace last: it takes away what entering the others may need. What only its root may enter waits.
    fn join(&self, steps: &mut Steps) {
        let late = |(kind, _): &&Joined| *kind == USER;
        let deferrable = self.joined(USER).is_some();
        for (kind, place) in
            self.joined.iter().filter(|joined| !late(joined)).chain(self.joined.iter().filter(late))
        {
            let descriptor = steps.slot(Slot::Namespace(*place));
            steps.push(&Step::Join { kinds: *kind, descriptor, deferrable: deferrable && *kind != USER });
        }
    }

    fn offset_clocks(&self, steps: &mut Steps, linux: &Linux) -> Result<()> {
        let mut lines = String::new();
        for (clock, offset) in linux.time_offsets.iter().flatten() {
            if !["monotonic", "boottime"].contains(&clock.as_str()) {
                bail!("linux.timeOffsets: {clock:?} is not a clock that can be offset (monotonic, boottime)");
            }
            let (seconds, nanos) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
            if nanos > 999_999_999 {
                bail!("linux.timeOffsets.{clock}.nanosecs: {nanos} is more than 999999999");
            }
            let _infallible = writeln!(lines, "{clock} {seconds} {nanos}");
        }
        if !lines.is_empty() {
            steps.push(&Step::TimeOffsets { lines: lines.as_bytes() });
        }
        Ok(())
    }

    /// Host and domain name.
    pub fn names(&self, steps: &mut Steps, spec: &Spec) -> Result<()> {
        if let Some(name) = spec.hostname.as_deref().filter(|name| !name.is_empty()) {
            steps.push(&Step::Hostname { name: name.as_bytes() });
        }
        if let Some(name) = spec.domainname.as_deref().filter(|name| !name.is_empty()) {
            steps.push(&Step::Domainname { name: name.as_bytes() });
        }
        Ok(())
    }
}

/// The id outside that an id inside is.
fn outside(maps: &[LinuxIdMapping], id: u32) -> Option<u32> {
    let place = |map: &LinuxIdMapping| id.checked_sub(map.container_id()).filter(|n| *n < map.size());
    maps.iter().find_map(|map| map.host_id().checked_add(place(map)?))
}

/// In whatever order.
fn same(one: &[LinuxIdMapping], other: &[LinuxIdMapping]) -> bool {
    let sorted = |maps: &[LinuxIdMapping]| {
        let mut maps = maps.to_vec();
        maps.sort_by_key(|map| (map.container_id(), map.host_id(), map.size()));
        maps
    };
    sorted(one) == sorted(other)
}

/// What the kernel would refuse without saying which: more than 340 lines, empty or overlapping ranges.
fn check_maps(maps: &[LinuxIdMapping], place: &str) -> Result<()> {
    if maps.len() > 340 {
        bail!("{place}: {} mappings, the kernel takes at most 340", maps.len());
    }
    for (n, map) in maps.iter().enumerate() {
        let end = |start: u32| start.checked_add(map.size());
        if map.size() == 0 || end(map.container_id()).is_none() || end(map.host_id()).is_none() {
            bail!("{place}[{n}]: size {} does not fit", map.size());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(path: &str, first: u32, facts: Facts) -> Result<Decided> {
        let host = Host { euid: 0, ..Host::probe(false)? };
        let map = format!(r#"[{{"containerID":0,"hostID":{first},"size":10}}]"#);
        let namespaces = format!(r#"[{{"type":"user"{path}}}]"#);
        let text = format!(r#"{{"namespaces":{namespaces},"uidMappings":{map},"gidMappings":{map}}}"#);
        let linux: Linux = serde_json::from_str(&text).unwrap();
        Decided::new(&Spec::default(), &linux, &host, &facts, &mut Vec::new())
    }

    /// A fuzzer's find: the cgroup of such a container was to be given to a user whose number wrapped around.
    #[test]
    fn maps_beyond_the_last_id_are_refused() {
        let outside = |first: u32| decided("", first, Facts { namespaces: vec![None], ..Facts::default() });
        assert_eq!(outside(1000).unwrap().outside(9), Some(1009));
        assert_eq!(outside(u32::MAX - 10).unwrap().outside(9), Some(u32::MAX - 1));
        let error = outside(u32::MAX).unwrap_err().to_string();
        assert_eq!(error, "linux.uidMappings[0]: size 10 does not fit");
    }

    #[test]
    fn of_a_joined_namespace_only_its_own_maps_are_believed() {
        let map = |first: u32| serde_json::from_str(&format!(r#"[{{"hostID":{first},"size":10}}]"#)).unwrap();
        let decided = |first: u32, real: u32| {
            let joined_maps = IdRanges { uids: map(real), gids: map(real) };
            let facts = Facts { namespaces: vec![Some(1)], joined_maps, ..Facts::default() };
            decided(r#","path":"/ns/user""#, first, facts)
        };
        let right = decided(1000, 1000).unwrap();
        assert_eq!((right.outside(9), right.outside(10), right.maps_gid(10)), (Some(1009), None, false));
        // What the kernel shows of ids that this process has no names for.
        assert_eq!(decided(u32::MAX, u32::MAX).unwrap().outside(1), None);
        let error = decided(1000, 2000).unwrap_err().to_string();
        assert!(error.contains("non-matching mapping specified"), "{error}");
    }
}
