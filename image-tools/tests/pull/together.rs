//! Many commands at once on one store: each blob is fetched once, and nobody waits for somebody who waits.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::image::{Image, Tar, layers_of_all_kinds};
use super::{Place, finish};
use crate::registry::server::Server;

/// Pulls all names at once; gives what they print.
fn at_once(place: &Place, pulls: &[Vec<&str>]) {
    let children: Vec<_> = pulls.iter().map(|words| place.command("store", words).spawn().unwrap()).collect();
    for (child, words) in children.into_iter().zip(pulls) {
        let outcome = finish(child);
        assert_eq!(outcome.code, Some(0), "{words:?}: {}", outcome.err);
    }
}

#[test]
fn processes_that_pull_one_image_fetch_each_blob_once() {
    for processes in [2, 4] {
        let place = Place::new("together");
        let server = Server::new();
        server.pace(16 << 10, Duration::from_millis(2));
        let image = Image::of(&layers_of_all_kinds(600_000), json!({}));
        let name = image.publish(&server, "a");
        at_once(&place, &vec![vec!["pull", &name]; processes]);
        server.settle();
        for (blob, _) in image.blobs() {
            let path = format!("/blobs/{}", blob.digest);
            assert_eq!(server.seen("GET", &path).len(), 1, "{processes} processes");
            assert_eq!(server.sent(&path), blob.size);
        }
        place.is_tidy("store");
        assert_eq!(place.names("store/layers").len(), 3);
    }
}

#[test]
fn images_that_share_layers_are_pulled_at_once_in_any_order() {
    let archives: Vec<Vec<u8>> =
        ["a", "b", "c", "d"].map(|folder| Tar::default().noise(folder, 4, 100_000).archive()).into();
    let order = |order: [usize; 4]| order.map(|n| archives[n].clone());
    for jobs in ["1", "2", "4"] {
        let place = Place::new("shared");
        let server = Server::new();
        server.pace(16 << 10, Duration::from_millis(1));
        let images = [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]].map(|n| Image::of(&order(n), json!({})));
        let names: Vec<String> =
            ["x", "y", "z"].iter().zip(&images).map(|(to, image)| image.publish(&server, to)).collect();
        let words = names.iter().map(|name| vec!["--jobs", jobs, "pull", name]);
        at_once(&place, &words.collect::<Vec<_>>());
        for (blob, _) in &images[0].layers {
            assert_eq!(server.seen("GET", &format!("/blobs/{}", blob.digest)).len(), 1, "{jobs} jobs");
        }
        place.is_tidy("store");
        assert_eq!(place.names("store/layers").len(), 4, "each stands alone, whatever is below");
        assert_eq!(place.ok("store", &["ls"]).lines().count(), 4);
    }
}

#[test]
fn who_waits_for_a_killed_command_goes_on_where_it_stopped() {
    let place = Place::new("heir");
    let server = Server::new();
    server.pace(16 << 10, Duration::from_millis(120));
    let image = Image::of(&[Tar::default().noise("a", 2, 300_000).archive()], json!({}));
    let name = image.publish(&server, "a");
    let digest = &image.layers[0].0.digest;
    let path = format!("/blobs/{digest}");
    let name_there = format!("{}-{}", digest.algorithm().name(), digest.hex());
    let [partial, lock] = ["partial", "locks"].map(|dir| place.path("store").join(dir).join(&name_there));
    let mut first = place.command("store", &["pull", &name]).spawn().unwrap();
    let mut until = |condition: &dyn Fn() -> bool| {
        while !condition() {
            assert_eq!(first.try_wait().unwrap(), None, "it is still at work");
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    until(&|| fs::metadata(&partial).is_ok_and(|file| file.len() > 200_000));
    let second = place.command("store", &["pull", &name]).spawn().unwrap();
    until(&|| is_waited_for(&lock));
    first.kill().unwrap();
    first.wait().unwrap();
    let outcome = finish(second);
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    let seen = server.seen("GET", &path);
    let offset = seen[1].header("range").unwrap().strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap();
    assert!(offset.parse::<u64>().unwrap() > 200_000 && seen.len() == 2, "{seen:?}");
    // What the killed one was making is swept away by the first command that is alone.
    place.ok("store", &["ls"]);
    place.is_tidy("store");
}

/// Somebody stands in line for the lock of a file, proc_locks(5).
fn is_waited_for(file: &Path) -> bool {
    let inode = fs::metadata(file).map_or(0, |file| file.ino());
    let locks = fs::read_to_string("/proc/locks").unwrap();
    locks.lines().any(|lock| lock.contains("->") && lock.contains(&format!(":{inode} ")))
}
