//! Where a message bus listens: "Server Addresses" in the D-Bus Specification, as far as they are Unix sockets.

use crate::bail;
use crate::error::Result;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Where every bus of a machine listens unless it is told otherwise.
const SYSTEM: &str = "/run/dbus/system_bus_socket";
/// systemd's own socket, without a bus between.
const PRIVATE: &str = "/run/systemd/private";

/// A Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A bus at a path.
    Path(PathBuf),
    /// A bus at an abstract name, unix(7).
    Abstract(Vec<u8>),
    /// The peer itself at a path: there is no bus to greet.
    Direct(PathBuf),
}

impl Address {
    /// The first address of `list` that is a Unix socket.
    ///
    /// # Errors
    /// None that is.
    pub fn parse(list: &str) -> Result<Self> {
        for one in list.split(';') {
            let Some(keys) = one.strip_prefix("unix:") else { continue };
            for (key, value) in keys.split(',').filter_map(|pair| pair.split_once('=')) {
                match key {
                    "path" => return Ok(Self::Path(OsString::from_vec(unescape(value)?).into())),
                    "abstract" => return Ok(Self::Abstract(unescape(value)?)),
                    _ => {}
                }
            }
        }
        bail!("{list:?} names no Unix socket")
    }

    /// Nobody passes messages on.
    pub fn is_direct(&self) -> bool {
        matches!(self, Self::Direct(_))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) | Self::Direct(path) => write!(f, "{}", path.display()),
            Self::Abstract(name) => write!(f, "@{}", String::from_utf8_lossy(name)),
        }
    }
}

/// `%XX` stands for a byte.
fn unescape(value: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = value.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = more.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let Some(byte) = digits.and_then(|two| u8::from_str_radix(two, 16).ok()) else {
            bail!("{value:?}: % without two hexadecimal digits")
        };
        bytes.push(byte);
        rest = &more[2..];
    }
    Ok(bytes)
}

/// What the caller's environment says about buses.
#[derive(Clone, Debug, Default)]
pub struct Buses {
    /// `$DBUS_SYSTEM_BUS_ADDRESS`
    pub system: Option<String>,
    /// `$DBUS_SESSION_BUS_ADDRESS`
    pub session: Option<String>,
    /// `$XDG_RUNTIME_DIR`
    pub runtime_dir: Option<PathBuf>,
}

impl Buses {
    /// The machine's bus; where none runs, its systemd itself.
    ///
    /// # Errors
    /// An environment that names no Unix socket.
    pub fn of_machine(&self) -> Result<Address> {
        match &self.system {
            Some(list) => Address::parse(list),
            None if !Path::new(SYSTEM).exists() && Path::new(PRIVATE).exists() => {
                Ok(Address::Direct(PRIVATE.into()))
            }
            None => Ok(Address::Path(SYSTEM.into())),
        }
    }

    /// The user's bus.
    ///
    /// # Errors
    /// An environment that does not say where it is.
    pub fn of_user(&self) -> Result<Address> {
        match (&self.session, &self.runtime_dir) {
            (Some(list), _) => Address::parse(list),
            (None, Some(dir)) => Ok(Address::Path(dir.join("bus"))),
            (None, None) => bail!(
                "could not find the user's message bus: neither $DBUS_SESSION_BUS_ADDRESS nor $XDG_RUNTIME_DIR is set \
                 (log in as the user, not by su; loginctl enable-linger keeps the user's systemd running)"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_unix_sockets() {
        let path = |path: &str| Address::Path(path.into());
        for (list, expect) in [
            ("unix:path=/run/user/7/bus", path("/run/user/7/bus")),
            ("unix:path=/run/user/7/bus,guid=00ff", path("/run/user/7/bus")),
            ("unix:guid=00ff,path=/a", path("/a")),
            ("tcp:host=x,port=1;unix:path=/b", path("/b")),
            ("unix:path=/a%20b%3b", path("/a b;")),
            ("unix:abstract=/tmp/x", Address::Abstract(b"/tmp/x".to_vec())),
        ] {
            assert_eq!(Address::parse(list).expect(list), expect);
        }
        for list in ["", "tcp:host=x", "unix:", "unix:tmpdir=/tmp", "unix:path=/a%2", "unix:path=%zz"] {
            assert!(Address::parse(list).is_err(), "{list}");
        }
    }

    #[test]
    fn the_users_bus_is_where_the_environment_says() {
        let runtime_dir = Some(PathBuf::from("/run/user/7"));
        let found =
            Buses { runtime_dir: runtime_dir.clone(), ..Buses::default() }.of_user().expect("an address");
        assert_eq!(found, Address::Path("/run/user/7/bus".into()));
        let session = Some("unix:path=/s".to_owned());
        assert_eq!(
            Buses { session, runtime_dir, system: None }.of_user().expect("one"),
            Address::Path("/s".into())
        );
        assert!(Buses::default().of_user().is_err());
    }
}
