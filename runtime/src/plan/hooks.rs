//! The six kinds of hooks: who runs each, where, and with which environment (config.md, "POSIX-platform Hooks").

use super::steps::{Steps, Texts, c_string};
use crate::bail;
use crate::error::Result;
use crate::spec::{Hook, Hooks};
use pintle_init::order::Step;

/// Hooks that the runtime runs in its own namespaces.
#[derive(Clone, Debug, Default)]
pub struct OfRuntime {
    /// `prestart`, obsolete but used.
    pub prestart: Vec<Hook>,
    /// `createRuntime`
    pub create_runtime: Vec<Hook>,
    /// `poststart`
    pub poststart: Vec<Hook>,
    /// `poststop`
    pub poststop: Vec<Hook>,
    /// init runs startContainer hooks, which read the state too.
    pub has_start_container: bool,
}

/// All hooks, checked.
#[derive(Clone, Debug, Default)]
pub struct Decided {
    /// For the parent.
    pub of_runtime: OfRuntime,
    create_container: Vec<Hook>,
    start_container: Vec<Hook>,
}

impl Decided {
    /// Checks and sorts them; hooks of the runtime without an environment get `environment`.
    pub fn new(hooks: Option<&Hooks>, environment: &[String]) -> Result<Self> {
        let Some(hooks) = hooks else { return Ok(Self::default()) };
        // The field is deprecated in the specification and in the crate, and still in use by engines.
        #[allow(deprecated)]
        let prestart = hooks.prestart();
        let of_runtime = |list: &Option<Vec<Hook>>, kind| -> Result<Vec<Hook>> {
            let mut list = checked(list, kind)?;
            for hook in list.iter_mut().filter(|hook| hook.env().is_none()) {
                hook.set_env(Some(environment.to_vec()));
            }
            Ok(list)
        };
        Ok(Self {
            of_runtime: OfRuntime {
                prestart: of_runtime(prestart, "prestart")?,
                create_runtime: of_runtime(hooks.create_runtime(), "createRuntime")?,
                poststart: of_runtime(hooks.poststart(), "poststart")?,
                poststop: of_runtime(hooks.poststop(), "poststop")?,
                has_start_container: hooks.start_container().as_ref().is_some_and(|list| !list.is_empty()),
            },
            create_container: checked(hooks.create_container(), "createContainer")?,
            start_container: checked(hooks.start_container(), "startContainer")?,
        })
    }

    /// The parent has something to do before the rootfs is entered: run hooks, or hand over the state for init's.
    pub fn any_of_runtime(&self) -> bool {
        let before = [&self.of_runtime.prestart, &self.of_runtime.create_runtime, &self.create_container];
        before.iter().any(|hooks| !hooks.is_empty())
    }

    /// createContainer: init's children, still with the host's view of paths.
    pub fn create_container(&self, steps: &mut Steps) -> Result<()> {
        push(steps, &self.create_container, "createContainer", None)
    }

    /// startContainer: as the user's program would run, with its environment unless they bring one.
    pub fn start_container(&self, steps: &mut Steps, environment: &Texts) -> Result<()> {
        push(steps, &self.start_container, "startContainer", Some(environment))
    }
}

fn checked(list: &Option<Vec<Hook>>, kind: &str) -> Result<Vec<Hook>> {
    let list = list.clone().unwrap_or_default();
    for (n, hook) in list.iter().enumerate() {
        if !hook.path().is_absolute() {
            bail!("hooks.{kind}[{n}].path: {:?} is not absolute", hook.path());
        }
        if hook.timeout().is_some_and(|seconds| seconds <= 0) {
            bail!("hooks.{kind}[{n}].timeout: must be greater than zero");
        }
    }
    Ok(list)
}

fn push(steps: &mut Steps, hooks: &[Hook], kind: &str, inherited: Option<&Texts>) -> Result<()> {
    let nothing = Texts::default();
    for (n, hook) in hooks.iter().enumerate() {
        let place = format!("hooks.{kind}[{n}]");
        let path = hook.path().to_string_lossy();
        let arguments = hook.args().clone().unwrap_or_else(|| vec![path.to_string()]);
        let own = hook
            .env()
            .as_ref()
            .map(|list| Texts::new(list.iter().map(String::as_str), &format!("{place}.env")));
        let own = own.transpose()?;
        steps.push(&Step::Hook {
            name: &c_string(&format!("{kind} hook #{n}"), &place)?,
            path: &c_string(&path, &format!("{place}.path"))?,
            arguments: Texts::new(arguments.iter().map(String::as_str), &format!("{place}.args"))?.strings(),
            environment: own.as_ref().or(inherited).unwrap_or(&nothing).strings(),
            home: own.is_none() && inherited.is_some(),
            timeout: hook.timeout().and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0),
        });
    }
    Ok(())
}
