//! `create`: everything of a container but its program. The birth told here is that of `run`, too.

use super::{Context, Streams, Underway, delete, rehearsal};
use crate::bail;
use crate::cgroup::systemd::Manager;
use crate::cgroup::{self, Cgroup, Layout};
use crate::error::{Context as _, Error, Kind, Result, phrase};
use crate::host::{self, Host, Opened};
use crate::launch::agent;
use crate::launch::ids;
use crate::launch::mount_maps;
use crate::launch::serve::{Caller, Delivery, Endings, Parent};
use crate::launch::spawn::{self, Child, Descriptors};
use crate::launch::terminal::{self, Ends, Foreground};
use crate::log;
use crate::plan::cgroup::Write;
use crate::plan::cgroup::systemd::Unit;
use crate::plan::{self, Plan, namespaces};
use crate::resctrl;
use crate::spec::{self, Hook, LinuxNamespaceType, Spec};
use crate::state::{self, Container, Lock, State};
use crate::time;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What `create` and `run` are told on the command line. Paths are absolute.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The container's id.
    pub id: String,
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// Where the terminal's master side is sent (`--console-socket`).
    pub console_socket: Option<PathBuf>,
    /// Where init's pidfd is sent (`--pidfd-socket`).
    pub pidfd_socket: Option<PathBuf>,
    /// Where init's process id is written (`--pid-file`).
    pub pid_file: Option<PathBuf>,
    /// Enter the rootfs by a move and chroot (`--no-pivot`).
    pub no_pivot: bool,
    /// Keep the caller's session keyring (`--no-new-keyring`).
    pub no_new_keyring: bool,
    /// How many descriptors from 3 (after `listen_fds`) the program inherits (`--preserve-fds`).
    pub preserve_fds: u32,
    /// `$LISTEN_FDS`: sockets from 3 handed over by socket activation, sd_listen_fds(3).
    pub listen_fds: u32,
    /// `$NOTIFY_SOCKET`: where the service manager waits for readiness, sd_notify(3).
    pub notify_socket: Option<PathBuf>,
}

/// What the birth is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// `create`: init waits for `start`.
    Create,
    /// `run --detach`
    Detached,
    /// `run`
    Foreground,
}

/// runc's exit status where the program could not be executed.
pub const NOT_EXECUTED: u8 = 255;

/// A container just born.
#[derive(Debug)]
pub struct Born {
    /// Its state.
    pub container: Container,
    /// Its first process, a child of this one.
    pub child: Child,
    /// What `run` stays with.
    pub foreground: Option<Foreground>,
    /// Where the program of `run` says that it is ready.
    pub readiness: Option<UnixDatagram>,
}

/// Creates the container `options.id`.
///
/// # Errors
/// Whatever keeps it from standing; then nothing of it is left.
pub fn create(context: &Context, options: &Options) -> Result<()> {
    birth(context, options, Purpose::Create).map(drop)
}

/// A container's birth, up to its program: for `create` before it, for `run` with it.
///
/// # Errors
/// As for [`create`].
pub fn birth(context: &Context, options: &Options, purpose: Purpose) -> Result<Born> {
    log::phase("command-line");
    state::check_id(&options.id)?;
    let _held = spawn::occupy(options.listen_fds, options.preserve_fds)?;
    let decision = decide(context, options, purpose)?;
    let terminal = decision.plan.birth.terminal;
    check_terminal(terminal, options.console_socket.is_some(), purpose != Purpose::Foreground)?;
    let mut birth = Birth::reserve(context, options, purpose, Parent::Sleeps, decision)?;
    let (console, pidfd_socket) = (options.console_socket.as_deref(), options.pidfd_socket.as_deref());
    let ends = birth
        .prepare()
        .and_then(|()| Ends::new(console, pidfd_socket, purpose == Purpose::Foreground, terminal))
        .map_err(|error| birth.take_back(error))?;
    let mut delivery = birth.bear(ends.descriptors())?;
    if let Err(error) = delivery.complete() {
        ends.last_words();
        return Err(delivery.caller().take_back(error));
    }
    let (child, mut birth) = delivery.into_parts();
    if let Err(error) = birth.record(&child) {
        spawn::end(&child);
        return Err(birth.take_back(error));
    }
    Ok(Born { container: birth.container, child, foreground: ends.foreground, readiness: birth.readiness })
}

