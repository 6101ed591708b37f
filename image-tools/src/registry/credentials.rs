//! Who we are to a registry: containers-auth.json(5) and Docker's config.json, read and written, and the credential helpers
//! that both name. Secrets are never part of an error or of a `Debug` text. What the environment says comes in as
//! [`Environment`]; helpers are the only programs that this package runs, and they come from the host's PATH.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustix::fs::{Mode, OFlags};
use serde_json::{Map, Value, json};

use crate::error::{Context, Error, Kind, Result};

/// What Docker calls its own registry in credential files.
const DOCKER_KEY: &str = "https://index.docker.io/v1/";
/// The user name that marks a helper's secret as an identity token.
const TOKEN_USER: &str = "<token>";
/// The largest auth file, and the longest answer of a helper, in bytes.
const LARGEST: u64 = 1 << 20;

/// A way to say who we are.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A user's name and password.
    Password {
        /// The name, without a colon.
        user: String,
        /// The secret.
        password: String,
    },
    /// A long-lived token that buys access tokens (OAuth's refresh token).
    Identity(String),
    /// An access token, used as it is.
    Bearer(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { user, .. } => write!(f, "Password({user}, …)"),
            Self::Identity(_) => f.write_str("Identity(…)"),
            Self::Bearer(_) => f.write_str("Bearer(…)"),
        }
    }
}

impl Credentials {
    /// Reads `user:password`, as `--creds` takes it. The error does not repeat the text.
    pub fn parse(text: &str) -> Result<Self> {
        match text.split_once(':') {
            Some((user, password)) if !user.is_empty() => Ok(Self::password(user, password)),
            _ => Err(Error::new(Kind::Usage, "credentials: not user:password")),
        }
    }

    /// A user name and its password.
    pub fn password(user: &str, password: &str) -> Self {
        match user {
            TOKEN_USER => Self::Identity(password.to_owned()),
            _ => Self::Password { user: user.to_owned(), password: password.to_owned() },
        }
    }

    /// The value of an `Authorization` header that shows these at once; identity tokens can't be shown.
    pub(super) fn header(&self) -> Option<String> {
        match self {
            Self::Password { user, password } => {
                Some(format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))))
            }
            Self::Bearer(token) => Some(format!("Bearer {token}")),
            Self::Identity(_) => None,
        }
    }
}

/// Where credentials and settings may lie, and through which proxy registries are reached: what the environment says.
#[derive(Clone, Default)]
pub struct Environment {
    /// REGISTRY_AUTH_FILE.
    pub authfile: Option<PathBuf>,
    /// XDG_RUNTIME_DIR; `/run/containers/UID` stands in for `containers/` there.
    pub runtime_dir: Option<PathBuf>,
    /// XDG_CONFIG_HOME, or `~/.config`.
    pub config_home: Option<PathBuf>,
    /// DOCKER_CONFIG, or `~/.docker`.
    pub docker_config: Option<PathBuf>,
    /// CONTAINERS_REGISTRIES_CONF.
    pub registries_conf: Option<PathBuf>,
    /// SSL_CERT_FILE.
    pub bundle: Option<PathBuf>,
    /// Ours.
    pub uid: u32,
    /// Proxies.
    pub proxies: super::proxy::Proxies,
}

