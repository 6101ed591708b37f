//! Writes a layer's archive: ustar headers where everything fits them, PAX records before them where not (pax(1), and
//! `SCHILY.xattr.` for extended attributes, as every tool does). The same members give the same bytes: records are
//! sorted, ids are numbers, there is nothing of this machine or of now. Two blocks of zeros end it, as Go's
//! archive/tar ends its own.

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
    /// When `data` has fewer or more bytes than the member's size: the file changed while it was read. When an
    /// extended attribute cannot be told in an archive. When writing fails.
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Cursor, repeat};
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use super::*;

    fn member(path: &str, kind: Kind) -> Member {
        let mtime = Time { seconds: 1_700_000_000, nanoseconds: 0 };
        Member { path: path.into(), kind, mode: 0o644, uid: 0, gid: 0, mtime, xattrs: Vec::new() }
    }

    fn file(path: &str, size: u64) -> Member {
        member(path, Kind::File { size, extents: None })
    }

    /// One of each kind, and at least one that needs each record.
    fn odd_members() -> Vec<(Member, Vec<u8>)> {
        let deep = format!("{}/name", "d".repeat(150));
        let long = format!("{}/{}", "long".repeat(40), "n".repeat(200));
        let directory = |path: &str| Member { mode: 0o1750, ..member(path, Kind::Directory) };
        let mut of = vec![
            (directory("./"), vec![]),
            (directory(&format!("{}/", "d".repeat(150))), vec![]),
            (file(&deep, 3), b"abc".to_vec()),
            (directory(&format!("{}/", "long".repeat(40))), vec![]),
            (file(&long, 512), vec![7; 512]),
            (file("h\u{fc}lle\n", 0), vec![]),
            (member("hard", Kind::Hardlink(long.clone().into())), vec![]),
            (member("soft", Kind::Symlink(format!("../{long}").into())), vec![]),
            (member("pipe", Kind::Fifo), vec![]),
            (member("null", Kind::Character(1, 3)), vec![]),
            (member("disk", Kind::Block(259, 1_048_575)), vec![]),
        ];
        let mut owned = file("owned", 1);
        (owned.mode, owned.uid, owned.gid) = (0o4755, 0o7777777 + 1, 4_000_000_000);
        of.push((owned, b"x".to_vec()));
        for (name, seconds, nanoseconds) in [("old", -2, 250_000_000), ("new", 1, 1), ("far", 1 << 33, 0)] {
            of.push((Member { mtime: Time { seconds, nanoseconds }, ..file(name, 0) }, vec![]));
        }
        let mut attributes = file("attributes", 2);
        attributes.xattrs = vec![
            (b"user.z".to_vec(), b"a=b\nc\0d".to_vec()),
            (b"user.b".to_vec(), vec![0xff; 300]),
            (b"user.empty".to_vec(), vec![]),
        ];
        of.push((attributes, b"yz".to_vec()));
        of
    }

    fn archive(members: &[(Member, Vec<u8>)]) -> Vec<u8> {
        let mut archive = Archive::new(Vec::new());
        for (member, data) in members {
            archive.append(member, data.as_slice()).expect("append");
        }
        assert_eq!(archive.members(), members.len() as u64);
        archive.finish().expect("finish")
    }

    /// A folder below the target folder, empty.
    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("pintle-image-write-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder to try in");
        path
    }

    #[test]
    fn the_tar_crate_reads_what_was_written() {
        let mut members = odd_members();
        // The crate's own reader of records ends one at the first newline.
        let values = members.iter_mut().flat_map(|(m, _)| &mut m.xattrs).flat_map(|(_, value)| value);
        values.filter(|b| **b == b'\n').for_each(|b| *b = b'\r');
        let bytes = archive(&members);
        assert_eq!(bytes.len() % BLOCK, 0);
        assert!(bytes.ends_with(&[0; 2 * BLOCK]));
        let mut read = tar::Archive::new(bytes.as_slice());
        let mut entries = read.entries().expect("an archive");
        for (member, data) in &members {
            let mut entry = entries.next().expect("as many").expect("a member");
            let records: Vec<(String, Vec<u8>)> =
                entry.pax_extensions().expect("records").map_or(vec![], |r| {
                    r.map(|r| r.expect("record"))
                        .map(|r| (r.key().unwrap().into(), r.value_bytes().into()))
                        .collect()
                });
            let record = |key: &str| records.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone());
            assert_eq!(*entry.path_bytes(), *member.path);
            assert_eq!(entry.header().mode().unwrap(), member.mode);
            assert_eq!(entry.header().uid().unwrap(), u64::from(member.uid));
            assert_eq!(entry.header().gid().unwrap(), u64::from(member.gid));
            if let Kind::Hardlink(target) | Kind::Symlink(target) = &member.kind {
                assert_eq!(entry.link_name_bytes().as_deref(), Some(target.as_slice()));
            }
            let (seconds, nanoseconds) = (member.mtime.seconds, member.mtime.nanoseconds);
            if !(0..=OCTAL_11 as i64).contains(&seconds) || nanoseconds > 0 {
                assert_eq!(record("mtime"), Some(decimal(member.mtime).into_bytes()));
            } else {
                assert_eq!(entry.header().mtime().unwrap(), seconds as u64);
            }
            for (name, value) in &member.xattrs {
                let key = format!("SCHILY.xattr.{}", String::from_utf8_lossy(name));
                assert_eq!(record(&key).as_ref(), Some(value));
            }
            assert!(records.is_sorted());
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).expect("data");
            assert_eq!(bytes, *data);
        }
        assert!(entries.next().is_none());
    }

    #[test]
    fn python_reads_what_was_written() {
        const PROGRAM: &str = r"
import sys, tarfile
for m in tarfile.open(fileobj=sys.stdin.buffer, mode='r|', encoding='utf-8'):
    x = sorted((k[13:].encode(), v.encode('utf-8', 'surrogateescape').hex())
               for k, v in m.pax_headers.items() if k.startswith('SCHILY.xattr.'))
    t = m.pax_headers.get('mtime', str(int(m.mtime)))
    print(ascii(m.name), m.type.decode(), m.size, oct(m.mode), m.uid, m.gid, t, m.devmajor, m.devminor,
          ascii(m.linkname), [(k.decode(), v) for k, v in x])
";
        let dir = scratch("python");
        fs::write(dir.join("a.tar"), archive(&odd_members())).unwrap();
        let input = fs::File::open(dir.join("a.tar")).unwrap();
        let Ok(output) = Command::new("python3").args(["-c", PROGRAM]).stdin(input).output() else {
            println!("SKIP python_reads_what_was_written: no python3");
            return;
        };
        fs::remove_dir_all(dir).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let told = String::from_utf8(output.stdout).unwrap();
        assert_eq!(told.lines().count(), odd_members().len());
        for ((member, data), line) in odd_members().iter().zip(told.lines()) {
            assert_eq!(line, as_python_tells(member, data.len()));
        }
    }

    fn as_python_tells(member: &Member, size: usize) -> String {
        let (kind, target, (major, minor)) = match &member.kind {
            Kind::File { .. } => (0, &b""[..], (0, 0)),
            Kind::Hardlink(target) => (1, target.as_slice(), (0, 0)),
            Kind::Symlink(target) => (2, target.as_slice(), (0, 0)),
            Kind::Character(major, minor) => (3, &b""[..], (*major, *minor)),
            Kind::Block(major, minor) => (4, &b""[..], (*major, *minor)),
            Kind::Directory => (5, &b""[..], (0, 0)),
            Kind::Fifo => (6, &b""[..], (0, 0)),
        };
        let path = String::from_utf8_lossy(&member.path).into_owned();
        let path = path.trim_end_matches('/').replace('\u{fc}', "\\xfc").replace('\n', "\\n");
        let mut xattrs = member.xattrs.clone();
        xattrs.sort();
        let hex = |v: &[u8]| v.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let tell = |(k, v): &(Vec<u8>, Vec<u8>)| format!("('{}', '{}')", String::from_utf8_lossy(k), hex(v));
        let xattrs: Vec<String> = xattrs.iter().map(tell).collect();
        format!(
            "'{path}' {kind} {size} 0o{:o} {} {} {} {major} {minor} '{}' [{}]",
            member.mode,
            member.uid,
            member.gid,
            decimal(member.mtime),
            String::from_utf8_lossy(target),
            xattrs.join(", ")
        )
    }

    #[test]
    fn gnu_tar_extracts_what_was_written() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIP gnu_tar_extracts_what_was_written: needs root for owners and devices");
            return;
        }
        let dir = scratch("gnu");
        fs::write(dir.join("a.tar"), archive(&odd_members())).unwrap();
        fs::create_dir(dir.join("tree")).unwrap();
        let options = [
            "--numeric-owner",
            "--warning=no-timestamp",
            "--xattrs",
            "--xattrs-include=*",
            "-xpf",
            "../a.tar",
        ];
        let output = Command::new("tar").current_dir(dir.join("tree")).args(options).output().expect("tar");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        for (member, data) in odd_members() {
            extracted_as(&dir.join("tree"), &member, &data);
        }
        fs::remove_dir_all(dir).unwrap();
    }

    #[track_caller]
    fn extracted_as(root: &Path, member: &Member, data: &[u8]) {
        let path = root.join(std::str::from_utf8(&member.path).unwrap());
        let is = path.symlink_metadata().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let kind = is.file_type();
        match &member.kind {
            Kind::File { .. } => assert_eq!(fs::read(&path).unwrap(), data),
            Kind::Hardlink(target) => {
                let target = root.join(std::str::from_utf8(target).unwrap());
                return assert_eq!(is.ino(), target.metadata().unwrap().ino());
            }
            Kind::Symlink(target) => {
                assert_eq!(path.read_link().unwrap().as_os_str().as_encoded_bytes(), target);
            }
            Kind::Directory => assert!(kind.is_dir()),
            Kind::Fifo => assert!(kind.is_fifo()),
            Kind::Character(..) => assert!(kind.is_char_device()),
            Kind::Block(..) => assert!(kind.is_block_device()),
        }
        if let Kind::Character(major, minor) | Kind::Block(major, minor) = member.kind {
            assert_eq!((rustix::fs::major(is.rdev()), rustix::fs::minor(is.rdev())), (major, minor));
        }
        if !kind.is_symlink() {
            assert_eq!(is.mode() & 0o7777, member.mode, "{}", path.display());
        }
        assert_eq!((is.uid(), is.gid()), (member.uid, member.gid));
        let mtime = (is.mtime(), is.mtime_nsec() as u32);
        assert_eq!(mtime, (member.mtime.seconds, member.mtime.nanoseconds), "{}", path.display());
        for (name, value) in &member.xattrs {
            let mut buffer = vec![0; 1024];
            let n = rustix::fs::lgetxattr(&path, name.as_slice(), &mut buffer).expect("attribute");
            assert_eq!(buffer[..n], *value);
        }
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_is_named() {
        let mut archive = Archive::new(std::io::sink());
        let mut append = |data: &[u8]| archive.append(&file("etc/x", 4), data).unwrap_err().to_string();
        assert_eq!(append(b"abc"), "\"etc/x\": the file shrank to 3 bytes while it was read");
        assert_eq!(append(b"abcde"), "\"etc/x\": the file grew over 4 bytes while it was read");
    }

    #[test]
    fn a_size_that_octal_cannot_hold_is_a_record() {
        let (header, records) = headers(&file("big", OCTAL_11 + 1)).expect("headers");
        assert_eq!(header.size().unwrap(), 0);
        assert_eq!(records, [(b"size".to_vec(), b"8589934592".to_vec())]);
        assert!(headers(&file("large", OCTAL_11)).expect("headers").1.is_empty());
    }

    #[test]
    fn files_larger_than_the_buffer_are_whole() {
        for size in [BUFFER - 1, BUFFER, BUFFER + 1, 3 * BUFFER + 777] {
            let mut archive = Archive::new(Vec::new());
            archive.append(&file("small", 1), &b"s"[..]).expect("append");
            archive.append(&file("large", size as u64), repeat(b'x').take(size as u64)).expect("append");
            let bytes = archive.finish().expect("finish");
            let mut read = tar::Archive::new(Cursor::new(bytes));
            let mut entry = read.entries().unwrap().nth(1).expect("the second").unwrap();
            let mut data = Vec::new();
            entry.read_to_end(&mut data).unwrap();
            assert!(data.len() == size && data.iter().all(|b| *b == b'x'));
        }
    }

    #[test]
    fn what_an_archive_cannot_tell_is_refused() {
        let mut archive = Archive::new(std::io::sink());
        let mut refused = |member: &Member| archive.append(member, std::io::empty()).unwrap_err().to_string();
        let with = |name: &str, n: usize| Member { xattrs: vec![(name.into(), vec![0; n])], ..file("f", 0) };
        assert!(refused(&with("user.a=b", 1)).contains("cannot tell the attribute"));
        assert!(refused(&with("user.a", RECORDS_MAX)).contains("too long"));
        assert!(refused(&member("d", Kind::Character(1 << 22, 0))).contains("device"));
        assert!(refused(&member("s", Kind::File { size: 1, extents: Some(vec![]) })).contains("sparse"));
        assert!(refused(&member("", Kind::Fifo)).contains("needs a path"));
    }

    #[test]
    fn records_count_their_own_digits() {
        for rest in 3..20_000 {
            let length = record_length(rest);
            assert_eq!(length, rest + length.to_string().len());
        }
    }

    #[test]
    fn times_before_1970_count_backwards() {
        let time = |seconds, nanoseconds| decimal(Time { seconds, nanoseconds });
        assert_eq!(time(-1, 500_000_000), "-0.5");
        assert_eq!(time(-2, 250_000_000), "-1.75");
        assert_eq!(time(-3, 0), "-3");
        assert_eq!(time(0, 1), "0.000000001");
        assert_eq!(time(i64::MIN, 0), "-9223372036854775808");
    }
}
