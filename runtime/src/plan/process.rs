//! The user's program: who it is, what it may do, where it stands, how it is found. Shared by birth and exec.
//! config.md "Process", config-linux.md

use super::capabilities::Sets;
use super::namespaces::{self, Decided as Spaces};
use super::steps::{Slot, Steps, Texts, c_string, words};
use crate::bail;
use crate::error::{Result, phrase};
use crate::host::Host;
use crate::spec::{Linux, Process, Scheduler, SchedulerFlag, User};
use oci_spec::runtime as oci;
use pintle_init::order::{Numbers, Step};
use std::collections::BTreeMap;
use std::ffi::CString;

/// A limit for prlimit(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// The resource, setrlimit(2).
    pub resource: u32,
    /// Its name, for errors.
    pub name: &'static str,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// Who has to wait for whom before init becomes the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Init does all by itself, and only waits until the parent has done its own part: mostly long before.
    Init,
    /// The parent sets the limits, which a user namespace's root may not, or hands over the state for hooks.
    Parent,
}

/// crun's word for a container whose processes keep the caller's supplementary groups, such as one with a right to a
/// device (podman's `--group-add keep-groups`).
pub fn keeps_groups(annotations: &BTreeMap<String, String>) -> bool {
    annotations.get("run.oci.keep_original_groups").is_some_and(|value| value != "0")
}

/// What the container's user namespace and this machine allow a process.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Capabilities that can be given.
    pub capabilities: u64,
    /// setgroups(2) is allowed.
    pub set_groups: bool,
    /// The caller's supplementary groups stay; those of config.json are not set.
    pub keep_groups: bool,
    /// The machine runs SELinux.
    pub selinux: bool,
    /// The caller stays in the foreground.
    pub foreground: bool,
}

impl Bounds {
    /// Of a container to be born.
    pub fn new(host: &Host, spaces: &Spaces, keep_groups: bool, foreground: bool) -> Self {
        // A user namespace's root has them all.
        let capabilities = if spaces.has(namespaces::USER) { u64::MAX } else { host.capabilities };
        let set_groups = spaces.can_set_groups;
        Self { capabilities, set_groups, keep_groups, selinux: host.selinux, foreground }
    }
}

/// A process, decided.
#[derive(Clone, Debug)]
pub struct Decided {
    arguments: Texts,
    name: CString,
    candidates: Texts,
    environment: Texts,
    home_of: i64,
    cwd: CString,
    uid: u32,
    gid: u32,
    groups: Vec<u8>,
    set_groups: bool,
    umask: u32,
    /// The capability sets.
    pub capabilities: Sets,
    no_new_privileges: bool,
    apparmor: Option<String>,
    selinux: Option<String>,
    io_priority: Option<(u32, u32)>,
    scheduler: Option<Scheduler>,
    /// The program gets a terminal.
    pub terminal: bool,
    /// The caller stays and shares its own standard streams.
    pub foreground: bool,
    size: (u32, u32),
    /// Limits, set by the parent.
    pub rlimits: Vec<Rlimit>,
    /// /proc/PID/oom_score_adj
    pub oom_score_adj: Option<i32>,
}

