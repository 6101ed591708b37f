//! Writes a layer's archive: ustar headers where everything fits them, PAX records before them where not (pax(1), and
//! `SCHILY.xattr.` for extended attributes, as every tool does). The same members give the same bytes: records are sorted,
//! ids are numbers, there is nothing of this machine or of now. Two blocks of zeros end it, as Go's archive/tar ends its own.

use std::io::{ErrorKind, Read, Write};

use tar::{EntryType, Header};

use crate::error::{Context as _, Error, Result};
use crate::layer::member::{Kind, Member, Time};

const BLOCK: usize = 512;
/// What collects before it is written: also the piece in which files are read.
const BUFFER: usize = 256 * 1024;
/// Go's archive/tar reads no more than this of a PAX header.
const RECORDS_MAX: usize = 1 << 20;
/// The largest numbers that 7 and 11 octal digits hold.
const OCTAL_7: u32 = 0o7777777;
const OCTAL_11: u64 = 0o77777777777;

/// An archive that is being written.
pub struct Archive<W: Write> {
    to: W,
    buffer: Vec<u8>,
    filled: usize,
    members: u64,
}

impl<W: Write> Archive<W> {
    /// An archive without members.
    pub fn new(to: W) -> Self {
        Self { to, buffer: vec![0; BUFFER], filled: 0, members: 0 }
    }

    /// How many members were appended.
    pub fn members(&self) -> u64 {
        self.members
    }

    /// Appends a member; `data` gives a regular file's bytes and is not read for anything else.
    ///
    /// # Errors
    /// When `data` has fewer or more bytes than the member's size: the file changed while it was read. When an extended
    /// attribute cannot be told in an archive. When writing fails.
    pub fn append(&mut self, member: &Member, data: impl Read) -> Result<()> {
        self.append_unnamed(member, data).with_context(|| shown(&member.path))
    }

    /// [`Archive::append`] for a caller who names the place of an error in its own way.
    pub(super) fn append_unnamed(&mut self, member: &Member, data: impl Read) -> Result<()> {
        let (header, records) = headers(member)?;
        if !records.is_empty() {
            let records = join(&records);
            if records.len() > RECORDS_MAX {
                return Err(Error::unsupported("its attributes are too long for an archive"));
            }
            self.put(pax_header(records.len()).as_bytes())?;
            self.put(&records)?;
            self.pad(records.len() as u64)?;
        }
        self.put(header.as_bytes())?;
        if let Kind::File { size, .. } = member.kind {
            self.copy(size, data)?;
            self.pad(size)?;
        }
        self.members += 1;
        Ok(())
    }

    /// Ends the archive and gives back what it was written to, flushed.
    ///
    /// # Errors
    /// When writing fails.
    pub fn finish(mut self) -> Result<W> {
        self.put(&[0; 2 * BLOCK])?;
        self.drain()?;
        self.to.flush().context("write the archive")?;
        Ok(self.to)
    }

