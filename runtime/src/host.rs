//! What this machine offers, looked at once: the kernel's version, what this process may do, and the paths that
//! config.json names before anything is decided. Bind sources are not looked at: only their use tells the truth.

use crate::bail;
use crate::error::{Context, Result, errno_text};
use crate::spec::{LinuxIdMapping, LinuxNamespace, LinuxNamespaceType, Spec};
use pintle_sys::mount::TREE_NAMESPACE;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use std::path::{Path, PathBuf};

/// The oldest kernel that has all that is taken for granted: cgroup.kill, mount_setattr with id maps, close_range.
pub const KERNEL_FLOOR: (u32, u32) = (5, 14);

/// The machine.
#[derive(Clone, Debug)]
pub struct Host {
    /// Major and minor version of the kernel.
    pub kernel: (u32, u32),
    /// Effective user and group of this process.
    pub euid: u32,
    /// Effective group.
    pub egid: u32,
    /// The capabilities that this process holds and can pass on.
    pub capabilities: u64,
    /// This process is inside a user namespace other than the machine's first.
    pub in_user_namespace: bool,
    /// setgroups(2) is not denied in this process's user namespace.
    pub set_groups: bool,
    /// SELinux is there.
    pub selinux: bool,
    /// /proc/kcore exists, so /dev/core can point to it.
    pub kcore: bool,
    /// A mount namespace can be made of the rootfs alone: OPEN_TREE_NAMESPACE of open_tree(2), Linux 7.0.
    pub tree_namespace: bool,
    /// Where the runtime's own cgroup is, if the cgroup's path depends on it.
    pub own_cgroup: String,
}

impl Host {
    /// Looks.
    ///
    /// # Errors
    /// A kernel below the floor; /proc that can't be read.
    pub fn probe(in_user_namespace: bool) -> Result<Self> {
        let uname = rustix::system::uname();
        let release = uname.release().to_string_lossy().into_owned();
        let kernel = version(&release);
        if kernel < KERNEL_FLOOR {
            bail!(
                "Linux {release} is too old: pintle needs {}.{} or newer (cgroup.kill, mount_setattr)",
                KERNEL_FLOOR.0,
                KERNEL_FLOOR.1
            );
        }
        let held = rustix::thread::capabilities(None).context("capget")?;
        Ok(Self {
            kernel,
            euid: rustix::process::geteuid().as_raw(),
            egid: rustix::process::getegid().as_raw(),
            capabilities: held.permitted.bits(),
            in_user_namespace,
            set_groups: !in_user_namespace || read_small("/proc/self/setgroups")?.trim_end() != "deny",
            selinux: Path::new("/sys/fs/selinux/enforce").exists(),
            kcore: Path::new("/proc/kcore").exists(),
            tree_namespace: makes_tree_namespaces(),
            own_cgroup: String::new(),
        })
    }

    /// Whether execve(2) enters a time namespace that was unshared; before, only a new process did.
    pub fn time_namespace_by_exec(&self) -> bool {
        self.kernel >= (6, 1)
    }
}

/// Whether the kernel knows OPEN_TREE_NAMESPACE: it looks at flags first, and only then for a path that is not there.
fn makes_tree_namespaces() -> bool {
    let flags = OpenTreeFlags::from_bits_retain(TREE_NAMESPACE) | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    matches!(open_tree(CWD, c"", flags), Err(Errno::NOENT))
}

/// Major and minor version of the kernel that runs.
pub fn kernel() -> (u32, u32) {
    version(&rustix::system::uname().release().to_string_lossy())
}

fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// A small file of procfs or sysfs, in one read: each read makes the kernel write the text anew.
///
/// # Errors
/// Those of open(2) and read(2).
pub fn read_small(path: &str) -> Result<String> {
    let file = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .with_context(|| format!("open {path}"))?;
    let mut buffer = [0; 4096];
    let length = rustix::io::read(&file, &mut buffer).with_context(|| format!("read {path}"))?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// The first user namespace maps everything onto itself, user_namespaces(7).
///
/// # Errors
/// /proc that can't be read.
pub fn in_user_namespace() -> Result<bool> {
    let map = read_small("/proc/self/uid_map")?;
    Ok(!map.split_ascii_whitespace().eq(["0", "0", "4294967295"]))
}

/// What fstat and ioctl said about the paths that config.json names: data for `plan`.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The rootfs, resolved.
    pub rootfs: PathBuf,
    /// The mount that holds it.
    pub rootfs_mount: u64,
    /// Per element of `linux.namespaces`: the inode of the namespace at its path.
    pub namespaces: Vec<Option<u64>>,
    /// The maps of the user namespace that is joined, with ids outside as this process sees them.
    pub joined_maps: IdRanges,
    /// The inode of the runtime's own network namespace, if a sysctl or a path makes it matter.
    pub own_network: u64,
}

