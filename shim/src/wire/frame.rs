//! ttrpc: frames of ten bytes of header (length, stream, type, flags; big endian) and a body of at most 4 MiB, over a stream socket that
//! may cut them anywhere. (containerd/ttrpc, PROTOCOL.md)

use super::{Any, Code, Failure};
use prost::Message as _;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

/// Bytes before the body.
const HEADER: usize = 10;
/// The most that a body may have, in bytes.
const LONGEST: usize = 4 << 20;
/// What a peer may leave unread before it is given up, in bytes.
const MOST_UNREAD: usize = 16 << 20;
/// Read at once, in bytes.
const CHUNK: usize = 16 << 10;

/// A frame carries a request.
pub const REQUEST: u8 = 1;
/// A frame carries a response.
pub const RESPONSE: u8 = 2;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Requests have odd numbers; the response has its request's.
    pub stream: u32,
    /// [`REQUEST`], [`RESPONSE`], or of a streaming call, which no service here has.
    pub kind: u8,
    /// The body.
    pub body: Vec<u8>,
}

/// The body of a request.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Request {
    /// Full name of the service.
    #[prost(string, tag = "1")]
    pub service: String,
    /// Name of the method.
    #[prost(string, tag = "2")]
    pub method: String,
    /// The method's own message.
    #[prost(bytes = "vec", tag = "3")]
    pub payload: Vec<u8>,
    /// How long the caller waits, in nanoseconds; 0: for ever.
    #[prost(int64, tag = "4")]
    pub timeout_nano: i64,
    /// The caller's namespace and the like.
    #[prost(message, repeated, tag = "5")]
    pub metadata: Vec<KeyValue>,
}

/// One word about a request.
#[derive(Clone, PartialEq, prost::Message)]
pub struct KeyValue {
    /// Its name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// The body of a response.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Response {
    /// None, or code 0: it went well.
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    /// The method's own message.
    #[prost(bytes = "vec", tag = "2")]
    pub payload: Vec<u8>,
}

/// google.rpc.Status
#[derive(Clone, PartialEq, prost::Message)]
pub struct Status {
    /// See [`Code`].
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// For people.
    #[prost(string, tag = "2")]
    pub message: String,
    /// Nothing that a shim sends.
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Any>,
}

impl Response {
    /// The response to a request that came to `answer`.
    pub fn of(answer: Result<Vec<u8>, Failure>) -> Self {
        match answer {
            Ok(payload) => Self { status: None, payload },
            Err(failure) => {
                let (code, message) = (failure.code as i32, failure.message);
                Self { status: Some(Status { code, message, details: Vec::new() }), payload: Vec::new() }
            }
        }
    }
}

/// A peer on a stream socket that never makes this process wait.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    input: Vec<u8>,
    /// Of a body that is too long: still to be thrown away.
    skip: usize,
    output: Vec<u8>,
    sent: usize,
}

/// What came in.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A frame.
    Frame(Frame),
    /// One on this stream that is too long; its body is skipped.
    TooLong(u32),
}