impl Decided {
    /// Decides; `more` is added to the environment.
    pub fn new(
        process: &Process,
        bounds: Bounds,
        more: &[String],
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        let cwd = process.cwd.as_deref().unwrap_or_default();
        if cwd.is_empty() {
            bail!("{}", phrase::NO_CWD);
        }
        if !cwd.starts_with('/') {
            bail!("{}", phrase::RELATIVE_CWD);
        }
        let arguments = process.args.as_deref().unwrap_or_default();
        let Some(name) = arguments.first() else { bail!("{}", phrase::NO_ARGS) };
        let nobody = User::default();
        let user = process.user.as_ref().unwrap_or(&nobody);
        let uid = user.uid.unwrap_or(0);
        let environment = Environment::new(process.env.as_deref().unwrap_or_default(), more)?;
        let selinux = process.selinux_label.clone().filter(|label| !label.is_empty());
        if selinux.is_some() && !bounds.selinux {
            bail!("selinux label is specified in config, but selinux is disabled or not supported");
        }
        let groups = user.additional_gids.as_deref().unwrap_or_default();
        if !groups.is_empty() && !bounds.set_groups && !bounds.keep_groups {
            bail!("process.user.additionalGids: cannot set any additional groups in a rootless container");
        }
        let size = process.console_size.unwrap_or_default();
        Ok(Self {
            arguments: Texts::new(arguments.iter().map(String::as_str), "process.args")?,
            name: c_string(name, "process.args[0]")?,
            candidates: candidates(name, environment.path.as_deref())?,
            home_of: if environment.has_home { -1 } else { i64::from(uid) },
            environment: environment.texts,
            cwd: c_string(cwd, "process.cwd")?,
            uid,
            gid: user.gid.unwrap_or(0),
            groups: words(groups.iter().copied()),
            set_groups: bounds.set_groups,
            umask: user.umask.unwrap_or(0o022) & 0o7777,
            capabilities: Sets::new(process.capabilities.as_ref(), bounds.capabilities, warnings),
            no_new_privileges: process.no_new_privileges.unwrap_or(false),
            apparmor: process.apparmor_profile.clone().filter(|profile| !profile.is_empty()),
            selinux,
            io_priority: process.io_priority.as_ref().map(io_priority).transpose()?,
            scheduler: process.scheduler.clone().map(checked_scheduler).transpose()?,
            terminal: process.terminal.unwrap_or(false),
            foreground: bounds.foreground,
            size: (u32::from(size.height), u32::from(size.width)),
            rlimits: rlimits(process)?,
            oom_score_adj: oom_score_adj(process)?,
        })
    }

    /// The ids must exist in the container.
    pub fn check_ids(&self, spaces: &Spaces) -> Result<()> {
        if !spaces.maps_uid(self.uid) {
            bail!("process.user.uid: {} is not mapped in the container's user namespace", self.uid);
        }
        if !spaces.maps_gid(self.gid) {
            bail!("process.user.gid: {} is not mapped in the container's user namespace", self.gid);
        }
        Ok(())
    }

    /// The user inside.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// The environment, for hooks that bring none.
    pub fn environment(&self) -> &Texts {
        &self.environment
    }

    /// A security label has to be written to procfs.
    pub fn has_label(&self) -> bool {
        self.apparmor.is_some() || self.selinux.is_some()
    }

    /// The keys of the session keyring get a label, too.
    pub fn has_key_label(&self) -> bool {
        self.selinux.is_some()
    }

    /// A session keyring of its own, with the process's SELinux label.
    pub fn keyring(&self, steps: &mut Steps, id: &str) -> Result<()> {
        let name = c_string(&format!("_ses.{id}"), "id")?;
        let label = |steps: &mut Steps, value: &[u8]| {
            let attribute = c"thread-self/attr/keycreate";
            steps.push(&Step::Label { attribute, fallback: attribute, value });
        };
        let Some(context) = &self.selinux else {
            steps.push(&Step::Keyring { name: &name });
            return Ok(());
        };
        steps.push(&Step::Procfs {});
        label(steps, context.as_bytes());
        steps.push(&Step::Keyring { name: &name });
        // Of this keyring alone.
        label(steps, b"\0");
        Ok(())
    }

    /// The working directory is made in the rootfs, while it may still be written.
    pub fn make_cwd(&self, steps: &mut Steps) -> Result<()> {
        let path = c_string(&super::mounts::clean(&self.cwd.to_string_lossy()), "process.cwd")?;
        steps.push(&Step::MakeCwd { path: &path });
        Ok(())
    }

    /// A terminal, bound at /dev/console in a container's own /dev.
    /// Without a size in config.json it is as large as the caller's, `fallback` (rows, columns).
    pub fn console(&self, steps: &mut Steps, mount: bool, fallback: (u32, u32)) {
        if self.terminal {
            let socket = steps.slot(Slot::Console);
            let (rows, columns) = if self.size == (0, 0) { fallback } else { self.size };
            let keep_newlines = self.foreground;
            steps.push(&Step::Console { socket, mount, keep_newlines, rows, columns, uid: self.uid });
        }
    }

