//! rtnetlink(7): the devices of a network namespace and their addresses, by a socket that was made in it.

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, connect, recvfrom, send};
use std::cell::Cell;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

/// How long the kernel may take for a whole answer. One that it had no memory for never comes.
const PATIENCE: Duration = Duration::from_secs(10);
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
/// In an answer: what it is about changed meanwhile.
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;
/// NLM_F_CREATE and NLM_F_EXCL
const NEW: u16 = 0x600;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_NEW_IFINDEX: u16 = 49;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_F_PERMANENT: u32 = 0x80;
const RT_SCOPE_UNIVERSE: u8 = 0;
const IFF_UP: u32 = 1;
/// `struct nlmsghdr`, `struct ifinfomsg`, `struct ifaddrmsg`
const HEADER: usize = 16;
const LINK: usize = 16;
const ADDRESS: usize = 8;

/// A device, as it was found.
pub struct Link {
    /// Its number in its network namespace.
    pub index: i32,
    /// IFF_UP
    pub is_up: bool,
}

/// An address of a device.
#[derive(Debug, PartialEq, Eq)]
pub struct Address {
    family: u8,
    prefix: u8,
    /// Its own.
    local: Vec<u8>,
    /// The other side's, where the device leads to one; else the same.
    peer: Vec<u8>,
    /// IPv4's, if it has one.
    broadcast: Option<Vec<u8>>,
}

impl Address {
    /// Of AF_INET6, or of AF_INET.
    pub fn is_ipv6(&self) -> bool {
        u16::from(self.family) == AddressFamily::INET6.as_raw()
    }

    /// With the broadcast address that belongs to it, as runc's library adds it.
    pub fn with_broadcast(&self) -> Self {
        let Self { family, prefix, .. } = *self;
        let (local, peer) = (self.local.clone(), self.peer.clone());
        let all = local.first_chunk().filter(|_| local.len() == 4 && prefix < 31).map(|own| {
            let host = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
            (u32::from_be_bytes(*own) | host).to_be_bytes().to_vec()
        });
        Self { family, prefix, local, peer, broadcast: all }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.local.first_chunk::<4>(), self.local.first_chunk::<16>()) {
            (_, Some(bytes)) => write!(f, "{}", Ipv6Addr::from(*bytes))?,
            (Some(bytes), None) => write!(f, "{}", Ipv4Addr::from(*bytes))?,
            (None, None) => write!(f, "{:?}", self.local)?,
        }
        write!(f, "/{}", self.prefix)
    }
}

/// A socket of rtnetlink(7): it acts on the network namespace that it was made in.
pub struct Route {
    socket: OwnedFd,
    /// Of the next request.
    sequence: Cell<u32>,
}

impl Route {
    /// By this socket, which nobody but the kernel sends to from now on: whoever is in the container's namespace gets
    /// ECONNREFUSED, and can neither keep the runtime reading nor fill its buffer.
    ///
    /// # Errors
    /// Those of connect(2).
    pub fn new(socket: OwnedFd) -> Result<Self, Errno> {
        connect(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self { socket, sequence: Cell::new(1) })
    }

    /// The device of this name.
    ///
    /// # Errors
    /// Those of rtnetlink(7), as of all that follow.
    pub fn link(&self, name: &str) -> Result<Link, Errno> {
        let mut found = None;
        let request = Request::new(RTM_GETLINK, NLM_F_ACK, &link(0, 0, 0)).text(IFLA_IFNAME, name);
        self.ask(request, |kind, body| found = found.take().or_else(|| Link::read(kind, body)))?;
        found.ok_or(Errno::NODEV)
    }

    /// The numbers of all devices.
    pub fn links(&self) -> Result<Vec<i32>, Errno> {
        self.all(RTM_GETLINK, &link(0, 0, 0), |kind, body| Link::read(kind, body).map(|link| link.index))
    }

    /// Brings it up or down.
    pub fn set_up(&self, index: i32, up: bool) -> Result<(), Errno> {
        let flags = if up { IFF_UP } else { 0 };
        self.ask(Request::new(RTM_NEWLINK, NLM_F_ACK, &link(index, flags, IFF_UP)), |_, _| {})
    }

    /// Moves it into another network namespace, to a name and a number there.
    pub fn move_to(&self, index: i32, namespace: &OwnedFd, name: &str, new_index: i32) -> Result<(), Errno> {
        let request = Request::new(RTM_NEWLINK, NLM_F_ACK, &link(index, 0, 0))
            .attribute(IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes())
            .attribute(IFLA_NEW_IFINDEX, &new_index.to_ne_bytes())
            .text(IFLA_IFNAME, name);
        self.ask(request, |_, _| {})
    }

    /// Its addresses that are as good elsewhere.
    pub fn addresses(&self, index: i32) -> Result<Vec<Address>, Errno> {
        let address = |kind, body: &[u8]| (kind == RTM_NEWADDR).then(|| movable(body, index)).flatten();
        self.all(RTM_GETADDR, &[0; ADDRESS], address)
    }

