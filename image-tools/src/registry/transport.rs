//! One HTTP request and what comes of it: connections, redirects, and errors in words. Knows nothing of images. A redirect
//! never takes an `Authorization` header to another scheme, host or port (CVE-2020-15157), nor leads from https to http.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use ureq::http::header::{self, HeaderMap, HeaderName};
use ureq::http::{Method, Request, StatusCode, Uri};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body, BodyReader, SendBody};

use super::proxy::Proxies;
use super::resolve::Resolver;
use super::retry::{Tried, Trouble, retry_after};
use super::trust::Trust;
use crate::error::{Error, Kind, Result};

const MOST_REDIRECTS: usize = 5;
/// The longest head of an answer, in bytes.
const LONGEST_HEAD: usize = 32 << 10;
/// What is read of an error's body, in bytes.
const LONGEST_COMPLAINT: u64 = 8 << 10;
const CONNECT: Duration = Duration::from_secs(30);
/// How much longer than for any other byte we wait for a registry to take in what it was sent.
const DIGESTION: u32 = 5;

/// Connections, kept per origin.
#[derive(Debug)]
pub(super) struct Transport {
    trust: Trust,
    proxies: Proxies,
    patience: Duration,
    agents: Mutex<HashMap<Route, Agent>>,
}

/// What must be the same for a connection to be used again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Route {
    origin: String,
    lax: bool,
    upload: bool,
}

/// A request.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) url: Uri,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) payload: Payload<'a>,
    /// Any certificate will do, and a redirect may lead to plain http.
    pub(super) lax: bool,
}

/// A request's body.
pub(super) enum Payload<'a> {
    None,
    Bytes(&'a [u8]),
    /// So many bytes of a stream; can be sent only once.
    Stream(&'a mut dyn Read, u64),
}

impl<'a> Call<'a> {
    /// A request without a body.
    pub(super) fn new(method: Method, url: Uri, lax: bool) -> Self {
        Self { method, url, headers: Vec::new(), payload: Payload::None, lax }
    }

    /// Adds a header.
    pub(super) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Adds a body.
    pub(super) fn payload(mut self, payload: Payload<'a>) -> Self {
        self.payload = payload;
        self
    }

    /// The same request once more; `None` where its body was a stream.
    pub(super) fn again(&self) -> Option<Call<'a>> {
        let payload = match &self.payload {
            Payload::None => Payload::None,
            Payload::Bytes(bytes) => Payload::Bytes(bytes),
            Payload::Stream(..) => return None,
        };
        let (method, url) = (self.method.clone(), self.url.clone());
        Some(Call { method, url, headers: self.headers.clone(), payload, lax: self.lax })
    }
}

/// An answer of whatever status; its body is not read yet.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Who gave it in the end.
    pub(super) url: Uri,
    body: Body,
}

impl Transport {
    pub(super) fn new(trust: Trust, proxies: Proxies, patience: Duration) -> Self {
        Self { trust, proxies, patience, agents: Mutex::default() }
    }

    /// Sends a request and follows redirects; `authorization` is shown to the origin of the first URL only.
    pub(super) fn follow(&self, mut call: Call, authorization: Option<&str>) -> Tried<Answer> {
        let home = origin(&call.url);
        for _ in 0..=MOST_REDIRECTS {
            let again = call.again();
            let (url, method) = (call.url.clone(), call.method.clone());
            let speaks = matches!(call.payload, Payload::Bytes(bytes) if !bytes.is_empty());
            let shown = authorization.filter(|_| origin(&url) == home);
            let answer = self.exchange(call, shown)?;
            let Some(location) = answer.redirect() else { return Ok(answer) };
            let Some(mut next) = again.filter(|_| may_follow(&method, answer.status)) else {
                let text = format!("{}: an upload is redirected, which nobody can follow", display(&url));
                return Err(Error::unsupported(text).into());
            };
            next.url = join(&url, location)?;
            if speaks && origin(&next.url) != home {
                // A body may hold a token, and is for the one it was written for.
                let text = format!("{}: redirected to another host, {}", display(&url), display(&next.url));
                return Err(Error::unsupported(text).into());
            }
            refuse_downgrade(&url, &next.url, next.lax)?;
            call = next;
        }
        Err(Error::other(format!("{}: more than {MOST_REDIRECTS} redirects", display(&call.url))).into())
    }

