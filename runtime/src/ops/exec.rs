//! `exec`: another process in a running container.

use super::{Context, create};
use crate::bail;
use crate::cgroup::systemd::Manager;
use crate::cgroup::{self, Cgroup};
use crate::error::{Context as _, Kind, Result, phrase};
use crate::host::Host;
use crate::launch::serve::{Caller, serve};
use crate::launch::spawn::{self, Descriptors};
use crate::launch::terminal::{self, Foreground};
use crate::plan;
use crate::spec;
use crate::state::{Container, Status};
use rustix::fd::{AsFd, OwnedFd};
use std::cell::OnceCell;
use std::path::PathBuf;

/// The process to start.
#[derive(Clone, Debug)]
pub enum Process {
    /// `--process FILE`: a whole process object.
    File(PathBuf),
    /// The container's own process with these changes.
    Like(Box<Changes>),
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
#[derive(Clone, Debug)]
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
    let mut container = Container::load(context, &options.id)?;
    match container.status()? {
        Status::Stopped | Status::Creating => bail!("{}", phrase::EXEC_STOPPED),
        Status::Paused if !options.ignore_paused => bail!("{}", phrase::EXEC_PAUSED),
        _ => {}
    }
    let Some(init) = container.init()? else { bail!("{}", phrase::EXEC_STOPPED) };
    let _held = spawn::occupy(options.listen_fds, options.preserve_fds)?;
    container.load_filter()?;
    let process = process(&container, &options.process)?;
    let mut warnings = Vec::new();
    let cgroup = place(&container, options)?.map_or_else(OnceCell::new, OnceCell::from);
    let mut porter = cgroup.get().map_or(Ok(None), |cgroup| porter(context, &container, cgroup))?;
    let birth = plan(context, &container, &process, options, porter.is_some(), &mut warnings)?;
    warnings.iter().for_each(crate::log::warn);
    check_terminal(birth.terminal, options)?;

    let connect = |path: &Option<PathBuf>| path.as_deref().map(terminal::connect).transpose();
    let (console, pidfd_socket) = (connect(&options.console_socket)?, connect(&options.pidfd_socket)?);
    let foreground = (!options.detach).then(|| Foreground::new(birth.terminal)).transpose()?;
    let time = time_namespace(&container)?;
    let descriptors = Descriptors {
        container_init: Some(init.as_fd()),
        container_time: time.as_ref().map(AsFd::as_fd),
        console: console.as_ref().map(AsFd::as_fd).or(foreground.as_ref().and_then(Foreground::console)),
        pidfd_socket: pidfd_socket.as_ref().map(AsFd::as_fd),
        stdio: foreground.as_ref().map_or([None; 3], Foreground::stdio),
        ..Descriptors::default()
    };
    let entered = cgroup.get().filter(|_| porter.is_none()).map(Cgroup::fd);
    let child = spawn::init(&birth, &descriptors, entered)?;
    crate::log::debug("setns_init: about to exec");
    let served = serve(
        child,
        &birth,
        &mut Caller {
            born: &mut |_| Ok(()),
            place: &mut |pid| porter.as_mut().map_or(Ok(()), |(manager, below)| manager.attach(below, pid)),
            meanwhile: &mut || Ok(()),
            hooks: &mut |_| Ok(None),
            ready: &mut |_| Ok(None),
            cgroup: &cgroup,
            of_container: false,
            see_it_run: true,
        },
    );
    let child = match served {
        Ok(child) => child,
        Err(error) => {
            foreground.into_iter().for_each(Foreground::last_words);
            let told = error.kind() == Kind::Program && !options.detach;
            return if told { Ok(create::NOT_EXECUTED) } else { Err(error) };
        }
    };
    if let Some(path) = &options.pid_file {
        create::write_pid_file(path, child.pid).inspect_err(|_| spawn::end(&child))?;
    }
    match foreground {
        Some(foreground) => foreground.attend(&child),
        None => Ok(0),
    }
}