    /// What does not depend on who it is.
    pub fn attributes(&self, steps: &mut Steps, personality: Option<u32>) {
        steps.push(&Step::Umask { mask: self.umask });
        if self.no_new_privileges {
            steps.push(&Step::NoNewPrivileges {});
        }
        if let Some(scheduler) = &self.scheduler {
            steps.push(&scheduler_step(scheduler));
        }
        if let Some((class, level)) = self.io_priority {
            steps.push(&Step::IoPriority { class, level });
        }
        if let Some(domain) = personality {
            steps.push(&Step::Personality { domain });
        }
    }

    /// From the parent's last word to a program that is found: labels, filter, directory, identity. Without
    /// no_new_privs the filter needs CAP_SYS_ADMIN, so it comes before the capabilities go; with it, as late as can be.
    pub fn become_user(&self, steps: &mut Steps, sync: Sync, keep: u32, filter: Option<(&[u8], u32)>) {
        steps.push(&Step::CloseRest { keep });
        steps.push(if sync == Sync::Parent { &Step::Ready {} } else { &Step::AwaitGo {} });
        if sync == Sync::Init {
            // Before any filter: runc's init needs no call for them, either.
            for Rlimit { resource, soft, hard, .. } in &self.rlimits {
                steps.push(&Step::Rlimit { resource: *resource, soft: *soft, hard: *hard });
            }
        }
        let label = |steps: &mut Steps, attribute, fallback, value: &str| {
            steps.push(&Step::Label { attribute, fallback, value: value.as_bytes() });
        };
        if let Some(profile) = &self.apparmor {
            let value = format!("exec {profile}");
            label(steps, c"thread-self/attr/apparmor/exec", c"thread-self/attr/exec", &value);
        }
        if let Some(context) = &self.selinux {
            label(steps, c"thread-self/attr/exec", c"thread-self/attr/exec", context);
        }
        let seccomp = |steps: &mut Steps| {
            if let Some((program, flags)) = filter {
                let notify = flags & pintle_sys::seccomp::NEW_LISTENER != 0;
                steps.push(&Step::Seccomp { program, flags, notify });
            }
        };
        if !self.no_new_privileges {
            seccomp(steps);
        }
        steps.push(&Step::Cwd { path: &self.cwd });
        steps.push(&Step::Bounding { set: self.capabilities.bounding });
        steps.push(&Step::Stdio { uid: self.uid, only_pipes: self.foreground && !self.terminal });
        let groups = Numbers(&self.groups);
        steps.push(&Step::Identity { uid: self.uid, gid: self.gid, groups, set_groups: self.set_groups });
        steps.push(&Step::CwdAgain { path: &self.cwd });
        let Sets { effective, permitted, inheritable, ambient, .. } = self.capabilities;
        steps.push(&Step::Capabilities { effective, permitted, inheritable, ambient });
        let candidates = self.candidates.strings();
        steps.push(&Step::Lookup { name: &self.name, candidates, home_of: self.home_of });
        if self.no_new_privileges {
            seccomp(steps);
        }
    }

    /// The last step.
    pub fn execute(&self, steps: &mut Steps) {
        steps.push(&Step::Exec {
            arguments: self.arguments.strings(),
            environment: self.environment.strings(),
        });
    }
}

/// The environment, each name once.
struct Environment {
    texts: Texts,
    path: Option<String>,
    has_home: bool,
}

