//! A layer on its way from its blob to whoever applies it: one thread reads and decompresses, the other one hashes and uses.
//! Between them a few chunks go round and round, so a layer takes the same little memory whatever its size.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::Scope;

use super::compression::Decompressed;
use crate::digest::{Digest, Hasher};
use crate::error::{Context, Error, Result};

/// Bytes that travel at once.
const CHUNK: usize = 256 << 10;
/// Chunks between the two threads.
const DEPTH: usize = 6;
/// Of compressed bytes, read at once.
const INPUT: usize = 128 << 10;
/// What any layer may grow to, in bytes, however small its blob.
const FREE: u64 = 1 << 30;
/// What a larger one may grow to, in sizes of its blob. gzip gains 1,030 at most, file systems in practice 20.
const GROWTH: u64 = 250;

type Chunk = io::Result<Vec<u8>>;

/// The archive of a layer, uncompressed, as it arrives. [`Uncompressed::finish`] says whether it was the right one.
pub struct Uncompressed {
    chunks: Receiver<Chunk>,
    used: Sender<Vec<u8>>,
    chunk: Vec<u8>,
    position: usize,
    hasher: Hasher,
    expect: Digest,
    taken: u64,
    /// Of the compressed blob, in bytes: how much was read.
    read: Arc<AtomicU64>,
    limit: Option<u64>,
}

/// How large the archive of a blob may be: a limit against bombs.
pub fn limit(blob: u64, given: Option<u64>) -> u64 {
    given.unwrap_or_else(|| FREE.max(blob.saturating_mul(GROWTH)))
}

/// Copies an archive that nobody announced a size of, decompressed: no more than [`limit`] makes of what was `given` and of the bytes
/// read so far.
pub fn copy_limited(compressed: impl Read, to: &mut impl io::Write, given: Option<u64>) -> Result<()> {
    let read = Arc::new(AtomicU64::new(0));
    let source = Shared { source: compressed, read: Arc::clone(&read) };
    let mut archive = Decompressed::new(BufReader::with_capacity(INPUT, source), true)?;
    let mut buffer = vec![0; CHUNK];
    let mut written = 0u64;
    loop {
        let n = fill(&mut archive, &mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        written += n as u64;
        let limit = limit(read.load(Ordering::Relaxed), given);
        if written > limit {
            return Err(Error::invalid(format!("uncompressed: more than {limit} bytes")));
        }
        to.write_all(&buffer[..n])?;
    }
}

/// Starts the thread that reads and decompresses `source`. The archive has to have the digest `expect` and be no longer than
/// `limit` bytes, or, without one, than what [`limit`] makes of the bytes read so far: what a descriptor says of the blob's size is
/// its author's word.
pub fn spawn<'scope, R: Read + Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    source: R,
    expect: &Digest,
    limit: Option<u64>,
) -> Uncompressed {
    let (send, chunks) = sync_channel(DEPTH);
    let (used, recycled) = channel();
    let read = Arc::new(AtomicU64::new(0));
    let source = Shared { source, read: Arc::clone(&read) };
    scope.spawn(move || {
        if let Err(e) = decompress(source, &send, &recycled) {
            // Nobody listens where the other side gave up first: its error is the one that counts.
            drop(send.send(Err(e)));
        }
    });
    let hasher = Hasher::new(expect.algorithm());
    Uncompressed {
        chunks,
        used,
        chunk: Vec::new(),
        position: 0,
        hasher,
        expect: expect.clone(),
        taken: 0,
        read,
        limit,
    }
}

