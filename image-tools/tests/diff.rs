//! What a layer made of a tree holds: real overlays and flat trees, changed as a container would, against the members
//! that are to come of it. The overlays are mounted nowhere: their descriptors are enough, and nothing is left of
//! them.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pintle_image::layer::apply::{self, Form};
use pintle_image::layer::diff::{self, Ids, Options, Overlay};
use pintle_image::layer::ids::Ids as IdMaps;
use pintle_image::layer::stat;
use pintle_image::layer::write::Archive;
use rustix::fs::{AtFlags, CWD, FileType, Mode, RenameFlags, XattrFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("diff-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("a folder to try in");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Deeper than the standard library goes without a descriptor for each directory.
        match Command::new("rm").arg("-rf").arg(&self.0).status() {
            Ok(status) if status.success() => {}
            other => eprintln!("{}: {other:?}", self.0.display()),
        }
    }
}

fn open(path: impl AsRef<Path>) -> OwnedFd {
    File::open(path).expect("a directory to open").into()
}

/// An overlay over one lower directory, as `pintle-image mount` makes them.
fn mount(options: &[(&str, &Path)], overlay: Overlay) -> OwnedFd {
    let fs = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).expect("fsopen");
    for (key, path) in options {
        rustix::mount::fsconfig_set_string(&fs, *key, *path).expect(key);
    }
    if overlay == Overlay::User {
        rustix::mount::fsconfig_set_flag(&fs, "userxattr").expect("userxattr");
    }
    rustix::mount::fsconfig_set_string(&fs, "redirect_dir", "nofollow").expect("redirect_dir");
    rustix::mount::fsconfig_set_string(&fs, "metacopy", "off").expect("metacopy");
    rustix::mount::fsconfig_create(&fs).expect("an overlay");
    rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).expect("fsmount")
}

/// A lower tree and an overlay on it.
struct Bundle {
    folder: Folder,
    lower: OwnedFd,
    merged: OwnedFd,
}

impl Bundle {
    fn new(fill: impl FnOnce(&Tree)) -> Self {
        Self::mounted(Overlay::Trusted, fill)
    }

    fn mounted(overlay: Overlay, fill: impl FnOnce(&Tree)) -> Self {
        let folder = Folder::new();
        let [lower, nothing, upper, work] = ["lower", "nothing", "upper", "work"].map(|n| folder.0.join(n));
        for dir in [&lower, &nothing, &upper, &work] {
            fs::create_dir(dir).unwrap();
        }
        fill(&Tree(lower.clone()));
        // As the mount is made: the upper directory's own metadata is the root's.
        set_mtime(&lower, 1000);
        set_mtime(&upper, 1000);
        let merged = mount(&[("lowerdir", &lower), ("upperdir", &upper), ("workdir", &work)], overlay);
        // One lower directory alone is no overlay.
        let both = PathBuf::from(format!("{}:{}", lower.display(), nothing.display()));
        let lower = mount(&[("lowerdir", &both)], overlay);
        Self { folder, lower, merged }
    }

    /// Where the container changes things.
    fn change(&self) -> Tree {
        Tree(PathBuf::from(format!("/proc/self/fd/{}", self.merged.as_raw_fd())))
    }

    fn upper(&self) -> Tree {
        Tree(self.folder.0.join("upper"))
    }

    fn try_diff(&self, options: &Options<'_>) -> Result<(Vec<u8>, Vec<String>), String> {
        let upper = open(self.folder.0.join("upper"));
        let lower = self.lower.as_fd();
        archived(|archive, warn| diff::overlay(upper.as_fd(), lower, options, archive, warn))
    }

    /// The members.
    fn diff(&self) -> Vec<String> {
        members(&self.try_diff(&Options::default()).expect("a layer").0)
    }
}

type Layer = Archive<Vec<u8>>;

/// The archive's bytes and the warnings.
fn archived(
    make: impl FnOnce(&mut Layer, &mut dyn FnMut(&str)) -> pintle_image::error::Result<()>,
) -> Result<(Vec<u8>, Vec<String>), String> {
    let mut archive = Archive::new(Vec::new());
    let mut warnings = Vec::new();
    make(&mut archive, &mut |w: &str| warnings.push(w.to_owned())).map_err(|e| e.to_string())?;
    Ok((archive.finish().expect("memory"), warnings))
}

fn plain(root: BorrowedFd<'_>, options: &Options<'_>) -> Result<(Vec<u8>, Vec<String>), String> {
    archived(|archive, warn| diff::plain(root, options, archive, warn))
}

/// Changes to a tree at a path.
struct Tree(PathBuf);

