//! A tar archive as a sequence of members: POSIX ustar and pax, GNU long names and sparse files, and the old v7 form
//! (pax(1), GNU tar manual "Format Variations"). It is written here rather than taken from the `tar` crate because what decides is
//! hostile input: which size counts where pax and ustar disagree (CVE-2025-62518, CVE-2026-33055), that a pax header belongs to
//! the next file and not to the long name between (GHSA-3cv2-h65g-fgmm), and that no header may claim much memory. The crate
//! is the oracle of the tests, with GNU tar and Python.

use std::io::{self, BufRead, Read};
use std::rc::Rc;

use super::member::{Extent, Kind, Member, Time};
use crate::error::{Error, Result};

const BLOCK: usize = 512;
/// The largest extended header, and so the longest name or attribute, in bytes.
const LARGEST_HEADER: u64 = 1 << 20;
/// All headers for all members that follow, in bytes: what they say is copied for each.
const LARGEST_GLOBAL: u64 = 64 << 10;
/// The most extended attributes of a member: no file system keeps as many.
const MOST_XATTRS: usize = 1000;
/// The longest path that the kernel takes, in bytes.
const LONGEST_PATH: usize = 4095;
/// The most pieces of a sparse file.
const MOST_EXTENTS: usize = 1 << 16;

/// The members of an archive. Between two calls of [`Members::next`] it reads as the current member's data.
pub struct Members<R> {
    source: R,
    /// Of the current member's data, in bytes.
    left: u64,
    /// Behind it, up to the next block.
    padding: u64,
    global: Rc<Pax>,
    /// How many bytes of headers for all members may still come.
    global_room: u64,
    /// Where in the archive the current header stands, for errors.
    offset: u64,
}

/// What extended headers said. A later record of the same key wins.
#[derive(Clone, Default)]
struct Pax {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<Time>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: Sparse,
}

/// `GNU.sparse.*`
#[derive(Clone, Default)]
struct Sparse {
    /// 1.0: the map stands before the data.
    in_data: bool,
    name: Option<Vec<u8>>,
    size: Option<u64>,
    /// Offsets and lengths in turn.
    map: Option<Vec<u64>>,
}

impl<R: BufRead> Members<R> {
    /// Reads from the archive's first byte.
    pub fn new(source: R) -> Self {
        let global = Rc::new(Pax::default());
        Self { source, left: 0, padding: 0, global, global_room: LARGEST_GLOBAL, offset: 0 }
    }

    /// Where in the archive the current member's data goes on, in bytes from its begin.
    pub fn position(&self) -> u64 {
        self.offset
    }

    /// What is read from.
    pub fn into_inner(self) -> R {
        self.source
    }

    /// The next member, or none behind the last one; what the caller left of the last one's data is skipped. Errors name the
    /// offset in the archive, in bytes.
    #[allow(clippy::should_implement_trait)] // it lends itself as the data's reader
    pub fn next(&mut self) -> Result<Option<Member>> {
        let at = |offset: u64, e: Error| Error::new(e.kind(), format!("at byte {offset}: {e}"));
        match self.member() {
            Ok(member) => Ok(member),
            Err(e) => Err(at(self.offset, e)),
        }
    }

    fn member(&mut self) -> Result<Option<Member>> {
        let mut pax = Rc::clone(&self.global);
        let (mut long_name, mut long_link) = (None, None);
        let mut room = LARGEST_HEADER;
        loop {
            self.skip()?;
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let size = header.number(124..136)?;
            let size = u64::try_from(size).map_err(|_| Error::invalid("negative size"))?;
            match header.0[156] {
                b'x' | b'X' => {
                    let records = self.extended(size, &mut room)?;
                    Rc::make_mut(&mut pax).read(&records, false)?;
                }
                b'g' => {
                    let mut room = self.global_room;
                    let records = self.extended(size, &mut room)?;
                    self.global_room = room;
                    drop(pax);
                    Rc::make_mut(&mut self.global).read(&records, true)?;
                    pax = Rc::clone(&self.global);
                }
                b'L' => long_name = Some(until_nul(self.extended(size, &mut room)?)),
                b'K' => long_link = Some(until_nul(self.extended(size, &mut room)?)),
                _ => {
                    let path = pax.path.clone().or(long_name);
                    let link = pax.link.clone().or(long_link);
                    return self.file(&header, size, path, link, &pax).map(Some);
                }
            }
        }
    }