impl Environment {
    /// Takes what it needs out of the environment, which only the command line reads: `variable` is `std::env::var_os`.
    pub fn new(uid: u32, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let path = |name: &str| variable(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let home = |below: &str| path("HOME").map(|home| home.join(below));
        let text = |name: &str| {
            let value = variable(name).or_else(|| variable(&name.to_lowercase()))?;
            value.into_string().ok().filter(|v| !v.is_empty())
        };
        Self {
            authfile: path("REGISTRY_AUTH_FILE"),
            runtime_dir: path("XDG_RUNTIME_DIR"),
            config_home: path("XDG_CONFIG_HOME").or_else(|| home(".config")),
            docker_config: path("DOCKER_CONFIG").or_else(|| home(".docker")),
            registries_conf: path("CONTAINERS_REGISTRIES_CONF"),
            bundle: path("SSL_CERT_FILE"),
            uid,
            proxies: super::proxy::Proxies {
                http: text("HTTP_PROXY"),
                https: text("HTTPS_PROXY"),
                none: text("NO_PROXY"),
            },
        }
    }

    /// Podman's file for this session.
    fn runtime_file(&self) -> PathBuf {
        match &self.runtime_dir {
            Some(dir) => dir.join("containers/auth.json"),
            None => PathBuf::from(format!("/run/containers/{}/auth.json", self.uid)),
        }
    }

    /// Where credentials are looked for, first match first; files that are not there are passed over. So is one that is
    /// closed to us, which is another user's, unless it was named.
    pub fn auth_files(&self) -> Vec<PathBuf> {
        let config = self.config_home.as_ref().map(|dir| dir.join("containers/auth.json"));
        let docker = self.docker_config.as_ref().map(|dir| dir.join("config.json"));
        let closed = |path: &PathBuf| {
            File::open(path).is_err_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied)
        };
        let usual = [self.runtime_file()].into_iter().chain(config).chain(docker);
        self.authfile.iter().cloned().chain(usual.filter(|path| !closed(path))).collect()
    }

    /// Mirrors and the like: the user's own file, if there is one, in place of the machine's.
    pub fn registries_conf(&self) -> PathBuf {
        let own = self.config_home.as_ref().map(|dir| dir.join("containers/registries.conf"));
        let own = own.filter(|path| path.exists());
        self.registries_conf.clone().or(own).unwrap_or_else(|| "/etc/containers/registries.conf".into())
    }

    /// The user's certs.d.
    pub fn certificates(&self) -> Vec<PathBuf> {
        self.config_home.iter().map(|dir| dir.join("containers/certs.d")).collect()
    }

    /// Where `login` writes.
    pub fn login_file(&self) -> PathBuf {
        self.authfile.clone().unwrap_or_else(|| self.runtime_file())
    }
}

