//! Documents and blobs from a registry that does things wrong.

use std::io::Read;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pintle_image::digest::Digest;
use pintle_image::error::Kind;
use pintle_image::manifest::{Descriptor, LARGEST, media};
use pintle_image::registry::credentials::Credentials;
use pintle_image::registry::proxy::Proxies;
use pintle_image::registry::{Client, Settings};

use super::server::{Fault, Gate, Server, basic};
use super::{client, client_as, credentials, error, name, noise, settings, text};

const MANIFEST: &[u8] = br#"{"schemaVersion":2}"#;

/// A registry with `a:1` and a blob of 3 MiB.
fn registry() -> (Server, Vec<u8>, Descriptor) {
    let server = Server::new();
    let bytes = noise(3 << 20);
    let blob = server.add_blob("a", &bytes);
    server.add_manifest("a", "1", media::MANIFEST, MANIFEST);
    (server, bytes, blob)
}

fn all(client: &Client, server: &Server, blob: &Descriptor, offset: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    client.blob(&name(server, "a:1"), blob, offset)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[test]
fn a_client_is_shared_by_threads_and_a_blob_moves_to_one() {
    fn shared<T: Send + Sync>() {}
    fn moves<T: Send>() {}
    shared::<Client>();
    moves::<pintle_image::registry::Blob<'_>>();
}

#[test]
fn a_manifest_its_children_and_its_blobs_arrive() {
    let (server, bytes, blob) = registry();
    let client = client();
    let (descriptor, document) = client.manifest(&name(&server, "a:1")).unwrap();
    assert_eq!(document, MANIFEST);
    assert_eq!(descriptor, Descriptor::of(media::MANIFEST, MANIFEST));
    let by_digest = name(&server, &format!("a@{}", descriptor.digest));
    assert_eq!(client.manifest(&by_digest).unwrap().0, descriptor);
    assert_eq!(client.fetch(&by_digest, &descriptor).unwrap(), MANIFEST);
    let config = server.add_blob("a", b"{}");
    assert_eq!(client.fetch(&by_digest, &config).unwrap(), b"{}");
    assert_eq!(all(&client, &server, &blob, 0).unwrap(), bytes);
    assert_eq!(all(&client, &server, &blob, 1_000_000).unwrap(), &bytes[1_000_000..]);
    assert_eq!(all(&client, &server, &blob, blob.size).unwrap(), b"");
    assert!(server.seen("GET", "/manifests/1")[0].header("accept").unwrap().contains(media::INDEX));
    assert_eq!(server.seen("GET", "/manifests/1")[0].header("authorization"), None);
}

#[test]
fn passing_trouble_is_tried_again_and_lasting_trouble_is_not() {
    let check = |fault: Fault, times, expect: Result<(), Kind>, requests| {
        let (server, ..) = registry();
        server.fault("GET", "/manifests/", fault.clone(), times);
        let got = client().manifest(&name(&server, "a:1")).map(drop).map_err(|e| e.kind());
        assert_eq!(got, expect, "{fault:?}");
        assert_eq!(server.seen("GET", "/manifests/").len(), requests, "{fault:?}");
    };
    for status in [408, 429, 500, 502, 503, 504] {
        check(Fault::Status(status, vec![]), 3, Ok(()), 4);
    }
    check(Fault::Close, 3, Ok(()), 4);
    check(Fault::Cut(3), 3, Ok(()), 4);
    check(Fault::Status(503, vec![]), 99, Err(Kind::Other), 6);
    check(Fault::Close, 99, Err(Kind::Other), 6);
    check(Fault::Status(400, vec![]), 1, Err(Kind::Other), 1);
    check(Fault::Status(403, vec![]), 1, Err(Kind::Denied), 1);
    check(Fault::Status(404, vec![]), 1, Err(Kind::NotFound), 1);
    check(Fault::Status(401, vec![]), 1, Err(Kind::Denied), 1);
}

#[test]
fn errors_say_what_where_and_what_to_do() {
    let check = |status, expect: &str| {
        let (server, ..) = registry();
        server.fault("GET", "/manifests/", Fault::Status(status, vec![]), 9);
        let host = server.host();
        let got = text(client().manifest(&name(&server, "a:1")));
        assert_eq!(got, format!("{host}/a:1: {}", expect.replace("HOST", &host)));
    };
    check(401, "denied by HOST (fault 401): log in with pintle-image login HOST");
    check(403, "denied by HOST (fault 403): log in with pintle-image login HOST");
    check(404, "not found on HOST (fault 404)");
    check(429, "HOST: too many requests (fault 429): wait, or log in to have a higher limit");
    check(503, "HOST: it answers 503 Service Unavailable (fault 503)");
    let nobody = pintle_image::reference::Reference::parse("127.0.0.1:1/a").unwrap();
    assert_eq!(text(client().manifest(&nobody)), "127.0.0.1:1/a:latest: 127.0.0.1:1: connection refused");
}

#[test]
fn retry_after_is_obeyed_within_the_limit() {
    let (server, ..) = registry();
    let told = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&told);
    let settings = Settings {
        longest_pause: Duration::from_secs(2),
        notice: Some(Arc::new(move |line: &str| log.lock().unwrap().push(line.to_owned()))),
        ..settings()
    };
    let client = Client::new(settings).unwrap();
    // The bounds tell an hour from a limit; what is told below, the rest.
    for (asked, least) in [("1", 1), ("3600", 2)] {
        server.fault("GET", "/manifests/", Fault::Status(429, vec![("retry-after", asked.into())]), 1);
        let start = Instant::now();
        client.manifest(&name(&server, "a:1")).unwrap();
        assert!((least..60).contains(&start.elapsed().as_secs()), "{asked}: {:?}", start.elapsed());
    }
    let told = told.lock().unwrap();
    assert_eq!(told.len(), 2, "{told:?}");
    for (line, pause) in told.iter().zip(["1.0", "2.0"]) {
        assert!(line.ends_with(&format!("trying again in {pause} s")), "{told:?}");
    }
}

