//! What no attack may change, however it ends: the runtime's binary, and the host's mounts, devices and kernel
//! parameters. Every test of a hole holds an [`Attack`], which looks before and after; a difference fails the test.

use pintle_tests::*;
use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A sandbox to attack from, and the machine as it was before.
pub struct Attack {
    sandbox: Sandbox,
    before: Machine,
}

impl Attack {
    /// An attack by root, through what an image or a volume holds.
    pub fn new() -> Self {
        Self::on(Sandbox::new())
    }

    /// An attack in this sandbox.
    pub fn on(sandbox: Sandbox) -> Self {
        let before = Machine::look(&sandbox.dir);
        Self { sandbox, before }
    }
}

impl Deref for Attack {
    type Target = Sandbox;
    fn deref(&self) -> &Sandbox {
        &self.sandbox
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return; // one complaint is enough
        }
        // Others work on the same machine: what counts is what stays.
        let begin = Instant::now();
        loop {
            let changes = self.before.changes(&Machine::look(&self.sandbox.dir));
            if changes.is_empty() {
                return;
            }
            assert!(
                begin.elapsed() < Duration::from_secs(5),
                "the attack changed the host:\n{}",
                changes.join("\n")
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// All that is compared, each thing with what is known of it.
struct Machine {
    things: BTreeMap<String, String>,
    parameters: BTreeMap<PathBuf, String>,
}

impl Machine {
    fn look(own: &Path) -> Self {
        let mut things = BTreeMap::new();
        let binary = Runtime::under_test().binary();
        things.insert(format!("binary {}", binary.display()), fingerprint(&binary));
        for mount in mounts().into_iter().filter(|mount| !is_of_another_test(mount, own)) {
            things.insert(format!("mount {mount}"), String::new());
        }
        devices(Path::new("/dev"), &mut things);
        let mut parameters = BTreeMap::new();
        gather_parameters(Path::new("/proc/sys"), &mut parameters);
        Self { things, parameters }
    }

    fn changes(&self, now: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        for (thing, known) in &self.things {
            match now.things.get(thing) {
                None => changes.push(format!("gone: {thing}")),
                Some(other) if other != known => changes.push(format!("{thing}: {known} became {other}")),
                Some(_) => {}
            }
        }
        let new = now.things.keys().filter(|thing| !self.things.contains_key(*thing));
        changes.extend(new.map(|thing| format!("new: {thing}")));
        // Devices bring parameters and take them along: what is there both times is compared.
        for (path, known) in &self.parameters {
            let other = now.parameters.get(path).filter(|other| *other != known);
            changes.extend(other.map(|other| format!("{}: {known:?} became {other:?}", path.display())));
        }
        changes
    }
}

/// Content, place and rights.
fn fingerprint(file: &Path) -> String {
    let mut hasher = DefaultHasher::new();
    fs::read(file).expect("the binary can be read").hash(&mut hasher);
    let meta = fs::metadata(file).expect("the binary is there");
    format!("{:x} {}:{} {:o}", hasher.finish(), meta.dev(), meta.ino(), meta.mode())
}

/// The tests beside this one mount things in their own sandboxes.
fn is_of_another_test(mount: &str, own: &Path) -> bool {
    let point = Path::new(mount.split(' ').nth(4).unwrap_or_default());
    let inside = point.strip_prefix(std::env::temp_dir()).ok().and_then(|rest| rest.iter().next());
    inside.is_some_and(|name| name.to_string_lossy().starts_with("pt")) && !point.starts_with(own)
}

/// Every name in /dev but those of terminals and of memory that is shared, which come and go.
fn devices(dir: &Path, things: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        let inode = if meta.is_dir() { 0 } else { meta.ino() };
        let link = fs::read_link(&path).unwrap_or_default();
        let known = format!(
            "{:o} {:x} {}:{} {inode} {}",
            meta.mode(),
            meta.rdev(),
            meta.uid(),
            meta.gid(),
            link.display()
        );
        things.insert(format!("device {}", path.display()), known);
        let passing = ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/hugepages"];
        if meta.is_dir() && !passing.contains(&&*path.to_string_lossy()) {
            devices(&path, things);
        }
    }
}

/// What root can write there, but what the kernel writes itself.
fn gather_parameters(dir: &Path, parameters: &mut BTreeMap<PathBuf, String>) {
    const CHANGING: [&str; 5] = [
        "/proc/sys/kernel/ns_last_pid",
        "/proc/sys/kernel/random",
        "/proc/sys/kernel/perf_event_max_sample_rate",
        "/proc/sys/vm/stat_refresh",
        // Somebody may have put an automatic mount there.
        "/proc/sys/fs/binfmt_misc",
    ];
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        if CHANGING.contains(&&*path.to_string_lossy()) {
            continue;
        }
        if kind.is_dir() {
            gather_parameters(&path, parameters);
        } else if entry.metadata().is_ok_and(|meta| meta.mode() & 0o600 == 0o600) {
            parameters.extend(fs::read_to_string(&path).map(|value| (path, value)));
        }
    }
}

/// A folder of the host that an attack aims at, with a file in it. Nothing may come into it, nothing be changed.
pub struct Target {
    /// The folder.
    pub dir: PathBuf,
    before: BTreeMap<PathBuf, String>,
}

impl Target {
    /// A new one in the sandbox, which holds `secret` and these folders.
    pub fn new(t: &Sandbox, name: &str, folders: &[&str]) -> Self {
        let dir = t.dir.join(name);
        fs::create_dir(&dir).expect("a folder");
        folders.iter().for_each(|folder| fs::create_dir_all(dir.join(folder)).expect("a folder"));
        fs::write(dir.join("secret"), "of the host").expect("a file");
        fs::write(dir.join("ptmx"), "of the host").expect("a file");
        let before = Self::look(&dir);
        Self { dir, before }
    }

    fn look(dir: &Path) -> BTreeMap<PathBuf, String> {
        let mut all = BTreeMap::new();
        let mut open = vec![dir.to_owned()];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
                let meta = entry.metadata().expect("an entry");
                // Not of what an attack may have put there: a device has no end.
                let file = meta.is_file().then(|| fs::read_to_string(entry.path()));
                let text = file.and_then(Result::ok).unwrap_or_default();
                all.insert(entry.path(), format!("{:o} {} {text}", meta.mode(), meta.ino()));
                if meta.is_dir() {
                    open.push(entry.path());
                }
            }
        }
        all
    }

    /// Demands that all is as it was: names, inodes, contents.
    #[track_caller]
    pub fn is_untouched(&self) {
        assert_eq!(self.before, Self::look(&self.dir), "a folder of the host was changed");
    }
}