    /// Gives it an address.
    pub fn add(&self, index: i32, address: &Address) -> Result<(), Errno> {
        let [a, b, c, d] = index.to_ne_bytes();
        let head = [address.family, address.prefix, 0, RT_SCOPE_UNIVERSE, a, b, c, d];
        let request = Request::new(RTM_NEWADDR, NLM_F_ACK | NEW, &head)
            .attribute(IFA_LOCAL, &address.local)
            .attribute(IFA_ADDRESS, &address.peer);
        let request = match &address.broadcast {
            Some(broadcast) => request.attribute(IFA_BROADCAST, broadcast),
            None => request,
        };
        self.ask(request, |_, _| {})
    }

    /// What `read` finds in all that the kernel knows of a kind, at one moment.
    fn all<T>(
        &self,
        kind: u16,
        body: &[u8],
        read: impl Fn(u16, &[u8]) -> Option<T>,
    ) -> Result<Vec<T>, Errno> {
        const ATTEMPTS: usize = 32;
        for _ in 0..ATTEMPTS {
            let mut found = Vec::new();
            let request = Request::new(kind, NLM_F_DUMP, body);
            match self.ask(request, |kind, body| found.extend(read(kind, body))) {
                Err(Errno::INTR) => {}
                other => return other.map(|()| found),
            }
        }
        Err(Errno::INTR)
    }

    /// Sends a request and shows `look` each message of the kernel's answer: its kind and its body. EINTR: the answer is of several
    /// moments.
    fn ask(&self, request: Request, mut look: impl FnMut(u16, &[u8])) -> Result<(), Errno> {
        let sequence = self.sequence.get();
        self.sequence.set(sequence.wrapping_add(1));
        send(&self.socket, &request.finished(sequence), SendFlags::empty())?;
        let (mut buffer, mut interrupted) = (vec![0; 64 << 10], false);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
            set_socket_timeout(&self.socket, Timeout::Recv, Some(left.ok_or(Errno::TIMEDOUT)?))?;
            let (length, _, from) = match recvfrom(&self.socket, buffer.as_mut_slice(), RecvFlags::empty()) {
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Err(Errno::TIMEDOUT),
                received => received?,
            };
            // Before the socket was connected it had a port for a moment; the kernel's is 0.
            let from = from.and_then(|from| SocketAddrNetlink::try_from(from).ok());
            if from.is_none_or(|from| from.pid() != 0) {
                continue;
            }
            for Message { kind, flags, body, .. } in
                messages(&buffer[..length]).filter(|message| message.sequence == sequence)
            {
                interrupted |= flags & NLM_F_DUMP_INTR != 0;
                match (kind, body.first_chunk()) {
                    (NLMSG_DONE | NLMSG_ERROR, Some(code)) => {
                        return match i32::from_ne_bytes(*code) {
                            0 if interrupted => Err(Errno::INTR),
                            0 => Ok(()),
                            errno => Err(Errno::from_raw_os_error(errno.wrapping_neg())),
                        };
                    }
                    (NLMSG_DONE | NLMSG_ERROR, None) => return Err(Errno::PROTO),
                    _ => look(kind, body),
                }
            }
        }
    }
}

/// A message to the kernel, as it grows.
struct Request(Vec<u8>);

impl Request {
    fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | NLM_F_REQUEST).to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(body);
        Self(bytes)
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        self.0.extend((value.len() as u16 + 4).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn text(self, kind: u16, value: &str) -> Self {
        self.attribute(kind, &[value.as_bytes(), b"\0"].concat())
    }

    fn finished(mut self, sequence: u32) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0
    }
}

/// `struct ifinfomsg`
fn link(index: i32, flags: u32, change: u32) -> [u8; LINK] {
    let mut link = [0; LINK];
    link[4..8].copy_from_slice(&index.to_ne_bytes());
    link[8..12].copy_from_slice(&flags.to_ne_bytes());
    link[12..].copy_from_slice(&change.to_ne_bytes());
    link
}

impl Link {
    fn read(kind: u16, body: &[u8]) -> Option<Self> {
        let word = |at: usize| body.get(at..at + 4)?.try_into().ok();
        let (index, flags) = (i32::from_ne_bytes(word(4)?), u32::from_ne_bytes(word(8)?));
        (kind == RTM_NEWLINK).then_some(Self { index, is_up: flags & IFF_UP != 0 })
    }
}

/// One of an answer.
struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
}

fn messages(answer: &[u8]) -> impl Iterator<Item = Message<'_>> {
    let pieces = pieces(answer, |head| Some((u32::from_ne_bytes(*head.first_chunk()?) as usize, HEADER)));
    pieces.map(|piece| Message {
        kind: u16::from_ne_bytes([piece[4], piece[5]]),
        flags: u16::from_ne_bytes([piece[6], piece[7]]),
        sequence: u32::from_ne_bytes([piece[8], piece[9], piece[10], piece[11]]),
        body: &piece[HEADER..],
    })
}