#[test]
fn a_cut_blob_goes_on_where_it_was() {
    let (server, bytes, blob) = registry();
    server.fault("GET", "/blobs/", Fault::Cut(1_000_000), 2);
    server.fault("GET", "/blobs/", Fault::Status(503, vec![]), 2);
    server.fault("GET", "/blobs/", Fault::Close, 1);
    assert_eq!(all(&client(), &server, &blob, 0).unwrap(), bytes);
    let ranges: Vec<_> =
        server.seen("GET", "/blobs/").iter().map(|s| s.header("range").map(str::to_owned)).collect();
    let at = |n: usize| Some(format!("bytes={n}-"));
    assert_eq!(ranges, [None, at(1_000_000), at(2_000_000), at(2_000_000), at(2_000_000), at(2_000_000)]);
}

#[test]
fn a_registry_without_ranges_gives_the_beginning_again() {
    let (server, bytes, blob) = registry();
    server.fault("GET", "/blobs/", Fault::WholeOnly, 1);
    assert_eq!(all(&client(), &server, &blob, 2_500_000).unwrap(), &bytes[2_500_000..]);
    server.fault("GET", "/blobs/", Fault::Cut(100), 1);
    server.fault("GET", "/blobs/", Fault::WholeOnly, 1);
    assert_eq!(all(&client(), &server, &blob, 0).unwrap(), bytes);
}

