//! Registries, by the distribution specification: images' documents and blobs from there and back. A [`Client`] is shared by
//! all threads of a command; it keeps connections, tokens and what it learned about each registry. What it gives is checked
//! where it is small ([`Client::manifest`], [`Client::fetch`]); a [`Blob`] is a stream that its reader checks.
//!
//! Who we are comes from [`credentials`], where to ask from `sources` (registries.conf), whom to trust from `trust`
//! (certs.d), names from `resolve`; what is tried again is decided in `retry`. Nothing here reads the environment.

mod auth;
mod blob;
pub mod credentials;
pub mod proxy;
mod push;
mod resolve;
mod retry;
mod sources;
mod transport;
mod trust;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ureq::http::{Method, Uri, header};

use self::auth::{Access, Memory};
pub use self::blob::Blob;
use self::credentials::{Credentials, Environment};
use self::proxy::Proxies;
pub use self::push::{Open, Pushed};
use self::retry::{Policy, Tried, Trouble};
use self::sources::{Configuration, Source};
use self::transport::{Answer, Call, Payload, Transport};
use self::trust::Trust;
use crate::digest::{Digest, Hasher};
use crate::error::{Context, Error, Kind, Result};
use crate::manifest::{self, Descriptor, media};
use crate::reference::Reference;
use crate::terminal::printable;

/// What a manifest may be, in the order in which we like it.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";
/// The header with a manifest's digest.
const CONTENT_DIGEST: &str = "docker-content-digest";
/// Takes a line for people.
pub type Notice = Arc<dyn Fn(&str) + Send + Sync>;

/// How to reach registries.
#[derive(Clone)]
pub struct Settings {
    /// For the registry of the name itself, before any file.
    pub credentials: Option<Credentials>,
    /// Files to look for credentials in, first match first; see [`Environment::auth_files`].
    pub auth_files: Vec<PathBuf>,
    /// Certificates are not checked, and plain http will do.
    pub insecure: bool,
    /// Folders like `/etc/containers/certs.d`, before that and Docker's.
    pub certificates: Vec<PathBuf>,
    /// The certificates that everybody's registries are checked with, in place of the system's.
    pub bundle: Option<PathBuf>,
    /// registries.conf; the folder with `.d` behind its name is read too.
    pub mirrors: Option<PathBuf>,
    /// Proxies by scheme.
    pub proxies: Proxies,
    /// How often a request is tried again.
    pub retries: u32,
    /// The pause before the first retry; it doubles each time.
    pub pause: Duration,
    /// The longest pause, whatever a registry asks for.
    pub longest_pause: Duration,
    /// How long to wait for the next byte.
    pub patience: Duration,
    /// Is told about each retry and its reason: a line for people.
    pub notice: Option<Notice>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            credentials: None,
            auth_files: Vec::new(),
            insecure: false,
            certificates: Vec::new(),
            bundle: None,
            mirrors: Some("/etc/containers/registries.conf".into()),
            proxies: Proxies::default(),
            retries: 5,
            pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(60),
            patience: Duration::from_secs(60),
            notice: None,
        }
    }
}

impl Settings {
    /// The defaults where the environment is like this.
    pub fn from_environment(environment: &Environment) -> Self {
        Self {
            auth_files: environment.auth_files(),
            certificates: environment.certificates(),
            bundle: environment.bundle.clone(),
            mirrors: Some(environment.registries_conf()),
            proxies: environment.proxies.clone(),
            ..Self::default()
        }
    }

    fn policy(&self) -> Policy {
        Policy { pause: self.pause, longest: self.longest_pause }
    }
}

/// A connection to any number of registries.
pub struct Client {
    settings: Settings,
    mirrors: Configuration,
    transport: Transport,
    memory: Memory,
    /// `https` or `http`, for hosts where that had to be found out.
    schemes: Mutex<HashMap<String, &'static str>>,
    /// Which of several sources had a repository's manifest.
    preferred: Mutex<HashMap<String, Source>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

/// A source that we know how to talk to.
#[derive(Clone, Debug)]
struct Place {
    source: Source,
    base: Uri,
}

impl Place {
    fn origin(&self) -> String {
        transport::origin(&self.base)
    }