impl Environment {
    /// The last of several values wins, at its own place; an empty HOME counts as none.
    fn new(env: &[String], more: &[String]) -> Result<Self> {
        let mut kept: Vec<(&str, &str)> = Vec::with_capacity(env.len() + more.len());
        // Ordered, not hashed: a hasher's random seed would cost more than these few comparisons.
        let mut seen = std::collections::BTreeSet::new();
        let all: Vec<&String> = env.iter().chain(more).collect();
        for (n, variable) in all.iter().enumerate().rev() {
            let place = format!("process.env[{n}]");
            let Some((name, _)) = variable.split_once('=') else {
                bail!("{place}: invalid environment variable: missing '='");
            };
            if name.is_empty() {
                bail!("{place}: invalid environment variable: name cannot be empty");
            }
            if variable.contains('\0') {
                bail!("{place}: invalid environment variable {name:?}: contains nul byte (\\x00)");
            }
            if seen.insert(name) {
                kept.push((name, variable.as_str()));
            }
        }
        kept.reverse();
        let value = |wanted: &str| {
            let found = kept.iter().find(|(name, _)| *name == wanted);
            found.map(|(name, variable)| variable[name.len() + 1..].to_owned())
        };
        let (path, home) = (value("PATH"), value("HOME"));
        let has_home = home.is_some_and(|home| !home.is_empty());
        let kept = kept.iter().filter(|(name, _)| *name != "HOME" || has_home).map(|(_, variable)| *variable);
        Ok(Self { texts: Texts::new(kept, "process.env")?, path, has_home })
    }
}

/// Where execvp(3) would look. An empty element of PATH means the working directory, where runc does not look either.
fn candidates(name: &str, path: Option<&str>) -> Result<Texts> {
    if name.contains('/') {
        return Texts::new([name], "process.args");
    }
    let directories = path.unwrap_or_default().split(':').filter(|directory| directory.starts_with('/'));
    let files: Vec<String> =
        directories.filter(|_| !name.is_empty()).map(|directory| format!("{directory}/{name}")).collect();
    Texts::new(files.iter().map(String::as_str), "process.args")
}

fn oom_score_adj(process: &Process) -> Result<Option<i32>> {
    match process.oom_score_adj {
        Some(score) if !(-1000..=1000).contains(&score) => {
            bail!("process.oomScoreAdj: {score}: invalid argument, it is not between -1000 and 1000")
        }
        score => Ok(score),
    }
}

fn rlimits(process: &Process) -> Result<Vec<Rlimit>> {
    /// In the order of their numbers.
    const KNOWN: [&str; 16] = [
        "RLIMIT_CPU",
        "RLIMIT_FSIZE",
        "RLIMIT_DATA",
        "RLIMIT_STACK",
        "RLIMIT_CORE",
        "RLIMIT_RSS",
        "RLIMIT_NPROC",
        "RLIMIT_NOFILE",
        "RLIMIT_MEMLOCK",
        "RLIMIT_AS",
        "RLIMIT_LOCKS",
        "RLIMIT_SIGPENDING",
        "RLIMIT_MSGQUEUE",
        "RLIMIT_NICE",
        "RLIMIT_RTPRIO",
        "RLIMIT_RTTIME",
    ];
    let mut limits: Vec<Rlimit> = Vec::new();
    for (n, limit) in process.rlimits.iter().flatten().enumerate() {
        let kind = limit.kind.as_deref().unwrap_or_default();
        let Some(resource) = KNOWN.iter().position(|name| *name == kind) else {
            bail!("wrong rlimit value: {kind}");
        };
        let name = KNOWN[resource];
        if limits.iter().any(|known| known.name == name) {
            bail!("process.rlimits[{n}]: {name} is there twice");
        }
        let (soft, hard) = (limit.soft.unwrap_or(0), limit.hard.unwrap_or(0));
        limits.push(Rlimit { resource: resource as u32, name, soft, hard });
    }
    Ok(limits)
}

fn io_priority(priority: &oci::LinuxIOPriority) -> Result<(u32, u32)> {
    let class = match priority.class() {
        oci::IOPriorityClass::IoprioClassRt => 1,
        oci::IOPriorityClass::IoprioClassBe => 2,
        oci::IOPriorityClass::IoprioClassIdle => 3,
    };
    match u32::try_from(priority.priority()) {
        Ok(level @ 0..=7) => Ok((class, level)),
        _ => bail!("invalid ioPriority.Priority: {}", priority.priority()),
    }
}

