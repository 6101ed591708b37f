//! The processors that a process may run on. A container's own process gets every one that its cgroup allows, whatever
//! the caller was confined to; one that joins it gets what `process.execCPUAffinity` says (config.md).

use super::list;
use super::steps::{Steps, words};
use crate::error::{Context, Result};
use crate::spec::CpuAffinity;
use pintle_init::order::{Numbers, Step};

/// Where a process runs, decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// Where the parent runs while it makes the process.
    pub initial: Option<Vec<u32>>,
    last: Last,
}

/// Where the process runs once it is in its cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Last {
    /// Everywhere that the cgroup allows.
    Everywhere,
    /// Where it was born: the kernel says what of it the cgroup allows.
    AsBorn,
    /// There.
    On(Vec<u32>),
}

impl Decided {
    /// A container's own process.
    pub fn of_container() -> Self {
        Self { initial: None, last: Last::Everywhere }
    }

    /// A process that joins a container.
    ///
    /// # Errors
    /// Lists that are none, in runc's words.
    pub fn of_exec(affinity: Option<&CpuAffinity>) -> Result<Self> {
        let Some(affinity) = affinity else { return Ok(Self::of_container()) };
        let members = |list: &Option<String>| list::members(list.as_deref().unwrap_or_default());
        let initial = members(&affinity.initial).context("bad CPUAffinity.Initial")?;
        let last = match (members(&affinity.r#final).context("bad CPUAffinity.Final")?, &initial) {
            (Some(processors), _) => Last::On(processors),
            (None, Some(_)) => Last::AsBorn,
            (None, None) => Last::Everywhere,
        };
        Ok(Self { initial, last })
    }

    /// The step to it, before anything else takes time on other processors.
    pub fn run_on(&self, steps: &mut Steps) {
        let processors = match &self.last {
            Last::Everywhere => Vec::new(),
            Last::AsBorn => return,
            Last::On(processors) => words(processors.iter().copied()),
        };
        steps.push(&Step::Affinity { processors: Numbers(&processors) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(json: &str) -> Result<Decided> {
        Decided::of_exec(Some(&serde_json::from_str(json).unwrap()))
    }

    #[test]
    fn without_a_final_set_a_process_stays_where_it_was_born() {
        let everywhere = Decided::of_container();
        let at = |initial: Option<u32>, last| Decided { initial: initial.map(|n| vec![n]), last };
        for (json, expect) in [
            ("{}", everywhere.clone()),
            (r#"{"initial":"","final":null}"#, everywhere),
            (r#"{"initial":"1"}"#, at(Some(1), Last::AsBorn)),
            (r#"{"final":"2-3"}"#, at(None, Last::On(vec![2, 3]))),
            (r#"{"initial":"1","final":"2"}"#, at(Some(1), Last::On(vec![2]))),
        ] {
            assert_eq!(decided(json).unwrap(), expect, "{json}");
        }
    }

    #[test]
    fn a_wrong_list_is_told_with_its_name() {
        let error = |json| decided(json).unwrap_err().to_string();
        assert_eq!(error(r#"{"initial":" "}"#), "bad CPUAffinity.Initial: no members found in set \" \"");
        assert_eq!(error(r#"{"initial":"1","final":"3-2"}"#), "bad CPUAffinity.Final: invalid range: 3-2");
    }
}