impl Tree {
    fn at(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }
    fn dir(&self, path: &str) -> &Self {
        fs::create_dir(self.at(path)).unwrap();
        self
    }
    fn write(&self, path: &str, text: &str) -> &Self {
        fs::write(self.at(path), text).unwrap();
        self
    }
    fn old(&self, path: &str) -> &Self {
        set_mtime(&self.at(path), 1000);
        self
    }
    fn rm(&self, path: &str) -> &Self {
        fs::remove_file(self.at(path)).unwrap();
        self
    }
    fn rm_all(&self, path: &str) -> &Self {
        fs::remove_dir_all(self.at(path)).unwrap();
        self
    }
    fn chmod(&self, path: &str, mode: u32) -> &Self {
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(mode)).unwrap();
        self
    }
    fn chown(&self, path: &str, uid: u32, gid: u32) -> &Self {
        std::os::unix::fs::lchown(self.at(path), Some(uid), Some(gid)).unwrap();
        self
    }
    fn link(&self, from: &str, to: &str) -> &Self {
        fs::hard_link(self.at(from), self.at(to)).unwrap();
        self
    }
    fn symlink(&self, target: &str, path: &str) -> &Self {
        symlink(target, self.at(path)).unwrap();
        self
    }
    fn rename(&self, from: &str, to: &str) -> &Self {
        fs::rename(self.at(from), self.at(to)).unwrap();
        self
    }
    fn node(&self, path: &str, kind: FileType, major: u32, minor: u32) -> &Self {
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(CWD, self.at(path), kind, mode, rustix::fs::makedev(major, minor)).unwrap();
        self
    }
    fn set(&self, path: &str, name: &str, value: &[u8]) -> &Self {
        rustix::fs::lsetxattr(self.at(path), name, value, XattrFlags::empty()).unwrap();
        self
    }
}

fn set_mtime(path: &Path, seconds: i64) {
    let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// A member per line: kind, mode, owner, path, and what else is not the usual; its time only if it is the fixture's.
fn members(archive: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(archive);
    let mut lines = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let records: Vec<(String, String)> = entry.pax_extensions().unwrap().map_or(vec![], |records| {
            let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
            // This parser cuts values at a newline, which the random one of overlayfs on the root (uuid) may have.
            let whole = records.filter_map(|r| r.map_err(|e| assert_eq!(path, "./", "{e}")).ok());
            whole.map(|r| (text(r.key_bytes()), text(r.value_bytes()))).collect()
        });
        let (header, link) = (entry.header(), entry.link_name_bytes());
        let link = link.map(|l| String::from_utf8_lossy(&l).into_owned()).unwrap_or_default();
        let (major, minor) = (header.device_major().unwrap(), header.device_minor().unwrap());
        let what = match header.entry_type() {
            tar::EntryType::Regular => String::new(),
            tar::EntryType::Link => format!(" = {link}"),
            tar::EntryType::Symlink => format!(" -> {link}"),
            tar::EntryType::Directory => String::new(),
            tar::EntryType::Fifo => " fifo".into(),
            _ => format!(" {}:{}", major.unwrap(), minor.unwrap()),
        };
        let mode = header.mode().unwrap();
        let owner = match (header.uid().unwrap(), header.gid().unwrap()) {
            (0, 0) => String::new(),
            (uid, gid) => format!(" {uid}:{gid}"),
        };
        let file = header.entry_type() == tar::EntryType::Regular;
        let mut line = format!("{path} {mode:o}{owner}{what}");
        if path.rsplit('/').next().is_some_and(|name| name.starts_with(".wh.")) {
            assert_eq!((mode, header.size().unwrap(), header.mtime().unwrap()), (0, 0, 0));
            line = path;
        }
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        if file && !text.is_empty() {
            line.push_str(&format!(" {text:?}"));
        }
        for (key, value) in records {
            if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
                line.push_str(&format!(" {name}={value}"));
            }
        }
        lines.push(line);
    }
    lines
}

/// Overlays and devices want it.
fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        crate::oracle::skip(test, "needs root");
    }
    root
}

macro_rules! as_root {
    () => {
        if !is_root(module_path!()) {
            return;
        }
    };
}

#[test]
fn what_was_written_stands_below_its_parents_in_the_order_of_names() {
    as_root!();
    let bundle = Bundle::new(|t| {
        t.dir("etc").chmod("etc", 0o711).dir("etc/init").write("etc/hosts", "old").write("etc/motd", "hi");
    });
    let t = bundle.change();
    t.write("etc/hosts", "new").chmod("etc/motd", 0o600).write("etc/init/z", "z").dir("etc/init/a");
    t.write("etc-x", "").chmod("etc-x", 0o4755).chown("etc-x", 5, 70_000);
    t.symlink("../hosts", "etc/init/link").node("null", FileType::CharacterDevice, 1, 3);
    t.node("pipe", FileType::Fifo, 0, 0);
    assert_eq!(
        bundle.diff(),
        [
            "./ 755",
            "etc/ 711",
            "etc/hosts 644 \"new\"",
            "etc/init/ 755",
            "etc/init/a/ 755",
            "etc/init/link 777 -> ../hosts",
            "etc/init/z 644 \"z\"",
            "etc/motd 600 \"hi\"",
            "etc-x 755 5:70000",
            "null 600 1:3",
            "pipe 600 fifo",
        ]
    );
}

#[test]
fn nothing_changed_is_no_member() {
    as_root!();
    let bundle = Bundle::new(|t| {
        t.dir("d").write("d/f", "text");
    });
    assert_eq!(bundle.diff(), [""; 0]);
}

