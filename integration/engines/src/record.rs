//! What a daemon and its shims say to one another, written down byte by byte: `integration/engines/run --record`. The recorder stands
//! where the shim's program should be. It calls the shim, moves its socket aside, listens there itself, and passes everything on.
//!
//! A recording is a row of records: a letter ([`Kind`]), the name (two bytes of length, big endian, and text), the bytes (four bytes
//! of length, big endian, and as many). shim/tests/wire.rs reads it.

use crate::wire::Fields;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// The environment's word for the shim that is recorded.
pub const SHIM: &str = "RECORDED_SHIM";
/// The environment's word for the file that it goes to.
pub const FILE: &str = "RECORDING";
/// The environment's word for the program that records.
pub const PROGRAM: &str = "SHIM_RECORDER";
/// Records of one kind and name that are kept in a selection, each with other fields.
const MOST: usize = 8;

/// What a record is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Kind {
    /// A frame: containerd asks the shim; the name is `service/method`.
    Request = b'Q',
    /// A frame: the shim answers; the name is the request's.
    Response = b'A',
    /// A frame: the shim tells an event; the name has the topic, too.
    Event = b'E',
    /// A frame: containerd has it.
    Heard = b'H',
    /// What a call of the shim's program read; the name is its environment, as far as it matters, and its command line.
    Input = b'I',
    /// What it wrote.
    Output = b'O',
}

impl Kind {
    fn of(letter: u8) -> Option<Self> {
        let all = [Self::Request, Self::Response, Self::Event, Self::Heard, Self::Input, Self::Output];
        all.into_iter().find(|kind| *kind as u8 == letter)
    }

    fn is_frame(self) -> bool {
        !matches!(self, Self::Input | Self::Output)
    }
}

/// Adds a record to a recording that others add to, too.
pub fn add(recording: &Path, kind: Kind, name: &str, bytes: &[u8]) {
    let file = OpenOptions::new().create(true).append(true).open(recording);
    // By one call, so that records of several processes don't mingle.
    file.and_then(|mut file| file.write_all(&record(kind, name, bytes))).expect("the recording");
}

fn record(kind: Kind, name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut all = vec![kind as u8];
    all.extend((name.len() as u16).to_be_bytes());
    all.extend_from_slice(name.as_bytes());
    all.extend((bytes.len() as u32).to_be_bytes());
    all.extend_from_slice(bytes);
    all
}

/// The records of a recording.
pub fn read(mut bytes: &[u8]) -> Vec<(Kind, String, Vec<u8>)> {
    let mut take = |length: usize| {
        let (head, rest) = bytes.split_at_checked(length)?;
        bytes = rest;
        Some(head.to_vec())
    };
    let number = |bytes: Vec<u8>| bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    let one = || {
        let kind = Kind::of(take(1)?[0])?;
        let length = number(take(2)?);
        let name = String::from_utf8(take(length)?).ok()?;
        let length = number(take(4)?);
        Some((kind, name, take(length)?))
    };
    std::iter::from_fn(one).collect()
}

/// A few records of each kind and name, each with other fields than the others: what is worth keeping.
pub fn select(recording: &[u8]) -> Vec<u8> {
    let mut seen: BTreeMap<(Kind, String), BTreeSet<String>> = BTreeMap::new();
    let mut kept = Vec::new();
    for (kind, name, bytes) in read(recording) {
        // Calls differ in their names by nothing but ids.
        let subject = if kind.is_frame() { name.clone() } else { verb(&name) };
        let shapes = seen.entry((kind, subject)).or_default();
        // A frame's message comes after its header.
        let message = bytes.get(if kind.is_frame() { 10.. } else { 0.. }).unwrap_or_default();
        if shapes.len() < MOST && shapes.insert(shape(message)) {
            kept.extend(record(kind, &name, &bytes));
        }
    }
    kept
}

fn verb(line: &str) -> String {
    line.rsplit(' ').next().unwrap_or_default().to_owned()
}

