//! Moving network devices into a container, by rtnetlink(7) on two sockets: one of ours, and one that a process with our
//! ids made in the container's network namespace. Addresses go along if they are the device's own and valid anywhere: permanent and global;
//! IPv6's stay behind where IPv6 is switched off.

use super::rtnetlink::{Address, Link, Route};
use crate::bail;
use crate::error::{Context, Error, Result};
use crate::log;
use crate::plan::net_devices::{Device, Moves};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Moves devices into the network namespace behind `namespace`, in which `inside` is a socket, and brings them up there. Of a namespace
/// that is new all of them, or none.
///
/// # Errors
/// A device that is not there or may not be moved, by its name; a namespace that is the caller's own.
pub fn give(moves: &Moves, inside: OwnedFd, namespace: OwnedFd) -> Result<()> {
    let own = rustix::fs::open("/proc/self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let own = own.context("/proc/self/ns/net")?;
    let inode = |fd: &OwnedFd| rustix::fs::fstat(fd).map(|stat| stat.st_ino).context("fstat");
    if inode(&own)? == inode(&namespace)? {
        bail!("linux.netDevices: the network namespace that is joined has these devices already");
    }
    let socket = pintle_sys::net::route_socket().context("socket")?;
    let outside = Side { route: Route::new(socket).context("connect")?, namespace: own, is_new: false };
    let inside = Side { route: Route::new(inside).context("connect")?, namespace, is_new: moves.into_new };
    let place = |device: &Device| format!("linux.netDevices.{}", device.name);
    let look = |device| Taken::new(device, &outside, &inside).with_context(|| place(device));
    let mut taken = moves.devices.iter().map(look).collect::<Result<Vec<_>>>()?;
    for n in 0..taken.len() {
        let device = &moves.devices[n];
        if let Err(error) = taken[n].bring(&outside, &inside, &device.inside).with_context(|| place(device)) {
            let begun = taken[..=n].iter().rev();
            return Err(begun.fold(error, |error, taken| taken.bring_home(&outside, &inside, error)));
        }
    }
    Ok(())
}

/// A network namespace, and a socket in it.
struct Side {
    route: Route,
    namespace: OwnedFd,
    /// Nobody but init has been in it.
    is_new: bool,
}

/// Adds what of a device's addresses is missing, and brings it up if it is to be. Gives those that it can't have here.
fn dress<'a>(
    route: &Route,
    index: i32,
    addresses: &'a [Address],
    up: bool,
) -> std::result::Result<Vec<&'a Address>, Errno> {
    let present = route.addresses(index)?;
    let mut refused = Vec::new();
    for address in addresses.iter().filter(|address| !present.contains(address)) {
        match route.add(index, address) {
            // net.ipv6.conf.*.disable_ipv6, which whoever made the namespace has decided.
            Err(Errno::ACCESS) if address.is_ipv6() => refused.push(address),
            added => added?,
        }
    }
    if up {
        route.set_up(index, true)?;
    }
    Ok(refused)
}

fn moving(name: &str, new_name: &str) -> String {
    format!("fail to move network device {name} to the container as {new_name}")
}

/// A device on its way, and what it was.
struct Taken {
    name: String,
    link: Link,
    addresses: Vec<Address>,
    /// Its index in the container, once it is there.
    moved: Option<i32>,
}

impl Taken {
    /// Looks at it, and at its name in the container, before anything moves.
    fn new(device: &Device, outside: &Side, inside: &Side) -> Result<Self> {
        let Device { name, inside: new_name } = device;
        let missing = || format!("link not found for interface {name} on runtime namespace");
        let link = outside.route.link(name).with_context(missing)?;
        // Before it is down: some addresses go with that.
        let addresses = outside.route.addresses(link.index).context("fail to get ip addresses")?;
        match inside.route.link(new_name) {
            Err(Errno::NODEV) => {}
            found => {
                let found = found.and(Err(Errno::EXIST));
                found.with_context(|| moving(name, new_name))?;
            }
        }
        Ok(Self { name: name.to_owned(), link, addresses, moved: None })
    }

    fn bring(&mut self, outside: &Side, inside: &Side, new_name: &str) -> Result<()> {
        // Nothing passes through a device that is between two names.
        outside.route.set_up(self.link.index, false).context("fail to set link down")?;
        let (index, moved) = self.move_inside(outside, inside, new_name);
        // The kernel may have moved it under its old name, and only then refused the new one.
        let is_gone = outside.route.link(&self.name).is_err();
        self.moved = is_gone.then_some(index);
        moved.with_context(|| moving(&self.name, new_name))?;
        let addresses: Vec<_> = self.addresses.iter().map(Address::with_broadcast).collect();
        let refused =
            dress(&inside.route, index, &addresses, true).context("fail to set it up in the container")?;
        for address in refused {
            log::warn(format_args!(
                "linux.netDevices.{}: {address} stays behind: IPv6 is disabled in the container's network namespace",
                self.name
            ));
        }
        Ok(())
    }

    /// Moves it, to an index that is chosen here, so that it is known: its own, or one that is free.
    fn move_inside(
        &self,
        outside: &Side,
        inside: &Side,
        new_name: &str,
    ) -> (i32, std::result::Result<(), Errno>) {
        const ATTEMPTS: i32 = 16;
        let mut index = self.link.index;
        for attempt in 1..=ATTEMPTS {
            let moved = outside.route.move_to(self.link.index, &inside.namespace, new_name, index);
            if moved != Err(Errno::BUSY) {
                return (index, moved);
            }
            match inside.route.links() {
                Ok(links) => index = links.into_iter().max().unwrap_or(0).saturating_add(attempt),
                Err(errno) => return (index, Err(errno)),
            }
        }
        (index, Err(Errno::BUSY))
    }

    /// A device that could not be given is at home again with its addresses; what can't be undone is told beside the reason.
    /// Nothing comes home out of a namespace that others are in: they can put another device in its place.
    fn bring_home(&self, outside: &Side, inside: &Side, error: Error) -> Error {
        if let Some(index) = self.moved
            && !inside.is_new
        {
            return Error::new(format!(
                "{error}; and {} stays in the network namespace that is joined, as number {index}",
                self.name
            ));
        }
        let home = || {
            if let Some(index) = self.moved {
                inside.route.move_to(index, &outside.namespace, &self.name, self.link.index)?;
            }
            let index = outside.route.link(&self.name)?.index;
            match dress(&outside.route, index, &self.addresses, self.link.is_up)?.is_empty() {
                true => Ok(()),
                false => Err(Errno::ACCESS),
            }
        };
        match home() {
            Ok(()) => error,
            Err(also) => {
                let cause = crate::error::errno_text(also);
                Error::new(format!("{error}; and {} is not as it was: {cause}", self.name))
            }
        }
    }
}
