//! Against Debian's docker-registry, with TLS and a password: what the small registry of our own might be wrong about.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pintle_image::digest::Digest;
use pintle_image::error::{Kind, Result};
use pintle_image::manifest::{Descriptor, media};
use pintle_image::reference::Reference;
use pintle_image::registry::{Client, Pushed, Settings};

use super::pull::tempfile;
use super::tls::Authority;
use super::{credentials, error, noise, settings};

/// bcrypt of `geheim`, for the user `me`.
const HTPASSWD: &str = "me:$2y$04$j.BdrHwLb9okyQonvq9xoOLwCVhBhYJzmHsO0f/WpOpiNrnq5OK3q\n";

/// A registry that ends with the test.
pub struct Registry {
    child: Child,
    pub host: String,
    pub dir: PathBuf,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        fs::remove_dir_all(&self.dir).ok();
    }
}

/// docker-registry of the oracles' root folder (tests/image-oracles.sh), with that folder's own loader and C library; none
/// where it is not there.
fn program() -> Option<Command> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/oracles/images/root");
    let (loader, registry) = (root.join("lib64/ld-linux-x86-64.so.2"), root.join("usr/bin/docker-registry"));
    if !registry.exists() {
        crate::oracle::skip("docker-registry", "no oracles: make image-oracles");
        return None;
    }
    let mut command = Command::new(loader);
    command.arg("--library-path").arg(root.join("usr/lib/x86_64-linux-gnu")).arg(registry);
    Some(command)
}

/// Starts one, for the user `me` with the password `geheim`, and a `certs.d` in its folder.
pub fn start() -> Option<Registry> {
    for _ in 0..5 {
        let registry = serve(program()?);
        if registry.is_some() {
            return registry;
        }
    }
    panic!("docker-registry does not start, or others take every port before it")
}

