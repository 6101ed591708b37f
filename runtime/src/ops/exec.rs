//! `exec`: another process in a running container.

use super::create::{self, check_terminal};
use super::{Context, Streams, Underway};
use crate::bail;
use crate::cgroup::systemd::Manager;
use crate::cgroup::{self, Cgroup};
use crate::error::{Context as _, Error, Kind, Result, phrase};
use crate::host::Host;
use crate::launch::agent;
use crate::launch::serve::{Caller, Delivery, Endings, Parent};
use crate::launch::spawn::{self, Child, Descriptors};
use crate::launch::terminal::{self, Ends};
use crate::plan;
use crate::resctrl;
use crate::spec;
use crate::state::{self, Container, Status};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

/// The process to start.
#[derive(Clone, Debug)]
pub enum Process {
    /// `--process FILE`: a whole process object.
    File(PathBuf),
    /// The same as text.
    Text(Vec<u8>),
    /// The container's own process with these changes.
    Like(Box<Changes>),
}

impl Default for Process {
    fn default() -> Self {
        Self::Like(Box::default())
    }
}

/// What `exec` without `--process` changes of the container's own process.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// `--cwd`
    pub cwd: Option<String>,
    /// `--env`, appended
    pub env: Vec<String>,
    /// `--tty`
    pub tty: bool,
    /// `--user UID[:GID]`, as typed
    pub user: Option<String>,
    /// `--additional-gids`
    pub additional_gids: Vec<u32>,
    /// `--process-label`
    pub process_label: Option<String>,
    /// `--apparmor`
    pub apparmor: Option<String>,
    /// `--no-new-privs`
    pub no_new_privs: Option<bool>,
    /// `--cap`, as typed
    pub caps: Vec<String>,
}

/// What `exec` is told on the command line. Paths are absolute.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The container's id.
    pub id: String,
    /// The process to start.
    pub process: Process,
    /// `--console-socket`
    pub console_socket: Option<PathBuf>,
    /// `--pidfd-socket`
    pub pidfd_socket: Option<PathBuf>,
    /// `--detach`
    pub detach: bool,
    /// `--pid-file`
    pub pid_file: Option<PathBuf>,
    /// `--preserve-fds`
    pub preserve_fds: u32,
    /// `$LISTEN_FDS`
    pub listen_fds: u32,
    /// `--cgroup [CONTROLLER:]PATH`, each as typed
    pub cgroups: Vec<String>,
    /// `--ignore-paused`
    pub ignore_paused: bool,
    /// Do not become a child subreaper (`--no-subreaper`).
    pub no_subreaper: bool,
}

/// Starts a process in a container; returns the exit status to leave with.
///
/// # Errors
/// A container that is stopped or paused, a process that can't be started.
pub fn exec(context: &Context, options: &Options) -> Result<u8> {
    let _held = spawn::occupy(options.listen_fds, options.preserve_fds)?;
    let (mut addition, birth) = Addition::prepare(context, options, Parent::Sleeps)?;
    addition.connect(context)?;
    check_terminal(birth.terminal, options.console_socket.is_some(), options.detach)?;
    let (console, pidfd_socket) = (options.console_socket.as_deref(), options.pidfd_socket.as_deref());
    let ends = Ends::new(console, pidfd_socket, !options.detach, birth.terminal)?;
    let child = addition.start_init(&birth, ends.descriptors())?;
    let mut delivery = Delivery::begin(child, birth, addition, Parent::Sleeps);
    if let Err(error) = delivery.complete() {
        ends.last_words();
        let told = error.kind() == Kind::Program && !options.detach;
        return if told { Ok(create::NOT_EXECUTED) } else { Err(error) };
    }
    let child = delivery.child();
    if let Some(path) = &options.pid_file {
        create::write_pid_file(path, child.pid).inspect_err(|_| spawn::end(child))?;
    }
    match ends.foreground {
        Some(foreground) => foreground.attend(child),
        None => Ok(0),
    }
}