#[test]
fn what_was_only_copied_up_stays_out() {
    as_root!();
    let bundle = Bundle::new(|t| {
        t.dir("d")
            .write("d/same", "text")
            .write("d/content", "text")
            .write("d/mode", "text")
            .symlink("x", "d/s");
        t.write("d/attribute", "text").write("d/acl", "").set("d/same", "user.a", b"1");
        for f in ["d/same", "d/content", "d/mode", "d/attribute", "d/s", "d"] {
            t.old(f);
        }
    });
    let t = bundle.change();
    for f in ["d/same", "d/content", "d/mode", "d/attribute"] {
        t.chmod(f, 0o600).chmod(f, 0o644);
    }
    t.chown("d/s", 1, 1).chown("d/s", 0, 0);
    assert!(bundle.upper().at("d/same").exists() && bundle.upper().at("d/s").is_symlink());
    assert_eq!(bundle.diff(), [""; 0]);
    t.write("d/content", "TEXT").old("d/content").chmod("d/mode", 0o755).set("d/attribute", "user.b", b"2");
    let changed =
        ["d/ 755", "d/attribute 644 \"text\" user.b=2", "d/content 644 \"TEXT\"", "d/mode 755 \"text\""];
    assert_eq!(bundle.diff()[1..], changed);
}

#[test]
fn what_is_gone_is_a_whiteout_before_its_siblings() {
    as_root!();
    let bundle = Bundle::new(|t| {
        t.dir("d").dir("d/sub").write("d/sub/f", "").write("d/a", "").write("d/z", "").write("f", "");
    });
    let t = bundle.change();
    t.write("d/!first", "").rm("d/z").rm_all("d/sub").rm("f").write("made", "").rm("made");
    let expect = ["./ 755", ".wh.f", "d/ 755", "d/.wh.sub", "d/.wh.z", "d/!first 644"];
    assert_eq!(bundle.diff(), expect);
}

#[test]
fn a_directory_that_was_made_anew_hides_what_was_in_the_old_one() {
    as_root!();
    let bundle = Bundle::new(|t| {
        t.dir("d").dir("d/sub").write("d/sub/f", "").write("d/a", "old").write("d/z", "");
    });
    let t = bundle.change();
    t.rm_all("d").dir("d").write("d/a", "new").dir("d/sub").write("d/sub/g", "");
    let rest = ["d/a 644 \"new\"", "d/sub/ 755"];
    assert_eq!(
        bundle.diff(),
        ["./ 755", "d/ 755", "d/.wh.z", rest[0], rest[1], "d/sub/.wh.f", "d/sub/g 644"],
    );
}

#[test]
fn nothing_is_hidden_below_what_is_no_directory() {
    as_root!();
    let bundle = Bundle::new(|t| {
        t.dir("to_file").dir("to_file/sub").write("to_file/f", "").write("to_dir", "was").dir("to_link");
        t.write("to_link/f", "").dir("again").write("again/f", "");
    });
    let t = bundle.change();
    t.rm_all("to_file").write("to_file", "is").rm("to_dir").dir("to_dir").write("to_dir/f", "");
    t.rm_all("to_link").symlink("to_dir", "to_link");
    t.rm_all("again").write("again", "").rm("again").dir("again").write("again/f", "new").rm("again/f");
    assert_eq!(
        bundle.diff(),
        [
            "./ 755",
            "again/ 755",
            "again/.wh.f",
            "to_dir/ 755",
            "to_dir/f 644",
            "to_file 644 \"is\"",
            "to_link 777 -> to_dir",
        ]
    );
}

#[test]
fn names_of_one_file_stay_one_file() {
    as_root!();
    let bundle = Bundle::new(|t| {
        t.dir("d").write("d/old", "text").old("d/old").write("solo", "");
    });
    let t = bundle.change();
    t.write("b", "x")
        .link("b", "a")
        .link("b", "d/c")
        .link("d/old", "d/another")
        .symlink("t", "s")
        .link("s", "d/s");
    assert_eq!(
        bundle.diff()[1..],
        [
            "a 644 \"x\"",
            "b 644 = a",
            "d/ 755",
            "d/another 644 \"text\"",
            "d/c 644 = a",
            "d/old 644 = d/another",
            "d/s 777 -> t",
            "s 777 = d/s",
        ]
    );
}

#[test]
fn a_renamed_file_is_a_whiteout_and_a_file() {
    as_root!();
    let bundle = Bundle::new(|t| {
        t.write("a", "a").write("b", "b").write("c", "c");
    });
    bundle.change().rename("a", "x").rename("b", "c");
    assert_eq!(bundle.diff()[1..], [".wh.a", ".wh.b", "c 644 \"b\"", "x 644 \"a\""]);
}

#[test]
fn attributes_of_overlayfs_stay_and_those_of_files_come_along() {
    as_root!();
    let bundle = Bundle::new(|t| {
        t.dir("d").write("d/f", "").write("d/g", "");
    });
    let t = bundle.change();
    t.set("d/f", "user.a", b"1").set("d/f", "trusted.x", b"2");
    t.set("d", "trusted.overlay.opaque", b"mine").set("d/f", "trusted.overlay.whiteout", b"mine");
    t.rm("d/g").write("d/g", "new");
    assert_eq!(
        bundle.diff()[1..],
        [
            "d/ 755 trusted.overlay.opaque=mine",
            "d/f 644 trusted.overlay.whiteout=mine trusted.x=2 user.a=1",
            "d/g 644 \"new\"",
        ]
    );
}

