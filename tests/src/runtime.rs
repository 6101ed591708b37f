//! The binary under test, and where the checkout's own things are.

use std::fmt;
use std::path::{Path, PathBuf};

/// Which runtime the tests call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// Ours: the release binary of this checkout, or the path in `PINTLE`. So for the oracles, in `RUNC` and `CRUN`.
    Pintle,
    /// The first oracle, unpacked by `make oracles`.
    Runc,
    /// The second oracle, unpacked by `make oracles`.
    Crun,
}

impl Runtime {
    /// What `RUNTIME_UNDER_TEST` names; pintle without it.
    pub fn under_test() -> Self {
        match std::env::var("RUNTIME_UNDER_TEST").as_deref() {
            Err(_) | Ok("" | "pintle") => Self::Pintle,
            Ok("runc") => Self::Runc,
            Ok("crun") => Self::Crun,
            Ok(other) => panic!("RUNTIME_UNDER_TEST={other}: pintle, runc or crun"),
        }
    }

    /// The binary.
    pub fn binary(self) -> PathBuf {
        let (variable, file, make) = match self {
            Self::Pintle => ("PINTLE", "target/release/pintle", "cargo build --release builds it"),
            Self::Runc => ("RUNC", "target/oracles/bin/runc", "make oracles unpacks it"),
            Self::Crun => ("CRUN", "target/oracles/bin/crun", "make oracles unpacks it"),
        };
        let (path, make) = match std::env::var_os(variable) {
            Some(path) => (PathBuf::from(path), format!("{variable} names it")),
            None => (checkout().join(file), make.to_owned()),
        };
        assert!(path.exists(), "{} is missing: {make}", path.display());
        path
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pintle => "pintle",
            Self::Runc => "runc",
            Self::Crun => "crun",
        })
    }
}

/// The root of the checkout.
pub fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the checkout")
}

/// The probe that cargo built beside the tests.
pub(crate) fn probe() -> PathBuf {
    let exe = std::env::current_exe().expect("the tests know their own path");
    let path = exe.parent().and_then(Path::parent).map(|d| d.join("probe")).expect("target/…/deps/<test>");
    assert!(path.exists(), "{} is missing: cargo builds it with the tests", path.display());
    path
}
