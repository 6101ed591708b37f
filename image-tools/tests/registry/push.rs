//! Blobs and manifests to a registry that does things wrong.

use std::io::Read;
use std::sync::atomic::{AtomicU32, Ordering};

use pintle_image::digest::Digest;
use pintle_image::error::{Error, Kind, Result};
use pintle_image::manifest::{Descriptor, media};
use pintle_image::registry::Pushed;

use super::server::{Fault, Gate, Server};
use super::{client, client_as, error, name, noise, text};

fn source(bytes: &[u8]) -> impl Fn() -> Result<Box<dyn Read + Send>> + use<> {
    let bytes = bytes.to_vec();
    move || Ok(Box::new(std::io::Cursor::new(bytes.clone())) as Box<dyn Read + Send>)
}

#[test]
fn a_blob_is_there_or_mounted_or_sent() {
    let server = Server::new();
    let bytes = noise(3 << 20);
    let blob = Descriptor::of("x", &bytes);
    let client = client();
    let push = |to: &str, from: &[String]| {
        client.push_blob(&name(&server, to), &blob, from, &source(&bytes)).unwrap()
    };
    assert_eq!(push("a", &[]), Pushed::Sent);
    assert_eq!(push("a", &[]), Pushed::There);
    assert_eq!(push("b/c", &["nothing".into(), "a".into()]), Pushed::Mounted);
    assert_eq!(server.seen("DELETE", "/v2/b/c/blobs/uploads/").len(), 1, "the upload that nothing began");
    assert_eq!(server.blob("b/c", &blob.digest).unwrap(), bytes);
    assert_eq!(push("d", &["nothing".into()]), Pushed::Sent);
    assert_eq!(server.blob("d", &blob.digest).unwrap(), bytes);
    let empty = Descriptor::of("x", b"");
    assert_eq!(client.push_blob(&name(&server, "a"), &empty, &[], &source(b"")).unwrap(), Pushed::Sent);
}

#[test]
fn an_upload_is_tried_again_from_its_beginning() {
    let bytes = noise(3 << 20);
    let blob = Descriptor::of("x", &bytes);
    for fault in [Fault::Status(503, vec![]), Fault::Close, Fault::Status(404, vec![])] {
        let server = Server::new();
        server.fault("PUT", "/uploads/", fault, 2);
        let opened = AtomicU32::new(0);
        let open = || {
            opened.fetch_add(1, Ordering::Relaxed);
            source(&bytes)()
        };
        assert_eq!(client().push_blob(&name(&server, "a"), &blob, &[], &open).unwrap(), Pushed::Sent);
        assert_eq!(opened.load(Ordering::Relaxed), 3);
        assert_eq!(server.blob("a", &blob.digest).unwrap(), bytes);
        assert_eq!(server.seen("POST", "/uploads/").len(), 3, "each try is an upload of its own");
    }
}

#[test]
fn registries_that_take_no_large_bodies_get_pieces() {
    let server = Server::new();
    let bytes = noise((16 << 20) + 5);
    let blob = Descriptor::of("x", &bytes);
    server.fault("PUT", "/uploads/", Fault::Status(413, vec![]), 1);
    assert_eq!(client().push_blob(&name(&server, "a"), &blob, &[], &source(&bytes)).unwrap(), Pushed::Sent);
    assert_eq!(server.blob("a", &blob.digest).unwrap(), bytes);
    let ranges: Vec<String> =
        server.seen("PATCH", "").iter().map(|s| s.header("content-range").unwrap().to_owned()).collect();
    assert_eq!(ranges, ["0-16777215", "16777216-16777220"]);
}

#[test]
fn what_is_wrong_with_the_source_is_told_at_once() {
    let server = Server::new();
    let client = client();
    let bytes = noise(2 << 20);
    let blob = Descriptor::of("x", &bytes);
    let push =
        |open: &pintle_image::registry::Open| error(client.push_blob(&name(&server, "a"), &blob, &[], open));
    let gone = push(&|| Err(Error::not_found("blob: gone")));
    assert!(gone.kind() == Kind::NotFound && gone.to_string().ends_with(": blob: gone"), "{gone}");
    let short = push(&source(&bytes[..1 << 20]));
    assert!(short.to_string().ends_with("what is to be sent ends 1048576 bytes before its size"), "{short}");
    let mut other = bytes.clone();
    other[7] ^= 1;
    assert!(push(&source(&other)).to_string().contains("400 Bad Request"));
    assert_eq!(server.seen("PUT", "").len(), 3 - 1, "none was tried again");
    assert!(server.blob("a", &blob.digest).is_none());
}

