//! Every decision, no side effect: the same [`Spec`], [`Host`], [`Facts`] and [`Options`] give the same [`Plan`]. Nothing
//! after this sees the spec; every `Option` of the JSON ends here. The steps for init come in the order that is the
//! security argument of a birth (docs/birth.md).

pub mod affinity;
pub mod capabilities;
pub mod cgroup;
pub mod devices;
pub mod exec;
pub mod hooks;
pub mod list;
pub mod lsm;
pub mod memory_policy;
pub mod mounts;
pub mod namespaces;
pub mod net_devices;
pub mod process;
pub mod rdt;
pub mod rootfs;
pub mod seccomp;
pub mod steps;
pub mod sysctl;

use crate::bail;
use crate::error::{Result, phrase};
use crate::host::{Facts, Host};
use crate::spec::{Hook, Linux, Process, Spec};
use pintle_init::order::{CHANNEL, Step};
use std::path::PathBuf;
use steps::{Slot, Steps, Texts};

/// What the command line says about a birth.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The container's id.
    pub id: String,
    /// The bundle's directory, absolute.
    pub bundle: PathBuf,
    /// Wait for `start` before the program is executed.
    pub wait_for_start: bool,
    /// The caller stays and shares its standard streams.
    pub foreground: bool,
    /// `--no-pivot`
    pub no_pivot: bool,
    /// `--no-new-keyring`
    pub no_new_keyring: bool,
    /// How many descriptors from 3 on the program inherits.
    pub preserve_fds: u32,
    /// How many of these are sockets by socket activation.
    pub listen_fds: u32,
    /// A pidfd of init is sent to the caller.
    pub pidfd_socket: bool,
    /// Missing permission on cgroups is tolerated.
    pub rootless: bool,
    /// The directory that holds the notify socket, to be bound at /run/notify.
    pub notify: Option<PathBuf>,
    /// The environment that hooks get which bring none.
    pub environment: Vec<String>,
    /// Rows and columns of the caller's terminal, for one of the same size.
    pub terminal_size: (u32, u32),
    /// Where cgroup2 is mounted.
    pub cgroup_mount: PathBuf,
    /// Who makes the cgroup.
    pub driver: cgroup::Driver,
    /// Who bears it must not sleep: init's first process bears a second one, into cgroup and namespaces.
    pub by_turns: bool,
    /// Everything is prepared, nobody is told, and nothing is executed: no hooks, no terminal, no program.
    pub rehearsal: bool,
    /// The resctrl file system, if there is one and config.json asks for it.
    pub resctrl: Option<rdt::Machine>,
}

/// Everything decided about a birth.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What init does.
    pub birth: Birth,
    /// The container's cgroup.
    pub cgroup: cgroup::Plan,
    /// The user (outside) who may make cgroups below it (config-linux.md, "Cgroup ownership").
    pub cgroup_owner: Option<u32>,
    /// User and group outside of whoever is 0 inside.
    pub root: (u32, u32),
    /// What the parent does for init and afterwards.
    pub hooks: hooks::OfRuntime,
    /// What later verbs need to know.
    pub saved: Saved,
    /// Things that the person should hear about.
    pub warnings: Vec<String>,
}

/// A process to be born: of a container, or beside one (exec).
#[derive(Clone, Debug, Default)]
pub struct Birth {
    /// What init does.
    pub steps: Steps,
    /// Namespaces that clone3 makes (CLONE_NEW…).
    pub namespaces: u32,
    /// Maps of the new user namespace.
    pub id_maps: Option<namespaces::IdMaps>,
    /// The user namespace comes with the clone, so init has to keep its capabilities over the execve.
    pub keep_capabilities: bool,
    /// Descriptors below this number are the program's.
    pub first_private: u32,
    /// init waits first of all until it has been put into its cgroup.
    pub placed_later: bool,
    /// init lends a socket by which the parent raises the loopback interface.
    pub loopback: bool,
    /// What the parent moves into the network namespace, by another socket of init's.
    pub net_devices: net_devices::Moves,
    /// Who waits for whom; nobody for a helper that has no program.
    pub sync: Option<process::Sync>,
    /// The processors that the parent runs on for the clone, so that the process is born there.
    pub initial_affinity: Option<Vec<u32>>,
    /// Limits, for the parent to set where init may not.
    pub rlimits: Vec<process::Rlimit>,
    /// /proc/PID/oom_score_adj
    pub oom_score_adj: Option<i32>,
    /// The user namespaces of id-mapped mounts: by slot, or for the parent, who makes those mounts.
    pub mount_maps: Vec<mounts::MountMap>,
    /// The program gets a terminal.
    pub terminal: bool,
}