/// What the first of these files that knows `registry` (for `repository`, if it is that particular) has for it.
pub fn find(files: &[PathBuf], registry: &str, repository: &str) -> Result<Option<Credentials>> {
    for path in files {
        let Some(file) = AuthFile::read(path)? else { continue };
        if let Some(found) = file.find(registry, repository).with_context(|| path.display())? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Writes credentials for `key`, a registry or a repository path of one, into a file, or gives them to the helper that the
/// file names for it. What else the file holds stays.
pub fn store(path: &Path, key: &str, credentials: &Credentials) -> Result<()> {
    let _lock = lock_beside(path)?;
    let mut file = AuthFile::read(path)?.unwrap_or_default();
    if let Some(helper) = file.helper(host_of(key)).filter(|_| !key.contains('/')) {
        return helper_store(&helper, key, credentials).with_context(|| path.display());
    }
    let entry = match credentials {
        Credentials::Password { user, password } => {
            json!({ "auth": BASE64_STANDARD.encode(format!("{user}:{password}")) })
        }
        Credentials::Identity(token) => json!({ "identitytoken": token }),
        Credentials::Bearer(token) => json!({ "registrytoken": token }),
    };
    let auths = file.auths_mut().with_context(|| path.display())?;
    auths.retain(|known, _| normal(known) != key);
    auths.insert(file_key(path, key), entry);
    file.write(path)
}

/// Removes what a file, or its helper, holds for `key`; whether there was anything.
pub fn erase(path: &Path, key: &str) -> Result<bool> {
    if AuthFile::read(path)?.is_none() {
        return Ok(false);
    }
    let _lock = lock_beside(path)?;
    let Some(mut file) = AuthFile::read(path)? else { return Ok(false) };
    let mut found = false;
    if let Some(helper) = file.helper(host_of(key)).filter(|_| !key.contains('/')) {
        found = helper_get(&helper, key).with_context(|| path.display())?.is_some();
        if found {
            run_helper(&helper, "erase", server_url(key).as_bytes()).with_context(|| path.display())?;
        }
    }
    let auths = file.auths_mut().with_context(|| path.display())?;
    let before = auths.len();
    auths.retain(|known, _| normal(known) != key);
    if auths.len() < before {
        found = true;
        file.write(path)?;
    }
    Ok(found)
}

/// One file's JSON, with everything in it that means nothing to us.
#[derive(Default)]
struct AuthFile(Map<String, Value>);

impl AuthFile {
    /// `None` where there is no such file, or an empty one.
    fn read(path: &Path) -> Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            // Another user's HOME is as good as none.
            Err(e)
                if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
            {
                return Ok(None);
            }
            Err(e) => return Err(e).with_context(|| path.display()),
        };
        let mut bytes = Vec::new();
        file.take(LARGEST + 1).read_to_end(&mut bytes).with_context(|| path.display())?;
        if bytes.len() as u64 > LARGEST {
            return Err(Error::invalid(format!("{}: longer than {LARGEST} bytes", path.display())));
        }
        if bytes.trim_ascii().is_empty() {
            return Ok(None);
        }
        // serde_json's errors give line and column, never the text.
        let value: Value =
            serde_json::from_slice(&bytes).map_err(|e| Error::invalid(format!("{}: {e}", path.display())))?;
        match value {
            Value::Object(map) => Ok(Some(Self(map))),
            _ => Err(Error::invalid(format!("{}: not a JSON object", path.display()))),
        }
    }

    /// The helper for a host, then the file's own entries, the longest first; `credsStore` is a helper for all hosts.
    fn find(&self, registry: &str, repository: &str) -> Result<Option<Credentials>> {
        if let Some(helper) = self.helper(registry)
            && let Some(found) = helper_get(&helper, registry)?
        {
            return Ok(Some(found));
        }
        let Some(Value::Object(auths)) = self.0.get("auths") else { return Ok(None) };
        let mut wanted = format!("{registry}/{repository}");
        loop {
            for (_, entry) in auths.iter().filter(|(key, _)| normal(key) == wanted) {
                if let Some(found) = entry_credentials(entry).with_context(|| format!("auths[{wanted:?}]"))? {
                    return Ok(Some(found));
                }
            }
            match wanted.rfind('/') {
                Some(slash) => wanted.truncate(slash),
                None => return Ok(None),
            }
        }
    }

    fn helper(&self, host: &str) -> Option<String> {
        let special = self.0.get("credHelpers").and_then(Value::as_object);
        let special = special.and_then(|map| map.iter().find(|(key, _)| normal(key) == host));
        let name = special.map(|(_, name)| name).or_else(|| self.0.get("credsStore"));
        name.and_then(Value::as_str).filter(|name| !name.is_empty()).map(str::to_owned)
    }

    fn auths_mut(&mut self) -> Result<&mut Map<String, Value>> {
        let auths = self.0.entry("auths").or_insert_with(|| json!({}));
        auths.as_object_mut().ok_or_else(|| Error::invalid("auths: not an object"))
    }

    /// Replaces the file in one step; only its owner can read it.
    fn write(&self, path: &Path) -> Result<()> {
        // A link stays a link: what it points to is replaced.
        let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let fresh = path.with_extension(format!("{:016x}.tmp", super::random_number()));
        let replace = || -> Result<()> {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let mut file = File::from(rustix::fs::open(&fresh, flags, Mode::RUSR | Mode::WUSR)?);
            file.write_all(&serde_json::to_vec_pretty(&self.0).expect("JSON stays JSON"))?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            Ok(fs::rename(&fresh, path)?)
        };
        replace().with_context(|| path.display()).inspect_err(|_| {
            // Best effort: the name is random, and the error above is what matters.
            fs::remove_file(&fresh).ok();
        })
    }
}

/// Makes the folder of a file and locks it, so that two logins at once lose nothing.
fn lock_beside(path: &Path) -> Result<File> {
    use std::os::unix::fs::DirBuilderExt;
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).with_context(|| dir.display())?;
    let lock = File::open(dir).with_context(|| dir.display())?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).with_context(|| dir.display())?;
    Ok(lock)
}

/// The name of a registry, or of a repository there, as auth files and we call it.
pub fn key(text: &str) -> String {
    normal(text.trim())
}

