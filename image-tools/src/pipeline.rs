//! An image's layers on their way: fetched, verified, decompressed, applied, each step beside the others and every layer beside
//! the next. A fetching thread only ever waits for its source, so a slow tree never holds a lock that another command waits for.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::digest::Digest;
use crate::error::{Context, Error, Result};
use crate::image::{Image, Source};
use crate::layer::apply::{self, Applied, Form, Options, apply};
use crate::layer::ids::Ids;
use crate::layer::stream::{self, Uncompressed};
use crate::manifest::Descriptor;
use crate::overlay;
use crate::progress::Progress;
use crate::store::arrival::Arrival;
use crate::store::layers::{Key, Record};
use crate::store::{Store, Temporary};
use crate::tree;

/// One image's way into a store or onto a tree.
pub struct Transfer<'a> {
    /// Where blobs are kept.
    pub store: &'a Store,
    /// Where they come from if the store has them not.
    pub source: &'a dyn Source,
    /// The image.
    pub image: &'a Image,
    /// Layers worked on at once.
    pub jobs: usize,
    /// The largest archive, in bytes; none: by the size of its blob.
    pub limit: Option<u64>,
    /// Every owner is the caller.
    pub squash: bool,
    /// Who is told.
    pub progress: &'a Progress,
}

/// One layer of it.
struct Layer<'a> {
    descriptor: &'a Descriptor,
    diff_id: &'a Digest,
    chain_id: Digest,
    index: usize,
}

