//! Digests as the image specification writes them (descriptor.md, "Digests"): `sha256:` or `sha512:` and lower-case hex.
//! A [`Digest`] is always well formed, so it may become part of a path (CVE-2024-3727).

use std::fmt;
use std::io::{self, Read};

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::error::{Error, Result};

/// A well-formed digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

/// The registered algorithms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// SHA-256, which everybody uses.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// As a digest's text and a layout's folder name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn hex_digits(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

impl Digest {
    /// Reads `algorithm:hex`. Errors: another algorithm, another length, anything but lower-case hex.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| Err(Error::invalid(format!("digest {text:?}: {why}")));
        let Some((algorithm, hex)) = text.split_once(':') else {
            return wrong("not algorithm:hex");
        };
        let digits = match algorithm {
            "sha256" => Algorithm::Sha256.hex_digits(),
            "sha512" => Algorithm::Sha512.hex_digits(),
            _ => return wrong("neither sha256 nor sha512"),
        };
        if hex.len() != digits || !hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return wrong(&format!("not {digits} lower-case hexadecimal digits"));
        }
        Ok(Self(text.to_owned()))
    }

    /// The SHA-256 digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The algorithm before the colon.
    pub fn algorithm(&self) -> Algorithm {
        if self.0.starts_with("sha512:") { Algorithm::Sha512 } else { Algorithm::Sha256 }
    }

    /// The digits behind the colon.
    pub fn hex(&self) -> &str {
        &self.0[self.algorithm().name().len() + 1..]
    }

    /// The first twelve digits, for people.
    pub fn short(&self) -> &str {
        &self.hex()[..12]
    }

    /// The whole text, `sha256:…`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Compares with what came; the error names both.
    pub fn expect(&self, actual: &Digest) -> Result<()> {
        if self == actual {
            return Ok(());
        }
        Err(Error::invalid(format!("digest is {actual}, not {self}")))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

/// A digest in the making.
#[derive(Clone)]
pub enum Hasher {
    /// See [`Algorithm::Sha256`].
    Sha256(sha2::Sha256),
    /// See [`Algorithm::Sha512`].
    Sha512(sha2::Sha512),
}

impl Hasher {
    /// Of no bytes yet.
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(sha2::Sha512::new()),
        }
    }

    /// More bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(h) => h.update(bytes),
            Self::Sha512(h) => h.update(bytes),
        }
    }

    /// The digest of all bytes given.
    pub fn finish(self) -> Digest {
        match self {
            Self::Sha256(h) => digest(Algorithm::Sha256, &h.finalize()),
            Self::Sha512(h) => digest(Algorithm::Sha512, &h.finalize()),
        }
    }
}

fn digest(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    use fmt::Write;
    let mut text = format!("{}:", algorithm.name());
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a string takes all");
    }
    Digest(text)
}

/// A stream that has to be `size` bytes long and to have this digest: its last byte is an error where it has not, and so are its early end and
/// the first byte too many.
pub struct Verified<R> {
    inner: R,
    hasher: Option<Hasher>,
    expect: Digest,
    left: u64,
    size: u64,
}

impl<R: Read> Verified<R> {
    /// Checks what `inner` gives.
    pub fn new(inner: R, expect: &Digest, size: u64) -> Self {
        let hasher = Some(Hasher::new(expect.algorithm()));
        Self { inner, hasher, expect: expect.clone(), left: size, size }
    }

    /// What was given so far, in bytes.
    pub fn position(&self) -> u64 {
        self.size - self.left
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let n = self.inner.read(buffer)?;
        if n as u64 > self.left {
            return Err(
                Error::invalid(format!("longer than the {} bytes of its descriptor", self.size)).into()
            );
        }
        self.left -= n as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..n]);
        }
        if self.left > 0 && n == 0 {
            let had = self.position();
            return Err(Error::invalid(format!("ends after {had} of {} bytes", self.size)).into());
        }
        // With the last byte, not behind it: who knows the size reads no further.
        if self.left == 0
            && let Some(hasher) = self.hasher.take()
        {
            self.expect.expect(&hasher.finish()).map_err(io::Error::from)?;
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn only_well_formed_digests_are_digests() {
        assert_eq!(Digest::parse(EMPTY).unwrap(), Digest::of(b""));
        for wrong in
            ["", "sha256:", "sha256:../../x", "md5:d41d8cd98f00b204e9800998ecf8427e", &EMPTY.to_uppercase()]
        {
            assert!(Digest::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Digest::parse(&format!("{EMPTY}0")).is_err());
    }

    #[test]
    fn a_verified_stream_is_neither_short_nor_long_nor_other() {
        let read = |bytes: &[u8], size| {
            let mut out = Vec::new();
            Verified::new(bytes, &Digest::of(b"four"), size).read_to_end(&mut out).map_err(|e| e.to_string())
        };
        assert_eq!(read(b"four", 4), Ok(4));
        assert_eq!(read(b"fou", 4).unwrap_err(), "ends after 3 of 4 bytes");
        assert_eq!(read(b"fours", 4).unwrap_err(), "longer than the 4 bytes of its descriptor");
        assert!(read(b"five", 4).unwrap_err().starts_with("digest is sha256:"));
    }
}
