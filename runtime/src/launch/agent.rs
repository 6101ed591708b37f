//! The seccomp agent: whoever answers a container's system calls on the host. It is told of each process under the
//! filter and gets the descriptor by which it hears of calls (runtime spec, config-linux.md, "The Container Process
//! State"; seccomp_unotify(2)).

use crate::bail;
use crate::error::{Context, Result};
use crate::plan::seccomp::Agent;
use pintle_init::channel::send_descriptor;
use rustix::fd::{AsFd, OwnedFd};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use serde::Serialize;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// How long an agent may take to read what it is told.
const PATIENCE: Duration = Duration::from_secs(10);

/// `containerProcessState`, its keys in runc's order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProcessState<'a> {
    oci_version: &'a str,
    /// What comes along, in its order.
    fds: [&'a str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    metadata: &'a str,
    /// The container's state, as hooks read it.
    state: Value,
}

/// Tells `agent` of process `pid`, whose system calls `listener` reports, on a connection of its own; `state` is the
/// container's, as JSON.
///
/// # Errors
/// An agent that is not there or does not take the message whole.
pub fn tell(agent: Option<&Agent>, state: &str, pid: i32, listener: OwnedFd) -> Result<()> {
    let Some(Agent { socket, metadata }) = agent else { bail!("init sent a listener that nobody asked for") };
    let message = ProcessState {
        oci_version: crate::spec::VERSION,
        fds: ["seccompFd"],
        pid,
        metadata,
        state: serde_json::from_str(state).map_err(std::io::Error::from).context("state")?,
    };
    let message = serde_json::to_vec(&message).map_err(std::io::Error::from).context("state")?;
    let place = || format!("linux.seccomp.listenerPath: send to the agent at {}", socket.display());
    let connection = connect(socket).with_context(|| {
        format!("failed to connect with seccomp agent specified in the seccomp profile: {}", place())
    })?;
    // In one piece: agents read it so.
    send_descriptor(&connection, &message, listener.as_fd()).with_context(place)
}

/// One that has more callers than it takes is an error at once: EAGAIN.
fn connect(socket: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let connection = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&connection, &SocketAddrUnix::new(socket)?)?;
    rustix::io::ioctl_fionbio(&connection, false)?;
    set_socket_timeout(&connection, Timeout::Send, Some(PATIENCE))?;
    Ok(connection)
}