/// Begins to start a process for a caller that must not wait, and goes on by turns. None where others than init would have to be waited for, a
/// user's systemd, or where the caller would have to move to another processor.
///
/// # Errors
/// As for [`exec`].
pub fn begin(
    context: &Context,
    options: &Options,
    streams: Streams<'_>,
) -> Result<Option<Box<dyn Underway>>> {
    let (addition, birth) = Addition::prepare(context, options, Parent::GoesOn)?;
    // What the kernel would refuse is told by the other way.
    let place = addition.cgroup.as_ref().is_some_and(|cgroup| !cgroup.is_parent());
    let agent = addition.container.state.saved.seccomp_agent.is_some();
    if !place || agent || addition.below.is_some() || birth.initial_affinity.is_some() {
        return Ok(None);
    }
    check_terminal(birth.terminal, streams.console.is_some(), true)?;
    let child = addition.start_init(&birth, streams.descriptors())?;
    Ok(Some(Box::new(Added(Delivery::begin(child, birth, addition, Parent::GoesOn)))))
}

/// A process on its way into a container.
#[derive(Debug)]
struct Added(Delivery<Addition>);

impl Underway for Added {
    fn turn(&mut self, endings: Endings<'_>) -> Result<bool> {
        self.0.turn(endings)
    }

