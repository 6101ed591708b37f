//! Names to addresses without the C library: its resolver would load NSS modules into this static binary. Reads hosts(5) and
//! resolv.conf(5) and asks the name servers itself, over UDP and, where an answer does not fit, over TCP. Not here: mDNS,
//! NIS, nsswitch.conf and DNSSEC; who needs those runs a local resolver, as systemd-resolved is one.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};

use crate::error::{Error, Result};

/// Sizes that the C library has too: servers, and search domains.
const MOST_SERVERS: usize = 3;
const MOST_DOMAINS: usize = 6;
/// The largest hosts or resolv.conf file that is looked at.
const LARGEST: u64 = 4 << 20;
/// How many steps a chain of aliases may have.
const MOST_ALIASES: usize = 16;

/// What resolves names.
#[derive(Debug)]
pub struct Resolver {
    hosts: PathBuf,
    resolv_conf: PathBuf,
}

impl Default for Resolver {
    fn default() -> Self {
        Self { hosts: "/etc/hosts".into(), resolv_conf: "/etc/resolv.conf".into() }
    }
}

/// Why a question has no answer.
#[derive(Debug, PartialEq)]
enum Miss {
    /// The name, or this kind of address, does not exist.
    Absent,
    /// No server said anything useful: the last reason.
    Failed(String),
}

impl Resolver {
    /// The addresses of a host, in the order in which to try them. Errors: no such name ([`crate::error::Kind::NotFound`]),
    /// no answer.
    pub fn addresses(&self, host: &str) -> Result<Vec<IpAddr>> {
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let fixed = in_hosts(&read(&self.hosts), host);
        if !fixed.is_empty() {
            return Ok(reachable_first(fixed));
        }
        let lower = host.trim_end_matches('.').to_ascii_lowercase();
        // RFC 6761, section 6.3: never asked.
        if lower == "localhost" || lower.ends_with(".localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        Configuration::parse(&read(&self.resolv_conf)).lookup(host).map(reachable_first)
    }
}

impl ureq::unversioned::resolver::Resolver for Resolver {
    fn resolve(
        &self,
        uri: &ureq::http::Uri,
        _: &ureq::config::Config,
        _: ureq::unversioned::transport::NextTimeout,
    ) -> std::result::Result<ureq::unversioned::resolver::ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or(ureq::Error::HostNotFound)?;
        let standard = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let addresses = self.addresses(host).map_err(|e| ureq::Error::Other(Box::new(e)))?;
        let mut found = self.empty();
        for address in addresses.into_iter().take(16) {
            found.push(SocketAddr::new(address, uri.port_u16().unwrap_or(standard)));
        }
        Ok(found)
    }
}