    /// A header that is no extension of another one.
    fn file(
        &mut self,
        header: &Header,
        size: u64,
        path: Option<Vec<u8>>,
        link: Option<Vec<u8>>,
        pax: &Pax,
    ) -> Result<Member> {
        let mut path = path.unwrap_or_else(|| header.path());
        let link = link.unwrap_or_else(|| until_nul(header.0[157..257].to_vec()));
        let stored = pax.size.unwrap_or(size);
        let kind = match header.0[156] {
            0 if path.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' | b'S' => {
                self.expect_data(stored)?;
                if let Some(name) = &pax.sparse.name {
                    path.clone_from(name);
                }
                self.regular(header, stored, &pax.sparse)?
            }
            b'1' => Kind::Hardlink(link),
            b'2' => Kind::Symlink(link),
            b'3' => Kind::Character(header.device(329)?, header.device(337)?),
            b'4' => Kind::Block(header.device(329)?, header.device(337)?),
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => {
                let shown = (other as char).escape_default();
                return Err(Error::unsupported(format!("{}: type '{shown}' of tar", show(&path))));
            }
        };
        check_name("path", &path)?;
        if let Kind::Hardlink(link) | Kind::Symlink(link) = &kind {
            check_name("link target", link).map_err(|e| Error::invalid(format!("{}: {e}", show(&path))))?;
        }
        let id = |name: &str, pax: Option<u64>, field: std::ops::Range<usize>| -> Result<u32> {
            let id = match pax {
                Some(id) => id,
                None => header.number(field)?.try_into().unwrap_or(u64::MAX),
            };
            let id = u32::try_from(id).ok().filter(|id| *id != u32::MAX);
            id.ok_or_else(|| Error::invalid(format!("{}: {name} out of range", show(&path))))
        };
        let (uid, gid) = (id("uid", pax.uid, 108..116)?, id("gid", pax.gid, 116..124)?);
        let mode = (header.number(100..108)? & 0o7777) as u32;
        let mtime = match pax.mtime {
            Some(time) => time,
            None => Time { seconds: header.number(136..148)?, nanoseconds: 0 },
        };
        Ok(Member { path, kind, mode, uid, gid, mtime, xattrs: pax.xattrs.clone() })
    }

    fn regular(&mut self, header: &Header, stored: u64, sparse: &Sparse) -> Result<Kind> {
        let (size, map) = if header.0[156] == b'S' {
            let map = self.old_sparse_map(header)?;
            (header.number(483..495)?.try_into().map_err(|_| Error::invalid("negative sparse size"))?, map)
        } else if sparse.in_data {
            (sparse.size.unwrap_or(stored), self.sparse_map_in_data()?)
        } else if let Some(map) = &sparse.map {
            (sparse.size.unwrap_or(stored), map.clone())
        } else {
            return Ok(Kind::File { size: stored, extents: None });
        };
        let extents = check_map(&map, size)?;
        let data: u64 = extents.iter().map(|e| e.length).sum();
        if data != self.left {
            let left = self.left;
            return Err(Error::invalid(format!("sparse map: {data} bytes of data, {left} are there")));
        }
        Ok(Kind::File { size, extents: Some(extents) })
    }

    /// Format "oldgnu": four pieces in the header, more in the blocks behind it.
    fn old_sparse_map(&mut self, header: &Header) -> Result<Vec<u64>> {
        let (data, padding) = (self.left, self.padding);
        let mut map = Vec::new();
        let mut block = header.0;
        let (mut from, mut pieces, mut more) = (386, 4, block[482] != 0);
        loop {
            for piece in block[from..from + pieces * 24].chunks(24) {
                if piece[0] != 0 {
                    map.push(number(&piece[..12])?.try_into().unwrap_or(u64::MAX));
                    map.push(number(&piece[12..])?.try_into().unwrap_or(u64::MAX));
                }
            }
            if map.len() > MOST_EXTENTS * 2 {
                return Err(Error::unsupported(format!("sparse map: more than {MOST_EXTENTS} pieces")));
            }
            if !more {
                break;
            }
            self.source.read_exact(&mut block).map_err(cut)?;
            self.offset += BLOCK as u64;
            (from, pieces, more) = (0, 21, block[504] != 0);
        }
        (self.left, self.padding) = (data, padding);
        Ok(map)
    }

    /// Format 1.0: decimal lines in the first blocks of the data.
    fn sparse_map_in_data(&mut self) -> Result<Vec<u64>> {
        let mut read = 0u64;
        let mut line = |members: &mut Self| -> Result<u64> {
            let mut text = Vec::new();
            loop {
                let mut byte = [0];
                members.read_exact(&mut byte).map_err(cut)?;
                read += 1;
                match byte[0] {
                    b'\n' => break decimal(&text),
                    digit if text.len() < 20 => text.push(digit),
                    _ => break Err(Error::invalid("sparse map: no number")),
                }
            }
        };
        let pieces = line(self)?;
        if pieces > MOST_EXTENTS as u64 {
            return Err(Error::unsupported(format!("sparse map: more than {MOST_EXTENTS} pieces")));
        }
        let map = (0..pieces * 2).map(|_| line(self)).collect::<Result<Vec<u64>>>()?;
        let rest = read.next_multiple_of(BLOCK as u64) - read;
        io::copy(&mut self.by_ref().take(rest), &mut io::sink())?;
        Ok(map)
    }

    /// The next header, or none at the archive's end: two blocks of zeros, or the end of the stream.
    fn header(&mut self) -> Result<Option<Header>> {
        let mut header = Header([0; BLOCK]);
        if !self.block(&mut header.0)? {
            return Ok(None);
        }
        if header.0 == [0; BLOCK] {
            if self.block(&mut header.0)? && header.0 != [0; BLOCK] {
                return Err(Error::invalid("one block of zeros between two members"));
            }
            return Ok(None);
        }
        header.check()?;
        Ok(Some(header))
    }

    /// False at the end of the stream; the middle of a block is no end.
    fn block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool> {
        if self.source.fill_buf()?.is_empty() {
            return Ok(false);
        }
        self.source.read_exact(block).map_err(cut)?;
        self.offset += BLOCK as u64;
        Ok(true)
    }

    fn expect_data(&mut self, size: u64) -> Result<()> {
        if size > i64::MAX as u64 - BLOCK as u64 {
            return Err(Error::invalid(format!("size of {size} bytes")));
        }
        self.left = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        Ok(())
    }

    /// The data of an extended header. Its size is the header's own: a pax size is for the file behind. All before one file share
    /// the room for them.
    fn extended(&mut self, size: u64, room: &mut u64) -> Result<Vec<u8>> {
        if size > *room {
            return Err(Error::invalid(format!("extended header of {size} bytes, more than {room}")));
        }
        *room -= size;
        self.expect_data(size)?;
        let mut data = vec![0; size as usize];
        self.read_exact(&mut data).map_err(cut)?;
        Ok(data)
    }

    /// To the next header.
    fn skip(&mut self) -> Result<()> {
        let mut left = self.left + self.padding;
        (self.left, self.padding) = (0, 0);
        self.offset += left;
        while left > 0 {
            let n = (self.source.fill_buf()?.len() as u64).min(left);
            if n == 0 {
                return Err(Error::invalid("the archive ends inside a member"));
            }
            self.source.consume(n as usize);
            left -= n;
        }
        Ok(())
    }
}

