//! Commands that are killed, and commands at the same time: whatever was whole stays, nothing that is left blocks the next one, and
//! nothing that was there is fetched again. SIGKILL at moments that are random and the same in every run, if machines were.

use std::collections::BTreeMap;
use std::fs;
use std::iter::repeat_with;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::layer::{Member, dir, file, hardlink, white};
use crate::layout::{Layout, Place, names};
use crate::model::model;
use crate::tree;

/// Three layers, one of which depends on those below.
fn layers(salt: usize) -> Vec<Vec<Member>> {
    let noise = |n: usize, size: usize| -> Vec<u8> {
        let mut noise = Rng::with_seed((n + salt * 1000) as u64);
        repeat_with(|| noise.u8(..)).take(size).collect()
    };
    let mut base = vec![dir("d"), dir("d/e")];
    base.extend((0..40).map(|n| file(format!("d/e/{n}"), noise(n, 3000))));
    let mut middle = vec![dir("m")];
    middle.extend((0..3).map(|n| file(format!("m/{n}"), noise(100 + n, 150_000))));
    let top =
        vec![white("d/e/1"), hardlink("link", "d/e/2"), file("implied/x", noise(200, 9000)), file("d/f", "")];
    vec![base, middle, top]
}

fn layout(place: &Place, salt: usize) -> Layout {
    let mut layout = Layout::new(Path::new(&place.next("layout")));
    layout.add_layers(&format!("image{salt}"), &layers(salt));
    layout
}

fn start(place: &Place, args: &[&str]) -> Child {
    place.command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program starts")
}

#[track_caller]
fn ends(child: Child) {
    let output = child.wait_with_output().expect("an end");
    assert!(output.status.success(), "{:?}: {}", output.status, String::from_utf8_lossy(&output.stderr));
}

/// Starts a command and kills it after so long.
fn kill(place: &Place, args: &[&str], after: Duration) {
    let mut child = start(place, args);
    sleep(after);
    child.kill().expect("it is ours");
    child.wait().expect("an end");
}

/// Inode and time of everything that has its name: blobs, and layers by their record.
fn whole(place: &Place) -> BTreeMap<String, (u64, i64, i64)> {
    let store = place.store();
    let stamp = |path: &Path| {
        let stat = fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        (stat.ino(), stat.mtime(), stat.mtime_nsec())
    };
    let blobs = names(&store.join("blobs/sha256")).into_iter().map(|name| format!("blobs/sha256/{name}"));
    let layers = names(&store.join("layers")).into_iter().map(|name| format!("layers/{name}/layer.json"));
    blobs.chain(layers).map(|name| (name.clone(), stamp(&store.join(&name)))).collect()
}

/// Kills the command at `times` moments, each time in a store of its own, and lets it succeed then.
fn killed(place: &Place, times: u32, args: &[&str], done: impl Fn(&Place), undo: impl Fn(&Place)) {
    let begin = Instant::now();
    place.succeeds(args);
    let takes = begin.elapsed();
    undo(place);
    let mut chance = Rng::with_seed(u64::from(times));
    for round in 0..times {
        place.fresh_store();
        kill(place, args, takes.mul_f64(chance.f64() * 1.1));
        let before = if place.store().exists() { whole(place) } else { BTreeMap::new() };
        place.blobs_are_right();
        done(place);
        let after = whole(place);
        for (name, stamp) in before {
            assert_eq!(after.get(&name), Some(&stamp), "{name} was made twice");
        }
        for folder in ["tmp", "partial"] {
            assert_eq!(names(&place.store().join(folder)), Default::default(), "round {round}: {folder}");
        }
        place.succeeds(&["fsck"]);
        undo(place);
        if round % 8 == 0 {
            place.succeeds(&["rm", "image1"]);
            place.nothing_is_left();
        }
        fs::remove_dir_all(place.store()).expect("the store");
    }
}