/// A missing or unreadable file says nothing.
fn read(path: &PathBuf) -> String {
    let mut text = Vec::new();
    if let Ok(file) = std::fs::File::open(path) {
        file.take(LARGEST).read_to_end(&mut text).ok();
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// The addresses that hosts(5) has for a name.
fn in_hosts(hosts: &str, name: &str) -> Vec<IpAddr> {
    let name = name.trim_end_matches('.');
    let line = |line: &str| -> Option<IpAddr> {
        let mut words = line.split('#').next()?.split_ascii_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
    };
    hosts.lines().filter_map(line).collect()
}

/// Addresses that no route leads to go to the end; connecting a UDP socket asks the kernel and sends nothing.
fn reachable_first(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let routed = |address: &IpAddr| {
        let any: IpAddr = match address {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        UdpSocket::bind((any, 0)).is_ok_and(|socket| socket.connect((*address, 53)).is_ok())
    };
    addresses.sort_by_cached_key(|address| (!routed(address), address.is_ipv4()));
    addresses.dedup();
    addresses
}

/// resolv.conf(5).
#[derive(Debug, PartialEq)]
struct Configuration {
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    ndots: usize,
    timeout: Duration,
    attempts: u32,
    tcp: bool,
}

impl Configuration {
    fn parse(text: &str) -> Self {
        let mut read = Self {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
            tcp: false,
        };
        for line in text.lines().filter(|line| !line.starts_with(['#', ';'])) {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => read.servers.extend(words.next().and_then(server)),
                // The last of these lines counts.
                Some("search") => read.search = words.map(str::to_owned).collect(),
                Some("domain") => read.search = words.take(1).map(str::to_owned).collect(),
                Some("options") => words.for_each(|word| read.option(word)),
                _ => {}
            }
        }
        if read.servers.is_empty() {
            read.servers.push((Ipv4Addr::LOCALHOST, 53).into());
        }
        read.servers.truncate(MOST_SERVERS);
        read.search.truncate(MOST_DOMAINS);
        read
    }

    fn option(&mut self, option: &str) {
        let (name, value) = option.split_once(':').unwrap_or((option, ""));
        match (name, value.parse::<u32>()) {
            ("ndots", Ok(n)) => self.ndots = n.min(15) as usize,
            ("timeout", Ok(n)) => self.timeout = Duration::from_secs(n.clamp(1, 30).into()),
            ("attempts", Ok(n)) => self.attempts = n.clamp(1, 5),
            ("use-vc", _) => self.tcp = true,
            _ => {}
        }
    }

    /// The full names to ask for, in order: as it is first if it has enough dots, and only so if it ends with one.
    fn candidates(&self, host: &str) -> Vec<String> {
        if let Some(absolute) = host.strip_suffix('.') {
            return vec![absolute.to_owned()];
        }
        let domains = self.search.iter().map(|d| d.trim_end_matches('.')).filter(|d| !d.is_empty());
        let mut names: Vec<String> = domains.map(|domain| format!("{host}.{domain}")).collect();
        let dots = host.bytes().filter(|b| *b == b'.').count();
        names.insert(if dots >= self.ndots { 0 } else { names.len() }, host.to_owned());
        names
    }

    fn lookup(&self, host: &str) -> Result<Vec<IpAddr>> {
        let mut failure = None;
        for name in self.candidates(host) {
            match self.ask_all(&name) {
                Ok(addresses) => return Ok(addresses),
                Err(Miss::Absent) => {}
                // Another name may still be the one; this is told if none is.
                Err(Miss::Failed(why)) => failure = failure.or(Some(why)),
            }
        }
        match failure {
            Some(why) => Err(Error::other(format!("looking up {host:?}: {why}"))),
            None => Err(Error::not_found(format!("no such host: {host:?}"))),
        }
    }

    /// Asks one server after the other, all over again `attempts` times, until one of them knows.
    fn ask_all(&self, name: &str) -> std::result::Result<Vec<IpAddr>, Miss> {
        let mut last = Miss::Absent;
        for _ in 0..self.attempts {
            for server in &self.servers {
                match self.ask(*server, name) {
                    Err(Miss::Failed(why)) => {
                        last = Miss::Failed(format!("name server {}: {why}", server.ip()))
                    }
                    known => return known,
                }
            }
        }
        Err(last)
    }

    /// Asks one server for both kinds of address; one kind is enough.
    fn ask(&self, server: SocketAddr, name: &str) -> std::result::Result<Vec<IpAddr>, Miss> {
        let mut questions = [Query::new(name, TYPE::AAAA)?, Query::new(name, TYPE::A)?];
        if !self.tcp {
            over_udp(server, &mut questions, self.timeout)?;
        }
        let mut found = Vec::new();
        let mut miss = Miss::Absent;
        for question in questions {
            let answer = match question.answer {
                Some(Ok(answer)) => Ok(answer),
                Some(Err(Unfit::Failed(why))) => Err(Miss::Failed(why)),
                // Truncated, or UDP was not wanted.
                Some(Err(Unfit::Truncated)) => over_tcp(server, &question, self.timeout),
                None if self.tcp => over_tcp(server, &question, self.timeout),
                None => Err(Miss::Failed("no answer in time".into())),
            };
            match answer {
                Ok(addresses) => found.extend(addresses),
                Err(Miss::Absent) => {}
                Err(failed) => miss = failed,
            }
        }
        if found.is_empty() { Err(miss) } else { Ok(found) }
    }
}

/// A server's address, perhaps with the interface of a link-local one.
fn server(text: &str) -> Option<SocketAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some((address, 53).into());
    }
    let (address, scope) = text.split_once('%')?;
    let scope = match scope.parse() {
        Ok(number) => number,
        Err(_) => std::fs::read_to_string(format!("/sys/class/net/{}/ifindex", scope.replace('/', "")))
            .ok()?
            .trim()
            .parse()
            .ok()?,
    };
    Some(std::net::SocketAddrV6::new(address.parse().ok()?, 53, 0, scope).into())
}

/// Why a message is no answer yet.
#[derive(Debug, PartialEq)]
enum Unfit {
    Truncated,
    Failed(String),
}

/// One question and, once it came, its answer.
struct Query {
    id: u16,
    name: String,
    kind: TYPE,
    message: Vec<u8>,
    answer: Option<std::result::Result<Vec<IpAddr>, Unfit>>,
}

