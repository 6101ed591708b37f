//! A blob on its way into the store. One thread fetches it, verifies it and puts it under its name; another one may read what has come
//! so far. The two never wait for each other's lock: the reader follows the file as it grows.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags, openat, renameat, unlinkat};

use super::Store;
use super::lock::Lock;
use crate::digest::Hasher;
use crate::error::{Context, Error, Result};
use crate::image::Source;
use crate::layout::blob_path;
use crate::manifest::Descriptor;

/// Bytes copied at once.
const CHUNK: usize = 256 << 10;

/// What is known of a blob that arrives.
pub struct Arrival<'a> {
    store: &'a Store,
    descriptor: &'a Descriptor,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// None until the first byte may be read.
    file: Option<Arc<File>>,
    /// It was in the store before: whoever reads it checks it.
    unverified: bool,
    /// How much of the file is there, in bytes.
    written: u64,
    /// Nothing more will come.
    end: Option<Result<()>>,
}

impl<'a> Arrival<'a> {
    /// Of a blob that nobody fetches yet.
    pub fn new(store: &'a Store, descriptor: &'a Descriptor) -> Self {
        Self { store, descriptor, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Fetches the blob, unless the store has it or another process fetches it just now: then that one is waited for. What an
    /// earlier attempt left is gone on with. `advance` hears of bytes as they come. Whoever reads learns of the result, too.
    pub fn fetch(&self, source: &dyn Source, advance: &dyn Fn(u64)) -> Result<()> {
        let result = self.bring(source, advance).with_context(|| self.descriptor.digest.to_string());
        self.update(|state| {
            state.end.get_or_insert(result.clone());
        });
        result
    }

    fn bring(&self, source: &dyn Source, advance: &dyn Fn(u64)) -> Result<()> {
        if let Some(file) = self.store.blob(self.descriptor)? {
            return self.is_there(file, advance);
        }
        let digest = &self.descriptor.digest;
        let name = format!("{}-{}", digest.algorithm().name(), digest.hex());
        let lock = Lock::open(self.store.layout().dir(), &format!("locks/{name}"))?;
        lock.exclusive()?;
        if let Some(file) = self.store.blob(self.descriptor)? {
            return self.is_there(file, advance);
        }
        let partial = format!("partial/{name}");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o644);
        let file = Arc::new(File::from(openat(self.store.layout().dir(), &partial, flags, mode)?));
        if file.metadata()?.len() > self.descriptor.size {
            file.set_len(0)?;
        }
        let verified = self.receive(source, &file, advance);
        if let Err(e) = &verified {
            // Wrong bytes are no use to the next attempt; missing ones are the only thing that it lacks.
            if e.kind() == crate::error::Kind::Invalid {
                unlinkat(self.store.layout().dir(), &partial, AtFlags::empty())?;
            }
            return verified;
        }
        self.store.make_blob_dir(digest)?;
        let root = self.store.layout().dir();
        renameat(root, &partial, root, blob_path(digest))?;
        Ok(())
    }

    fn is_there(&self, file: File, advance: &dyn Fn(u64)) -> Result<()> {
        advance(self.descriptor.size);
        self.update(|state| {
            state.file = Some(Arc::new(file));
            state.unverified = true;
            state.written = self.descriptor.size;
        });
        Ok(())
    }

    /// Reads what is there already, for its digest, and then the rest from the source.
    fn receive(&self, source: &dyn Source, file: &Arc<File>, advance: &dyn Fn(u64)) -> Result<()> {
        let mut hasher = Hasher::new(self.descriptor.digest.algorithm());
        let mut buffer = vec![0; CHUNK];
        let mut position = 0;
        let mut take = |bytes: &[u8], position: u64| {
            hasher.update(bytes);
            advance(bytes.len() as u64);
            self.update(|state| {
                state.file.get_or_insert_with(|| Arc::clone(file));
                state.written = position;
            });
        };
        loop {
            let n = file.read_at(&mut buffer, position)?;
            if n == 0 {
                break;
            }
            position += n as u64;
            take(&buffer[..n], position);
            if let Some(why) = self.given_up() {
                return Err(why);
            }
        }
        let size = self.descriptor.size;
        if position < size {
            let mut rest = source.blob(self.descriptor, position)?;
            loop {
                let n = match rest.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(n) => n,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                    Err(e) => return Err(e.into()),
                };
                if let Some(why) = self.given_up() {
                    return Err(why);
                }
                if position + n as u64 > size {
                    return Err(Error::invalid(format!("longer than the {size} bytes of its descriptor")));
                }
                file.as_ref().write_all_at(&buffer[..n], position)?;
                position += n as u64;
                take(&buffer[..n], position);
            }
        }
        if position < size {
            // The source says that this is all: no attempt will bring more.
            return Err(Error::invalid(format!("ends after {position} of {size} bytes")));
        }
        self.descriptor.digest.expect(&hasher.finish())
    }

