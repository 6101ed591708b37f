//! A blob as a stream. When the connection is cut, it reconnects and goes on where it was; a registry that knows no ranges
//! gives the beginning again, which is passed over. Never more than the descriptor's size; not hashed here.

use std::io::{self, Read};

use ureq::BodyReader;
use ureq::http::{Method, header};

use super::auth::Access;
use super::retry::{Tried, Trouble};
use super::transport::{self, Answer, Call};
use super::{Client, Place};
use crate::error::{Context, Error, Result};
use crate::manifest::Descriptor;
use crate::reference::Reference;

/// So much further, over however many cuts, and the count of retries begins again.
const PROGRESS: u64 = 1 << 20;

/// A blob's bytes from some position on; reading ends at the descriptor's size, and an end before it is an error.
pub struct Blob<'a> {
    client: &'a Client,
    place: Place,
    name: String,
    descriptor: Descriptor,
    position: u64,
    body: Option<BodyReader<'static>>,
    /// Retries since there was progress, and where that was.
    tries: u32,
    cut: u64,
}

impl Client {
    /// A blob's bytes from `offset` on. It is open when this returns: what is not there, or not allowed, is an error here.
    pub fn blob<'a>(
        &'a self,
        reference: &Reference,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Result<Blob<'a>> {
        let name = format!("{reference}: {}", descriptor.digest);
        let opened = self.at_sources(reference, |place| {
            let body = self.open_blob(place, descriptor, offset)?;
            Ok((place.clone(), body))
        });
        let (place, body) = opened.context(&name)?;
        let descriptor = descriptor.clone();
        Ok(Blob { client: self, place, name, descriptor, position: offset, body, tries: 0, cut: offset })
    }

    /// A body that begins at `offset`; none where that is the end.
    fn open_blob(
        &self,
        place: &Place,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Tried<Option<BodyReader<'static>>> {
        if offset >= descriptor.size {
            return Ok(None);
        }
        let url = place.url(&format!("blobs/{}", descriptor.digest))?;
        let mut call = Call::new(Method::GET, url, place.source.insecure);
        if offset > 0 {
            call = call.header(header::RANGE, format!("bytes={offset}-"));
        }
        let answer = self.send(place, &Access::pull(&place.source.repository), call)?;
        let start = match answer.status.as_u16() {
            200 => 0,
            206 => part(&answer, descriptor.size)?,
            _ => return Err(answer.into_trouble(&place.source.registry)),
        };
        if let Some(length) =
            answer.length().filter(|length| start.checked_add(*length) != Some(descriptor.size))
        {
            let host = answer.url.authority().map_or("", |a| a.as_str());
            let text = format!("{host} has {length} bytes from {start} on, of {}", descriptor.size);
            return Err(Error::invalid(text).into());
        }
        if start > offset {
            return Err(Error::invalid(format!(
                "asked for bytes from {offset} on, got those from {start} on"
            ))
            .into());
        }
        let url = answer.url.clone();
        let mut body = answer.into_reader();
        skip(&mut body, offset - start).map_err(|e| transport::trouble(e.into(), &url))?;
        Ok(Some(body))
    }
}

/// Where a partial answer begins (RFC 9110, 14.4), and that it is of the right thing.
fn part(answer: &Answer, size: u64) -> Result<u64> {
    let text = answer.header(header::CONTENT_RANGE).unwrap_or("");
    let read = || {
        let (range, whole) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
        let (start, _) = range.split_once('-')?;
        Some((start.trim().parse().ok()?, if whole == "*" { size } else { whole.trim().parse().ok()? }))
    };
    match read() {
        Some((start, whole)) if whole == size => Ok(start),
        Some((_, whole)) => Err(Error::invalid(format!("the registry has {whole} bytes of it, not {size}"))),
        None => Err(Error::invalid(format!("Content-Range: {:?}", super::printable(text)))),
    }
}

fn skip(body: &mut impl Read, bytes: u64) -> io::Result<()> {
    match io::copy(&mut body.take(bytes), &mut io::sink())? {
        skipped if skipped < bytes => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

impl Blob<'_> {
    /// How much of the blob has been read, the offset included, in bytes.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Waits and reconnects, or gives up.
    fn recover(&mut self, mut trouble: Trouble) -> Result<()> {
        if self.position - self.cut >= PROGRESS {
            self.tries = 0;
            self.cut = self.position;
        }
        loop {
            self.body = None;
            if self.tries == self.client.settings.retries {
                let (at, size) = (self.position, self.descriptor.size);
                return Err(trouble.into_error())
                    .with_context(|| format!("{}: after {at} of {size} bytes", self.name));
            }
            self.tries += 1;
            self.client.wait(trouble, self.tries).context(&self.name)?;
            match self.client.open_blob(&self.place, &self.descriptor, self.position) {
                Ok(body) => {
                    self.body = body;
                    return Ok(());
                }
                Err(again) => trouble = again,
            }
        }
    }
}

impl Read for Blob<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.descriptor.size - self.position.min(self.descriptor.size);
        let most = buffer.len().min(left.try_into().unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        loop {
            let read = match &mut self.body {
                Some(body) => body.read(&mut buffer[..most]),
                None => Err(io::ErrorKind::UnexpectedEof.into()),
            };
            let error = match read {
                Ok(0) => io::ErrorKind::UnexpectedEof.into(),
                Ok(n) => {
                    self.position += n as u64;
                    return Ok(n);
                }
                Err(error) => error,
            };
            self.recover(transport::trouble(error.into(), &self.place.base))?;
        }
    }
}

impl std::fmt::Debug for Blob<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Blob({} at {})", self.name, self.position)
    }
}
