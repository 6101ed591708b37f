//! `create`: everything of a container but its program. The birth told here is that of `run`, too.

use super::{Context, delete, rehearsal};
use crate::bail;
use crate::cgroup::systemd::Manager;
use crate::cgroup::{self, Cgroup, Layout};
use crate::error::{Context as _, Error, Kind, Result, phrase};
use crate::host::{self, Host, Opened};
use crate::launch::spawn::{self, Child, Descriptors};
use crate::launch::terminal::{self, Foreground};
use crate::launch::{mount_maps, serve};
use crate::log;
use crate::plan::cgroup::Write;
use crate::plan::cgroup::systemd::Unit;
use crate::plan::{self, Plan, namespaces};
use crate::resctrl;
use crate::spec::{self, Hook};
use crate::state::{self, Container, State};
use crate::time;
use rustix::fd::{AsFd, OwnedFd};
use std::cell::{Cell, OnceCell};
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
    let Decision { plan, layout, opened, rootfs } = decide(context, options, purpose)?;
    check_terminal(plan.birth.terminal, options, purpose)?;
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
    let (container, _lock) = Container::reserve(context, state)?;
    let mut birth = Birth {
        context,
        container,
        plan,
        options,
        purpose,
        cgroup: OnceCell::new(),
        started: Cell::new(false),
        resctrl: None,
        readiness: None,
    };
    match birth.give(&layout, &opened) {
        Ok((child, foreground)) => {
            Ok(Born { container: birth.container, child, foreground, readiness: birth.readiness })
        }
        Err(error) => {
            let limit =
                birth.plan.cgroup.limits.writes.iter().rfind(|write| write.file == "memory.max").cloned();
            let error = birth.take_back(error);
            match limit.filter(|limit| error.kind() == Kind::OutOfMemory && limit.value != "max") {
                Some(limit) => Err(too_low(error, &limit, rehearsal::memory(context, options))),
                None => Err(error),
            }
        }
    }
}

/// Which limit it was, and what would have done.
fn too_low(error: Error, limit: &Write, enough: Result<u64>) -> Error {
    let Write { origin, value, .. } = limit;
    let enough = match enough {
        Ok(bytes) => format!("with {bytes} init comes through here, and the program needs its own"),
        Err(error) => format!("what would do here can't be told: {error}"),
    };
    Error::new(format!("{error}: {origin} is {value} bytes; {enough}"))
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
    decide_with(context, options, purpose, |_| {})
}

/// As [`decide`], with a last word about the plan's options.
///
/// # Errors
/// As for [`decide`].
pub(super) fn decide_with(
    context: &Context,
    options: &Options,
    purpose: Purpose,
    last: impl FnOnce(&mut plan::Options),
) -> Result<Decision> {
    let spec = spec::load(&options.bundle)?;
    log::phase("config");
    let layout = Layout::find()?;
    let host = host(context, &spec)?;
    let (facts, opened) = host::survey(&spec, &options.bundle)?;
    log::phase("host");
    let mut told = plan_options(context, options, purpose, &layout);
    if spec.linux.as_ref().is_some_and(|linux| linux.intel_rdt.is_some()) {
        told.resctrl = resctrl::find()?;
    }
    last(&mut told);
    let plan = Plan::new(&spec, &host, &facts, &told)?;
    Ok(Decision { plan, layout, opened, rootfs: facts.rootfs })
}

fn host(context: &Context, spec: &spec::Spec) -> Result<Host> {
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
        resctrl: None,
    }
}

fn check_terminal(terminal: bool, options: &Options, purpose: Purpose) -> Result<()> {
    let detached = purpose != Purpose::Foreground;
    match (terminal, options.console_socket.is_some()) {
        (true, false) if detached => bail!("{}", phrase::TTY_WITHOUT_SOCKET),
        (terminal, true) if !(terminal && detached) => bail!("{}", phrase::SOCKET_WITHOUT_TTY),
        _ => Ok(()),
    }
}

/// A birth under way, and what has to be taken back if it fails.
struct Birth<'a> {
    context: &'a Context,
    container: Container,
    plan: Plan,
    options: &'a Options,
    purpose: Purpose,
    cgroup: OnceCell<Cgroup>,
    /// systemd started the unit.
    started: Cell<bool>,
    resctrl: Option<resctrl::Made>,
    readiness: Option<UnixDatagram>,
}

