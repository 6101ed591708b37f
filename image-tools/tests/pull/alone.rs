//! The program by itself: in a root folder with nothing in it but the program, `/etc/hosts` or a name server, and certificates.
//! There is no C library there, so no module of it could be loaded.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Stdio};

use pintle_tests::copy_program;
use serde_json::json;
use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, Packet, QTYPE, ResourceRecord, TYPE};

use super::image::{Image, Tar};
use super::{Outcome, Place, finish};
use crate::registry::server::Server;
use crate::registry::tls::Authority;

/// A registry called `registry.test`, and a folder that a host has everything in; none where this is not root's.
fn start(what: &str) -> Option<(Place, String, Authority)> {
    if !rustix::process::geteuid().is_root() {
        crate::oracle::skip(what, "chroot needs root");
        return None;
    }
    let place = Place::new(what);
    let authority = Authority::new();
    let server = Server::with(Some(authority.server("registry.test", false)));
    // Without /proc there are layers that stand alone, and trees, no bundles.
    let archives = ["base", "top"].map(|folder| Tar::default().noise(folder, 3, 50_000).archive());
    Image::of(&archives, json!({"Cmd": ["/bin/true"]})).publish(&server, "a");
    fs::create_dir_all(place.path("root/etc")).unwrap();
    copy_program(env!("CARGO_BIN_EXE_pintle-image"), place.path("root/pintle-image"));
    Some((place, format!("registry.test:{}", server.port()), authority))
}

fn write(place: &Place, path: &str, text: &str) {
    let path = place.path("root").join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn run(place: &Place, words: &[&str]) -> Outcome {
    let mut command = Command::new("chroot");
    command.arg(place.path("root")).args(["/pintle-image", "--root", "/store"]).args(words);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    finish(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

#[track_caller]
fn pulls(place: &Place, host: &str) {
    let outcome = run(place, &["pull", &format!("{host}/a:1")]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    let outcome = run(place, &["fsck"]);
    assert_eq!((outcome.code, &*outcome.out), (Some(0), ""), "{}", outcome.err);
    let outcome = run(place, &["unpack", "--rootfs-only", &format!("{host}/a:1"), "/tree"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    assert!(place.path("root/tree/base/1").exists());
}

#[test]
fn a_name_in_hosts_is_found_without_a_c_library() {
    let Some((place, host, authority)) = start("hosts") else { return };
    write(&place, "etc/hosts", "127.0.0.1 localhost\n127.0.0.1 other registry.test # ours\n");
    write(&place, "etc/resolv.conf", "nameserver 127.0.0.1\n");
    write(&place, &format!("etc/containers/certs.d/{host}/ca.crt"), &authority.pem());
    pulls(&place, &host);
}

#[test]
fn a_name_server_is_asked_without_a_c_library() {
    let Some((place, host, authority)) = start("name-server") else { return };
    let [one, two] = (std::process::id() as u16).to_be_bytes();
    let address = format!("127.83.{one}.{two}");
    let Ok(socket) = UdpSocket::bind((&*address, 53)) else {
        return crate::oracle::skip("a name server", "port 53 is not ours");
    };
    std::thread::spawn(move || answer(&socket));
    write(&place, "etc/resolv.conf", &format!("nameserver {address}\nsearch nowhere.test\n"));
    write(&place, "etc/ssl/certs/ca-certificates.crt", &authority.pem());
    pulls(&place, &host);
    let outcome = run(&place, &["pull", "absent.test/a:1"]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.err);
    assert!(outcome.err.contains("no such host: \"absent.test\""), "{}", outcome.err);
    let libraries = ["lib", "lib64", "usr", "proc"].map(|name| place.path("root").join(name));
    assert!(!libraries.iter().any(|path| Path::exists(path)));
}

/// A name server that knows one address of one name.
fn answer(socket: &UdpSocket) {
    let mut buffer = [0; 1024];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        let question = Packet::parse(&buffer[..length]).unwrap();
        let asked = &question.questions[0];
        let mut reply = Packet::new_reply(question.id());
        if asked.qname.to_string() != "registry.test" {
            *reply.rcode_mut() = simple_dns::RCODE::NameError;
        } else if asked.qtype == QTYPE::TYPE(TYPE::A) {
            let address = RData::A(A { address: u32::from_be_bytes([127, 0, 0, 1]) });
            reply.answers.push(ResourceRecord::new(asked.qname.clone(), CLASS::IN, 60, address));
        }
        reply.questions.push(asked.clone());
        socket.send_to(&reply.build_bytes_vec().unwrap(), from).unwrap();
    }
}
