//! TLS: whom the client trusts, whom it shows a certificate, and where it would rather fail.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use pintle_image::error::Kind;
use pintle_image::manifest::{Descriptor, media};
use pintle_image::reference::Reference;
use pintle_image::registry::{Client, Settings};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;

use super::pull::tempfile;
use super::server::{Fault, Server};
use super::{error, name, settings};

/// An authority that nobody knows.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a name, with its key.
    pub fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }

    /// A server's configuration; it wants to see a client's certificate of this authority, or none.
    pub fn server(&self, name: &str, wants_clients: bool) -> rustls::ServerConfig {
        let (certificate, key) = self.issue(name);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = if wants_clients {
            let mut roots = RootCertStore::empty();
            roots.add(self.0.der().clone()).unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        builder.with_single_cert(vec![certificate.der().clone()], key).unwrap()
    }
}

fn trusting(folder: &Path) -> Client {
    Client::new(Settings { certificates: vec![folder.to_owned()], ..settings() }).unwrap()
}

fn serve(config: rustls::ServerConfig) -> (Server, Reference) {
    let server = Server::with(Some(config));
    server.add_manifest("a", "1", media::MANIFEST, b"{}");
    let reference = name(&server, "a:1");
    (server, reference)
}

#[test]
fn a_registry_is_trusted_by_its_folder_or_not_at_all() {
    let authority = Authority::new();
    let (server, reference) = serve(authority.server("localhost", false));
    let client = Client::new(settings()).unwrap();
    let got = error(client.manifest(&reference));
    let host = server.host();
    assert_eq!(got.kind(), Kind::Invalid);
    let expect = format!(
        "{reference}: {host}: its certificate is issued by nobody we know: put its issuer's into \
         /etc/containers/certs.d/{host}/ca.crt, or use --insecure"
    );
    assert_eq!(got.to_string(), expect);
    let dir = tempfile("trust");
    fs::create_dir_all(dir.join(&host)).unwrap();
    fs::write(dir.join(&host).join("ca.crt"), authority.pem()).unwrap();
    trusting(&dir).manifest(&reference).unwrap();
    Client::new(Settings { insecure: true, ..settings() }).unwrap().manifest(&reference).unwrap();
    let bundle = Some(dir.join(&host).join("ca.crt"));
    Client::new(Settings { bundle, ..settings() }).unwrap().manifest(&reference).unwrap();
    fs::write(dir.join(&host).join("ca.crt"), "no PEM").unwrap();
    assert!(
        error(trusting(&dir).manifest(&reference)).to_string().ends_with("ca.crt: no certificate in PEM")
    );
}

#[test]
fn a_certificate_for_another_host_is_refused() {
    let authority = Authority::new();
    let (server, reference) = serve(authority.server("other.example", false));
    let dir = tempfile("other-host");
    fs::create_dir_all(dir.join(server.host())).unwrap();
    fs::write(dir.join(server.host()).join("ca.crt"), authority.pem()).unwrap();
    let got = error(trusting(&dir).manifest(&reference)).to_string();
    assert!(
        got.contains("its certificate is for another host: use the host's right name, or --insecure"),
        "{got}"
    );
}

#[test]
fn a_certificate_of_ours_is_shown_where_one_lies() {
    let authority = Authority::new();
    let (server, reference) = serve(authority.server("localhost", true));
    let dir = tempfile("client");
    let folder = dir.join(server.host());
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("ca.crt"), authority.pem()).unwrap();
    let impatient = |retries| {
        let settings = Settings { certificates: vec![dir.clone()], retries, ..settings() };
        Client::new(settings).unwrap().manifest(&reference).map(drop)
    };
    error(impatient(0));
    let (certificate, key) = authority.issue("me");
    fs::write(folder.join("client.cert"), certificate.pem()).unwrap();
    let got = error(impatient(0)).to_string();
    assert!(got.ends_with("client.key: no such file or directory"), "{got}");
    fs::write(folder.join("client.key"), key.serialize_pem()).unwrap();
    impatient(0).unwrap();
}

#[test]
fn a_redirect_from_https_to_http_is_refused() {
    let authority = Authority::new();
    let (server, reference) = serve(authority.server("localhost", false));
    let plain = Server::new();
    plain.add_manifest("a", "1", media::MANIFEST, b"{}");
    let dir = tempfile("downgrade");
    fs::create_dir_all(dir.join(server.host())).unwrap();
    fs::write(dir.join(server.host()).join("ca.crt"), authority.pem()).unwrap();
    let away = format!("http://{}/v2/a/manifests/1", plain.host());
    server.fault("GET", "/manifests/", Fault::Status(307, vec![("location", away)]), 2);
    let got = error(trusting(&dir).manifest(&reference)).to_string();
    assert!(got.contains("redirected to plain http"), "{got}");
    assert!(plain.seen("GET", "").is_empty());
    Client::new(Settings { insecure: true, ..settings() }).unwrap().manifest(&reference).unwrap();
}

#[test]
fn an_upload_does_not_go_on_from_https_to_http() {
    let authority = Authority::new();
    let (server, reference) = serve(authority.server("localhost", false));
    let plain = Server::new();
    let dir = tempfile("upload-downgrade");
    fs::create_dir_all(dir.join(server.host())).unwrap();
    fs::write(dir.join(server.host()).join("ca.crt"), authority.pem()).unwrap();
    let away = format!("http://{}/v2/a/blobs/uploads/1", plain.host());
    server.fault("POST", "/uploads/", Fault::Headers(vec![("location", away)]), 9);
    let blob = Descriptor::of("x", b"bytes");
    let open = || Ok(Box::new(&b"bytes"[..]) as Box<dyn std::io::Read + Send>);
    let got = error(trusting(&dir).push_blob(&reference, &blob, &[], &open)).to_string();
    assert!(got.contains("redirected to plain http"), "{got}");
    assert!(plain.seen("PUT", "").is_empty());
    let lax = Client::new(Settings { insecure: true, ..settings() }).unwrap();
    error(lax.push_blob(&reference, &blob, &[], &open));
    assert!(!plain.seen("PUT", "").is_empty());
}

#[test]
fn plain_http_is_for_this_machine_and_for_those_who_ask_for_it() {
    let server = Server::new();
    server.add_manifest("a", "1", media::MANIFEST, b"{}");
    for host in ["127.0.0.1", "localhost"] {
        let reference = Reference::parse(&format!("{host}:{}/a:1", server.port())).unwrap();
        Client::new(settings()).unwrap().manifest(&reference).unwrap();
    }
    // Any other name is asked for TLS only; a proxy brings it here.
    let proxy = super::pull::proxy(server.port());
    let reference = Reference::parse("r.test:80/a:1").unwrap();
    let strict = Settings { proxies: proxy, ..settings() };
    let got = error(Client::new(strict.clone()).unwrap().manifest(&reference));
    assert_eq!(got.kind(), Kind::Unsupported);
    assert_eq!(
        got.to_string(),
        "r.test:80/a:1: r.test:80: it does not speak TLS: use --insecure for plain http"
    );
    Client::new(Settings { insecure: true, ..strict }).unwrap().manifest(&reference).unwrap();
}
