//! The recordings beside this file: what containerds, named by their versions, and shims said to one another while integration/engines
//! ran. How to make them anew is told in integration/engines/README.md; letters and lengths are explained in
//! integration/engines/src/record.rs.

use std::fs;
use std::path::{Path, PathBuf};

/// What a record is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// A frame from containerd to the shim; the name is `service/method`.
    Request,
    /// The shim's answer to it, of the same name.
    Response,
    /// A frame from the shim to containerd; the name has the topic, too.
    Event,
    /// containerd's answer to it.
    Heard,
    /// What a call of the program read; the name is its environment and its command line.
    Input,
    /// What it wrote.
    Output,
}

/// One record.
#[derive(Clone)]
pub struct Record {
    pub kind: Kind,
    pub name: String,
    /// With a frame's header.
    pub bytes: Vec<u8>,
}

impl Record {
    /// The method's name, or the topic.
    pub fn subject(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or_default()
    }
}

/// Every recording with its name: those beside this file, or all in `$RECORDINGS`, where whole ones are.
pub fn all() -> Vec<(String, Vec<Record>)> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire");
    let folder = std::env::var_os("RECORDINGS").map_or(beside, PathBuf::from);
    let entries = fs::read_dir(&folder).expect("a folder of recordings").flatten();
    let paths = entries.map(|entry| entry.path());
    let paths = paths
        .filter(|path| path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"containerd-")));
    let mut found: Vec<(String, Vec<Record>)> = paths
        .map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            let records = read(&fs::read(&path).expect("a recording"));
            (name, records)
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(found.len() >= 2, "recordings of both containerds in {}", folder.display());
    found
}

fn read(mut bytes: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let mut take = |length: usize| {
            let (head, rest) = bytes.split_at(length);
            bytes = rest;
            head
        };
        let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        let kind = match take(1) {
            b"Q" => Kind::Request,
            b"A" => Kind::Response,
            b"E" => Kind::Event,
            b"H" => Kind::Heard,
            b"I" => Kind::Input,
            b"O" => Kind::Output,
            other => panic!("no kind of record: {other:?}"),
        };
        let length = number(take(2));
        let name = String::from_utf8(take(length).to_vec()).expect("a name is text");
        let length = number(take(4));
        records.push(Record { kind, name, bytes: take(length).to_vec() });
    }
    records
}