#[test]
fn whiteouts_by_attribute_are_whiteouts() {
    as_root!();
    for (overlay, prefix) in [(Overlay::Trusted, "trusted.overlay."), (Overlay::User, "user.overlay.")] {
        let bundle = Bundle::new(|t| {
            t.dir("d").write("d/f", "").write("d/g", "").dir("o").write("o/f", "");
        });
        let upper = bundle.upper();
        upper.dir("d").write("d/f", "").write("d/g", "new").write("d/never", "").dir("o");
        upper.set("d", &format!("{prefix}opaque"), b"x").set("d/f", &format!("{prefix}whiteout"), b"y");
        upper.set("d/never", &format!("{prefix}whiteout"), b"y").set("o", &format!("{prefix}opaque"), b"y");
        let options = Options { overlay, ..Options::default() };
        let diff = members(&bundle.try_diff(&options).expect("a layer").0)[1..].to_vec();
        assert_eq!(diff, ["d/ 755", "d/.wh.f", "d/g 644 \"new\"", "o/ 755", "o/.wh.f"]);
    }
}

#[test]
fn an_overlay_of_a_user_notes_in_other_attributes() {
    as_root!();
    let bundle = Bundle::mounted(Overlay::User, |t| {
        t.dir("d").write("d/f", "").write("g", "");
    });
    bundle.change().rm_all("d").dir("d").rm("g").set("d", "user.overlay.opaque", b"mine");
    let options = Options { overlay: Overlay::User, ..Options::default() };
    let diff = members(&bundle.try_diff(&options).expect("a layer").0);
    assert_eq!(diff[1..], [".wh.g", "d/ 755 user.overlay.opaque=mine", "d/.wh.f"]);
}

#[test]
fn half_files_are_refused() {
    as_root!();
    for mark in ["redirect", "metacopy"] {
        let bundle = Bundle::new(|t| {
            t.dir("d");
        });
        bundle.upper().dir("d").dir("d/e").set("d/e", &format!("trusted.overlay.{mark}"), b"/x");
        let error = bundle.try_diff(&Options::default()).unwrap_err();
        assert_eq!(
            error,
            format!("\"/d/e\": the overlay was mounted with {mark}, and this is no whole file")
        );
    }
}

#[test]
fn names_that_would_be_whiteouts_are_refused() {
    as_root!();
    let bundle = Bundle::new(|t| {
        t.dir("d");
    });
    bundle.change().write("d/.wh.f", "");
    let error = bundle.try_diff(&Options::default()).unwrap_err();
    assert_eq!(error, "\"/d\": a layer cannot hold a file named \".wh.f\": .wh. begins a whiteout");
    let mask = vec![b"/d/.wh.f".to_vec()];
    let masked = bundle.try_diff(&Options { mask, ..Options::default() }).expect("a layer");
    assert_eq!(members(&masked.0), [""; 0]);
}

#[test]
fn a_socket_stays_out_and_still_hides_what_was_there() {
    as_root!();
    let bundle = Bundle::new(|t| {
        t.write("was", "");
    });
    let t = bundle.change();
    t.rm("was");
    // Bound by a short path: what a socket's address holds.
    let _sockets = ["was", "new"].map(|n| UnixListener::bind(t.at(n)).unwrap());
    let (archive, warnings) = bundle.try_diff(&Options::default()).expect("a layer");
    assert_eq!(members(&archive)[1..], [".wh.was"]);
    assert_eq!(warnings, ["/new", "/was"].map(|n| format!("{n:?}: a socket stays out of the layer")));
}

#[test]
fn masked_paths_stay_out_and_their_parents_with_them() {
    as_root!();
    let bundle = Bundle::new(|t| {
        t.dir("etc")
            .write("etc/gone", "")
            .write("etc/kept", "")
            .dir("vol")
            .write("vol/f", "")
            .dir("var")
            .dir("var/x");
    });
    let t = bundle.change();
    t.write("etc/resolv.conf", "").rm("etc/gone").rm_all("vol").dir("vol").write("vol/g", "").dir("proc");
    t.write("var/x/f", "");
    let mask = ["/etc/resolv.conf", "etc//./gone", "/vol/", "/proc"].map(|m| m.as_bytes().to_vec()).to_vec();
    let options = Options { mask, ..Options::default() };
    let diff = members(&bundle.try_diff(&options).expect("a layer").0);
    assert_eq!(diff, ["./ 755", "var/ 755", "var/x/ 755", "var/x/f 644"]);
    for wrong in ["/", "a/../b"] {
        let options = Options { mask: vec![wrong.into()], ..Options::default() };
        assert!(bundle.try_diff(&options).unwrap_err().starts_with(&format!("mask {wrong:?}: ")));
    }
}

