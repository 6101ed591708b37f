//! Registries that do things wrong, from the command line: what is tried again, what is told, what stays in the store.

use std::time::{Duration, Instant};

use fastrand::Rng;
use pintle_image::digest::Digest;
use pintle_image::progress::bytes;
use serde_json::{Value, json};

use super::Place;
use super::image::{Image, Tar, layers_of_all_kinds, noise};
use crate::registry::server::{Fault, Gate, Server};

/// A server with one image of one layer, of some 600 kB.
fn server() -> (Server, Image, String) {
    let server = Server::new();
    let image = Image::of(&[Tar::default().noise("a", 6, 100_000).archive()], json!({}));
    let name = image.publish(&server, "a");
    (server, image, name)
}

fn layer(image: &Image) -> String {
    format!("/blobs/{}", image.layers[0].0.digest)
}

/// Nothing of an image but, perhaps, its verified configuration, to which no name leads.
#[track_caller]
fn is_empty(place: &Place, store: &str, image: &Image) {
    let mut blobs = place.names(&format!("{store}/blobs/sha256"));
    blobs.retain(|hex| hex != image.config.0.digest.hex());
    assert_eq!(blobs, [""; 0]);
    assert_eq!(place.names(&format!("{store}/layers")), [""; 0]);
    place.is_tidy(store);
    assert_eq!(place.ok(store, &["--json", "ls"]).trim(), "[]");
}

#[test]
fn passing_trouble_is_tried_again() {
    let (server, image, name) = server();
    let place = Place::new("503");
    server.fault("GET", "/manifests/", Fault::Status(503, vec![]), 2);
    server.fault("GET", &layer(&image), Fault::Status(503, vec![]), 2);
    let outcome = place.run("store", &["pull", &name]);
    assert_eq!((outcome.code, outcome.out), (Some(0), format!("{name}\n")), "{}", outcome.err);
    let notices = outcome.err.lines().filter(|line| line.contains("503") && line.contains("trying again in"));
    assert_eq!(notices.count(), 4, "{}", outcome.err);
    assert_eq!(server.seen("GET", "/manifests/").len(), 3);
    assert_eq!(server.seen("GET", &layer(&image)).len(), 3);
    place.is_tidy("store");
}

#[test]
fn lasting_trouble_is_told_at_once() {
    let (server, image, name) = server();
    let place = Place::new("lasting");
    server.fault("GET", "/manifests/", Fault::Status(503, vec![]), 2);
    let said = place.fails(1, "store", &["pull", "--retries", "1", &name]);
    assert!(said.ends_with("it answers 503 Service Unavailable (fault 503)\n"), "{said}");
    assert_eq!(server.seen("GET", "/manifests/").len(), 2);
    let said = place.fails(3, "store", &["pull", &format!("{}/nothing:1", server.host())]);
    assert!(said.contains("not found on "), "{said}");
    server.gate(Gate::Basic("me", "geheim"));
    place.fails(4, "store", &["pull", &name]);
    server.gate(Gate::Open);
    place.fails(2, "store", &["pull", "UPPER CASE"]);
    is_empty(&place, "store", &image);
}

