//! Root file systems as snapshotters describe them, really mounted: needs root.

use super::*;
use std::os::unix::fs::{MetadataExt as _, symlink};

/// A bundle in a folder of its own, which is gone afterwards with all its mounts.
struct Place(PathBuf);

impl Place {
    /// None for an ordinary user.
    fn new(name: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let path = std::env::temp_dir().join(format!("pintle-rootfs-{name}-{}", std::process::id()));
        std::fs::create_dir_all(path.join("b/rootfs")).unwrap();
        Some(Self(path))
    }

    fn bundle(&self) -> PathBuf {
        self.0.join("b")
    }

    fn rootfs(&self) -> PathBuf {
        self.0.join("b/rootfs")
    }

    /// A folder that holds a file.
    fn folder(&self, name: &str, file: &str) -> String {
        let path = self.0.join(name);
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join(file), name).unwrap();
        path.display().to_string()
    }

    /// So many layers, each with a file of its own and one that all have; highest first.
    fn layers(&self, count: usize) -> Vec<String> {
        let layer = |n: usize| {
            std::fs::create_dir_all(self.0.join("snapshots")).unwrap();
            let path = self.folder(&format!("snapshots/{n:>04}/a-name-of-some-length/fs"), &format!("f{n}"));
            std::fs::write(Path::new(&path).join("last"), n.to_string()).unwrap();
            path
        };
        (0..count).rev().map(layer).collect()
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.rootfs().join(name)).unwrap()
    }

    fn mounts(&self) -> usize {
        let top = self.0.display().to_string();
        std::fs::read_to_string("/proc/self/mountinfo")
            .unwrap()
            .lines()
            .filter(|line| line.contains(&top))
            .count()
    }

    /// The root file system goes, and nothing of it stays.
    fn clear(&self) {
        disassemble(&self.bundle()).unwrap();
        assert_eq!(self.mounts(), 0);
        assert_eq!(std::fs::read_dir(self.bundle()).unwrap().count(), 1, "only rootfs is in the bundle");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        disassemble(&self.bundle()).ok();
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn mount_of(kind: &str, source: &str, options: &[&str]) -> Mount {
    let options = options.iter().map(|option| (*option).to_owned()).collect();
    Mount { r#type: kind.into(), source: source.into(), target: String::new(), options }
}

fn overlay_of(lowers: &[String], more: &[&str]) -> Mount {
    let lower = format!("lowerdir={}", lowers.join(":"));
    mount_of("overlay", "overlay", &[more, &[&lower]].concat())
}

/// As it would be on this kernel.
fn overlay_on(place: &Place, one: &Mount, kernel: (u32, u32)) -> Result<()> {
    let parsed = Parsed::of(&one.options)?;
    overlay::attach_on(one, &parsed, &place.rootfs(), &place.bundle().join(LAYERS), kernel)
}

#[test]
fn a_hundred_and_four_hundred_layers_are_mounted() {
    let Some(place) = Place::new("many") else { return };
    let layers = place.layers(400);
    let [upper, work] = ["upper", "work"].map(|name| place.folder(name, "x"));
    let [upper, work] = [format!("upperdir={upper}"), format!("workdir={work}")];
    for count in [100, 400] {
        let one = overlay_of(&layers[..count], &["index=off", &work, &upper]);
        assert!(!Parsed::of(&one.options).unwrap().fits());
        assemble(&[one], &place.bundle()).unwrap();
        assert_eq!(place.text("last"), "399");
        let own = std::fs::read_dir(place.rootfs()).unwrap().count();
        assert_eq!(own, count + 2, "a file of each layer, that of all, that of the upper one");
        std::fs::write(place.rootfs().join("new"), "").unwrap();
        std::fs::remove_file(place.0.join("upper/new")).unwrap();
        place.clear();
    }
}

#[test]
fn older_kernels_take_some_two_hundred_layers() {
    let Some(place) = Place::new("older") else { return };
    let layers = place.layers(400);
    overlay_on(&place, &overlay_of(&layers[..200], &["index=off"]), (5, 14)).unwrap();
    assert_eq!(std::fs::read_dir(place.rootfs()).unwrap().count(), 201);
    assert_eq!(place.text("last"), "399");
    place.clear();
    let said = overlay_on(&place, &overlay_of(&layers, &[]), (5, 14)).unwrap_err().to_string();
    assert_eq!(said, "400 layers: so many need Linux 6.8");
    assert_eq!(place.mounts(), 0);
}

#[test]
fn names_may_be_strange_and_long() {
    let Some(place) = Place::new("strange") else { return };
    let long = format!("{}/{}", "l".repeat(200), "o".repeat(200));
    let layers =
        ["a:b", "c,d", r"e\f", long.as_str()].map(|name| place.folder(name, &name.replace('/', "")[..3]));
    let escaped = layers.map(|path| path.replace('\\', r"\\").replace(':', r"\:"));
    for kernel in [(5, 14), (6, 8)] {
        overlay_on(&place, &overlay_of(&escaped, &["ro"]), kernel).unwrap();
        for name in ["a:b", "c,d", r"e\f", "lll"] {
            assert!(place.rootfs().join(name).exists(), "{name}");
        }
        std::fs::write(place.rootfs().join("x"), "").unwrap_err();
        place.clear();
    }
}

#[test]
fn layers_are_mapped() {
    let Some(place) = Place::new("mapped") else { return };
    let layers = place.layers(60);
    let [upper, work] = ["upper", "work"].map(|name| place.folder(name, "own"));
    let [upper, work] = [format!("upperdir={upper}"), format!("workdir={work}")];
    let maps = ["uidmap=0:100000:65536", "gidmap=0:200000:65536", &upper, &work];
    for (count, kernel) in [(1, (6, 8)), (60, (6, 8)), (60, (5, 19))] {
        let one = overlay_of(&layers[..count], &maps);
        assert!(may_wait(std::slice::from_ref(&one)));
        overlay_on(&place, &one, kernel).unwrap();
        let found = place.rootfs().join("f399").metadata().or(place.rootfs().join("f59").metadata()).unwrap();
        assert_eq!((found.uid(), found.gid()), (100_000, 200_000));
        assert_eq!(place.rootfs().join("own").metadata().unwrap().uid(), 0, "the upper one is not mapped");
        assert_eq!(place.mounts(), 1);
        place.clear();
    }
}

#[test]
fn a_failure_leaves_nothing() {
    let Some(place) = Place::new("failure") else { return };
    let mut layers = place.layers(60);
    let good = mount_of("tmpfs", "tmpfs", &[]);
    layers.push("/no/such/layer".into());
    let maps = ["uidmap=0:1:1", "gidmap=0:1:1"];
    for bad in [overlay_of(&layers, &[]), overlay_of(&layers, &maps), overlay_of(&layers, &["uidmap=0:1"])] {
        assemble(&[good.clone(), bad], &place.bundle()).unwrap_err();
        place.clear();
    }
    let said = assemble(&[overlay_of(&layers, &["index=maybe"])], &place.bundle()).unwrap_err().to_string();
    assert!(said.contains("fstype: overlay: invalid argument: overlay: Bad value for 'index'"), "{said}");
}

#[test]
fn binds_have_the_flags_that_were_asked_for() {
    let Some(place) = Place::new("binds") else { return };
    let source = place.folder("source", "f");
    assemble(&[mount_of("bind", &source, &["rbind", "ro", "nodev"])], &place.bundle()).unwrap();
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let rootfs = place.rootfs().display().to_string();
    let line = table.lines().find(|line| line.contains(&rootfs)).unwrap();
    assert!(line.split(' ').nth(5).is_some_and(|flags| flags.starts_with("ro,nodev")), "{line}");
    place.clear();
    let maps = ["rbind", "uidmap=0:7:1", "gidmap=0:8:1", "ro"];
    assemble(&[mount_of("bind", &source, &maps)], &place.bundle()).unwrap();
    let found = place.rootfs().join("f").metadata().unwrap();
    assert_eq!((found.uid(), found.gid(), place.mounts()), (7, 8, 1));
    std::fs::write(place.rootfs().join("f"), "").unwrap_err();
    place.clear();
    // A file system of its own, mapped: seen through the map, both go.
    let maps = ["uidmap=0:7:1", "gidmap=0:8:1", "mode=700"];
    assemble(&[mount_of("tmpfs", "tmpfs", &maps)], &place.bundle()).unwrap();
    assert_eq!(place.rootfs().metadata().unwrap().uid(), 7);
    place.clear();
}

#[test]
fn a_target_stays_below_the_root() {
    let Some(place) = Place::new("target") else { return };
    let source = place.folder("source/a/b", "f");
    symlink("/", place.0.join("source/out")).unwrap();
    let mut inner = mount_of("tmpfs", "tmpfs", &[]);
    let outer = mount_of("bind", source.trim_end_matches("/a/b"), &["rbind"]);
    for target in ["/a/./b", "out/a/b", "../../a/b"] {
        inner.target = target.into();
        assemble(&[outer.clone(), inner.clone()], &place.bundle()).unwrap();
        assert!(!place.rootfs().join("a/b/f").exists(), "{target}");
        assert_eq!(place.mounts(), 2, "{target}");
        place.clear();
    }
    assert_eq!(below(&place.rootfs(), "/./").unwrap(), place.rootfs());
}

#[test]
fn a_file_is_mounted_by_a_loop_device() {
    let Some(place) = Place::new("loop") else { return };
    let file = place.0.join("image");
    std::fs::File::create(&file).unwrap().set_len(8 << 20).unwrap();
    let made = std::process::Command::new("mkfs.ext4").arg("-q").arg(&file).status();
    if !made.is_ok_and(|status| status.success()) {
        return;
    }
    let source = file.display().to_string();
    for options in [&["loop", "ro"][..], &["loop", "direct-io"], &["loop"]] {
        assemble(&[mount_of("ext4", &source, options)], &place.bundle()).unwrap();
        assert!(place.rootfs().join("lost+found").exists());
        assert_eq!(std::fs::write(place.rootfs().join("x"), "").is_err(), options.contains(&"ro"));
        place.clear();
    }
}

#[test]
fn a_helper_mounts_what_programs_serve() {
    let Some(place) = Place::new("helper") else { return };
    let one = mount_of("fuse3.pintle-no-such-program", "source", &["lowerdir=/x"]);
    assert!(may_wait(std::slice::from_ref(&one)));
    let said = assemble(&[one], &place.bundle()).unwrap_err().to_string();
    assert!(said.contains("mount.fuse3: "), "{said}");
}