/// The current member's data.
impl<R: BufRead> BufRead for Members<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let buffer = self.source.fill_buf()?;
        if buffer.is_empty() {
            return Err(Error::invalid("the archive ends inside a member").into());
        }
        let n = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        Ok(&buffer[..n])
    }

    fn consume(&mut self, n: usize) {
        self.source.consume(n);
        self.left -= n as u64;
        self.offset += n as u64;
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let from = self.fill_buf()?;
        let n = from.len().min(to.len());
        to[..n].copy_from_slice(&from[..n]);
        self.consume(n);
        Ok(n)
    }
}

impl Pax {
    /// Reads records: `length key=value\n`, where a value may be any bytes. An empty value takes an earlier one back. A
    /// sparse map is one file's and is not taken from a global header.
    fn read(&mut self, mut records: &[u8], global: bool) -> Result<()> {
        while !records.is_empty() {
            let wrong = || Error::invalid("pax header: no record");
            let space = records.iter().take(20).position(|b| *b == b' ').ok_or_else(wrong)?;
            let length = decimal(&records[..space])? as usize;
            let record = records.get(space + 1..length).ok_or_else(wrong)?;
            let record = record.strip_suffix(b"\n").ok_or_else(wrong)?;
            let equals = record.iter().position(|b| *b == b'=').ok_or_else(wrong)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            if !(global && key.starts_with(b"GNU.sparse.")) {
                self.record(key, value)?;
            }
            records = &records[length..];
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let bytes = || Some(value.to_vec()).filter(|v| !v.is_empty());
        let number = || if value.is_empty() { Ok(None) } else { decimal(value).map(Some) };
        match key {
            b"path" => self.path = bytes(),
            b"linkpath" => self.link = bytes(),
            b"size" => self.size = number()?,
            b"uid" => self.uid = number()?,
            b"gid" => self.gid = number()?,
            b"mtime" if value.is_empty() => self.mtime = None,
            b"mtime" => self.mtime = Some(time(value)?),
            b"GNU.sparse.name" => self.sparse.name = bytes(),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse.size = number()?,
            b"GNU.sparse.major" => self.sparse.in_data = value == b"1",
            b"GNU.sparse.map" => {
                let map = value.split(|b| *b == b',').map(decimal).collect::<Result<Vec<u64>>>()?;
                self.sparse.map = Some(map);
            }
            // 0.0: the same keys again and again, in pairs.
            b"GNU.sparse.numblocks" => self.sparse.map = Some(Vec::new()),
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                self.sparse.map.get_or_insert_default().push(decimal(value)?);
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattr(name, value.to_vec())?;
                } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                    self.xattr(name, base64(value)?)?;
                }
            }
        }
        Ok(())
    }

    fn xattr(&mut self, name: &[u8], value: Vec<u8>) -> Result<()> {
        self.xattrs.retain(|(had, _)| had != name);
        if self.xattrs.len() >= MOST_XATTRS {
            return Err(Error::invalid(format!("more than {MOST_XATTRS} extended attributes")));
        }
        self.xattrs.push((name.to_vec(), value));
        Ok(())
    }
}