#[test]
fn a_registry_says_how_long_to_wait() {
    let (server, image, name) = server();
    let place = Place::new("429");
    let busy = Fault::Status(429, vec![("retry-after", "2".into())]);
    server.fault("GET", &layer(&image), busy, 1);
    let start = Instant::now();
    let outcome = place.run("store", &["pull", &name]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    assert!(start.elapsed() >= Duration::from_secs(2));
    assert!(outcome.err.contains("too many requests") && outcome.err.contains("in 2.0 s"), "{}", outcome.err);
    assert_eq!(server.seen("GET", &layer(&image)).len(), 2);
}

#[test]
fn a_blob_that_is_cut_goes_on_where_it_was() {
    let (server, image, name) = server();
    let place = Place::new("cut");
    for at in [250_000, 150_000] {
        server.fault("GET", &layer(&image), Fault::Cut(at), 1);
    }
    place.ok("store", &["pull", &name]);
    let ranges = |from: usize| {
        let seen = server.seen("GET", &layer(&image));
        seen[from..].iter().map(|seen| seen.header("range").unwrap_or("").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ranges(0), ["", "bytes=250000-", "bytes=400000-"]);
    server.settle();
    assert_eq!(server.sent(&layer(&image)), image.layers[0].0.size, "no byte twice");
    place.is_tidy("store");

    // By another command, too.
    server.fault("GET", &layer(&image), Fault::Cut(300_000), 1);
    let said = place.fails(1, "other", &["pull", "--retries", "0", &name]);
    assert!(said.contains(": after 300000 of ") && said.ends_with("the connection was cut\n"), "{said}");
    assert_eq!(place.names("other/partial").len(), 1);
    assert_eq!(place.names("other/layers"), [""; 0]);
    place.ok("other", &["pull", &name]);
    assert_eq!(ranges(3), ["", "bytes=300000-"]);
    place.is_tidy("other");
}

#[test]
fn a_registry_without_ranges_sends_the_beginning_again() {
    let (server, image, name) = server();
    let place = Place::new("whole");
    server.fault("GET", &layer(&image), Fault::Cut(300_000), 1);
    server.fault("GET", &layer(&image), Fault::WholeOnly, 1);
    place.ok("store", &["pull", &name]);
    server.settle();
    assert_eq!(server.sent(&layer(&image)), 300_000 + image.layers[0].0.size);
    place.is_tidy("store");
}

/// Wrong bytes of the right length: noise, a bit in the middle, another archive.
fn wrong(image: &Image) -> [Vec<u8>; 3] {
    let right = &image.layers[0].1;
    let mut bit = right.clone();
    bit[right.len() / 2] ^= 1;
    let other = Image::of(&[Tar::default().noise("b", 6, 100_000).archive()], json!({}));
    let mut other = other.layers[0].1.clone();
    other.resize(right.len(), 0);
    [noise(&mut Rng::with_seed(3), right.len()), bit, other]
}

#[test]
fn a_wrong_layer_leaves_nothing() {
    let (_, image, _) = server();
    for bytes in wrong(&image) {
        let (server, image, name) = server();
        let place = Place::new("wrong");
        server.fault("GET", &layer(&image), Fault::Bytes(bytes), 1);
        let said = place.fails(5, "store", &["pull", &name]);
        assert!(said.contains(image.layers[0].0.digest.short()), "{said}");
        assert_eq!(server.seen("GET", &layer(&image)).len(), 1, "it is not tried again");
        is_empty(&place, "store", &image);
        place.ok("store", &["pull", &name]);
        place.is_tidy("store");
    }
}

#[test]
fn a_wrong_end_of_a_right_beginning_leaves_nothing() {
    let (server, image, name) = server();
    let place = Place::new("wrong-end");
    let bytes = noise(&mut Rng::with_seed(4), image.layers[0].1.len() - 200_000);
    server.fault("GET", &layer(&image), Fault::Cut(200_000), 1);
    place.fails(1, "store", &["pull", "--retries", "0", &name]);
    server.fault("GET", &layer(&image), Fault::Bytes(bytes), 1);
    place.fails(5, "store", &["pull", &name]);
    is_empty(&place, "store", &image);
    place.ok("store", &["pull", &name]);
}

#[test]
fn wrong_documents_leave_nothing() {
    for (path, fault) in [
        ("/manifests/", Fault::Bytes(b"{}".into())),
        ("/manifests/", Fault::Bytes(vec![b' '; 5 << 20])),
        ("config", Fault::Bytes(b"{}".into())),
    ] {
        let (server, image, name) = server();
        let place = Place::new("documents");
        let config = format!("/blobs/{}", image.config.0.digest);
        server.fault("GET", if path == "config" { &config } else { path }, fault, 1);
        place.fails(5, "store", &["pull", &name]);
        assert!(place.names("store/blobs/sha256").is_empty());
        is_empty(&place, "store", &image);
        place.ok("store", &["pull", &name]);
    }
}

#[test]
fn a_layer_that_is_not_what_the_configuration_says_is_not_applied() {
    let archive = Tar::default().noise("a", 2, 100_000).archive();
    let image = Image::with_diff_ids(&[archive], json!({}), &[Digest::of(b"other")]);
    let server = Server::new();
    let name = image.publish(&server, "a");
    let place = Place::new("diff-id");
    let said = place.fails(5, "store", &["pull", &name]);
    assert!(said.contains("uncompressed: digest is"), "{said}");
    assert_eq!(place.names("store/layers"), [""; 0]);
    place.is_tidy("store");
    place.ok("store", &["gc"]);
    assert_eq!(place.names("store/blobs/sha256"), [""; 0]);
}

#[test]
fn a_damaged_blob_of_the_store_is_fetched_again() {
    let (server, image, name) = server();
    let place = Place::new("damaged");
    place.ok("store", &["pull", &name]);
    for (blob, bytes) in image.blobs() {
        let path = place.path("store/blobs/sha256").join(blob.digest.hex());
        let mut damaged = bytes.clone();
        damaged[10] ^= 1;
        std::fs::write(path, damaged).unwrap();
        for words in [&["fsck"][..], &["fsck", "--repair"]] {
            let outcome = place.run("store", words);
            assert_eq!(outcome.code, Some(5));
            assert!(outcome.out.contains(blob.digest.as_str()), "{outcome:?}");
        }
        place.ok("store", &["pull", &name]);
        place.is_tidy("store");
        assert_eq!(server.seen("GET", blob.digest.as_str()).len(), 2);
    }
    // A configuration is read at once: no repair has to come before.
    let config = place.path("store/blobs/sha256").join(image.config.0.digest.hex());
    std::fs::write(config, vec![b' '; image.config.1.len()]).unwrap();
    place.ok("store", &["pull", &name]);
    place.is_tidy("store");
}

#[test]
fn credentials_stay_where_they_belong() {
    let (server, image, name) = server();
    let place = Place::new("redirect");
    let storage = Server::new();
    let blob = storage.add_blob("x", &image.layers[0].1);
    server.gate(Gate::Basic("me", "geheim"));
    let away = format!("http://{}/v2/x/blobs/{}?signed", storage.host(), blob.digest);
    server.fault("GET", &layer(&image), Fault::Status(307, vec![("location", away)]), 9);
    storage.fault("GET", "/v2/x/", Fault::Cut(123_456), 1);
    // Where the registry does not ask, it is told nothing; here it asks before it redirects.
    place.ok("store", &["pull", "--creds", "me:geheim", &name]);
    let seen = storage.seen("GET", "signed");
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|seen| seen.header("authorization").is_none()));
    assert_eq!(seen[1].header("range"), Some("bytes=123456-"));
    assert!(server.seen("GET", "/manifests/").last().unwrap().header("authorization").is_some());
}