impl<'a> Transfer<'a> {
    fn layers(&self) -> Vec<Layer<'a>> {
        let image = self.image;
        let ids = image.diff_ids().iter().zip(image.chain_ids());
        let layers = image.manifest.layers.iter().zip(ids).enumerate();
        layers
            .map(|(index, (descriptor, (diff_id, chain_id)))| Layer { descriptor, diff_id, chain_id, index })
            .collect()
    }

    /// Brings all layers into the store, as blobs and applied, and the documents last: then the image is whole.
    pub fn into_store(&self) -> Result<Vec<Key>> {
        let keys = self.apply_layers()?;
        self.keep_documents()?;
        Ok(keys)
    }

    /// Brings the blobs alone.
    pub fn blobs_into_store(&self) -> Result<()> {
        let descriptors = distinct(&self.image.manifest.layers);
        in_parallel(self.jobs, &descriptors, |descriptor| self.fetch(descriptor))?;
        self.keep_documents()
    }

    fn keep_documents(&self) -> Result<()> {
        self.store.keep(self.image.id(), &self.image.config_bytes)?;
        self.store.keep(&self.image.descriptor.digest, &self.image.manifest_bytes)
    }

    /// Applies all layers to the tree `root` in `folder`: the lowest right there, the others beside it, each in a folder of its own,
    /// from where they are moved onto it in their order. A layer that refers to what is below is applied once more, on that.
    pub fn unpack(&self, folder: BorrowedFd<'_>, root: BorrowedFd<'_>, ids: &Ids) -> Result<()> {
        let layers = self.layers();
        let apart = |layer: &Layer<'_>| format!("layer-{}", layer.index);
        let applied: Mutex<BTreeMap<usize, Applied>> = Mutex::default();
        self.for_each(layers.iter(), |layer, arrival| {
            let one = if layer.index == 0 {
                self.apply_one(layer, arrival, root, &self.options(layer, Form::Flat, ids))?
            } else {
                let tree = tree::make_root(folder, apart(layer))?;
                self.apply_one(layer, arrival, tree.as_fd(), &self.options(layer, Form::Apart, ids))?
            };
            applied.lock().expect("no thread panics with it").insert(layer.index, one.0);
            Ok(())
        })?;
        let applied = applied.into_inner().expect("no thread panics with it");
        for layer in layers.iter().skip(1) {
            let (one, name) = (&applied[&layer.index], apart(layer));
            if one.needs_parents {
                let arrival = Arrival::new(self.store, layer.descriptor);
                self.apply_one(layer, &arrival, root, &self.options(layer, Form::Flat, ids))?;
            } else {
                apply::graft(tree::open_dir(folder, &name)?.as_fd(), one, root)?;
            }
            tree::remove(folder, &CString::new(name).expect("no NUL in it"))?;
        }
        self.keep_documents()
    }

    /// Applies every layer that the store has not yet, for overlayfs. All are made beside each other, in `tmp/`; then, from the base up,
    /// each gets what only its parents know, and its name.
    fn apply_layers(&self) -> Result<Vec<Key>> {
        let layers = self.layers();
        let mut keys: Vec<Option<Key>> = Vec::new();
        for layer in &layers {
            keys.push(self.store.applied(layer.diff_id, &layer.chain_id, self.squash)?);
        }
        let missing = layers.iter().filter(|l| keys[l.index].is_none());
        let made: Mutex<BTreeMap<usize, Made<'_>>> = Mutex::default();
        self.for_each(missing, |layer, arrival| {
            let layer_made = self.make(layer, arrival)?;
            made.lock().expect("no thread panics with it").insert(layer.index, layer_made);
            Ok(())
        })?;
        // A layer may be applied already and its blob gone; then the image is not whole yet.
        for layer in layers.iter().filter(|l| keys[l.index].is_some()) {
            if self.store.blob(layer.descriptor)?.is_none() {
                self.fetch(layer.descriptor)?;
            }
        }
        let mut made = made.into_inner().expect("no thread panics with it");
        let mut trees: Vec<OwnedFd> = Vec::new();
        let mut ready = Vec::new();
        for layer in &layers {
            let Some(mut one) = made.remove(&layer.index) else {
                trees.push(self.store.layer_tree(keys[layer.index].as_ref().expect("applied before"))?);
                continue;
            };
            if one.applied.needs_parents {
                one = self.make_on(layer, &trees)?;
            } else if !one.applied.whiteouts.is_empty() {
                let below = if trees.is_empty() { None } else { Some(overlay::stack(&trees, None)?) };
                let tree = one.temporary.open("fs")?;
                apply::settle(tree.as_fd(), &one.applied, below.as_ref().map(AsFd::as_fd))?;
            }
            trees.push(one.temporary.open("fs")?);
            ready.push((layer, one));
        }
        if !ready.is_empty() {
            self.store.sync()?;
        }
        for (layer, one) in ready {
            let key = if one.applied.refers {
                Key::chain(&layer.chain_id, self.squash)
            } else {
                Key::alone(layer.diff_id, self.squash)
            };
            self.store.publish_layer(one.temporary, &key, &one.record)?;
            keys[layer.index] = Some(key);
        }
        Ok(keys.into_iter().flatten().collect())
    }

    /// Does `work` for these layers, some at a time, the largest first: it decides when all are done. After an error the others are
    /// given up.
    fn for_each<'l>(
        &self,
        layers: impl Iterator<Item = &'l Layer<'a>>,
        work: impl Fn(&Layer<'a>, &Arrival<'_>) -> Result<()> + Sync,
    ) -> Result<()>
    where
        'a: 'l,
    {
        let mut each: Vec<_> = layers.map(|l| (l, Arrival::new(self.store, l.descriptor))).collect();
        each.sort_by_key(|(layer, _)| std::cmp::Reverse(layer.descriptor.size));
        let given_up = Error::other("given up, because something else failed");
        let stop = || each.iter().for_each(|(_, arrival)| arrival.give_up(&given_up));
        in_parallel_until(self.jobs, &each, |(layer, arrival)| work(layer, arrival), stop)
    }

    /// Brings one blob.
    fn fetch(&self, descriptor: &Descriptor) -> Result<()> {
        let task = self.progress.blob(&descriptor.digest, descriptor.size);
        let arrival = Arrival::new(self.store, descriptor);
        arrival.fetch(self.source, &|n| task.advance(n))?;
        task.done("fetched");
        Ok(())
    }

    /// Applies one layer alone.
    fn make(&self, layer: &Layer<'_>, arrival: &Arrival<'_>) -> Result<Made<'a>> {
        let temporary = self.store.temporary()?;
        let tree = temporary.make("fs")?;
        let options = self.options(layer, Form::Overlay, &Ids::default());
        let (applied, size) = self.apply_one(layer, arrival, tree.as_fd(), &options)?;
        Ok(Made { temporary, record: record(layer, &applied, size), applied })
    }

    /// Applies one layer on those below it, through overlayfs, which copies up what the layer only refers to.
    fn make_on(&self, layer: &Layer<'_>, below: &[OwnedFd]) -> Result<Made<'a>> {
        let temporary = self.store.temporary()?;
        let (upper, work) = (temporary.make("fs")?, temporary.make("work")?);
        // The root's own attributes are the parents', until the layer says others.
        if let Some(root) = overlay::root_of(below) {
            tree::copy_root(root, &upper)?;
        }
        let top = overlay::Upper { upper: upper.as_fd(), work: work.as_fd(), volatile: false };
        let mount = overlay::stack(below, Some(&top))?;
        let options = self.options(layer, Form::Flat, &Ids::default());
        let arrival = Arrival::new(self.store, layer.descriptor);
        let (mut applied, size) = self.apply_one(layer, &arrival, mount.as_fd(), &options)?;
        applied.refers = true;
        drop(mount);
        temporary.remove("work")?;
        Ok(Made { temporary, record: record(layer, &applied, size), applied })
    }

    fn options(&self, layer: &Layer<'_>, form: Form, ids: &Ids) -> Options {
        let limit = stream::limit(layer.descriptor.size, self.limit);
        Options { form, base: layer.index == 0, ids: ids.clone(), squash: self.squash, limit }
    }

    /// Fetches, decompresses and applies one layer: three threads.
    fn apply_one(
        &self,
        layer: &Layer<'_>,
        arrival: &Arrival<'_>,
        root: BorrowedFd<'_>,
        options: &Options,
    ) -> Result<(Applied, u64)> {
        let task = self.progress.blob(&layer.descriptor.digest, layer.descriptor.size);
        let result = thread::scope(|scope| {
            // Its reader tells of an error.
            let fetched = scope.spawn(|| arrival.fetch(self.source, &|n| task.advance(n)));
            let archive = stream::spawn(scope, arrival.reader(), layer.diff_id, self.limit);
            let applied = self.apply_archive(layer, archive, root, options);
            if let Err(why) = &applied {
                arrival.give_up(why);
            }
            // The blob is wanted whole even where applying it stopped early.
            let fetched =
                fetched.join().unwrap_or_else(|_| Err(Error::other("the fetching thread panicked")));
            let applied = applied?;
            fetched.map(|()| applied)
        })?;
        task.done("applied");
        Ok(result)
    }

    fn apply_archive(
        &self,
        layer: &Layer<'_>,
        archive: Uncompressed,
        root: BorrowedFd<'_>,
        options: &Options,
    ) -> Result<(Applied, u64)> {
        let place = || format!("layer {} ({})", layer.index + 1, layer.descriptor.digest.short());
        let mut warn = |text: String| self.progress.warn(&format!("{}: {text}", place()));
        let (applied, archive) = apply(archive, root, options, &mut warn).with_context(place)?;
        // One that needs its parents was left in the middle, and is read again on them.
        let size = if applied.needs_parents { 0 } else { archive.finish().with_context(place)? };
        Ok((applied, size))
    }
}