#[test]
fn ids_go_back_through_the_map() {
    as_root!();
    let bundle = Bundle::new(|_| ());
    let t = bundle.change();
    t.write("f", "").chown("f", 100_000, 100_007).chown("", 100_000, 100_000);
    // A capability whose root is the container's, and an entry of an ACL for its user 5.
    let capability = [&[1, 0, 0, 3][..], &[0; 16], &100_000_u32.to_le_bytes()].concat();
    t.write("cap", "").chown("cap", 100_001, 100_001).set("cap", "security.capability", &capability);
    let entry =
        |tag: u16, id: u32| [&tag.to_le_bytes()[..], &7_u16.to_le_bytes(), &id.to_le_bytes()].concat();
    let all = u32::MAX;
    let acl = |user| {
        [vec![2, 0, 0, 0], entry(1, all), entry(2, user), entry(4, all), entry(16, all), entry(32, all)]
            .concat()
    };
    t.write("acl", "").chown("acl", 100_000, 100_000).set("acl", "system.posix_acl_access", &acl(100_005));
    let map = |id: u32| id.checked_sub(100_000).filter(|id| *id < 65536);
    let options = Options { ids: Ids { uid: &map, gid: &map }, ..Options::default() };
    let (archive, _) = bundle.try_diff(&options).expect("a layer");
    let holds = |bytes: &[u8]| archive.windows(bytes.len()).any(|w| w == bytes);
    assert!(holds(&[&b"system.posix_acl_access="[..], &acl(5)].concat()));
    assert!(holds(&[&b"security.capability="[..], &[1, 0, 0, 2], &[0; 16], b"\n"].concat()));
    let lines: Vec<String> =
        members(&archive).iter().map(|l| l.split(" s").next().unwrap().to_owned()).collect();
    assert_eq!(lines, ["./ 755", "acl 777", "cap 644 1:1", "f 644 0:7"]);
    t.chown("f", 0, 100_000);
    let error = bundle.try_diff(&options).unwrap_err();
    assert_eq!(error, "\"/f\": uid 0 is not in the map of the container's user namespace");
}

#[test]
fn no_member_is_younger_than_the_epoch() {
    let folder = Folder::new();
    let t = Tree(folder.0.clone());
    t.write("new", "").write("old", "").old("old").dir("d");
    let options = Options { epoch: Some(1_000_000), ..Options::default() };
    let (archive, _) = plain(open(&folder.0).as_fd(), &options).expect("a layer");
    let mut archive = tar::Archive::new(archive.as_slice());
    let times = archive.entries().unwrap().map(|e| e.unwrap().header().mtime().unwrap());
    assert_eq!(times.collect::<Vec<_>>(), [1_000_000, 1_000_000, 1_000_000, 1000]);
}

#[test]
fn the_same_tree_made_in_another_order_is_the_same_archive() {
    let make = |names: &[&str]| {
        let folder = Folder::new();
        let t = Tree(folder.0.clone());
        for name in names {
            t.dir(name).write(&format!("{name}/f"), name).set(&format!("{name}/f"), "user.z", b"1");
            t.set(&format!("{name}/f"), "user.a", b"2")
                .write(&format!("{name}/\u{e4}"), "")
                .chmod(name, 0o750);
        }
        for name in names {
            t.link(&format!("{name}/f"), &format!("{name}/g"));
            for path in ["f", "\u{e4}", ""] {
                t.old(&format!("{name}/{path}"));
            }
        }
        t.old("");
        plain(open(&folder.0).as_fd(), &Options::default()).expect("a layer").0
    };
    let forward = make(&["a", "b", "c", "d"]);
    assert!(forward == make(&["d", "c", "b", "a"]));
    assert!(forward == make(&["b", "d", "a", "c"]));
}

/// What a flat tree's manifest finds.
fn flat(root: &Path, manifest: &[u8], options: &Options<'_>) -> Vec<String> {
    let root = open(root);
    let done = archived(|archive, warn| diff::flat(root.as_fd(), manifest, options, archive, warn));
    members(&done.expect("a layer").0)
}

fn record(root: &Path) -> Vec<u8> {
    let mut manifest = Vec::new();
    stat::record(open(root).as_fd(), &mut manifest).expect("a manifest");
    manifest
}

#[test]
fn a_flat_tree_tells_what_changed_since_it_was_recorded() {
    as_root!();
    let folder = Folder::new();
    let t = Tree(folder.0.clone());
    t.dir("d")
        .dir("d/sub")
        .write("d/sub/f", "")
        .write("d/f", "text")
        .write("d/g", "")
        .dir("e")
        .write("e/f", "");
    t.dir("to_file").dir("to_file/x").write("to_file/x/f", "").write("to_dir", "").symlink("a", "s").dir("z");
    t.write("z/f", "").node("null", FileType::CharacterDevice, 1, 3).write("h1", "h").link("h1", "z/h2");
    let manifest = record(&folder.0);
    assert_eq!(flat(&folder.0, &manifest, &Options::default()), [""; 0]);
    // What has no content is looked at, whatever its ctime.
    t.chmod("d", 0o700).chmod("d", 0o755).chown("s", 1, 1).chown("s", 0, 0);
    assert_eq!(flat(&folder.0, &manifest, &Options::default()), [""; 0]);
    // Same size and time: the ctime tells.
    let mtime = File::open(t.at("d/f")).unwrap().metadata().unwrap().modified().unwrap();
    t.write("d/f", "TEXT");
    File::options().write(true).open(t.at("d/f")).unwrap().set_modified(mtime).unwrap();
    t.rm_all("d/sub").rm_all("to_file").write("to_file", "").rm("to_dir").dir("to_dir").write("to_dir/f", "");
    t.rm("s").symlink("b", "s").set("e", "user.a", b"1").rm("h1").write("z/new", "");
    assert_eq!(
        flat(&folder.0, &manifest, &Options::default()),
        [
            "./ 755",
            ".wh.h1",
            "d/ 755",
            "d/.wh.sub",
            "d/f 644 \"TEXT\"",
            "e/ 755 user.a=1",
            "s 777 -> b",
            "to_dir/ 755",
            "to_dir/f 644",
            "to_file 644",
            "z/ 755",
            "z/h2 644 \"h\"",
            "z/new 644",
        ]
    );
    let mask = ["d/sub", "to_file", "z", "h1"].map(|m| m.as_bytes().to_vec()).to_vec();
    assert_eq!(
        flat(&folder.0, &manifest, &Options { mask, ..Options::default() }),
        [
            "./ 755",
            "d/ 755",
            "d/f 644 \"TEXT\"",
            "e/ 755 user.a=1",
            "s 777 -> b",
            "to_dir/ 755",
            "to_dir/f 644"
        ]
    );
}