#[test]
fn a_killed_load_is_gone_on_with() {
    let Some(place) = Place::new() else { return };
    let image = layout(&place, 1).image();
    let expect = model(&layers(1));
    let args = ["load", &image];
    let done = |place: &Place| {
        place.succeeds(&args);
        // The hard link's file has one name less in an overlay.
        let mounted = place.mounted("image1");
        let lines = tree::diff(&expect, &mounted);
        assert!(lines.iter().all(|line| line.contains(": links: ")), "{lines:?}");
    };
    killed(&place, 70, &args, done, |_| ());
}

#[test]
fn a_killed_unpack_is_begun_again() {
    let Some(place) = Place::new() else { return };
    let image = layout(&place, 1).image();
    let expect = model(&layers(1));
    let args = ["unpack", "--rootfs-only", &image, "out"];
    let undo = |place: &Place| fs::remove_dir_all(place.path("out")).expect("the tree");
    let done = |place: &Place| {
        // It may have been killed behind its end: then the tree is whole, and what it was made in is the next one's to remove.
        let whole = || {
            let found = tree::walk(&place.path("out")).expect("a tree");
            assert_eq!(tree::diff(&expect, &found), [""; 0]);
        };
        if place.path("out").exists() {
            whole();
            undo(place);
        }
        place.succeeds(&args);
        whole();
        place.succeeds(&["load", &image]);
    };
    killed(&place, 70, &args, done, undo);
    assert_eq!(names(&place.dir).into_iter().filter(|n| n.ends_with(".partial")).count(), 0);
}

#[test]
fn a_killed_bundle_is_made_by_the_next_command() {
    let Some(place) = Place::new() else { return };
    let image = layout(&place, 1).image();
    place.succeeds(&["load", &image]);
    place.succeeds(&["bundle", "image1", "bundle"]);
    let expect = fs::read_to_string(place.path("bundle/config.json")).expect("config.json");
    place.succeeds(&["umount", "--delete", "bundle"]);
    let args = ["bundle", &image, "bundle"];
    let done = |place: &Place| {
        let said = place.run(&args);
        // It may have been killed behind its end: then it is whole.
        assert!(said.code == Some(0) || said.stderr.contains("mounted already"), "{said:?}");
        let config = fs::read_to_string(place.path("bundle/config.json")).expect("config.json");
        assert_eq!(config, expect);
        assert_eq!(names(&place.path("bundle/rootfs/m")).len(), 3);
        place.succeeds(&["load", &image]);
    };
    let undo = |place: &Place| drop(place.succeeds(&["umount", "--delete", "bundle"]));
    killed(&place, 60, &args, done, undo);
}

/// What changes a folder, as the main thread calls it.
const CHANGES: [&str; 12] = [
    "mkdir",
    "mkdirat",
    "rename",
    "renameat",
    "renameat2",
    "rmdir",
    "unlink",
    "unlinkat",
    "move_mount",
    "syncfs",
    "write",
    "flock",
];

