//! pintle-keep: what an engine does for a container's life, for who has none. `run` puts a supervisor of one container into the
//! background; the other verbs look at what it wrote down, or talk to it. It is a program of its own: the runtime's command line is runc's.

pub mod args;
pub mod attach;
pub mod clients;
pub mod log;
pub mod logs;
pub mod packet;
pub mod restart;
pub mod state;
pub mod streams;
pub mod supervisor;

use crate::cli;
use args::{Cli, Command, Run};
use attach::Left;
use clap::Parser as _;
use packet::Packet;
use pintle::bail;
use pintle::error::{Context as _, Error, Result};
use rustix::net::SendFlags;
use rustix::process::{PidfdFlags, Signal};
use state::{Folder, Record, SOCKET, Status};
use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// Seconds that a container has to end after its stop signal.
pub const PATIENCE: u32 = 10;
/// Under this name the program is a supervisor, and so it is found by ps.
const SUPERVISOR: &str = "pintle-keep-supervisor";
/// The exit code of a failure of this program's own: few containers end with it, as env(1) and engines use it, too.
const FAILED: u8 = 125;
/// How much longer than the container a supervisor may take to end.
const MARGIN: u64 = 10;

/// Does what `argv` asks for; returns the exit code.
pub fn run(argv: impl IntoIterator<Item = OsString>) -> u8 {
    let argv: Vec<OsString> = argv.into_iter().collect();
    if cli::is_called(&argv, cli::RUNTIME) {
        return cli::runtime(argv);
    }
    let parsed = match Cli::try_parse_from(&argv) {
        Ok(parsed) => parsed,
        Err(error) => {
            // Help and version are no errors; where they go is clap's to know, and a closed pipe nobody's.
            error.print().unwrap_or(());
            return if error.use_stderr() { FAILED } else { 0 };
        }
    };
    act(&argv, &parsed).unwrap_or_else(|error| {
        let _unheard = writeln!(std::io::stderr(), "pintle-keep: {error}");
        FAILED
    })
}

fn act(argv: &[OsString], parsed: &Cli) -> Result<u8> {
    let home = parsed.state.clone().map_or_else(|| own("pintle-keep"), Ok)?;
    match &parsed.command {
        Command::Run(run) if cli::is_called(argv, SUPERVISOR) => supervisor::supervise(&home, run),
        Command::Run(run) => start(argv, run)?,
        Command::Attach { no_stdin, id } => {
            let folder = Folder::open(&home, id)?;
            match attach::attach(&folder, &living(&folder)?, !no_stdin)? {
                Left::Detached => {}
                Left::Ended => return wait(&folder),
            }
        }
        Command::Wait { id } => return wait(&Folder::open(&home, id)?),
        Command::Logs { follow, tail, id } => {
            let folder = Folder::open(&home, id)?;
            logs::print(&folder, &folder.read()?, *follow, *tail)?;
        }
        Command::List { format } => list(&home, format)?,
        Command::Stop { time, id } => stop(&Folder::open(&home, id)?, *time)?,
        Command::Rm { force, id } => remove(&Folder::open(&home, id)?, id, *force)?,
    }
    Ok(0)
}

/// A directory of this user's for what need not survive the machine.
fn own(name: &str) -> Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok(Path::new("/run").join(name));
    }
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|directory| !directory.is_empty()) {
        Some(directory) => Ok(Path::new(&directory).join(name)),
        None => bail!("$XDG_RUNTIME_DIR is not set"),
    }
}

/// Where pintle itself keeps the state of containers.
fn default_root() -> Result<PathBuf> {
    own("pintle")
}

/// Starts the supervisor, and hears from it whether the container runs.
fn start(argv: &[OsString], run: &Run) -> Result<()> {
    pintle::state::check_id(&run.id)?;
    let mut command = std::process::Command::new("/proc/self/exe");
    command.arg0(SUPERVISOR).args(argv.iter().skip(1));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().context("start the supervisor")?;
    let mut said = String::new();
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_string(&mut said).context("hear from the supervisor")?;
    }
    if said == "+" {
        return Ok(());
    }
    // It has nothing more to do: nothing of it is to be left, either.
    child.wait().context("wait for the supervisor")?;
    match said.split_at_checked(1) {
        Some((_, error)) => Err(Error::new(error.to_owned())),
        None => Err(Error::new("the supervisor ended before the container ran")),
    }
}