/// An ordinary user may move processes only within his own systemd's cgroup. From elsewhere, such as a login's session,
/// systemd has to; it wants to know the unit and the path below.
fn porter(context: &Context, container: &Container, cgroup: &Cgroup) -> Result<Option<(Manager, String)>> {
    let (Some(unit), Some(top)) = (&container.state.unit, &container.state.cgroup) else { return Ok(None) };
    if !unit.user || plan::cgroup::systemd::share_manager(cgroup::own()?.as_ref(), cgroup.path()) {
        return Ok(None);
    }
    let below = cgroup.path().strip_prefix(top).unwrap_or("".as_ref());
    let manager = Manager::connect(&context.systemd(unit.user)?, &unit.name)?;
    Ok(Some((manager, format!("/{}", below.display()))))
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

fn check_terminal(terminal: bool, options: &Options) -> Result<()> {
    match (terminal, options.console_socket.is_some()) {
        (true, false) if options.detach => bail!("{}", phrase::TTY_WITHOUT_SOCKET),
        (terminal, true) if !(terminal && options.detach) => bail!("{}", phrase::SOCKET_WITHOUT_TTY),
        _ => Ok(()),
    }
}

fn plan(
    context: &Context,
    container: &Container,
    process: &spec::Process,
    options: &Options,
    placed_later: bool,
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
        placed_later,
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
    let process = match wanted {
        Process::File(path) => {
            let mut process = spec::load_process(path)?;
            process.capabilities = process.capabilities.or_else(|| own.capabilities.clone());
            process.apparmor_profile = process.apparmor_profile.or_else(|| own.apparmor_profile.clone());
            process.selinux_label = process.selinux_label.or_else(|| own.selinux_label.clone());
            process.rlimits = process.rlimits.or_else(|| own.rlimits.clone());
            process.no_new_privileges = process.no_new_privileges.or(own.no_new_privileges);
            process.oom_score_adj = process.oom_score_adj.or(own.oom_score_adj);
            process.scheduler = process.scheduler.or_else(|| own.scheduler.clone());
            process.io_priority = process.io_priority.or(own.io_priority);
            process
        }
        Process::Like(changes) => changed(own.clone(), changes)?,
    };
    Ok(process)
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
/// (CVE-2026-30892).
fn parse_user(typed: &str, gid: Option<u32>) -> Result<(Option<u32>, Option<u32>)> {
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
fn place(container: &Container, options: &Options) -> Result<Option<Cgroup>> {
    let Some(own) = container.state.cgroup.as_deref() else { return Ok(None) };
    let mut path = own.to_owned();
    if options.cgroups.is_empty() && Cgroup::open(own)?.is_some_and(|cgroup| cgroup.is_parent()) {
        // An init such as systemd made cgroups of its own: beside it is where a process can live.
        path = cgroup::of_process(container.state.pid, own)?;
    }
    for typed in &options.cgroups {
        let below = typed.strip_prefix(':').unwrap_or(typed);
        if below.contains(':') {
            bail!("bad --cgroup argument {typed:?}: cgroup v2 has no controllers to name");
        }
        let clean = plan::mounts::clean(below);
        if below.split('/').any(|part| part == "..") {
            bail!("bad sub cgroup path: {below}");
        }
        path = own.join(clean.trim_start_matches('/'));
    }
    let Some(cgroup) = Cgroup::open(&path)? else {
        bail!("can't open cgroup {}: no such file or directory", path.display());
    };
    if !options.ignore_paused {
        cgroup.join_check()?;
    }
    Ok(Some(cgroup))
}

#[cfg(test)]
mod tests {
    use super::parse_user;

    #[test]
    fn a_user_is_what_was_typed_or_an_error() {
        assert_eq!(parse_user("1", Some(7)).unwrap(), (Some(1), Some(7)));
        assert_eq!(parse_user("1:2", None).unwrap(), (Some(1), Some(2)));
        for wrong in ["", ":", "1:", ":1", "-1", "+1", "4294967295", "4294967296", "root", "1:2:3", " 1"] {
            assert!(parse_user(wrong, None).is_err(), "{wrong:?}");
        }
    }
}
