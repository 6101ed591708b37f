//! Recorded messages spoiled in every way that the wire can spoil them, by a generator that is the same in every run; and that nothing
//! which reads them panics.

use crate::recording::{self, Kind, Record};
use crate::{frames, same};
use pintle_shim::bootstrap::Bootstrap;
use pintle_shim::cli::Arguments;
use pintle_shim::runtime;
use pintle_shim::wire::Any;
use pintle_shim::wire::frame::{Request, Response};
use prost::Message as _;

/// Bytes of a frame's header.
const HEADER: usize = 10;
/// Spoiled messages that are read.
const ROUNDS: usize = 20_000;

/// A row of numbers that is the same in every run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 8
    }

    /// Less than this.
    pub fn below(&mut self, most: usize) -> usize {
        (self.next() % most.max(1) as u64) as usize
    }

    pub fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most)).map(|_| self.next() as u8).collect()
    }

    pub fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        all.get(self.below(all.len())).expect("one at least")
    }

    /// Bits turned, bytes missing, bytes too many, another message's rest.
    pub fn spoil(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(bytes.len() + 1);
        match self.below(5) {
            0 => bytes.truncate(at),
            1 => drop(bytes.splice(at..at, self.bytes(40))),
            2 => drop(bytes.splice(at.., other.iter().skip(at).copied())),
            3 => drop(bytes.drain(at..(at + self.below(12)).min(bytes.len()))),
            _ => {
                for _ in 0..=self.below(8) {
                    let at = self.below(bytes.len());
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 1 << self.below(8);
                    }
                }
            }
        }
    }

    /// A frame, spoiled: its header, its body, or the message in its body with all around it in order.
    pub fn spoiled(&mut self, frame: &[u8], other: &[u8]) -> Vec<u8> {
        let mut frame = frame.to_vec();
        match self.below(8) {
            0 => return self.bytes(300),
            1 => self.spoil(&mut frame, other),
            2 => {
                let lengths = [0, 1, 9, 4 << 20, (4 << 20) + 1, 1 << 31, u32::MAX, self.next() as u32 >> 16];
                frame.splice(..4, self.one_of(&lengths).to_be_bytes());
            }
            3 => drop(frame.splice(4..8, (self.next() as u32).to_be_bytes())),
            4 => drop(frame.splice(8..10, (self.next() as u16).to_be_bytes())),
            5 => {
                let mut body = frame.split_off(HEADER);
                self.spoil(&mut body, other);
                frame = whole(&frame, &body);
            }
            _ => {
                let Ok(mut request) = Request::decode(frame.get(HEADER..).unwrap_or_default()) else {
                    return frame;
                };
                let other = Request::decode(other.get(HEADER..).unwrap_or_default()).unwrap_or_default();
                self.spoil(&mut request.payload, &other.payload);
                if self.below(4) == 0 {
                    request.method = other.method;
                }
                frame = whole(&frame, &request.encode_to_vec());
            }
        }
        frame
    }
}

/// A frame with this one's stream and type.
pub fn whole(like: &[u8], body: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(body.len()).expect("short").to_be_bytes().to_vec();
    frame.extend_from_slice(like.get(4..HEADER).expect("a header"));
    frame.extend_from_slice(body);
    frame
}

/// Everything that reads bytes of somebody else's.
fn read_as_everything(bytes: &[u8], pairs: &[same::Pair]) {
    for pair in pairs {
        let _either = (pair.ours)(bytes);
    }
    let _either = Any::decode(bytes).map(|any| runtime::options(Some(&any)));
    let options = |type_url: &str| Any { type_url: type_url.into(), value: bytes.to_vec() };
    for name in ["containerd.runc.v1.Options", "runtimeoptions.v1.Options"] {
        let _either = runtime::options(Some(&options(name)));
    }
    let bootstrap = Bootstrap::read(bytes, &Arguments::default(), |_| None);
    assert!(!bootstrap.reply("unix:///x").is_empty());
}

#[test]
fn whatever_is_read_nothing_panics() {
    let records: Vec<Record> = recording::all().into_iter().flat_map(|(_, records)| records).collect();
    let methods = same::methods().into_iter().flat_map(|(_, request, response)| [request, response]);
    let pairs: Vec<same::Pair> = same::others().into_iter().chain(methods).collect();
    let mut random = Random(0x0dd_ba11);
    for _ in 0..ROUNDS {
        let (record, other) = (random.one_of(&records).clone(), random.one_of(&records).clone());
        if matches!(record.kind, Kind::Input | Kind::Output) {
            let mut bytes = record.bytes;
            random.spoil(&mut bytes, &other.bytes);
            read_as_everything(&bytes, &pairs);
            continue;
        }
        for frame in frames(&random.spoiled(&record.bytes, &other.bytes)) {
            read_as_everything(&frame.body, &pairs);
            for payload in [
                Request::decode(frame.body.as_slice()).map(|request| request.payload),
                Response::decode(frame.body.as_slice()).map(|response| response.payload),
            ] {
                payload.iter().for_each(|payload| read_as_everything(payload, &pairs));
            }
        }
    }
}