impl Connection {
    /// A peer; the socket is not to block.
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, input: Vec::new(), skip: 0, output: Vec::new(), sent: 0 }
    }

    /// Reads what is there. False: the peer will send nothing more.
    pub fn receive(&mut self) -> bool {
        let mut chunk = [0; CHUNK];
        loop {
            match rustix::net::recv(&self.socket, &mut chunk, RecvFlags::empty()) {
                Ok((0, _)) => return false,
                Ok((n, _)) => self.take(chunk.get(..n).unwrap_or_default()),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return true,
                Err(_) => return false,
            }
            // Others want to be heard, too: what is left makes epoll report again.
            if self.input.len() > LONGEST {
                return true;
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        self.input.extend_from_slice(bytes.get(skipped..).unwrap_or_default());
    }

    /// The next whole frame.
    pub fn frame(&mut self) -> Option<Incoming> {
        let (header, _) = self.input.split_first_chunk::<HEADER>()?;
        let [a, b, c, d, e, f, g, h, kind, _flags] = *header;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let stream = u32::from_be_bytes([e, f, g, h]);
        if length > LONGEST {
            let there = (self.input.len() - HEADER).min(length);
            self.input.drain(..HEADER + there);
            self.skip = length - there;
            return Some(Incoming::TooLong(stream));
        }
        let body = self.input.get(HEADER..HEADER + length)?.to_vec();
        self.input.drain(..HEADER + length);
        if self.input.is_empty() {
            // What one large message took is not kept for ever.
            self.input.shrink_to(CHUNK);
        }
        Some(Incoming::Frame(Frame { stream, kind, body }))
    }

    /// Sends a frame, now or as soon as the peer reads. False: it is gone, or reads nothing.
    pub fn send(&mut self, stream: u32, kind: u8, body: &impl prost::Message) -> bool {
        let mut length = body.encoded_len();
        let too_long;
        let body = if length <= LONGEST {
            body.encode_to_vec()
        } else {
            let words = format!("a response of {length} bytes is longer than {LONGEST}");
            too_long = Response::of(Err(Failure { code: Code::ResourceExhausted, message: words }));
            length = too_long.encoded_len();
            too_long.encode_to_vec()
        };
        let length = u32::try_from(length).unwrap_or(0);
        self.output.extend_from_slice(&length.to_be_bytes());
        self.output.extend_from_slice(&stream.to_be_bytes());
        self.output.extend_from_slice(&[kind, 0]);
        self.output.extend_from_slice(&body);
        self.flush() && self.output.len() - self.sent <= MOST_UNREAD
    }

    /// Sends what waits. False: the peer is gone.
    pub fn flush(&mut self) -> bool {
        while let Some(rest) = self.output.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match rustix::net::send(&self.socket, rest, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(n) => self.sent += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
        self.output = Vec::new();
        self.sent = 0;
        true
    }

    /// Something waits for the peer to read.
    pub fn wants_to_send(&self) -> bool {
        self.sent < self.output.len()
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    fn pair() -> (Connection, OwnedFd) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        (Connection::new(ours), theirs)
    }

    #[test]
    fn frames_are_whole_wherever_the_stream_is_cut() {
        let request =
            Request { service: "s".into(), method: "m".into(), payload: vec![7; 300], ..Request::default() };
        let (mut sender, theirs) = pair();
        assert!(sender.send(5, REQUEST, &request) && sender.send(7, REQUEST, &request));
        let mut bytes = vec![0; 2000];
        let n = rustix::io::read(&theirs, &mut bytes).unwrap();
        for cut in 0..n {
            let (mut receiver, _) = pair();
            receiver.take(&bytes[..cut]);
            let mut found = Vec::new();
            found.extend(std::iter::from_fn(|| receiver.frame()));
            receiver.take(&bytes[cut..n]);
            found.extend(std::iter::from_fn(|| receiver.frame()));
            let body = request.encode_to_vec();
            let expect =
                [5, 7].map(|stream| Incoming::Frame(Frame { stream, kind: REQUEST, body: body.clone() }));
            assert_eq!(found, expect, "cut at {cut}");
        }
    }

    #[test]
    fn a_frame_that_is_too_long_is_skipped_and_told() {
        let (mut receiver, _) = pair();
        let length = LONGEST + 20;
        let mut bytes = u32::try_from(length).unwrap().to_be_bytes().to_vec();
        bytes.extend([0, 0, 0, 9, REQUEST, 0]);
        receiver.take(&bytes);
        assert_eq!(receiver.frame(), Some(Incoming::TooLong(9)));
        let body = vec![1; 1 << 20];
        for _ in 0..4 {
            receiver.take(&body);
            assert_eq!(receiver.frame(), None);
        }
        receiver.take(&[1; 20]);
        receiver.take(&[0, 0, 0, 0, 0, 0, 0, 3, REQUEST, 0]);
        let expect = Frame { stream: 3, kind: REQUEST, body: Vec::new() };
        assert_eq!(receiver.frame(), Some(Incoming::Frame(expect)));
        assert!(receiver.input.is_empty());
    }

    #[test]
    fn a_peer_that_reads_nothing_is_given_up() {
        let (mut sender, _theirs) = pair();
        let response = Response { status: None, payload: vec![0; 1 << 20] };
        let sent = (0..100).take_while(|_| sender.send(1, RESPONSE, &response)).count();
        assert!((15..20).contains(&sent), "{sent}");
    }
}