    /// `/v2/REPOSITORY/rest`.
    fn url(&self, rest: &str) -> Result<Uri> {
        transport::join(&self.base, &format!("/v2/{}/{rest}", self.source.repository))
    }
}

impl Client {
    /// Reads registries.conf; connects to nobody yet.
    pub fn new(settings: Settings) -> Result<Self> {
        let mirrors = settings.mirrors.as_deref().map(Configuration::read).transpose()?.unwrap_or_default();
        let trust = Trust::new(&settings.certificates, settings.bundle.clone());
        let transport = Transport::new(trust, settings.proxies.clone(), settings.patience);
        let memory = Memory::default();
        Ok(Self {
            settings,
            mirrors,
            transport,
            memory,
            schemes: Mutex::default(),
            preferred: Mutex::default(),
        })
    }

    /// The document that a name leads to, and what it is. Its digest is the one of the name, or the one that the registry
    /// announced. Errors: [`Kind::NotFound`], [`Kind::Denied`], [`Kind::Invalid`] where it is not what was promised.
    pub fn manifest(&self, reference: &Reference) -> Result<(Descriptor, Vec<u8>)> {
        self.at_sources(reference, |place| self.manifest_from(place, reference)).context(reference)
    }

    fn manifest_from(&self, place: &Place, reference: &Reference) -> Tried<(Descriptor, Vec<u8>)> {
        let answer = self.get(place, &format!("manifests/{}", reference.selector()), Some(ACCEPT))?;
        let announced = answer.header(CONTENT_DIGEST).map(str::to_owned);
        let content_type = answer.header(header::CONTENT_TYPE).unwrap_or("").to_owned();
        let bytes = answer.into_bytes(manifest::LARGEST)?;
        let expect = match (&reference.digest, announced) {
            (Some(digest), _) => digest.clone(),
            (None, Some(text)) => Digest::parse(&text).context(CONTENT_DIGEST)?,
            (None, None) => Digest::of(&bytes),
        };
        let mut hasher = Hasher::new(expect.algorithm());
        hasher.update(&bytes);
        expect.expect(&hasher.finish())?;
        Ok((Descriptor::new(&media_type(&content_type, &bytes), expect, bytes.len() as u64), bytes))
    }

    /// A document by its descriptor: a manifest of an index, an image's configuration. Errors: as [`Client::manifest`], and
    /// where it is larger than a manifest may be.
    pub fn fetch(&self, reference: &Reference, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let digest = &descriptor.digest;
        if descriptor.size > manifest::LARGEST {
            let text = format!("{} bytes, more than a document's {}", descriptor.size, manifest::LARGEST);
            return Err(Error::invalid(text)).context(digest);
        }
        let kind = &descriptor.media_type;
        let document = media::is_index(kind) || media::is_manifest(kind);
        let (folder, accept) = if document { ("manifests", Some(kind.as_str())) } else { ("blobs", None) };
        let fetched = self.at_sources(reference, |place| {
            let answer = self.get(place, &format!("{folder}/{digest}"), accept)?;
            let bytes = answer.into_bytes(descriptor.size)?;
            descriptor.check(&bytes)?;
            Ok(bytes)
        });
        fetched.with_context(|| format!("{reference}: {digest}"))
    }

    fn has(&self, source: &Source, access: &Access, digest: &Digest) -> Result<bool> {
        self.retry(self.settings.retries, || {
            let place = self.place(source)?;
            let call = Call::new(Method::HEAD, place.url(&format!("blobs/{digest}"))?, source.insecure);
            let answer = self.send(&place, access, call)?;
            match answer.status.as_u16() {
                200 => Ok(true),
                404 => Ok(false),
                _ => Err(answer.into_trouble(&source.registry)),
            }
        })
    }

    /// Writes a manifest or an index: under the name's tag, or under its digest where it has no tag. Errors: as
    /// [`Client::manifest`], and where the name has another digest or the registry stored something else.
    pub fn put_manifest(&self, reference: &Reference, media_type: &str, bytes: &[u8]) -> Result<Digest> {
        self.put_manifest_at(reference, media_type, bytes).context(reference)
    }

