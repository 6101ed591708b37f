//! What containerd calls the program for: `start` puts a server into the background, or finds the one of the pod; `delete` clears away
//! after one that is gone; `-info` tells what the runtime can do.

use crate::bootstrap::Bootstrap;
use crate::cli::Arguments;
use crate::rootfs;
use crate::runtime::{self, Runtime};
use crate::socket;
use crate::unfinished::{self, Note};
use crate::wire::options::Options;
use crate::wire::task::DeleteResponse;
use crate::wire::{Any, Timestamp, bootstrap};
use pintle::error::{Context as _, Error, Result};
use prost::Message as _;
use rustix::fd::OwnedFd;
use rustix::thread::{CoreSchedulingScope, create_core_scheduling_cookie};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What this shim is called in containerd's configuration.
pub const NAME: &str = "io.containerd.pintle.v1";
/// Where in the bundle the shim's address is.
const ADDRESS: &str = "address";
/// The most that is read from standard input, in bytes.
const LONGEST: u64 = 4 << 20;
/// Annotations whose value names the containers that share a shim; the first that is there counts.
const GROUPS: [&str; 2] = ["io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"];
/// What a process killed by SIGKILL exits with.
const KILLED: u32 = 128 + 9;

/// Makes sure that a server runs for the container whose bundle is the working directory; returns what containerd is to be told.
///
/// # Errors
/// A bundle that can't be read; a socket that can't be made.
pub fn start(arguments: &Arguments) -> Result<Vec<u8>> {
    let mut input = Vec::new();
    std::io::stdin().lock().take(LONGEST).read_to_end(&mut input).context("read standard input")?;
    let bootstrap = Bootstrap::read(&input, arguments, |name| std::env::var(name).ok());
    let group = group(Path::new("."), &arguments.id)?;
    let folder = bootstrap.socket_folder();
    let path = socket::path(&folder, &arguments.address, &arguments.namespace, &group);
    let address = socket::address(&path);
    // Should this process be killed, the next one clears away; without it everything else goes on.
    let note = Note::of(&path).ok();
    if let Some(listener) = socket::listen(&path)? {
        let started = server(arguments, &bootstrap, listener, &address, note.as_ref());
        if let Err(error) = started {
            socket::remove(&path);
            return Err(error);
        }
        if let Some(note) = note {
            note.leave();
        }
    }
    write_address(&address)?;
    Ok(bootstrap.reply(&address))
}

/// Containers of one pod share a shim.
fn group(bundle: &Path, id: &str) -> Result<String> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(default)]
        annotations: BTreeMap<String, String>,
    }
    let path = bundle.join("config.json");
    let text = std::fs::read(&path).with_context(|| format!("open {}", path.display()))?;
    let config: Config =
        serde_json::from_slice(&text).map_err(|e| Error::new(format!("{}: {e}", path.display())))?;
    let group = GROUPS.iter().find_map(|name| config.annotations.get(*name));
    Ok(group.map_or(id, String::as_str).to_owned())
}

/// Starts the server in the background, which finds its listener where others have their standard input, and its note where they have
/// their standard output.
fn server(
    arguments: &Arguments,
    bootstrap: &Bootstrap,
    listener: OwnedFd,
    address: &str,
    note: Option<&Note>,
) -> Result<()> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0(std::env::args_os().next().unwrap_or_else(|| NAME.into()));
    command.args(["-namespace", &arguments.namespace, "-id", &arguments.id, "-address", &arguments.address]);
    if bootstrap.debug() {
        command.arg("-debug");
    }
    command.env("TTRPC_ADDRESS", bootstrap.events());
    command.env(socket::VARIABLE, address);
    command.stdin(listener).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    command.env_remove(unfinished::VARIABLE);
    if let Some(note) = note {
        let (path, file) = note.for_child()?;
        command.stdout(file).env(unfinished::VARIABLE, path);
    }
    if arguments.own_cores {
        // The server is born with it, and so is everything that it bears. prctl(2), PR_SCHED_CORE
        let own = rustix::process::getpid();
        create_core_scheduling_cookie(own, CoreSchedulingScope::ProcessGroup)
            .context("enable sched core support")?;
    }
    let child = command.spawn().context("start the shim's server")?;
    let placed = place(child.id(), bootstrap.options());
    if placed.is_err() {
        // It has nothing yet that would be lost.
        let mut child = child;
        child.kill().and_then(|()| child.wait()).context("end the shim's server")?;
    }
    placed
}