struct Header([u8; BLOCK]);

impl Header {
    /// The sum of all bytes, its own field counted as spaces; some old tars summed signed bytes.
    fn check(&self) -> Result<()> {
        let said = self.number(148..156)?;
        let summed = |as_number: fn(u8) -> i64| -> i64 {
            let sum = |bytes: &[u8]| bytes.iter().map(|b| as_number(*b)).sum::<i64>();
            sum(&self.0[..148]) + 8 * i64::from(b' ') + sum(&self.0[156..])
        };
        if said == summed(i64::from) || said == summed(|b| i64::from(b as i8)) {
            return Ok(());
        }
        Err(Error::invalid("no tar header: its checksum is wrong"))
    }

    fn number(&self, field: std::ops::Range<usize>) -> Result<i64> {
        number(&self.0[field])
    }

    fn device(&self, from: usize) -> Result<u32> {
        u32::try_from(self.number(from..from + 8)?).map_err(|_| Error::invalid("device number out of range"))
    }

    /// POSIX has a prefix; GNU has other fields in its place.
    fn path(&self) -> Vec<u8> {
        let name = until_nul(self.0[..100].to_vec());
        let prefix = until_nul(self.0[345..500].to_vec());
        if &self.0[257..263] != b"ustar\0" || prefix.is_empty() {
            return name;
        }
        [prefix, name].join(&b'/')
    }
}

