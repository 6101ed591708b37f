//! `spec`: the default config.json, which is runc's to the byte; one text for root and one for everybody else.

use crate::error::{Context as _, Error, Result};
use rustix::fs::{Mode, OFlags, open, openat};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

const DEFAULT: &str = include_str!("spec/config.json");
const ROOTLESS: &str = include_str!("spec/rootless.json");

/// Where the rootless text maps the caller: two numbers that stand nowhere else in it.
const UID: &str = "4294967295";
const GID: &str = "4294967294";

/// Writes config.json into `bundle`, which must not have one.
pub fn spec(bundle: &Path, rootless: bool) -> Result<()> {
    let text = text(rootless);
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let bundle =
        open(bundle, directory, Mode::empty()).with_context(|| format!("chdir {}", bundle.display()))?;
    let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = match openat(bundle, "config.json", new, Mode::from_raw_mode(0o666)) {
        Err(Errno::EXIST) => return Err(Error::new("File config.json exists. Remove it first")),
        file => file.context("open config.json")?,
    };
    File::from(file).write_all(text.as_bytes()).context("write config.json")
}

/// With a cgroup namespace, as runc has it on cgroup v2: pintle drives nothing else.
fn text(rootless: bool) -> String {
    let text = if rootless { ROOTLESS } else { DEFAULT };
    text.replace(UID, &geteuid().to_string()).replace(GID, &getegid().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn parsed(rootless: bool) -> Value {
        serde_json::from_str(&text(rootless)).unwrap()
    }

    #[test]
    fn rootless_maps_the_caller() {
        let spec = parsed(true);
        let mapping = |id: u32| json!([{"containerID": 0, "hostID": id, "size": 1}]);
        assert_eq!(spec["linux"]["uidMappings"], mapping(geteuid().as_raw()));
        assert_eq!(spec["linux"]["gidMappings"], mapping(getegid().as_raw()));
        assert_eq!(spec["linux"].get("resources"), None);
    }

    #[test]
    fn the_oci_spec_crate_reads_both() {
        for rootless in [false, true] {
            serde_json::from_str::<oci_spec::runtime::Spec>(&text(rootless)).unwrap();
        }
    }

    #[test]
    fn an_existing_config_is_not_touched() {
        let bundle = std::env::temp_dir().join(format!("pintle-spec-{}", std::process::id()));
        std::fs::create_dir(&bundle).unwrap();
        let first = spec(&bundle, false);
        let second = spec(&bundle, true).unwrap_err().to_string();
        let written = std::fs::read_to_string(bundle.join("config.json")).unwrap();
        std::fs::remove_dir_all(&bundle).unwrap();
        assert!(first.is_ok());
        assert_eq!(second, "File config.json exists. Remove it first");
        assert_eq!(written, text(false));
        let missing = spec(&bundle, false).unwrap_err().to_string();
        assert_eq!(missing, format!("chdir {}: no such file or directory", bundle.display()));
    }
}