#[test]
fn a_blob_that_is_always_cut_ends_after_some_tries() {
    let (server, _, blob) = registry();
    server.fault("GET", "/blobs/", Fault::Cut(1000), 99);
    let got = error(all(&client(), &server, &blob, 0).map_err(Into::into)).to_string();
    let host = server.host();
    let expect =
        format!("{host}/a:1: {}: after 6000 of 3145728 bytes: {host}: the connection was cut", blob.digest);
    assert_eq!(got, expect);
    assert_eq!(server.seen("GET", "/blobs/").len(), 6);
    // Progress between cuts gives new tries.
    let (server, bytes, blob) = registry();
    let stingy = Client::new(Settings { retries: 1, ..settings() }).unwrap();
    server.fault("GET", "/blobs/", Fault::Cut(1 << 20), 2);
    assert_eq!(all(&stingy, &server, &blob, 0).unwrap(), bytes);
    // So does progress over several of them.
    let (server, bytes, blob) = registry();
    let stingy = Client::new(Settings { retries: 2, ..settings() }).unwrap();
    server.fault("GET", "/blobs/", Fault::Cut(600_000), 99);
    assert_eq!(all(&stingy, &server, &blob, 0).unwrap(), bytes);
}

#[test]
fn other_bytes_than_promised_are_refused() {
    let (server, ..) = registry();
    let client = client();
    let reference = name(&server, "a:1");
    server.fault("GET", "/manifests/", Fault::Bytes(b"{\"schemaVersion\":3}".into()), 2);
    let wrong = error(client.manifest(&reference));
    assert_eq!(wrong.kind(), Kind::Invalid);
    let by_digest = name(&server, &format!("a@{}", Digest::of(MANIFEST)));
    assert_eq!(error(client.manifest(&by_digest)).kind(), Kind::Invalid);
    let escape = vec![("docker-content-digest", "sha256:../../x".to_owned())];
    server.fault("GET", "/manifests/", Fault::Headers(escape), 1);
    assert_eq!(error(client.manifest(&reference)).kind(), Kind::Invalid);
    let config = server.add_blob("a", b"{}");
    server.fault("GET", "/blobs/", Fault::Bytes(b"[]".into()), 1);
    assert_eq!(error(client.fetch(&reference, &config)).kind(), Kind::Invalid);
    server.fault("GET", "/blobs/", Fault::Bytes(b"{} ".into()), 1);
    assert_eq!(error(client.fetch(&reference, &config)).kind(), Kind::Invalid);
    assert_eq!(server.seen("GET", "").iter().filter(|s| s.path != "/v2/").count(), 5, "none was tried again");
}

#[test]
fn sizes_that_differ_from_the_descriptor_are_told_at_once() {
    let (server, _, blob) = registry();
    let client = client();
    for size in [blob.size - 1, blob.size + 1] {
        let other = Descriptor { size, ..blob.clone() };
        let got = error(client.blob(&name(&server, "a:1"), &other, 0));
        assert_eq!(got.kind(), Kind::Invalid, "{got}");
        assert!(got.to_string().contains("3145728"), "{got}");
        assert_eq!(error(client.blob(&name(&server, "a:1"), &other, 5)).kind(), Kind::Invalid);
    }
    for range in ["bytes 9-3145727/3145728", "bytes 5-9/10", "nonsense"] {
        server.fault("GET", "/blobs/", Fault::Headers(vec![("content-range", range.into())]), 1);
        assert_eq!(error(client.blob(&name(&server, "a:1"), &blob, 5)).kind(), Kind::Invalid, "{range}");
    }
    let large = Descriptor { size: LARGEST + 1, ..blob };
    assert!(text(client.fetch(&name(&server, "a:1"), &large)).contains("more than a document's"));
}

#[test]
fn bodies_and_heads_without_end_are_cut_off() {
    let (server, _, blob) = registry();
    let client = client();
    let reference = name(&server, "a:1");
    server.fault("GET", "/manifests/", Fault::Endless, 1);
    assert_eq!(error(client.manifest(&reference)).kind(), Kind::Invalid);
    server.fault("GET", "/manifests/", Fault::EndlessHead, 1);
    assert!(text(client.manifest(&reference)).contains("the head of its answer is longer than"));
    server.fault("GET", "/blobs/", Fault::Endless, 1);
    assert_eq!(all(&client, &server, &blob, 0).unwrap().len() as u64, blob.size);
    server.gate(Gate::Bearer(format!("http://{}", server.host()), None));
    server.fault("GET", "/token", Fault::Endless, 1);
    assert_eq!(error(client.manifest(&reference)).kind(), Kind::Invalid);
}