/// Octal digits between spaces and NULs, or, with the highest bit set, base 256 (GNU), which may be negative.
fn number(field: &[u8]) -> Result<i64> {
    if field[0] & 0x80 == 0 {
        let text = field.iter().copied().skip_while(|b| *b == b' ');
        let text: Vec<u8> = text.take_while(|b| *b != b' ' && *b != 0).collect();
        return match std::str::from_utf8(&text).map(|t| i64::from_str_radix(t, 8)) {
            _ if text.is_empty() => Ok(0),
            Ok(Ok(n)) if n >= 0 => Ok(n),
            _ => Err(Error::invalid("no octal number in a header")),
        };
    }
    let negative = field[0] & 0x40 != 0;
    let mut value: i128 = if negative { -1 } else { 0 };
    for (i, byte) in field.iter().enumerate() {
        let byte = if i == 0 && !negative { byte & 0x7f } else { *byte };
        value = value << 8 | i128::from(byte);
    }
    i64::try_from(value).map_err(|_| Error::invalid("a number in a header is out of range"))
}

fn decimal(text: &[u8]) -> Result<u64> {
    let parsed = std::str::from_utf8(text).ok().filter(|t| t.bytes().all(|b| b.is_ascii_digit()));
    parsed.and_then(|t| t.parse().ok()).ok_or_else(|| Error::invalid(format!("{} is no number", show(text))))
}

/// `-1.5` is half a second before the last second before 1970: seconds -2, half a second forward.
fn time(text: &[u8]) -> Result<Time> {
    let wrong = || Error::invalid(format!("mtime: {} is no time", show(text)));
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = match digits.iter().position(|b| *b == b'.') {
        Some(dot) => (&digits[..dot], &digits[dot + 1..]),
        None => (digits, &b""[..]),
    };
    if !fraction.iter().all(u8::is_ascii_digit) || digits.is_empty() {
        return Err(wrong());
    }
    let seconds = if whole.is_empty() { 0 } else { decimal(whole).map_err(|_| wrong())? };
    let seconds = i64::try_from(seconds).map_err(|_| wrong())?;
    let nine = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanoseconds = nine.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    Ok(match (negative, nanoseconds) {
        (false, n) => Time { seconds, nanoseconds: n },
        (true, 0) => Time { seconds: -seconds, nanoseconds: 0 },
        (true, n) => Time { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - n },
    })
}

/// Standard alphabet, padding optional, as libarchive writes it.
fn base64(text: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut held) = (0u32, 0);
    for byte in text.iter().filter(|b| **b != b'=') {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return Err(Error::invalid("LIBARCHIVE.xattr: no base64")),
        };
        bits = bits << 6 | u32::from(six);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    Ok(out)
}

/// In order, inside the file, not over one another.
fn check_map(map: &[u64], size: u64) -> Result<Vec<Extent>> {
    let mut end = 0;
    let mut extents = Vec::with_capacity(map.len() / 2);
    for piece in map.chunks(2) {
        let [offset, length] = *piece else {
            return Err(Error::invalid("sparse map: an offset without a length"));
        };
        match offset.checked_add(length) {
            Some(to) if offset >= end && to <= size => end = to,
            _ => return Err(Error::invalid("sparse map: pieces overlap or leave the file")),
        }
        if length > 0 {
            extents.push(Extent { offset, length });
        }
    }
    Ok(extents)
}

