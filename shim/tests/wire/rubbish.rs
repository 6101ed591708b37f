//! Recorded messages spoiled in every way that the wire can spoil them, by a generator that is the same in every run; and that nothing
//! which reads them panics.

use crate::recording::{self, Kind, Record};
use crate::{frames, same};
use fastrand::Rng;
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

/// Up to so many bytes.
pub fn bytes(random: &mut Rng, most: usize) -> Vec<u8> {
    let mut bytes = vec![0; random.usize(..most)];
    random.fill(&mut bytes);
    bytes
}

/// Bits turned, bytes missing, bytes too many, another message's rest.
fn spoil(random: &mut Rng, bytes: &mut Vec<u8>, other: &[u8]) {
    let at = random.usize(..=bytes.len());
    match random.u8(..5) {
        0 => bytes.truncate(at),
        1 => drop(bytes.splice(at..at, self::bytes(random, 40))),
        2 => drop(bytes.splice(at.., other.iter().skip(at).copied())),
        3 => drop(bytes.drain(at..(at + random.usize(..12)).min(bytes.len()))),
        _ => {
            for _ in 0..=random.u8(..8) {
                if let Some(byte) = random.choice(bytes.iter_mut()) {
                    *byte ^= 1 << random.u8(..8);
                }
            }
        }
    }
}

/// A frame, spoiled: its header, its body, or the message in its body with all around it in order.
pub fn spoiled(random: &mut Rng, frame: &[u8], other: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    match random.u8(..8) {
        0 => return bytes(random, 300),
        1 => spoil(random, &mut frame, other),
        2 => {
            let lengths = [0, 1, 9, 4 << 20, (4 << 20) + 1, 1 << 31, u32::MAX, random.u16(..).into()];
            frame.splice(..4, random.choice(lengths).expect("some").to_be_bytes());
        }
        3 => drop(frame.splice(4..8, random.u32(..).to_be_bytes())),
        4 => drop(frame.splice(8..10, random.u16(..).to_be_bytes())),
        5 => {
            let mut body = frame.split_off(HEADER);
            spoil(random, &mut body, other);
            frame = whole(&frame, &body);
        }
        _ => {
            let Ok(mut request) = Request::decode(frame.get(HEADER..).unwrap_or_default()) else {
                return frame;
            };
            let other = Request::decode(other.get(HEADER..).unwrap_or_default()).unwrap_or_default();
            spoil(random, &mut request.payload, &other.payload);
            if random.u8(..4) == 0 {
                request.method = other.method;
            }
            frame = whole(&frame, &request.encode_to_vec());
        }
    }
    frame
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
    let mut random = Rng::with_seed(0x0dd_ba11);
    for _ in 0..ROUNDS {
        let [record, other] = [(); 2].map(|()| random.choice(&records).expect("some").clone());
        if matches!(record.kind, Kind::Input | Kind::Output) {
            let mut bytes = record.bytes;
            spoil(&mut random, &mut bytes, &other.bytes);
            read_as_everything(&bytes, &pairs);
            continue;
        }
        for frame in frames(&spoiled(&mut random, &record.bytes, &other.bytes)) {
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
