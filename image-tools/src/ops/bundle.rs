//! `bundle`: a bundle that a runtime starts at once. Its rootfs is an overlay mount of the image's layers; what the container changes lands in
//! `upper`, from where `commit` takes it. Called again for the same image, after the machine's restart say, it mounts it again with its
//! changes. An ordinary user gets a flat one.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, mkdirat};
use rustix::io::Errno;

use super::mount::{is_mounted, layers};
use super::{Common, Found, find, unpack};
use crate::bundle;
use crate::bundle::record::{Kind, Record, is_partial, write_whole};
use crate::error::{Context, Error, Result};
use crate::location::Location;
use crate::overlay::{self, Upper};
use crate::store::Store;
use crate::store::layers::Key;
use crate::store::leases::Lease;
use crate::store::lock::Lock;
use crate::tree;

/// How to bundle.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Changes are lost with the machine's power: faster, for what is thrown away anyway.
    pub volatile: bool,
    /// How config.json differs from the image's wishes.
    pub config: bundle::Options,
}

/// Makes a bundle of the image that `from` names in `dir`, which is not there yet, empty, or an earlier bundle of the same image.
pub fn bundle(common: &Common, from: &Location, dir: &Path, options: &Options) -> Result<()> {
    if common.rootless.is_some() {
        // An ordinary user's mount would be seen by nobody else.
        let options = unpack::Options { config: options.config.clone(), ..unpack::Options::default() };
        return unpack::unpack(common, from, dir, &options);
    }
    super::refused(common, make(common, from, dir, options))
}

fn make(common: &Common, from: &Location, dir: &Path, options: &Options) -> Result<()> {
    let store = Store::open(&common.root)?;
    let found = find(common, &store, from)?;
    let (keys, trees) = layers(common, &store, &found)?;
    let place = || dir.display().to_string();
    match std::fs::create_dir(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(e).with_context(place),
        _ => {}
    }
    let dir = dir.canonicalize().with_context(place)?;
    // Held to the end: of two that find nothing there, one makes the bundle and the other one is told so.
    let _lock = Lock::folder(&dir)?;
    let state = state_of(&dir, &found).with_context(place)?;
    let root = match state {
        State::Mounted => tree::open_dir(CWD, dir.join("rootfs")).context("rootfs"),
        _ => mount(&store, &found, &dir, keys, &trees, options.volatile),
    };
    let made = root.and_then(|root| match dir.join("config.json").exists() {
        true => Ok(()),
        false => describe(common, &found, &root, &dir, options),
    });
    if made.is_err() && state == State::New {
        overlay::detach(&dir.join("rootfs"))?;
        clear(&dir)?;
        store.end_lease(&dir)?;
    }
    made
}

/// overlayfs's mark of a volatile mount, whose `upper` may lack what was written; only our `umount` takes it away.
pub(super) const UNSYNCED: &str = "work/work/incompat/volatile";

/// What is there already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing.
    New,
    /// A bundle of this image, which is not mounted.
    Unmounted,
    /// One that is mounted and has no config.json yet: its command was killed.
    Mounted,
}

fn state_of(dir: &Path, found: &Found<'_>) -> Result<State> {
    let folder = tree::open_dir(CWD, dir)?;
    let (partial, names): (Vec<_>, Vec<_>) =
        tree::names(&folder)?.into_iter().partition(|(name, _)| is_partial(name.to_bytes()));
    if names.is_empty() {
        partial.iter().try_for_each(|(name, _)| tree::remove(&folder, name))?;
        return Ok(State::New);
    }
    let (kind, record) = Record::read(dir)?;
    if record.image.digest != found.image.descriptor.digest {
        return Err(Error::other(format!("a bundle of another image, {}", record.name)));
    }
    if kind == Kind::Flat {
        return Err(Error::other("a flat bundle, made by unpack"));
    }
    partial.iter().try_for_each(|(name, _)| tree::remove(&folder, name))?;
    match (is_mounted(&dir.join("rootfs"))?, dir.join("config.json").exists()) {
        (true, true) => Err(Error::other("mounted already")),
        (true, false) => Ok(State::Mounted),
        (false, _) => Ok(State::Unmounted),
    }
}

/// Mounts the tree on `rootfs`; the lease and the record come first, so that nobody collects what is about to be used.
fn mount(
    store: &Store,
    found: &Found<'_>,
    dir: &Path,
    keys: Vec<Key>,
    trees: &[OwnedFd],
    volatile: bool,
) -> Result<OwnedFd> {
    let (image, ids) = (found.image.descriptor.clone(), crate::layer::ids::Ids::default());
    Record { name: found.name.clone().unwrap_or_default(), image: image.clone(), layers: keys.clone(), ids }
        .write_as(Kind::Overlay, dir)?;
    store.lease(&Lease { dir: dir.to_owned(), image, layers: keys, boot: None })?;
    let bundle = tree::open_dir(CWD, dir)?;
    std::fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    let upper = make_or_open(&bundle, "upper")?;
    match overlay::root_of(trees) {
        // In a whole bundle the container may have changed it.
        Some(root) if !dir.join("config.json").exists() => tree::copy_root(root, &upper)?,
        _ => {}
    }
    match mkdirat(&bundle, "rootfs", Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(e).context("rootfs"),
    }
    let work = make_or_open(&bundle, "work")?;
    if dir.join(UNSYNCED).exists() {
        // Without config.json no container has run in it: nothing is lost.
        match dir.join("config.json").exists() {
            true => return Err(Error::other("was volatile and did not end properly: umount --delete it")),
            false => tree::clear(upper.as_fd(), &tree::Nothing)?,
        }
    }
    tree::clear(work.as_fd(), &tree::Nothing)?;
    let root = overlay::stack(trees, Some(&Upper { upper: upper.as_fd(), work: work.as_fd(), volatile }))?;
    overlay::attach(&root, &dir.join("rootfs"))?;
    Ok(root)
}

fn make_or_open(bundle: &OwnedFd, name: &str) -> Result<OwnedFd> {
    match mkdirat(bundle, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(e).context(name),
    }
    tree::open_dir(bundle, name).context(name)
}

fn describe(common: &Common, found: &Found<'_>, root: &OwnedFd, dir: &Path, options: &Options) -> Result<()> {
    bundle::prepare(&found.image.config, root.as_fd(), &options.config)?;
    let converted = bundle::runtime_config(&found.image.config, root.as_fd(), &options.config)?;
    converted.warnings.iter().for_each(|text| common.progress.warn(text));
    write_whole(dir, "config.json", converted.json.as_ref())
}

/// A failed bundle leaves an empty directory, as it may have found one.
fn clear(dir: &Path) -> Result<()> {
    let fd = tree::open_dir(CWD, dir)?;
    tree::clear(fd.as_fd(), &tree::Nothing)
}