#[test]
fn a_change_right_after_the_recording_is_found() {
    let folder = Folder::new();
    let t = Tree(folder.0.clone());
    for round in 0..20 {
        t.write("f", &format!("{round:3}")).old("f");
        let manifest = record(&folder.0);
        t.write("f", "new").old("f");
        assert_eq!(flat(&folder.0, &manifest, &Options::default()).last().unwrap(), "f 644 \"new\"");
    }
}

#[test]
fn a_broken_manifest_is_an_error() {
    let folder = Folder::new();
    let t = Tree(folder.0.clone());
    t.dir("d").write("d/f", "").write("f", "");
    let manifest = record(&folder.0);
    let fd = open(&folder.0);
    let error = |manifest: &[u8]| {
        archived(|archive, warn| diff::flat(fd.as_fd(), manifest, &Options::default(), archive, warn))
            .unwrap_err()
    };
    for cut in 0..manifest.len() {
        assert!(error(&manifest[..cut]).contains("stat manifest"), "{cut}");
    }
    assert!(error(&[&manifest[..], b"x"].concat()).contains("goes on after its end"));
    let huge = [&manifest[..manifest.len() - 1], &[0xff; 11]].concat();
    assert!(error(&huge).contains("stat manifest"));
}

/// A generator good enough to vary changes, the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % sides
    }
    fn path(&mut self) -> String {
        let depth = 1 + self.roll(3);
        let names: Vec<String> = (0..depth).map(|_| self.roll(4).to_string()).collect();
        names.join("/")
    }
}

/// Does something to the tree, whether it works or not.
fn change_somehow(t: &Tree, dice: &mut Dice) {
    let (path, other) = (t.at(&dice.path()), t.at(&dice.path()));
    match dice.roll(12) {
        0 | 1 => drop(fs::create_dir(&path)),
        2 | 3 => drop(fs::write(&path, format!("{}", dice.roll(1000)))),
        4 => drop(fs::remove_file(&path)),
        5 => drop(fs::remove_dir_all(&path)),
        6 => drop(fs::set_permissions(&path, fs::Permissions::from_mode(0o700 + dice.roll(8) as u32))),
        7 => drop(fs::hard_link(&path, &other)),
        8 => drop(symlink(format!("{}", dice.roll(9)), &path)),
        9 if !path.is_dir() => drop(fs::rename(&path, &other)),
        10 => drop(rustix::fs::lsetxattr(&path, "user.a", &[dice.roll(9) as u8], XattrFlags::empty())),
        _ => drop(std::os::unix::fs::lchown(&path, Some(dice.roll(3) as u32), None)),
    }
}

/// Every entry of a tree as text: what two trees have to agree in.
fn snapshot(root: &Path) -> Vec<String> {
    let mut told = vec![];
    let mut inodes: Vec<(u64, PathBuf)> = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(path) = open.pop() {
        let at = root.join(&path);
        let is = at.symlink_metadata().unwrap();
        let mut value = [0; 8];
        let attribute =
            rustix::fs::lgetxattr(&at, "user.a", &mut value).map_or(None, |n| Some(value[..n].to_vec()));
        let content = match is.file_type() {
            t if t.is_dir() => {
                let mut names: Vec<PathBuf> =
                    fs::read_dir(&at).unwrap().map(|e| path.join(e.unwrap().file_name())).collect();
                names.sort();
                open.extend(names.into_iter().rev());
                String::new()
            }
            t if t.is_symlink() => format!("{:?}", at.read_link().unwrap()),
            _ => format!("{:?}", fs::read_to_string(&at).unwrap()),
        };
        // The first other name; how many there are overlayfs does not always know.
        let first = inodes.iter().find(|(inode, _)| *inode == is.ino()).map(|(_, path)| path.clone());
        inodes.push((is.ino(), path.clone()));
        told.push(format!(
            "{path:?} {:o} {}:{} {}.{} {content} {attribute:?} {first:?}",
            is.mode(),
            is.uid(),
            is.gid(),
            is.mtime(),
            is.mtime_nsec()
        ));
    }
    told
}

/// A layer applied the slow way: first what it takes away, then GNU tar.
fn apply(archive: &[u8], root: &Path) {
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let entry = entry.unwrap();
        let path = entry.path().unwrap();
        let path = root.join(path.to_str().unwrap().trim_end_matches('/'));
        let name = path.file_name().unwrap_or_default().to_str().unwrap().to_owned();
        let remove = |path: &Path| {
            let Ok(is) = path.symlink_metadata() else { return };
            if is.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        };
        if let Some(hidden) = name.strip_prefix(".wh.") {
            assert!(path.parent().unwrap().is_dir(), "{} stands below a directory", path.display());
            remove(&path.with_file_name(hidden));
        } else if !(entry.header().entry_type().is_dir() && path.is_dir() && !path.is_symlink()) {
            remove(&path);
        }
        // The attributes of a directory are replaced.
        rustix::fs::lremovexattr(&path, "user.a").ok();
        if entry.header().entry_type().is_dir() {
            fs::create_dir_all(&path).unwrap();
        }
    }
    let file = root.with_extension("tar");
    fs::write(&file, archive).unwrap();
    let options = ["--numeric-owner", "--xattrs", "--xattrs-include=*", "--exclude=.wh.*", "-xpf"];
    let output = Command::new("tar").current_dir(root).args(options).arg(&file).output().expect("tar");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// And the program's own way, in either form.