/// A layer applied in `tmp/`.
struct Made<'a> {
    temporary: Temporary<'a>,
    applied: Applied,
    record: Record,
}

fn record(layer: &Layer<'_>, applied: &Applied, size: u64) -> Record {
    Record { diff_id: layer.diff_id.clone(), size, members: applied.members }
}

/// Each blob once: images may have the same layer twice.
fn distinct(descriptors: &[Descriptor]) -> Vec<&Descriptor> {
    let mut found: Vec<&Descriptor> = Vec::new();
    for descriptor in descriptors {
        if !found.iter().any(|had| had.digest == descriptor.digest) {
            found.push(descriptor);
        }
    }
    found
}

/// Does `work` for every item, `jobs` at a time. The first error is the one that is told, and nothing is begun after it.
pub(crate) fn in_parallel<T: Sync>(
    jobs: usize,
    items: &[T],
    work: impl Fn(&T) -> Result<()> + Sync,
) -> Result<()> {
    in_parallel_until(jobs, items, work, || {})
}

/// The same; `stop` ends what is under way after an error.
fn in_parallel_until<T: Sync>(
    jobs: usize,
    items: &[T],
    work: impl Fn(&T) -> Result<()> + Sync,
    stop: impl Fn() + Sync,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<Error>> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..jobs.min(items.len()) {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(e) = work(item) {
                        next.store(usize::MAX / 2, Ordering::Relaxed);
                        failed.lock().expect("no thread panics with it").get_or_insert(e);
                        stop();
                    }
                }
            });
        }
    });
    failed.into_inner().expect("no thread panics with it").map_or(Ok(()), Err)
}