/// Which fields a message has, and those inside it. Text is one value like another.
fn shape(bytes: &[u8]) -> String {
    let printable = bytes.iter().all(|byte| (b' '..127).contains(byte));
    match Fields::read(bytes) {
        Some(fields) if !printable => {
            let inner = |number: u32| {
                let all: BTreeSet<String> = fields.all(number).into_iter().map(shape).collect();
                all.into_iter().collect::<Vec<_>>().join("|")
            };
            let one = |number: u32| format!("{number}{}", inner(number));
            format!("({})", fields.numbers().map(one).collect::<Vec<_>>().join(","))
        }
        _ => String::new(),
    }
}

/// Both sides of a connection, for whoever reads along.
#[derive(Clone)]
pub struct Ear {
    recording: PathBuf,
    /// Requests by stream, for the names of their responses.
    asked: Arc<Mutex<BTreeMap<u32, String>>>,
    kinds: (Kind, Kind),
}

impl Ear {
    /// Of a connection on which requests and responses are of these kinds.
    pub fn new(recording: &Path, kinds: (Kind, Kind)) -> Self {
        Self { recording: recording.to_owned(), asked: Arc::default(), kinds }
    }

    fn hear(&self, frame: &[u8]) {
        let stream = u32::from_be_bytes(frame[4..8].try_into().expect("four bytes"));
        let mut asked = self.asked.lock().expect("no panic holds it");
        if frame[8] == 1 {
            let request = Fields::read(&frame[10..]).expect("a request");
            let mut name = format!("{}/{}", request.text(1), request.text(2));
            if self.kinds.0 == Kind::Event {
                name += &format!(" {}", request.message(3).message(1).text(3));
            }
            add(&self.recording, self.kinds.0, &name, frame);
            asked.insert(stream, name);
        } else {
            let name = asked.remove(&stream).expect("a response to a request");
            add(&self.recording, self.kinds.1, &name, frame);
        }
    }
}

/// Passes everything on until one side ends, and reads along if there is an ear.
fn pass(mut from: &UnixStream, mut to: &UnixStream, ear: Option<Ear>) {
    let mut heard = Vec::new();
    let mut buffer = [0; 65536];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if let Some(ear) = &ear {
            heard.extend_from_slice(&buffer[..n]);
            while let Some(length) = whole(&heard) {
                ear.hear(&heard[..length]);
                heard.drain(..length);
            }
        }
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Read);
}

/// The length of the frame at the beginning, if all of it is there.
fn whole(bytes: &[u8]) -> Option<usize> {
    let length = bytes.first_chunk::<4>().map(|four| 10 + u32::from_be_bytes(*four) as usize)?;
    (bytes.len() >= length).then_some(length)
}

/// Connections that are passed on.
pub type Connections = Arc<Mutex<Vec<std::thread::JoinHandle<()>>>>;

/// Connects whoever comes to the listener with the socket at `to`. When that side ends a connection, `ended` may take its time
/// before the client is told.
pub fn relay(
    listener: UnixListener,
    to: &Path,
    ear: impl Fn(&UnixStream) -> Option<Ear> + Send + 'static,
    ended: impl Fn() + Clone + Send + 'static,
) -> Connections {
    let to = to.to_owned();
    let all = Connections::default();
    let list = Arc::clone(&all);
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // Nobody there: the client's connection ends, as it would have.
            let Ok(server) = UnixStream::connect(&to) else { continue };
            let (ear, ended) = (ear(&client), ended.clone());
            let pair = Arc::new((client, server));
            let (other, same) = (ear.clone(), Arc::clone(&pair));
            std::thread::spawn(move || {
                pass(&pair.0, &pair.1, ear);
                let _ = pair.1.shutdown(Shutdown::Write);
            });
            let back = std::thread::spawn(move || {
                pass(&same.1, &same.0, other);
                ended();
                let _ = same.0.shutdown(Shutdown::Both);
            });
            list.lock().expect("no panic holds it").push(back);
        }
    });
    all
}

/// Whether a process is a containerd.
pub fn is_daemon(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "containerd")
}

/// Everything that can be read.
///
/// # Errors
/// What reading fails with.
pub fn all(mut from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes)?;
    Ok(bytes)
}