/// Kind and value of each attribute.
fn attributes(body: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    pieces(body, |head| Some((u16::from_ne_bytes(*head.first_chunk()?).into(), 4)))
        .map(|piece| (u16::from_ne_bytes([piece[2], piece[3]]), &piece[4..]))
}

/// Cuts at the lengths that the pieces begin with, as `measure` reads them (with the least that a piece has), each
/// padded to four bytes.
fn pieces(mut rest: &[u8], measure: fn(&[u8]) -> Option<(usize, usize)>) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, least) = measure(rest)?;
        let piece = rest.get(..length).filter(|_| length >= least)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(piece)
    })
}

/// An address of the device `index` that is as good in the container.
fn movable(body: &[u8], index: i32) -> Option<Address> {
    let (head, rest) = body.split_at_checked(ADDRESS)?;
    let [family, prefix, flags, scope, of @ ..] = head else { return None };
    let (mut flags, mut local, mut peer, mut broadcast) = (u32::from(*flags), None, None, None);
    for (kind, value) in attributes(rest) {
        match kind {
            IFA_LOCAL => local = Some(value.to_vec()),
            IFA_BROADCAST => broadcast = Some(value.to_vec()),
            IFA_ADDRESS => peer = Some(value.to_vec()),
            // All of them; the head has room for eight.
            IFA_FLAGS => flags = u32::from_ne_bytes(value.try_into().ok()?),
            _ => {}
        }
    }
    let stays = i32::from_ne_bytes(of.try_into().ok()?) != index
        || flags & IFA_F_PERMANENT == 0
        || *scope != RT_SCOPE_UNIVERSE;
    // IPv6 names its own address in IFA_ADDRESS alone, unless there is another side.
    let peer = peer?;
    let local = local.unwrap_or_else(|| peer.clone());
    (!stays).then_some(Address { family: *family, prefix: *prefix, local, peer, broadcast })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{getsockname, sendto};

    /// An answer of one message about an address of device 7.
    fn answer(flags: u32, scope: u8, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let head = [2, 24, 0, scope, 7, 0, 0, 0];
        let request = Request::new(RTM_NEWADDR, 0, &head).attribute(IFA_FLAGS, &flags.to_ne_bytes());
        attributes.iter().fold(request, |request, (kind, value)| request.attribute(*kind, value)).finished(1)
    }

    fn found(answer: &[u8], index: i32) -> Vec<Address> {
        messages(answer).filter_map(|message| movable(message.body, index)).collect()
    }

    #[test]
    fn permanent_global_addresses_of_the_device_move() {
        let own: &[(u16, &[u8])] = &[(IFA_ADDRESS, &[10, 0, 0, 1]), (IFA_LOCAL, &[10, 0, 0, 1])];
        let [local, peer] = [(); 2].map(|()| vec![10, 0, 0, 1]);
        let address = Address { family: 2, prefix: 24, local, peer, broadcast: None };
        assert_eq!(address.with_broadcast().broadcast, Some(vec![10, 0, 0, 255]));
        assert_eq!(found(&answer(0x80, 0, own), 7), [address]);
        assert_eq!(found(&answer(0x80, 0, own), 8), [], "another device's");
        assert_eq!(found(&answer(0, 0, own), 7), [], "for a while");
        assert_eq!(found(&answer(0x80, 253, own), 7), [], "of the link");
    }

    #[test]
    fn nobody_but_the_kernel_sends_to_the_socket() {
        let route = Route::new(pintle_sys::net::route_socket().unwrap()).unwrap();
        let own = SocketAddrNetlink::try_from(getsockname(&route.socket).unwrap()).unwrap();
        let sent = sendto(pintle_sys::net::route_socket().unwrap(), &[0; HEADER], SendFlags::empty(), &own);
        // Without CAP_NET_ADMIN one may send to nobody.
        let refused = if rustix::process::geteuid().is_root() { Errno::CONNREFUSED } else { Errno::PERM };
        assert_eq!(sent, Err(refused));
        assert!(route.link("lo").is_ok(), "the kernel does");
    }

    #[test]
    fn addresses_read_as_people_write_them() {
        let address = |family, prefix, local: &[u8]| {
            let (local, peer) = (local.to_vec(), local.to_vec());
            Address { family, prefix, local, peer, broadcast: None }
        };
        let own = address(10, 64, &[0xfd, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!((own.to_string(), own.is_ipv6()), ("fd00:9::1/64".to_owned(), true));
        let own = address(2, 24, &[10, 0, 0, 1]);
        assert_eq!((own.to_string(), own.is_ipv6()), ("10.0.0.1/24".to_owned(), false));
    }

    #[test]
    fn rubbish_has_no_messages() {
        for rubbish in [&[][..], &[1], &[0; 64], &[0xff; 64], &[17, 0, 0, 0, 20, 0]] {
            assert_eq!(messages(rubbish).count(), 0, "{rubbish:?}");
        }
        let mut cut = answer(0x80, 0, &[(IFA_ADDRESS, &[10, 0, 0, 1])]);
        cut[16 + 8] = 0xff;
        assert_eq!(found(&cut, 7), []);
    }
}