/// A reader that tells others how far it is.
struct Shared<R> {
    source: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Shared<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let n = self.source.read(to)?;
        self.read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

fn decompress(
    mut source: impl Read,
    send: &SyncSender<Chunk>,
    recycled: &Receiver<Vec<u8>>,
) -> io::Result<()> {
    // A source may give its first bytes one by one; they say how the rest is compressed.
    let mut begin = vec![0; 4];
    let filled = fill(&mut source, &mut begin)?;
    begin.truncate(filled);
    let whole = BufReader::with_capacity(INPUT, io::Cursor::new(begin).chain(source));
    let mut archive = Decompressed::new(whole, false).map_err(io::Error::from)?;
    loop {
        let mut chunk = recycled.try_recv().unwrap_or_default();
        chunk.resize(CHUNK, 0);
        let filled = match fill(&mut archive, &mut chunk) {
            Ok(filled) => filled,
            // Wrong bytes seldom decompress: then their digest, which is checked at their end, says it better.
            Err(e) => return archive.drain().and(Err(e)),
        };
        chunk.truncate(filled);
        if filled == 0 || send.send(Ok(chunk)).is_err() {
            return Ok(());
        }
    }
}

/// As much as there is, up to the chunk's size.
fn fill(source: &mut impl Read, chunk: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < chunk.len() {
        match source.read(&mut chunk[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

impl Uncompressed {
    /// Reads the rest, which belongs to the digest too, and compares; gives the archive's size, in bytes.
    pub fn finish(mut self) -> Result<u64> {
        io::copy(&mut self, &mut io::sink())?;
        self.expect.expect(&self.hasher.finish()).context("uncompressed")?;
        Ok(self.taken)
    }

    fn next(&mut self) -> io::Result<()> {
        let done = std::mem::take(&mut self.chunk);
        if done.capacity() > 0 {
            drop(self.used.send(done)); // the other thread may be at its end
        }
        self.position = 0;
        // The sender goes away at the end of the stream.
        let Ok(chunk) = self.chunks.recv() else { return Ok(()) };
        self.chunk = chunk?;
        self.taken += self.chunk.len() as u64;
        let limit = limit(self.read.load(Ordering::Relaxed), self.limit);
        if self.taken > limit {
            let text = format!("uncompressed: more than {limit} bytes (--max-layer-size sets the limit)");
            return Err(Error::invalid(text).into());
        }
        self.hasher.update(&self.chunk);
        Ok(())
    }
}

impl BufRead for Uncompressed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.chunk.len() {
            self.next()?;
        }
        Ok(&self.chunk[self.position..])
    }

    fn consume(&mut self, n: usize) {
        self.position += n;
    }
}

impl Read for Uncompressed {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let from = self.fill_buf()?;
        let n = from.len().min(to.len());
        to[..n].copy_from_slice(&from[..n]);
        self.consume(n);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Verified;
    use crate::layer::compression::Compression;
    use std::io::Write;

    fn through(bytes: &[u8], expect: &Digest, limit: Option<u64>) -> std::result::Result<Vec<u8>, String> {
        std::thread::scope(|scope| {
            let mut stream = spawn(scope, bytes, expect, limit);
            let mut out = Vec::new();
            stream.read_to_end(&mut out).map_err(|e| e.to_string())?;
            stream.finish().map_err(|e| e.to_string()).map(|_| out)
        })
    }

    #[test]
    fn a_stream_is_whole_and_of_its_digest() {
        let archive: Vec<u8> = (0..3_000_000u32).map(|i| (i / 7) as u8).collect();
        let mut gzip = Compression::Gzip.writer(Vec::new()).unwrap();
        gzip.write_all(&archive).unwrap();
        let gzip = gzip.finish().unwrap();
        let right = Digest::of(&archive);
        assert_eq!(through(&gzip, &right, None).unwrap(), archive);
        assert!(through(&gzip, &Digest::of(b""), None).unwrap_err().starts_with("uncompressed: digest is"));
        assert!(through(&gzip, &right, Some(1 << 20)).unwrap_err().contains("--max-layer-size"));
        assert!(through(&gzip[..gzip.len() / 2], &right, None).is_err());
    }

    /// Gives one byte at a time, as a slow server may.
    struct Drops<'a>(&'a [u8]);

    impl Read for Drops<'_> {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            let n = self.0.len().min(to.len()).min(1);
            self.0.read(&mut to[..n])
        }
    }

    #[test]
    fn a_stream_may_come_in_drops() {
        for form in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let mut writer = form.writer(Vec::new()).unwrap();
            writer.write_all(b"text").unwrap();
            let bytes = writer.finish().unwrap();
            let read = std::thread::scope(|scope| {
                let mut stream = spawn(scope, Drops(&bytes), &Digest::of(b"text"), None);
                let mut out = Vec::new();
                stream.read_to_end(&mut out).unwrap();
                stream.finish().map(|_| out)
            });
            assert_eq!(read.unwrap(), b"text", "{form:?}");
        }
    }

    #[test]
    fn a_broken_blob_is_told_by_its_digest() {
        let gzip = [&[0x1f, 0x8b, 8, 0][..], &[7; 400]].concat();
        let verified = Verified::new(&gzip[..], &Digest::of(b"other"), gzip.len() as u64);
        let error = std::thread::scope(|scope| {
            let mut stream = spawn(scope, verified, &Digest::of(b""), None);
            stream.read_to_end(&mut Vec::new()).unwrap_err().to_string()
        });
        assert!(error.starts_with("digest is sha256:"), "{error}");
    }
}
