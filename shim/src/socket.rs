//! The socket by which containerd reaches a shim: its path is a digest of who asks and for which group of containers, so that whoever
//! starts a container of a pod finds the shim of the others.

use pintle::error::{Context as _, Error, Result};
use rustix::fd::OwnedFd;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The environment's word for the server's own address.
pub const VARIABLE: &str = "PINTLE_SHIM_ADDRESS";

/// Where containerd's shims listen, unless it names another folder.
pub const FOLDER: &str = "/run/containerd/s";

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// Where the shim of a group listens. `grpc` is containerd's own address: one machine may have several.
pub fn path(folder: &Path, grpc: &str, namespace: &str, group: &str) -> PathBuf {
    let whole: PathBuf = [grpc, namespace, group].iter().collect();
    let digest = Sha256::digest(whole.as_os_str().as_encoded_bytes());
    let mut name = String::new();
    for byte in digest {
        // A string takes everything.
        let _always = write!(name, "{byte:02x}");
    }
    folder.join(name)
}

/// How containerd is told of it.
pub fn address(path: &Path) -> String {
    format!("unix://{}", path.display())
}

/// The path in an address.
pub fn path_of(address: &str) -> &Path {
    Path::new(address.strip_prefix("unix://").unwrap_or(address))
}

/// Listens there. None: somebody does already.
///
/// # Errors
/// A path that is too long or can't be made.
pub fn listen(path: &Path) -> Result<Option<OwnedFd>> {
    let told = || format!("create new shim socket: {}", path.display());
    let folder = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(told)?;
    // Whoever looks meanwhile would take it for dead.
    let _alone = lock(folder).with_context(told)?;
    let to = SocketAddrUnix::new(path).with_context(told)?;
    // A second time where a dead one was in the way.
    for _ in 0..2 {
        let socket = new().with_context(told)?;
        match rustix::net::bind(&socket, &to) {
            Ok(()) => {
                std::fs::set_permissions(path, Permissions::from_mode(0o600)).with_context(told)?;
                rustix::net::listen(&socket, BACKLOG).with_context(told)?;
                return Ok(Some(socket));
            }
            Err(Errno::ADDRINUSE) if connect(path).is_ok() => return Ok(None),
            Err(Errno::ADDRINUSE) => remove(path),
            Err(errno) => return Err(errno).with_context(told),
        }
    }
    Err(Error::new("address already in use").context(told()))
}

/// A listener of one's own, for what a runtime sends back. The folder keeps others out.
///
/// # Errors
/// A path that is too long or is there already.
pub fn listen_alone(path: &Path) -> Result<OwnedFd> {
    let told = || format!("create a socket: {}", path.display());
    let socket = new().with_context(told)?;
    // One of that name is of a shim that is gone.
    remove(path);
    rustix::net::bind(&socket, &SocketAddrUnix::new(path).with_context(told)?).with_context(told)?;
    rustix::net::listen(&socket, 1).with_context(told)?;
    Ok(socket)
}

/// Connects to it.
///
/// # Errors
/// Nobody listens.
pub fn connect(path: &Path) -> rustix::io::Result<OwnedFd> {
    let socket = new()?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// Nobody else makes or removes sockets there.
fn lock(folder: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let lock = rustix::fs::open(folder, flags, Mode::empty())?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
    Ok(lock)
}

fn new() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

/// Where a runtime connects to send something about the process with this number.
pub fn beside(path: &Path, number: u32) -> PathBuf {
    path.with_file_name(format!("{}{number}", short(path)))
}

/// What the names of all sockets begin with that belong to one. The whole would be longer than an address may be.
fn short(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    format!("{}.", name.chars().take(16).collect::<String>())
}

/// Takes away what a shim left that is gone, with the sockets beside; one that lives keeps its own.
pub fn remove_dead(path: &Path) {
    // Between bind and listen a living one looks dead: who can't be alone with it leaves it.
    let Ok(_alone) = lock(path.parent().unwrap_or(Path::new("/"))) else { return };
    if !connect(path).is_err_and(|errno| errno == Errno::CONNREFUSED) {
        return;
    }
    let beside = path.parent().and_then(|folder| std::fs::read_dir(folder).ok());
    for entry in beside.into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&short(path)) {
            remove(&entry.path());
        }
    }
    remove(path);
}

/// Takes it away; that it is gone already is as good.
pub fn remove(path: &Path) {
    let _gone = std::fs::remove_file(path);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_the_digest_that_containerd_makes() {
        let found = path(Path::new("/run/containerd/s"), "/run/containerd/containerd.sock", "default", "c");
        // printf /run/containerd/containerd.sock/default/c | sha256sum
        let digest = Sha256::digest("/run/containerd/containerd.sock/default/c");
        let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(found, Path::new("/run/containerd/s").join(hex));
        assert_eq!(path_of(&address(&found)), found);
    }

    #[test]
    fn one_listens_and_a_dead_one_makes_room() {
        let folder = std::env::temp_dir().join(format!("pintle-shim-socket-{}", std::process::id()));
        let path = folder.join("s");
        let first = listen(&path).unwrap().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(listen(&path).unwrap().is_none());
        drop(first);
        assert!(listen(&path).unwrap().is_some());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