    fn exchange(&self, call: Call, authorization: Option<&str>) -> Tried<Answer> {
        let mut request = Request::builder().method(call.method).uri(call.url.clone());
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let upload = !matches!(call.payload, Payload::None);
        let agent = self.agent(&call.url, call.lax, upload)?;
        let mut whole;
        let payload: Option<(&mut dyn Read, u64)> = match call.payload {
            Payload::None => None,
            Payload::Bytes(bytes) => {
                whole = bytes;
                Some((&mut whole, bytes.len() as u64))
            }
            Payload::Stream(stream, length) => Some((stream, length)),
        };
        let wrong = |e| Error::other(format!("{}: {e}", display(&call.url)));
        let answer = match payload {
            None => agent.run(request.body(()).map_err(wrong)?),
            Some((inner, left)) => {
                let mut exact = Exact { inner, left };
                let request = request.header(header::CONTENT_LENGTH, left);
                agent.run(request.body(SendBody::from_reader(&mut exact)).map_err(wrong)?)
            }
        };
        let answer = answer.map_err(|e| trouble(e, &call.url))?;
        let (head, body) = answer.into_parts();
        Ok(Answer { status: head.status, headers: head.headers, url: call.url, body })
    }

    fn agent(&self, url: &Uri, lax: bool, upload: bool) -> Result<Agent> {
        let route = Route { origin: origin(url), lax, upload };
        let mut agents = self.agents.lock().expect("nobody panics with it");
        if let Some(agent) = agents.get(&route) {
            return Ok(agent.clone());
        }
        let authority = url.authority().map_or("", |a| a.as_str());
        let (host, port) = (url.host().unwrap_or(""), port(url));
        let patience = if upload { self.patience * DIGESTION } else { self.patience };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(self.proxies.choose(url.scheme_str().unwrap_or(""), host, port)?)
            .tls_config(self.trust.config(authority, lax)?)
            .user_agent(concat!("pintle-image/", env!("CARGO_PKG_VERSION")))
            // Blobs are what they are; a registry that compressed them on the way would break their digests.
            .accept_encoding("identity")
            .timeout_connect(Some(CONNECT.min(self.patience)))
            .timeout_per_read(Some(patience))
            .timeout_per_write(Some(patience))
            .max_response_header_size(LONGEST_HEAD)
            .input_buffer_size(64 << 10)
            .output_buffer_size(64 << 10)
            .max_idle_connections(16)
            .max_idle_connections_per_host(8)
            .build();
        let agent = Agent::with_parts(config, DefaultConnector::new(), Resolver::default());
        agents.insert(route, agent.clone());
        Ok(agent)
    }
}

impl Answer {
    /// A header as text.
    pub(super) fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The length that the body is said to have; none where the answer does not tell.
    pub(super) fn length(&self) -> Option<u64> {
        self.header(header::CONTENT_LENGTH).and_then(|length| length.trim().parse().ok())
    }

    fn redirect(&self) -> Option<&str> {
        matches!(self.status.as_u16(), 301 | 302 | 303 | 307 | 308)
            .then(|| self.header(header::LOCATION))
            .flatten()
    }

    /// The body as a stream, without a limit.
    pub(super) fn into_reader(self) -> BodyReader<'static> {
        self.body.into_reader()
    }

    /// A small body as a whole. Errors: more than `limit` bytes ([`Kind::Invalid`]), a cut.
    pub(super) fn into_bytes(self, limit: u64) -> Tried<Vec<u8>> {
        let url = self.url.clone();
        let too_long = || Error::invalid(format!("{}: longer than {limit} bytes", display(&url)));
        if self.length().is_some_and(|length| length > limit) {
            return Err(too_long().into());
        }
        let mut bytes = Vec::new();
        let read = self.into_reader().take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|e| trouble(e.into(), &url))?;
        if bytes.len() as u64 > limit {
            return Err(too_long().into());
        }
        Ok(bytes)
    }

    /// What an answer that is not a success means; `registry` is whom to log in to.
    pub(super) fn into_trouble(self, registry: &str) -> Trouble {
        let (status, host) = (self.status, self.url.authority().map_or("", |a| a.as_str()).to_owned());
        let wait = self.header(header::RETRY_AFTER).and_then(|v| retry_after(v, SystemTime::now()));
        let said = self.complaint().map_or(String::new(), |text| format!(" ({text})"));
        match status.as_u16() {
            401 | 403 => {
                let text = format!("denied by {host}{said}: log in with pintle-image login {registry}");
                Error::new(Kind::Denied, text).into()
            }
            404 => Error::not_found(format!("not found on {host}{said}")).into(),
            429 => {
                let text = format!("{host}: too many requests{said}: wait, or log in to have a higher limit");
                Trouble::Passing { error: Error::other(text), wait }
            }
            408 | 500..=599 => {
                Trouble::Passing { error: Error::other(format!("{host}: it answers {status}{said}")), wait }
            }
            _ => Error::other(format!("{host}: it answers {status}{said}")).into(),
        }
    }

    /// The message in a registry's error document (distribution-spec, "Error Codes").
    fn complaint(self) -> Option<String> {
        let mut bytes = Vec::new();
        // An error's body is only for people: none at all will do.
        self.into_reader().take(LONGEST_COMPLAINT).read_to_end(&mut bytes).ok()?;
        let document: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
        let first = document.get("errors")?.get(0)?;
        let text = |field: &str| first.get(field).and_then(|v| v.as_str()).filter(|s| !s.is_empty());
        Some(super::printable(text("message").or_else(|| text("code"))?))
    }
}

