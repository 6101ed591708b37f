//! Ordinary users: without a range of ids, by which a test would change the machine's /etc/subuid.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::layer::{character, dir, file, white};
use crate::layout::Place;

/// `nobody`, who has no line in /etc/subuid anywhere.
const NOBODY: u32 = 65534;

fn as_nobody(place: &Place, args: &[&str]) -> (i32, String, String) {
    // The test binary's own folder may be closed to others.
    let program = place.path("pintle-image");
    if !program.exists() {
        fs::copy(env!("CARGO_BIN_EXE_pintle-image"), &program).expect("a copy");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("its mode");
    }
    let home = place.path("home");
    if !home.exists() {
        fs::create_dir(&home).expect("a home");
        chown(&home, Some(NOBODY), Some(NOBODY)).expect("its owner");
    }
    let mut command = Command::new(program);
    command
        .uid(NOBODY)
        .gid(NOBODY)
        .env_clear()
        .env("HOME", &home)
        .env("PATH", "/usr/bin:/bin")
        .current_dir(&home);
    command.arg("--root").arg(home.join("store")).args(args);
    let output = loop {
        match command.output() {
            // A child of another test has our copy of the program still open for writing, until it is executed.
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {}
            other => break other.expect("it starts"),
        }
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// A folder that others may enter, with an image whose files belong to several users; none where this can't be tried.
fn place(image: &str) -> Option<(Place, String)> {
    let place = Place::new()?;
    for dir in Path::new(&place.path("x")).ancestors().skip(1) {
        let mode = fs::metadata(dir).expect("a folder").mode();
        if dir.starts_with(std::env::temp_dir()) && dir != std::env::temp_dir() {
            fs::set_permissions(dir, fs::Permissions::from_mode(mode | 0o755)).expect("ours");
        }
    }
    let mut layout = place.layout(image);
    layout.add_layers(
        "app",
        &[
            vec![
                dir("etc"),
                file("etc/a", "1").own(7, 8),
                file("etc/b", "2").mode(0o4755),
                character("dev", 5, 1),
            ],
            vec![dir("etc"), white("etc/b"), file("etc/c", "3")],
        ],
    );
    let word = layout.image();
    let (code, _, said) = as_nobody(&place, &["ls"]);
    if code != 0 {
        crate::oracle::skip("rootless", &format!("no user namespace for others: {}", said.trim()));
        return None;
    }
    Some((place, word))
}

#[test]
fn owners_without_an_id_are_an_error_that_says_what_to_do() {
    let Some((place, word)) = place("owners") else { return };
    let bundle = place.path("home/bundle");
    let (code, _, said) = as_nobody(&place, &["unpack", &word, &bundle.to_string_lossy()]);
    assert_eq!(code, 6, "{said}");
    assert!(said.contains("owner 7:8") && said.contains("--squash-owners"), "{said}");
    assert!(!bundle.exists() && !place.path("home/.bundle.partial").exists());
}

#[test]
fn squashed_images_are_the_callers_there_and_back() {
    let Some((place, word)) = place("squash") else { return };
    let bundle = place.path("home/bundle");
    let bundle_word = bundle.to_string_lossy().into_owned();
    let (code, _, said) = as_nobody(&place, &["--squash-owners", "bundle", &word, &bundle_word, "--", "x"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("devices can't be made here"), "{said}");
    let meta = |name: &str| fs::symlink_metadata(bundle.join("rootfs").join(name)).expect(name);
    assert_eq!((meta("etc/a").uid(), meta("etc/a").gid()), (NOBODY, NOBODY));
    assert!(meta("dev").is_file() && meta("dev").len() == 0);
    assert!(!bundle.join("rootfs/etc/b").exists());
    let config = fs::read_to_string(bundle.join("config.json")).expect("config.json");
    assert!(config.contains(r#""uidMappings":[{"containerID":0,"hostID":65534,"size":1}]"#), "{config}");
    // Applied for overlayfs, in its user form, and read back by a mount that only the command itself sees.
    let (code, _, said) = as_nobody(&place, &["--squash-owners", "load", &word]);
    assert_eq!(code, 0, "{said}");
    let (code, archive, said) = as_nobody(&place, &["--squash-owners", "export", "app"]);
    assert_eq!(code, 0, "{said}");
    assert!(archive.contains("etc/c") && !archive.contains("etc/b"));
    fs::write(bundle.join("rootfs/etc/new"), "n").expect("written");
    let (code, _, said) = as_nobody(&place, &["--squash-owners", "commit", &bundle_word, "changed"]);
    assert_eq!(code, 0, "{said}");
    let (code, archive, said) = as_nobody(&place, &["--squash-owners", "export", "changed"]);
    assert!(code == 0 && archive.contains("etc/new"), "{said}");
    assert_eq!(as_nobody(&place, &["fsck"]).0, 0);
    let (code, _, said) = as_nobody(&place, &["mount", "app", "m"]);
    assert!(code == 6 && said.contains("seen by nobody else"), "{code}: {said}");
}

/// As where somebody works with another user's HOME: `login` needs no user namespace, and `logout` looks at the same files.
#[test]
fn credentials_that_are_closed_to_us_are_another_user_s() {
    let Some(place) = Place::new() else { return };
    fs::set_permissions(&place.dir, fs::Permissions::from_mode(0o755)).expect("ours");
    as_nobody(&place, &["--version"]);
    let docker = place.path("home/.docker");
    fs::create_dir(&docker).expect("a folder");
    fs::write(docker.join("config.json"), r#"{"auths":{"r.example":{"auth":"YTox"}}}"#).expect("a file");
    fs::set_permissions(&docker, fs::Permissions::from_mode(0o700)).expect("its mode");
    let (code, _, said) = as_nobody(&place, &["logout", "r.example"]);
    assert!(code == 3 && said.contains("no credentials are kept"), "{code}: {said}");
    let named = docker.join("config.json").display().to_string();
    let (code, _, said) = as_nobody(&place, &["logout", "r.example", "--authfile", &named]);
    assert!(code == 1 && said.contains("permission denied"), "{code}: {said}");
}