    fn put(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let n = bytes.len().min(BUFFER - self.filled);
            self.buffer[self.filled..self.filled + n].copy_from_slice(&bytes[..n]);
            self.filled += n;
            bytes = &bytes[n..];
            if self.filled == BUFFER {
                self.drain()?;
            }
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<()> {
        self.to.write_all(&self.buffer[..self.filled]).context("write the archive")?;
        self.filled = 0;
        Ok(())
    }

    fn pad(&mut self, length: u64) -> Result<()> {
        let past = (length % BLOCK as u64) as usize;
        if past == 0 { Ok(()) } else { self.put(&[0; BLOCK][past..]) }
    }

    /// Reads straight into the buffer: `size` bytes and the end after them.
    fn copy(&mut self, size: u64, mut data: impl Read) -> Result<()> {
        let mut left = size;
        while left > 0 {
            if BUFFER - self.filled < left.min(BUFFER as u64 / 4) as usize {
                self.drain()?;
            }
            let end = self.filled + left.min((BUFFER - self.filled) as u64) as usize;
            match data.read(&mut self.buffer[self.filled..end]) {
                Ok(0) => {
                    return Err(Error::other(format!(
                        "the file shrank to {} bytes while it was read",
                        size - left
                    )));
                }
                Ok(n) => {
                    self.filled += n;
                    left -= n as u64;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
        match data.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(Error::other(format!("the file grew over {size} bytes while it was read"))),
            Err(e) => Err(e.into()),
        }
    }
}

/// The member's path for a message.
fn shown(path: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(path))
}

type Records = Vec<(Vec<u8>, Vec<u8>)>;

/// The member's header, and the PAX records for what it cannot hold.
fn headers(member: &Member) -> Result<(Header, Records)> {
    let mut header = Header::new_ustar();
    let mut records = Records::new();
    set_names(&mut header, member, &mut records)?;
    header.set_mode(member.mode & 0o7777);
    header.set_uid(octal(member.uid, "uid", &mut records).into());
    header.set_gid(octal(member.gid, "gid", &mut records).into());
    set_time(&mut header, member.mtime, &mut records);
    set_kind(&mut header, &member.kind, &mut records)?;
    for (name, value) in &member.xattrs {
        if name.is_empty() || name.contains(&b'=') || name.contains(&0) {
            return Err(Error::unsupported(format!("an archive cannot tell the attribute {}", shown(name))));
        }
        records.push(([b"SCHILY.xattr.", name.as_slice()].concat(), value.clone()));
    }
    records.sort();
    header.set_cksum();
    Ok((header, records))
}

/// Path and link target; header fields that a record overrides still hold their begin, for tools that know no PAX.
fn set_names(header: &mut Header, member: &Member, records: &mut Records) -> Result<()> {
    if member.path.is_empty() || member.path.contains(&0) {
        return Err(Error::invalid("a member needs a path without NUL"));
    }
    let ustar = header.as_ustar_mut().ok_or_else(|| Error::other("not a ustar header"))?;
    match split(&member.path) {
        Some((prefix, name)) => {
            ustar.prefix[..prefix.len()].copy_from_slice(prefix);
            ustar.name[..name.len()].copy_from_slice(name);
        }
        None => {
            begin(&mut ustar.name, &member.path);
            records.push((b"path".into(), member.path.clone()));
        }
    }
    if let Kind::Hardlink(target) | Kind::Symlink(target) = &member.kind {
        if target.is_empty() || target.contains(&0) {
            return Err(Error::invalid("a link needs a target without NUL"));
        }
        begin(&mut ustar.linkname, target);
        if target.len() > ustar.linkname.len() {
            records.push((b"linkpath".into(), target.clone()));
        }
    }
    Ok(())
}

/// Fills a field with as much of the text as it takes.
fn begin(field: &mut [u8], text: &[u8]) {
    let n = text.len().min(field.len());
    field[..n].copy_from_slice(&text[..n]);
}

/// A path as ustar's prefix and name, which are joined by a slash; None when it does not fit.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    const NAME: usize = 100;
    const PREFIX: usize = 155;
    if path.len() <= NAME {
        return Some((&[], path));
    }
    // The first slash that leaves a short enough name; a slash at the end joins nothing.
    let from = path.len() - NAME - 1;
    let at = from + path[from..path.len() - 1].iter().position(|&b| b == b'/')?;
    (1..=PREFIX).contains(&at).then(|| (&path[..at], &path[at + 1..]))
}

/// The id if the header holds it, else 0 and a record.
fn octal(id: u32, key: &str, records: &mut Records) -> u32 {
    if id <= OCTAL_7 {
        return id;
    }
    records.push((key.into(), id.to_string().into_bytes()));
    0
}

fn set_time(header: &mut Header, time: Time, records: &mut Records) {
    let whole = u64::try_from(time.seconds).ok().filter(|s| *s <= OCTAL_11);
    header.set_mtime(whole.unwrap_or(0));
    if whole.is_none() || time.nanoseconds != 0 {
        records.push((b"mtime".into(), decimal(time).into_bytes()));
    }
}

/// The time as PAX writes it: -1.25 is 1.25 seconds before 1970, however [`Time`] counts it.
fn decimal(time: Time) -> String {
    let sign = if time.seconds < 0 { "-" } else { "" };
    let (seconds, nanoseconds) = match (time.seconds < 0, time.nanoseconds) {
        (true, n @ 1..) => (time.seconds.unsigned_abs() - 1, 1_000_000_000 - n),
        (_, n) => (time.seconds.unsigned_abs(), n),
    };
    let fraction = format!("{nanoseconds:09}");
    match fraction.trim_end_matches('0') {
        "" => format!("{sign}{seconds}"),
        fraction => format!("{sign}{seconds}.{fraction}"),
    }
}

fn set_kind(header: &mut Header, kind: &Kind, records: &mut Records) -> Result<()> {
    let entry_type = match kind {
        Kind::File { extents: Some(_), .. } => {
            return Err(Error::unsupported("sparse members are not written"));
        }
        Kind::File { size, .. } => {
            header.set_size(if *size <= OCTAL_11 { *size } else { 0 });
            if *size > OCTAL_11 {
                records.push((b"size".into(), size.to_string().into_bytes()));
            }
            EntryType::Regular
        }
        Kind::Hardlink(_) => EntryType::Link,
        Kind::Symlink(_) => EntryType::Symlink,
        Kind::Directory => EntryType::Directory,
        Kind::Fifo => EntryType::Fifo,
        Kind::Character(..) => EntryType::Char,
        Kind::Block(..) => EntryType::Block,
    };
    header.set_entry_type(entry_type);
    // POSIX wants a size of 0 where there is no data; an empty field is none.
    if entry_type != EntryType::Regular {
        header.set_size(0);
    }
    let (major, minor) = match kind {
        Kind::Character(major, minor) | Kind::Block(major, minor) => (*major, *minor),
        _ => (0, 0),
    };
    if major > OCTAL_7 || minor > OCTAL_7 {
        return Err(Error::unsupported(format!("an archive cannot tell the device {major}:{minor}")));
    }
    header.set_device_major(major)?;
    header.set_device_minor(minor)?;
    Ok(())
}

/// The header of the member that carries PAX records; always the same but for its size.
fn pax_header(length: usize) -> Header {
    let mut header = Header::new_ustar();
    if let Some(ustar) = header.as_ustar_mut() {
        begin(&mut ustar.name, b"PaxHeaders/member");
    }
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(length as u64);
    header.set_entry_type(EntryType::XHeader);
    header.set_cksum();
    header
}

fn join(records: &Records) -> Vec<u8> {
    let mut joined = Vec::new();
    for (key, value) in records {
        joined.extend_from_slice(record_length(key.len() + value.len() + 3).to_string().as_bytes());
        joined.push(b' ');
        joined.extend_from_slice(key);
        joined.push(b'=');
        joined.extend_from_slice(value);
        joined.push(b'\n');
    }
    joined
}

/// A record begins with its own length, the digits of that included; `rest` is everything but them.
fn record_length(rest: usize) -> usize {
    let digits = |n: usize| n.ilog10() as usize + 1;
    let guess = rest + digits(rest);
    rest + digits(guess)
}