/// What is kept of a container for `exec`, `start` and `delete`: decided once.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Saved {
    /// The namespaces that are the container's own or joined (CLONE_NEW…), for setns with init's pidfd.
    pub namespaces: u32,
    /// The pid namespace is the container's own: its first process takes all others along.
    pub own_pids: bool,
    /// Processes get a session keyring of their own.
    pub keyring: bool,
    /// Without a mount namespace: the mount that holds the rootfs before anything was bound there.
    pub rootfs_mount: u64,
    /// The process of config.json.
    pub process: Process,
    /// Groups may be set in the container's user namespace.
    pub set_groups: bool,
    /// The program of the seccomp filter lies beside the state; its flags.
    pub seccomp_flags: Option<u32>,
    /// Whom the filter asks about some calls.
    #[serde(default)]
    pub seccomp_agent: Option<seccomp::Agent>,
    /// The rootfs is entered by chroot alone.
    pub chroot: bool,
    /// poststart, run by `start`.
    pub poststart: Vec<Hook>,
    /// poststop, run by `delete`.
    pub poststop: Vec<Hook>,
    /// The annotations.
    pub annotations: std::collections::BTreeMap<String, String>,
    /// personality(2), which exec processes get too.
    pub personality: Option<u32>,
    /// set_mempolicy(2), which exec processes get too.
    #[serde(default)]
    pub memory_policy: Option<memory_policy::Decided>,
    /// The group in resctrl.
    #[serde(default)]
    pub rdt: Option<rdt::Plan>,
    /// `linux.resources`, which `update` changes.
    pub resources: Option<oci_spec::runtime::LinuxResources>,
    /// The seccomp filter as bytes; not part of state.json.
    #[serde(skip)]
    pub seccomp_program: Vec<u8>,
}

impl Plan {
    /// Decides.
    ///
    /// # Errors
    /// What in config.json can't be done, by its JSON path, in runc's words where runc has some.
    pub fn new(spec: &Spec, host: &Host, facts: &Facts, options: &Options) -> Result<Self> {
        let nothing = Linux::default();
        let linux = spec.linux.as_ref().unwrap_or(&nothing);
        let mut warnings = Vec::new();
        let parts = Parts::new(Given { spec, linux, host, facts, options }, &mut warnings)?;
        let birth = parts.birth()?;
        let saved = parts.saved();
        let delegated = parts.spaces.is_new(namespaces::CGROUP) && parts.mounts.writable_cgroup;
        Ok(Self {
            birth,
            cgroup_owner: parts.spaces.outside(parts.process.uid()).filter(|_| delegated),
            root: parts.spaces.root_outside(),
            cgroup: parts.cgroup,
            hooks: parts.hooks.of_runtime,
            saved,
            warnings,
        })
    }
}

/// What is decided from.
#[derive(Clone, Copy)]
struct Given<'a> {
    spec: &'a Spec,
    linux: &'a Linux,
    host: &'a Host,
    facts: &'a Facts,
    options: &'a Options,
}

/// Each subject's own decisions, from which the steps are put together.
struct Parts<'a> {
    given: Given<'a>,
    spaces: namespaces::Decided,
    process: process::Decided,
    personality: Option<u32>,
    memory_policy: Option<memory_policy::Decided>,
    rdt: Option<rdt::Plan>,
    filter: Option<seccomp::Filter>,
    hooks: hooks::Decided,
    cgroup: cgroup::Plan,
    mounts: mounts::Decided,
    net_devices: net_devices::Moves,
    /// For what covers masked directories.
    mask_options: Texts,
}

