//! Folders and leases: who works where, what is mounted where, and what is left of it in the store.

use std::fs;
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
    all.lines().filter(|line| line.contains(&*place.dir.to_string_lossy())).count()
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
