//! How a layer's archive is compressed. What counts is how the bytes begin, since media types lie; every form may consist of
//! several members or frames one after another (pigz, estargz, zstd:chunked), which is one archive.

use std::io::{self, BufRead, Read, Write};

use super::gzip::Gzip;
use crate::error::{Error, Kind, Result};

/// The largest window that a zstd frame may ask for, as a power of two: 128 MiB, the limit of zstd(1) without `--long`.
const LARGEST_WINDOW: u32 = 27;

/// A form of compression that layers come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// A bare tar.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// By the first bytes; `compressed with …` for a form that is known and not read.
    pub fn detect(begin: &[u8]) -> Result<Self> {
        match begin {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Self::Zstd),
            // A skippable frame stands first in some zstd archives.
            [b, 0x2a, 0x4d, 0x18, ..] if (0x50..=0x5f).contains(b) => Ok(Self::Zstd),
            [b'B', b'Z', b'h', ..] => Err(Error::unsupported("compressed with bzip2")),
            [0xfd, b'7', b'z', b'X', b'Z', ..] => Err(Error::unsupported("compressed with xz")),
            _ => Ok(Self::None),
        }
    }

    /// As people name it: `gzip`, `zstd`, `none`.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "gzip" | "gz" => Ok(Self::Gzip),
            "zstd" | "zst" => Ok(Self::Zstd),
            "none" => Ok(Self::None),
            _ => Err(Error::new(Kind::Usage, format!("compression {name:?}: gzip, zstd or none"))),
        }
    }

    /// The media type of an OCI layer.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::None => crate::manifest::media::LAYER,
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }

    /// A writer that compresses; [`Compressor::finish`] ends it. The same input gives the same output on every machine.
    pub fn writer<'a, W: Write + 'a>(self, to: W) -> Result<Compressor<'a, W>> {
        Ok(match self {
            Self::None => Compressor::None(to),
            Self::Gzip => {
                Compressor::Gzip(flate2::GzBuilder::new().mtime(0).write(to, flate2::Compression::default()))
            }
            Self::Zstd => {
                Compressor::Zstd(zstd::stream::write::Encoder::new(to, zstd::DEFAULT_COMPRESSION_LEVEL)?)
            }
        })
    }
}

/// See [`Compression::writer`].
pub enum Compressor<'a, W: Write> {
    /// Passes on.
    None(W),
    /// One member.
    Gzip(flate2::write::GzEncoder<W>),
    /// One frame.
    Zstd(zstd::stream::write::Encoder<'a, W>),
}

impl<W: Write> Compressor<'_, W> {
    /// Writes what is still held back, and the end.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Self::None(to) => Ok(to),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Compressor<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::None(to) => to.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::None(to) => to.flush(),
            Self::Gzip(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
    }
}

/// An archive, decompressed; its source is read to the very end, whatever stands behind the last member.
pub enum Decompressed<R: BufRead> {
    /// A bare tar.
    None(R),
    /// gzip members.
    Gzip(Box<Gzip<R>>),
    /// zstd frames.
    Zstd(Box<zstd::stream::read::Decoder<'static, R>>),
}

impl<R: BufRead> Decompressed<R> {
    /// Looks at the first bytes of `source`. `check`: nobody compares the result with a digest, so checksums of the compression are looked at.
    pub fn new(mut source: R, check: bool) -> Result<Self> {
        Ok(match Compression::detect(source.fill_buf()?)? {
            Compression::None => Self::None(source),
            Compression::Gzip => Self::Gzip(Box::new(Gzip::new(source, check))),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
                decoder.window_log_max(LARGEST_WINDOW)?;
                Self::Zstd(Box::new(decoder))
            }
        })
    }

    /// Reads what is left of the source: where its digest is checked at its end, a broken stream is told as what it is.
    pub fn drain(&mut self) -> io::Result<()> {
        let source: &mut dyn Read = match self {
            Self::None(source) => source,
            Self::Gzip(gzip) => match gzip.source_mut() {
                Some(source) => source,
                None => return Ok(()),
            },
            Self::Zstd(decoder) => decoder.get_mut(),
        };
        io::copy(source, &mut io::sink()).map(drop)
    }
}

impl<R: BufRead> Read for Decompressed<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::None(source) => source.read(to),
            Self::Zstd(decoder) => decoder.read(to),
            Self::Gzip(gzip) => gzip.read(to),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compressed(form: Compression, bytes: &[u8]) -> Vec<u8> {
        let mut writer = form.writer(Vec::new()).unwrap();
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> std::result::Result<Vec<u8>, String> {
        let mut out = Vec::new();
        let mut reader = Decompressed::new(bytes, true).map_err(|e| e.to_string())?;
        reader.read_to_end(&mut out).map_err(|e| e.to_string()).map(|_| out)
    }

    #[test]
    fn every_form_comes_back_also_in_several_pieces() {
        for form in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let pieces = [compressed(form, b"one "), compressed(form, b"two")].concat();
            assert_eq!(read(&pieces).unwrap(), b"one two", "{form:?}");
        }
        let skippable =
            [&[0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9][..], &compressed(Compression::Zstd, b"x")].concat();
        assert_eq!(read(&skippable).unwrap(), b"x");
    }

    #[test]
    fn what_follows_the_last_gzip_member_is_read_and_ignored() {
        for tail in [&[0; 10][..], b"garbage"] {
            let bytes = [&compressed(Compression::Gzip, b"x")[..], tail].concat();
            assert_eq!(read(&bytes).unwrap(), b"x");
        }
    }

    #[test]
    fn members_are_found_wherever_a_buffer_ends() {
        let bytes = [compressed(Compression::Gzip, b"one "), compressed(Compression::Gzip, b"two")].concat();
        for capacity in 4..bytes.len() {
            let mut out = Vec::new();
            let mut reader =
                Decompressed::new(io::BufReader::with_capacity(capacity, &bytes[..]), true).unwrap();
            reader.read_to_end(&mut out).unwrap();
            assert_eq!(out, b"one two", "{capacity}");
        }
    }

    #[test]
    fn broken_streams_and_other_forms_are_errors() {
        for form in [Compression::Gzip, Compression::Zstd] {
            let whole = compressed(form, b"some text that is long enough to be cut");
            assert!(read(&whole[..whole.len() - 9]).is_err(), "{form:?}");
        }
        assert!(read(b"BZh9").unwrap_err().contains("bzip2"));
        assert!(read(&[0xfd, b'7', b'z', b'X', b'Z', 0]).unwrap_err().contains("xz"));
        // A frame that asks for a window of 2 GiB.
        assert!(read(&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 1, 0, 0]).is_err());
    }
}
