//! config.json as written. The types are those of the oci-spec crate where they are as lenient as runc; where they are
//! stricter (closed enums for names that runc only warns about) or do not take `null`, this module has its own. It never
//! decides anything, and the text is never edited before it is parsed.

mod duplicates;
pub mod keys;
pub mod seccomp;

use crate::bail;
use crate::error::{Context, Error, Result};
use keys::AnyCase;
pub use oci_spec::runtime::{
    Hook, Hooks, LinuxDevice, LinuxDeviceType, LinuxIOPriority, LinuxIdMapping, LinuxIdMappingBuilder,
    LinuxIntelRdt, LinuxNamespace, LinuxNamespaceType, LinuxNetDevice, LinuxPersonality,
    LinuxPersonalityDomain, LinuxResources, LinuxSchedulerPolicy, LinuxTimeOffset,
};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The version of the runtime specification that this runtime implements.
pub const VERSION: &str = "1.3.0";

/// A config.json larger than this is refused: it would only be there to use up memory.
const SIZE_LIMIT: u64 = 64 << 20;

/// The root object of config.json (config.md).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "the specification's names")]
pub struct Spec {
    pub oci_version: Option<String>,
    pub root: Option<Root>,
    pub mounts: Option<Vec<Mount>>,
    pub process: Option<Process>,
    pub hostname: Option<String>,
    pub domainname: Option<String>,
    pub hooks: Option<Hooks>,
    pub annotations: Option<BTreeMap<String, String>>,
    pub linux: Option<Linux>,
}

impl Spec {
    /// Whether the container has such a namespace, new or joined, rather than the runtime's own.
    pub fn has_namespace(&self, kind: LinuxNamespaceType) -> bool {
        let list = self.linux.as_ref().and_then(|linux| linux.namespaces.as_deref()).unwrap_or_default();
        list.iter().any(|namespace| namespace.typ() == kind)
    }
}

/// `root`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "the specification's names")]
pub struct Root {
    pub path: Option<String>,
    pub readonly: Option<bool>,
}

/// An element of `mounts`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "the specification's names")]
pub struct Mount {
    pub destination: Option<String>,
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub source: Option<String>,
    pub options: Option<Vec<String>>,
    pub uid_mappings: Option<Vec<LinuxIdMapping>>,
    pub gid_mappings: Option<Vec<LinuxIdMapping>>,
}

/// `process`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "the specification's names")]
pub struct Process {
    pub terminal: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_size: Option<ConsoleSize>,
    pub user: Option<User>,
    pub args: Option<Vec<String>>,
    pub env: Option<Vec<String>>,
    pub cwd: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rlimits: Option<Vec<Rlimit>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_new_privileges: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apparmor_profile: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selinux_label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_priority: Option<LinuxIOPriority>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Scheduler>,
    #[serde(rename = "execCPUAffinity", skip_serializing_if = "Option::is_none")]
    pub exec_cpu_affinity: Option<CpuAffinity>,
}

/// `process.execCPUAffinity`: lists of processors as written; the crate's own refuses some that runc takes.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the specification's names")]
pub struct CpuAffinity {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#final: Option<String>,
}

impl CpuAffinity {
    /// Names no processors at all, which is as good as absent.
    pub fn is_empty(&self) -> bool {
        [&self.initial, &self.r#final].iter().all(|list| list.as_deref().unwrap_or_default().is_empty())
    }
}

/// `process.scheduler`; the crate's own names a flag otherwise than the specification.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[allow(missing_docs, reason = "the specification's names")]
pub struct Scheduler {
    pub policy: LinuxSchedulerPolicy,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nice: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<SchedulerFlag>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<u64>,
}

/// An element of `process.scheduler.flags`, sched_setattr(2)
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[allow(missing_docs, reason = "the specification's names")]
pub enum SchedulerFlag {
    #[serde(rename = "SCHED_FLAG_RESET_ON_FORK")]
    ResetOnFork,
    #[serde(rename = "SCHED_FLAG_RECLAIM")]
    Reclaim,
    #[serde(rename = "SCHED_FLAG_DL_OVERRUN")]
    DeadlineOverrun,
    #[serde(rename = "SCHED_FLAG_KEEP_POLICY")]
    KeepPolicy,
    #[serde(rename = "SCHED_FLAG_KEEP_PARAMS")]
    KeepParams,
    #[serde(rename = "SCHED_FLAG_UTIL_CLAMP_MIN")]
    UtilClampMin,
    #[serde(rename = "SCHED_FLAG_UTIL_CLAMP_MAX")]
    UtilClampMax,
}

/// `process.consoleSize`, in characters
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the specification's names")]
pub struct ConsoleSize {
    pub height: u16,
    pub width: u16,
}

/// `process.user`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "the specification's names")]
pub struct User {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub additional_gids: Option<Vec<u32>>,
}

/// `process.capabilities`: names as written, since unknown ones only deserve a warning.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the specification's names")]
pub struct Capabilities {
    pub bounding: Option<Vec<String>>,
    pub effective: Option<Vec<String>>,
    pub inheritable: Option<Vec<String>>,
    pub permitted: Option<Vec<String>>,
    pub ambient: Option<Vec<String>>,
}

/// An element of `process.rlimits`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the specification's names")]
pub struct Rlimit {
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub hard: Option<u64>,
    pub soft: Option<u64>,
}

/// `linux`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "the specification's names")]
pub struct Linux {
    pub namespaces: Option<Vec<LinuxNamespace>>,
    pub uid_mappings: Option<Vec<LinuxIdMapping>>,
    pub gid_mappings: Option<Vec<LinuxIdMapping>>,
    pub time_offsets: Option<BTreeMap<String, LinuxTimeOffset>>,
    pub devices: Option<Vec<LinuxDevice>>,
    pub net_devices: Option<BTreeMap<String, LinuxNetDevice>>,
    pub cgroups_path: Option<String>,
    pub resources: Option<LinuxResources>,
    pub sysctl: Option<BTreeMap<String, String>>,
    pub seccomp: Option<seccomp::Profile>,
    pub rootfs_propagation: Option<String>,
    pub masked_paths: Option<Vec<String>>,
    pub readonly_paths: Option<Vec<String>>,
    pub mount_label: Option<String>,
    pub personality: Option<LinuxPersonality>,
    pub memory_policy: Option<MemoryPolicy>,
    pub intel_rdt: Option<LinuxIntelRdt>,
}

/// `linux.memoryPolicy`: names as written, for runc's words about unknown ones.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the specification's names")]
pub struct MemoryPolicy {
    pub mode: Option<String>,
    pub nodes: Option<String>,
    pub flags: Option<Vec<String>>,
}

/// Reads `config.json` of a bundle.
///
/// # Errors
/// That there is none; that it is no regular file or too large; where in it a value does not fit, by its JSON path.
pub fn load(bundle: &Path) -> Result<Spec> {
    let path = bundle.join("config.json");
    let text = match read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if let Err(error) = std::fs::metadata(bundle) {
                return Err(Error::from(error)).context(format_args!("chdir {}", bundle.display()));
            }
            bail!("JSON specification file config.json not found")
        }
        Err(error) => return Err(Error::from(error)).context(path.display()),
    };
    parse(&text, "config.json")
}

