//! The same image through pintle-image, umoci, skopeo and podman, and containerd gives the same tree, entry by entry. Where
//! the others differ from one another, the table says who and why; a row that no longer holds fails too.

use crate::oracle::{Bench, image, read};
use crate::tree::{Tree, diff};

/// Who may stand alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Umoci,
    /// skopeo's copy into overlay storage, mounted by podman.
    Podman,
    Containerd,
}

/// A known difference: what stands in the way of one entry's field, in one program.
struct Alone {
    images: &'static [&'static str],
    path: &'static str,
    field: &'static str,
    who: &'static [Who],
    /// Why it is so.
    why: &'static str,
}

const ALONE: &[Alone] = &[
    Alone {
        images: &["deb:full", "zstd:latest"],
        path: "opt/odd/attributes",
        field: "xattr:user.empty",
        who: &[Who::Umoci],
        why: "Go's archive/tar drops a PAX record without a value; the others read it by a copy that keeps those of xattrs",
    },
    Alone {
        images: &["deb:full", "zstd:latest"],
        path: "opt/odd/time-early",
        field: "mtime",
        who: &[Who::Podman, Who::Containerd],
        why: "both take a time before 1970 for none and set 1970; a layer may hold it, and so may a file",
    },
    Alone {
        images: &["deb:full", "small:latest", "zstd:latest", "round trip"],
        path: ".",
        field: "mode",
        who: &[Who::Podman],
        why: "storage makes the root of a layer that has no entry for it 0555, and the top layer's is what overlay shows",
    },
    Alone {
        images: &["deb:full", "small:latest", "zstd:latest", "round trip"],
        path: ".",
        field: "mtime",
        who: &[Who::Podman],
        why: "the root of the top layer is as old as its folder in the storage; a layer below had said what it is",
    },
    Alone {
        images: &["zstd:latest", "round trip"],
        path: ".",
        field: "mtime",
        who: &[Who::Containerd],
        why: "as with podman",
    },
];

#[test]
fn deb_is_the_same_tree_everywhere() {
    same_everywhere("deb:full", None);
}

#[test]
fn small_is_the_same_tree_everywhere() {
    same_everywhere("small:latest", None);
}

#[test]
fn zstd_is_the_same_tree_everywhere() {
    same_everywhere("zstd:latest", Some("zstd-oci.tar"));
}

#[test]
fn archives_hold_the_same_tree_as_the_layout() {
    let Some(bench) = Bench::new("archives") else { return };
    let layout = unpacked(&bench, &format!("oci:{}", image("zstd:latest")), "layout");
    for (format, file) in [("oci-archive", "zstd-oci.tar"), ("docker-archive", "zstd-docker.tar")] {
        same(&unpacked(&bench, &format!("{format}:{}", image(file)), format), &layout, &[], format);
    }
}

/// Every program's tree of one image; containerd reads it as an archive.
fn same_everywhere(name: &'static str, archive: Option<&str>) {
    let Some(bench) = Bench::new(name) else { return };
    let umoci = bench.umoci(&image(name));
    let podman = bench.podman(&format!("oci:{}", image(name)));
    same(&umoci, &podman, &rows(name, &[Who::Umoci], &[Who::Podman]), "umoci and podman");
    let containerd = archive.map(|archive| bench.containerd(&image(archive)));
    if let Some(containerd) = &containerd {
        same(&umoci, containerd, &rows(name, &[Who::Umoci], &[Who::Containerd]), "umoci and containerd");
    }
    let location = format!("oci:{}", image(name));
    let flat = unpacked(&bench, &location, "flat");
    same(&flat, &umoci, &rows(name, &[], &[Who::Umoci]), "unpack and umoci");
    same(&flat, &podman, &rows(name, &[], &[Who::Podman]), "unpack and podman");
    let mounted = mounted(&bench, &location);
    same(&mounted, &flat, &[], "mount and unpack");
}

/// The rows in which exactly one of two parties stands alone.
fn rows(image: &str, one: &[Who], other: &[Who]) -> Vec<&'static Alone> {
    let in_row = |row: &Alone, party: &[Who]| party.iter().any(|who| row.who.contains(who));
    let differs = |row: &&Alone| row.images.contains(&image) && in_row(row, one) != in_row(row, other);
    ALONE.iter().filter(differs).collect()
}

/// Two trees differ exactly where the rows say.
#[track_caller]
fn same(one: &Tree, other: &Tree, rows: &[&Alone], what: &str) {
    let mut lines = diff(one, other);
    for row in rows {
        let start = format!("{}: {}: ", row.path, row.field);
        let before = lines.len();
        lines.retain(|line| !line.starts_with(&start));
        if lines.len() == before {
            lines.push(format!("{start}no longer differs, though listed: {}", row.why));
        }
    }
    let first: Vec<String> = lines.iter().take(40).cloned().collect();
    assert!(lines.is_empty(), "{what} differ in {} lines:\n{}", lines.len(), first.join("\n"));
}

