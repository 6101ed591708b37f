//! The resolver against a name server on loopback that says what each test wants.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use simple_dns::ResourceRecord;
use simple_dns::rdata::{A, AAAA, CNAME};

use super::*;

/// What the server does with a question: `None` is silence.
type Answer =
    dyn Fn(&str, TYPE, bool) -> Option<(RCODE, Vec<(&'static str, RData<'static>)>, bool)> + Send + Sync;

/// A server for UDP and TCP at the same port, until the test's process ends.
fn server(answer: &'static Answer) -> (SocketAddr, Arc<AtomicU32>) {
    let both = || {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        // The same number may be some client's, with UDP.
        UdpSocket::bind(tcp.local_addr().unwrap()).ok().map(|udp| (tcp, udp))
    };
    let (tcp, udp) = std::iter::repeat_with(both).find_map(|sockets| sockets).unwrap();
    let address = tcp.local_addr().unwrap();
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((n, from)) = udp.recv_from(&mut buffer) {
            count.fetch_add(1, Ordering::Relaxed);
            // Not ours: a guessed id, which must be passed over.
            let mut forged = buffer[..n].to_vec();
            forged[0] ^= 0xff;
            udp.send_to(&forged, from).unwrap();
            if let Some(reply) = reply(&buffer[..n], answer, false) {
                udp.send_to(&reply, from).unwrap();
            }
        }
    });
    std::thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut message = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut message).unwrap();
            if let Some(reply) = reply(&message, answer, true) {
                stream.write_all(&(reply.len() as u16).to_be_bytes()).unwrap();
                stream.write_all(&reply).unwrap();
            }
        }
    });
    (address, asked)
}

fn reply(message: &[u8], answer: &Answer, tcp: bool) -> Option<Vec<u8>> {
    let query = Packet::parse(message).unwrap();
    let question = &query.questions[0];
    let QTYPE::TYPE(kind) = question.qtype else { return None };
    let (code, records, truncated) = answer(&question.qname.to_string(), kind, tcp)?;
    let mut reply = Packet::new_reply(query.id());
    reply.questions.push(question.clone());
    *reply.rcode_mut() = code;
    if truncated {
        reply.set_flags(PacketFlag::TRUNCATION);
    }
    for (name, data) in records {
        reply.answers.push(ResourceRecord::new(Name::new(name).unwrap(), CLASS::IN, 1, data));
    }
    Some(reply.build_bytes_vec_compressed().unwrap())
}

fn v4(text: &str) -> RData<'static> {
    RData::A(A { address: text.parse::<Ipv4Addr>().unwrap().into() })
}

fn v6(text: &str) -> RData<'static> {
    RData::AAAA(AAAA { address: text.parse::<Ipv6Addr>().unwrap().into() })
}

fn configuration(servers: &[SocketAddr], text: &str) -> Configuration {
    let mut read = Configuration::parse(text);
    read.servers = servers.to_vec();
    read.timeout = Duration::from_secs(60);
    read
}

/// For servers of which one is silent.
fn impatient(servers: &[SocketAddr]) -> Configuration {
    Configuration { timeout: Duration::from_millis(300), ..configuration(servers, "") }
}

fn found(configuration: &Configuration, host: &str) -> std::result::Result<Vec<String>, String> {
    let addresses = configuration.lookup(host).map_err(|e| e.to_string())?;
    Ok(addresses.iter().map(IpAddr::to_string).collect())
}

#[test]
fn both_kinds_of_address_are_found_through_aliases() {
    let (address, _) = server(&|name, kind, _| {
        assert_eq!(name, "r.example");
        let mut records = vec![("R.example", RData::CNAME(CNAME(Name::new("cdn.example").unwrap())))];
        match kind {
            TYPE::A => records.push(("cdn.example", v4("192.0.2.1"))),
            _ => records.push(("cdn.example", v6("2001:db8::1"))),
        }
        // Nobody asked for this one.
        records.push(("bank.example", v4("192.0.2.66")));
        Some((RCODE::NoError, records, false))
    });
    let all = found(&configuration(&[address], ""), "r.example");
    assert_eq!(all.unwrap(), ["2001:db8::1", "192.0.2.1"]);
}

#[test]
fn what_does_not_fit_is_asked_again_over_tcp() {
    let (address, asked) = server(&|_, kind, tcp| match (kind, tcp) {
        (TYPE::A, true) => Some((RCODE::NoError, vec![("r.example", v4("192.0.2.1")); 100], false)),
        (TYPE::A, false) => Some((RCODE::NoError, vec![], true)),
        _ => Some((RCODE::NoError, vec![], false)),
    });
    assert_eq!(found(&configuration(&[address], ""), "r.example").unwrap().len(), 100);
    let before = asked.load(Ordering::Relaxed);
    found(&configuration(&[address], "options use-vc"), "r.example").unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), before, "use-vc means no UDP");
}