/// Kills the command as it enters each such call, one after another, until it has no more of them. Gives the number of kills.
fn killed_at_every_change(place: &Place, args: &[&str], done: impl Fn(&Place), undo: impl Fn(&Place)) -> u32 {
    let mut kills = 0;
    for call in CHANGES {
        for nth in 1.. {
            place.fresh_store();
            let command = place.command(args);
            let mut strace = std::process::Command::new("strace");
            strace.args(["-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
            strace.args(["-e", &format!("inject={call}:signal=KILL:when={nth}")]);
            strace.arg(command.get_program()).args(command.get_args()).current_dir(&place.dir);
            let output = strace.output().expect("strace");
            if output.status.success() {
                undo(place);
                break;
            }
            assert_eq!(output.status.code(), None, "{call} {nth}: {output:?}");
            kills += 1;
            println!("killed at {call} {nth}");
            done(place);
            undo(place);
            for folder in ["tmp", "partial"] {
                assert_eq!(names(&place.store().join(folder)), Default::default());
            }
            place.succeeds(&["fsck"]);
        }
    }
    kills
}

#[test]
fn a_command_killed_at_any_change_is_gone_on_with() {
    let Some(place) = Place::new() else { return };
    if std::process::Command::new("strace").arg("-V").output().is_err() {
        println!("SKIP no strace");
        return;
    }
    let mut layout = place.layout("layout");
    layout.add_layers("image1", &[vec![dir("d"), file("d/a", "1")], vec![file("d/b", "2"), white("d/a")]]);
    let image = layout.image();
    let again = |place: &Place, args: &[&str], whole: &str| {
        let said = place.run(args);
        assert!(said.code == Some(0) || !whole.is_empty() && said.stderr.contains(whole), "{said:?}");
    };
    let load = ["load", &image];
    let kills = killed_at_every_change(&place, &load, |place| again(place, &load, ""), |_| ());
    assert!(kills > 10, "{kills}");
    let bundle = ["bundle", &image, "bundle"];
    let done = |place: &Place| {
        again(place, &bundle, "mounted already");
        assert!(place.path("bundle/rootfs/d/b").exists());
        let config = fs::read(place.path("bundle/config.json")).expect("config.json");
        serde_json::from_slice::<serde_json::Value>(&config).expect("all of it");
    };
    let undo = |place: &Place| drop(place.succeeds(&["umount", "--delete", "bundle"]));
    assert!(killed_at_every_change(&place, &bundle, done, undo) > 10);
    place.succeeds(&bundle);
    let remove = ["umount", "--delete", "bundle"];
    let done = |place: &Place| {
        again(place, &remove, "no such file");
        assert!(!place.path("bundle").exists());
    };
    let undo = |place: &Place| drop(place.succeeds(&bundle));
    assert!(killed_at_every_change(&place, &remove, done, undo) > 5);
    let unpack = ["unpack", &image, "out"];
    let done = |place: &Place| {
        again(place, &unpack, "not empty");
        assert!(place.path("out/rootfs/d/b").exists() && place.path("out/config.json").exists());
    };
    let undo = |place: &Place| fs::remove_dir_all(place.path("out")).expect("the bundle");
    assert!(killed_at_every_change(&place, &unpack, done, undo) > 10);
}

#[test]
fn many_processes_load_the_same_image_at_once() {
    let Some(place) = Place::new() else { return };
    let image = layout(&place, 1).image();
    for _ in 0..12 {
        place.fresh_store();
        let children: Vec<Child> = (0..4).map(|_| start(&place, &["load", &image])).collect();
        children.into_iter().for_each(ends);
        place.succeeds(&["fsck"]);
        assert_eq!(names(&place.store().join("layers")).len(), 3);
        assert_eq!(names(&place.store().join("blobs/sha256")).len(), 5);
        for folder in ["tmp", "partial"] {
            assert_eq!(names(&place.store().join(folder)), Default::default());
        }
    }
}

#[test]
fn different_images_at_once_all_have_their_names() {
    let Some(place) = Place::new() else { return };
    let images: Vec<String> = (1..5).map(|salt| layout(&place, salt).image()).collect();
    for _ in 0..10 {
        place.fresh_store();
        let children: Vec<Child> = images.iter().map(|image| start(&place, &["load", image])).collect();
        children.into_iter().for_each(ends);
        for salt in 1..5 {
            place.succeeds(&["inspect", &format!("image{salt}")]);
        }
        place.succeeds(&["fsck"]);
    }
}

#[test]
fn two_unpack_into_one_folder_and_one_of_them_succeeds() {
    let Some(place) = Place::new() else { return };
    let image = layout(&place, 1).image();
    for _ in 0..10 {
        let args = ["unpack", "--rootfs-only", &image, "out"];
        let children: Vec<Child> = (0..3).map(|_| start(&place, &args)).collect();
        let output = children.into_iter().map(|child| child.wait_with_output().expect("an end"));
        let good = output.filter(|output| output.status.success()).count();
        assert_eq!(good, 1);
        assert_eq!(tree::diff(&model(&layers(1)), &tree::walk(&place.path("out")).expect("a tree")), [""; 0]);
        fs::remove_dir_all(place.path("out")).expect("the tree");
        assert!(!place.path(".out.partial").exists());
    }
}

#[test]
fn garbage_is_collected_beside_loads() {
    let Some(place) = Place::new() else { return };
    let images: Vec<String> = (1..4).map(|salt| layout(&place, salt).image()).collect();
    for round in 0..6 {
        place.fresh_store();
        let mut children: Vec<Child> = images.iter().map(|image| start(&place, &["load", image])).collect();
        for _ in 0..4 {
            children.push(start(&place, &["gc"]));
            sleep(Duration::from_millis(5 * round));
        }
        children.into_iter().for_each(ends);
        place.succeeds(&["fsck"]);
        for salt in 1..4 {
            place.mounted(&format!("image{salt}"));
        }
    }
}

#[test]
fn names_go_and_come_at_once() {
    let Some(place) = Place::new() else { return };
    let images: Vec<String> = (1..4).map(|salt| layout(&place, salt).image()).collect();
    images.iter().for_each(|image| drop(place.succeeds(&["load", image])));
    for _ in 0..5 {
        let mut children = vec![start(&place, &["rm", "image1"])];
        children.extend((0..6).map(|n| start(&place, &["tag", "image2", &format!("other{n}")])));
        children.push(start(&place, &["load", &images[2]]));
        children.into_iter().for_each(ends);
        for n in 0..6 {
            place.succeeds(&["inspect", &format!("other{n}")]);
            place.succeeds(&["rm", &format!("other{n}")]);
        }
        place.succeeds(&["fsck"]);
        place.succeeds(&["load", &images[0]]);
    }
}

#[test]
fn what_a_killed_collection_left_is_collected() {
    let Some(place) = Place::new() else { return };
    let images: Vec<String> = (1..3).map(|salt| layout(&place, salt).image()).collect();
    for round in 0..20 {
        images.iter().for_each(|image| drop(place.succeeds(&["load", image])));
        kill(&place, &["rm", "image1"], Duration::from_micros(700 * round));
        place.succeeds(&["fsck"]);
        place.succeeds(&["gc"]);
        place.mounted("image2");
        assert_eq!(names(&place.store().join("tmp")), Default::default());
    }
}

/// A blob that broke in the store is fetched again; the tree that was made of it is whole.
#[test]
fn a_broken_blob_in_the_store_is_told_and_mended() {
    let Some(place) = Place::new() else { return };
    let image = layout(&place, 1).image();
    place.succeeds(&["load", "--blobs-only", &image]);
    for blob in names(&place.store().join("blobs/sha256")) {
        for harm in [|b: &mut Vec<u8>| b[20] ^= 1, |b: &mut Vec<u8>| b.truncate(b.len() / 2)] {
            let path = place.store().join("blobs/sha256").join(&blob);
            let mut bytes = fs::read(&path).expect("a blob");
            harm(&mut bytes);
            fs::write(&path, bytes).expect("a blob");
            assert_eq!(place.run(&["fsck"]).code, Some(5), "{blob}");
            let said = place.run(&["unpack", "--rootfs-only", "image1", "out"]);
            assert!(matches!(said.code, Some(3 | 5)), "{said:?}");
            assert!(!place.path("out").exists());
            place.run(&["fsck", "--repair"]);
            place.succeeds(&["load", "--blobs-only", &image]);
            place.succeeds(&["fsck"]);
            place.blobs_are_right();
        }
    }
    place.succeeds(&["unpack", "--rootfs-only", "image1", "out"]);
}
