//! One connection to a message bus, for a few calls: what systemd is asked by. Everything is sent without waiting, the
//! greeting included, so a call costs one round trip; every wait has an end. The crate `zbus` knows the wire format.
//! D-Bus Specification, "Authentication Protocol", "Message Protocol"; sd-bus(3) greets in the same way.

use crate::bail;
use crate::error::{Context as _, Error, Result, errno_text};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use serde::ser::{Serialize, SerializeStruct, Serializer};
use std::time::{Duration, Instant};
use zbus::wire::serialized::{Context, Data};
use zbus::wire::{DynamicType, Endian, Type, to_bytes};
use zbus::{ObjectPath, Signature, Variant};

mod address;

pub use address::{Address, Buses};

/// The bus itself, for calls to it.
pub const BUS: Peer<'_> =
    Peer { name: "org.freedesktop.DBus", path: "/org/freedesktop/DBus", interface: "org.freedesktop.DBus" };

/// No answer to anything asked here is longer.
const LONGEST: usize = 1 << 20;
/// The part of a message's head that has always the same length.
const FIXED: usize = 16;
const CALL: u8 = 1;
const RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;
const NO_REPLY: u8 = 1;

/// Whom a call is for.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'a> {
    /// `org.freedesktop.systemd1`
    pub name: &'a str,
    /// The object's path.
    pub path: &'a str,
    /// The interface that has the method.
    pub interface: &'a str,
}

/// What comes of a call.
#[derive(Debug)]
pub enum Answer {
    /// It was done; the values returned.
    Done(Body),
    /// It was refused.
    Refused {
        /// `org.freedesktop.systemd1.UnitExists`
        name: String,
        /// The reason in words.
        text: String,
    },
}

/// The values that a message carries.
#[derive(Debug)]
pub struct Body(Data<'static, 'static>);

impl Body {
    /// The values as `T`, a tuple where there are several.
    ///
    /// # Errors
    /// A message with other values.
    pub fn read<'d, T: serde::Deserialize<'d> + Type>(&'d self) -> Result<T> {
        let (value, _) =
            self.0.deserialize().map_err(|error| Error::new(format!("unexpected values: {error}")))?;
        Ok(value)
    }
}

/// A connection, whose every wait has an end.
#[derive(Debug)]
pub struct Bus {
    socket: OwnedFd,
    direct: bool,
    limit: Duration,
    end: Instant,
    /// Received and not taken yet.
    received: Vec<u8>,
    greeted: bool,
    serial: u32,
    /// Signals that came while something else was waited for.
    signals: Vec<Message>,
}

/// A message that was received.
#[derive(Debug)]
struct Message {
    kind: u8,
    member: Option<String>,
    error: Option<String>,
    answers: Option<u32>,
    body: Body,
}