    fn put_manifest_at(&self, reference: &Reference, media_type: &str, bytes: &[u8]) -> Result<Digest> {
        let algorithm = reference.digest.as_ref().map_or(crate::digest::Algorithm::Sha256, Digest::algorithm);
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        let digest = hasher.finish();
        if let Some(expect) = &reference.digest {
            expect.expect(&digest)?;
        }
        let selector = reference.tag.as_deref().unwrap_or(digest.as_str());
        let source = self.mirrors.target(reference, self.settings.insecure)?;
        let stored = self.retry(self.settings.retries, || {
            let place = self.place(&source)?;
            let call = Call::new(Method::PUT, place.url(&format!("manifests/{selector}"))?, source.insecure)
                .header(header::CONTENT_TYPE, media_type)
                .payload(Payload::Bytes(bytes));
            let answer = self.send(&place, &Access::push(&source.repository), call)?;
            match answer.status.is_success() {
                true => Ok(answer.header(CONTENT_DIGEST).map(str::to_owned)),
                false => Err(answer.into_trouble(&source.registry)),
            }
        })?;
        match stored {
            Some(text) if text != digest.as_str() => {
                let text = printable(&text);
                Err(Error::invalid(format!("the registry stored {text}, not {digest}")))
            }
            _ => Ok(digest),
        }
    }

    /// Whether a registry takes the credentials of the settings; it is asked, nothing is stored. Errors: [`Kind::Denied`].
    pub fn login(&self, registry: &str) -> Result<()> {
        let Some(credentials) = &self.settings.credentials else {
            return Err(Error::new(Kind::Usage, "log in with what? no user and password were given"));
        };
        let key = credentials::key(registry);
        let named = Reference::parse(&format!("{key}/login"))?;
        // In an image's name a host without a dot or a port is a repository of Docker's; nobody logs in to that.
        let (host, path) = key.split_once('/').unwrap_or((&key, "login"));
        let reference = Reference { registry: host.to_owned(), repository: path.to_owned(), ..named };
        let insecure = self.mirrors.target(&reference, self.settings.insecure)?.insecure;
        // No location of registries.conf: the password is for the host that was named.
        let source =
            Source { registry: reference.registry, repository: String::new(), insecure, mirror: false };
        let status = self.retry(self.settings.retries, || {
            let place = self.place(&source)?;
            let url = transport::join(&place.base, "/v2/")?;
            let answer = self.send(&place, &Access::login(), Call::new(Method::GET, url, insecure))?;
            match answer.status.as_u16() {
                200..=299 => Ok(true),
                // Some registries let the token's owner in and give this page to nobody.
                404 if self.is_asked_who(&place) => Ok(true),
                401 | 403 => Ok(false),
                _ => Err(answer.into_trouble(&source.registry)),
            }
        });
        let denied = || {
            let who = match credentials {
                Credentials::Password { user, .. } => format!("the user name {user:?} or its password"),
                _ => "the token".to_owned(),
            };
            Error::new(Kind::Denied, format!("{}: it does not take {who}", source.registry))
        };
        match status {
            Ok(true) => Ok(()),
            Ok(false) => Err(denied()),
            Err(error) if error.kind() == Kind::Denied => Err(denied()),
            Err(error) => Err(error),
        }
    }

    fn get(&self, place: &Place, rest: &str, accept: Option<&str>) -> Tried<Answer> {
        let mut call = Call::new(Method::GET, place.url(rest)?, place.source.insecure);
        if let Some(accept) = accept {
            call = call.header(header::ACCEPT, accept);
        }
        let answer = self.send(place, &Access::pull(&place.source.repository), call)?;
        if answer.status == 200 { Ok(answer) } else { Err(answer.into_trouble(&place.source.registry)) }
    }

