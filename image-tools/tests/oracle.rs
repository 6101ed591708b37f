//! The programs that pintle-image is compared with, run in their own root folder (tests/image-oracle), and the images of
//! tests/image-layouts.sh. Where they are missing, a test is skipped with a line that says so.

use crate::layout;
use crate::tree::{self, Tree};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A test's own folder, gone when it ends, with the oracles and the images at hand.
pub struct Bench {
    pub place: PathBuf,
}

impl Bench {
    /// None if this host lacks what is compared with; then a line starting with SKIP tells, which tests/all.sh counts.
    pub fn new(test: &str) -> Option<Self> {
        let missing = ["images", "image-layouts"]
            .map(|name| checkout().join("target/oracles").join(name).join("complete"));
        let reason = if !rustix::process::geteuid().is_root() {
            "needs root"
        } else if missing.iter().any(|mark| !mark.exists()) {
            "no oracles: make image-oracles"
        } else {
            // Not in /tmp, which may be too small. A colon would part names and options.
            let name = test.replace(':', "-");
            let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
            fs::create_dir_all(&place).expect("a folder for the test");
            return Some(Self { place });
        };
        skip(test, reason);
        None
    }

    /// What a program of the oracles prints; it has to succeed.
    pub fn run(&self, words: &[&str]) -> String {
        let output = self.oracle(words).output().expect("tests/image-oracle");
        text(words, &output)
    }

    fn oracle(&self, words: &[&str]) -> Command {
        let mut command = Command::new(checkout().join("tests/image-oracle"));
        command.args(words).current_dir(&self.place);
        command
    }

    /// What pintle-image prints, with a store of this test's own; it has to succeed.
    pub fn pintle(&self, words: &[&str]) -> String {
        text(words, &self.pintle_command(words).output().expect("pintle-image"))
    }

    /// Takes what pintle-image mounted away.
    pub fn unmount(&self, folder: &str) {
        layout::unmount(&mut self.pintle_command(&["umount", folder]));
    }

    fn pintle_command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(layout::PROGRAM);
        command.arg("--root").arg(self.place.join("store")).args(words).current_dir(&self.place);
        command
    }

    /// Changes a mounted tree by words of a shell, with the tools of the oracles; the host may lack some.
    pub fn change(&self, root: &str, words: &str) {
        self.run(&["sh", "-euc", &format!("cd \"$1\"; {words}"), "sh", root]);
    }

    /// The flat tree of umoci, which `image` names as `LAYOUT:TAG`.
    pub fn umoci(&self, image: &str) -> Tree {
        let rootfs = self.path("umoci");
        self.run(&["umoci", "raw", "unpack", "--image", image, &rootfs]);
        read(&rootfs)
    }

    /// The tree that podman mounts, after skopeo copied the image, named as skopeo does, into overlay storage.
    pub fn podman(&self, image: &str) -> Tree {
        self.mounted(
            r#"skopeo copy --quiet "$1" "containers-storage:[overlay@$PWD/podman+$PWD/podman-run]pintle.test/image:1"
            podman --root "$PWD/podman" --runroot "$PWD/podman-run" image mount pintle.test/image:1"#,
            image,
        )
    }

    /// The tree that podman mounts, after it loaded an archive itself.
    pub fn podman_load(&self, archive: &str) -> Tree {
        self.mounted(
            r#"podman() { command podman --root "$PWD/loaded" --runroot "$PWD/loaded-run" "$@"; }
            podman load --quiet --input "$1" >&2
            podman image mount "$(podman images --quiet --no-trunc | head -1)""#,
            archive,
        )
    }

    /// The tree that containerd mounts, after `ctr images import` of an archive.
    pub fn containerd(&self, archive: &str) -> Tree {
        self.mounted(
            r#"mkdir ctr; cd ctr
            printf '%s\n' 'version = 3' "root = '$PWD/root'" "state = '$PWD/state'" \
                "disabled_plugins = ['io.containerd.cri.v1.runtime', 'io.containerd.cri.v1.images', 'io.containerd.grpc.v1.cri']" \
                '[grpc]' "address = '$PWD/socket'" '[ttrpc]' "address = '$PWD/ttrpc'" >config
            containerd --config config --log-level error >&2 & trap "kill $!; wait $!" EXIT
            i=0; while [ ! -S socket ] && [ $i -lt 1200 ]; do sleep 0.1; i=$((i+1)); done; [ -S socket ]
            ctr() { command ctr --address "$PWD/socket" "$@"; }
            ctr images import --index-name pintle.test/image:1 "$1" >&2
            mkdir mounted
            ctr images mount "$(ctr images list --quiet | tail -1)" "$PWD/mounted" >&2
            echo "$PWD/mounted""#,
            archive,
        )
    }

    /// Runs a shell's words whose last line is a folder, and looks at that folder in the view of the shell.
    fn mounted(&self, words: &str, image: &str) -> Tree {
        let script = format!("set -eu; {{ {words}\n}} </dev/null; read -r _");
        let mut child = self
            .oracle(&["bash", "-c", &script, "bash", image])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(self.place.join("mounted.err")).expect("a file"))
            .spawn()
            .expect("tests/image-oracle");
        let said = BufReader::new(child.stdout.take().expect("a pipe")).lines().map_while(Result::ok).next();
        let Some(folder) = said else {
            let _ended = child.wait();
            panic!(
                "{words} {image}: {}",
                fs::read_to_string(self.place.join("mounted.err")).unwrap_or_default()
            );
        };
        let tree = read(&format!("/proc/{}/root{folder}", child.id()));
        end(child);
        tree
    }

    /// A path in the test's folder.
    pub fn path(&self, name: &str) -> String {
        self.place.join(name).display().to_string()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // What a failing test mounted here would keep its folder.
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for target in mounts.lines().rev().filter_map(|line| line.split(' ').nth(4)) {
            if Path::new(target).starts_with(&self.place) {
                let _busy = rustix::mount::unmount(target, rustix::mount::UnmountFlags::DETACH);
            }
        }
        let _left = fs::remove_dir_all(&self.place);
    }
}

/// An image of tests/image-layouts.sh: a layout's folder, or an archive.
pub fn image(name: &str) -> String {
    checkout().join("target/oracles/image-layouts").join(name).display().to_string()
}

/// The tree below a folder.
pub fn read(folder: &str) -> Tree {
    tree::walk(Path::new(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"))
}

/// Says why a test shows nothing here. Past libtest, which would keep it for itself.
pub fn skip(test: &str, reason: &str) {
    // Nobody reads a closed stream.
    let _closed = writeln!(std::io::stdout(), "SKIP {test}: {reason}");
}

fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("image-tools lies in the checkout")
}

/// The shell waits for a line.
fn end(mut child: Child) {
    drop(child.stdin.take());
    child.wait().expect("the shell ends");
}

fn text(words: &[&str], output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {}\n{errors}", output.status);
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}