#[test]
fn search_domains_and_dots_decide_what_is_asked_first() {
    let list = |text, host| Configuration::parse(text).candidates(host).join(" ");
    let search = "domain x\nsearch a.example b.example.\n";
    assert_eq!(list(search, "r"), "r.a.example r.b.example r");
    assert_eq!(list(search, "r.example"), "r.example r.example.a.example r.example.b.example");
    assert_eq!(list(search, "r.example."), "r.example");
    let kubernetes = "search ns.svc.cluster.local svc.cluster.local\noptions ndots:5";
    assert_eq!(list(kubernetes, "r.ns"), "r.ns.ns.svc.cluster.local r.ns.svc.cluster.local r.ns");

    let (address, _) = server(&|name, kind, _| match (name, kind) {
        ("r.b.example", TYPE::A) => Some((RCODE::NoError, vec![("r.b.example", v4("192.0.2.2"))], false)),
        ("r.b.example", _) => Some((RCODE::NoError, vec![], false)),
        _ => Some((RCODE::NameError, vec![], false)),
    });
    assert_eq!(found(&configuration(&[address], search), "r").unwrap(), ["192.0.2.2"]);
    assert_eq!(found(&configuration(&[address], search), "x.y").unwrap_err(), "no such host: \"x.y\"");
}

#[test]
fn a_server_that_is_silent_absent_or_broken_is_passed_over() {
    let (silent, _) = server(&|_, _, _| None);
    let (broken, asked) = server(&|_, _, _| Some((RCODE::ServerFailure, vec![], false)));
    let (good, _) = server(&|_, kind, _| match kind {
        TYPE::A => Some((RCODE::NoError, vec![("r.example", v4("192.0.2.3"))], false)),
        _ => Some((RCODE::NoError, vec![], false)),
    });
    let absent = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let all = [absent, silent, broken, good];
    assert_eq!(found(&impatient(&all), "r.example").unwrap(), ["192.0.2.3"]);
    let error = found(&impatient(&[silent]), "r.example").unwrap_err();
    assert_eq!(error, "looking up \"r.example\": name server 127.0.0.1: no answer in time");
    let before = asked.load(Ordering::Relaxed);
    let error = found(&configuration(&[broken], "options attempts:3"), "r.example").unwrap_err();
    assert!(error.ends_with("it answers ServerFailure"), "{error}");
    assert_eq!(asked.load(Ordering::Relaxed) - before, 6, "two questions, three attempts");
}

#[test]
fn one_kind_of_address_is_enough() {
    let (address, _) = server(&|_, kind, _| match kind {
        TYPE::A => Some((RCODE::NoError, vec![("r.example", v4("192.0.2.1"))], false)),
        _ => Some((RCODE::Refused, vec![], false)),
    });
    assert_eq!(found(&configuration(&[address], ""), "r.example").unwrap(), ["192.0.2.1"]);
}

#[test]
fn resolv_conf_is_read_as_its_manual_says() {
    let read = Configuration::parse(
        "# comment\n;nameserver 9.9.9.9\nnameserver 192.0.2.53\nnameserver 2001:db8::53\nnameserver nonsense\n\
         nameserver 192.0.2.54\nnameserver 192.0.2.55\noptions ndots:2 timeout:90 attempts:0 rotate edns0\n",
    );
    let servers: Vec<String> = read.servers.iter().map(SocketAddr::to_string).collect();
    assert_eq!(servers, ["192.0.2.53:53", "[2001:db8::53]:53", "192.0.2.54:53"]);
    assert_eq!((read.ndots, read.timeout.as_secs(), read.attempts), (2, 30, 1));
    assert_eq!(Configuration::parse("").servers[0].to_string(), "127.0.0.1:53");
}

#[test]
fn hosts_comes_first_and_addresses_are_not_asked_for() {
    let hosts = "127.0.0.1 localhost # r.example\n192.0.2.9\tx R.Example\nnonsense r.example\n2001:db8::9 r.example\n";
    assert_eq!(in_hosts(hosts, "r.example").len(), 2);
    assert!(in_hosts(hosts, "example").is_empty());
    let nowhere = Resolver { hosts: "/nonexistent".into(), resolv_conf: "/nonexistent".into() };
    assert_eq!(nowhere.addresses("[::1]").unwrap(), [IpAddr::from(Ipv6Addr::LOCALHOST)]);
    assert_eq!(nowhere.addresses("192.0.2.1").unwrap().len(), 1);
    assert_eq!(nowhere.addresses("LOCALHOST").unwrap()[0], IpAddr::from(Ipv4Addr::LOCALHOST));
}
