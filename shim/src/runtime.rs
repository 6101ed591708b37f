//! The runtime of a container: this very program under the name of pintle, or whatever the engine named. What takes its time is a child;
//! what does not is a call into the library, if the runtime is our own.

use crate::cli::RUNTIME;
use crate::wire::options::{GenericOptions, Options};
use crate::wire::{Answer, Any, Code, Failure};
use pintle::error::{Context as _, Error, Result};
use pintle::ops;
use prost::Message as _;
use serde::Deserialize;
use std::fs::OpenOptions;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where in the bundle the runtime leaves init's process id.
pub const INIT_PID: &str = "init.pid";
/// Where in the bundle the runtime's records go.
const LOG: &str = "log.json";
/// Where in the bundle the options are kept, for whoever comes after this shim.
const OPTIONS: &str = "options.json";
/// Where in the bundle the runtime's name is kept; older than the file of options.
const NAME: &str = "runtime";
/// The most that is read of the runtime's records, in bytes.
const LONGEST: u64 = 1 << 20;

/// How a container's runtime is called.
#[derive(Clone, Debug)]
pub struct Runtime {
    options: Options,
    root: PathBuf,
    log: PathBuf,
}

impl Runtime {
    /// The runtime that the engine chose by `options`, for the container in `bundle`.
    pub fn new(options: Options, bundle: &Path, namespace: &str) -> Self {
        let root = match (options.root.as_str(), options.binary_name.as_str()) {
            ("", "") => "/run/containerd/pintle",
            ("", _) => "/run/containerd/runc",
            (root, _) => root,
        };
        Self { root: Path::new(root).join(namespace), log: bundle.join(LOG), options }
    }

    /// The one that a shim before this one used; with defaults where nothing is kept.
    pub fn of_bundle(bundle: &Path, namespace: &str) -> Self {
        let kept = std::fs::read(bundle.join(OPTIONS)).ok();
        let options = kept.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        Self::new(options, bundle, namespace)
    }

    /// Keeps the choice for whoever comes after this shim.
    ///
    /// # Errors
    /// A file system that is full.
    pub fn keep(&self, bundle: &Path) -> Result<()> {
        let write = |name: &str, bytes: &[u8]| {
            let mut options = OpenOptions::new();
            let file = options.write(true).create(true).truncate(true).mode(0o600).open(bundle.join(name));
            file.and_then(|mut file| file.write_all(bytes)).with_context(|| format!("write {name}"))
        };
        let json = serde_json::to_vec(&self.options).map_err(|error| Error::new(error.to_string()))?;
        write(OPTIONS, &json)?;
        write(NAME, self.options.binary_name.as_bytes())
    }

    /// How the engine wants it called.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Where its records go, and those of others that work for it.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// What the library is told of it; none where another program is the runtime.
    pub fn library(&self) -> Option<ops::Context> {
        if !self.options.binary_name.is_empty() {
            return None;
        }
        Some(pintle::cli::context_for(self.root.clone(), self.options.systemd_cgroup))
    }

    /// A call of the runtime, without its verb, in a process group of its own and with nothing on its streams.
    pub fn command(&self) -> Command {
        let name = self.options.binary_name.as_str();
        let mut command = match name {
            "" => {
                // Not by a path, where an update may have put another one meanwhile.
                let mut own = Command::new("/proc/self/exe");
                own.arg0(RUNTIME);
                own
            }
            name => Command::new(name),
        };
        command.arg("--root").arg(&self.root).arg("--log").arg(&self.log).args(["--log-format", "json"]);
        if self.options.systemd_cgroup {
            command.arg("--systemd-cgroup");
        }
        // containerd's own: a container that spoke there would speak for containerd, and its sockets are not ours.
        for name in ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"] {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        command
    }

    /// Where the records end now: what comes later is about what is done next.
    pub fn mark(&self) -> u64 {
        std::fs::metadata(&self.log).map_or(0, |log| log.len())
    }

    /// Why a call failed, in the words of containerd's own shim: `what` was done, and the last error in the records since `mark`; without
    /// one, what became of the process.
    pub fn failure(&self, what: &str, mark: u64, ended: &str) -> Failure {
        let said = match self.last_error(mark) {
            Ok(Some(said)) => said,
            Ok(None) => ended.to_owned(),
            Err(why) => format!("unable to retrieve OCI runtime error ({why}): {ended}"),
        };
        Failure::unknown(format!("{what}: {said}"))
    }

    fn last_error(&self, mark: u64) -> Result<Option<String>> {
        let told = || format!("open {}", self.log.display());
        let mut log = std::fs::File::open(&self.log).with_context(told)?;
        let length = log.seek(SeekFrom::End(0))?;
        log.seek(SeekFrom::Start(mark.max(length.saturating_sub(LONGEST)).min(length)))?;
        let mut text = Vec::new();
        log.take(LONGEST).read_to_end(&mut text)?;
        let lines = text.split(|byte| *byte == b'\n').rev();
        Ok(lines.filter_map(error_in).next())
    }

    /// What the program is called in words about it.
    pub fn name(&self) -> &str {
        if self.options.binary_name.is_empty() { RUNTIME } else { &self.options.binary_name }
    }

    /// Removes a container and whatever lives in it, and waits for that.
    ///
    /// # Errors
    /// What can't be removed.
    pub fn delete_by_force(&self, id: &str) -> Result<()> {
        if let Some(library) = self.library() {
            return ops::delete::delete(&library, id, true);
        }
        let mark = self.mark();
        let status = self.command().args(["delete", "--force", id]).status();
        match status.with_context(|| format!("exec {}", self.name()))? {
            status if status.success() => Ok(()),
            status => Err(Error::new(self.failure("delete", mark, &status.to_string()).message)),
        }
    }
}