impl Query {
    fn new(name: &str, kind: TYPE) -> std::result::Result<Self, Miss> {
        // A name that can't be written in a message does not exist.
        let wire = Name::new(name).map_err(|_| Miss::Absent)?;
        let id = super::random_number() as u16;
        let mut packet = Packet::new_query(id);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        packet.questions.push(Question::new(wire, QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false));
        let message = packet.build_bytes_vec().map_err(|_| Miss::Absent)?;
        Ok(Self { id, name: name.to_owned(), kind, message, answer: None })
    }

    /// What a message says to this question; `None` where it is about something else, so that nobody answers by guessing.
    fn read(&self, message: &[u8]) -> Option<std::result::Result<Vec<IpAddr>, Unfit>> {
        let id = message.get(..2).map(|id| u16::from_be_bytes([id[0], id[1]]))?;
        if id != self.id {
            return None;
        }
        let Ok(packet) = Packet::parse(message) else {
            return Some(Err(Unfit::Failed("an answer that is no DNS message".into())));
        };
        let name = Name::new(&self.name).ok()?;
        let asked = |q: &Question| q.qname == name && q.qtype == QTYPE::TYPE(self.kind);
        if !packet.has_flags(PacketFlag::RESPONSE) || !matches!(&packet.questions[..], [q] if asked(q)) {
            return None;
        }
        if packet.has_flags(PacketFlag::TRUNCATION) {
            return Some(Err(Unfit::Truncated));
        }
        Some(match packet.rcode() {
            RCODE::NoError => Ok(addresses(&packet, name)),
            RCODE::NameError => Ok(Vec::new()),
            other => Err(Unfit::Failed(format!("it answers {other:?}"))),
        })
    }
}

/// The addresses of a name, through the aliases that the same answer tells.
fn addresses<'a>(packet: &Packet<'a>, mut name: Name<'a>) -> Vec<IpAddr> {
    for _ in 0..MOST_ALIASES {
        let own = || packet.answers.iter().filter(|record| record.name == name);
        let found: Vec<IpAddr> = own()
            .filter_map(|record| match &record.rdata {
                RData::A(a) => Some(Ipv4Addr::from(a.address).into()),
                RData::AAAA(a) => Some(Ipv6Addr::from(a.address).into()),
                _ => None,
            })
            .collect();
        if !found.is_empty() {
            return found;
        }
        let alias = own().find_map(|record| match &record.rdata {
            RData::CNAME(alias) => Some(alias.0.clone()),
            _ => None,
        });
        match alias {
            Some(alias) => name = alias,
            None => break,
        }
    }
    Vec::new()
}

fn failed(error: std::io::Error) -> Miss {
    Miss::Failed(match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "no answer in time".into(),
        _ => Error::from(error).to_string(),
    })
}

/// Sends all questions at once from a fresh port and waits until each has its answer, or the time is over.
fn over_udp(server: SocketAddr, queries: &mut [Query], timeout: Duration) -> std::result::Result<(), Miss> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).map_err(failed)?;
    // Connected: messages of others are dropped by the kernel, and an absent server is told at once.
    socket.connect(server).map_err(failed)?;
    for query in queries.iter() {
        socket.send(&query.message).map_err(failed)?;
    }
    let until = Instant::now() + timeout;
    let mut buffer = [0; 4096];
    while queries.iter().any(|query| query.answer.is_none()) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        socket.set_read_timeout(Some(left)).map_err(failed)?;
        match socket.recv(&mut buffer) {
            Ok(n) => {
                for query in queries.iter_mut().filter(|query| query.answer.is_none()) {
                    query.answer = query.read(&buffer[..n]);
                }
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(failed(e)),
        }
    }
    Ok(())
}

/// RFC 1035, section 4.2.2: two bytes of length before each message.
fn over_tcp(server: SocketAddr, query: &Query, timeout: Duration) -> std::result::Result<Vec<IpAddr>, Miss> {
    let exchange = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&server, timeout)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        let mut message = (query.message.len() as u16).to_be_bytes().to_vec();
        message.extend_from_slice(&query.message);
        stream.write_all(&message)?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut answer = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    };
    match query.read(&exchange().map_err(failed)?) {
        Some(Ok(addresses)) => Ok(addresses),
        Some(Err(Unfit::Failed(why))) => Err(Miss::Failed(why)),
        Some(Err(Unfit::Truncated)) | None => Err(Miss::Failed("an answer to another question".into())),
    }
}

#[cfg(test)]
mod tests;
