//! Device nodes: the default ones of config-linux.md, those listed, and the links beside them.

use super::namespaces::{self, Decided};
use super::steps::{Steps, c_string};
use crate::bail;
use crate::error::Result;
use crate::host::Host;
use crate::spec::{Linux, LinuxDevice, LinuxDeviceType};
use pintle_init::order::Step;

const S_IFCHR: u32 = 0o020_000;
const S_IFBLK: u32 = 0o060_000;
const S_IFIFO: u32 = 0o010_000;

/// config-linux.md, "Default Devices"; all 0666.
const DEFAULT: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/random", 1, 8),
    ("/dev/full", 1, 7),
    ("/dev/tty", 5, 0),
    ("/dev/zero", 1, 5),
    ("/dev/urandom", 1, 9),
];

const PTMX: &str = "/dev/ptmx";

/// Links that programs expect: (target, path).
const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

/// The paths of `linux.devices`.
pub fn paths(linux: &Linux) -> Vec<&str> {
    linux.devices.iter().flatten().filter_map(|device| device.path().to_str()).collect()
}

/// The steps that make them.
pub fn make(steps: &mut Steps, linux: &Linux, host: &Host, spaces: &Decided) -> Result<()> {
    // mknod(2) is not permitted in a user namespace: there the host's nodes are bound.
    let bind = spaces.has(namespaces::USER) || host.in_user_namespace;
    let listed = paths(linux);
    let way = match (bind, spaces.mounts_of_rootfs) {
        (true, _) => Way::Bind,
        (false, true) => Way::Make,
        (false, false) => Way::MakeOrBind,
    };
    for (path, major, minor) in DEFAULT.iter().filter(|(path, ..)| !listed.contains(path)) {
        let node = Node { path, mode: S_IFCHR | 0o666, major: *major, minor: *minor, uid: 0, gid: 0 };
        node.push(steps, way, "linux.devices")?;
    }
    for (n, device) in linux.devices.iter().flatten().enumerate() {
        let place = format!("linux.devices[{n}]");
        let node = Node::new(device, &place)?;
        // The container's own devpts has it, whatever is listed; over a bound node no link could be made.
        if super::mounts::clean(node.path) != PTMX {
            node.push(steps, way, &place)?;
        }
    }
    link(steps, "pts/ptmx", PTMX, true)?;
    for (target, path) in LINKS {
        link(steps, target, path, false)?;
    }
    if host.kcore {
        link(steps, "/proc/kcore", "/dev/core", false)?;
    }
    Ok(())
}

fn link(steps: &mut Steps, target: &str, path: &str, replace: bool) -> Result<()> {
    let (directory, name) = split(path, "linux.devices")?;
    let (target, directory, name) =
        (c_string(target, "link")?, c_string(directory, "link")?, c_string(name, "link")?);
    steps.push(&Step::Link { target: &target, directory: &directory, name: &name, replace });
    Ok(())
}

/// How a node comes to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The host's, bound.
    Bind,
    /// mknod(2).
    Make,
    /// mknod(2), or where that is not permitted the host's.
    MakeOrBind,
}

/// A node to be made.
struct Node<'a> {
    path: &'a str,
    mode: u32,
    major: u32,
    minor: u32,
    uid: u32,
    gid: u32,
}

impl<'a> Node<'a> {
    fn new(device: &'a LinuxDevice, place: &str) -> Result<Self> {
        let kind = match device.typ() {
            LinuxDeviceType::C | LinuxDeviceType::U => S_IFCHR,
            LinuxDeviceType::B => S_IFBLK,
            LinuxDeviceType::P => S_IFIFO,
            LinuxDeviceType::A => bail!("{place}.type: invalid device type \"a\""),
        };
        let number = |value: i64, name: &str| match (kind, u32::try_from(value)) {
            (S_IFIFO, _) => Ok(0),
            (_, Ok(number)) => Ok(number),
            _ => Err(crate::error::Error::new(format!("{place}.{name}: {value} is no device number"))),
        };
        let Some(path) = device.path().to_str() else { bail!("{place}.path: not UTF-8") };
        Ok(Self {
            path,
            mode: kind | device.file_mode().unwrap_or(0o666) & 0o7777,
            major: number(device.major(), "major")?,
            minor: number(device.minor(), "minor")?,
            uid: device.uid().unwrap_or(0),
            gid: device.gid().unwrap_or(0),
        })
    }

    fn push(&self, steps: &mut Steps, way: Way, place: &str) -> Result<()> {
        let clean = super::mounts::clean(self.path);
        let (directory, name) = split(&clean, place)?;
        let (directory, name) = (c_string(directory, place)?, c_string(name, place)?);
        let host = c_string(&clean, place)?;
        if way == Way::Bind {
            steps.push(&Step::DeviceBind { source: &host, directory: &directory, name: &name });
            return Ok(());
        }
        let Self { mode, major, minor, uid, gid, .. } = *self;
        steps.push(&Step::Device {
            directory: &directory,
            name: &name,
            mode,
            major,
            minor,
            uid,
            gid,
            host: if way == Way::Make { c"" } else { &host },
        });
        Ok(())
    }
}

fn split<'a>(path: &'a str, place: &str) -> Result<(&'a str, &'a str)> {
    match path.rsplit_once('/') {
        Some((directory, name)) if !name.is_empty() && name.len() < 256 => {
            Ok((if directory.is_empty() { "/" } else { directory }, name))
        }
        _ => bail!("{place}.path: {path:?} names no device"),
    }
}
