//! The verbs, one a file, each told top to bottom; and what they all are given. What a verb finds out it returns; only `cli` prints it.

pub mod bundle;
pub mod commit;
pub mod config;
pub mod export;
pub mod fsck;
pub mod gc;
pub mod history;
pub mod import;
pub mod insert;
pub mod inspect;
pub mod load;
pub mod login;
pub mod ls;
pub mod mount;
pub mod pull;
pub mod push;
pub mod rm;
pub mod save;
pub mod tag;
pub mod umount;
pub mod unpack;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::archive::Archive;
use crate::derive::Step;
use crate::digest::Digest;
use crate::error::{Context, Error, Kind, Result};
use crate::image::{Image, Source};
use crate::layer::compression::Compression;
use crate::layer::diff;
use crate::layer::ids::Ids;
use crate::layout::{Layout, REF_NAME};
use crate::location::Location;
use crate::manifest::Descriptor;
use crate::pipeline::Transfer;
use crate::platform::Platform;
use crate::progress::Progress;
use crate::reference::Reference;
use crate::rootless::is_in_user_namespace;
use crate::store::Store;

/// What every verb may need.
pub struct Common {
    /// The store's folder.
    pub root: PathBuf,
    /// Which of an index's images.
    pub platform: Platform,
    /// Layers worked on at once.
    pub jobs: usize,
    /// The largest uncompressed layer, in bytes; none: by the size of its blob.
    pub limit: Option<u64>,
    /// Every owner becomes the caller.
    pub squash: bool,
    /// An ordinary user's maps, in whose user namespace this process is.
    pub rootless: Option<Ids>,
    /// Who is told; a registry's client tells of its retries by itself.
    pub progress: Arc<Progress>,
}

impl Common {
    fn transfer<'a>(&'a self, store: &'a Store, source: &'a dyn Source, image: &'a Image) -> Transfer<'a> {
        let (jobs, limit, squash, progress) = (self.jobs, self.limit, self.squash, &self.progress);
        Transfer { store, source, image, jobs, limit, squash, progress }
    }
}

/// How a new image is made: by whom, when and why.
#[derive(Clone, Debug)]
pub struct Making {
    /// Of a new layer.
    pub compression: Compression,
    /// Into the history.
    pub author: Option<String>,
    /// Into the history.
    pub message: Option<String>,
    /// SOURCE_DATE_EPOCH, in seconds since 1970: the image's time, and no file in its layer is younger.
    pub epoch: Option<u64>,
}

impl Making {
    fn step(&self, created_by: &str) -> Step {
        let now = match self.epoch {
            Some(epoch) => UNIX_EPOCH + Duration::from_secs(epoch),
            None => SystemTime::now(),
        };
        Step {
            created: pintle::time::rfc3339(now),
            created_by: created_by.to_owned(),
            author: self.author.clone(),
            comment: self.message.clone(),
        }
    }
}

/// An image that a [`Location`] leads to: its documents, where its blobs are, and under which name the store is to keep it.
pub struct Found<'a> {
    /// Where documents and blobs are.
    pub source: Box<dyn Source + 'a>,
    /// The image.
    pub image: Image,
    /// For the store; none where the place told none.
    pub name: Option<String>,
    /// It is not in the store yet, or not known to be.
    pub outside: bool,
}

impl Found<'_> {
    /// Its own name, if that is a whole one: another layout's bare word may be anything, and a digest names nothing else.
    fn own_name(&self) -> Option<Reference> {
        let name = self.name.as_deref().filter(|name| Digest::parse(name).is_err())?;
        let whole = !self.outside || name.contains(['/', ':', '@']);
        Reference::parse(name).ok().filter(|_| whole)
    }

    /// What is made of it is called as the caller says, or takes its name over. Errors: it has none to take.
    fn new_name(&self, given: Option<&Reference>) -> Result<Reference> {
        let own = || self.own_name().filter(|own| own.digest.is_none());
        given.cloned().or_else(own).ok_or_else(nameless)
    }
}

fn nameless() -> Error {
    Error::new(Kind::Usage, "which name? the image has none of its own: give one")
}

/// What a command leaves of an image that breaks its rules is garbage at once, unless another command works in the store just now.
fn refused<T>(common: &Common, made: Result<T>) -> Result<T> {
    if made.as_ref().is_err_and(|e| e.kind() == Kind::Invalid)
        && let Err(e) = Store::open(&common.root).and_then(|store| store.collect_if_alone())
    {
        common.progress.warn(&e.to_string());
    }
    made
}

/// Opens what a person named.
fn find<'a>(common: &Common, store: &'a Store, from: &Location) -> Result<Found<'a>> {
    match from {
        Location::Store(word) => {
            let top = store.find(word)?;
            let image = Image::read(store.layout(), &top, &common.platform).with_context(|| word.clone())?;
            Ok(Found {
                source: Box::new(store.layout()),
                image,
                name: top.annotation(REF_NAME).map(str::to_owned),
                outside: false,
            })
        }
        Location::Oci(path, name) => {
            let layout = Layout::open(path)?;
            let top = layout.find(name.as_deref())?;
            outside(common, Box::new(layout), &top, &path.display().to_string())
        }
        Location::Archive(path, name) => {
            let archive = open_archive(store, path)?;
            let place = path.display().to_string();
            let top = choose(archive.images(), name.as_deref()).with_context(|| place.clone())?;
            outside(common, Box::new(archive), &top, &place)
        }
    }
}

fn outside<'a>(
    common: &Common,
    source: Box<dyn Source + 'a>,
    top: &Descriptor,
    place: &str,
) -> Result<Found<'a>> {
    let image = Image::read(source.as_ref(), top, &common.platform).with_context(|| place.to_owned())?;
    Ok(Found { source, image, name: top.annotation(REF_NAME).map(str::to_owned), outside: true })
}

/// The name in the store of an image that was called `name` elsewhere: a whole reference in its full form, and what a layout calls an image by
/// a bare word, that word.
fn store_name(name: &str) -> String {
    match Reference::parse(name) {
        Ok(reference) if name.contains(['/', ':', '@']) => reference.to_string(),
        _ => name.to_owned(),
    }
}

/// Where overlayfs keeps its notes about an upper directory.
fn overlay_notes() -> diff::Overlay {
    if is_in_user_namespace() { diff::Overlay::User } else { diff::Overlay::Trusted }
}

fn open_archive(store: &Store, path: &Path) -> Result<Archive> {
    let temporary = store.temporary()?;
    let file = temporary.file("archive")?;
    // The file stays as long as it is open; its name may go.
    Archive::open(path, &file)
}

/// The one image of this name, or, without a name, the only one.
fn choose(images: &[Descriptor], name: Option<&str>) -> Result<Descriptor> {
    let full = name.and_then(|n| Reference::parse(n).ok()).map(|r| r.to_string());
    let is = |d: &&Descriptor| {
        name.is_none()
            || d.annotation(REF_NAME) == name
            || full.is_some() && d.annotation(REF_NAME) == full.as_deref()
    };
    let mut found: Vec<&Descriptor> = images.iter().filter(is).collect();
    found.dedup_by_key(|d| &d.digest);
    match (found[..].first(), found.len(), name) {
        (Some(one), 1, _) => Ok((*one).clone()),
        (None, _, None) => Err(Error::not_found("no image in it")),
        (None, _, Some(name)) => Err(Error::not_found(format!("no image {name:?} in it"))),
        _ => {
            let names: Vec<&str> = found.iter().filter_map(|d| d.annotation(REF_NAME)).collect();
            Err(Error::not_found(format!("which image: {}", names.join(", "))))
        }
    }
}