/// Begins to create the container `options.id` for a caller that must not wait, and goes on by turns. None where others than init would have
/// to be waited for: hooks, systemd, a user namespace; then nothing was done.
///
/// # Errors
/// As for [`create`].
pub fn begin(
    context: &Context,
    options: &Options,
    streams: Streams<'_>,
) -> Result<Option<Box<dyn Underway>>> {
    state::check_id(&options.id)?;
    let spec = load(options)?;
    // Without privileges there may be no cgroup to be born in; and whose ids a user namespace has, another process says.
    if context.rootless || spec.has_namespace(LinuxNamespaceType::User) {
        return Ok(None);
    }
    let decision = decide_with(context, options, Purpose::Create, &spec, |told| told.by_turns = true)?;
    if waits(&decision.plan) {
        return Ok(None);
    }
    check_terminal(decision.plan.birth.terminal, streams.console.is_some(), true)?;
    let mut birth = Birth::reserve(context, options, Purpose::Create, Parent::GoesOn, decision)?;
    birth.prepare().map_err(|error| birth.take_back(error))?;
    Ok(Some(Box::new(Newborn(birth.bear(streams.descriptors())?))))
}

/// Whether this birth, or taking it back, would keep its caller waiting for others than init.
fn waits(plan: &Plan) -> bool {
    let hooks = &plan.hooks;
    let own = [&hooks.prestart, &hooks.create_runtime, &plan.saved.poststart, &plan.saved.poststop];
    let others = !plan.birth.mount_maps.is_empty()
        || !plan.birth.net_devices.devices.is_empty()
        || plan.cgroup.unit.is_some()
        || plan.saved.rdt.is_some()
        || plan.saved.seccomp_agent.is_some();
    own.iter().any(|hooks| !hooks.is_empty()) || others || plan.saved.chroot
}

/// A container on its way.
#[derive(Debug)]
struct Newborn(Delivery<Birth>);

impl Underway for Newborn {
    fn turn(&mut self, endings: Endings<'_>) -> Result<bool> {
        match self.0.turn(endings) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(error) => return Err(self.0.caller().take_back(error)),
        }
        let (child, birth) = self.0.parts();
        match birth.record(child) {
            Ok(()) => Ok(true),
            // Told when its process is dead.
            Err(error) => {
                self.0.give_up(error);
                self.turn(endings)
            }
        }
    }

    fn is_left(&mut self) -> bool {
        self.0.caller().left
    }

    fn give_up(&mut self, error: Error) {
        self.0.give_up(error);
    }

    fn channel(&self) -> BorrowedFd<'_> {
        self.0.channel()
    }

    fn pid(&self) -> i32 {
        self.0.child().pid
    }
}

/// What was decided, and what the decision was taken from.
pub struct Decision {
    /// Everything that will be done.
    pub plan: Plan,
    pub(super) layout: Layout,
    pub(super) opened: Opened,
    rootfs: PathBuf,
}

/// Reads, looks and decides; nothing is made yet.
///
/// # Errors
/// What in config.json can't be done, on this machine or at all.
pub fn decide(context: &Context, options: &Options, purpose: Purpose) -> Result<Decision> {
    decide_with(context, options, purpose, &load(options)?, |_| {})
}

/// config.json.
///
/// # Errors
/// One that can't be read, or means nothing.
pub(super) fn load(options: &Options) -> Result<Spec> {
    let spec = spec::load(&options.bundle)?;
    log::phase("config");
    Ok(spec)
}

/// As [`decide`], with a last word about the plan's options.
///
/// # Errors
/// As for [`decide`].
pub(super) fn decide_with(
    context: &Context,
    options: &Options,
    purpose: Purpose,
    spec: &Spec,
    last: impl FnOnce(&mut plan::Options),
) -> Result<Decision> {
    let layout = Layout::find()?;
    let host = host(context, spec)?;
    let (mut facts, opened) = host::survey(spec, &options.bundle)?;
    facts.joined_maps = ids::of_joined(&opened)?;
    log::phase("host");
    let mut told = plan_options(context, options, purpose, &layout);
    if spec.linux.as_ref().is_some_and(|linux| linux.intel_rdt.is_some()) {
        told.resctrl = resctrl::find()?;
    }
    last(&mut told);
    let plan = Plan::new(spec, &host, &facts, &told)?;
    Ok(Decision { plan, layout, opened, rootfs: facts.rootfs })
}

