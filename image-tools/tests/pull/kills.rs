//! kill -9 at any moment: what was complete is not fetched again, what was begun is gone on with, nothing blocks, and in the
//! end everything is as if nobody had been killed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::{Duration, Instant};

use fastrand::Rng;
use pintle_image::digest::Digest;
use serde_json::json;

use super::Place;
use super::image::{Image, layer_differences, layers_of_all_kinds};
use crate::registry::server::Server;
use crate::tree::{self, Tree};

const PULLS: u32 = 200;
const UNPACKS: u32 = 100;
/// What a killed pull may lose of each blob that it was fetching, in bytes: what the two sockets and the client hold.
const IN_FLIGHT: u64 = 128 << 10;
/// Layers that are fetched at once.
const JOBS: u64 = 2;

/// When a command is killed.
enum Moment {
    /// After so long.
    Within(Duration),
    /// So long after the first layer got its name.
    Published(Duration),
}

/// Starts a command and kills it. True: it was done before.
#[track_caller]
fn killed(command: &mut Command, moment: &Moment, published: impl Fn() -> bool) -> bool {
    let mut child = command.args(["--jobs", "2"]).spawn().unwrap();
    match moment {
        Moment::Within(time) => std::thread::sleep(*time),
        Moment::Published(time) => {
            while !published() && child.try_wait().unwrap().is_none() {
                std::thread::yield_now();
            }
            std::thread::sleep(*time);
        }
    }
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() || output.status.signal() == Some(9), "{}: {said}", output.status);
    output.status.success()
}

fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// How much of each blob a store has, in bytes, and whether that is all of it and verified.
fn have(place: &Place, store: &str, image: &Image) -> BTreeMap<Digest, (u64, bool)> {
    let length = |path: String| fs::metadata(place.path(&path)).ok().map(|meta| meta.len());
    let one = |digest: &Digest| match length(format!("{store}/blobs/sha256/{}", digest.hex())) {
        Some(length) => (length, true),
        None => (length(format!("{store}/partial/sha256-{}", digest.hex())).unwrap_or(0), false),
    };
    image.blobs().map(|(blob, _)| (blob.digest.clone(), one(&blob.digest))).collect()
}

/// The requests for a blob so far, each as the offset that it asked from.
fn requests(server: &Server, digest: &Digest) -> Vec<u64> {
    let offset = |range: &str| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok();
    let seen = server.seen("GET", &format!("/blobs/{digest}"));
    seen.iter().map(|seen| seen.header("range").map_or(0, |range| offset(range).unwrap())).collect()
}

/// A store under fire.
struct Target<'a> {
    place: &'a Place,
    server: &'a Server,
    image: &'a Image,
    name: &'a str,
    store: String,
    kills: u32,
}

impl Target<'_> {
    /// One pull, killed. Everything that it asked for was missing, and asked for from where it was missing.
    fn pull(&mut self, moment: &Moment) -> bool {
        let before = have(self.place, &self.store, self.image);
        let asked: BTreeMap<_, _> =
            before.keys().map(|d| (d.clone(), requests(self.server, d).len())).collect();
        let published = || !self.place.names(&format!("{}/layers", self.store)).is_empty();
        let done = killed(&mut self.place.command(&self.store, &["pull", self.name]), moment, published);
        self.server.settle();
        for (digest, (length, complete)) in before {
            let new = &requests(self.server, &digest)[asked[&digest]..];
            match complete {
                true => assert_eq!(new, [0; 0], "{digest} was complete"),
                false => assert!(new.is_empty() || new == [length], "{digest}: {new:?}, had {length}"),
            }
        }
        self.kills += u32::from(!done);
        done
    }

    /// How far the store is: still to be fetched, to be applied, or only to be named.
    fn phase(&self) -> usize {
        let have = have(self.place, &self.store, self.image);
        let layers = self.place.names(&format!("{}/layers", self.store)).len();
        match have.values().all(|(_, complete)| *complete) {
            false => 0,
            true if layers < self.image.layers.len() => 1,
            true => 2,
        }
    }
}