    /// Tries every source of a name, the one that worked before first; tells what the last one said, and the others.
    fn at_sources<T>(&self, reference: &Reference, mut ask: impl FnMut(&Place) -> Tried<T>) -> Result<T> {
        let name = format!("{}/{}", reference.registry, reference.repository);
        let mut sources = self.mirrors.sources(reference, self.settings.insecure)?;
        if let Some(good) = self.preferred.lock().expect("nobody panics with it").get(&name) {
            sources.sort_by_key(|source| source != good);
        }
        let several = sources.len() > 1;
        let mut failed = Vec::new();
        let mut last = None;
        for source in sources {
            // A mirror that is down should not hold everybody up.
            let retries = if source.mirror { self.settings.retries.min(1) } else { self.settings.retries };
            match self.retry(retries, || ask(&self.place(&source)?)) {
                Ok(found) => {
                    if several {
                        self.preferred.lock().expect("nobody panics with it").insert(name, source);
                    }
                    return Ok(found);
                }
                Err(error) if source.mirror => failed.push(format!("; mirror {}: {error}", source.registry)),
                Err(error) => last = Some(error),
            }
        }
        let last = last.expect("the registry itself is always a source");
        match failed.concat() {
            none if none.is_empty() => Err(last),
            mirrors => Err(Error::new(last.kind(), format!("{last}{mirrors}"))),
        }
    }

    /// Does something until it works, is refused for good, or patience ends.
    fn retry<T>(&self, retries: u32, mut act: impl FnMut() -> Tried<T>) -> Result<T> {
        let mut tries = 0;
        loop {
            match act() {
                Ok(done) => return Ok(done),
                Err(trouble) if tries == retries => return Err(trouble.into_error()),
                Err(trouble) => {
                    tries += 1;
                    self.wait(trouble, tries)?;
                }
            }
        }
    }

    /// Waits before try `n`; lasting trouble is an error at once.
    fn wait(&self, trouble: Trouble, n: u32) -> Result<()> {
        let (error, wait) = match trouble {
            Trouble::Lasting(error) => return Err(error),
            Trouble::Passing { error, wait } => (error, wait),
        };
        let pause = self.settings.policy().pause(n, wait);
        if let Some(notice) = &self.settings.notice {
            notice(&format!("{error}: trying again in {:.1} s", pause.as_secs_f64()));
        }
        std::thread::sleep(pause);
        Ok(())
    }

    /// Finds out how to talk to a source: https, except that registries on this machine and insecure ones may speak http.
    fn place(&self, source: &Source) -> Tried<Place> {
        let host = source.host();
        let base = |scheme: &str| transport::url(&format!("{scheme}://{host}/"));
        let place = |base| Ok(Place { source: source.clone(), base });
        if !source.insecure && !is_loopback(host_name(host)) {
            return place(base("https")?);
        }
        if let Some(scheme) = self.schemes.lock().expect("nobody panics with it").get(host) {
            return place(base(scheme)?);
        }
        let ask = |scheme: &str| {
            let url = transport::join(&base(scheme)?, "/v2/")?;
            self.transport.follow(Call::new(Method::GET, url, source.insecure), None)
        };
        let scheme = match ask("https") {
            Ok(_) => "https",
            // It does speak TLS: falling back would be what an attacker wants.
            Err(Trouble::Lasting(error)) if error.kind() == Kind::Invalid => return Err(error.into()),
            // What a server that does speak TLS says to plain http: the trouble above has passed meanwhile.
            Err(trouble) => match ask("http")?.status.as_u16() {
                400 => return Err(trouble),
                _ => "http",
            },
        };
        self.schemes.lock().expect("nobody panics with it").insert(host.to_owned(), scheme);
        place(base(scheme)?)
    }
}

/// What an announced media type, and the document itself where that says nothing, make of a document.
fn media_type(announced: &str, bytes: &[u8]) -> String {
    let announced = announced.split(';').next().unwrap_or("").trim();
    if !matches!(announced, "" | "application/json" | "application/octet-stream" | "text/plain") {
        return announced.to_owned();
    }
    let document: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    let own = document.get("mediaType").and_then(|v| v.as_str()).filter(|own| !own.is_empty());
    match own {
        Some(own) => own.to_owned(),
        None if document.get("manifests").is_some() => media::INDEX.to_owned(),
        None if document.get("layers").is_some() => media::MANIFEST.to_owned(),
        None => announced.to_owned(),
    }
}

/// The host without its port.
fn host_name(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Whether a host is this machine.
fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A value in a query or a form.
fn escape(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    let one = |b: u8| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") };
    text.bytes().map(one).collect()
}

/// For ids, ports and pauses, not for keys.
fn random_number() -> u64 {
    let mut bytes = [0; 8];
    // Only an early boot could block, and nothing here runs then.
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(8) => u64::from_ne_bytes(bytes),
        _ => std::process::id().into(),
    }
}
