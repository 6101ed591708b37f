//! A small registry in memory on loopback that does what a test tells it to do wrong: statuses, cuts, silence, redirects,
//! other bytes than promised, bodies without end. It writes down every request.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use pintle_image::digest::Digest;
use pintle_image::manifest::Descriptor;
use rustix::net::sockopt;

/// What goes wrong with an answer.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Another status with these headers and an error document.
    Status(u16, Vec<(&'static str, String)>),
    /// The connection closes instead of an answer.
    Close,
    /// The connection closes after so many bytes of the body.
    Cut(usize),
    /// No ranges here.
    WholeOnly,
    /// Nothing at all for a while, then the answer.
    Stall(Duration),
    /// Other bytes, in a well-formed answer.
    Bytes(Vec<u8>),
    /// Other headers beside or in place of the usual ones.
    Headers(Vec<(&'static str, String)>),
    /// A body without a length that never ends.
    Endless,
    /// A head that never ends.
    EndlessHead,
}

/// Who may do what.
#[derive(Clone, Debug)]
pub enum Gate {
    Open,
    /// A user's name and password.
    Basic(&'static str, &'static str),
    /// Tokens from `/token` of the server whose base URL this is; a name and password if they are asked for there.
    Bearer(String, Option<(&'static str, &'static str)>),
}

/// How fast bodies go: a piece of so many bytes, then a pause.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub piece: usize,
    pub pause: Duration,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    headers: HashMap<String, String>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

#[derive(Default)]
struct State {
    /// By repository and digest.
    blobs: HashMap<(String, String), Vec<u8>>,
    /// By repository and tag or digest: media type and bytes.
    manifests: HashMap<(String, String), (String, Vec<u8>)>,
    uploads: HashMap<String, Vec<u8>>,
    tokens: HashSet<String>,
    issued: u32,
    faults: Vec<(String, String, Fault, u32)>,
    seen: Vec<Seen>,
    /// Bytes of bodies that succeeded, by path.
    sent: HashMap<String, u64>,
    pace: Option<Pace>,
}

struct Shared {
    state: Mutex<State>,
    gate: Mutex<Gate>,
    tls: Option<Arc<rustls::ServerConfig>>,
    address: SocketAddr,
    /// Connections that have not ended.
    open: AtomicUsize,
}

/// The server; it lives as long as the test's process.
#[derive(Clone)]
pub struct Server(Arc<Shared>);

/// What a request is answered with.
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Reply {
    fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    fn error(status: u16) -> Self {
        let text = format!(r#"{{"errors":[{{"code":"TEST","message":"fault {status}"}}]}}"#);
        Self::new(status).header("content-type", "application/json").body(text)
    }
}

impl Server {
    /// A registry over plain http.
    pub fn new() -> Self {
        Self::with(None)
    }

    /// A registry with TLS, or without.
    pub fn with(tls: Option<rustls::ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port of our own");
        let shared = Shared {
            state: Mutex::default(),
            gate: Mutex::new(Gate::Open),
            tls: tls.map(Arc::new),
            address: listener.local_addr().expect("bound"),
            open: AtomicUsize::new(0),
        };
        let server = Self(Arc::new(shared));
        let accepting = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = accepting.clone();
                server.0.open.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || {
                    server.connection(stream);
                    server.0.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        server
    }

    /// `127.0.0.1:PORT`, or `localhost:PORT` with TLS.
    pub fn host(&self) -> String {
        match self.0.tls {
            Some(_) => format!("localhost:{}", self.0.address.port()),
            None => self.0.address.to_string(),
        }
    }

    pub fn port(&self) -> u16 {
        self.0.address.port()
    }

    pub fn gate(&self, gate: Gate) {
        *self.0.gate.lock().unwrap() = gate;
    }

    /// The next `times` requests with this method, whose path contains this, go wrong.
    pub fn fault(&self, method: &str, path: &str, fault: Fault, times: u32) {
        self.0.state.lock().unwrap().faults.push((method.into(), path.into(), fault, times));
    }

    /// No token that was given out so far is good any more.
    pub fn forget_tokens(&self) {
        self.0.state.lock().unwrap().tokens.clear();
    }

    pub fn add_blob(&self, repository: &str, bytes: &[u8]) -> Descriptor {
        let descriptor = Descriptor::of("application/octet-stream", bytes);
        let key = (repository.to_owned(), descriptor.digest.to_string());
        self.0.state.lock().unwrap().blobs.insert(key, bytes.to_vec());
        descriptor
    }

    pub fn blob(&self, repository: &str, digest: &Digest) -> Option<Vec<u8>> {
        let key = (repository.to_owned(), digest.to_string());
        self.0.state.lock().unwrap().blobs.get(&key).cloned()
    }

    pub fn add_manifest(&self, repository: &str, tag: &str, media_type: &str, bytes: &[u8]) {
        let mut state = self.0.state.lock().unwrap();
        for selector in [tag.to_owned(), Digest::of(bytes).to_string()] {
            state
                .manifests
                .insert((repository.to_owned(), selector), (media_type.to_owned(), bytes.to_vec()));
        }
    }

    /// The requests with this method whose path contains this, in order.
    pub fn seen(&self, method: &str, path: &str) -> Vec<Seen> {
        let state = self.0.state.lock().unwrap();
        state.seen.iter().filter(|s| s.method == method && s.path.contains(path)).cloned().collect()
    }

    /// From now on bodies go as fast as this.
    pub fn pace(&self, piece: usize, pause: Duration) {
        self.0.state.lock().unwrap().pace = Some(Pace { piece, pause });
    }

    /// Bytes that were sent of what has this in its path.
    pub fn sent(&self, path: &str) -> u64 {
        let state = self.0.state.lock().unwrap();
        state.sent.iter().filter(|(sent, _)| sent.contains(path)).map(|(_, bytes)| bytes).sum()
    }

    /// Waits until everything that clients who are gone asked for was seen.
    pub fn settle(&self) {
        // Connections are accepted in their order: behind this one there is none of theirs.
        let mut last = TcpStream::connect(self.0.address).unwrap();
        last.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        last.read_exact(&mut [0; 8]).unwrap();
        drop(last);
        while self.0.open.load(Ordering::SeqCst) > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn connection(&self, stream: TcpStream) {
        stream.set_read_timeout(Some(Duration::from_secs(20))).ok();
        // What is on its way at a slow pace is little: nobody fills the kernel's memory ahead of a client.
        if let Some(pace) = self.0.state.lock().unwrap().pace {
            sockopt::set_socket_send_buffer_size(&stream, pace.piece).unwrap();
        }
        match &self.0.tls {
            None => self.converse(stream),
            Some(config) => {
                let connection =
                    rustls::ServerConnection::new(Arc::clone(config)).expect("a good configuration");
                self.converse(rustls::StreamOwned::new(connection, stream));
            }
        }
    }

    /// Requests of one connection until either side has enough.
    fn converse(&self, stream: impl Read + Write) {
        let mut stream = BufReader::new(stream);
        // What Go's servers say to a client that begins with TLS.
        if stream.fill_buf().is_ok_and(|bytes| bytes.first() == Some(&0x16)) {
            stream.get_mut().write_all(b"HTTP/1.0 400 Bad Request\r\n\r\nthis is http").ok();
            return;
        }
        while let Some(seen) = read_head(&mut stream) {
            self.0.state.lock().unwrap().seen.push(seen.clone());
            let fault = self.take_fault(&seen);
            if let Some(Fault::Stall(time)) = &fault {
                std::thread::sleep(*time);
            }
            if matches!(fault, Some(Fault::Close)) {
                return;
            }
            // Who has something against a request says so before its body comes.
            let refused = match &fault {
                Some(Fault::Status(status, headers)) => {
                    let with = |reply: Reply, (name, value): &(&str, String)| reply.header(name, value);
                    Some(headers.iter().fold(Reply::error(*status), with))
                }
                _ => self.refuse(&seen),
            };
            let length = seen.header("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
            let waits = seen.header("expect").is_some();
            let mut body = Vec::new();
            if refused.is_none() || !waits {
                if waits && stream.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n").is_err() {
                    return;
                }
                if Read::by_ref(&mut stream).take(length).read_to_end(&mut body).is_err() {
                    return;
                }
            }
            let close = refused.is_some() && waits;
            let whole_only = matches!(fault, Some(Fault::WholeOnly));
            let reply = refused.unwrap_or_else(|| self.reply(&seen, body, whole_only));
            if self.write_reply(stream.get_mut(), &seen, reply, fault, close).is_none() || close {
                return;
            }
        }
    }

    fn take_fault(&self, seen: &Seen) -> Option<Fault> {
        let mut state = self.0.state.lock().unwrap();
        let (.., fault, times) = state.faults.iter_mut().find(|(method, path, _, times)| {
            *times > 0 && seen.method == *method && seen.path.contains(path.as_str())
        })?;
        *times -= 1;
        Some(fault.clone())
    }

    /// What the gate says to a request, if it does not let it in.
    fn refuse(&self, seen: &Seen) -> Option<Reply> {
        if !seen.path.starts_with("/v2/") {
            return None;
        }
        let shown = seen.header("authorization");
        let refusal = |challenge: String| Some(Reply::error(401).header("www-authenticate", challenge));
        match &*self.0.gate.lock().unwrap() {
            Gate::Open => None,
            Gate::Basic(user, password) => match shown == Some(&basic(user, password)) {
                true => None,
                false => refusal("Basic realm=\"test\"".into()),
            },
            Gate::Bearer(base, _) => {
                let token = shown.and_then(|header| header.strip_prefix("Bearer "));
                match token.is_some_and(|token| self.0.state.lock().unwrap().tokens.contains(token)) {
                    true => None,
                    false => refusal(format!("Bearer realm=\"{base}/token?x=1\",service=\"test\"")),
                }
            }
        }
    }

    fn token(&self, seen: &Seen, form: &[u8]) -> Reply {
        let identity =
            "service=test&grant_type=refresh_token&refresh_token=identity%2B1&client_id=pintle-image&scope=";
        let refresh = seen.method == "POST" && String::from_utf8_lossy(form).starts_with(identity);
        if !refresh
            && let Gate::Bearer(_, Some((user, password))) = &*self.0.gate.lock().unwrap()
            && seen.header("authorization") != Some(&basic(user, password))
        {
            return Reply::error(401);
        }
        let mut state = self.0.state.lock().unwrap();
        state.issued += 1;
        let token = format!("token-{}", state.issued);
        state.tokens.insert(token.clone());
        Reply::new(200).body(format!(r#"{{"token":"{token}","expires_in":300}}"#))
    }

    fn reply(&self, seen: &Seen, body: Vec<u8>, whole_only: bool) -> Reply {
        let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
        if path == "/token" {
            return self.token(seen, &body);
        }
        if path == "/v2/" {
            return Reply::new(200).body("{}");
        }
        let rest = path.strip_prefix("/v2/").unwrap_or("");
        if let Some((repository, selector)) = rest.split_once("/manifests/") {
            return self.manifests(seen, repository, selector, body);
        }
        if let Some((repository, id)) = rest.split_once("/blobs/uploads/") {
            return self.uploads(seen, repository, id, query, body);
        }
        match rest.split_once("/blobs/") {
            Some((repository, digest)) => self.blobs(seen, repository, digest, whole_only),
            None => Reply::error(404),
        }
    }

    fn manifests(&self, seen: &Seen, repository: &str, selector: &str, body: Vec<u8>) -> Reply {
        if seen.method == "PUT" {
            let kind = seen.header("content-type").unwrap_or("");
            let digest = Digest::of(&body);
            self.add_manifest(repository, selector, kind, &body);
            return Reply::new(201).header("docker-content-digest", digest.as_str());
        }
        let state = self.0.state.lock().unwrap();
        match state.manifests.get(&(repository.to_owned(), selector.to_owned())) {
            Some((kind, bytes)) => Reply::new(200)
                .header("content-type", kind)
                .header("docker-content-digest", Digest::of(bytes).as_str())
                .body(bytes.clone()),
            None => Reply::error(404),
        }
    }

    fn blobs(&self, seen: &Seen, repository: &str, digest: &str, whole_only: bool) -> Reply {
        let state = self.0.state.lock().unwrap();
        let Some(bytes) = state.blobs.get(&(repository.to_owned(), digest.to_owned())) else {
            return Reply::error(404);
        };
        let range =
            seen.header("range").and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        match range.filter(|_| !whole_only) {
            Some(start) if start < bytes.len() => {
                let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
                Reply::new(206).header("content-range", range).body(&bytes[start..])
            }
            Some(_) => Reply::error(416),
            None => Reply::new(200).body(bytes.clone()),
        }
    }

    fn uploads(&self, seen: &Seen, repository: &str, id: &str, query: &str, body: Vec<u8>) -> Reply {
        let mut state = self.0.state.lock().unwrap();
        let field = |name: &str| {
            let value = query.split('&').find_map(|field| field.strip_prefix(name)?.strip_prefix('='))?;
            Some(value.replace("%3A", ":").replace("%2F", "/"))
        };
        let to = |id: &str| format!("/v2/{repository}/blobs/uploads/{id}?state=x");
        match seen.method.as_str() {
            "POST" => {
                if let (Some(digest), Some(from)) = (field("mount"), field("from"))
                    && let Some(bytes) = state.blobs.get(&(from, digest.clone())).cloned()
                {
                    state.blobs.insert((repository.to_owned(), digest), bytes);
                    return Reply::new(201);
                }
                state.issued += 1;
                let id = format!("upload-{}", state.issued);
                state.uploads.insert(id.clone(), Vec::new());
                Reply::new(202).header("location", to(&id))
            }
            "PATCH" => {
                let Some(upload) = state.uploads.get_mut(id) else { return Reply::error(404) };
                let range = format!("{}-{}", upload.len(), upload.len() + body.len() - 1);
                if seen.header("content-range") != Some(&range) {
                    return Reply::error(416);
                }
                upload.extend(body);
                Reply::new(202).header("location", to(id))
            }
            "PUT" => {
                let (Some(mut upload), Some(digest)) = (state.uploads.remove(id), field("digest")) else {
                    return Reply::error(404);
                };
                upload.extend(body);
                if Digest::of(&upload).as_str() != digest {
                    return Reply::error(400);
                }
                state.blobs.insert((repository.to_owned(), digest), upload);
                Reply::new(201)
            }
            _ => Reply::new(204),
        }
    }

    /// None where the connection ends with it.
    fn write_reply(
        &self,
        stream: &mut impl Write,
        seen: &Seen,
        mut reply: Reply,
        fault: Option<Fault>,
        close: bool,
    ) -> Option<()> {
        let mut cut = None;
        match fault {
            Some(Fault::Cut(at)) => cut = Some(at),
            Some(Fault::Bytes(bytes)) => reply = reply.body(bytes),
            Some(Fault::Headers(headers)) => {
                for (name, value) in headers {
                    reply = reply.header(name, value);
                }
            }
            Some(Fault::Endless) => {
                write!(stream, "HTTP/1.1 {} Fault\r\n\r\n", reply.status).ok()?;
                while stream.write_all(&[b'0'; 65536]).is_ok() {}
                return None;
            }
            Some(Fault::EndlessHead) => {
                write!(stream, "HTTP/1.1 200 Fault\r\n").ok()?;
                let line = format!("x-more: {}\r\n", "and more ".repeat(100));
                while stream.write_all(line.as_bytes()).is_ok() {}
                return None;
            }
            _ => {}
        }
        let length = reply.body.len();
        let mut head = format!("HTTP/1.1 {} Test\r\n", reply.status);
        if !reply.headers.iter().any(|(name, _)| name == "content-length") {
            reply = reply.header("content-length", length.to_string());
        }
        if close {
            reply = reply.header("connection", "close");
        }
        for (name, value) in &reply.headers {
            head += &format!("{name}: {value}\r\n");
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
        if seen.method != "HEAD" {
            let body = &reply.body[..cut.unwrap_or(length).min(length)];
            if (200..300).contains(&reply.status) {
                self.write_body(stream, &seen.path, body)?
            } else {
                stream.write_all(body).ok()?
            }
        }
        stream.flush().ok()?;
        cut.is_none().then_some(())
    }

    fn write_body(&self, stream: &mut impl Write, path: &str, body: &[u8]) -> Option<()> {
        let pace = self.0.state.lock().unwrap().pace;
        for piece in body.chunks(pace.map_or(usize::MAX, |pace| pace.piece)) {
            stream.write_all(piece).ok()?;
            stream.flush().ok()?;
            *self.0.state.lock().unwrap().sent.entry(path.to_owned()).or_default() += piece.len() as u64;
            pace.iter().for_each(|pace| std::thread::sleep(pace.pause));
        }
        Some(())
    }
}

pub fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

/// A request's head; none where the connection ends, or does not speak HTTP.
fn read_head(stream: &mut impl BufRead) -> Option<Seen> {
    let mut line = String::new();
    stream.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut words = line.split_ascii_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok().filter(|n| *n > 0)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.trim().to_owned()),
            None => return Some(Seen { method, path, headers }),
        };
    }
}