fn apply_ours(archive: &[u8], root: &Path, below: Option<BorrowedFd<'_>>) {
    let form = if below.is_some() { Form::Overlay } else { Form::Flat };
    let options = apply::Options { form, base: false, ids: IdMaps::default(), squash: false, limit: 1 << 20 };
    let warn = &mut |warning: String| panic!("{warning}");
    let root = open(root);
    let (applied, _) = apply::apply(archive, root.as_fd(), &options, warn).expect("applied");
    assert!(!applied.needs_parents);
    if form == Form::Overlay {
        apply::settle(root.as_fd(), &applied, below).expect("settled");
    }
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg("--").args([from, to]).status().expect("cp");
    assert!(status.success());
}

#[test]
fn layers_of_random_changes_give_the_changed_tree() {
    as_root!();
    for seed in 0..25 {
        let mut dice = Dice(seed);
        let bundle = Bundle::new(|t| (0..60).for_each(|_| change_somehow(t, &mut dice)));
        let folder = &bundle.folder.0;
        let flat_tree = folder.join("flat");
        copy(&folder.join("lower"), &flat_tree);
        let manifest = record(&flat_tree);
        let mut same = Dice(seed + 1000);
        (0..60).for_each(|_| change_somehow(&bundle.change(), &mut same));
        let mut same = Dice(seed + 1000);
        (0..60).for_each(|_| change_somehow(&Tree(flat_tree.clone()), &mut same));

        let fd = open(&flat_tree);
        let layer = archived(|archive, warn| {
            diff::flat(fd.as_fd(), manifest.as_slice(), &Options::default(), archive, warn)
        });
        gives(&layer.expect("a layer").0, &bundle, &flat_tree, &format!("seed {seed}, flat"));
        let (layer, _) = bundle.try_diff(&Options::default()).expect("a layer");
        gives(&layer, &bundle, &bundle.change().at("."), &format!("seed {seed}, overlay"));
    }
}

/// Applied to the lower tree in each way, the layer gives the tree at `wanted`.
#[track_caller]
fn gives(layer: &[u8], bundle: &Bundle, wanted: &Path, what: &str) {
    let scratch = Folder::new();
    let lower = bundle.folder.0.join("lower");
    let [by_tar, flat, own] = ["by-tar", "flat", "own"].map(|n| scratch.0.join(n));
    copy(&lower, &by_tar);
    copy(&lower, &flat);
    // A layer that says nothing about the root leaves it as it was.
    fs::create_dir(&own).unwrap();
    let root = lower.metadata().unwrap();
    fs::set_permissions(&own, root.permissions()).unwrap();
    set_mtime(&own, root.mtime());
    apply(layer, &by_tar);
    apply_ours(layer, &flat, None);
    apply_ours(layer, &own, Some(bundle.lower.as_fd()));
    let stack = PathBuf::from(format!("{}:{}", own.display(), lower.display()));
    let stack = mount(&[("lowerdir", &stack)], Overlay::Trusted);
    let stacked = PathBuf::from(format!("/proc/self/fd/{}/.", stack.as_raw_fd()));
    for (tree, way) in [(&by_tar, "by tar"), (&flat, "flat"), (&stacked, "stacked")] {
        let wanted = snapshot(wanted);
        let mut applied = snapshot(tree);
        // A copy-up parts the names of a file; one that is the same as before stays out, so they stay together.
        for (applied, _) in applied.iter_mut().zip(&wanted).filter(|(_, is)| is.ends_with(" None")) {
            let first = applied.rfind(" Some(\"").filter(|_| applied.ends_with("\")"));
            first.into_iter().for_each(|at| applied.replace_range(at.., " None"));
        }
        assert_eq!(applied, wanted, "{what}, {way}");
    }
}