/// Reads a process object (`exec --process`).
///
/// # Errors
/// As for [`load`].
pub fn load_process(path: &Path) -> Result<Process> {
    let text = read_any(path).with_context(|| format!("open {}", path.display()))?;
    parse(&text, &path.display().to_string())
}

/// Reads a process object that came from elsewhere than a file.
///
/// # Errors
/// What is no process, with the place in the JSON.
pub fn parse_process(text: &[u8]) -> Result<Process> {
    parse(text, "process")
}

/// What the caller names on the command line may be a pipe, too, and is waited for.
fn read_any(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(SIZE_LIMIT).read_to_end(&mut text)?;
    Ok(text)
}

/// The bytes of a file that may be anything: a fifo would block, a device never ends.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    if metadata.len() > SIZE_LIMIT {
        return Err(std::io::Error::other(format!("larger than {SIZE_LIMIT} bytes")));
    }
    let mut text = Vec::with_capacity(metadata.len() as usize + 1);
    file.take(SIZE_LIMIT).read_to_end(&mut text)?;
    Ok(text)
}

/// Parses JSON; an error names the place: `config.json: linux.namespaces[2].type: unknown variant …`.
///
/// # Errors
/// A syntax error with line and column, or a value that does not fit with its JSON path.
pub fn parse<T: DeserializeOwned>(text: &[u8], name: &str) -> Result<T> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    if let Ok(value) = T::deserialize(AnyCase(&mut reader))
        && reader.end().is_ok()
    {
        return Ok(value);
    }
    let mut reader = serde_json::Deserializer::from_slice(text);
    if IgnoredAny::deserialize(&mut reader).is_ok() && reader.end().is_err() {
        bail!("{name}: trailing characters after the JSON value");
    }
    first(text).map_err(|error| error.context(name))
}

/// The first JSON value of `text`, slowly: it keeps track of the path and of keys that are there twice.
///
/// # Errors
/// As for [`parse`], without a name.
pub fn first<T: DeserializeOwned>(text: &[u8]) -> Result<T> {
    let mut text = std::borrow::Cow::Borrowed(text);
    let mut left = duplicates::MOST;
    let error = loop {
        let mut reader = serde_json::Deserializer::from_slice(&text);
        let error = match serde_path_to_error::deserialize(AnyCase(&mut reader)) {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        match duplicates::merged(&text, &error) {
            Some(merged) if left > 0 => text = merged.into(),
            _ => break error,
        }
        left -= 1;
    };
    let path = error.path().to_string();
    let cause = Error::new(error.into_inner().to_string());
    // A text that ends too early has no place.
    Err(if matches!(&*path, "." | "?") { cause } else { cause.context(path) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse::<Spec>(text.as_bytes(), "config.json").unwrap_err().to_string()
    }

    #[test]
    fn errors_name_the_json_path_and_the_reason() {
        let unknown = r#"{"linux":{"namespaces":[{"type":"pid"},{"type":"foo"}]}}"#;
        assert!(error(unknown).starts_with("config.json: linux.namespaces[1].type: unknown variant `foo`"));
        let wrong = r#"{"process":{"args":["sh",5]}}"#;
        assert!(error(wrong).starts_with("config.json: process.args[1]: invalid type: integer `5`"));
        assert!(error("{").contains("EOF while parsing"));
        assert!(error("{} {}").contains("trailing characters"));
    }

    #[test]
    fn null_is_absent_and_unknown_keys_are_ignored() {
        let text =
            r#"{"ociVersion":"1.0.0","linux":{"seccomp":null,"maskedPaths":null,"namespaces":null},"x":[1]}"#;
        let spec: Spec = parse(text.as_bytes(), "config.json").unwrap();
        assert!(spec.linux.unwrap().seccomp.is_none());
    }
}
