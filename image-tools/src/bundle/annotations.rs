//! `annotations`: what the image says of itself (conversion.md, "Annotation Fields"), its labels, and the caller's. Of two
//! with one key the caller's wins, then the label. The manifest's and the index's are not extracted.
//!
//! A runtime obeys some annotations: a label must not reach the host that way. Such a label is left out, with a warning.

use std::collections::BTreeMap;

use crate::config::Config;

/// By these (all keys that begin so) the runtimes runc, crun, pintle and Kata let a container's configuration set the
/// properties of systemd units, name files of the host, or change what runs.
const OBEYED: [&str; 6] = [
    "org.systemd.property.",
    "org.criu.config",
    "run.oci.",
    "module.wasm.image/",
    "io.katacontainers.",
    "bundle",
];

/// The annotations of a container of this image; what was left out goes to `warnings`.
pub fn annotations(
    image: &Config,
    own: &BTreeMap<String, String>,
    warnings: &mut Vec<String>,
) -> BTreeMap<String, String> {
    let ports: Vec<&str> = image.config.exposed_ports.keys().map(String::as_str).collect();
    let implicit = [
        ("os", image.os.clone()),
        ("architecture", image.architecture.clone()),
        ("variant", image.variant.clone()),
        ("os.version", image.os_version.clone()),
        ("os.features", image.os_features.join(",")),
        ("author", image.author.clone()),
        ("created", image.created.clone()),
        ("stopSignal", image.config.stop_signal.clone()),
        ("exposedPorts", ports.join(",")),
    ];
    let implicit = implicit.into_iter().filter(|(_, value)| !value.is_empty());
    let mut all: BTreeMap<String, String> =
        implicit.map(|(key, value)| (format!("org.opencontainers.image.{key}"), value)).collect();
    for (key, value) in &image.config.labels {
        match key.as_str() {
            "" => warnings.push("config.Labels: one without a name was left out".into()),
            key if is_obeyed(key) => {
                warnings.push(format!("config.Labels[{key:?}]: left out: a runtime would obey it"));
            }
            _ => drop(all.insert(key.clone(), value.clone())),
        }
    }
    all.extend(own.clone());
    all
}

fn is_obeyed(key: &str) -> bool {
    OBEYED.iter().any(|name| if name.ends_with(['.', '/']) { key.starts_with(name) } else { key == *name })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(image: &str, own: &[(&str, &str)], expect: &[(&str, &str)], left_out: usize) {
        let image = Config::parse(image.as_bytes()).unwrap();
        let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let mut warnings = Vec::new();
        assert_eq!(annotations(&image, &map(own), &mut warnings), map(expect));
        assert_eq!(warnings.len(), left_out, "{warnings:?}");
    }

    #[test]
    fn what_the_image_says_of_itself() {
        let image = r#"{"os":"linux","architecture":"arm64","variant":"v8","os.version":"1","os.features":["a","b"],
            "author":"me","created":"2026-01-01T00:00:00Z","rootfs":{"type":"layers","diff_ids":[]},
            "config":{"StopSignal":"SIGTERM","ExposedPorts":{"80/tcp":{},"53/udp":{}}}}"#;
        check(
            image,
            &[],
            &[
                ("org.opencontainers.image.architecture", "arm64"),
                ("org.opencontainers.image.author", "me"),
                ("org.opencontainers.image.created", "2026-01-01T00:00:00Z"),
                ("org.opencontainers.image.exposedPorts", "53/udp,80/tcp"),
                ("org.opencontainers.image.os", "linux"),
                ("org.opencontainers.image.os.features", "a,b"),
                ("org.opencontainers.image.os.version", "1"),
                ("org.opencontainers.image.stopSignal", "SIGTERM"),
                ("org.opencontainers.image.variant", "v8"),
            ],
            0,
        );
    }

    #[test]
    fn a_label_wins_over_the_image_and_the_caller_over_both() {
        let image = r#"{"os":"linux","author":"a","rootfs":{"type":"layers","diff_ids":[]},"config":{"Labels":
            {"org.opencontainers.image.author":"label","org.opencontainers.image.os":"label","x":"=1\n","":"no"}}}"#;
        check(
            image,
            &[("org.opencontainers.image.os", "own"), ("y", "2")],
            &[
                ("org.opencontainers.image.author", "label"),
                ("org.opencontainers.image.os", "own"),
                ("x", "=1\n"),
                ("y", "2"),
            ],
            1,
        );
    }

    #[test]
    fn labels_that_a_runtime_obeys_are_left_out() {
        let image = r#"{"rootfs":{"type":"layers","diff_ids":[]},"config":{"Labels":{"org.systemd.property.ExecStop":
            "'/bin/evil'","run.oci.hooks.stdout":"/etc/shadow","org.criu.config":"/x","bundle":"/","bundled":"ok",
            "io.katacontainers.config.hypervisor.path":"/x","module.wasm.image/variant":"compat"}}}"#;
        check(image, &[("run.oci.handler", "krun")], &[("bundled", "ok"), ("run.oci.handler", "krun")], 6);
    }
}