/// What is known of a container that somebody looks after.
fn living(folder: &Folder) -> Result<Record> {
    let record = folder.read()?;
    match record.status {
        Status::Exited => bail!("{} has ended", record.id),
        Status::Lost => bail!("{}: its supervisor was killed: rm --force clears away", record.id),
        _ => Ok(record),
    }
}

fn wait(folder: &Folder) -> Result<u8> {
    folder.is_free_within(None)?;
    let record = folder.read()?;
    match (record.status, record.exit_status) {
        (Status::Exited, Some(status)) => Ok(status),
        _ => bail!("{}: its supervisor was killed: how it ended is not known", record.id),
    }
}

fn stop(folder: &Folder, seconds: u32) -> Result<()> {
    let record = folder.read()?;
    if record.status == Status::Exited {
        return Ok(());
    }
    living(folder)?;
    let socket = packet::connect(&folder.path.join(SOCKET))?;
    Packet::Stop(seconds).send(socket, SendFlags::empty()).context("send to the supervisor")?;
    match folder.is_free_within(Some(Duration::from_secs(u64::from(seconds) + MARGIN)))? {
        true => Ok(()),
        false => bail!("{}: its supervisor does not answer", record.id),
    }
}

/// Forgets a container; by force, whatever it and its supervisor do.
fn remove(folder: &Folder, id: &str, force: bool) -> Result<()> {
    if folder.is_kept()? {
        if !force {
            bail!("{id} has not ended: stop it, or rm --force");
        }
        end_supervisor(folder)?;
    }
    // Without a record nothing was made yet.
    if let Some(record) = folder.read().ok().filter(|record| record.status != Status::Exited) {
        if !force {
            bail!("{id}: its supervisor was killed: rm --force clears away");
        }
        record.runtime(folder).delete_by_force(id)?;
    }
    folder.remove()
}

/// Asks it to end with its container at once, and kills it if it does not.
fn end_supervisor(folder: &Folder) -> Result<()> {
    let socket = packet::connect(&folder.path.join(SOCKET))?;
    // Whoever listens is there, and its number nobody else's: the lock is held.
    let peer = rustix::net::sockopt::socket_peercred(&socket).context("SO_PEERCRED")?;
    let supervisor = rustix::process::pidfd_open(peer.pid, PidfdFlags::empty()).context("pidfd_open")?;
    let asked = Packet::Stop(0).send(socket, SendFlags::DONTWAIT);
    if asked.is_err() || !folder.is_free_within(Some(Duration::from_secs(MARGIN)))? {
        rustix::process::pidfd_send_signal(supervisor, Signal::KILL).context("kill the supervisor")?;
        folder.is_free_within(None)?;
    }
    Ok(())
}

fn list(home: &Path, format: &str) -> Result<()> {
    let mut records = Vec::new();
    for (id, folder) in Folder::all(home)? {
        match folder.read() {
            Ok(record) => records.push(record),
            Err(error) => drop(writeln!(std::io::stderr(), "{id}: {error}: rm --force clears away")),
        }
    }
    let text = match format {
        "json" => serde_json::to_string(&records).map_err(|error| Error::new(error.to_string()))? + "\n",
        _ => table(&records),
    };
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

fn table(records: &[Record]) -> String {
    let mut rows =
        vec![["ID", "PID", "STATUS", "RESTARTS", "BUNDLE", "CREATED", "TROUBLE"].map(str::to_owned)];
    rows.extend(records.iter().cloned().map(|record| {
        let status = match (record.status, record.exit_status) {
            (Status::Exited, Some(code)) => format!("exited ({code})"),
            (status, _) => format!("{status:?}").to_lowercase(),
        };
        let bundle = record.bundle.display().to_string();
        let (pid, restarts) = (record.pid.to_string(), record.restarts.to_string());
        [record.id, pid, status, restarts, bundle, record.created, record.trouble]
    }));
    pintle::cli::table::columns(&rows)
}