#[test]
fn silence_ends_and_is_tried_again() {
    let (server, bytes, blob) = registry();
    let patience = Duration::from_secs(3);
    let silence = patience * 10;
    let client = Client::new(Settings { patience, retries: 1, ..settings() }).unwrap();
    client.manifest(&name(&server, "a:1")).unwrap();
    server.fault("GET", "/blobs/", Fault::Stall(silence), 1);
    assert_eq!(all(&client, &server, &blob, 0).unwrap(), bytes);
    server.fault("GET", "/manifests/", Fault::Stall(silence), 2);
    let start = Instant::now();
    assert!(text(client.manifest(&name(&server, "a:1"))).ends_with("no answer in time"));
    assert!(start.elapsed() < silence, "nobody waits for its end");
}

#[test]
fn redirects_keep_credentials_at_home() {
    // CVE-2020-15157: the storage behind a registry must not learn what the registry knows.
    let (server, bytes, blob) = registry();
    let storage = Server::new();
    storage.add_blob("x", &bytes);
    server.gate(Gate::Basic("me", "geheim"));
    let client = client_as("me", "geheim");
    let away = format!("http://{}/v2/x/blobs/{}?sig=1", storage.host(), blob.digest);
    let home = format!("/v2/a/blobs/{}?again", blob.digest);
    let to = |url: &str| Fault::Status(307, vec![("location", url.to_owned())]);
    client.manifest(&name(&server, "a:1")).unwrap();
    server.fault("GET", &format!("/v2/a/blobs/{}", blob.digest), to(&home), 1);
    assert_eq!(all(&client, &server, &blob, 0).unwrap(), bytes);
    let again = server.seen("GET", "?again");
    assert_eq!(again.last().unwrap().header("authorization"), Some(&*basic("me", "geheim")));

    server.fault("GET", "/blobs/", to(&away), 1);
    assert_eq!(all(&client, &server, &blob, 7).unwrap(), &bytes[7..]);
    let seen = storage.seen("GET", "/blobs/");
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].header("authorization"), None);
    assert_eq!(seen[0].header("range"), Some("bytes=7-"));
    // A port is another host, and a challenge of that host is not answered either.
    storage.gate(Gate::Basic("me", "geheim"));
    server.fault("GET", "/blobs/", to(&away), 1);
    assert_eq!(error(all(&client, &server, &blob, 0).map_err(Into::into)).kind(), Kind::Denied);
    assert!(storage.seen("GET", "").iter().all(|s| s.header("authorization").is_none()));
}

#[test]
fn redirects_come_to_an_end() {
    let (server, ..) = registry();
    let client = client();
    let to = |url: &str| Fault::Status(302, vec![("location", url.to_owned())]);
    server.fault("GET", "/manifests/", to("/v2/a/manifests/1"), 99);
    assert!(text(client.manifest(&name(&server, "a:1"))).ends_with("more than 5 redirects"));
    assert_eq!(server.seen("GET", "/manifests/").len(), 6);
    let (server, ..) = registry();
    server.fault("GET", "/manifests/", to("file:///etc/passwd"), 1);
    assert_eq!(error(client.manifest(&name(&server, "a:1"))).kind(), Kind::Invalid);
    server.fault("GET", "/manifests/", to("http://u:geheim@127.0.0.1/"), 1);
    assert!(!text(client.manifest(&name(&server, "a:1"))).contains("geheim"));
}