fn host(context: &Context, spec: &Spec) -> Result<Host> {
    let mut host = Host::probe(context.in_user_namespace)?;
    let cgroups_path = spec.linux.as_ref().and_then(|linux| linux.cgroups_path.as_deref());
    if plan::cgroup::needs_own_cgroup(cgroups_path, context.driver) {
        host.own_cgroup = cgroup::own()?;
    }
    Ok(host)
}

fn plan_options(context: &Context, options: &Options, purpose: Purpose, layout: &Layout) -> plan::Options {
    plan::Options {
        id: options.id.clone(),
        bundle: options.bundle.clone(),
        wait_for_start: purpose == Purpose::Create,
        foreground: purpose == Purpose::Foreground,
        no_pivot: options.no_pivot,
        no_new_keyring: options.no_new_keyring,
        preserve_fds: options.preserve_fds,
        listen_fds: options.listen_fds,
        pidfd_socket: options.pidfd_socket.is_some(),
        rootless: context.rootless,
        notify: options.notify_socket.as_ref().map(|_| state::notify_directory(context, &options.id)),
        environment: context.environment.clone(),
        terminal_size: if purpose == Purpose::Foreground { terminal::size() } else { (0, 0) },
        cgroup_mount: layout.mount.clone(),
        driver: context.driver,
        rehearsal: false,
        by_turns: false,
        resctrl: None,
    }
}

/// A terminal of a detached process has to go somewhere, and nothing else may.
pub(super) fn check_terminal(terminal: bool, socket: bool, detached: bool) -> Result<()> {
    match (terminal, socket) {
        (true, false) if detached => bail!("{}", phrase::TTY_WITHOUT_SOCKET),
        (terminal, true) if !(terminal && detached) => bail!("{}", phrase::SOCKET_WITHOUT_TTY),
        _ => Ok(()),
    }
}

/// A birth under way, and what has to be taken back if it fails.
#[derive(Debug)]
struct Birth {
    context: Context,
    options: Options,
    purpose: Purpose,
    parent: Parent,
    plan: Plan,
    layout: Layout,
    opened: Opened,
    container: Container,
    _lock: Lock,
    mount_maps: Vec<OwnedFd>,
    cgroup: Option<Cgroup>,
    /// systemd, where that makes the cgroup.
    manager: Option<Manager>,
    /// It started the unit.
    started: bool,
    resctrl: Option<resctrl::Made>,
    readiness: Option<UnixDatagram>,
    /// It failed, and not everything could be taken back at once.
    left: bool,
}

impl Birth {
    /// Nobody else can have the container's id from here on.
    fn reserve(
        context: &Context,
        options: &Options,
        purpose: Purpose,
        parent: Parent,
        decision: Decision,
    ) -> Result<Self> {
        let Decision { plan, layout, opened, rootfs } = decision;
        plan.warnings.iter().for_each(log::warn);
        log::phase("plan");
        let unit = plan.cgroup.unit.as_ref();
        let state = State {
            id: options.id.clone(),
            created: time::rfc3339_nano(SystemTime::now()),
            // A unit's cgroup is recorded when the process is in it: until then it may be somebody else's.
            cgroup: unit.is_none().then(|| layout.directory(&plan.cgroup.path)),
            unit: unit.map(|unit| state::Unit { name: unit.name.clone(), user: unit.user }),
            bundle: options.bundle.clone(),
            rootfs,
            rootless: context.rootless,
            creating: true,
            resources: plan.saved.resources.clone(),
            saved: plan.saved.clone(),
            ..State::default()
        };
        let (container, lock) = Container::reserve(context, state)?;
        Ok(Self {
            context: context.clone(),
            options: options.clone(),
            purpose,
            parent,
            plan,
            layout,
            opened,
            container,
            _lock: lock,
            mount_maps: Vec::new(),
            cgroup: None,
            manager: None,
            started: false,
            resctrl: None,
            readiness: None,
            left: false,
        })
    }

    /// Starts init with `given`.
    fn bear(mut self, given: Descriptors<'_>) -> Result<Delivery<Self>> {
        let child = match self.start_init(given) {
            Ok(child) => child,
            Err(error) => return Err(self.take_back(error)),
        };
        let (birth, parent) = (std::mem::take(&mut self.plan.birth), self.parent);
        Ok(Delivery::begin(child, birth, self, parent))
    }