impl Bus {
    /// Connects and sends the greeting; nothing is waited for but room in the bus's queue.
    ///
    /// # Errors
    /// No bus at any of the addresses.
    pub fn connect(address: &Address, limit: Duration) -> Result<Self> {
        let end = Instant::now() + limit;
        let socket =
            connect(address, end).with_context(|| format!("connect to the message bus at {address}"))?;
        let mut bus = Self {
            socket,
            direct: address.is_direct(),
            limit,
            end,
            received: Vec::new(),
            greeted: false,
            serial: 0,
            signals: Vec::new(),
        };
        // An empty answer: who this is, the bus reads from the socket, and no user namespace can confuse the two.
        bus.write(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        if !bus.direct {
            bus.send(BUS, "Hello", true, &())?;
        }
        Ok(bus)
    }

    /// The peer itself is at the other end, no bus.
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    /// Sends a call; its serial tells the answer, which `answered` asks for.
    ///
    /// # Errors
    /// A bus that hung up.
    pub fn send<B>(&mut self, peer: Peer<'_>, member: &str, answered: bool, body: &B) -> Result<u32>
    where
        B: Serialize + DynamicType,
    {
        self.serial += 1;
        let message = encode(peer, member, if answered { 0 } else { NO_REPLY }, self.serial, body);
        self.write(&message.map_err(|error| Error::new(format!("{member}: {error}")))?)?;
        Ok(self.serial)
    }

    /// Sends a call and waits for its answer.
    ///
    /// # Errors
    /// No answer in time; a bus that hung up.
    pub fn call<B>(&mut self, peer: Peer<'_>, member: &str, body: &B) -> Result<Answer>
    where
        B: Serialize + DynamicType,
    {
        self.end = Instant::now() + self.limit;
        let serial = self.send(peer, member, true, body)?;
        loop {
            let message = self.receive()?;
            match message.kind {
                RETURN if message.answers == Some(serial) => return Ok(Answer::Done(message.body)),
                ERROR if message.answers == Some(serial) => {
                    let text = message.body.read::<String>().unwrap_or_default();
                    return Ok(Answer::Refused { name: message.error.unwrap_or_default(), text });
                }
                SIGNAL => self.signals.push(message),
                _ => {}
            }
        }
    }

    /// Waits for a signal called `member` about which `wanted` says so.
    ///
    /// # Errors
    /// None in time; a bus that hung up.
    pub fn signal<T>(&mut self, member: &str, wanted: impl Fn(&Body) -> Option<T>) -> Result<T> {
        loop {
            let message = match self.signals.pop() {
                Some(message) => message,
                None => self.receive()?,
            };
            if message.kind == SIGNAL
                && message.member.as_deref() == Some(member)
                && let Some(found) = wanted(&message.body)
            {
                return Ok(found);
            }
        }
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            match rustix::net::send(&self.socket, bytes, SendFlags::NOSIGNAL) {
                Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
                Err(Errno::AGAIN) => self.wait(PollFlags::OUT)?,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno).context("write to the message bus"),
            }
        }
        Ok(())
    }

    fn wait(&self, what: PollFlags) -> Result<()> {
        let left = self.end.saturating_duration_since(Instant::now());
        let limit = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&self.socket, what)], Some(&limit)) {
            Ok(0) => Err(Error::timed_out(self.limit.as_secs())),
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno).context("poll"),
        }
    }

    /// The next message.
    fn receive(&mut self) -> Result<Message> {
        loop {
            if !self.greeted {
                self.greeted = self.take_greeting()?;
            }
            if self.greeted
                && let Some(length) = length(&self.received)?
                && self.received.len() >= length
            {
                let rest = self.received.split_off(length);
                let message = std::mem::replace(&mut self.received, rest);
                return decode(message);
            }
            self.read()?;
        }
    }

    fn read(&mut self) -> Result<()> {
        let mut part = [0; 4096];
        match rustix::net::recv(&self.socket, &mut part, RecvFlags::empty()) {
            Ok((0, _)) => bail!("the message bus hung up"),
            Ok((count, _)) => {
                self.received.extend_from_slice(part.get(..count).unwrap_or_default());
                Ok(())
            }
            Err(Errno::AGAIN) => self.wait(PollFlags::IN),
            Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno).context("read from the message bus"),
        }
    }

    /// The bus's side of the greeting is lines of text, the last of which is `OK` and the bus's id.
    fn take_greeting(&mut self) -> Result<bool> {
        while let Some(end) = self.received.windows(2).position(|two| two == b"\r\n") {
            let line: Vec<u8> = self.received.drain(..end + 2).collect();
            if line.starts_with(b"OK ") {
                return Ok(true);
            }
            if !line.starts_with(b"DATA") {
                bail!("the message bus refused this user: {}", String::from_utf8_lossy(&line).trim_end());
            }
        }
        if self.received.len() > LONGEST {
            bail!("the message bus sent rubbish");
        }
        Ok(false)
    }
}

/// A bus whose queue is full is asked again.
fn connect(address: &Address, end: Instant) -> Result<OwnedFd> {
    const PAUSE: Duration = Duration::from_millis(5);
    let name = match address {
        Address::Path(path) | Address::Direct(path) => SocketAddrUnix::new(path.as_path())?,
        Address::Abstract(name) => SocketAddrUnix::new_abstract_name(name)?,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    loop {
        match rustix::net::connect(&socket, &name) {
            Ok(()) => return Ok(socket),
            Err(Errno::AGAIN) if Instant::now() < end => std::thread::sleep(PAUSE),
            Err(Errno::INTR) => {}
            Err(errno) => bail!("{}", errno_text(errno)),
        }
    }
}

/// A value of a message's head. A signature there has no brackets around several types.
enum Field<'a> {
    Value(Variant<'a>),
    Signature(String),
}

impl Serialize for Field<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Self::Value(value) => value.serialize(serializer),
            Self::Signature(types) => {
                let mut variant = serializer.serialize_struct("Variant", 2)?;
                variant.serialize_field("signature", &Signature::Signature)?;
                variant.serialize_field("value", types)?;
                variant.end()
            }
        }
    }
}

impl Type for Field<'_> {
    const SIGNATURE: &'static Signature = &Signature::Variant;
}

