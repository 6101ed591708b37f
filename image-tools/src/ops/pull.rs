//! `pull`: images from a registry into the store, applied and ready to run.

use std::io::Read;

use super::Common;
use crate::error::{Kind, Result};
use crate::image::{Image, Source};
use crate::manifest::{Descriptor, LARGEST, media};
use crate::reference::Reference;
use crate::registry::{Client, Settings};
use crate::store::Store;
use crate::store::arrival::Arrival;

/// Pulls an image. Layers that the store has are not fetched again; `blobs_only` leaves applying them for later.
pub fn pull(
    common: &Common,
    settings: Settings,
    reference: &Reference,
    blobs_only: bool,
) -> Result<Descriptor> {
    let client = Client::new(settings)?;
    super::refused(common, fetch(common, &client, reference, blobs_only))
}

fn fetch(common: &Common, client: &Client, reference: &Reference, blobs_only: bool) -> Result<Descriptor> {
    let store = Store::open(&common.root)?;
    let (top, document) = client.manifest(reference)?;
    let remote = Remote { store: &store, client, reference, top: &top, document };
    let image = Image::read(&remote, &top, &common.platform)?;
    let transfer = common.transfer(&store, &remote, &image);
    if blobs_only {
        transfer.blobs_into_store()?;
    } else {
        transfer.into_store()?;
    }
    store.name(&reference.to_string(), &image.descriptor)?;
    Ok(image.descriptor)
}

/// A repository, seen through the store: documents that are there already are not asked for.
struct Remote<'a> {
    store: &'a Store,
    client: &'a Client,
    reference: &'a Reference,
    top: &'a Descriptor,
    document: Vec<u8>,
}

impl Source for Remote<'_> {
    fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        if descriptor.digest == self.top.digest {
            return Ok(self.document.clone());
        }
        if descriptor.size > LARGEST {
            // Which is an error there.
            return self.client.fetch(self.reference, descriptor);
        }
        if self.store.blob(descriptor)?.is_some() {
            match self.store.layout().document(descriptor) {
                Err(e) if e.kind() == Kind::Invalid => self.store.damaged(&descriptor.digest)?,
                document => return document,
            }
        }
        if !media::is_config(&descriptor.media_type) {
            return self.client.fetch(self.reference, descriptor);
        }
        // A blob: as for layers, the first of many processes fetches it for all, and what is complete stays.
        Arrival::new(self.store, descriptor).fetch(self, &|_| ())?;
        self.store.layout().document(descriptor)
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(self.client.blob(self.reference, descriptor, offset)?))
    }
}