    fn is_left(&mut self) -> bool {
        false
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

/// A container that a process is added to.
#[derive(Debug)]
struct Addition {
    container: Container,
    init: OwnedFd,
    cgroup: Option<Cgroup>,
    /// Only systemd can put the process into the cgroup: where that is below the unit.
    below: Option<String>,
    /// The connection to it.
    porter: Option<Manager>,
    parent: Parent,
}

impl Addition {
    /// Looks at the container, and decides about the process.
    fn prepare(context: &Context, options: &Options, parent: Parent) -> Result<(Self, plan::Birth)> {
        let mut container = Container::load(context, &options.id)?;
        match container.status()? {
            Status::Stopped | Status::Creating => bail!("{}", phrase::EXEC_STOPPED),
            Status::Paused if !options.ignore_paused => bail!("{}", phrase::EXEC_PAUSED),
            _ => {}
        }
        let Some(init) = container.init()? else { bail!("{}", phrase::EXEC_STOPPED) };
        container.load_filter()?;
        let process = process(&container, &options.process)?;
        let wanted = below(&options.cgroups)?;
        let cgroup = place(&container, wanted, options.ignore_paused)
            .map_err(|error| error.context("error starting setns process").context(phrase::START_PROCESS))?;
        let below = cgroup.as_ref().map_or(Ok(None), |cgroup| below_unit(&container, cgroup))?;
        let mut warnings = Vec::new();
        let placed = plan::exec::Options {
            placed_later: below.is_some(),
            by_turns: parent == Parent::GoesOn,
            ..plan::exec::Options::default()
        };
        let birth = plan(context, &container, &process, options, placed, &mut warnings)?;
        warnings.iter().for_each(crate::log::warn);
        Ok((Self { container, init, cgroup, below, porter: None, parent }, birth))
    }

    /// To whom the cgroup belongs, where that is not the caller.
    fn connect(&mut self, context: &Context) -> Result<()> {
        if let (Some(unit), true) = (&self.container.state.unit, self.below.is_some()) {
            self.porter = Some(Manager::connect(&context.systemd(unit.user)?, &unit.name)?);
        }
        Ok(())
    }

    /// Starts init with `given`.
    fn start_init(&self, birth: &plan::Birth, given: Descriptors<'_>) -> Result<Child> {
        let time = time_namespace(&self.container)?;
        let descriptors = Descriptors {
            container_init: Some(self.init.as_fd()),
            container_time: time.as_ref().map(AsFd::as_fd),
            cgroup: self.cgroup.as_ref().map(Cgroup::fd),
            ..given
        };
        let apart = birth.placed_later || self.parent == Parent::GoesOn;
        let entered = self.cgroup.as_ref().filter(|_| !apart);
        let child = spawn::init(birth, &descriptors, entered.map(Cgroup::fd))
            .map_err(|error| unborn(error, entered).context(phrase::START_PROCESS))?;
        super::tell_filter(&self.container.state.saved);
        crate::log::debug("setns_init: about to exec");
        Ok(child)
    }
}

impl Caller for Addition {
    fn born(&mut self, pid: i32) -> Result<()> {
        self.container.state.saved.rdt.as_ref().map_or(Ok(()), |group| resctrl::join(group, pid))
    }

    fn place(&mut self, pid: i32) -> Result<()> {
        match (&mut self.porter, &self.below) {
            (Some(manager), Some(below)) => manager.attach(below, pid),
            _ => Ok(()),
        }
    }

    fn filtered(&mut self, pid: i32, listener: OwnedFd) -> Result<()> {
        let state = &self.container.state;
        let told = state::for_hooks(state, "running", Some(state.pid));
        agent::tell(state.saved.seccomp_agent.as_ref(), &told, pid, listener)
    }

    fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }

    fn of_container(&self) -> bool {
        false
    }

    fn see_it_run(&self) -> bool {
        true
    }
}

/// An ordinary user may move processes only within his own systemd's cgroup. From elsewhere, such as a login's session,
/// systemd has to; it wants to know the unit and the path below.
fn below_unit(container: &Container, cgroup: &Cgroup) -> Result<Option<String>> {
    let (Some(unit), Some(top)) = (&container.state.unit, &container.state.cgroup) else { return Ok(None) };
    if !unit.user || plan::cgroup::systemd::share_manager(cgroup::own()?.as_ref(), cgroup.path()) {
        return Ok(None);
    }
    let below = cgroup.path().strip_prefix(top).unwrap_or("".as_ref());
    Ok(Some(format!("/{}", below.display())))
}

/// Where init's children would be: its program, too, once it is executed.
fn time_namespace(container: &Container) -> Result<Option<OwnedFd>> {
    use rustix::fs::{CWD, Mode, OFlags, openat};
    if container.state.saved.namespaces & plan::namespaces::TIME == 0 {
        return Ok(None);
    }
    let path = format!("/proc/{}/ns/time_for_children", container.state.pid);
    openat(CWD, path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context(path).map(Some)
}

fn plan(
    context: &Context,
    container: &Container,
    process: &spec::Process,
    options: &Options,
    placed: plan::exec::Options,
    warnings: &mut Vec<String>,
) -> Result<plan::Birth> {
    let mut more = 0;
    if let Process::Like(changes) = &options.process {
        for name in &changes.caps {
            match plan::capabilities::bit(name) {
                Some(bit) => more |= bit,
                None => warnings.push(format!("ignoring unknown or unavailable capabilities: [{name}]")),
            }
        }
    }
    let exec = plan::exec::Options {
        id: options.id.clone(),
        preserve_fds: options.preserve_fds,
        listen_fds: options.listen_fds,
        pidfd_socket: options.pidfd_socket.is_some(),
        foreground: !options.detach,
        rootfs: container.state.rootfs.clone(),
        terminal_size: terminal::size(),
        more_capabilities: more,
        ..placed
    };
    plan::exec::plan(
        &container.state.saved,
        process,
        &Host::probe(context.in_user_namespace)?,
        &exec,
        warnings,
    )
}

/// The process to start: a whole object with the container's own values for what it leaves out, or the container's own
/// process with the changes of the command line.
fn process(container: &Container, wanted: &Process) -> Result<spec::Process> {
    let own = &container.state.saved.process;
    match wanted {
        Process::File(path) => Ok(completed(spec::load_process(path)?, own)),
        Process::Text(text) => Ok(completed(spec::parse_process(text)?, own)),
        Process::Like(changes) => changed(own.clone(), changes),
    }
}

/// With the container's own values for what it leaves out.
fn completed(mut process: spec::Process, own: &spec::Process) -> spec::Process {
    process.capabilities = process.capabilities.or_else(|| own.capabilities.clone());
    process.apparmor_profile = process.apparmor_profile.or_else(|| own.apparmor_profile.clone());
    process.selinux_label = process.selinux_label.or_else(|| own.selinux_label.clone());
    process.rlimits = process.rlimits.or_else(|| own.rlimits.clone());
    process.no_new_privileges = process.no_new_privileges.or(own.no_new_privileges);
    process.oom_score_adj = process.oom_score_adj.or(own.oom_score_adj);
    process.scheduler = process.scheduler.or_else(|| own.scheduler.clone());
    process.io_priority = process.io_priority.or(own.io_priority);
    let affinity = process.exec_cpu_affinity.filter(|affinity| !affinity.is_empty());
    process.exec_cpu_affinity = affinity.or_else(|| own.exec_cpu_affinity.clone());
    process
}

fn changed(mut process: spec::Process, changes: &Changes) -> Result<spec::Process> {
    if changes.args.is_empty() {
        bail!("{}", phrase::EXEC_NO_ARGS);
    }
    process.args = Some(changes.args.clone());
    process.terminal = Some(changes.tty);
    process.console_size = None;
    process.cwd = changes.cwd.clone().or(process.cwd);
    process.env.get_or_insert_default().extend(changes.env.iter().cloned());
    process.selinux_label = changes.process_label.clone().or(process.selinux_label);
    process.apparmor_profile = changes.apparmor.clone().or(process.apparmor_profile);
    if let Some(no_new_privs) = changes.no_new_privs {
        process.no_new_privileges = Some(no_new_privs);
    }
    let user = process.user.get_or_insert_default();
    if let Some(typed) = &changes.user {
        (user.uid, user.gid) = parse_user(typed, user.gid)?;
    }
    if !changes.additional_gids.is_empty() {
        user.additional_gids.get_or_insert_default().extend(&changes.additional_gids);
    }
    Ok(process)
}

/// `UID[:GID]`. Anything but plain numbers in range is refused: a number read as another would be another user
/// (CVE-2026-30892). Without a group it is `gid`.
///
/// # Errors
/// Which of the two is no such number.
pub fn parse_user(typed: &str, gid: Option<u32>) -> Result<(Option<u32>, Option<u32>)> {
    let number = |text: &str, what: &str| match text.parse::<u32>() {
        Ok(number) if number != u32::MAX && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(Some(number))
        }
        _ => Err(crate::error::Error::new(format!(
            "bad {what}: {text:?} is not a number from 0 to 4294967294"
        ))),
    };
    match typed.split_once(':') {
        Some((uid, gid)) => Ok((number(uid, "uid")?, number(gid, "gid")?)),
        None => Ok((number(typed, "uid")?, gid)),
    }
}

/// The cgroup to be born in: the container's own, or one below it by `--cgroup`.
fn place(container: &Container, below: Option<&str>, ignore_paused: bool) -> Result<Option<Cgroup>> {
    let Some(own) = container.state.cgroup.as_deref() else { return Ok(None) };
    let path = match below {
        Some(typed) => {
            let Some(inner) = inner(typed) else { bail!("bad sub cgroup path: {typed}") };
            own.join(inner)
        }
        None => match Cgroup::open(own)? {
            // An init such as systemd made cgroups of its own: beside it is where a process can live.
            Some(cgroup) if cgroup.is_parent() => cgroup::of_process(container.state.pid, own)?,
            Some(_) => own.to_owned(),
            None => cgroup::of_process(container.state.pid, Path::new("/"))?,
        },
    };
    let Some(cgroup) = Cgroup::open(&path)? else {
        bail!("can't open cgroup: openat2 {}: no such file or directory", path.display());
    };
    if !ignore_paused {
        cgroup.join_check()?;
    }
    Ok(Some(cgroup))
}

/// The path among the words of `--cgroup`. What names controllers is checked as runc checks it, and left: in cgroup v2
/// all controllers share one place.
fn below(typed: &[String]) -> Result<Option<&str>> {
    let mut named = Vec::new();
    for word in typed {
        let Some((controllers, _)) = word.split_once(':') else {
            if typed.len() > 1 {
                bail!("invalid --cgroup argument: {word} (missing <controller>: prefix)");
            }
            return Ok(Some(word));
        };
        for controller in controllers.split(',') {
            if controller.is_empty() {
                bail!("invalid --cgroup argument: {word} (empty <controller> prefix)");
            }
            if named.contains(&controller) {
                bail!("invalid --cgroup argument(s): controller {controller} specified multiple times");
            }
            named.push(controller);
        }
        crate::log::warn(format_args!("ignoring --cgroup {word}: cgroup v2 has no places by controller"));
    }
    Ok(None)
}

/// The path without `.` and `..`; `None` if it leads above where it starts.
fn inner(typed: &str) -> Option<PathBuf> {
    let mut inner = PathBuf::new();
    for part in Path::new(typed).components() {
        match part {
            Component::Normal(name) => inner.push(name),
            Component::ParentDir if !inner.pop() => return None,
            _ => {}
        }
    }
    Some(inner)
}

/// Why a process could not be born where it was to be, in runc's words.
fn unborn(error: Error, cgroup: Option<&Cgroup>) -> Error {
    match cgroup {
        Some(cgroup) if cgroup.is_parent() => error.context(format_args!(
            "error adding pid of the new process to cgroups: {} hands controllers to the cgroups below it, and only in \
             those processes can live (--cgroup)",
            cgroup.path().display()
        )),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::{below, inner, parse_user};
    use std::path::PathBuf;

    #[test]
    fn a_user_is_what_was_typed_or_an_error() {
        assert_eq!(parse_user("1", Some(7)).unwrap(), (Some(1), Some(7)));
        assert_eq!(parse_user("1:2", None).unwrap(), (Some(1), Some(2)));
        for wrong in ["", ":", "1:", ":1", "-1", "+1", "4294967295", "4294967296", "root", "1:2:3", " 1"] {
            assert!(parse_user(wrong, None).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_sub_cgroup_is_never_above_the_containers_own() {
        for (typed, expect) in
            [("/", ""), ("", ""), (".", ""), ("a/b", "a/b"), ("/a//./b/", "a/b"), ("a/../b", "b")]
        {
            assert_eq!(inner(typed), Some(PathBuf::from(expect)), "{typed}");
        }
        for wrong in ["..", "../x", "a/../..", "/..", "/../a"] {
            assert_eq!(inner(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn controllers_before_a_path_are_checked_and_left() {
        let read = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
            below(&words).map(|path| path.map(str::to_owned)).map_err(|error| error.to_string())
        };
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["/a"]), Ok(Some("/a".into())));
        assert_eq!(read(&["memory:/a", "cpu,pids:/b"]), Ok(None));
        assert_eq!(read(&["a:b:c"]), Ok(None));
        for (words, expect) in [
            (&[":a"][..], "invalid --cgroup argument: :a (empty <controller> prefix)"),
            (&["cpu,:a"], "invalid --cgroup argument: cpu,:a (empty <controller> prefix)"),
            (&["/a", "cpu:/b"], "invalid --cgroup argument: /a (missing <controller>: prefix)"),
            (&["cpu:/a", "cpu:/b"], "invalid --cgroup argument(s): controller cpu specified multiple times"),
        ] {
            assert_eq!(read(words), Err(expect.into()));
        }
    }
}