/// A key as people and programs wrote it, as `host[:port][/path]`.
fn normal(key: &str) -> String {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let legacy = bare.is_some();
    let key = bare.unwrap_or(key).trim_end_matches('/');
    let host = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2"));
    // Of a longer path, it is a repository's name.
    let key = host.filter(|host| !host.contains('/')).unwrap_or(key);
    // A URL's path never was part of the name.
    let key = if legacy { host_of(key) } else { key };
    match key {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        _ => key.to_owned(),
    }
}

fn host_of(key: &str) -> &str {
    key.split('/').next().unwrap_or(key)
}

/// What Docker looks for in its own file; everybody else takes the host.
fn file_key(path: &Path, key: &str) -> String {
    let dockers = path.file_name().is_some_and(|name| name == "config.json");
    if dockers { server_url(key) } else { key.to_owned() }
}

fn server_url(registry: &str) -> String {
    if registry == "docker.io" { DOCKER_KEY.to_owned() } else { registry.to_owned() }
}

/// `None` for the empty entries that Docker leaves beside a helper.
fn entry_credentials(entry: &Value) -> Result<Option<Credentials>> {
    let text = |field: &str| entry.get(field).and_then(Value::as_str).filter(|s| !s.is_empty());
    if let Some(token) = text("identitytoken") {
        return Ok(Some(Credentials::Identity(token.to_owned())));
    }
    if let Some(token) = text("registrytoken") {
        return Ok(Some(Credentials::Bearer(token.to_owned())));
    }
    if let Some(auth) = text("auth") {
        let wrong = || Error::invalid("auth: not base64 of user:password");
        let bytes = BASE64_STANDARD.decode(auth.trim()).map_err(|_| wrong())?;
        let pair = String::from_utf8(bytes).map_err(|_| wrong())?;
        let (user, password) = pair.split_once(':').ok_or_else(wrong)?;
        return Ok(Some(Credentials::password(user, password.trim_end_matches('\0'))));
    }
    Ok(match (text("username"), text("password")) {
        (Some(user), Some(password)) => Some(Credentials::password(user, password)),
        _ => None,
    })
}

fn helper_get(helper: &str, registry: &str) -> Result<Option<Credentials>> {
    let Some(answer) = run_helper(helper, "get", server_url(registry).as_bytes())? else { return Ok(None) };
    let wrong =
        || Error::other(format!("docker-credential-{helper} get: its answer is not what helpers answer"));
    let answer: Value = serde_json::from_slice(&answer).map_err(|_| wrong())?;
    let text = |field: &str| answer.get(field).and_then(Value::as_str).ok_or_else(wrong);
    Ok(Some(Credentials::password(text("Username")?, text("Secret")?)))
}

fn helper_store(helper: &str, registry: &str, credentials: &Credentials) -> Result<()> {
    let (user, secret) = match credentials {
        Credentials::Password { user, password } => (user.as_str(), password),
        Credentials::Identity(token) => (TOKEN_USER, token),
        Credentials::Bearer(_) => return Err(Error::unsupported("helpers store no access tokens")),
    };
    let message = json!({ "ServerURL": server_url(registry), "Username": user, "Secret": secret });
    run_helper(helper, "store", message.to_string().as_bytes()).map(drop)
}