#[test]
fn progress_is_told_in_every_form() {
    let (server, image, name) = server();
    server.pace(32 << 10, Duration::from_millis(60));
    let place = Place::new("progress");
    let pull = |store: &str, words: &[&str]| {
        server.fault("GET", &layer(&image), Fault::Status(503, vec![]), 1);
        let outcome = place.run(store, &[words, &["pull", &name]].concat());
        assert_eq!(outcome.code, Some(0), "{}", outcome.err);
        outcome.err
    };
    let plain = pull("plain", &["--progress", "plain"]);
    let lines: Vec<&str> = plain.lines().collect();
    let (short, size) = (image.layers[0].0.digest.short(), bytes(image.layers[0].0.size));
    assert!(lines[0].contains("503") && lines[1] == format!("{short} applied, {size}"), "{plain}");
    assert_eq!(lines.len(), 2, "{plain}");
    assert_eq!(
        pull("auto", &[]).replace(|c: char| c.is_ascii_digit(), ""),
        plain.replace(|c: char| c.is_ascii_digit(), "")
    );
    assert_eq!(pull("none", &["--progress", "none"]), "");
    assert_eq!(pull("quiet", &["--quiet"]), "");

    let told = pull("json", &["--progress", "json"]);
    let events: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let of = |event: &str| events.iter().filter(|e| e["event"] == event).collect::<Vec<_>>();
    assert_eq!(of("message").len(), 1, "the retry: {told}");
    let size = image.layers[0].0.size;
    let counts: Vec<u64> = of("progress").iter().map(|e| e["bytes"].as_u64().unwrap()).collect();
    assert!(counts.len() >= 2 && counts.is_sorted() && counts.iter().all(|n| *n <= size), "{told}");
    assert!(
        of("progress").iter().all(|e| e["total"] == size && e["digest"] == image.layers[0].0.digest.as_str())
    );
    assert_eq!(events.last().unwrap()["event"], "applied", "{told}");

    server.fault("GET", "/manifests/", Fault::Status(404, vec![]), 1);
    let told = place.fails(3, "json", &["--progress", "json", "pull", &name]);
    let error: Value = serde_json::from_str(told.trim()).unwrap();
    assert_eq!((&error["event"], &error["code"]), (&json!("error"), &json!(3)));
}

#[test]
fn an_index_leads_to_this_machines_image() {
    let server = Server::new();
    let archives = layers_of_all_kinds(50_000);
    let images = [Image::of(&archives, json!({})), Image::of(&archives[..1], json!({"Cmd": ["other"]}))];
    let platforms = [("amd64", "linux"), ("arm64", "linux")];
    let mut children = Vec::new();
    for (image, (architecture, os)) in images.iter().zip(platforms) {
        image.publish(&server, "a");
        let mut child = serde_json::to_value(&image.manifest.0).unwrap();
        child["platform"] = json!({"architecture": architecture, "os": os});
        children.push(child);
    }
    let media_type = pintle_image::manifest::media::INDEX;
    let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": children}).to_string();
    server.add_manifest("a", "many", media_type, index.as_bytes());
    let place = Place::new("index");
    let name = format!("{}/a:many", server.host());
    for (image, (architecture, os)) in images.iter().zip(platforms) {
        let platform = format!("{os}/{architecture}");
        let out = place.ok("store", &["--json", "--platform", &platform, "pull", &name]);
        let pulled: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(pulled[0]["digest"], image.manifest.0.digest.as_str());
    }
    let said = place.fails(3, "store", &["--platform", "linux/s390x", "pull", &name]);
    assert!(said.contains("s390x"), "{said}");
}