impl<'a> Parts<'a> {
    fn new(given: Given<'a>, warnings: &mut Vec<String>) -> Result<Self> {
        let Given { spec, linux, host, facts, options } = given;
        let Some(process) = &spec.process else { bail!("{}", phrase::NO_PROCESS) };
        // For exec only, but what is wrong with it is told now.
        affinity::Decided::of_exec(process.exec_cpu_affinity.as_ref())?;
        let mut spaces = namespaces::Decided::new(spec, linux, host, facts, warnings)?;
        let keep_groups = spec.annotations.as_ref().is_some_and(process::keeps_groups);
        spaces.can_set_groups &= !keep_groups;
        if let (true, Some(resources)) = (options.driver != cgroup::Driver::Files, &linux.resources) {
            warnings.extend(cgroup::systemd::warnings(resources));
        }
        let profile = linux.seccomp.as_ref();
        let filter = profile.map(|profile| seccomp::compile(profile, seccomp::Arch::NATIVE)).transpose()?;
        let mut more = exec::listen_environment(options.listen_fds);
        more.extend(options.notify.as_ref().map(|_| "NOTIFY_SOCKET=/run/notify/notify.sock".to_owned()));
        let bounds = process::Bounds::new(host, &spaces, keep_groups, options.foreground);
        let mut process = process::Decided::new(process, bounds, &more, warnings)?;
        process.terminal &= !options.rehearsal;
        process.check_ids(&spaces)?;
        let mount_label = lsm::mount_label(spec, linux, host)?;
        let mut net_devices = net_devices::decide(linux, &spaces, host.euid != 0)?;
        if options.rehearsal {
            net_devices = net_devices::Moves::default();
        }
        let rdt_plan = |rdt| rdt::Plan::new(rdt, &options.id, options.resctrl.as_ref());
        let cgroup = cgroup::Plan::new(&cgroup::Input {
            driver: options.driver,
            uid: host.euid,
            annotations: spec.annotations.as_ref(),
            id: &options.id,
            cgroups_path: linux.cgroups_path.as_deref(),
            resources: linux.resources.as_ref(),
            device_paths: &devices::paths(linux),
            own: &host.own_cgroup,
            rootless: options.rootless,
            in_user_namespace: host.in_user_namespace,
        })?;
        // A rehearsal runs no hooks.
        let wanted = spec.hooks.as_ref().filter(|_| !options.rehearsal);
        let hooks = hooks::Decided::new(wanted, &options.environment)?;
        let mounts = mounts::Decided::new(given, &spaces, &cgroup, mount_label.as_ref(), warnings)?;
        spaces.mounts_of_rootfs = rootfs::stands_alone(given, &spaces, &hooks, &mounts);
        Ok(Self {
            given,
            personality: process::personality(linux, warnings),
            memory_policy: linux.memory_policy.as_ref().map(memory_policy::Decided::new).transpose()?,
            rdt: linux.intel_rdt.as_ref().map(rdt_plan).transpose()?,
            // A rehearsal has nobody who would answer an agent's calls.
            filter: filter.flatten().filter(|filter| filter.agent.is_none() || !options.rehearsal),
            hooks,
            net_devices,
            mounts,
            mask_options: rootfs::mask_options(mount_label.as_ref())?,
            cgroup,
            process,
            spaces,
        })
    }

    /// The steps in the order that is the security argument, and what the parent does beside them.
    fn birth(&self) -> Result<Birth> {
        let options = self.given.options;
        let (mut steps, mut mount_maps) = (Steps::new(), Vec::new());
        let placed_later = self.cgroup.unit.is_some();
        if options.by_turns {
            // First of all: what follows is about the process in the cgroup.
            let cgroup = steps.slot(Slot::Cgroup);
            steps.push(&Step::ForkInto { kinds: self.spaces.by_clone(placed_later), cgroup });
        }
        affinity::Decided::of_container().run_on(&mut steps);
        let late = self.spaces.enter(&mut steps, self.given.linux, placed_later)?;
        self.build(&mut steps, &mut mount_maps)?;
        self.enter(&mut steps)?;
        let sync = self.sync();
        self.run(&mut steps, sync)?;
        Ok(Birth {
            steps,
            namespaces: if options.by_turns { 0 } else { late.clone_flags },
            id_maps: self.spaces.id_maps.clone(),
            keep_capabilities: late.clone_flags & namespaces::USER != 0,
            first_private: 3 + options.listen_fds + options.preserve_fds,
            placed_later,
            initial_affinity: None,
            rlimits: self.process.rlimits.clone(),
            oom_score_adj: self.process.oom_score_adj,
            loopback: self.spaces.is_new(namespaces::NETWORK) && !options.by_turns,
            net_devices: self.net_devices.clone(),
            sync: Some(sync),
            mount_maps,
            terminal: self.process.terminal,
        })
    }

