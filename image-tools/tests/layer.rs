//! Layers as data: a few lines tell which members an archive has, and it is written as told, with wrong sizes, strange types
//! and hostile names where a test wants them. See pax(1); the program under test has no part in this.

use std::io::Write;

/// A member of an archive, or anything that looks like one.
#[derive(Clone, Debug)]
pub struct Member {
    pub path: Vec<u8>,
    pub kind: u8,
    pub link: Vec<u8>,
    pub data: Vec<u8>,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub mtime: (i64, u32),
    pub device: (u32, u32),
    pub xattrs: Vec<(String, Vec<u8>)>,
    /// More records, after those that the other fields need.
    pub pax: Vec<(String, Vec<u8>)>,
    /// In place of the data's length.
    pub size: Option<u64>,
}

/// How an archive is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pack {
    None,
    Gzip,
    Zstd,
}

/// Any member: owned by root, 0644, of the second 1000.
pub fn member(kind: u8, path: impl AsRef<[u8]>) -> Member {
    Member {
        path: path.as_ref().to_vec(),
        kind,
        link: Vec::new(),
        data: Vec::new(),
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: (1000, 0),
        device: (0, 0),
        xattrs: Vec::new(),
        pax: Vec::new(),
        size: None,
    }
}

pub fn dir(path: impl AsRef<[u8]>) -> Member {
    Member { mode: 0o755, ..member(b'5', path) }
}

pub fn file(path: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Member {
    Member { data: data.as_ref().to_vec(), ..member(b'0', path) }
}

pub fn symlink(path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Member {
    Member { link: target.as_ref().to_vec(), mode: 0o777, ..member(b'2', path) }
}

pub fn hardlink(path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Member {
    Member { link: target.as_ref().to_vec(), ..member(b'1', path) }
}

pub fn fifo(path: impl AsRef<[u8]>) -> Member {
    member(b'6', path)
}

pub fn character(path: impl AsRef<[u8]>, major: u32, minor: u32) -> Member {
    Member { device: (major, minor), ..member(b'3', path) }
}

pub fn block(path: impl AsRef<[u8]>, major: u32, minor: u32) -> Member {
    Member { device: (major, minor), ..member(b'4', path) }
}

/// The whiteout that hides this path.
pub fn white(path: &str) -> Member {
    match path.rsplit_once('/') {
        Some((parent, name)) => file(format!("{parent}/.wh.{name}"), ""),
        None => file(format!(".wh.{path}"), ""),
    }
}

/// This directory hides what is below.
pub fn opaque(path: &str) -> Member {
    file(if path.is_empty() { ".wh..wh..opq".into() } else { format!("{path}/.wh..wh..opq") }, "")
}

impl Member {
    pub fn mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }

    pub fn own(self, uid: u64, gid: u64) -> Self {
        Self { uid, gid, ..self }
    }

    pub fn time(self, seconds: i64, nanoseconds: u32) -> Self {
        Self { mtime: (seconds, nanoseconds), ..self }
    }

    pub fn xattr(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.xattrs.push((name.into(), value.as_ref().to_vec()));
        self
    }

    pub fn pax(mut self, key: &str, value: impl AsRef<[u8]>) -> Self {
        self.pax.push((key.into(), value.as_ref().to_vec()));
        self
    }

    pub fn size(self, size: u64) -> Self {
        Self { size: Some(size), ..self }
    }

    fn records(&self) -> Vec<u8> {
        let mut records = Vec::new();
        if self.path.len() > 100 {
            records.extend(record("path", &self.path));
        }
        if self.link.len() > 100 {
            records.extend(record("linkpath", &self.link));
        }
        for (key, id) in [("uid", self.uid), ("gid", self.gid)] {
            if id > 0o777_7777 {
                records.extend(record(key, id.to_string().as_bytes()));
            }
        }
        match self.mtime {
            (0.., 0) => {}
            (seconds @ 0.., n) => records.extend(record("mtime", format!("{seconds}.{n:09}").as_bytes())),
            (seconds, 0) => records.extend(record("mtime", seconds.to_string().as_bytes())),
            (seconds, n) => {
                let text = format!("-{}.{:09}", -seconds - 1, 1_000_000_000 - n);
                records.extend(record("mtime", text.as_bytes()));
            }
        }
        for (name, value) in &self.xattrs {
            records.extend(record(&format!("SCHILY.xattr.{name}"), value));
        }
        for (key, value) in &self.pax {
            records.extend(record(key, value));
        }
        records
    }

    /// The member with its extended header.
    pub fn bytes(&self) -> Vec<u8> {
        let records = self.records();
        let mut bytes = Vec::new();
        if !records.is_empty() {
            bytes = Self { data: records, ..member(b'x', "pax") }.bytes();
        }
        bytes.extend(self.header());
        bytes.extend(&self.data);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }

    fn header(&self) -> [u8; 512] {
        let mut header = [0; 512];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.path[..self.path.len().min(100)]);
        put(100, format!("{:07o}", self.mode).as_bytes());
        put(108, format!("{:07o}", self.uid.min(0o777_7777)).as_bytes());
        put(116, format!("{:07o}", self.gid.min(0o777_7777)).as_bytes());
        let size = self.size.unwrap_or(self.data.len() as u64);
        match size {
            0..0o1000_0000_0000 => put(124, format!("{size:011o}").as_bytes()),
            _ => put(124, &[&[0x80, 0, 0, 0][..], &size.to_be_bytes()].concat()),
        }
        put(136, format!("{:011o}", self.mtime.0.max(0)).as_bytes());
        put(156, &[self.kind]);
        put(157, &self.link[..self.link.len().min(100)]);
        put(257, b"ustar\x0000");
        put(329, format!("{:07o}", self.device.0).as_bytes());
        put(337, format!("{:07o}", self.device.1).as_bytes());
        put(148, b"        ");
        let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        header
    }
}

/// A record of an extended header, whose length counts itself.
pub fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (1..).map(|digits| rest + digits).find(|n| n.to_string().len() + rest == *n);
    let mut record = format!("{} {key}=", length.expect("there is one")).into_bytes();
    record.extend(value);
    record.push(b'\n');
    record
}

/// A whole archive.
pub fn tar(members: &[Member]) -> Vec<u8> {
    let mut bytes: Vec<u8> = members.iter().flat_map(Member::bytes).collect();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

/// Compresses an archive.
pub fn pack(bytes: &[u8], pack: Pack) -> Vec<u8> {
    match pack {
        Pack::None => bytes.to_vec(),
        Pack::Gzip => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(bytes).expect("into memory");
            gzip.finish().expect("into memory")
        }
        Pack::Zstd => zstd::encode_all(bytes, 1).expect("into memory"),
    }
}
