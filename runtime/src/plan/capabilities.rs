//! The five capability sets as bits. A name that nobody knows, or that this process can't give, is dropped with a
//! warning, as runc does. capabilities(7)

use crate::spec::Capabilities;

/// The decided sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sets {
    /// Bounding.
    pub bounding: u64,
    /// Effective.
    pub effective: u64,
    /// Permitted.
    pub permitted: u64,
    /// Inheritable.
    pub inheritable: u64,
    /// Ambient, never more than what is permitted and inheritable.
    pub ambient: u64,
}

/// The bit of `CAP_NAME`, if such a capability exists.
pub fn bit(name: &str) -> Option<u64> {
    let capability: caps::Capability = name.parse().ok()?;
    Some(capability.bitmask())
}

impl Sets {
    /// Reads the names; what is not in `available` goes, and is told in `warnings`.
    pub fn new(capabilities: Option<&Capabilities>, available: u64, warnings: &mut Vec<String>) -> Self {
        let Some(written) = capabilities else { return Self::default() };
        let mut ignored = Vec::new();
        let mut read = |names: &Option<Vec<String>>| {
            names.iter().flatten().fold(0, |set, name| match bit(name).filter(|bit| bit & available != 0) {
                Some(bit) => set | bit,
                None => {
                    ignored.push(name.clone());
                    set
                }
            })
        };
        let mut sets = Self {
            bounding: read(&written.bounding),
            effective: read(&written.effective),
            permitted: read(&written.permitted),
            inheritable: read(&written.inheritable),
            ambient: read(&written.ambient),
        };
        // capset(2) refuses an effective capability that is not permitted; the kernel never raises such an ambient one.
        let raisable = sets.permitted & sets.inheritable;
        let mut lost: Vec<_> =
            caps::all().into_iter().filter(|one| sets.ambient & !raisable & one.bitmask() != 0).collect();
        lost.sort_by_key(caps::Capability::bitmask);
        warnings.extend(
            lost.iter().map(|one| format!("can't raise ambient capability {one}: operation not permitted")),
        );
        sets.ambient &= raisable;
        if !ignored.is_empty() {
            ignored.sort();
            ignored.dedup();
            warnings.push(format!("ignoring unknown or unavailable capabilities: [{}]", ignored.join(" ")));
        }
        sets
    }

    /// Adds what `exec --cap` names: never to the inheritable set (CVE-2022-29162), to the ambient one only where the
    /// container's own process has an inheritable set that allows it.
    pub fn add(&mut self, extra: u64) {
        self.bounding |= extra;
        self.effective |= extra;
        self.permitted |= extra;
        self.ambient |= extra & self.inheritable;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_and_unavailable_names_are_dropped_and_told() {
        let names = |list: &[&str]| Some(list.iter().map(ToString::to_string).collect());
        let written = Capabilities {
            bounding: names(&["CAP_KILL", "CAP_FOO", "cap_chown"]),
            permitted: names(&["CAP_KILL", "CAP_SYS_ADMIN"]),
            ambient: names(&["CAP_KILL"]),
            ..Capabilities::default()
        };
        let mut warnings = Vec::new();
        let sets = Sets::new(Some(&written), 1 << 5, &mut warnings);
        assert_eq!((sets.bounding, sets.permitted, sets.ambient), (1 << 5, 1 << 5, 0));
        assert_eq!(
            warnings,
            [
                "can't raise ambient capability CAP_KILL: operation not permitted",
                "ignoring unknown or unavailable capabilities: [CAP_FOO CAP_SYS_ADMIN cap_chown]"
            ]
        );
    }
}
