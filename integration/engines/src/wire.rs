//! ttrpc and protobuf by hand, as far as a client of a shim needs them: what ctr cannot say, and what nobody should.
//!
//! A frame is a big-endian length, a stream number, a type (1 request, 2 response) and flags; its body a protobuf message.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;

/// A protobuf message being written.
#[derive(Default, Clone)]
pub struct Message(pub Vec<u8>);

impl Message {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a string, unless it is empty.
    pub fn text(self, field: u32, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    /// With bytes, unless there are none.
    pub fn bytes(mut self, field: u32, bytes: &[u8]) -> Self {
        if !bytes.is_empty() {
            varint(&mut self.0, u64::from(field) << 3 | 2);
            varint(&mut self.0, bytes.len() as u64);
            self.0.extend_from_slice(bytes);
        }
        self
    }

    /// With a number, unless it is zero.
    pub fn number(mut self, field: u32, number: u64) -> Self {
        if number != 0 {
            varint(&mut self.0, u64::from(field) << 3);
            varint(&mut self.0, number);
        }
        self
    }

    /// With a message inside, even an empty one.
    pub fn message(mut self, field: u32, message: &Message) -> Self {
        varint(&mut self.0, u64::from(field) << 3 | 2);
        varint(&mut self.0, message.0.len() as u64);
        self.0.extend_from_slice(&message.0);
        self
    }

    /// `google.protobuf.Any`.
    pub fn any(type_url: &str, value: &[u8]) -> Self {
        Self::new().text(1, type_url).bytes(2, value)
    }
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// A protobuf message as read: fields by number, each as often as it came.
#[derive(Default, Debug, Clone)]
pub struct Fields(BTreeMap<u32, Vec<Value>>);

#[derive(Debug, Clone)]
enum Value {
    Number(u64),
    Bytes(Vec<u8>),
}

impl Fields {
    /// Reads a message; nothing if it is none.
    pub fn read(mut bytes: &[u8]) -> Option<Self> {
        let mut fields = Self::default();
        while !bytes.is_empty() {
            let key = take_varint(&mut bytes)?;
            let value = match key & 7 {
                0 => Value::Number(take_varint(&mut bytes)?),
                1 => Value::Number(u64::from_le_bytes(take(&mut bytes, 8)?.try_into().ok()?)),
                2 => {
                    let length = take_varint(&mut bytes)? as usize;
                    Value::Bytes(take(&mut bytes, length)?.to_vec())
                }
                5 => Value::Number(u64::from(u32::from_le_bytes(take(&mut bytes, 4)?.try_into().ok()?))),
                _ => return None,
            };
            fields.0.entry((key >> 3) as u32).or_default().push(value);
        }
        Some(fields)
    }

    /// The fields that are there.
    pub fn numbers(&self) -> impl Iterator<Item = u32> {
        self.0.keys().copied()
    }

    /// A number; zero if it is missing.
    pub fn number(&self, field: u32) -> u64 {
        match self.0.get(&field).and_then(|values| values.last()) {
            Some(Value::Number(number)) => *number,
            _ => 0,
        }
    }

    /// Bytes; none if they are missing.
    pub fn bytes(&self, field: u32) -> &[u8] {
        self.all(field).pop().unwrap_or_default()
    }

    /// A string; empty if it is missing.
    pub fn text(&self, field: u32) -> String {
        String::from_utf8_lossy(self.bytes(field)).into_owned()
    }

    /// A message inside; an empty one if it is missing.
    #[track_caller]
    pub fn message(&self, field: u32) -> Fields {
        Fields::read(self.bytes(field)).expect("a message")
    }

    /// A repeated field of bytes, strings or messages.
    pub fn all(&self, field: u32) -> Vec<&[u8]> {
        let values = self.0.get(&field).into_iter().flatten();
        values
            .filter_map(|value| match value {
                Value::Bytes(bytes) => Some(bytes.as_slice()),
                Value::Number(_) => None,
            })
            .collect()
    }
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, tail) = bytes.split_at_checked(length)?;
    *bytes = tail;
    Some(head)
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// An error as ttrpc tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// gRPC's number: 5 not found, 6 already exists, 9 failed precondition, 12 unimplemented, 2 unknown.
    pub code: u64,
    /// In words.
    pub message: String,
}

/// What a call brings.
pub type Result = std::result::Result<Fields, Status>;

/// A connection on which calls may overlap.
pub struct Client {
    stream: UnixStream,
    last: u32,
    early: BTreeMap<u32, Result>,
}

impl Client {
    /// Connects to a socket.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, last: 0, early: BTreeMap::new() })
    }

