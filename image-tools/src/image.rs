//! One image: the documents that a reference leads to, read from wherever they are, and checked against each other.

use std::io::Read;

use crate::config::{Config, chain_ids};
use crate::digest::Digest;
use crate::error::{Context, Error, Result};
use crate::layout::Layout;
use crate::manifest::{Descriptor, Document, Manifest};
use crate::platform::Platform;

/// Indexes within indexes, at most.
const DEEPEST: usize = 4;

/// Where documents and blobs come from.
pub trait Source: Sync {
    /// A manifest, index or configuration, matching its descriptor.
    fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>>;
    /// A blob's bytes from `offset` on; whoever reads them checks them.
    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + '_>>;
}

impl<S: Source + ?Sized> Source for &S {
    fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        (**self).document(descriptor)
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        (**self).blob(descriptor, offset)
    }
}

impl Source for Layout {
    fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        Layout::document(self, descriptor)
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        let missing =
            || Error::not_found(format!("{}: blob {} is missing", self.path().display(), descriptor.digest));
        let mut file = Layout::blob(self, &descriptor.digest)?.ok_or_else(missing)?;
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(offset))?;
        Ok(Box::new(file))
    }
}

/// An image and its documents.
pub struct Image {
    /// Of the manifest.
    pub descriptor: Descriptor,
    /// As it is.
    pub manifest_bytes: Vec<u8>,
    /// As read.
    pub manifest: Manifest,
    /// As it is.
    pub config_bytes: Vec<u8>,
    /// As read.
    pub config: Config,
}

impl Image {
    /// The image for `platform` that `top`, a manifest or an index, leads to.
    pub fn read(source: &dyn Source, top: &Descriptor, platform: &Platform) -> Result<Self> {
        let mut descriptor = top.clone();
        for _ in 0..DEEPEST {
            let bytes = source.document(&descriptor)?;
            let place = descriptor.digest.to_string();
            match Document::parse(&bytes, &descriptor.media_type).context(&place)? {
                Document::Index(index) => {
                    descriptor = platform.choose(&index.manifests).context(&place)?.clone()
                }
                Document::Manifest(manifest) => {
                    return Self::of(source, descriptor, bytes, manifest).context(&place);
                }
            }
        }
        Err(Error::invalid(format!("{}: indexes within indexes, more than {DEEPEST} deep", top.digest)))
    }

    fn of(source: &dyn Source, descriptor: Descriptor, bytes: Vec<u8>, manifest: Manifest) -> Result<Self> {
        manifest.check_runnable()?;
        let config_bytes = source.document(&manifest.config).context("config")?;
        let config = Config::parse(&config_bytes).context("config")?;
        config.check_layers(manifest.layers.len()).context("config")?;
        Ok(Self { descriptor, manifest_bytes: bytes, manifest, config_bytes, config })
    }

    /// Each layer's digest, uncompressed.
    pub fn diff_ids(&self) -> &[Digest] {
        &self.config.rootfs.diff_ids
    }

    /// Each layer's name together with all below it.
    pub fn chain_ids(&self) -> Vec<Digest> {
        chain_ids(self.diff_ids())
    }

    /// The configuration's digest, which engines call the image's ID.
    pub fn id(&self) -> &Digest {
        &self.manifest.config.digest
    }

    /// Of all layers, compressed, in bytes.
    pub fn size(&self) -> u64 {
        self.manifest.layers.iter().fold(0, |sum: u64, l| sum.saturating_add(l.size))
    }
}