/// Which ids a user namespace has, and which they are outside. user_namespaces(7)
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdRanges {
    /// Users.
    pub uids: Vec<LinuxIdMapping>,
    /// Groups.
    pub gids: Vec<LinuxIdMapping>,
}

/// The descriptors behind the [`Facts`], for `launch`.
#[derive(Debug, Default)]
pub struct Opened {
    /// Per element of `linux.namespaces`: the namespace at its path.
    pub namespaces: Vec<Option<OwnedFd>>,
    /// Which of them is the user namespace.
    pub user: Option<usize>,
}

/// Opens each named path once.
///
/// # Errors
/// A path that is not there, or is no namespace of its kind; the place in config.json comes first.
pub fn survey(spec: &Spec, bundle: &Path) -> Result<(Facts, Opened)> {
    let rootfs = rootfs(spec, bundle)?;
    let mut facts = Facts { rootfs_mount: mount_of(&rootfs)?, rootfs, ..Facts::default() };
    let mut opened = Opened::default();
    let namespaces = spec.linux.as_ref().and_then(|linux| linux.namespaces.as_deref()).unwrap_or_default();
    for (n, namespace) in namespaces.iter().enumerate() {
        let found = open_namespace(namespace).with_context(|| format!("linux.namespaces[{n}]"))?;
        if namespace.typ() == LinuxNamespaceType::User && found.is_some() {
            opened.user = Some(n);
        }
        facts.namespaces.push(found.as_ref().map(|(inode, _)| *inode));
        opened.namespaces.push(found.map(|(_, fd)| fd));
    }
    if spec.linux.as_ref().is_some_and(|linux| linux.sysctl.is_some()) {
        facts.own_network = rustix::fs::stat("/proc/self/ns/net").context("/proc/self/ns/net")?.st_ino;
    }
    Ok((facts, opened))
}

/// The number of the mount that `path` lies on.
///
/// # Errors
/// Those of statx(2).
pub fn mount_of(path: &Path) -> Result<u64> {
    use rustix::fs::{AtFlags, StatxFlags, statx};
    let found = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::MNT_ID);
    Ok(found.with_context(|| format!("statx {}", path.display()))?.stx_mnt_id)
}

fn rootfs(spec: &Spec, bundle: &Path) -> Result<PathBuf> {
    let Some(path) = spec.root.as_ref().and_then(|root| root.path.as_deref()) else {
        bail!("root must be specified");
    };
    let path = bundle.join(path);
    let shown = |e: std::io::Error| match e.raw_os_error() {
        Some(raw) => errno_text(rustix::io::Errno::from_raw_os_error(raw)),
        None => e.to_string(),
    };
    match std::fs::canonicalize(&path) {
        Ok(resolved) if resolved.is_dir() => Ok(resolved),
        Ok(_) => bail!("invalid rootfs: {}: not a directory", path.display()),
        Err(error) => bail!("invalid rootfs: stat {}: {}", path.display(), shown(error)),
    }
}

fn open_namespace(namespace: &LinuxNamespace) -> Result<Option<(u64, OwnedFd)>> {
    let Some(path) = namespace.path().as_deref().filter(|path| !path.as_os_str().is_empty()) else {
        return Ok(None);
    };
    if !path.is_absolute() {
        bail!("namespace path: {} is not absolute", path.display());
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = openat(CWD, path, flags, Mode::empty())
        .with_context(|| format!("namespace path: {}", path.display()))?;
    let wanted = crate::plan::namespaces::flag(namespace.typ());
    match pintle_sys::namespace::kind(&fd) {
        Ok(kind) if kind == wanted => {}
        Ok(_) => bail!(
            "namespace path: invalid argument: {} is not a {} namespace",
            path.display(),
            namespace.typ()
        ),
        Err(_) => bail!("namespace path: invalid argument: {} is not a namespace", path.display()),
    }
    let inode = rustix::fs::fstat(&fd).context("fstat")?.st_ino;
    Ok(Some((inode, fd)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn kernel_versions_are_read_from_any_release() {
        for (release, expect) in
            [("6.18.44-fc-v657", (6, 18)), ("5.14.0-70.el9", (5, 14)), ("7.2", (7, 2)), ("rubbish", (0, 0))]
        {
            assert_eq!(super::version(release), expect, "{release}");
        }
    }
}
