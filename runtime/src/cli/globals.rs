//! The options before the verb, and what they and the environment decide for every verb: where records go, where
//! the containers of this user are kept, whether missing permission on cgroups is tolerated.

use super::flags::{Arguments, Flag, Kind};
use super::values;
use crate::bus::Buses;
use crate::error::{Context as _, Error, Result};
use crate::host;
use crate::log;
use crate::ops;
use crate::plan::cgroup::Driver;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Where root's containers are kept. Not runc's /run/runc: both may be used on one machine.
pub const DEFAULT_ROOT: &str = "/run/pintle";

/// The options before the verb.
pub const FLAGS: &[Flag] = &[
    Flag::new("debug", Kind::Switch, "log what is being done"),
    Flag::new("log", Kind::Path, "append the log to this file (default is '/dev/stderr')"),
    Flag::new("log-format", Kind::Text, "format of the log ('text' (default), or 'json')")
        .default("\"text\""),
    Flag::new("root", Kind::Path, "directory for the state of containers (this should be located in tmpfs)")
        .default("\"/run/pintle\""),
    Flag::new(
        "systemd-cgroup",
        Kind::Switch,
        "let systemd make the cgroups; cgroupsPath is then \"slice:prefix:name\", e.g. \"system.slice:pintle:434234\"",
    ),
    Flag::new("rootless", Kind::Text, "ignore cgroup permission errors ('true', 'false', or 'auto')")
        .default("\"auto\""),
    Flag::new("version", Kind::Switch, "print the version").short('v'),
];

/// Sends records where `--log`, `--log-format` and `--debug` say.
pub fn start_log(arguments: &Arguments) -> Result<()> {
    let format = match arguments.text("log-format").as_deref() {
        None | Some("text") => log::Format::Text,
        Some("json") => log::Format::Json,
        Some(other) => return Err(Error::new(format!("invalid log-format: {other}"))),
    };
    log::configure(arguments.path("log").as_deref(), format, arguments.switch("debug"))
}

/// What every verb is told.
pub fn context(arguments: &Arguments) -> Result<ops::Context> {
    // A kernel without user namespaces has no such file.
    let in_user_namespace = host::in_user_namespace().unwrap_or(false);
    let user = User::current(in_user_namespace);
    let (root, root_is_explicit) = root(arguments, user)?;
    let rootless = rootless(arguments.text("rootless").as_deref(), user)?;
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some(format!("{}={}", name.to_str()?, value.to_str()?)))
        .collect();
    let systemd = arguments.switch("systemd-cgroup");
    let context = decided(root, systemd, rootless, in_user_namespace);
    Ok(ops::Context { root_is_explicit, environment, ..context })
}

/// What a program is told that calls verbs of the library itself, as another one would by `--root ROOT [--systemd-cgroup]`. Of its
/// environment hooks would have nothing.
pub fn context_for(root: PathBuf, systemd: bool) -> ops::Context {
    let in_user_namespace = host::in_user_namespace().unwrap_or(false);
    decided(root, systemd, User::current(in_user_namespace) != User::Root, in_user_namespace)
}

fn decided(root: PathBuf, systemd: bool, rootless: bool, in_user_namespace: bool) -> ops::Context {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    ops::Context {
        root,
        root_is_explicit: true,
        driver: match (systemd, rootless) {
            (false, _) => Driver::Files,
            (true, false) => Driver::Systemd,
            (true, true) => Driver::UserSystemd,
        },
        buses: Buses {
            system: variable("DBUS_SYSTEM_BUS_ADDRESS"),
            session: variable("DBUS_SESSION_BUS_ADDRESS"),
            runtime_dir: variable("XDG_RUNTIME_DIR").map(PathBuf::from),
        },
        rootless,
        in_user_namespace,
        environment: Vec::new(),
    }
}

/// Who asks, as far as defaults depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum User {
    Root,
    RootOfUserNamespace,
    Other,
}

impl User {
    fn current(in_user_namespace: bool) -> Self {
        if !rustix::process::geteuid().is_root() {
            return User::Other;
        }
        match in_user_namespace {
            true => User::RootOfUserNamespace,
            false => User::Root,
        }
    }
}

fn root(arguments: &Arguments, user: User) -> Result<(PathBuf, bool)> {
    if let Some(typed) = arguments.given_path("root") {
        let root = values::absolute(Path::new(typed))?;
        if root == Path::new("/") {
            return Err(Error::new("Option --root argument should not be set to /"));
        }
        return Ok((root, true));
    }
    match xdg_runtime_dir(user) {
        Some(dir) => {
            let root = Path::new(&dir).join("pintle");
            prepare_user_root(&root)?;
            Ok((root, false))
        }
        None => Ok((DEFAULT_ROOT.into(), false)),
    }
}

/// `$XDG_RUNTIME_DIR`, where it is this user's: not root's, whose containers have always been under /run.
fn xdg_runtime_dir(user: User) -> Option<OsString> {
    let dir = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty())?;
    let honoured = match user {
        User::Root => false,
        User::RootOfUserNamespace => std::env::var_os("USER").is_none_or(|name| name != "root"),
        User::Other => true,
    };
    honoured.then_some(dir)
}

/// Makes the user's state directory, with the sticky bit: the XDG base directory specification lets old files
/// without it be removed at any time.
fn prepare_user_root(root: &Path) -> Result<()> {
    let advice = "the path in $XDG_RUNTIME_DIR must be writable by the user";
    let told = |action: &str| format!("{advice}: {action} {}", root.display());
    DirBuilder::new().recursive(true).mode(0o700).create(root).with_context(|| told("mkdir"))?;
    fs::set_permissions(root, Permissions::from_mode(0o1700)).with_context(|| told("chmod"))
}

fn rootless(asked: Option<&str>, user: User) -> Result<bool> {
    match asked {
        None => Ok(user != User::Root),
        Some(auto) if auto.eq_ignore_ascii_case("auto") => Ok(user != User::Root),
        Some(text) => values::boolean(text).map_err(|cause| values::invalid("rootless", text, cause)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::flags;

    fn read(line: &str) -> Arguments {
        flags::parse(FLAGS, line.split(' ').map(OsString::from), true).unwrap()
    }

    #[test]
    fn the_root_is_absolute_and_never_the_whole_machine() {
        let explicit = |line| root(&read(line), User::Root).map_err(|error| error.to_string());
        assert_eq!(explicit("--root /run/x/../y list"), Ok(("/run/y".into(), true)));
        assert_eq!(explicit("--debug list"), Ok((DEFAULT_ROOT.into(), false)));
        let cwd = std::env::current_dir().unwrap();
        assert_eq!(explicit("--root= list"), Ok((cwd.clone(), true)));
        assert_eq!(explicit("--root state list"), Ok((cwd.join("state"), true)));
        for line in ["--root / x", "--root=/.. x", "--root //./ x"] {
            assert_eq!(explicit(line).unwrap_err(), "Option --root argument should not be set to /");
        }
    }

    #[test]
    fn rootless_is_decided_by_who_asks_unless_it_is_said() {
        for (asked, user, expect) in [
            (None, User::Root, Some(false)),
            (None, User::RootOfUserNamespace, Some(true)),
            (Some("auto"), User::Other, Some(true)),
            (Some("AUTO"), User::Root, Some(false)),
            (Some("true"), User::Root, Some(true)),
            (Some("false"), User::Other, Some(false)),
            (Some("foo"), User::Root, None),
        ] {
            assert_eq!(rootless(asked, user).ok(), expect, "{asked:?} {user:?}");
        }
    }
}
