//! Readiness for a service manager: the container says `READY=1` to a socket of its own, and it is told on with the
//! container's process id. sd_notify(3)

use crate::error::{Context, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

/// Makes the socket that the container sees at /run/notify/notify.sock.
///
/// # Errors
/// A directory that can't be made.
pub fn listen(directory: &Path) -> Result<UnixDatagram> {
    let path = directory.join("notify.sock");
    let socket = UnixDatagram::bind(&path).with_context(|| format!("bind {}", path.display()))?;
    // Any user of the container may say that it is ready.
    let all = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(&path, all).with_context(|| format!("chmod {}", path.display()))?;
    Ok(socket)
}

/// Waits until the container is ready or gone, and tells the manager at `to`.
///
/// # Errors
/// A manager that does not listen.
pub fn relay(socket: &UnixDatagram, init: BorrowedFd<'_>, pid: i32, to: &Path) -> Result<()> {
    let mut message = [0; 4096];
    loop {
        let mut events = [PollFd::new(socket, PollFlags::IN), PollFd::from_borrowed_fd(init, PollFlags::IN)];
        match poll(&mut events, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno).context("poll"),
        }
        if events[0].revents().is_empty() {
            return Ok(());
        }
        let length = socket.recv(&mut message).context("read the notify socket")?;
        let ready = message[..length].split(|byte| *byte == b'\n').find(|line| line.starts_with(b"READY="));
        if let Some(ready) = ready {
            let manager = UnixDatagram::unbound().context("socket")?;
            let text = [ready, format!("\nMAINPID={pid}\n").as_bytes()].concat();
            manager.send_to(&text, to).with_context(|| format!("write to {}", to.display()))?;
            return Ok(());
        }
    }
}
