//! Where everything is: the checkout, the daemon's programs, the shim under test and its runtime, a scratch folder.

use crate::record;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Which shim, with its runtime, is being judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shim {
    /// containerd-shim-pintle-v1 and pintle.
    Pintle,
    /// The daemon's own containerd-shim-runc-v2, and runc.
    Runc,
}

impl Shim {
    /// As `SHIM_UNDER_TEST` says.
    pub fn under_test() -> Self {
        match env::var("SHIM_UNDER_TEST").as_deref() {
            Ok("pintle") => Self::Pintle,
            Ok("runc") => Self::Runc,
            other => panic!("SHIM_UNDER_TEST is {other:?}, not pintle or runc"),
        }
    }

    /// What `ctr run --runtime` calls it.
    pub fn runtime_name(self) -> &'static str {
        match self {
            Self::Pintle => "io.containerd.pintle.v1",
            Self::Runc => RUNC_NAME,
        }
    }

    /// The binary.
    pub fn program(self) -> PathBuf {
        match self {
            Self::Pintle => given("PINTLE_SHIM").unwrap_or_else(|| release("containerd-shim-pintle-v1")),
            Self::Runc => daemon_program("containerd-shim-runc-v2"),
        }
    }

    /// The binary of its runtime.
    pub fn runtime(self) -> PathBuf {
        match self {
            Self::Pintle => given("PINTLE").unwrap_or_else(|| release("pintle")),
            Self::Runc => oracles().join("bin/runc"),
        }
    }
}

/// The name under which ctr passes options to any shim; pintle's takes it, too.
pub const RUNC_NAME: &str = "io.containerd.runc.v2";

/// The image of all checks, in every namespace.
pub const IMAGE: &str = "docker.io/test/busybox:1";

/// `host` or `newest`, as `CONTAINERD_UNDER_TEST` says.
pub fn containerd() -> String {
    env::var("CONTAINERD_UNDER_TEST").unwrap_or_else(|_| "host".into())
}

/// The checkout that this was built from.
pub fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("integration/engines lies in the checkout")
}

/// Programs that are not ours: `ENGINES_ORACLES`, or target/oracles.
fn oracles() -> PathBuf {
    given("ENGINES_ORACLES").unwrap_or_else(|| checkout().join("target/oracles"))
}

/// Whether this is the test machine, with every controller and systemd, as `ENGINES_MACHINE` says.
pub fn in_machine() -> bool {
    env::var_os("ENGINES_MACHINE").is_some()
}

/// Whether containers have this controller in the unified hierarchy.
pub fn has_controller(name: &str) -> bool {
    let all = fs::read_to_string("/sys/fs/cgroup/cgroup.subtree_control").unwrap_or_default();
    all.split_whitespace().any(|c| c == name)
}

/// `containerd`, `ctr` or `containerd-shim-runc-v2` of the daemon under test.
pub fn daemon_program(name: &str) -> PathBuf {
    oracles().join("engines").join(containerd()).join("bin").join(name)
}

/// The archive that daemons import.
pub fn image() -> PathBuf {
    checkout().join("target/engines/image.tar")
}

/// A static busybox, for programs outside containers that must need nothing.
pub fn busybox() -> PathBuf {
    oracles().join("engines/busybox")
}

/// The folder of everything that is written. Short, because sockets lie in it.
pub fn scratch() -> PathBuf {
    env::temp_dir()
}

/// A folder of links for a daemon's PATH: the shim under both names that it may have, its runtime, and nothing else of the
/// kind, so that no other is taken by mistake.
pub fn programs() -> PathBuf {
    let dir = scratch().join("bin");
    let shim = Shim::under_test();
    let program = given(record::PROGRAM).unwrap_or_else(|| shim.program());
    let links: &[(&str, PathBuf)] = match shim {
        Shim::Pintle => &[
            ("containerd-shim-pintle-v1", program.clone()),
            ("containerd-shim-runc-v2", program),
            ("pintle", shim.runtime()),
        ],
        Shim::Runc => &[("containerd-shim-runc-v2", program), ("runc", shim.runtime())],
    };
    if fs::create_dir(&dir).is_ok() {
        for (name, target) in links {
            assert!(target.exists(), "{} is missing", target.display());
            std::os::unix::fs::symlink(target, dir.join(name)).expect("a link");
        }
    }
    dir
}

fn given(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).map(|path| fs::canonicalize(&path).unwrap_or_else(|e| panic!("{path:?}: {e}")))
}

fn release(name: &str) -> PathBuf {
    checkout().join("target/x86_64-unknown-linux-gnu/release").join(name)
}