    /// Makes what the container stands on.
    fn prepare(&mut self) -> Result<()> {
        self.container.save()?;
        self.container.save_filter()?;
        log::phase("state");
        if self.options.notify_socket.is_some() {
            self.container.make_notify_directory()?;
            // `start` makes it for `create`; here the program may speak as soon as it runs.
            if self.purpose != Purpose::Create {
                self.readiness = self.container.notify_socket()?;
            }
        }
        self.mount_maps = mount_maps::open(&self.plan.birth.mount_maps, &self.opened)?;
        match &self.plan.cgroup.unit {
            Some(unit) => self.manager = Some(self.manager(unit)?),
            None => self.make_cgroup()?,
        }
        let group = self.container.state.saved.rdt.as_ref().map(resctrl::prepare);
        self.resctrl = group.transpose().context(phrase::START_PROCESS).inspect_err(|_| {
            // What was made is gone already; what is there is somebody else's.
            self.container.state.saved.rdt = None;
        })?;
        log::phase("cgroup");
        Ok(())
    }

    fn start_init(&self, given: Descriptors<'_>) -> Result<Child> {
        let fifo = self.fifo()?;
        let descriptors = Descriptors {
            opened: Some(&self.opened),
            mount_maps: &self.mount_maps,
            fifo: fifo.as_ref().map(AsFd::as_fd),
            cgroup: self.cgroup.as_ref().map(Cgroup::fd),
            ..given
        };
        let entered = descriptors.cgroup.filter(|_| self.parent == Parent::Sleeps);
        let child = spawn::init(&self.plan.birth, &descriptors, entered).context(phrase::START_PROCESS)?;
        log::phase("clone");
        super::tell_filter(&self.plan.saved);
        Ok(child)
    }

    /// Who will make the cgroup, after a look at where.
    fn manager(&self, unit: &Unit) -> Result<Manager> {
        cgroup::check_place(&self.layout, &self.plan.cgroup)?;
        Manager::connect_for_start(&self.context.systemd(unit.user)?, &unit.name)
    }

    fn make_cgroup(&mut self) -> Result<()> {
        let state = &mut self.container.state;
        let created = cgroup::create(&self.layout, &self.plan.cgroup).inspect_err(|_| {
            // What was made is gone already; what is there is somebody else's.
            state.cgroup = None;
        })?;
        let Some(cgroup) = created else {
            state.cgroup = None;
            return Ok(());
        };
        // The last one made is the container's own; the state follows when there is a process.
        let made = cgroup.made();
        state.cgroup_parents = made[..made.len().saturating_sub(1)].to_vec();
        state.cgroup_inode = cgroup.inode()?;
        self.cgroup = Some(cgroup);
        Ok(())
    }

    /// The fifo of `create`, for whoever is root inside.
    fn fifo(&self) -> Result<Option<OwnedFd>> {
        if self.purpose != Purpose::Create {
            return Ok(None);
        }
        self.container.make_fifo(self.plan.root).map(Some)
    }

    /// The container stands: only now does it count.
    fn record(&mut self, child: &Child) -> Result<()> {
        log::phase("program");
        log::debug("init: closing the pipe to signal completion");
        self.container.state.creating = false;
        self.container.save()?;
        log::phase("record");
        if let Some(path) = &self.options.pid_file {
            write_pid_file(path, child.pid)?;
        }
        if self.purpose != Purpose::Create {
            super::start::poststart(&self.container)?;
        }
        Ok(())
    }

    /// Nothing is left of a failed birth; what can't be removed is told beside the reason.
    fn take_back(&mut self, error: Error) -> Error {
        if !self.started {
            // What is there under that name is somebody else's.
            self.container.state.unit = None;
        }
        let destroyed = match self.parent {
            Parent::Sleeps => delete::destroy(&self.context, &self.container),
            Parent::GoesOn => delete::destroy_at_once(&self.container).map(|done| self.left = !done),
        };
        let error = match destroyed.and(self.resctrl.as_ref().map_or(Ok(()), resctrl::take_back)) {
            Ok(()) => error,
            Err(also) => Error::new(format!("{error}; and then: {also}")),
        };
        let limit = self.plan.cgroup.limits.writes.iter().rfind(|write| write.file == "memory.max");
        match limit.filter(|limit| error.kind() == Kind::OutOfMemory && limit.value != "max") {
            Some(limit) => self.too_low(&error, limit),
            None => error,
        }
    }