fn checked_scheduler(scheduler: Scheduler) -> Result<Scheduler> {
    use oci::LinuxSchedulerPolicy as P;
    let policy = scheduler.policy;
    let nice = scheduler.nice.unwrap_or(0);
    if matches!(policy, P::SchedOther | P::SchedBatch) && !(-20..=19).contains(&nice) {
        bail!("invalid scheduler.nice: {nice} when scheduler.policy is {policy}");
    }
    if scheduler.priority.unwrap_or(0) != 0 && !matches!(policy, P::SchedFifo | P::SchedRr) {
        bail!("scheduler.priority can only be specified for SchedFIFO or SchedRR policy");
    }
    let deadline = [scheduler.runtime, scheduler.deadline, scheduler.period];
    if deadline.iter().any(|value| value.unwrap_or(0) != 0) && !matches!(policy, P::SchedDeadline) {
        bail!("scheduler runtime/deadline/period can only be specified for SchedDeadline policy");
    }
    Ok(scheduler)
}

fn scheduler_step(scheduler: &Scheduler) -> Step<'static> {
    use SchedulerFlag as F;
    use oci::LinuxSchedulerPolicy as P;
    let policy = match scheduler.policy {
        P::SchedOther => 0,
        P::SchedFifo => 1,
        P::SchedRr => 2,
        P::SchedBatch => 3,
        P::SchedIso => 4,
        P::SchedIdle => 5,
        P::SchedDeadline => 6,
    };
    let flags = scheduler.flags.iter().flatten().fold(0, |flags, flag| {
        flags
            | match flag {
                F::ResetOnFork => 0x01,
                F::Reclaim => 0x02,
                F::DeadlineOverrun => 0x04,
                F::KeepPolicy => 0x08,
                F::KeepParams => 0x10,
                F::UtilClampMin => 0x20,
                F::UtilClampMax => 0x40,
            }
    });
    Step::Scheduler {
        policy,
        flags,
        nice: scheduler.nice.unwrap_or(0),
        priority: scheduler.priority.and_then(|priority| u32::try_from(priority).ok()).unwrap_or(0),
        runtime: scheduler.runtime.unwrap_or(0),
        deadline: scheduler.deadline.unwrap_or(0),
        period: scheduler.period.unwrap_or(0),
    }
}

/// `linux.personality`, personality(2).
pub fn personality(linux: &Linux, warnings: &mut Vec<String>) -> Option<u32> {
    use oci::LinuxPersonalityDomain as D;
    let personality = linux.personality.as_ref()?;
    if let Some(flags) = personality.flags().as_ref().filter(|flags| !flags.is_empty()) {
        warnings.push(format!("ignoring unsupported personality flags: {flags:?}"));
    }
    Some(match personality.domain() {
        D::PerLinux => 0,
        D::PerLinux32 => 8,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(env: &[&str]) -> Environment {
        Environment::new(&env.iter().map(ToString::to_string).collect::<Vec<_>>(), &[]).unwrap()
    }

    #[test]
    fn the_last_value_of_a_variable_wins_at_its_own_place() {
        let texts = environment(&["A=1", "B=2", "A=3", "HOME="]);
        let shown: Vec<_> =
            texts.texts.strings().iter().map(|text| text.to_string_lossy().into_owned()).collect();
        assert_eq!(shown, ["B=2", "A=3"]);
        assert!(!texts.has_home);
    }

    #[test]
    fn a_bare_name_is_looked_for_in_absolute_directories_only() {
        let found = |name, path| {
            candidates(name, path)
                .unwrap()
                .strings()
                .iter()
                .map(|c| c.to_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(found("sh", Some("/bin::.:/usr/bin")), ["/bin/sh", "/usr/bin/sh"]);
        assert_eq!(found("./sh", Some("/bin")), ["./sh"]);
        assert!(found("sh", None).is_empty() && found("", Some("/bin")).is_empty());
    }
}