/// Where the server belongs: into the cgroup that is named for it, and one step nearer to the end than containerd when memory runs out.
fn place(pid: u32, options: &Options) -> Result<()> {
    if !options.shim_cgroup.is_empty() {
        let top = pintle::cgroup::Layout::find()?.directory(Path::new(&options.shim_cgroup));
        let procs = top.join("cgroup.procs");
        std::fs::write(&procs, pid.to_string())
            .with_context(|| format!("failed to join cgroup {}", procs.display()))?;
    }
    let score = |pid: u32| format!("/proc/{pid}/oom_score_adj");
    // In a pid namespace of its own the shim may not see containerd.
    let daemon = std::fs::read_to_string(score(std::os::unix::process::parent_id()));
    let daemon: i32 = daemon.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let own = (daemon + 1).min(1000).to_string();
    std::fs::write(score(pid), own).context("failed to adjust OOM score for shim")
}

/// containerd up to 1.6 finds the shim again by this file.
fn write_address(address: &str) -> Result<()> {
    let told = || "write address".to_owned();
    std::fs::write(".address", address).with_context(told)?;
    std::fs::rename(".address", ADDRESS).with_context(told)
}

/// Clears away what is left of a container whose shim is gone: after a crash, and after every ordinary end. The working directory is a
/// bundle, the container's own or a neighbour's.
///
/// # Errors
/// None that containerd could do something about: they are told on standard error, and the rest is done.
pub fn delete(arguments: &Arguments) -> Result<Vec<u8>> {
    let bundle = match arguments.bundle.as_os_str().is_empty() {
        true => std::env::current_dir().context("getwd")?.with_file_name(&arguments.id),
        false => arguments.bundle.clone(),
    };
    let sockets = sockets(arguments, &bundle);
    let _notes: Vec<Note> = sockets.iter().filter_map(|path| Note::of(path).ok()).collect();
    let runtime = Runtime::of_bundle(&bundle, &arguments.namespace);
    let mut wrong = Vec::new();
    wrong.extend(runtime.delete_by_force(&arguments.id).err());
    wrong.extend(rootfs::disassemble(&bundle).err());
    sockets.iter().for_each(|path| socket::remove_dead(path));
    for error in wrong {
        use std::io::Write as _;
        let _unheard = writeln!(std::io::stderr(), "{error}");
    }
    let pid = runtime::read_pid(&bundle.join(runtime::INIT_PID)).unwrap_or(0);
    let response = DeleteResponse { pid, exit_status: KILLED, exited_at: Some(Timestamp::now()) };
    Ok(response.encode_to_vec())
}

/// Where the shim of a bundle listened: where it said, and where it would have if it came to its end before it could say.
fn sockets(arguments: &Arguments, bundle: &Path) -> Vec<PathBuf> {
    let said = std::fs::read_to_string(bundle.join(ADDRESS)).ok();
    let said = said.map(|address| socket::path_of(address.trim()).to_owned());
    let group = group(bundle, &arguments.id).unwrap_or_else(|_| arguments.id.clone());
    let usual = socket::path(Path::new(socket::FOLDER), &arguments.address, &arguments.namespace, &group);
    let other = said.filter(|said| *said != usual);
    other.into_iter().chain([usual]).collect()
}

/// What the runtime can do, as containerd asks it once.
///
/// # Errors
/// A machine that can't be looked at.
pub fn info() -> Result<Vec<u8>> {
    let features = pintle::ops::features::features()?.into_bytes();
    let name = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";
    let info = bootstrap::RuntimeInfo {
        name: NAME.into(),
        version: Some(bootstrap::RuntimeVersion {
            version: env!("CARGO_PKG_VERSION").into(),
            revision: option_env!("PINTLE_COMMIT").unwrap_or_default().into(),
        }),
        features: Some(Any { type_url: name.into(), value: features }),
        ..bootstrap::RuntimeInfo::default()
    };
    Ok(info.encode_to_vec())
}