/// The tree that `unpack` makes of an image. A bundle around it would make the working directory, too.
fn unpacked(bench: &Bench, location: &str, name: &str) -> Tree {
    let rootfs = bench.path(name);
    bench.pintle(&["unpack", "--rootfs-only", location, &rootfs]);
    read(&rootfs)
}

/// The tree that `mount` shows of an image.
fn mounted(bench: &Bench, location: &str) -> Tree {
    let folder = bench.path("mount");
    bench.pintle(&["mount", location, &folder]);
    let tree = read(&folder);
    bench.unmount(&folder);
    tree
}

/// What a container might do to a system, in the words of a shell that stands in its root.
const CHANGES: &str = r#"
rm -r usr/share/perl5 etc/alternatives; rm etc/hostname || :; rm -r etc/apt; mkdir etc/apt; echo new >etc/apt/new
rm -r usr/share/base-files; echo 'a file now' >usr/share/base-files
rm etc/issue; mkdir etc/issue; echo inside >etc/issue/file
echo more >>etc/passwd; chown 5:6 etc/shadow; chmod 4711 usr/bin/true
ln usr/bin/true usr/bin/true-too; ln -s /nowhere opt/link; mkfifo opt/fifo; mknod opt/null c 1 3
mkdir -p opt/new/deep; echo text >opt/new/deep/file; ln opt/new/deep/file opt/again
setfattr -n user.note -v 'a = b' opt/new; setcap cap_net_raw+ep usr/bin/ls
touch -d '2025-01-02 03:04:05.678901234 UTC' opt/new/deep/file; touch -d '2025-01-02 03:04:05.5 UTC' opt/new
dd if=/dev/zero of=opt/zeros bs=1M count=8 status=none; chown 3000000:7 opt/zeros
"#;

#[test]
fn what_commit_saves_is_the_same_tree_for_umoci_podman_and_containerd() {
    let Some(bench) = Bench::new("round-trip") else { return };
    let bundle = bench.path("bundle");
    bench.pintle(&["load", &format!("oci:{}", image("deb:base")), "--name", "pintle.test/base:1"]);
    bench.pintle(&["bundle", "pintle.test/base:1", &bundle]);
    bench.change(&format!("{bundle}/rootfs"), CHANGES);
    let expect = read(&format!("{bundle}/rootfs"));
    bench.pintle(&["commit", &bundle, "pintle.test/changed:1"]);
    let saved = bench.path("saved.tar");
    bench.pintle(&["save", "--output", &saved, "pintle.test/changed:1"]);
    same(&unpacked(&bench, "pintle.test/changed:1", "again"), &expect, &[], "unpack and the bundle");
    bench.run(&["skopeo", "copy", "--quiet", &format!("oci-archive:{saved}"), "oci:copied:1"]);
    same(&bench.umoci(&bench.path("copied:1")), &expect, &[], "umoci and the bundle");
    let (podman, containerd) =
        (rows("round trip", &[Who::Podman], &[]), rows("round trip", &[Who::Containerd], &[]));
    same(&bench.podman(&format!("oci-archive:{saved}")), &expect, &podman, "skopeo, podman and the bundle");
    same(&bench.podman_load(&saved), &expect, &podman, "podman load and the bundle");
    same(&bench.containerd(&saved), &expect, &containerd, "containerd and the bundle");
}

#[test]
fn the_store_is_a_layout_that_others_read_and_write() {
    let Some(bench) = Bench::new("store") else { return };
    bench.pintle(&["load", &format!("oci:{}", image("zstd")), "--name", "pintle.test/zstd:1"]);
    let store = bench.path("store");
    let (name, copy) = (format!("{store}:pintle.test/zstd:1"), format!("oci:{store}:copied"));
    let said = bench.run(&["skopeo", "inspect", &format!("oci:{name}")]);
    assert!(said.contains("\"Architecture\": \"amd64\""), "{said}");
    bench.run(&["umoci", "tag", "--image", &name, "tagged"]);
    bench.run(&["skopeo", "copy", "--quiet", &format!("oci:{}", image("deb:base")), &copy]);
    let listed = bench.pintle(&["ls"]);
    for name in ["pintle.test/zstd:1", "tagged", "copied"] {
        assert!(listed.contains(name), "{name}: {listed}");
    }
    bench.pintle(&["fsck"]);
    let (theirs, ours) = (bench.umoci(&format!("{store}:copied")), unpacked(&bench, "copied", "flat"));
    same(&ours, &theirs, &[], "unpack and umoci, out of the store");
}