#[test]
fn a_token_that_ends_before_an_upload_is_replaced() {
    let server = Server::new();
    server.gate(Gate::Bearer(format!("http://{}", server.host()), Some(("me", "geheim"))));
    let client = client_as("me", "geheim");
    let bytes = noise(2 << 20);
    let blob = Descriptor::of("x", &bytes);
    let open = || {
        // Between the beginning of the upload and its body.
        if server.seen("PUT", "").is_empty() {
            server.forget_tokens();
        }
        source(&bytes)()
    };
    assert_eq!(client.push_blob(&name(&server, "a"), &blob, &[], &open).unwrap(), Pushed::Sent);
    assert!(server.seen("GET", "/token")[0].path.contains("scope=repository%3Aa%3Apull%2Cpush"));
    let other = Descriptor::of("x", b"other");
    client.push_blob(&name(&server, "b"), &other, &["a".into()], &source(b"other")).unwrap();
    let mount = server.seen("GET", "/token");
    let mount = mount
        .iter()
        .find(|s| s.path.contains("scope=repository%3Ab%3Apull%2Cpush&scope=repository%3Aa%3Apull"));
    assert!(mount.is_some());
}

#[test]
fn a_manifest_goes_under_its_tag_or_its_digest() {
    let server = Server::new();
    let client = client();
    let bytes = br#"{"schemaVersion":2}"#;
    let digest = Digest::of(bytes);
    assert_eq!(client.put_manifest(&name(&server, "a:1"), media::MANIFEST, bytes).unwrap(), digest);
    assert_eq!(client.manifest(&name(&server, "a:1")).unwrap().0, Descriptor::of(media::MANIFEST, bytes));
    let untagged = name(&server, &format!("a@{digest}"));
    assert_eq!(client.put_manifest(&untagged, media::MANIFEST, bytes).unwrap(), digest);
    assert_eq!(server.seen("PUT", "/manifests/")[1].path, format!("/v2/a/manifests/{digest}"));
    assert_eq!(error(client.put_manifest(&untagged, media::MANIFEST, b"{}")).kind(), Kind::Invalid);
    let lie = vec![("docker-content-digest", Digest::of(b"x").to_string())];
    server.fault("PUT", "/manifests/", Fault::Headers(lie), 1);
    assert!(
        text(client.put_manifest(&name(&server, "a:1"), media::MANIFEST, bytes))
            .contains("the registry stored")
    );
    server.fault("PUT", "/manifests/", Fault::Status(500, vec![]), 2);
    client.put_manifest(&name(&server, "a:1"), media::MANIFEST, bytes).unwrap();
    server.fault("PUT", "/manifests/", Fault::Status(307, vec![("location", "/elsewhere".into())]), 1);
    assert_eq!(
        error(client.put_manifest(&name(&server, "a:1"), media::MANIFEST, bytes)).kind(),
        Kind::NotFound
    );
    assert_eq!(server.seen("PUT", "/elsewhere").len(), 1);
}

#[test]
fn an_upload_that_goes_on_elsewhere_shows_no_credentials_there() {
    // CVE-2020-15157 the other way round: the Location of an upload is the registry's word only.
    let (server, elsewhere) = (Server::new(), Server::new());
    server.gate(Gate::Basic("me", "geheim"));
    let blob = Descriptor::of("x", b"bytes");
    let away = format!("http://{}/v2/a/blobs/uploads/1", elsewhere.host());
    let client = client_as("me", "geheim");
    server.fault("POST", "/uploads/", Fault::Headers(vec![("location", away)]), 9);
    error(client.push_blob(&name(&server, "a"), &blob, &[], &source(b"bytes")));
    let seen = elsewhere.seen("PUT", "/uploads/1?digest=sha256%3A");
    assert!(!seen.is_empty() && seen.iter().all(|s| s.header("authorization").is_none()));
}