/// Runs `docker-credential-NAME VERB` with `input`; `None` where it says that it has nothing for us.
fn run_helper(name: &str, verb: &str, input: &[u8]) -> Result<Option<Vec<u8>>> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if !name.bytes().all(plain) {
        return Err(Error::invalid(format!("{name:?} is not the name of a credential helper")));
    }
    let program = format!("docker-credential-{name}");
    let place = || format!("{program} {verb}");
    let mut child = Command::new(&program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .with_context(|| format!("{program}, which an auth file asks for"))?;
    let written = child.stdin.take().expect("piped above").write_all(input);
    let mut answer = Vec::new();
    let read = child.stdout.take().expect("piped above").take(LARGEST).read_to_end(&mut answer);
    let status = child.wait().with_context(place)?;
    if status.success() {
        written.and(read.map(drop)).with_context(place)?;
        return Ok(Some(answer));
    }
    let said = String::from_utf8_lossy(&answer).to_lowercase();
    if said.contains("credentials not found") || said.contains("no credentials") {
        return Ok(None);
    }
    Err(Error::other(format!("{}: {status}: {}", place(), super::printable(&said))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(file: &str, registry: &str, repository: &str, expect: Option<&str>) {
        let Value::Object(map) = serde_json::from_str(file).unwrap() else { panic!() };
        let found = AuthFile(map).find(registry, repository).unwrap();
        let found = found.map(|c| match c {
            Credentials::Password { user, password } => format!("{user}:{password}"),
            Credentials::Identity(token) => format!("identity {token}"),
            Credentials::Bearer(token) => format!("bearer {token}"),
        });
        assert_eq!(found.as_deref(), expect, "{registry}/{repository} in {file}");
    }

    #[test]
    fn the_longest_matching_entry_wins() {
        let file = r#"{"auths":{
            "r.example":{"auth":"YTox"}, "r.example/team":{"auth":"Yjoy"}, "r.example/team/app":{"auth":"Yzoz"},
            "r.example:5000":{"auth":"ZDo0"}}}"#;
        check(file, "r.example", "x", Some("a:1"));
        check(file, "r.example", "team/x", Some("b:2"));
        check(file, "r.example", "team/app", Some("c:3"));
        check(file, "r.example", "team/application", Some("b:2"));
        check(file, "r.example:5000", "team/app", Some("d:4"));
        check(file, "other.example", "team/app", None);
    }

    #[test]
    fn keys_are_read_as_docker_and_podman_write_them() {
        for key in [
            "https://index.docker.io/v1/",
            "docker.io",
            "index.docker.io",
            "https://registry-1.docker.io/v2/",
        ] {
            let file = format!(r#"{{"auths":{{"{key}":{{"auth":"YTox"}}}}}}"#);
            check(&file, "docker.io", "library/debian", Some("a:1"));
        }
        check(r#"{"auths":{"r.example/v1/":{"auth":"YTox"}}}"#, "r.example", "x", Some("a:1"));
        for (repository, expect) in [("team/v2", Some("a:1")), ("team/x", None)] {
            check(r#"{"auths":{"r.example/team/v2":{"auth":"YTox"}}}"#, "r.example", repository, expect);
        }
        check(r#"{"auths":{"http://r.example/some/path":{"auth":"YTox"}}}"#, "r.example", "x", Some("a:1"));
    }

    #[test]
    fn every_form_of_an_entry_is_read() {
        let one = |entry: &str| format!(r#"{{"auths":{{"r.example":{entry}}}}}"#);
        check(&one(r#"{"username":"a","password":"x:y"}"#), "r.example", "x", Some("a:x:y"));
        check(&one(r#"{"identitytoken":"t","auth":"YTo="}"#), "r.example", "x", Some("identity t"));
        check(&one(r#"{"registrytoken":"t"}"#), "r.example", "x", Some("bearer t"));
        check(&one(r#"{"username":"<token>","password":"t"}"#), "r.example", "x", Some("identity t"));
        check(&one("{}"), "r.example", "x", None);
    }

    #[test]
    fn errors_and_debug_texts_hold_no_secret() {
        let error = entry_credentials(&json!({"auth": "c2VjcmV0"})).unwrap_err().to_string();
        assert_eq!(error, "auth: not base64 of user:password");
        assert_eq!(Credentials::parse("geheim").unwrap_err().to_string(), "credentials: not user:password");
        assert_eq!(format!("{:?}", Credentials::parse("a:geheim").unwrap()), "Password(a, …)");
    }

    #[test]
    fn the_environment_says_where_the_files_are() {
        let files = |set: &[(&str, &str)]| {
            let get = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v));
            let environment = Environment::new(7, get);
            (environment.login_file(), environment.auth_files())
        };
        let paths = |list: &[&str]| list.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(
            files(&[]),
            ("/run/containers/7/auth.json".into(), paths(&["/run/containers/7/auth.json"]))
        );
        let (login, all) = files(&[("REGISTRY_AUTH_FILE", "/a"), ("XDG_RUNTIME_DIR", "/r"), ("HOME", "/h")]);
        assert_eq!(login, Path::new("/a"));
        let expect =
            ["/a", "/r/containers/auth.json", "/h/.config/containers/auth.json", "/h/.docker/config.json"];
        assert_eq!(all, paths(&expect));
    }
}
