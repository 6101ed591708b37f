//! The program that mounts what the server can't wait for: this one under another name, its mounts on standard input. It tells what went
//! wrong where the runtime would tell it.

use super::{By, Mount, assemble_by};
use pintle::error::{Context as _, Error, Result};
use pintle::log;
use prost::Message as _;
use rustix::process::Signal;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// The name under which this program mounts.
pub const NAME: &str = "pintle-mount";

/// What it reads.
#[derive(Clone, PartialEq, prost::Message)]
struct Order {
    #[prost(message, repeated, tag = "1")]
    mounts: Vec<Mount>,
}

/// The command that mounts these at the root file system of `bundle`, in a process group of its own.
///
/// # Errors
/// No memory for what it is to read.
pub fn command(mounts: &[Mount], bundle: &Path, log: &Path) -> Result<Command> {
    let file = rustix::fs::memfd_create(NAME, rustix::fs::MemfdFlags::CLOEXEC).context("memfd_create")?;
    let mut file = File::from(file);
    file.write_all(&Order { mounts: mounts.to_vec() }.encode_to_vec())?;
    file.rewind()?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0(NAME).arg(log).arg(bundle).arg(std::process::id().to_string());
    command.stdin(file).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    Ok(command)
}

/// Mounts; returns the exit code.
pub fn run(words: impl Iterator<Item = OsString>) -> u8 {
    match mount(words) {
        Ok(()) => 0,
        Err(error) => {
            log::error(error);
            1
        }
    }
}

fn mount(mut words: impl Iterator<Item = OsString>) -> Result<()> {
    // Nobody would take away what came later.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).context("prctl")?;
    let (Some(log), Some(bundle), Some(parent)) = (words.next(), words.next(), words.next()) else {
        return Err(Error::new("a log, a bundle and the parent have to be named"));
    };
    let own = rustix::process::getppid().map_or(0, rustix::process::Pid::as_raw_pid);
    if parent.to_str() != Some(own.to_string().as_str()) {
        return Err(Error::new("its parent is gone"));
    }
    log::configure(Some(Path::new(&log)), log::Format::Json, false)?;
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes).context("read standard input")?;
    let order = Order::decode(bytes.as_slice()).map_err(|error| Error::new(error.to_string()))?;
    assemble_by(By::Mounter, &order.mounts, Path::new(&bundle))
}