/// The text of a record that is an error's.
fn error_in(line: &[u8]) -> Option<String> {
    let record: serde_json::Value = serde_json::from_slice(line).ok()?;
    (record.get("level")? == "error").then_some(())?;
    Some(record.get("msg")?.as_str()?.trim().to_owned())
}

/// Reads what an engine chose: runc's options, or CRI's for runtimes that it does not know.
///
/// # Errors
/// Options of another kind, or none that can be read.
pub fn options(any: Option<&Any>) -> Answer<Options> {
    let Some(any) = any.filter(|any| !any.value.is_empty()) else { return Ok(Options::default()) };
    let unreadable = |what: &dyn std::fmt::Display| {
        Failure::new(Code::InvalidArgument, format!("options {}: {what}", any.type_url))
    };
    match any.name() {
        "containerd.runc.v1.Options" | "containerd.linux.runc.CreateOptions" => {
            Options::decode(any.value.as_slice()).map_err(|error| unreadable(&error))
        }
        "runtimeoptions.v1.Options" => {
            let generic = GenericOptions::decode(any.value.as_slice()).map_err(|error| unreadable(&error))?;
            generic_options(&generic).map_err(|error| unreadable(&error))
        }
        _ => Err(unreadable(&"unknown type")),
    }
}

/// `[plugins…runtimes.NAME.options]` of containerd's configuration, as TOML in the message or in a file that it names.
fn generic_options(generic: &GenericOptions) -> Result<Options> {
    let text = match (generic.config_body.as_slice(), generic.config_path.as_str()) {
        ([], "") => return Ok(Options::default()),
        ([], path) => std::fs::read_to_string(path).with_context(|| format!("read {path}"))?,
        (body, _) => String::from_utf8(body.to_vec()).map_err(|error| Error::new(error.to_string()))?,
    };
    toml_options(&text)
}

/// The keys of it that a shim knows.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Settings {
    binary_name: String,
    root: String,
    systemd_cgroup: bool,
    no_pivot_root: bool,
    no_new_keyring: bool,
    shim_cgroup: String,
    io_uid: u32,
    io_gid: u32,
}

fn toml_options(text: &str) -> Result<Options> {
    let found: Settings = toml::from_str(text).map_err(|error| Error::new(error.message().to_owned()))?;
    Ok(Options {
        binary_name: found.binary_name,
        root: found.root,
        systemd_cgroup: found.systemd_cgroup,
        no_pivot_root: found.no_pivot_root,
        no_new_keyring: found.no_new_keyring,
        shim_cgroup: found.shim_cgroup,
        io_uid: found.io_uid,
        io_gid: found.io_gid,
        ..Options::default()
    })
}

/// Reads a file with a process id.
pub fn read_pid(path: &Path) -> Result<u32> {
    let text = std::fs::read_to_string(path).with_context(|| format!("open {}", path.display()))?;
    text.trim().parse().map_err(|_| Error::new(format!("{}: {text:?} is no process id", path.display())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_since_the_mark_is_told() {
        let bundle = std::env::temp_dir().join(format!("pintle-shim-log-{}", std::process::id()));
        std::fs::create_dir_all(&bundle).unwrap();
        let runtime = Runtime::new(Options::default(), &bundle, "ns");
        let log = bundle.join(LOG);
        let told = |mark| runtime.failure("OCI runtime create failed", mark, "exit status: 1").message;
        let missing = format!(
            "OCI runtime create failed: unable to retrieve OCI runtime error (open {}: no such file or directory): exit status: 1",
            log.display()
        );
        assert_eq!(told(0), missing);
        std::fs::write(&log, "{\"level\":\"error\",\"msg\":\"old\"}\n").unwrap();
        let mark = runtime.mark();
        assert_eq!(told(mark), "OCI runtime create failed: exit status: 1");
        let more = "{\"level\":\"warning\",\"msg\":\"w\"}\nrubbish\n{\"level\":\"error\",\"msg\":\" new\\n\"}\n{\"level\":\"info\"}\n";
        let old = std::fs::read_to_string(&log).unwrap();
        std::fs::write(&log, old + more).unwrap();
        assert_eq!(told(mark), "OCI runtime create failed: new");
        std::fs::remove_dir_all(&bundle).unwrap();
    }

    #[test]
    fn options_of_both_kinds_are_read_and_kept() {
        let runc = Options { binary_name: "x".into(), systemd_cgroup: true, ..Options::default() };
        assert_eq!(options(Some(&Any::of("containerd.runc.v1.Options", &runc))).unwrap(), runc);
        let body = b"# comment\nBinaryName = \"x\"\n  SystemdCgroup = true\nOther = 3\n".to_vec();
        let generic = GenericOptions { config_body: body, ..GenericOptions::default() };
        assert_eq!(options(Some(&Any::of("runtimeoptions.v1.Options", &generic))).unwrap(), runc);
        assert_eq!(options(None).unwrap(), Options::default());
        assert_eq!(options(Some(&Any::of("x", &runc))).unwrap_err().code, Code::InvalidArgument);

        let bundle = std::env::temp_dir().join(format!("pintle-shim-options-{}", std::process::id()));
        std::fs::create_dir_all(&bundle).unwrap();
        Runtime::new(runc.clone(), &bundle, "ns").keep(&bundle).unwrap();
        assert_eq!(Runtime::of_bundle(&bundle, "ns").options(), &runc);
        assert_eq!(std::fs::read_to_string(bundle.join(NAME)).unwrap(), "x");
        std::fs::remove_dir_all(&bundle).unwrap();
    }
}
