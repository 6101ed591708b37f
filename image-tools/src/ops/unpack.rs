//! `unpack`: a flat bundle, with all layers in one ordinary directory.
//!
//! It is made beside its place and moved there when it is whole. A killed command leaves `.NAME.partial`, which the next one removes.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, openat};

use super::{Common, find};
use crate::bundle::{self, record::Record};
use crate::error::{Context, Error, Result};
use crate::layer::ids::{Ids, Map};
use crate::layer::stat;
use crate::location::Location;
use crate::store::Store;
use crate::tree;

/// How to unpack.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Nothing but the tree: no config.json, no folder around it.
    pub rootfs_only: bool,
    /// Owners on the disk.
    pub ids: Ids,
    /// How config.json differs from the image's wishes.
    pub config: bundle::Options,
}

/// Unpacks the image that `from` names into the directory `dir`, which is not there yet or empty.
pub fn unpack(common: &Common, from: &Location, dir: &Path, options: &Options) -> Result<()> {
    let place = Place::claim(dir)?;
    let made = super::refused(common, make(common, from, &place, options));
    if made.is_err() {
        place.abandon()?;
    }
    made
}

fn make(common: &Common, from: &Location, place: &Place, options: &Options) -> Result<()> {
    let store = Store::open(&common.root)?;
    let found = find(common, &store, from)?;
    let (target, root) = place.begin(options.rootfs_only)?;
    let transfer = common.transfer(&store, found.source.as_ref(), &found.image);
    transfer.unpack(place.lock.as_fd(), root.as_fd(), &options.ids)?;
    if !options.rootfs_only {
        describe(common, &found, &root, &target, options)?;
    }
    keep_name(&store, from, &found)?;
    place.finish()
}

fn describe(
    common: &Common,
    found: &super::Found<'_>,
    root: &impl AsFd,
    target: &Path,
    options: &Options,
) -> Result<()> {
    let stat = File::create(target.join(super::commit::STAT)).context(super::commit::STAT)?;
    stat::record(root.as_fd(), stat)?;
    bundle::prepare(&found.image.config, root.as_fd(), &options.config)?;
    let mut config = options.config.clone();
    config.user_namespace = common.rootless.as_ref().or(mapped(&options.ids)).map(id_maps);
    let converted = bundle::runtime_config(&found.image.config, root.as_fd(), &config)?;
    converted.warnings.iter().for_each(|text| common.progress.warn(text));
    std::fs::write(target.join("config.json"), &converted.json).context("config.json")?;
    Record {
        name: found.name.clone().unwrap_or_default(),
        image: found.image.descriptor.clone(),
        layers: Vec::new(),
        ids: options.ids.clone(),
    }
    .write(target)
}

/// A tree whose owners were mapped belongs into a user namespace with those maps.
fn mapped(ids: &Ids) -> Option<&Ids> {
    (!ids.users.0.is_empty() || !ids.groups.0.is_empty()).then_some(ids)
}

fn id_maps(ids: &Ids) -> bundle::IdMaps {
    let map = |map: &Map| {
        map.0.iter().map(|r| bundle::IdMap { container: r.inside, host: r.outside, size: r.count }).collect()
    };
    bundle::IdMaps { uids: map(&ids.users), gids: map(&ids.groups) }
}

/// What came from outside is in the store now; it keeps the name that it had there.
fn keep_name(store: &Store, from: &Location, found: &super::Found<'_>) -> Result<()> {
    match (from, &found.name) {
        (Location::Store(_), _) => Ok(()),
        (_, Some(name)) => store.name(&super::store_name(name), &found.image.descriptor),
        (_, None) => store.name(found.image.descriptor.digest.as_str(), &found.image.descriptor),
    }
}

/// Where the bundle will be, and the folder beside it where it is made. The folder's lock tells the living from the dead.
struct Place {
    dir: PathBuf,
    partial: PathBuf,
    lock: File,
}

impl Place {
    fn claim(dir: &Path) -> Result<Self> {
        let shown = dir.display();
        let name =
            dir.file_name().ok_or_else(|| Error::other(format!("{shown}: no name for a directory")))?;
        match std::fs::read_dir(dir).map(|mut entries| entries.next().is_none()) {
            Ok(true) => {}
            Ok(false) => return Err(Error::other(format!("{shown}: not empty"))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(e).context(shown),
        }
        let partial = dir.with_file_name(format!(".{}.partial", name.to_string_lossy()));
        let shown = partial.display();
        loop {
            // Nobody else may look in: the image may have setuid programs.
            match std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
                .create(&partial)
            {
                Ok(()) => {}
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e).context(shown),
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let lock = File::from(openat(CWD, &partial, flags, Mode::empty()).context(&shown)?);
            if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
                return Err(Error::other(format!("{shown}: another command is at work there")));
            }
            // Whoever had the lock may have moved the folder to its place meanwhile.
            let ours = rustix::fs::fstat(&lock)?;
            if ours.st_uid != rustix::process::geteuid().as_raw() {
                return Err(Error::other(format!(
                    "{shown}: somebody else's: remove it, or choose another place"
                )));
            }
            if rustix::fs::stat(&partial).is_ok_and(|there| there.st_ino == ours.st_ino) {
                rustix::fs::fchmod(&lock, Mode::RWXU).context(&shown)?;
                tree::clear(lock.as_fd(), &tree::Nothing).context(&shown)?;
                return Ok(Self { dir: dir.to_owned(), partial, lock });
            }
        }
    }

    /// The bundle's folder and the tree's root.
    fn begin(&self, rootfs_only: bool) -> Result<(PathBuf, std::os::fd::OwnedFd)> {
        let root = tree::make_root(&self.lock, if rootfs_only { "tree" } else { "rootfs" })?;
        // By its descriptor: whoever owns the folder around it may rename things there.
        Ok((PathBuf::from(format!("/proc/self/fd/{}", self.lock.as_raw_fd())), root))
    }

    fn finish(&self) -> Result<()> {
        let place = || self.dir.display().to_string();
        let tree = self.partial.join("tree");
        if tree.exists() {
            std::fs::rename(tree, &self.dir).with_context(place)?;
            return std::fs::remove_dir(&self.partial).with_context(place);
        }
        std::fs::rename(&self.partial, &self.dir).with_context(place)
    }

    fn abandon(&self) -> Result<()> {
        tree::clear(self.lock.as_fd(), &tree::Nothing)?;
        std::fs::remove_dir(&self.partial).with_context(|| self.partial.display().to_string())
    }
}
