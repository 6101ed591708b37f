//! Folders and leases: who works where, what is mounted where, and what is left of it in the store.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};

use crate::layer::{dir, file};
use crate::layout::{Place, names};

/// A store with the image `name`, of two layers.
fn load(place: &Place, name: &str) {
    let mut layout = place.layout(&format!("layout-{name}"));
    layout.add_layers(name, &[vec![dir("d"), file("d/a", name)], vec![file("d/b", "2")]]);
    place.succeeds(&["load", &layout.image()]);
}

/// How many mounts there are below the place.
fn mounts(place: &Place) -> usize {
    let all = fs::read_to_string("/proc/self/mounts").expect("mounts");
    let points = all.lines().filter_map(|line| line.split(' ').nth(1));
    points.filter(|at| Path::new(at).starts_with(&place.dir)).count()
}

#[test]
fn of_many_bundles_in_one_folder_one_is_made() {
    let Some(place) = Place::new() else { return };
    load(&place, "one");
    for _ in 0..12 {
        let start = |_| {
            let mut command = place.command(&["bundle", "one", "bundle"]);
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program starts")
        };
        let children: Vec<Child> = (0..4).map(start).collect();
        let outputs: Vec<_> =
            children.into_iter().map(|child| child.wait_with_output().expect("an end")).collect();
        let (good, bad): (Vec<_>, Vec<_>) = outputs.iter().partition(|output| output.status.success());
        assert_eq!(good.len(), 1, "{outputs:?}");
        for output in bad {
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(text.contains("at work there") || text.contains("mounted already"), "{text}");
        }
        assert_eq!(mounts(&place), 1);
        assert!(place.path("bundle/rootfs/d/a").exists() && place.path("bundle/config.json").exists());
        place.succeeds(&["umount", "--delete", "bundle"]);
        assert_eq!(names(&place.store().join("leases")).len(), 0);
    }
}

#[test]
fn a_second_mount_is_refused_and_the_first_one_keeps_its_layers() {
    let Some(place) = Place::new() else { return };
    load(&place, "one");
    load(&place, "two");
    place.succeeds(&["mount", "one", "m"]);
    let said = place.run(&["mount", "two", "m"]);
    assert!(said.code != Some(0) && said.stderr.contains("something is mounted there already"), "{said:?}");
    assert_eq!(mounts(&place), 1);
    place.succeeds(&["rm", "one"]);
    assert_eq!(fs::read_to_string(place.path("m/d/a")).expect("the layer is there"), "one");
    place.unmount("m");
    place.succeeds(&["mount", "two", "m"]);
    place.unmount("m");
}

#[test]
fn an_image_with_a_file_of_the_records_name_is_no_bundle() {
    let Some(place) = Place::new() else { return };
    let mut layout = place.layout("layout");
    layout.add_layers("odd", &[vec![file("image.json", "{}")]]);
    place.succeeds(&["load", &layout.image()]);
    place.succeeds(&["mount", "odd", "m"]);
    let said = place.run(&["export", "m", "-o", "tree.tar"]);
    assert!(said.code == Some(3) && !said.stderr.contains("image.json"), "{said:?}");
    place.unmount("m");
    assert_eq!(mounts(&place), 0);
    assert_eq!(names(&place.store().join("leases")).len(), 0);
}

#[test]
fn a_torn_record_of_a_layer_is_a_layer_to_apply() {
    let Some(place) = Place::new() else { return };
    load(&place, "one");
    let layers = place.store().join("layers");
    for round in 0..2 {
        for layer in names(&layers) {
            fs::write(layers.join(layer).join("layer.json"), "").expect("torn");
        }
        assert_eq!(place.run(&["fsck"]).code, Some(5));
        if round == 0 {
            place.run(&["fsck", "--repair"]);
            assert_eq!(names(&layers).len(), 0);
        }
        place.succeeds(&["mount", "one", "m"]);
        assert!(place.path("m/d/b").exists());
        place.unmount("m");
        place.succeeds(&["fsck"]);
    }
}

#[test]
fn a_torn_index_is_told_kept_and_replaced() {
    let Some(place) = Place::new() else { return };
    load(&place, "one");
    fs::write(place.store().join("index.json"), "{\"sch").expect("torn");
    for args in [&["ls"][..], &["tag", "one", "two"], &["gc"], &["fsck"]] {
        let said = place.run(args);
        assert!(said.code == Some(5) && said.stderr.contains("fsck --repair keeps a copy"), "{said:?}");
    }
    place.run(&["fsck", "--repair"]);
    place.succeeds(&["fsck"]);
    assert_eq!(fs::read(place.store().join("index.json.damaged")).expect("the copy"), b"{\"sch");
    load(&place, "two");
    place.succeeds(&["inspect", "two"]);
}

#[test]
fn only_who_is_alone_ends_leases_that_nobody_can_read() {
    let Some(place) = Place::new() else { return };
    load(&place, "one");
    let lease = place.store().join("leases/torn");
    fs::write(&lease, "{").expect("torn");
    place.succeeds(&["fsck"]);
    assert!(lease.exists());
    place.succeeds(&["gc"]);
    assert!(!lease.exists());
}

#[test]
fn a_bundle_of_an_image_without_layers_is_committed() {
    let Some(place) = Place::new() else { return };
    let mut layout = place.layout("layout");
    layout.add_layers("none", &[]);
    place.succeeds(&["load", &layout.image()]);
    place.succeeds(&["bundle", "none", "bundle"]);
    fs::write(place.path("bundle/rootfs/new"), "new").expect("written");
    place.succeeds(&["commit", "bundle", "some"]);
    place.succeeds(&["umount", "--delete", "bundle"]);
    place.succeeds(&["mount", "some", "m"]);
    assert_eq!(fs::read_to_string(place.path("m/new")).expect("the change"), "new");
    place.unmount("m");
}

#[test]
fn a_volatile_bundle_that_did_not_end_properly_is_not_used_again() {
    let Some(place) = Place::new() else { return };
    load(&place, "one");
    let bundle = ["bundle", "--volatile", "one", "bundle"];
    place.succeeds(&bundle);
    fs::write(place.path("bundle/rootfs/new"), "new").expect("written");
    place.succeeds(&["umount", "bundle"]);
    place.succeeds(&bundle);
    assert!(place.path("bundle/rootfs/new").exists());
    // As after a crash: nobody took the mark away.
    rustix::mount::unmount(place.path("bundle/rootfs"), rustix::mount::UnmountFlags::empty())
        .expect("unmounted");
    let said = place.run(&["bundle", "one", "bundle"]);
    assert!(said.code != Some(0) && said.stderr.contains("umount --delete it"), "{said:?}");
    place.succeeds(&["umount", "--delete", "bundle"]);
}