    /// Sends a request; its number.
    #[track_caller]
    pub fn begin(&mut self, service: &str, method: &str, payload: &Message) -> u32 {
        // Streams of clients are odd.
        self.last += if self.last == 0 { 1 } else { 2 };
        let body = Message::new().text(1, service).text(2, method).bytes(3, &payload.0);
        write_frame(&mut self.stream, self.last, REQUEST, &body.0).expect("the shim takes a request");
        self.last
    }

    /// Waits for the answer to a request.
    #[track_caller]
    pub fn end(&mut self, number: u32) -> Result {
        loop {
            if let Some(answer) = self.early.remove(&number) {
                return answer;
            }
            let (stream, kind, body) = read_frame(&mut self.stream).expect("the shim answers");
            if kind == RESPONSE {
                self.early.insert(stream, answer(&body));
            }
        }
    }

    /// A request and its answer.
    #[track_caller]
    pub fn call(&mut self, service: &str, method: &str, payload: &Message) -> Result {
        let number = self.begin(service, method, payload);
        self.end(number)
    }

    /// Whether this request is unanswered for a while.
    #[track_caller]
    pub fn is_pending(&mut self, number: u32, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).expect("a time limit");
        let pending = loop {
            match read_frame(&mut self.stream) {
                Ok((stream, _, body)) => {
                    self.early.insert(stream, answer(&body));
                    if stream == number {
                        break false;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break true,
                Err(e) => panic!("the shim's connection: {e}"),
            }
        };
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        pending
    }
}

impl Client {
    /// Waits for the answer, or for the end of the connection.
    pub fn is_pending_or_gone(&mut self, number: u32, time: Duration) -> bool {
        let _ = self.stream.set_read_timeout(Some(time));
        loop {
            match read_frame(&mut self.stream) {
                Ok((stream, ..)) if stream == number => return false,
                Ok(_) => {}
                Err(_) => return true,
            }
        }
    }
}

fn answer(body: &[u8]) -> Result {
    let response = Fields::read(body).expect("a response");
    let status = response.message(1);
    if status.number(1) != 0 {
        return Err(Status { code: status.number(1), message: status.text(2) });
    }
    Ok(response.message(2))
}

/// One frame.
pub fn write_frame(stream: &mut impl Write, number: u32, kind: u8, body: &[u8]) -> io::Result<()> {
    let mut frame = (body.len() as u32).to_be_bytes().to_vec();
    frame.extend(number.to_be_bytes());
    frame.extend([kind, 0]);
    frame.extend_from_slice(body);
    stream.write_all(&frame)
}

/// One frame: stream number, type, body.
pub fn read_frame(stream: &mut impl Read) -> io::Result<(u32, u8, Vec<u8>)> {
    let mut head = [0; 10];
    stream.read_exact(&mut head)?;
    let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let mut body = vec![0; word(0) as usize];
    stream.read_exact(&mut body)?;
    Ok((word(4), head[8], body))
}

/// Takes events of shims as containerd does, each as it comes; a connection ends when one is not taken.
pub fn serve_events(
    listener: std::os::unix::net::UnixListener,
    take: impl Fn(Fields) -> bool + Clone + Send + 'static,
) {
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(std::result::Result::ok) {
            let (mut stream, take) = (stream, take.clone());
            std::thread::spawn(move || {
                while let Ok((number, REQUEST, body)) = read_frame(&mut stream) {
                    let request = Fields::read(&body).expect("a request");
                    assert_eq!(request.text(1), "containerd.services.events.ttrpc.v1.Events");
                    if !take(request.message(3).message(1)) {
                        break;
                    }
                    if write_frame(&mut stream, number, RESPONSE, &Message::new().0).is_err() {
                        break;
                    }
                }
            });
        }
    });
}