#[test]
fn tokens_are_fetched_once_and_again_when_they_end() {
    let (server, bytes, blob) = registry();
    server.gate(Gate::Bearer(format!("http://{}", server.host()), Some(("me", "geheim"))));
    let client = client_as("me", "geheim");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(all(&client, &server, &blob, 0).unwrap(), bytes));
        }
    });
    let asked = server.seen("GET", "/token");
    assert_eq!(asked.len(), 1, "eight threads, one token");
    assert!(asked[0].path.contains("x=1&service=test&scope=repository%3Aa%3Apull"), "{}", asked[0].path);
    assert_eq!(asked[0].header("authorization"), Some(&*basic("me", "geheim")));
    server.forget_tokens();
    client.manifest(&name(&server, "a:1")).unwrap();
    assert_eq!(server.seen("GET", "/token").len(), 2);
    // In the middle of a blob too.
    server.fault("GET", "/blobs/", Fault::Cut(1000), 1);
    let mut reader = client.blob(&name(&server, "a:1"), &blob, 0).unwrap();
    server.forget_tokens();
    let mut got = Vec::new();
    reader.read_to_end(&mut got).unwrap();
    assert_eq!(got, bytes);
}

#[test]
fn anonymous_tokens_and_wrong_passwords() {
    let (server, ..) = registry();
    let base = format!("http://{}", server.host());
    server.gate(Gate::Bearer(base.clone(), None));
    client().manifest(&name(&server, "a:1")).unwrap();
    assert_eq!(server.seen("GET", "/token")[0].header("authorization"), None);
    server.forget_tokens();
    server.gate(Gate::Bearer(base, Some(("me", "geheim"))));
    let before = server.seen("GET", "").len();
    let got = error(client_as("me", "falsch").manifest(&name(&server, "a:1")));
    assert_eq!(got.kind(), Kind::Denied);
    assert!(!got.to_string().contains("falsch"), "{got}");
    assert!(server.seen("GET", "").len() - before < 5, "refused passwords are not tried again");
    server.gate(Gate::Basic("me", "geheim"));
    assert_eq!(error(client_as("me", "falsch").manifest(&name(&server, "a:1"))).kind(), Kind::Denied);
    assert_eq!(error(client().manifest(&name(&server, "a:1"))).kind(), Kind::Denied);
    client_as("me", "geheim").manifest(&name(&server, "a:1")).unwrap();
}

#[test]
fn identity_tokens_buy_access_tokens_and_access_tokens_are_shown_as_they_are() {
    let (server, ..) = registry();
    server.gate(Gate::Bearer(format!("http://{}", server.host()), Some(("me", "geheim"))));
    let with = |credentials| Client::new(Settings { credentials: Some(credentials), ..settings() }).unwrap();
    let client = with(Credentials::Identity("identity+1".into()));
    client.manifest(&name(&server, "a:1")).unwrap();
    assert_eq!(server.seen("POST", "/token")[0].header("authorization"), None);
    // The server's first token.
    with(Credentials::Bearer("token-1".into())).manifest(&name(&server, "a:1")).unwrap();
    let got = error(with(Credentials::Bearer("geheim".into())).manifest(&name(&server, "a:1")));
    assert!(got.kind() == Kind::Denied && !got.to_string().contains("geheim"), "{got}");
    assert_eq!(server.seen("GET", "/token").len(), 0);
}

