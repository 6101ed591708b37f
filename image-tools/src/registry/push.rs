//! A blob to a registry: not at all where it has it, by mounting where another of its repositories has it, else as one body,
//! and in pieces where the registry does not take that (distribution-spec, "Pushing a blob").

use std::io::Read;

use ureq::http::{Method, Uri, header};

use super::auth::Access;
use super::retry::{Tried, Trouble};
use super::transport::{self, Answer, Call, Payload};
use super::{Client, Place, escape};
use crate::error::{Context, Error, Result};
use crate::manifest::Descriptor;
use crate::reference::Reference;

/// The size of a piece, in bytes; registries may ask for more.
const PIECE: u64 = 16 << 20;
/// The largest piece that a registry may ask for.
const LARGEST_PIECE: u64 = 256 << 20;
/// From this size on we ask whether the registry will take a body at all, before sending it.
const WORTH_ASKING: u64 = 1 << 20;

/// How a blob came to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It was.
    There,
    /// The registry took it from another repository of its own.
    Mounted,
    /// We sent it.
    Sent,
}

/// Gives a blob's bytes from the beginning; called again for each try.
pub type Open<'a> = dyn Fn() -> Result<Box<dyn Read + Send + 'a>> + 'a;

impl Client {
    /// Makes sure that the registry has a blob. `mount_from` are other repositories of the same registry that may have it.
    /// Errors: as [`Client::manifest`], and where `open` gives something else than the descriptor says.
    pub fn push_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        mount_from: &[String],
        open: &Open,
    ) -> Result<Pushed> {
        let name = || format!("{reference}: {}", descriptor.digest);
        let source = self.mirrors.target(reference, self.settings.insecure)?;
        // Asked with the scope that sending needs too: one token for both.
        let access = Access::push(&source.repository);
        if self.has(&source, &access, &descriptor.digest).with_context(name)? {
            return Ok(Pushed::There);
        }
        let others: Vec<&String> = mount_from.iter().filter(|from| **from != source.repository).collect();
        for from in others {
            // Mounting only saves time: whatever is wrong with it, sending may do.
            if self.retry(0, || self.mount(&self.place(&source)?, descriptor, from)).unwrap_or(false) {
                return Ok(Pushed::Mounted);
            }
        }
        let mut pieces = false;
        let sent = self.retry(self.settings.retries, || {
            let place = self.place(&source)?;
            if !pieces {
                if self.send_whole(&place, descriptor, open)? {
                    return Ok(());
                }
                pieces = true;
            }
            self.send_pieces(&place, descriptor, open)
        });
        sent.with_context(name).map(|()| Pushed::Sent)
    }

    /// Asks the registry to take a blob from another repository; whether it did.
    fn mount(&self, place: &Place, descriptor: &Descriptor, from: &str) -> Tried<bool> {
        let digest = escape(descriptor.digest.as_str());
        let url = place.url(&format!("blobs/uploads/?mount={digest}&from={}", escape(from)))?;
        let access = Access::mount(&place.source.repository, from);
        let call = Call::new(Method::POST, url, place.source.insecure).payload(Payload::Bytes(b""));
        let answer = self.send(place, &access, call)?;
        if answer.status == 202 {
            // It began an upload instead, which nobody will finish. Best effort: registries forget them in time.
            if let Ok(upload) = location(&answer) {
                let call = Call::new(Method::DELETE, upload, place.source.insecure);
                self.send(place, &access, call).ok();
            }
        }
        Ok(answer.status == 201)
    }

    /// Begins an upload: where to send it, and the least size of a piece.
    fn begin(&self, place: &Place) -> Tried<(Uri, u64)> {
        let url = place.url("blobs/uploads/")?;
        let call = Call::new(Method::POST, url, place.source.insecure).payload(Payload::Bytes(b""));
        let answer = self.send(place, &Access::push(&place.source.repository), call)?;
        if answer.status != 202 {
            return Err(answer.into_trouble(&place.source.registry));
        }
        let least = answer.header("oci-chunk-min-length").and_then(|v| v.trim().parse().ok()).unwrap_or(0);
        Ok((location(&answer)?, least))
    }

    /// Sends a blob as one body; whether the registry does that at all.
    fn send_whole(&self, place: &Place, descriptor: &Descriptor, open: &Open) -> Tried<bool> {
        let (upload, _) = self.begin(place)?;
        let mut bytes = open()?;
        let answer = self.put(place, with_digest(&upload, descriptor)?, &mut bytes, descriptor.size)?;
        match answer.status.as_u16() {
            200..=299 => Ok(true),
            405 | 411 | 413 | 415 | 416 | 417 | 501 => Ok(false),
            401 | 404 => Err(lost(answer, place)),
            _ => Err(answer.into_trouble(&place.source.registry)),
        }
    }

    fn send_pieces(&self, place: &Place, descriptor: &Descriptor, open: &Open) -> Tried<()> {
        let (mut upload, least) = self.begin(place)?;
        let size = PIECE.max(least.min(LARGEST_PIECE));
        let mut bytes = open()?;
        let mut at = 0;
        while at < descriptor.size {
            let length = size.min(descriptor.size - at);
            let call = self
                .upload(place, Method::PATCH, upload, &mut bytes, length)
                .header(header::CONTENT_RANGE, format!("{at}-{}", at + length - 1));
            let answer = self.send(place, &Access::push(&place.source.repository), call)?;
            match answer.status.as_u16() {
                200..=299 => upload = location(&answer)?,
                401 | 404 | 416 => return Err(lost(answer, place)),
                _ => return Err(answer.into_trouble(&place.source.registry)),
            }
            at += length;
        }
        let answer = self.put(place, with_digest(&upload, descriptor)?, &mut std::io::empty(), 0)?;
        if answer.status.is_success() { Ok(()) } else { Err(answer.into_trouble(&place.source.registry)) }
    }

    fn put(&self, place: &Place, url: Uri, bytes: &mut dyn Read, length: u64) -> Tried<Answer> {
        let call = self.upload(place, Method::PUT, url, bytes, length);
        self.send(place, &Access::push(&place.source.repository), call)
    }

    fn upload<'a>(
        &self,
        place: &Place,
        method: Method,
        url: Uri,
        bytes: &'a mut dyn Read,
        length: u64,
    ) -> Call<'a> {
        let call = Call::new(method, url, place.source.insecure)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .payload(Payload::Stream(bytes, length));
        if length < WORTH_ASKING { call } else { call.header(header::EXPECT, "100-continue") }
    }
}

/// An upload that the registry forgot, or a token that ended under way: the next try begins anew.
fn lost(answer: Answer, place: &Place) -> Trouble {
    Trouble::passing(answer.into_trouble(&place.source.registry).into_error())
}

/// Where an upload goes on.
fn location(answer: &Answer) -> Result<Uri> {
    let text = answer.header(header::LOCATION);
    let text =
        text.ok_or_else(|| Error::invalid("the registry did not say where to upload to: no Location"))?;
    transport::join(&answer.url, text)
}

fn with_digest(upload: &Uri, descriptor: &Descriptor) -> Result<Uri> {
    let separator = if upload.query().is_some() { '&' } else { '?' };
    transport::url(&format!("{upload}{separator}digest={}", escape(descriptor.digest.as_str())))
}
