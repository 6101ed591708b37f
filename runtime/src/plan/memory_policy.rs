//! `linux.memoryPolicy`: from which NUMA nodes the memory of a container's processes comes, set_mempolicy(2). Which
//! nodes there are, and which flags go with which mode, is the kernel's to say.

use super::list;
use super::steps::{Steps, words};
use crate::bail;
use crate::error::{Context, Result};
use crate::spec::MemoryPolicy;
use pintle_init::order::{Numbers, Step};

/// How many nodes a mode takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Nodes {
    None,
    Some,
    Any,
}

/// The modes by name, sorted, as linux/mempolicy.h numbers them.
const MODES: [(&str, u32, Nodes); 7] = [
    ("MPOL_BIND", 2, Nodes::Some),
    ("MPOL_DEFAULT", 0, Nodes::None),
    ("MPOL_INTERLEAVE", 3, Nodes::Some),
    ("MPOL_LOCAL", 4, Nodes::None),
    ("MPOL_PREFERRED", 1, Nodes::Any),
    ("MPOL_PREFERRED_MANY", 5, Nodes::Some),
    ("MPOL_WEIGHTED_INTERLEAVE", 6, Nodes::Some),
];

/// The flags by name, sorted.
const FLAGS: [(&str, u32); 3] = [
    ("MPOL_F_NUMA_BALANCING", 1 << 13),
    ("MPOL_F_RELATIVE_NODES", 1 << 14),
    ("MPOL_F_STATIC_NODES", 1 << 15),
];

/// The names of the modes, sorted.
pub fn modes() -> impl Iterator<Item = &'static str> {
    MODES.iter().map(|(name, ..)| *name)
}

/// The names of the flags, sorted.
pub fn flags() -> impl Iterator<Item = &'static str> {
    FLAGS.iter().map(|(name, _)| *name)
}

/// A policy, decided.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Decided {
    /// The mode with its flags.
    mode: u32,
    nodes: Vec<u32>,
}

impl Decided {
    /// Decides.
    ///
    /// # Errors
    /// Names that nobody knows, a list that is none, nodes for a mode without: in runc's words.
    pub fn new(policy: &MemoryPolicy) -> Result<Self> {
        let name = policy.mode.as_deref().unwrap_or_default();
        let Some((_, mut mode, takes)) = MODES.into_iter().find(|(known, ..)| *known == name) else {
            bail!("invalid memory policy mode {name:?}");
        };
        let text = policy.nodes.as_deref().unwrap_or_default();
        let nodes = list::members(text).with_context(|| format!("invalid memory policy nodes {text:?}"))?;
        let nodes = nodes.unwrap_or_default();
        for flag in policy.flags.iter().flatten() {
            let Some((_, bit)) = FLAGS.into_iter().find(|(known, _)| known == flag) else {
                bail!("invalid memory policy flag {flag:?}");
            };
            mode |= bit;
        }
        match takes {
            Nodes::None if !nodes.is_empty() => {
                bail!("memory policy mode requires 0 nodes but got {}", nodes.len())
            }
            Nodes::Some if nodes.is_empty() => {
                bail!("memory policy mode requires at least one node but got 0")
            }
            _ => Ok(Self { mode, nodes }),
        }
    }

    /// The step to it. It holds for what is allocated from then on, and over the execve.
    pub fn set(&self, steps: &mut Steps) {
        let nodes = words(self.nodes.iter().copied());
        steps.push(&Step::MemoryPolicy { mode: self.mode, nodes: Numbers(&nodes) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(json: &str) -> Result<Decided> {
        Decided::new(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn names_become_the_kernels_numbers() {
        for (json, mode, nodes) in [
            (r#"{"mode":"MPOL_DEFAULT"}"#, 0, vec![]),
            (r#"{"mode":"MPOL_PREFERRED","nodes":""}"#, 1, vec![]),
            (r#"{"mode":"MPOL_BIND","nodes":"0-1, 3","flags":null}"#, 2, vec![0, 1, 3]),
            (r#"{"mode":"MPOL_BIND","nodes":"0","flags":["MPOL_F_STATIC_NODES"]}"#, 0x8002, vec![0]),
            (
                r#"{"mode":"MPOL_PREFERRED_MANY","nodes":"7","flags":["MPOL_F_NUMA_BALANCING","MPOL_F_RELATIVE_NODES"]}"#,
                0x6005,
                vec![7],
            ),
            (r#"{"mode":"MPOL_WEIGHTED_INTERLEAVE","nodes":"1"}"#, 6, vec![1]),
        ] {
            assert_eq!(decided(json).unwrap(), Decided { mode, nodes }, "{json}");
        }
    }

    /// Each sentence as runc 1.4.3 says it.
    #[test]
    fn what_can_not_be_is_told_in_runcs_words() {
        for (json, expect) in [
            ("{}", "invalid memory policy mode \"\""),
            (r#"{"mode":"mpol_bind","nodes":"x"}"#, "invalid memory policy mode \"mpol_bind\""),
            (
                r#"{"mode":"MPOL_BIND","nodes":"x","flags":["X"]}"#,
                "invalid memory policy nodes \"x\": strconv.ParseUint: parsing \"x\": invalid syntax",
            ),
            (r#"{"mode":"MPOL_BIND","flags":["X"]}"#, "invalid memory policy flag \"X\""),
            (r#"{"mode":"MPOL_BIND"}"#, "memory policy mode requires at least one node but got 0"),
            (r#"{"mode":"MPOL_LOCAL","nodes":"0-1"}"#, "memory policy mode requires 0 nodes but got 2"),
        ] {
            assert_eq!(decided(json).unwrap_err().to_string(), expect, "{json}");
        }
    }

    #[test]
    fn names_are_sorted() {
        assert!(modes().is_sorted() && flags().is_sorted());
    }
}
