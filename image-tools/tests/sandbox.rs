//! What the tests run on: a temporary folder, the runtime that this checkout built (or `PINTLE` names), a root file system
//! of a static busybox. Where one is missing, the test says `SKIP` and why.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use pintle_tests::{copy_program, static_busybox};

static SANDBOXES: AtomicU32 = AtomicU32::new(0);

/// A folder that goes with the test.
pub struct Sandbox {
    /// The folder.
    pub dir: PathBuf,
    runtime: PathBuf,
    name: String,
}

/// What a program said.
#[derive(Debug)]
pub struct Output {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Sandbox {
    /// Nothing where the machine or the checkout lacks something, which is printed.
    pub fn new() -> Option<Self> {
        let lacks = |what: &str| {
            crate::oracle::skip("a container", what);
            None
        };
        if !rustix::process::geteuid().is_root() {
            return lacks("containers are started by root here");
        }
        let Some(runtime) = runtime() else { return lacks("no pintle was built; PINTLE may name one") };
        let busybox = static_busybox()?;
        let name = format!("pit{}-{}", std::process::id(), SANDBOXES.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(&name);
        let rootfs = dir.join("bundle/rootfs");
        for folder in ["bin", "etc", "proc", "sys", "dev", "tmp"] {
            fs::create_dir_all(rootfs.join(folder)).expect("a rootfs can be made");
        }
        copy_program(busybox, rootfs.join("bin/busybox"));
        symlink("busybox", rootfs.join("bin/sh")).expect("a link");
        Some(Self { dir, runtime, name })
    }

    pub fn bundle(&self) -> PathBuf {
        self.dir.join("bundle")
    }

    /// A path of the root file system, from outside.
    pub fn inside(&self, path: &str) -> PathBuf {
        self.bundle().join("rootfs").join(path.trim_start_matches('/'))
    }

    /// The runtime to its end, with a state of its own.
    pub fn runtime(&self, args: &[&str]) -> Output {
        finish(Command::new(&self.runtime).arg("--root").arg(self.dir.join("state")).args(args))
    }

    /// Runs the bundle.
    pub fn run(&self) -> Output {
        self.runtime(&["run", "--bundle", &self.bundle().to_string_lossy(), &self.name])
    }

    /// Runs the bundle as this user, whom everything is given to.
    pub fn run_as(&self, user: u32) -> Output {
        let runtime = self.dir.join("runtime");
        copy_program(&self.runtime, &runtime);
        give(&self.dir, user);
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(runtime);
        command.uid(user).gid(user).current_dir(&self.dir).env("XDG_RUNTIME_DIR", &self.dir);
        finish(command.args(["--root", "state", "run", "--bundle", "bundle", &self.name]))
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.runtime(&["delete", "--force", &self.name]);
        if let Err(e) = fs::remove_dir_all(&self.dir) {
            eprintln!("{}: {e}", self.dir.display());
        }
    }
}

fn give(path: &Path, user: u32) {
    std::os::unix::fs::lchown(path, Some(user), Some(user)).expect("root can chown");
    if path.is_dir() && !path.is_symlink() {
        fs::read_dir(path).expect("a folder").flatten().for_each(|entry| give(&entry.path(), user));
    }
}

fn finish(command: &mut Command) -> Output {
    let output = command.stdin(std::process::Stdio::null()).output().expect("the runtime starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Output { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

fn runtime() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("PINTLE") {
        return Some(path.into());
    }
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?.join("target");
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let places = [target.join(triple).join("release/pintle"), target.join("release/pintle")];
    places.into_iter().find(|path| path.exists())
}

/// Gives a path to a user and a group.
pub fn own(path: &Path, user: u32, group: u32) {
    chown(path, Some(user), Some(group)).expect("root can chown");
}