fn encode<B>(peer: Peer<'_>, member: &str, flags: u8, serial: u32, body: &B) -> zbus::Result<Vec<u8>>
where
    B: Serialize + DynamicType,
{
    let context = Context::new(Endian::Little, 0);
    let types = body.signature().to_string_no_parens();
    let values = to_bytes(context, body)?;
    let text = |value: &str| Field::Value(Variant::from(value.to_owned()));
    let mut fields = vec![
        (1u8, Field::Value(Variant::from(ObjectPath::try_from(peer.path)?))),
        (2, text(peer.interface)),
        (3, text(member)),
        (6, text(peer.name)),
    ];
    if !types.is_empty() {
        fields.push((8, Field::Signature(types)));
    }
    let head = (b'l', CALL, flags, 1u8, values.len() as u32, serial, fields);
    let mut bytes = to_bytes(context, &head)?.to_vec();
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend_from_slice(&values);
    Ok(bytes)
}

/// How long the message is that `bytes` begin with, once enough of it is there to say.
fn length(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(fixed) = bytes.first_chunk::<FIXED>() else { return Ok(None) };
    let word = |at: usize| -> usize {
        let bytes = [fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]];
        (if fixed[0] == b'B' { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }) as usize
    };
    let (body, fields) = (word(4), word(12));
    if body > LONGEST || fields > LONGEST {
        bail!("the message bus sent a message of {body} and {fields} bytes");
    }
    Ok(Some(FIXED + fields.next_multiple_of(8) + body))
}

fn decode(bytes: Vec<u8>) -> Result<Message> {
    let endian = if bytes.first() == Some(&b'B') { Endian::Big } else { Endian::Little };
    let context = Context::new(endian, 0);
    let data = Data::new(bytes, context);
    type Head<'a> = (u8, u8, u8, u8, u32, u32, Vec<(u8, Variant<'a>)>);
    let ((_, kind, _, _, body, _, fields), _): (Head<'_>, usize) =
        data.deserialize().map_err(|error| Error::new(format!("the message bus sent rubbish: {error}")))?;
    let (mut member, mut error, mut answers) = (None, None, None);
    for (code, value) in fields {
        match (code, value) {
            (3, Variant::Str(name)) => member = Some(name.to_string()),
            (4, Variant::Str(name)) => error = Some(name.to_string()),
            (5, Variant::U32(serial)) => answers = Some(serial),
            _ => {}
        }
    }
    let start = data.bytes().len() - body as usize;
    let body = Body(Data::new(data.bytes().get(start..).unwrap_or_default().to_vec(), context));
    Ok(Message { kind, member, error, answers, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: Peer<'_> = Peer { name: "a.b", path: "/c", interface: "d.e" };

    /// A call laid out by hand from the specification.
    #[test]
    fn messages_are_laid_out_as_the_specification_says() {
        let bytes = encode(PEER, "Go", 0, 7, &("x", 5u32)).expect("a message");
        let expect: Vec<u8> = [
            b"l\x01\x00\x01\x0c\0\0\0\x07\0\0\0\x41\0\0\0".as_slice(),
            b"\x01\x01o\0\x02\0\0\0/c\0\0\0\0\0\0",
            b"\x02\x01s\0\x03\0\0\0d.e\0\0\0\0\0",
            b"\x03\x01s\0\x02\0\0\0Go\0\0\0\0\0\0",
            b"\x06\x01s\0\x03\0\0\0a.b\0\0\0\0\0",
            b"\x08\x01g\0\x02su\0",
        ]
        .concat();
        let head = expect.len().next_multiple_of(8);
        assert_eq!(&bytes[16..expect.len()], &expect[16..]);
        assert_eq!(&bytes[head..], b"\x01\0\0\0x\0\0\0\x05\0\0\0");
        assert_eq!(length(&bytes).expect("a length"), Some(bytes.len()));
        assert_eq!(length(&bytes[..15]).expect("no length yet"), None);
    }

    #[test]
    fn what_is_sent_can_be_read() {
        let message =
            decode(encode(PEER, "Go", NO_REPLY, 7, &("x", 5u32)).expect("a message")).expect("decoded");
        assert_eq!((message.kind, message.member.as_deref()), (CALL, Some("Go")));
        assert_eq!(message.body.read::<(String, u32)>().expect("values"), ("x".into(), 5));
        assert!(message.body.read::<(u32, u32, u32, u32)>().is_err());
    }

    #[test]
    fn rubbish_is_refused() {
        let mut bytes = encode(PEER, "Go", 0, 7, &()).expect("a message");
        bytes[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(length(&bytes).is_err());
        assert!(decode(vec![0; 16]).is_ok_and(|message| message.kind == 0));
        assert!(decode(b"l\x02\0\x01\0\0\0\0\0\0\0\0\x08\0\0\0\x05\x01u\0\xff\xff".to_vec()).is_err());
    }

    #[test]
    fn a_bus_that_does_not_answer_is_not_waited_for_longer_than_said() {
        let dir = std::env::temp_dir().join(format!("pintle-bus-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let path = dir.join("socket");
        let listener = std::os::unix::net::UnixListener::bind(&path).expect("a listener");
        let mut bus = Bus::connect(&Address::Path(path), Duration::from_millis(50)).expect("connected");
        let error = bus.call(BUS, "ListNames", &()).expect_err("nobody answers").to_string();
        assert_eq!(error, "no answer within 0 s");
        drop(listener);
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
