//! Builds init's image, a freestanding program, with a cargo of its own: other flags, no standard library, and a
//! target directory inside this build's. Works offline once the dependencies are there (they are the workspace's).

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let manifest =
        Path::new(&env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("init/image/Cargo.toml");
    let target = Path::new(&out).join("init");
    let status = Command::new(env::var("CARGO").expect("cargo sets CARGO"))
        .args(["build", "--release", "--quiet", "--target", "x86_64-unknown-linux-gnu", "--manifest-path"])
        .arg(&manifest)
        .arg("--target-dir")
        .arg(&target)
        // The workspace's flags and wrappers are for programs with a libc.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTC_WRAPPER")
        .env("RUSTFLAGS", FLAGS.join(" "))
        .status()
        .expect("cargo runs");
    assert!(status.success(), "init's image does not build");
    let image = target.join("x86_64-unknown-linux-gnu/release/pintle-init");
    println!("cargo::rustc-env=PINTLE_INIT_IMAGE={}", image.display());
    for path in ["build.rs", "init", "sys"] {
        println!("cargo::rerun-if-changed={path}");
    }
}

/// Static, without libc and its start files, at a fixed address: nothing to relocate, nothing to load.
const FLAGS: [&str; 6] = [
    "-Crelocation-model=static",
    "-Clink-arg=-nostartfiles",
    "-Clink-arg=-nostdlib",
    "-Clink-arg=-static",
    "-Clink-arg=-no-pie",
    "-Clink-arg=-Wl,--build-id=none,-z,noseparate-code,-z,norelro",
];
