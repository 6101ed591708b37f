//! `features`: what this runtime supports, independent of the host; features.md of the runtime spec. Each list
//! stands here once and holds only what is built.

use crate::error::{Context as _, Result};
use crate::plan::memory_policy;
use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};
use std::collections::BTreeMap;

const OCI_VERSIONS: (&str, &str) = ("1.0.0", "1.3.0");

const HOOKS: &[&str] =
    &["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Sorted.
const NAMESPACES: &[&str] = &["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"];

/// In the kernel's order.
const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// cgroup v2 by its filesystem, by the machine's systemd or the user's.
const CGROUP: Cgroup = Cgroup { v1: false, v2: true, systemd: true, systemd_user: true, rdma: true };

/// Of the architectures, x86's.
const SECCOMP: Seccomp = Seccomp {
    enabled: true,
    actions: crate::plan::seccomp::ACTIONS,
    operators: crate::plan::seccomp::OPERATORS,
    archs: &["SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"],
    known_flags: &[
        "SECCOMP_FILTER_FLAG_TSYNC",
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
        "SECCOMP_FILTER_FLAG_LOG",
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
    ],
    supported_flags: &[
        "SECCOMP_FILTER_FLAG_TSYNC",
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
        "SECCOMP_FILTER_FLAG_LOG",
    ],
};

/// What engines read about runc; its commit is runc's own to set.
const ANNOTATIONS: [(&str, &str); 2] =
    [("org.opencontainers.runc.checkpoint.enabled", "false"), ("org.opencontainers.runc.version", "1.5.0")];

const UNSAFE_ANNOTATIONS: &[&str] = &["bundle", "org.systemd.property.", "org.criu.config", "run.oci."];

type List = &'static [&'static str];

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Features {
    oci_version_min: &'static str,
    oci_version_max: &'static str,
    hooks: List,
    mount_options: Vec<String>,
    linux: Linux,
    annotations: BTreeMap<&'static str, &'static str>,
    potentially_unsafe_config_annotations: List,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    namespaces: List,
    capabilities: List,
    cgroup: Cgroup,
    seccomp: Seccomp,
    apparmor: Enabled,
    selinux: Enabled,
    intel_rdt: IntelRdt,
    memory_policy: MemoryPolicy,
    mount_extensions: MountExtensions,
    net_devices: Enabled,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Cgroup {
    v1: bool,
    v2: bool,
    systemd: bool,
    systemd_user: bool,
    rdma: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Seccomp {
    enabled: bool,
    actions: List,
    operators: List,
    archs: List,
    known_flags: List,
    supported_flags: List,
}

#[derive(Serialize)]
struct Enabled {
    enabled: bool,
}

/// What the runtime can do; the machine may still have no resctrl.
#[derive(Serialize)]
struct IntelRdt {
    enabled: bool,
    schemata: bool,
    monitoring: bool,
}

#[derive(Serialize)]
struct MemoryPolicy {
    modes: Vec<&'static str>,
    flags: Vec<&'static str>,
}

#[derive(Serialize)]
struct MountExtensions {
    idmap: Enabled,
}

/// Returns the JSON object with runc's keys in runc's order (4-space indent, a newline at the end).
pub fn features() -> Result<String> {
    let features = Features {
        oci_version_min: OCI_VERSIONS.0,
        oci_version_max: OCI_VERSIONS.1,
        hooks: HOOKS,
        mount_options: crate::plan::mounts::known_options(),
        linux: Linux {
            namespaces: NAMESPACES,
            capabilities: CAPABILITIES,
            cgroup: CGROUP,
            seccomp: SECCOMP,
            apparmor: Enabled { enabled: true },
            selinux: Enabled { enabled: true },
            intel_rdt: IntelRdt { enabled: true, schemata: true, monitoring: true },
            memory_policy: MemoryPolicy {
                modes: memory_policy::modes().collect(),
                flags: memory_policy::flags().collect(),
            },
            mount_extensions: MountExtensions { idmap: Enabled { enabled: true } },
            net_devices: Enabled { enabled: true },
        },
        annotations: BTreeMap::from(ANNOTATIONS),
        potentially_unsafe_config_annotations: UNSAFE_ANNOTATIONS,
    };
    let mut out = Vec::new();
    let mut json = Serializer::with_formatter(&mut out, PrettyFormatter::with_indent(b"    "));
    features.serialize(&mut json).map_err(std::io::Error::from).context("features")?;
    out.push(b'\n');
    Ok(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted_and_complete() {
        assert!(NAMESPACES.is_sorted());
        let mut known: Vec<_> = caps::all().into_iter().collect();
        known.sort_by_key(|capability| capability.index());
        let known: Vec<_> = known.iter().map(ToString::to_string).collect();
        assert_eq!(CAPABILITIES, known);
    }

    #[test]
    fn the_oci_spec_crate_reads_it() {
        let text = features().unwrap();
        assert!(
            text.starts_with("{\n    \"ociVersionMin\": \"1.0.0\",\n    \"ociVersionMax\": \"1.3.0\",\n")
        );
        serde_json::from_str::<oci_spec::runtime::Features>(&text).unwrap();
    }
}
