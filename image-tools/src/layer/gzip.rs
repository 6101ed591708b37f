//! gzip (RFC 1952), one member after another, around flate2's inflate: flate2's own reader always sums a CRC, which costs a tenth of a
//! layer's decompression and says nothing where the digest of what comes out is compared anyway.

use std::io::{self, BufRead, Read};

use flate2::Crc;
use flate2::bufread::DeflateDecoder;

/// What a member says of itself in its header's fourth byte.
const HEADER_CRC: u8 = 2;
const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;
const RESERVED: u8 = 0xe0;

/// A stream of members, decompressed; what stands behind the last one is read and ignored.
pub struct Gzip<R> {
    /// None behind the last member, or after an error between two.
    member: Option<DeflateDecoder<R>>,
    /// The current member's header was read.
    begun: bool,
    crc: Option<Crc>,
}

impl<R: BufRead> Gzip<R> {
    /// Reads from a member's first byte. `check`: nobody else compares what comes out with anything, so the CRC is summed.
    pub fn new(source: R, check: bool) -> Self {
        Self { member: Some(DeflateDecoder::new(source)), begun: false, crc: check.then(Crc::new) }
    }

    /// What is decompressed; none behind the last member.
    pub fn source_mut(&mut self) -> Option<&mut R> {
        self.member.as_mut().map(DeflateDecoder::get_mut)
    }

    /// The end of a member: its sums, and then another one or bytes that only a digest is about.
    fn next(&mut self, member: DeflateDecoder<R>) -> io::Result<()> {
        let length = member.total_out();
        let mut source = member.into_inner();
        let mut sums = [0; 8];
        source.read_exact(&mut sums)?;
        let [crc, size] =
            [0, 4].map(|at| u32::from_le_bytes([sums[at], sums[at + 1], sums[at + 2], sums[at + 3]]));
        let is_wrong = self.crc.as_ref().is_some_and(|summed| summed.sum() != crc);
        if size != length as u32 || is_wrong {
            return Err(invalid("gzip: a member's checksum or length is wrong"));
        }
        self.crc.iter_mut().for_each(Crc::reset);
        // A buffer may end after the first byte of a member.
        if matches!(source.fill_buf()?, [0x1f] | [0x1f, 0x8b, ..]) {
            (self.member, self.begun) = (Some(DeflateDecoder::new(source)), false);
            return Ok(());
        }
        io::copy(&mut source, &mut io::sink()).map(drop)
    }
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(member) = &mut self.member else { return Ok(0) };
            if !self.begun {
                header(member.get_mut())?;
                self.begun = true;
            }
            let n = member.read(to)?;
            if n > 0 || to.is_empty() {
                self.crc.iter_mut().for_each(|crc| crc.update(&to[..n]));
                return Ok(n);
            }
            let member = self.member.take().expect("matched above");
            self.next(member)?;
        }
    }
}

fn header(source: &mut impl BufRead) -> io::Result<()> {
    let mut fixed = [0; 10];
    source.read_exact(&mut fixed)?;
    let [0x1f, 0x8b, 8, flags, ..] = fixed else {
        return Err(invalid("gzip: no header of a member"));
    };
    if flags & RESERVED != 0 {
        return Err(invalid("gzip: reserved flags in a header"));
    }
    if flags & EXTRA != 0 {
        let mut length = [0; 2];
        source.read_exact(&mut length)?;
        skip(source, u64::from(u16::from_le_bytes(length)))?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            skip_text(source)?;
        }
    }
    if flags & HEADER_CRC != 0 {
        skip(source, 2)?;
    }
    Ok(())
}

/// To the NUL that ends it.
fn skip_text(source: &mut impl BufRead) -> io::Result<()> {
    let mut byte = [1];
    while byte != [0] {
        source.read_exact(&mut byte)?;
    }
    Ok(())
}

fn skip(source: &mut impl BufRead, bytes: u64) -> io::Result<()> {
    match io::copy(&mut source.take(bytes), &mut io::sink())? {
        n if n == bytes => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn invalid(text: &str) -> io::Error {
    crate::error::Error::invalid(text).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn member(text: &[u8]) -> Vec<u8> {
        let builder = flate2::GzBuilder::new().extra(vec![7; 300]).filename("name").comment("why");
        let mut encoder = builder.write(Vec::new(), flate2::Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: &[u8], check: bool) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Gzip::new(bytes, check).read_to_end(&mut out).map(|_| out)
    }

    #[test]
    fn headers_of_every_kind_are_passed_over() {
        let bytes = [member(b"one "), member(b"two"), b"tail".to_vec()].concat();
        assert_eq!(read(&bytes, true).unwrap(), b"one two");
        for cut in 1..bytes.len() - 5 {
            let cut_there = read(&bytes[..cut], false);
            assert!(cut_there.is_err() || cut == member(b"one ").len(), "{cut}");
        }
    }

    #[test]
    fn wrong_sums_are_errors_where_nobody_else_compares() {
        let mut bytes = member(b"text");
        let crc = bytes.len() - 8;
        bytes[crc] ^= 1;
        assert!(read(&bytes, true).is_err());
        assert_eq!(read(&bytes, false).unwrap(), b"text");
        bytes[crc + 4] ^= 1;
        assert!(read(&bytes, false).is_err(), "the length is always compared");
    }
}
