//! `linux.netDevices`: devices of the host's that become the container's own (config-linux.md, "Network Devices").

use super::namespaces::{self, Decided as Spaces};
use crate::bail;
use crate::error::Result;
use crate::spec::Linux;

/// A device that changes its network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name outside.
    pub name: String,
    /// Its name inside; the kernel puts a number in the place of `%d`.
    pub inside: String,
}

/// All that change it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// In their order.
    pub devices: Vec<Device>,
    /// The container's network namespace is new: nobody else is in it.
    pub into_new: bool,
}

/// Decides, and refuses what the kernel would refuse halfway. `unprivileged`: an ordinary user calls, who owns no device.
///
/// # Errors
/// Without a network namespace, for an ordinary user, for names that no device can have; in runc's words.
pub fn decide(linux: &Linux, spaces: &Spaces, unprivileged: bool) -> Result<Moves> {
    let mut devices = Vec::new();
    for (name, device) in linux.net_devices.iter().flatten() {
        if !spaces.has(namespaces::NETWORK) {
            bail!("linux.netDevices: unable to move network devices without a NET namespace");
        }
        if unprivileged {
            bail!("linux.netDevices: network devices are not supported for rootless containers");
        }
        let inside = device.name().as_deref().filter(|inside| !inside.is_empty()).unwrap_or(name);
        for name in [name.as_str(), inside] {
            if !is_name(name) {
                bail!("linux.netDevices: invalid network device name {name:?}");
            }
        }
        devices.push(Device { name: name.clone(), inside: inside.to_owned() });
    }
    Ok(Moves { devices, into_new: spaces.is_new(namespaces::NETWORK) })
}

/// The kernel's rule for names, dev_valid_name.
fn is_name(name: &str) -> bool {
    /// IFNAMSIZ, with its NUL.
    const SIZE: usize = 16;
    let forbidden =
        |byte: u8| byte == b'/' || byte == b':' || byte == 0 || byte.is_ascii_whitespace() || byte == 0x0b;
    !name.is_empty() && name.len() < SIZE && name != "." && name != ".." && !name.bytes().any(forbidden)
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn names_are_those_that_the_kernel_takes() {
        for good in ["eth0", "a", "fifteen-letters", "eth%d", "é", "@#"] {
            assert!(is_name(good), "{good:?}");
        }
        for bad in ["", ".", "..", "a/b", "a:1", "a b", "a\tb", "a\nb", "a\u{b}b", "a\0", "sixteen-letters-"]
        {
            assert!(!is_name(bad), "{bad:?}");
        }
    }
}
