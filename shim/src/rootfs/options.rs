//! fstab(5)'s words, as containerd's snapshotters send them: flags, what the file system itself is told, and what is done besides.

use pintle::error::{Error, Result};
use pintle_sys::mount as attribute;
use pintle_sys::mount::Attributes;
use rustix::mount::{MountFlags, MountPropagationFlags};

/// What mount(2) takes as data, in bytes: a page with its end.
const LONGEST_DATA: usize = 4095;

/// What the words come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    pub flags: MountFlags,
    pub bind: bool,
    pub recursive: bool,
    pub remount: bool,
    /// The source is a file, to be put behind a loop device.
    pub looped: bool,
    pub propagation: Option<MountPropagationFlags>,
    /// `INSIDE:OUTSIDE:COUNT,…` for users and groups: whose files those on disk seem to be.
    pub maps: Option<[String; 2]>,
    /// For the file system.
    pub data: Vec<String>,
}

impl Parsed {
    /// Reads them; the last word of a kind counts.
    ///
    /// # Errors
    /// A map of users without one of groups, or the other way round.
    pub fn of(options: &[String]) -> Result<Self> {
        let mut parsed = Self {
            flags: MountFlags::empty(),
            bind: false,
            recursive: false,
            remount: false,
            looped: false,
            propagation: None,
            maps: None,
            data: Vec::new(),
        };
        let [mut users, mut groups] = [None, None];
        for option in options {
            match option.as_str() {
                "defaults" => {}
                "bind" => parsed.bind = true,
                "rbind" => (parsed.bind, parsed.recursive) = (true, true),
                "remount" => parsed.remount = true,
                "loop" => parsed.looped = true,
                word => match (flag(word), propagation(word), word.split_once('=')) {
                    (Some((flag, set)), ..) => parsed.flags.set(flag, set),
                    (_, Some(found), _) => parsed.propagation = Some(found),
                    (.., Some(("uidmap", map))) => users = Some(map.to_owned()),
                    (.., Some(("gidmap", map))) => groups = Some(map.to_owned()),
                    _ => parsed.data.push(word.to_owned()),
                },
            }
        }
        parsed.maps = match (users, groups) {
            (Some(users), Some(groups)) => Some([users, groups]),
            (None, None) => None,
            _ => return Err(Error::new("uidmap and gidmap have to be given together")),
        };
        Ok(parsed)
    }

    /// As mount(2) takes it.
    pub fn text(&self) -> String {
        self.data.join(",")
    }

    /// mount(2) takes it.
    pub fn fits(&self) -> bool {
        self.text().len() <= LONGEST_DATA
    }

    /// What of the flags belongs to the mount, and not to the file system.
    pub fn attributes(&self) -> Attributes {
        let pairs = [
            (MountFlags::RDONLY, attribute::RDONLY),
            (MountFlags::NOSUID, attribute::NOSUID),
            (MountFlags::NODEV, attribute::NODEV),
            (MountFlags::NOEXEC, attribute::NOEXEC),
            (MountFlags::NOATIME, attribute::NOATIME),
            (MountFlags::STRICTATIME, attribute::STRICTATIME),
            (MountFlags::NODIRATIME, attribute::NODIRATIME),
        ];
        let set =
            pairs.iter().filter(|(flag, _)| self.flags.contains(*flag)).fold(0, |all, (_, bit)| all | bit);
        let times =
            MountFlags::NOATIME | MountFlags::STRICTATIME | MountFlags::NODIRATIME | MountFlags::RELATIME;
        let mut clear = attribute::RDONLY | attribute::NOSUID | attribute::NODEV | attribute::NOEXEC;
        if self.flags.intersects(times) {
            clear |= attribute::ATIME | attribute::NODIRATIME;
        }
        Attributes { set, clear, ..Attributes::default() }
    }
}

/// A flag, and whether the word sets it.
fn flag(word: &str) -> Option<(MountFlags, bool)> {
    Some(match word {
        "ro" => (MountFlags::RDONLY, true),
        "rw" => (MountFlags::RDONLY, false),
        "nosuid" => (MountFlags::NOSUID, true),
        "suid" => (MountFlags::NOSUID, false),
        "nodev" => (MountFlags::NODEV, true),
        "dev" => (MountFlags::NODEV, false),
        "noexec" => (MountFlags::NOEXEC, true),
        "exec" => (MountFlags::NOEXEC, false),
        "sync" => (MountFlags::SYNCHRONOUS, true),
        "async" => (MountFlags::SYNCHRONOUS, false),
        "dirsync" => (MountFlags::DIRSYNC, true),
        "mand" => (MountFlags::PERMIT_MANDATORY_FILE_LOCKING, true),
        "nomand" => (MountFlags::PERMIT_MANDATORY_FILE_LOCKING, false),
        "noatime" => (MountFlags::NOATIME, true),
        "atime" => (MountFlags::NOATIME, false),
        "nodiratime" => (MountFlags::NODIRATIME, true),
        "diratime" => (MountFlags::NODIRATIME, false),
        "relatime" => (MountFlags::RELATIME, true),
        "norelatime" => (MountFlags::RELATIME, false),
        "strictatime" => (MountFlags::STRICTATIME, true),
        "nostrictatime" => (MountFlags::STRICTATIME, false),
        _ => return None,
    })
}

fn propagation(word: &str) -> Option<MountPropagationFlags> {
    let (word, recursive) = match word.strip_prefix('r') {
        Some(rest) => (rest, MountPropagationFlags::REC),
        None => (word, MountPropagationFlags::empty()),
    };
    let kind = match word {
        "private" => MountPropagationFlags::PRIVATE,
        "shared" => MountPropagationFlags::SHARED,
        "slave" => MountPropagationFlags::DOWNSTREAM,
        "unbindable" => MountPropagationFlags::UNBINDABLE,
        _ => return None,
    };
    Some(kind | recursive)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Parsed {
        Parsed::of(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn options_are_flags_or_data() {
        let found = parsed(&["ro", "nosuid", "suid", "lowerdir=/a:/b", "rslave", "index=off", "defaults"]);
        assert_eq!(found.flags, MountFlags::RDONLY);
        assert_eq!(found.text(), "lowerdir=/a:/b,index=off");
        assert_eq!(found.propagation, Some(MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC));
        assert!(!found.bind && !found.looped && found.fits());
        let found = parsed(&["rbind", "ro", "rw"]);
        assert!(found.bind && found.recursive && found.flags.is_empty());
        let found = parsed(&["loop", "uidmap=0:1:2,3:4:5", "gidmap=0:1:9"]);
        assert!(found.looped && found.data.is_empty());
        assert_eq!(found.maps, Some(["0:1:2,3:4:5".to_owned(), "0:1:9".to_owned()]));
        let half = Parsed::of(&["gidmap=0:1:9".to_owned()]).unwrap_err().to_string();
        assert_eq!(half, "uidmap and gidmap have to be given together");
    }

    #[test]
    fn a_mount_has_the_attributes_that_were_asked_for() {
        let found = parsed(&["ro", "nodev", "noatime"]).attributes();
        assert_eq!(found.set, attribute::RDONLY | attribute::NODEV | attribute::NOATIME);
        assert_ne!(found.clear & attribute::ATIME, 0);
        // Nothing said of access times leaves them as they are.
        assert_eq!(parsed(&["ro"]).attributes().clear & attribute::ATIME, 0);
    }
}