    /// The container as it will look, and the hooks that may change it while the host is still in sight.
    fn build(&self, steps: &mut Steps, mount_maps: &mut Vec<mounts::MountMap>) -> Result<()> {
        let Given { linux, host, facts, options, .. } = self.given;
        steps.push(&Step::Session {});
        if !options.no_new_keyring {
            self.process.keyring(steps, &options.id)?;
        }
        if self.spaces.is_new(namespaces::NETWORK) {
            steps.push(&Step::Loopback { lent: !options.by_turns });
        }
        if !self.net_devices.devices.is_empty() {
            steps.push(&Step::NetDevices {});
        }
        rootfs::enter(steps, linux, &self.spaces, facts, &self.mounts)?;
        self.mounts.mount(steps, mount_maps, self.spaces.mounts_of_rootfs, &self.mask_options);
        if self.mounts.makes_dev {
            devices::make(steps, linux, host, &self.spaces)?;
        }
        self.process.make_cwd(steps)?;
        if self.hooks.any_of_runtime() {
            steps.push(&Step::RunHooks {});
        }
        self.hooks.create_container(steps)
    }

    /// What no hook may undo: parameters, what is read-only or hidden, the new root.
    fn enter(&self, steps: &mut Steps) -> Result<()> {
        let Given { spec, linux, facts, options, .. } = self.given;
        let needs_procfs = options.wait_for_start || linux.sysctl.is_some() || self.process.has_label();
        let has_procfs = self.mounts.has_procfs || self.process.has_key_label() && !options.no_new_keyring;
        if needs_procfs && !has_procfs {
            steps.push(&Step::Procfs {});
        }
        sysctl::write(steps, linux, &self.spaces, facts)?;
        self.process.console(steps, self.mounts.makes_dev, options.terminal_size);
        self.mounts.seal(steps);
        rootfs::hide(steps, spec, linux, &self.spaces, &self.mounts, &self.mask_options)?;
        rootfs::become_root(steps, linux, &self.spaces, facts, options)?;
        if self.mounts.makes_dev {
            steps.push(&Step::ReopenNull {});
        }
        Ok(())
    }

    /// The process, up to its program.
    fn run(&self, steps: &mut Steps, sync: process::Sync) -> Result<()> {
        let options = self.given.options;
        if options.pidfd_socket {
            let socket = steps.slot(Slot::PidfdSocket);
            steps.push(&Step::SendPidfd { socket, word: b"standard" });
        }
        self.spaces.names(steps, self.given.spec)?;
        self.process.attributes(steps, self.personality);
        self.memory_policy.iter().for_each(|policy| policy.set(steps));
        let keep = if options.wait_for_start { steps.slot(Slot::Fifo) } else { CHANNEL };
        let program = self.filter.as_ref().map(|filter| (filter.bytes(), filter.flags));
        let filter = program.as_ref().map(|(program, flags)| (program.as_slice(), *flags));
        self.process.become_user(steps, sync, keep, filter);
        steps.push(&Step::Done { waits: options.wait_for_start && !options.rehearsal });
        if options.rehearsal {
            return Ok(());
        }
        if options.wait_for_start {
            let fifo = steps.slot(Slot::Fifo);
            steps.push(&Step::AwaitStart { fifo });
        }
        self.hooks.start_container(steps, self.process.environment())?;
        self.process.execute(steps);
        Ok(())
    }

    /// A go that is said ahead must not be taken for the answer to a question asked before.
    fn sync(&self) -> process::Sync {
        let hooks = self.hooks.any_of_runtime() || self.hooks.of_runtime.has_start_container;
        let asks = hooks || !self.net_devices.devices.is_empty();
        if asks || self.spaces.has(namespaces::USER) { process::Sync::Parent } else { process::Sync::Init }
    }

    fn saved(&self) -> Saved {
        let Given { spec, linux, facts, options, .. } = self.given;
        Saved {
            namespaces: self.spaces.kinds(),
            own_pids: self.spaces.is_new(namespaces::PID),
            keyring: !options.no_new_keyring,
            rootfs_mount: facts.rootfs_mount,
            process: spec.process.clone().unwrap_or_default(),
            set_groups: self.spaces.can_set_groups,
            seccomp_flags: self.filter.as_ref().map(|filter| filter.flags),
            seccomp_agent: self.filter.as_ref().and_then(|filter| filter.agent.clone()),
            chroot: !self.spaces.has(namespaces::MOUNT),
            poststart: self.hooks.of_runtime.poststart.clone(),
            poststop: self.hooks.of_runtime.poststop.clone(),
            annotations: spec.annotations.clone().unwrap_or_default(),
            personality: self.personality,
            memory_policy: self.memory_policy.clone(),
            rdt: self.rdt.clone(),
            resources: linux.resources.clone(),
            seccomp_program: self.filter.as_ref().map(seccomp::Filter::bytes).unwrap_or_default(),
        }
    }
}