/// At a port that was free a moment ago. None: it ended, as where another registry has taken that one.
fn serve(mut command: Command) -> Option<Registry> {
    let dir = tempfile("oracle");
    // None of those that the kernel gives to whoever asks for any, ip(7).
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let port = std::iter::repeat_with(|| fastrand::u16(20_000..32_768)).find(is_free).unwrap();
    let host = format!("localhost:{port}");
    let authority = Authority::new();
    let (certificate, key) = authority.issue("localhost");
    fs::create_dir_all(dir.join("certs.d").join(&host)).unwrap();
    fs::write(dir.join("certs.d").join(&host).join("ca.crt"), authority.pem()).unwrap();
    fs::write(dir.join("cert.pem"), certificate.pem()).unwrap();
    fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
    fs::write(dir.join("htpasswd"), HTPASSWD).unwrap();
    let at = dir.display();
    let config = format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: {at}/data}}, delete: {{enabled: true}}}}\n\
         auth: {{htpasswd: {{realm: test, path: {at}/htpasswd}}}}\n\
         http: {{addr: '127.0.0.1:{port}', secret: x, tls: {{certificate: {at}/cert.pem, key: {at}/key.pem}}}}\n"
    );
    fs::write(dir.join("config.yml"), config).unwrap();
    let child = command
        .arg("serve")
        .arg(dir.join("config.yml"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut registry = Registry { child, host, dir };
    let until = Instant::now() + Duration::from_secs(120);
    let patience = Duration::from_secs(1);
    let client = Client::new(Settings { patience, retries: 0, ..registry.settings("geheim") }).unwrap();
    // Another registry has a certificate of another authority's.
    while client.login(&registry.host).is_err() {
        if registry.child.try_wait().unwrap().is_some() {
            return None;
        }
        assert!(Instant::now() < until, "docker-registry does not start");
        std::thread::sleep(Duration::from_millis(50));
    }
    Some(registry)
}

impl Registry {
    fn settings(&self, password: &str) -> Settings {
        Settings {
            certificates: vec![self.dir.join("certs.d")],
            credentials: Some(credentials("me", password)),
            ..settings()
        }
    }

    fn client(&self, password: &str) -> Client {
        Client::new(self.settings(password)).unwrap()
    }

    fn name(&self, rest: &str) -> Reference {
        Reference::parse(&format!("{}/{rest}", self.host)).unwrap()
    }
}

fn source(bytes: &[u8]) -> impl Fn() -> Result<Box<dyn Read + Send>> + use<> {
    let bytes = bytes.to_vec();
    move || Ok(Box::new(std::io::Cursor::new(bytes.clone())) as Box<dyn Read + Send>)
}

#[test]
fn an_image_goes_to_docker_registry_and_comes_back() {
    let Some(registry) = start() else { return };
    let client = registry.client("geheim");
    let (image, other) = (registry.name("team/app:1"), registry.name("other:1"));
    let bytes = noise(20 << 20);
    let config = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
    let layer = Descriptor::of("application/vnd.oci.image.layer.v1.tar", &bytes);
    let config_blob = Descriptor::of(media::CONFIG, config);
    let push = |to: &Reference, from: &[String]| client.push_blob(to, &layer, from, &source(&bytes)).unwrap();

    assert_eq!(push(&image, &[]), Pushed::Sent);
    assert_eq!(push(&image, &[]), Pushed::There);
    assert_eq!(push(&other, &["team/app".into()]), Pushed::Mounted);
    assert_eq!(push(&registry.name("third"), &["nothing".into()]), Pushed::Sent);
    assert_eq!(client.push_blob(&image, &config_blob, &[], &source(config)).unwrap(), Pushed::Sent);

    let json = |d: &Descriptor| serde_json::to_value(d).unwrap();
    let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": media::MANIFEST,
        "config": json(&config_blob), "layers": [json(&layer)]});
    let manifest = manifest.to_string();
    let digest = client.put_manifest(&image, media::MANIFEST, manifest.as_bytes()).unwrap();
    assert_eq!(digest, Digest::of(manifest.as_bytes()));
    for tag in ["2", "3", "4"] {
        client
            .put_manifest(&registry.name(&format!("team/app:{tag}")), media::MANIFEST, manifest.as_bytes())
            .unwrap();
    }

    // Another client, who learned nothing yet.
    let client = registry.client("geheim");
    let (found, document) = client.manifest(&image).unwrap();
    assert_eq!(found, Descriptor::of(media::MANIFEST, manifest.as_bytes()));
    assert_eq!(document, manifest.as_bytes());
    assert_eq!(client.manifest(&registry.name(&format!("team/app@{digest}"))).unwrap().0, found);
    assert_eq!(client.fetch(&image, &config_blob).unwrap(), config);
    for offset in [0, 1, 12_345_678] {
        let mut got = Vec::new();
        client.blob(&image, &layer, offset).unwrap().read_to_end(&mut got).unwrap();
        assert!(got == bytes[offset as usize..], "from {offset}");
    }
}

#[test]
fn docker_registry_refuses_strangers_and_other_bytes() {
    let Some(registry) = start() else { return };
    let image = registry.name("team/app:1");
    registry.client("geheim").login(&registry.host).unwrap();
    assert_eq!(error(registry.client("falsch").login(&registry.host)).kind(), Kind::Denied);
    let got = error(registry.client("falsch").manifest(&image));
    assert_eq!(got.kind(), Kind::Denied);
    assert!(got.to_string().ends_with(&format!("log in with pintle-image login {}", registry.host)), "{got}");
    let client = registry.client("geheim");
    assert_eq!(error(client.manifest(&image)).kind(), Kind::NotFound);
    let bytes = noise(2 << 20);
    let blob = Descriptor::of("x", &bytes);
    let mut other = bytes.clone();
    other[7] ^= 1;
    let got = error(client.push_blob(&image, &blob, &[], &source(&other))).to_string();
    assert!(got.contains("digest"), "{got}");
    assert_eq!(error(client.fetch(&image, &blob)).kind(), Kind::NotFound);
    let distrusting = Client::new(Settings { certificates: vec![], ..settings() }).unwrap();
    assert_eq!(error(distrusting.manifest(&image)).kind(), Kind::Invalid);
}