    /// Nobody wants the rest, because of this: stops fetching, and whoever reads hears of it. Of an archive that breaks its rules
    /// nothing is kept.
    pub fn give_up(&self, why: &Error) {
        self.update(|state| {
            state.end.get_or_insert_with(|| Err(why.clone()));
        });
    }

    fn given_up(&self) -> Option<Error> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).end.clone()?.err()
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// A reader from the first byte on. It waits for what has not come yet; its end is reached when all is there and verified.
    pub fn reader<'r>(&'r self) -> Reader<'r, 'a> {
        Reader { arrival: self, position: 0, hasher: None }
    }
}

/// See [`Arrival::reader`].
pub struct Reader<'r, 'a> {
    arrival: &'r Arrival<'a>,
    position: u64,
    hasher: Option<Hasher>,
}

impl Read for Reader<'_, '_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let descriptor = self.arrival.descriptor;
        let file = {
            let mut state = self.arrival.state.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                if state.written > self.position {
                    if state.unverified && self.hasher.is_none() {
                        self.hasher = Some(Hasher::new(descriptor.digest.algorithm()));
                    }
                    break state.file.clone();
                }
                match &state.end {
                    Some(Ok(())) => break None,
                    Some(Err(e)) => return Err(e.clone().into()),
                    None => state = self.arrival.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                }
            }
        };
        let Some(file) = file else {
            return match self.hasher.take() {
                Some(hasher) => self.check(hasher).map(|()| 0),
                None => Ok(0),
            };
        };
        let n = file.read_at(to, self.position)?;
        if n == 0 && !to.is_empty() {
            return Err(Error::invalid(format!("{}: cut while it was read", descriptor.digest)).into());
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&to[..n]);
        }
        self.position += n as u64;
        Ok(n)
    }
}

impl Reader<'_, '_> {
    /// The store's own blob may have been damaged since it was verified.
    fn check(&self, hasher: Hasher) -> io::Result<()> {
        let digest = &self.arrival.descriptor.digest;
        let Err(e) = digest.expect(&hasher.finish()) else { return Ok(()) };
        self.arrival.store.damaged(digest).map_err(io::Error::from)?;
        Err(Error::invalid(format!(
            "damaged in the store, and removed there, so that it is fetched again: {e}"
        ))
        .into())
    }
}

impl Store {
    /// Makes a blob of what `write` writes: under the name of its digest, once it is whole. Gives its digest and size.
    pub fn create(
        &self,
        write: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<(crate::digest::Digest, u64)> {
        let temporary = self.temporary()?;
        let mut blob = Blob {
            file: io::BufWriter::with_capacity(CHUNK, temporary.file("blob")?),
            hasher: Hasher::new(crate::digest::Algorithm::Sha256),
            size: 0,
        };
        write(&mut blob)?;
        blob.file.flush()?;
        // Nobody else has it: what is named after it has to find it after a power failure, too.
        blob.file.get_ref().sync_data()?;
        let digest = blob.hasher.finish();
        temporary.publish_file("blob", &blob_path(&digest))?;
        self.layout().sync_folder(&format!("blobs/{}", digest.algorithm().name()))?;
        Ok((digest, blob.size))
    }
}

struct Blob {
    file: io::BufWriter<File>,
    hasher: Hasher,
    size: u64,
}

impl Write for Blob {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