fn check_name(what: &str, name: &[u8]) -> Result<()> {
    let wrong = |why: String| Err(Error::invalid(format!("{what} {}: {why}", show(name))));
    if name.is_empty() {
        return wrong("empty".into());
    }
    if name.contains(&0) {
        return wrong("has a NUL".into());
    }
    if name.len() > LONGEST_PATH {
        return wrong(format!("{} bytes long, more than {LONGEST_PATH}", name.len()));
    }
    Ok(())
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len()));
    bytes
}

fn cut(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::invalid("the archive ends inside a header"),
        _ => error.into(),
    }
}

/// A name for a person: quoted, and shortened where it is very long.
pub fn show(name: &[u8]) -> String {
    let shown = String::from_utf8_lossy(&name[..name.len().min(200)]);
    format!("{shown:?}{}", if name.len() > 200 { "…" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header block with a right checksum.
    fn header(name: &str, typeflag: u8, size: u64) -> Vec<u8> {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(size);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_entry_type(tar::EntryType::new(typeflag));
        header.set_cksum();
        header.as_bytes().to_vec()
    }

    fn blocks(data: &[u8]) -> Vec<u8> {
        let mut out = data.to_vec();
        out.resize(data.len().next_multiple_of(BLOCK), 0);
        out
    }

    fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
        extended(b'x', records)
    }

    fn extended(kind: u8, records: &[(&str, &[u8])]) -> Vec<u8> {
        let mut data = Vec::new();
        for (key, value) in records {
            let bare = key.len() + value.len() + 3;
            let mut length = bare + bare.to_string().len();
            length = bare + length.to_string().len();
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        [header("pax", kind, data.len() as u64), blocks(&data)].concat()
    }

    fn read(archive: &[u8]) -> std::result::Result<Vec<(String, Vec<u8>)>, String> {
        let mut members = Members::new(archive);
        let mut found = Vec::new();
        while let Some(member) = members.next().map_err(|e| e.to_string())? {
            let mut data = Vec::new();
            members.read_to_end(&mut data).map_err(|e| e.to_string())?;
            found.push((String::from_utf8_lossy(&member.path).into_owned(), data));
        }
        Ok(found)
    }

    fn names(archive: &[u8]) -> Vec<String> {
        read(archive).unwrap().into_iter().map(|(name, _)| name).collect()
    }

    fn first(archive: &[u8]) -> Member {
        Members::new(archive).next().unwrap().unwrap()
    }

    #[test]
    fn the_size_of_pax_counts_wherever_it_stands() {
        let inner = [header("inner", b'0', 0), vec![0; BLOCK]].concat();
        // CVE-2025-62518: ustar says 0, pax says the payload.
        let size = inner.len().to_string();
        let outer = [pax(&[("size", size.as_bytes())]), header("outer", b'0', 0), inner.clone()].concat();
        assert_eq!(names(&outer), ["outer"]);
        // CVE-2026-33055: ustar says more than pax.
        let after =
            [pax(&[("size", b"3")]), header("outer", b'0', 1024), blocks(b"abc"), header("after", b'0', 0)];
        assert_eq!(names(&after.concat()), ["outer", "after"]);
        // GHSA-3cv2-h65g-fgmm: the size is the file's, not the long name's between.
        let name = blocks(b"longname.txt\0");
        let long =
            [pax(&[("size", b"3")]), header("L", b'L', 13), name, header("x", b'0', 0), blocks(b"abc")];
        assert_eq!(read(&long.concat()).unwrap(), [("longname.txt".into(), b"abc".to_vec())]);
    }

    #[test]
    fn names_and_attributes_are_any_bytes() {
        let value = b"a=b\n\0\xff";
        let member = first(
            &[pax(&[("SCHILY.xattr.user.x", b"old"), ("SCHILY.xattr.user.x", value)]), header("f", b'0', 0)]
                .concat(),
        );
        assert_eq!(member.xattrs, [(b"user.x".to_vec(), value.to_vec())]);
        let member = first(&[pax(&[("LIBARCHIVE.xattr.user.y", b"AP8")]), header("f", b'0', 0)].concat());
        assert_eq!(member.xattrs, [(b"user.y".to_vec(), vec![0, 0xff])]);
        let member = first(&[pax(&[("path", b"\xffx")]), header("f", b'0', 0)].concat());
        assert_eq!(member.path, b"\xffx");
    }

    #[test]
    fn times_have_fractions_and_signs() {
        for (text, seconds, nanoseconds) in [
            ("1.5", 1, 500_000_000),
            ("1.0000000019", 1, 1),
            ("-1", -1, 0),
            ("-1.25", -2, 750_000_000),
            ("-0.5", -1, 500_000_000),
            (".5", 0, 500_000_000),
        ] {
            assert_eq!(time(text.as_bytes()).unwrap(), Time { seconds, nanoseconds }, "{text}");
        }
        for wrong in ["", "-", "x", "1.x", "1e9", "99999999999999999999"] {
            assert!(time(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_are_octal_or_base_256() {
        assert_eq!(number(b"0000644\0").unwrap(), 0o644);
        assert_eq!(number(b" 644 \0\0\0").unwrap(), 0o644);
        assert_eq!(number(b"\0\0\0\0\0\0\0\0").unwrap(), 0);
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 1, 0]).unwrap(), 256);
        assert_eq!(number(&[0xff; 12]).unwrap(), -1);
        assert!(number(b"9\0\0\0\0\0\0\0").is_err());
        assert!(number(&[0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).is_err());
    }

    #[test]
    fn what_is_no_archive_is_an_error_at_once() {
        let error = |archive: &[u8]| read(archive).unwrap_err();
        assert!(error(&[1; BLOCK]).contains("checksum") || error(&[1; BLOCK]).contains("octal"));
        assert!(error(&header("f", b'0', 10)).contains("ends inside"));
        assert!(error(&header("f", b'0', 10)[..100]).contains("ends inside a header"));
        let huge = [pax(&[("size", b"9223372036854775808")]), header("f", b'0', 0)].concat();
        assert!(error(&huge).contains("size of 9223372036854775808 bytes"));
        assert!(error(&header("x", b'x', 1 << 30)).contains("extended header of 1073741824 bytes"));
        assert!(error(&header("f", b'V', 0)).contains("type 'V'"));
        assert!(error(&header("", b'0', 0)).contains("empty"));
        let nul = [pax(&[("path", b"a\0b")]), header("f", b'0', 0)].concat();
        assert!(error(&nul).contains("NUL"));
        let long = "x/".repeat(3000);
        assert!(
            error(&[pax(&[("path", long.as_bytes())]), header("f", b'5', 0)].concat())
                .contains("6000 bytes long")
        );
        let overflow = [pax(&[("uid", b"4294967295")]), header("f", b'0', 0)].concat();
        assert!(error(&overflow).contains("uid out of range"));
        let zero = [vec![0; BLOCK], header("f", b'0', 0)].concat();
        assert!(error(&zero).contains("one block of zeros"));
    }

    #[test]
    fn sparse_files_of_every_form_keep_their_holes() {
        let data = blocks(b"abcde");
        let expect = Kind::File {
            size: 1000,
            extents: Some(vec![Extent { offset: 10, length: 2 }, Extent { offset: 500, length: 3 }]),
        };
        let v00 = pax(&[
            ("GNU.sparse.size", b"1000"),
            ("GNU.sparse.numblocks", b"2"),
            ("GNU.sparse.offset", b"10"),
            ("GNU.sparse.numbytes", b"2"),
            ("GNU.sparse.offset", b"500"),
            ("GNU.sparse.numbytes", b"3"),
        ]);
        let v01 = pax(&[
            ("GNU.sparse.size", b"1000"),
            ("GNU.sparse.name", b"f"),
            ("GNU.sparse.map", b"10,2,500,3"),
        ]);
        for form in [v00, v01] {
            assert_eq!(first(&[form, header("f", b'0', 5), data.clone()].concat()).kind, expect);
        }
        let v10 = pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.realsize", b"1000"),
            ("GNU.sparse.name", b"f"),
        ]);
        let map = blocks(b"2\n10\n2\n500\n3\n");
        let archive = [v10, header("f", b'0', 517), map, data].concat();
        assert_eq!(first(&archive).kind, expect);
        assert_eq!(read(&archive).unwrap(), [("f".into(), b"abcde".to_vec())]);
    }

    #[test]
    fn a_sparse_map_is_not_global() {
        let map = extended(b'g', &[("GNU.sparse.map", b"10,5"), ("GNU.sparse.size", b"1000"), ("uid", b"7")]);
        let member = first(&[map, header("f", b'0', 5), blocks(b"abcde")].concat());
        assert_eq!((member.kind, member.uid), (Kind::File { size: 5, extents: None }, 7));
    }

    #[test]
    fn global_headers_share_their_limit() {
        let one = extended(b'g', &[("SCHILY.xattr.user.x", &[b'x'; 600])]);
        let archive = [one.repeat(40), header("f", b'0', 0)].concat();
        assert_eq!(first(&archive).xattrs.len(), 1);
        let archive = [one.repeat(120), header("f", b'0', 0)].concat();
        assert!(read(&archive).unwrap_err().contains("extended header of"));
    }

    #[test]
    fn a_map_that_leaves_its_file_is_refused() {
        for map in ["10,2,5,1", "999,2", "18446744073709551615,2", "1"] {
            let sparse = pax(&[("GNU.sparse.size", b"1000"), ("GNU.sparse.map", map.as_bytes())]);
            assert!(
                read(&[sparse, header("f", b'0', 0)].concat()).unwrap_err().contains("sparse map"),
                "{map}"
            );
        }
    }

    /// Nothing that an archive says makes the reader panic, read beyond its end, or go on for ever.
    #[test]
    fn mutated_archives_end_in_members_or_errors() {
        let sparse = pax(&[("GNU.sparse.size", b"1000"), ("GNU.sparse.map", b"10,2,500,3")]);
        let names = [
            pax(&[("path", b"a/b"), ("mtime", b"-1.5"), ("SCHILY.xattr.user.x", b"v")]),
            header("f", b'0', 3),
        ];
        let long = [header("L", b'L', 13), blocks(b"longname.txt\0"), header("x", b'0', 0)];
        let whole = [
            &[header("d/", b'5', 0), sparse, header("s", b'0', 5), blocks(b"abcde")].concat()[..],
            &names.concat(),
            &blocks(b"abc"),
            &long.concat(),
            &[0; 2 * BLOCK],
        ]
        .concat();
        let mut state = 1u64;
        let mut random = move |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        for _ in 0..5000 {
            let mut archive = whole.clone();
            for _ in 0..=random(4) {
                let at = random(archive.len());
                archive[at] = [0, 0xff, b'0', b'9', b'x', b'S', b'='][random(7)];
                // With a right checksum it gets further.
                let start = at / BLOCK * BLOCK;
                let sum: u32 = (0..BLOCK)
                    .map(|i| if (148..156).contains(&i) { 32 } else { archive[start + i].into() })
                    .sum();
                archive[start + 148..start + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
            archive.truncate(archive.len() - random(2) * random(2000));
            drop(read(&archive));
        }
    }
}