/// A stream of exactly so many bytes; its errors are ours, so that they are not taken for the connection's.
struct Exact<'a> {
    inner: &'a mut dyn Read,
    left: u64,
}

impl Read for Exact<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(self.left.try_into().unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let n = self.inner.read(&mut buffer[..most]).map_err(Error::from)?;
        if n == 0 {
            let text = format!("what is to be sent ends {} bytes before its size", self.left);
            return Err(Error::invalid(text).into());
        }
        self.left -= n as u64;
        Ok(n)
    }
}

/// Only what asks may be asked elsewhere; 307 and 308 ask for the same method.
fn may_follow(method: &Method, status: StatusCode) -> bool {
    matches!(*method, Method::GET | Method::HEAD) || matches!(status.as_u16(), 307 | 308)
}

/// Nobody is led from https to http, unless any answer will do.
pub(super) fn refuse_downgrade(from: &Uri, to: &Uri, lax: bool) -> Result<()> {
    if from.scheme_str() == Some("https") && to.scheme_str() != Some("https") && !lax {
        let text = format!("{}: redirected to plain http, {}", display(from), display(to));
        return Err(Error::other(text));
    }
    Ok(())
}

/// Scheme, host and port: what credentials belong to.
pub(super) fn origin(url: &Uri) -> String {
    let host = url.host().unwrap_or("").to_ascii_lowercase();
    format!("{}://{host}:{}", url.scheme_str().unwrap_or(""), port(url))
}

fn port(url: &Uri) -> u16 {
    url.port_u16().unwrap_or(if url.scheme_str() == Some("https") { 443 } else { 80 })
}

/// A URL for people, without its query, which may be a signature.
pub(super) fn display(url: &Uri) -> String {
    let authority = url.authority().map_or("", |a| a.as_str());
    format!("{}://{authority}{}", url.scheme_str().unwrap_or(""), url.path())
}

/// Reads an absolute http or https URL; names and passwords in it are refused.
pub(super) fn url(text: &str) -> Result<Uri> {
    let bare = text.split('#').next().unwrap_or("");
    let shown = super::printable(bare.split('?').next().unwrap_or(""));
    let wrong = |why: &str| Error::invalid(format!("URL {shown:?}: {why}"));
    let read: Uri = bare.parse().map_err(|e| wrong(&format!("{e}")))?;
    match (read.scheme_str(), read.authority()) {
        (Some("http" | "https"), Some(authority)) if !authority.as_str().contains('@') => Ok(read),
        (Some("http" | "https"), Some(_)) => Err(Error::invalid("a URL with a user name in it")),
        _ => Err(wrong("not http or https with a host")),
    }
}

/// Where a `Location` or a link leads, seen from `base` (RFC 3986, section 5.2, without dot segments).
pub(super) fn join(base: &Uri, location: &str) -> Result<Uri> {
    let (scheme, authority) = (base.scheme_str().unwrap_or(""), base.authority().map_or("", |a| a.as_str()));
    let head = location.split(['?', '#']).next().unwrap_or("");
    if head.contains("://") {
        url(location)
    } else if location.starts_with("//") {
        url(&format!("{scheme}:{location}"))
    } else if location.starts_with('/') {
        url(&format!("{scheme}://{authority}{location}"))
    } else if location.starts_with('?') {
        url(&format!("{scheme}://{authority}{}{location}", base.path()))
    } else {
        let folder = base.path().rfind('/').map_or("/", |slash| &base.path()[..=slash]);
        url(&format!("{scheme}://{authority}{folder}{location}"))
    }
}

