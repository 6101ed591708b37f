//! New images: what commit, config, insert, import and save make, and that they make it twice alike.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;

use serde_json::Value;

use crate::layer::{dir, file, symlink};
use crate::layout::{Layout, Place};

const EPOCH: (&str, &str) = ("SOURCE_DATE_EPOCH", "1700000000");

fn base(place: &Place) -> Layout {
    let mut layout = place.layout("base");
    layout.add_layers("base", &[vec![dir("a"), file("a/old", "old"), dir("v"), symlink("link", "a")]]);
    place.succeeds(&["load", &layout.word(), "--name", "base"]);
    layout
}

fn inspect(place: &Place, image: &str) -> Value {
    serde_json::from_str(&place.succeeds(&["inspect", image]).stdout).expect("JSON")
}

/// The names in an image's tree.
fn names(place: &Place, image: &str) -> Vec<String> {
    let tar = place.path("tree.tar");
    place.succeeds(&["export", image, "-o", &tar.to_string_lossy()]);
    let bytes = fs::read(&tar).expect("an archive");
    let mut archive = tar::Archive::new(&bytes[..]);
    let entries = archive.entries().expect("entries");
    entries.map(|e| e.expect("an entry").path().expect("a path").to_string_lossy().into_owned()).collect()
}

#[test]
fn a_commit_holds_what_changed_and_is_the_same_each_time() {
    let Some(place) = Place::new() else { return };
    base(&place);
    place.succeeds(&["config", "base", "-c", "VOLUME /v", "-c", "CMD [\"x\"]", "--name", "voluminous"]);
    let mut digests = Vec::new();
    for form in ["bundle", "unpack"] {
        let bundle = place.path(form);
        let word = bundle.to_string_lossy().into_owned();
        place.succeeds(&[form, "voluminous", &word]);
        let root = bundle.join("rootfs");
        fs::write(root.join("a/new"), "new").expect("written");
        fs::remove_file(root.join("a/old")).expect("removed");
        fs::write(root.join("v/data"), "not the image's").expect("written");
        let time = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
        for name in ["a/new", "a", "v"] {
            fs::File::open(root.join(name)).expect(name).set_times(time).expect("its time");
        }
        for name in ["one", "two"] {
            let mut command = place.command(&["commit", &word, name, "-c", "ENV A=b", "-m", "why"]);
            let output = command.env(EPOCH.0, EPOCH.1).output().expect("it runs");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let (one, two) = (inspect(&place, "one"), inspect(&place, "two"));
        assert_eq!(one["digest"], two["digest"], "{form}");
        assert_eq!(one["created"], "2023-11-14T22:13:20Z");
        assert_eq!(one["config"]["Env"], serde_json::json!(["A=b"]));
        assert_eq!(one["config"]["Cmd"], serde_json::json!(["x"]));
        digests.push(one["layers"][1]["diffID"].clone());
        let names = names(&place, "one");
        assert!(names.iter().any(|n| n == "a/new") && !names.iter().any(|n| n == "a/old" || n == "v/data"));
        if form == "bundle" {
            place.succeeds(&["umount", "--delete", &word]);
            assert!(!bundle.exists());
        }
    }
    assert_eq!(digests[0], digests[1], "an overlay's changes and a flat tree's are the same layer");
}

#[test]
fn insert_follows_links_inside_the_image_and_can_take_away() {
    let Some(place) = Place::new() else { return };
    base(&place);
    let source = place.path("source");
    fs::create_dir_all(source.join("sub")).expect("a folder");
    fs::write(source.join("sub/f"), "f").expect("a file");
    let word = source.to_string_lossy().into_owned();
    place.succeeds(&["insert", "base", &word, "/link/in", "--name", "added"]);
    let added = names(&place, "added");
    assert!(added.iter().any(|n| n == "a/in/sub/f"), "{added:?}");
    assert!(added.iter().any(|n| n == "link"), "{added:?}");
    place.succeeds(&["insert", "added", "--remove", "/a/old", "--name", "less"]);
    assert!(!names(&place, "less").iter().any(|n| n == "a/old"));
    place.succeeds(&["insert", "added", &word, "/a", "--replace", "--name", "other"]);
    let other = names(&place, "other");
    assert!(other.iter().any(|n| n == "a/sub/f") && !other.iter().any(|n| n == "a/old"), "{other:?}");
    let root = place.run(&["insert", "base", "--remove", "/"]);
    assert!(root.code == Some(2) && root.stderr.contains("the root can't be"), "{root:?}");
    assert!(inspect(&place, "less")["layers"].as_array().is_some_and(|layers| layers.len() == 3));
}

#[test]
fn insert_tells_what_is_wrong_with_what_it_was_given() {
    let Some(place) = Place::new() else { return };
    base(&place);
    let source = place.path("source");
    fs::create_dir_all(source.join("sub")).expect("a folder");
    // Larger than what is sent at once: the error comes in the middle of it.
    fs::write(source.join("large"), vec![7; 3_000_000]).expect("a file");
    fs::write(source.join("sub/.wh.f"), "").expect("a file");
    let (folder, file) = (source.display().to_string(), source.join("sub/.wh.f").display().to_string());
    let refused = |args: &[&str], code, words: &str| {
        let said = place.run(&[&["insert", "base"], args].concat());
        assert!(said.code == Some(code) && said.stderr.contains(words), "{args:?}: {said:?}");
    };
    // A whiteout would take `old` away.
    refused(&[&file, "/a/.wh.old"], 5, ".wh. begins a whiteout");
    refused(&[&file, "/"], 5, ".wh. begins a whiteout");
    refused(&[&file, "/.wh.a/f"], 5, ".wh. begins a whiteout");
    refused(&[&folder, "/a"], 5, ".wh. begins a whiteout");
    refused(&["--remove", "/a/typo"], 3, "/a/typo: no such file or directory");
    refused(&["--remove", "/typo/old"], 3, "/typo/old: ");
    assert!(names(&place, "base").iter().any(|n| n == "a/old"));
}

#[test]
fn a_new_image_takes_over_a_whole_name_only() {
    let Some(place) = Place::new() else { return };
    base(&place);
    let digest = inspect(&place, "base")["digest"].as_str().expect("a digest").to_owned();
    let config = |image: &str| place.run(&["config", image, "-c", "ENV A=b"]);
    let said = config(&digest);
    assert_eq!(said.stdout, "docker.io/library/base:latest\n", "{said:?}");
    place.succeeds(&["rm", "base"]);
    for (name, expect) in [("x.example/y:1", Some("x.example/y:1\n")), ("latest", None), ("", None)] {
        let mut layout = place.layout(&format!("layout-{}", name.len()));
        layout.add_layers(name, &[vec![dir("a")]]);
        let said = config(&layout.image());
        assert_eq!(said.code, Some(if expect.is_some() { 0 } else { 2 }), "{name}: {said:?}");
        assert_eq!(said.stdout, expect.unwrap_or(""), "{name}");
        if expect.is_none() {
            for verb in [&["push", &layout.image()][..], &["insert", &layout.image(), "--remove", "/a"]] {
                let said = place.run(verb);
                assert!(said.code == Some(2) && said.stderr.contains("which name?"), "{said:?}");
            }
            let unnamed = place.succeeds(&["--json", "load", &layout.image()]);
            let loaded: Value = serde_json::from_str(&unnamed.stdout).expect("JSON");
            let digest = loaded[0]["digest"].as_str().expect("a digest");
            assert_eq!(config(digest).code, Some(if name.is_empty() { 2 } else { 0 }), "{name}");
        }
    }
}

#[test]
fn an_output_that_is_no_regular_file_is_written_to_and_stays() {
    let Some(place) = Place::new() else { return };
    base(&place);
    let save = |to: &str| place.succeeds(&["save", "base", "-o", to]);
    let (null, link, file) = (place.path("null"), place.path("link"), place.path("file"));
    let device = rustix::fs::makedev(1, 3);
    let mode = rustix::fs::Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(rustix::fs::CWD, &null, rustix::fs::FileType::CharacterDevice, mode, device)
        .expect("a device");
    save(&null.to_string_lossy());
    assert!(fs::metadata(&null).expect("it").file_type().is_char_device());
    fs::write(&file, "old").expect("written");
    std::os::unix::fs::symlink("file", &link).expect("a link");
    save(&link.to_string_lossy());
    assert!(link.is_symlink());
    let saved = fs::read(&file).expect("an archive");
    // A pipe, by the name that it has here.
    let piped = save("/dev/stdout").stdout;
    assert!(saved.len() > 1024 && piped.len() > 1024);
    assert_eq!(
        crate::layout::names(&place.dir).iter().filter(|n| n.starts_with('.')).count(),
        0,
        "no temporary file stays"
    );
}

#[test]
fn an_argument_may_be_any_bytes() {
    let Some(place) = Place::new() else { return };
    let output = place.command(&["inspect"]).arg(OsStr::from_bytes(b"\xff")).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_hostile_name_says_nothing_to_the_terminal() {
    let Some(place) = Place::new() else { return };
    let mut layout = place.layout("layout");
    let name = "a\u{1b}[2J\u{9b}2Jb\nc";
    layout.add_layers(name, &[vec![dir("a")]]);
    layout.add_layers(&format!("{name}2"), &[vec![dir("b")]]);
    let plain = |text: &str| {
        assert!(text.contains("a [2J 2Jb c"), "{text:?}");
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    };
    plain(&place.run(&["inspect", &layout.image()]).stderr);
    plain(&place.succeeds(&["load", &layout.word()]).stdout);
    plain(&place.succeeds(&["ls"]).stdout);
    let listed: Value = serde_json::from_str(&place.succeeds(&["--json", "ls"]).stdout).expect("JSON");
    assert_eq!(listed[0]["name"], name);
}

#[test]
fn what_is_saved_loads_and_is_the_same_file_each_time() {
    let Some(place) = Place::new() else { return };
    base(&place);
    let (one, two) = (place.path("one.tar"), place.path("two.tar"));
    for file in [&one, &two] {
        place.succeeds(&["save", "base", "-o", &file.to_string_lossy()]);
    }
    assert_eq!(fs::read(&one).expect("one"), fs::read(&two).expect("two"));
    let before = inspect(&place, "base");
    place.succeeds(&["rm", "base"]);
    let said = place.succeeds(&["load", &one.to_string_lossy()]).stdout;
    assert_eq!(said, "docker.io/library/base:latest\n");
    let after = inspect(&place, "base");
    assert_eq!(before["digest"], after["digest"]);
    let file = place.path("nothing.tar");
    let nothing = place.run(&["save", "nothing", "-o", &file.to_string_lossy()]);
    assert!(nothing.code == Some(3) && !file.exists(), "{nothing:?}");
}

#[test]
fn import_refuses_what_is_no_tree() {
    let Some(place) = Place::new() else { return };
    let wrong = place.path("wrong.tar");
    fs::write(&wrong, vec![7; 4096]).expect("written");
    place.fails(&["import", &wrong.to_string_lossy(), "wrong"], 5, "header");
    assert_eq!(place.succeeds(&["--json", "ls"]).stdout.trim(), "[]");
    let collected = place.succeeds(&["--json", "gc"]).stdout;
    assert!(collected.contains("blobs"), "{collected}");
    place.nothing_is_left();
}

#[test]
fn an_image_from_outside_is_brought_along() {
    let Some(place) = Place::new() else { return };
    let mut layout = place.layout("outside");
    layout.add_layers("outside", &[vec![dir("a"), file("a/f", "f")]]);
    place.succeeds(&["config", &layout.image(), "--name", "configured", "-c", "ENV A=b"]);
    place.succeeds(&["fsck"]);
    let source = place.path("source");
    fs::create_dir(&source).expect("a folder");
    place.succeeds(&["insert", &layout.image(), &source.to_string_lossy(), "/b", "--name", "inserted"]);
    place.succeeds(&["fsck"]);
    place.succeeds(&["gc"]);
    assert!(names(&place, "inserted").iter().any(|n| n == "a/f"));
}

#[test]
fn squashed_layers_are_nobody_elses() {
    let Some(place) = Place::new() else { return };
    let mut layout = place.layout("owned");
    layout.add_layers("owned", &[vec![file("f", "f").own(7, 7)]]);
    place.succeeds(&["--squash-owners", "load", &layout.word(), "--name", "owned"]);
    use std::os::unix::fs::MetadataExt;
    let bundle = place.path("bundle");
    place.succeeds(&["bundle", "owned", &bundle.to_string_lossy(), "--", "x"]);
    assert_eq!(fs::metadata(bundle.join("rootfs/f")).expect("f").uid(), 7);
    place.succeeds(&["umount", "--delete", &bundle.to_string_lossy()]);
}

#[test]
fn nobody_elses_folder_is_unpacked_into() {
    let Some(place) = Place::new() else { return };
    let mut layout = place.layout("image");
    layout.add_layers("image", &[vec![file("f", "f").mode(0o4755)]]);
    let partial = place.path(".out.partial");
    fs::create_dir(&partial).expect("a folder");
    std::os::unix::fs::chown(&partial, Some(65534), Some(65534)).expect("another owner");
    let out = place.path("out").to_string_lossy().into_owned();
    let said = place.run(&["unpack", &layout.image(), &out]);
    assert!(said.code == Some(1) && said.stderr.contains("somebody else's"), "{said:?}");
    assert!(!place.path("out").exists());
}

#[test]
fn a_bundle_is_exported_mounted_or_not_and_with_the_images_owners() {
    let Some(place) = Place::new() else { return };
    base(&place);
    let bundle = place.path("bundle");
    let word = bundle.to_string_lossy().into_owned();
    place.succeeds(&["bundle", "base", &word, "--", "x"]);
    fs::write(bundle.join("rootfs/new"), "new").expect("written");
    fs::remove_file(bundle.join("rootfs/a/old")).expect("removed");
    let mounted = names(&place, &word);
    place.succeeds(&["umount", &word]);
    assert_eq!(names(&place, &word), mounted);
    assert!(mounted.iter().any(|n| n == "new") && !mounted.iter().any(|n| n == "a/old"), "{mounted:?}");
    place.succeeds(&["umount", "--delete", &word]);
    let flat = place.path("flat").to_string_lossy().into_owned();
    let maps = ["--uid-map", "0:100000:65536", "--gid-map", "0:100000:65536"];
    place.succeeds(&[&["unpack", "base", &flat][..], &maps].concat());
    names(&place, &flat);
    let tar = fs::read(place.path("tree.tar")).expect("an archive");
    for entry in tar::Archive::new(&tar[..]).entries().expect("entries") {
        assert_eq!(entry.expect("an entry").header().uid().expect("an owner"), 0);
    }
}