impl Birth<'_> {
    fn give(&mut self, layout: &Layout, opened: &Opened) -> Result<(Child, Option<Foreground>)> {
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
        let mut manager = match &self.plan.cgroup.unit {
            Some(unit) => Some(self.manager(unit, layout)?),
            None => {
                self.make_cgroup(layout)?;
                None
            }
        };
        let group = self.container.state.saved.rdt.as_ref().map(resctrl::prepare);
        self.resctrl = group.transpose().context(phrase::START_PROCESS).inspect_err(|_| {
            // What was made is gone already; what is there is somebody else's.
            self.container.state.saved.rdt = None;
        })?;
        log::phase("cgroup");
        let fifo = self.fifo()?;
        let connect = |path: &Option<PathBuf>| path.as_deref().map(terminal::connect).transpose();
        let (console, pidfd_socket) =
            (connect(&self.options.console_socket)?, connect(&self.options.pidfd_socket)?);
        let foreground =
            (self.purpose == Purpose::Foreground).then(|| Foreground::new(self.plan.birth.terminal));
        let foreground = foreground.transpose()?;
        let descriptors = Descriptors {
            opened: Some(opened),
            mount_maps: mount_maps::open(&self.plan.birth.mount_maps)?,
            console: console.as_ref().map(AsFd::as_fd).or(foreground.as_ref().and_then(Foreground::console)),
            pidfd_socket: pidfd_socket.as_ref().map(AsFd::as_fd),
            fifo: fifo.as_ref().map(AsFd::as_fd),
            stdio: foreground.as_ref().map_or([None; 3], Foreground::stdio),
            ..Descriptors::default()
        };
        let child = spawn::init(&self.plan.birth, &descriptors, self.cgroup.get().map(Cgroup::fd))
            .context(phrase::START_PROCESS)?;
        log::phase("clone");
        let child = match self.serve(child, manager.as_mut(), layout) {
            Ok(child) => child,
            Err(error) => {
                foreground.into_iter().for_each(Foreground::last_words);
                return Err(error);
            }
        };
        log::phase("program");
        log::debug("init: closing the pipe to signal completion");
        if let Err(error) = self.finish(&child) {
            spawn::end(&child);
            return Err(error);
        }
        Ok((child, foreground))
    }

    /// Who will make the cgroup, after a look at where.
    fn manager(&self, unit: &Unit, layout: &Layout) -> Result<Manager> {
        cgroup::check_place(layout, &self.plan.cgroup)?;
        Manager::connect_for_start(&self.context.systemd(unit.user)?, &unit.name)
    }

    fn make_cgroup(&mut self, layout: &Layout) -> Result<()> {
        let state = &mut self.container.state;
        let created = cgroup::create(layout, &self.plan.cgroup).inspect_err(|_| {
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
        self.cgroup.get_or_init(|| cgroup);
        Ok(())
    }

    /// The fifo of `create`, for whoever is root inside.
    fn fifo(&self) -> Result<Option<OwnedFd>> {
        if self.purpose != Purpose::Create {
            return Ok(None);
        }
        let owner = self.plan.birth.id_maps.as_ref().map_or((0, 0), |maps| maps.root);
        self.container.make_fifo(owner).map(Some)
    }

    fn serve(&mut self, child: Child, manager: Option<&mut Manager>, layout: &Layout) -> Result<Child> {
        let container = std::cell::RefCell::new(&mut self.container);
        let hooks = &self.plan.hooks;
        let sees_others = self.plan.saved.namespaces & namespaces::PID == 0;
        let seen = |pid: i32| if !sees_others { state::pid_inside(pid) } else { pid };
        let mut manager = manager;
        let before_pivot = [("prestart", &hooks.prestart), ("createRuntime", &hooks.create_runtime)];
        let mut caller = serve::Caller {
            born: &mut |pid| {
                let mut container = container.borrow_mut();
                container.state.pid = pid;
                container.state.start_time = state::start_time(pid).unwrap_or(0);
                if let Some(group) = &container.state.saved.rdt {
                    resctrl::join(group, pid)?;
                }
                container.save()
            },
            place: &mut |pid| {
                let (Some(manager), Some(unit)) = (manager.as_mut(), &self.plan.cgroup.unit) else {
                    return Ok(());
                };
                let mut container = container.borrow_mut();
                // A refusal leaves no unit of ours.
                manager.start(unit, pid).context(phrase::APPLY_CGROUP)?;
                self.started.set(true);
                let cgroup = cgroup::enter_unit(layout, &self.plan.cgroup, pid, &mut container.state.cgroup)?;
                container.state.cgroup_inode = cgroup.inode()?;
                self.cgroup.get_or_init(|| cgroup);
                container.save()
            },
            meanwhile: &mut || match self.cgroup.get() {
                Some(cgroup) => {
                    cgroup.restrict_devices(&self.plan.cgroup.devices)?;
                    self.plan.cgroup_owner.map_or(Ok(()), |uid| cgroup.delegate(uid))
                }
                None => Ok(()),
            },
            hooks: &mut |pid| {
                let container = container.borrow();
                let state = state::for_hooks(&container.state, "creating", Some(pid));
                for (kind, hooks) in before_pivot {
                    run_hooks(kind, hooks, &state, &container.state.bundle)?;
                }
                Ok(Some(state::for_hooks(&container.state, "creating", Some(seen(pid)))))
            },
            ready: &mut |pid| {
                log::phase("mounts");
                let container = container.borrow();
                Ok(hooks
                    .has_start_container
                    .then(|| state::for_hooks(&container.state, "created", Some(seen(pid)))))
            },
            cgroup: &self.cgroup,
            of_container: true,
            see_it_run: self.purpose != Purpose::Create,
        };
        serve::serve(child, &self.plan.birth, &mut caller)
    }

    /// The container stands: only now does it count.
    fn finish(&mut self, child: &Child) -> Result<()> {
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
    fn take_back(mut self, error: Error) -> Error {
        if !self.started.get() {
            // What is there under that name is somebody else's.
            self.container.state.unit = None;
        }
        let destroyed = delete::destroy(self.context, &self.container);
        match destroyed.and(self.resctrl.as_ref().map_or(Ok(()), resctrl::take_back)) {
            Ok(()) => error,
            Err(also) => Error::new(format!("{error}; and then: {also}")),
        }
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