/// What went wrong on the way, in words.
pub(super) fn trouble(error: ureq::Error, url: &Uri) -> Trouble {
    let host = url.authority().map_or("", |a| a.as_str());
    match error {
        ureq::Error::Other(inner) => match inner.downcast::<Error>() {
            Ok(ours) if ours.kind() == Kind::NotFound => Trouble::Lasting(*ours),
            Ok(ours) => Trouble::passing(*ours),
            Err(other) => Trouble::passing(Error::other(format!("{host}: {other}"))),
        },
        ureq::Error::Timeout(_) => Trouble::passing(Error::other(format!("{host}: no answer in time"))),
        ureq::Error::Rustls(tls) => tls_trouble(&tls, host),
        ureq::Error::Io(io) => io_trouble(io, host),
        ureq::Error::ConnectProxyFailed(why) => {
            Error::other(format!("{host}: the proxy refuses: {}", super::printable(&why))).into()
        }
        ureq::Error::LargeResponseHeader(..) => {
            Error::invalid(format!("{host}: the head of its answer is longer than {LONGEST_HEAD} bytes"))
                .into()
        }
        ureq::Error::Protocol(why) => {
            let why = super::printable(&why.to_string());
            Error::invalid(format!("{host}: its answer is not HTTP as it should be: {why}")).into()
        }
        other => Trouble::passing(Error::other(format!("{host}: {}", super::printable(&other.to_string())))),
    }
}

fn io_trouble(error: io::Error, host: &str) -> Trouble {
    let inner = error.get_ref();
    if let Some(ours) = inner.and_then(|e| e.downcast_ref::<Error>()) {
        return Trouble::Lasting(ours.clone());
    }
    if let Some(tls) = inner.and_then(|e| e.downcast_ref::<rustls::Error>()) {
        return tls_trouble(tls, host);
    }
    let why = match error.kind() {
        io::ErrorKind::UnexpectedEof => "the connection was cut".to_owned(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "no answer in time".to_owned(),
        _ => Error::from(error).to_string(),
    };
    Trouble::passing(Error::other(format!("{host}: {why}")))
}

fn tls_trouble(error: &rustls::Error, host: &str) -> Trouble {
    use rustls::CertificateError::{
        Expired, ExpiredContext, NotValidForName, NotValidForNameContext, UnknownIssuer,
    };
    let help = format!("put its issuer's into /etc/containers/certs.d/{host}/ca.crt, or use --insecure");
    match error {
        rustls::Error::InvalidCertificate(why) => {
            let why = match why {
                UnknownIssuer => format!("issued by nobody we know: {help}"),
                Expired | ExpiredContext { .. } => "expired: renew it, or use --insecure".to_owned(),
                NotValidForName | NotValidForNameContext { .. } => {
                    "for another host: use the host's right name, or --insecure".to_owned()
                }
                other => format!("{}: {help}", super::printable(&format!("{other:?}").to_lowercase())),
            };
            Error::invalid(format!("{host}: its certificate is {why}")).into()
        }
        rustls::Error::InvalidMessage(_) => {
            Error::unsupported(format!("{host}: it does not speak TLS: use --insecure for plain http")).into()
        }
        rustls::Error::AlertReceived(alert) => {
            Error::other(format!("{host}: it refuses TLS: {alert:?}")).into()
        }
        other => {
            Trouble::passing(Error::other(format!("{host}: TLS: {}", super::printable(&other.to_string()))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_read_from_where_they_stand() {
        let base = url("https://r.example:5000/v2/a/blobs/uploads/?x=1").unwrap();
        for (location, expect) in [
            ("https://s.example/x?sig=1#frag", "https://s.example/x?sig=1"),
            ("//s.example/x", "https://s.example/x"),
            ("/v2/b", "https://r.example:5000/v2/b"),
            ("id?state=1", "https://r.example:5000/v2/a/blobs/uploads/id?state=1"),
            ("?n=2", "https://r.example:5000/v2/a/blobs/uploads/?n=2"),
            ("/x?to=http://s.example/", "https://r.example:5000/x?to=http://s.example/"),
        ] {
            assert_eq!(join(&base, location).unwrap().to_string(), expect);
        }
        for wrong in ["file:///etc/passwd", "https://u:p@s.example/", "https://", "/with space"] {
            assert!(join(&base, wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn origins_differ_by_scheme_host_and_port() {
        let same = |a: &str, b: &str| origin(&url(a).unwrap()) == origin(&url(b).unwrap());
        assert!(same("https://R.example/a", "https://r.example:443/b?c"));
        assert!(!same("https://r.example/", "http://r.example/"));
        assert!(!same("https://r.example/", "https://r.example:5000/"));
        assert!(!same("https://r.example/", "https://r.example.evil/"));
    }

    #[test]
    fn urls_are_shown_without_what_may_be_secret() {
        assert_eq!(display(&url("https://s.example/x?sig=geheim").unwrap()), "https://s.example/x");
        let error = url("ftp://s.example/x?sig=geheim").unwrap_err().to_string();
        assert!(!error.contains("geheim"), "{error}");
        let error = url("https://u:geheim@s.example/").unwrap_err().to_string();
        assert!(!error.contains("geheim"), "{error}");
    }
}