#[test]
fn a_pull_that_is_killed_loses_nothing_that_was_complete() {
    let place = Place::new("kills");
    let server = Server::new();
    let image = Image::of(&layers_of_all_kinds(500_000), json!({"Cmd": ["/bin/true"]}));
    let name = image.publish(&server, "a");
    server.pace(16 << 10, Duration::from_micros(500));
    let whole = time(|| drop(place.ok("clean", &["pull", &name])));
    place.ok("warm", &["pull", "--blobs-only", &name]);
    let warm = time(|| drop(place.ok("warm", &["pull", &name])));
    let expect = tree::walk(&place.path("clean/layers")).unwrap();

    let mut chance = Rng::with_seed(200);
    let (mut kills, mut rounds, mut phases, mut surplus) = (0, 0, [0; 3], 0);
    while kills < PULLS {
        rounds += 1;
        let store = format!("store-{rounds}");
        let sent = server.sent("/blobs/");
        let mut target =
            Target { place: &place, server: &server, image: &image, name: &name, store, kills: 0 };
        // A dozen kills, spread over what is left to do; in every other round that is what follows fetching.
        for n in 0..12 {
            if n == 0 && rounds % 2 == 0 {
                place.ok(&target.store, &["pull", "--blobs-only", &name]);
            }
            let part = chance.f64();
            let moment = match (target.phase(), chance.u8(..3)) {
                (0, _) => Moment::Within(whole.mul_f64(part * 0.7)),
                (_, 0) => Moment::Published(Duration::from_micros(chance.u64(..2000))),
                _ => Moment::Within(warm.mul_f64(part)),
            };
            if target.pull(&moment) {
                break;
            }
            phases[target.phase()] += 1;
            if target.kills.is_multiple_of(4) {
                assert_eq!(place.ok(&target.store, &["fsck"]), "");
            }
        }
        is_whole(&target, &expect);
        let sent = server.sent("/blobs/") - sent;
        let most = image.size() + u64::from(target.kills) * JOBS * IN_FLIGHT;
        assert!(sent <= most, "{sent}, at most {most}");
        surplus += sent - image.size();
        kills += target.kills;
        fs::remove_dir_all(place.path(&target.store)).unwrap();
    }
    println!(
        "{kills} kills in {rounds} rounds; left half fetched, half applied, unnamed: {phases:?}; \
         {surplus} bytes beyond {rounds} x {}; a pull takes {whole:?}, without fetching {warm:?}",
        image.size()
    );
}

/// The same pull succeeds, and the store is what it would have been.
fn is_whole(target: &Target<'_>, expect: &Tree) {
    let Target { place, store, name, .. } = target;
    place.ok(store, &["pull", name]);
    place.is_tidy(store);
    let layers = tree::walk(&place.path(store).join("layers")).unwrap();
    assert_eq!(layer_differences(expect, &layers), [""; 0]);
    assert!(place.ok(store, &["ls"]).contains(name));
}

#[test]
fn an_unpack_that_is_killed_does_not_hinder_the_next() {
    let place = Place::new("unpacks");
    let server = Server::new();
    let image = Image::of(&layers_of_all_kinds(500_000), json!({"Cmd": ["/bin/true"]}));
    let name = image.publish(&server, "a");
    place.ok("store", &["pull", &name]);
    let asked = server.seen("GET", "").len();
    let whole = time(|| drop(place.ok("store", &["unpack", &name, "clean"])));
    let expect = tree::walk(&place.path("clean/rootfs")).unwrap();
    let mut chance = Rng::with_seed(100);
    let (mut kills, mut done) = (0, 0);
    while kills < UNPACKS {
        let mut command = place.command("store", &["unpack", &name, "bundle"]);
        let moment = Moment::Within(whole.mul_f64(chance.f64() * 1.1));
        let finished = killed(&mut command, &moment, || false);
        kills += u32::from(!finished);
        // A command that was killed behind its last step has left a bundle, too; most others are left as they are to the next one.
        if !place.path("bundle").exists() {
            assert!(!finished, "a command succeeded without a bundle");
            if kills % 10 != 0 {
                continue;
            }
            place.ok("store", &["unpack", &name, "bundle"]);
        }
        done += 1;
        let rootfs = tree::walk(&place.path("bundle/rootfs")).unwrap();
        assert_eq!(tree::diff(&expect, &rootfs), [""; 0]);
        assert_eq!(place.names("bundle"), place.names("clean"));
        assert!(!place.path(".bundle.partial").exists());
        fs::remove_dir_all(place.path("bundle")).unwrap();
    }
    place.is_tidy("store");
    assert_eq!(server.seen("GET", "").len(), asked, "all was there");
    println!("{kills} kills, {done} bundles, {whole:?} each");
}