    /// Which limit it was, and what would have done.
    fn too_low(&self, error: &Error, limit: &Write) -> Error {
        let Write { origin, value, .. } = limit;
        let enough = match self.parent {
            Parent::Sleeps => rehearsal::memory(&self.context, &self.options),
            // It takes its time.
            Parent::GoesOn => return Error::new(format!("{error}: {origin} is {value} bytes")),
        };
        let enough = match enough {
            Ok(bytes) => format!("with {bytes} init comes through here, and the program needs its own"),
            Err(error) => format!("what would do here can't be told: {error}"),
        };
        Error::new(format!("{error}: {origin} is {value} bytes; {enough}"))
    }

    /// A process id as hooks are told it.
    fn seen(&self, pid: i32) -> i32 {
        let sees_others = self.plan.saved.namespaces & namespaces::PID == 0;
        if sees_others { pid } else { state::pid_inside(pid) }
    }
}

impl Caller for Birth {
    fn born(&mut self, pid: i32) -> Result<()> {
        self.container.state.pid = pid;
        self.container.state.start_time = state::start_time(pid).unwrap_or(0);
        if let Some(group) = &self.container.state.saved.rdt {
            resctrl::join(group, pid)?;
        }
        self.container.save()
    }

    fn place(&mut self, pid: i32) -> Result<()> {
        let (Some(manager), Some(unit)) = (&mut self.manager, &self.plan.cgroup.unit) else {
            return Ok(());
        };
        // A refusal leaves no unit of ours.
        manager.start(unit, pid).context(phrase::APPLY_CGROUP)?;
        self.started = true;
        let state = &mut self.container.state;
        let cgroup = cgroup::enter_unit(&self.layout, &self.plan.cgroup, pid, &mut state.cgroup)?;
        state.cgroup_inode = cgroup.inode()?;
        self.cgroup = Some(cgroup);
        self.container.save()
    }

    fn meanwhile(&mut self) -> Result<()> {
        let Some(cgroup) = &self.cgroup else { return Ok(()) };
        cgroup.restrict_devices(&self.plan.cgroup.devices)?;
        self.plan.cgroup_owner.map_or(Ok(()), |uid| cgroup.delegate(uid))
    }

    fn hooks(&mut self, pid: i32) -> Result<Option<String>> {
        let (hooks, container) = (&self.plan.hooks, &self.container.state);
        let state = state::for_hooks(container, "creating", Some(pid));
        for (kind, hooks) in [("prestart", &hooks.prestart), ("createRuntime", &hooks.create_runtime)] {
            run_hooks(kind, hooks, &state, &container.bundle)?;
        }
        Ok(Some(state::for_hooks(container, "creating", Some(self.seen(pid)))))
    }

    fn ready(&mut self, pid: i32) -> Result<Option<String>> {
        log::phase("mounts");
        let state = || state::for_hooks(&self.container.state, "created", Some(self.seen(pid)));
        Ok(self.plan.hooks.has_start_container.then(state))
    }

    fn filtered(&mut self, pid: i32, listener: OwnedFd) -> Result<()> {
        let state = state::for_hooks(&self.container.state, "creating", Some(pid));
        agent::tell(self.plan.saved.seccomp_agent.as_ref(), &state, pid, listener)
    }

    fn mount_maps(&self) -> &[OwnedFd] {
        &self.mount_maps
    }

    fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }

    fn of_container(&self) -> bool {
        true
    }

    fn see_it_run(&self) -> bool {
        self.purpose != Purpose::Create
    }
}

/// Runs hooks one after the other, up to the first that fails.
///
/// # Errors
/// `error running KIND hook #N: …`, in runc's words.
pub fn run_hooks(kind: &str, hooks: &[Hook], state: &str, directory: &Path) -> Result<()> {
    for (n, hook) in hooks.iter().enumerate() {
        spawn::hook(hook, state, directory).with_context(|| format!("error running {kind} hook #{n}"))?;
    }
    Ok(())
}

/// Writes a process id so that whoever sees the file sees it whole.
///
/// # Errors
/// A directory that is missing or can't be written.
pub fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    use std::io::Write;
    let told = || format!("write {}", path.display());
    let Some(name) = path.file_name() else { bail!("{}: names no file", path.display()) };
    let temporary = path.with_file_name(format!(".{}", name.to_string_lossy()));
    let mut file =
        std::fs::File::options().write(true).create_new(true).open(&temporary).with_context(told)?;
    let written = file.write_all(pid.to_string().as_bytes()).and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        // The error that is told is the first one.
        let _gone = std::fs::remove_file(&temporary);
    }
    written.with_context(told)
}