#[test]
fn media_types_come_from_the_header_or_else_from_the_document() {
    let server = Server::new();
    let check = |announced: &str, document: &str, expect: &str| {
        server.add_manifest("m", "1", announced, document.as_bytes());
        assert_eq!(client().manifest(&name(&server, "m:1")).unwrap().0.media_type, expect);
    };
    check("application/vnd.oci.image.index.v1+json; charset=utf-8", "{}", media::INDEX);
    check(
        "text/plain",
        r#"{"mediaType":"application/vnd.docker.distribution.manifest.v2+json"}"#,
        media::DOCKER_MANIFEST,
    );
    check("application/json", r#"{"manifests":[]}"#, media::INDEX);
    check("application/octet-stream", r#"{"layers":[]}"#, media::MANIFEST);
    check("application/json", "no JSON", "application/json");
    check(
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        "{}",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    );
}

#[test]
fn mirrors_come_first_and_get_no_credentials_of_the_registry() {
    let (server, bytes, blob) = registry();
    let mirror = Server::new();
    let dir = tempfile("mirrors");
    let file = dir.join("registries.conf");
    let text = format!(
        "[[registry]]\nlocation = '{}'\n[[registry.mirror]]\nlocation = '127.0.0.1:1'\n\
         [[registry.mirror]]\nlocation = '{}/m'\n",
        server.host(),
        mirror.host()
    );
    std::fs::write(&file, text).unwrap();
    let mirrored =
        Settings { mirrors: Some(file), credentials: Some(credentials("me", "geheim")), ..settings() };
    let client = Client::new(mirrored).unwrap();
    server.gate(Gate::Basic("me", "geheim"));
    // Neither the dead nor the empty mirror keeps anybody from the registry.
    assert_eq!(client.manifest(&name(&server, "a:1")).unwrap().1, MANIFEST);
    assert_eq!(mirror.seen("GET", "/v2/m/a/manifests/1").len(), 1);
    assert_eq!(all(&client, &server, &blob, 0).unwrap(), bytes);
    assert_eq!(mirror.seen("GET", "/blobs/").len(), 0, "the source that had the manifest is asked first");
    mirror.gate(Gate::Basic("me", "geheim"));
    mirror.add_manifest("m/b", "1", media::MANIFEST, MANIFEST);
    let got = error(client.manifest(&name(&server, "b:1")));
    assert_eq!(got.kind(), Kind::NotFound);
    assert!(got.to_string().contains(&format!("; mirror {}: denied", mirror.host())), "{got}");
    assert!(mirror.seen("GET", "").iter().all(|s| s.header("authorization").is_none()));
    mirror.gate(Gate::Open);
    mirror.add_manifest("m/c", "1", media::MANIFEST, MANIFEST);
    let fresh = Client::new(Settings { mirrors: Some(dir.join("registries.conf")), ..settings() }).unwrap();
    fresh.manifest(&name(&server, "c:1")).unwrap();
    assert_eq!(server.seen("GET", "/v2/c/").len(), 0);
}

#[test]
fn proxies_are_asked_to_connect_to_hosts_that_are_elsewhere() {
    let (server, ..) = registry();
    let client =
        Client::new(Settings { proxies: proxy(server.port()), insecure: true, ..settings() }).unwrap();
    let reference = pintle_image::reference::Reference::parse("r.test:80/a:1").unwrap();
    assert_eq!(client.manifest(&reference).unwrap().1, MANIFEST);
}

/// A proxy that knows one host, r.test:80, and one password; this port of this machine is that host.
pub fn proxy(port: u16) -> Proxies {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Some(format!("http://p:geheim@{}", listener.local_addr().unwrap()));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || tunnel(stream, port));
        }
    });
    Proxies { http: proxy.clone(), https: proxy, none: None }
}

fn tunnel(mut client: std::net::TcpStream, port: u16) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && client.read_exact(&mut byte).is_ok() {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head);
    assert!(head.starts_with("CONNECT r.test:80 ") && head.contains(&basic("p", "geheim")), "{head}");
    let mut server = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    std::io::Write::write_all(&mut client, b"HTTP/1.1 200 Fine\r\n\r\n").unwrap();
    let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    std::thread::spawn(move || {
        std::io::copy(&mut from, &mut to).ok();
        to.shutdown(std::net::Shutdown::Both).ok();
    });
    std::io::copy(&mut server, &mut client).ok();
    client.shutdown(std::net::Shutdown::Both).ok();
}

/// A fresh folder of this test.
pub fn tempfile(what: &str) -> std::path::PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("registry-{what}-{n}-{}", std::process::id()));
    std::fs::remove_dir_all(&dir).ok();
    std::fs::create_dir_all(&dir).unwrap();
    dir
}