#[test]
fn a_tree_deeper_than_a_path_is_an_error_and_not_an_overflow() {
    let folder = Folder::new();
    let mut at = open(&folder.0);
    for _ in 0..3_000 {
        rustix::fs::mkdirat(&at, "d", Mode::from_raw_mode(0o755)).unwrap();
        at = rustix::fs::openat(&at, "d", rustix::fs::OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    let root = open(&folder.0);
    let started = Instant::now();
    let error = plain(root.as_fd(), &Options::default()).unwrap_err();
    assert!(error.starts_with("\"/d/d/d/") && error.ends_with("longer than 4094 bytes"), "{error}");
    assert!(stat::record(root.as_fd(), std::io::sink()).is_err());
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_deep_tree_does_not_hold_a_descriptor_per_directory() {
    let folder = Folder::new();
    let deep = folder.0.join("d/".repeat(1500));
    fs::create_dir_all(&deep).unwrap();
    let bottom = open(&deep);
    let _socket = UnixListener::bind(format!("/proc/self/fd/{}/s", bottom.as_raw_fd())).unwrap();
    let mut most = 0;
    let mut archive = Archive::new(Vec::new());
    let root = open(&folder.0);
    // Called where the socket is.
    let warn = &mut |_: &str| most = fs::read_dir("/proc/self/fd").unwrap().count();
    diff::plain(root.as_fd(), &Options::default(), &mut archive, warn).expect("a layer");
    assert_eq!(members(&archive.finish().unwrap()).len(), 1501);
    // Other tests have some too.
    assert!((1..300).contains(&most), "{most}");
}

/// Exchanges two names until it is dropped.
fn while_exchanging<T>(a: &Path, b: &Path, mut action: impl FnMut() -> T) -> Vec<T> {
    let stop = AtomicBool::new(false);
    let exchanges = AtomicU32::new(0);
    std::thread::scope(|scope| {
        let exchanging = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).unwrap();
                exchanges.fetch_add(1, Ordering::Relaxed);
            }
        });
        let until = Instant::now() + Duration::from_secs(1);
        let mut results = Vec::new();
        let enough = || Instant::now() >= until && exchanges.load(Ordering::Relaxed) > 1000;
        while !enough() && !exchanging.is_finished() {
            results.push(action());
        }
        stop.store(true, Ordering::Relaxed);
        results
    })
}

/// CVE-2018-15664, CVE-2023-0778: what is outside never gets in, whatever a container does while it is read.
#[test]
fn nothing_from_outside_is_read_in_a_race() {
    let folder = Folder::new();
    let t = Tree(folder.0.clone());
    t.dir("outside").dir("outside/d").write("outside/d/f", "SECRET").write("outside/f", "SECRET");
    t.dir("root").write("root/f", "mine").dir("root/d").write("root/d/f", "mine").dir("root/spare");
    let outside = t.at("outside");
    symlink(outside.join("f"), t.at("root/spare/link_to_file")).unwrap();
    symlink(outside.join("d"), t.at("root/spare/link_to_dir")).unwrap();
    t.node("root/spare/pipe", FileType::Fifo, 0, 0);
    let root = open(t.at("root"));
    let secret = |bytes: &[u8]| bytes.windows(6).any(|w| w == b"SECRET");
    for (a, b) in [("f", "spare/link_to_file"), ("d", "spare/link_to_dir"), ("f", "spare/pipe")] {
        let results = while_exchanging(&t.at("root").join(a), &t.at("root").join(b), || {
            plain(root.as_fd(), &Options::default())
        });
        let good = results.iter().filter(|r| r.is_ok()).count();
        println!("{a} <-> {b}: {good} of {} layers, the others refused", results.len());
        assert!(results.iter().flatten().all(|(archive, _)| !secret(archive)));
        let refused = results.iter().filter_map(|r| r.as_ref().err());
        refused.for_each(|e| assert!(e.contains("while it was read") || e.contains("no such file"), "{e}"));
    }
}

#[test]
fn a_mount_in_the_tree_stays_out() {
    as_root!();
    let folder = Folder::new();
    let t = Tree(folder.0.clone());
    t.dir("m").write("m/below", "").write("f", "");
    let path = folder.0.join("m");
    rustix::mount::mount("tmpfs", &path, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
    fs::write(path.join("inside"), "").unwrap();
    let done = plain(open(&folder.0).as_fd(), &Options::default());
    rustix::mount::unmount(&path, rustix::mount::UnmountFlags::DETACH).unwrap();
    let (archive, warnings) = done.expect("a layer");
    assert_eq!(members(&archive), ["./ 755", "f 644", "m/ 1777"]);
    assert_eq!(warnings, ["\"/m\": something is mounted there and stays out of the layer"]);
}

/// Figures: `cargo test --release -p pintle-image --test main -- --ignored --nocapture fifty`.
#[test]
#[ignore = "a measurement"]
fn fifty_thousand_entries() {
    let folder = Folder::new();
    for d in 0..500 {
        let dir = folder.0.join(format!("d{}/e{d}", d % 20));
        fs::DirBuilder::new().recursive(true).mode(0o755).create(&dir).unwrap();
        (0..100).for_each(|f| fs::write(dir.join(format!("file-{f}.txt")), "some text\n").unwrap());
    }
    let timed = |what: &str, action: &mut dyn FnMut()| {
        let times = (0..7).map(|_| {
            let from = Instant::now();
            action();
            from.elapsed()
        });
        println!("{what}: {:?}", times.min().unwrap());
    };
    let root = open(&folder.0);
    let manifest = RefCell::new(Vec::new());
    timed("record", &mut || *manifest.borrow_mut() = record(&folder.0));
    println!("{} bytes", manifest.borrow().len());
    let warn = &mut |_: &str| ();
    timed("flat, nothing changed", &mut || {
        let mut archive = Archive::new(std::io::sink());
        let manifest = manifest.borrow();
        diff::flat(root.as_fd(), manifest.as_slice(), &Options::default(), &mut archive, warn).unwrap();
        assert_eq!(archive.members(), 0);
    });
    timed("plain", &mut || {
        let mut archive = Archive::new(std::io::sink());
        diff::plain(root.as_fd(), &Options::default(), &mut archive, warn).unwrap();
        assert_eq!(archive.members(), 50_521);
    });
}
