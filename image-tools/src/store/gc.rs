//! What nobody needs any more, and what is not as it should be. Both walk from the names and leases along the documents; layers are never
//! hashed to collect garbage, only to check.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use rustix::fs::{AtFlags, renameat, unlinkat};
use rustix::io::Errno;

use super::{DAMAGED_INDEX, Store};
use crate::config::{Config, chain_ids};
use crate::digest::{Digest, Verified};
use crate::error::{Context, Error, Kind, Result};
use crate::layout::{REF_NAME, blob_path};
use crate::manifest::{Descriptor, Document, Index, media};
use crate::tree;

/// Documents within documents, at most.
const DEEPEST: usize = 6;

/// What garbage was.
#[derive(Clone, Debug, Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Collected {
    /// Blobs that no name leads to.
    pub blobs: u64,
    /// Applied layers of no image.
    pub layers: u64,
    /// Of blobs, in bytes.
    pub bytes: u64,
}

/// Everything that names and leases lead to.
#[derive(Default)]
struct Reached {
    blobs: BTreeMap<Digest, Descriptor>,
    layers: BTreeSet<String>,
    problems: Vec<String>,
}

impl Store {
    /// Removes what nothing leads to. It waits until no other command works in the store.
    pub fn collect(&self) -> Result<Collected> {
        self.lock.exclusive()?;
        let result = self.collect_alone(true);
        self.lock.shared()?;
        result
    }

    /// The same, if no other command works in the store; what is still to be resumed stays.
    pub fn collect_if_alone(&self) -> Result<()> {
        let collected = match self.lock.try_exclusive()? {
            true => self.collect_alone(false).map(drop),
            false => Ok(()),
        };
        self.lock.shared()?;
        collected
    }

    fn collect_alone(&self, partial: bool) -> Result<Collected> {
        self.sweep()?;
        let reached = self.reach(true)?;
        if let Some(problem) = reached.problems.first() {
            // What an unreadable document leads to is not known: better keep all.
            return Err(Error::invalid(format!("{problem}; fsck --repair first")));
        }
        let mut collected = Collected::default();
        for digest in self.blobs()? {
            if !reached.blobs.contains_key(&digest) {
                let size = self.layout().blob(&digest)?.map_or(Ok(0), |f| f.metadata().map(|m| m.len()))?;
                unlinkat(self.layout().dir(), blob_path(&digest), AtFlags::empty()).context(&digest)?;
                collected.blobs += 1;
                collected.bytes += size;
            }
        }
        for layer in self.layer_names()? {
            if !reached.layers.contains(&layer) {
                self.remove_layer(&layer)?;
                collected.layers += 1;
            }
        }
        if partial {
            let partial = tree::open_dir(self.layout().dir(), "partial")?;
            tree::clear(std::os::fd::AsFd::as_fd(&partial), &tree::Nothing)?;
        }
        Ok(collected)
    }

    /// The digests of all blobs.
    fn blobs(&self) -> Result<Vec<Digest>> {
        let mut found = Vec::new();
        for algorithm in ["sha256", "sha512"] {
            let dir = match tree::open_dir(self.layout().dir(), format!("blobs/{algorithm}")) {
                Ok(dir) => dir,
                Err(rustix::io::Errno::NOENT) => continue,
                Err(e) => return Err(e).context("blobs"),
            };
            for (name, _) in tree::names(&dir)? {
                // What has no digest's name is not ours.
                if let Ok(digest) = Digest::parse(&format!("{algorithm}:{}", name.to_string_lossy())) {
                    found.push(digest);
                }
            }
        }
        Ok(found)
    }

    fn reach(&self, alone: bool) -> Result<Reached> {
        let mut reached = Reached::default();
        for named in self.index()?.manifests {
            let name = named.annotation(REF_NAME).unwrap_or(named.digest.as_str()).to_owned();
            self.follow(&named, &name, true, 0, &mut reached);
        }
        for lease in self.leases(alone)? {
            reached.layers.extend(lease.layers.iter().map(|key| key.as_str().to_owned()));
            // A name may have moved on meanwhile; then its blobs may be gone, and only a commit would miss them.
            self.follow(&lease.image, &lease.dir.display().to_string(), false, 0, &mut reached);
        }
        Ok(reached)
    }

    /// Notes everything that a descriptor leads to. Only the children of an index may be missing.
    fn follow(&self, descriptor: &Descriptor, name: &str, wanted: bool, depth: usize, reached: &mut Reached) {
        let digest = &descriptor.digest;
        let is_document =
            media::is_index(&descriptor.media_type) || media::is_manifest(&descriptor.media_type);
        if reached.blobs.contains_key(digest) && is_document {
            return;
        }
        if depth > DEEPEST {
            reached.problems.push(format!("{name}: indexes within indexes, more than {DEEPEST} deep"));
            return;
        }
        match self.layout().blob(digest) {
            Ok(Some(_)) => drop(reached.blobs.insert(digest.clone(), descriptor.clone())),
            Ok(None) if !wanted => return,
            Ok(None) => return reached.problems.push(format!("{name}: blob {digest} is missing")),
            Err(e) => return reached.problems.push(format!("{name}: {e}")),
        }
        if !is_document {
            return;
        }
        let document = self.layout().document(descriptor);
        match document.and_then(|bytes| Document::parse(&bytes, &descriptor.media_type)) {
            Ok(Document::Index(index)) => {
                for child in &index.manifests {
                    self.follow(child, name, false, depth + 1, reached);
                }
            }
            Ok(Document::Manifest(manifest)) => {
                for blob in manifest.layers.iter().chain([&manifest.config]) {
                    self.follow(blob, name, wanted, depth + 1, reached);
                }
                if media::is_config(&manifest.config.media_type) {
                    self.follow_layers(&manifest.config, name, wanted, reached);
                }
            }
            Err(e) => reached.problems.push(format!("{name}: {digest}: {e}")),
        }
    }

    fn follow_layers(&self, config: &Descriptor, name: &str, wanted: bool, reached: &mut Reached) {
        let config = match self.layout().document(config).and_then(|bytes| Config::parse(&bytes)) {
            Ok(config) => config,
            Err(e) if wanted => {
                return reached.problems.push(format!("{name}: config {}: {e}", config.digest));
            }
            Err(_) => return,
        };
        let diff_ids = &config.rootfs.diff_ids;
        for (diff_id, chain_id) in diff_ids.iter().zip(chain_ids(diff_ids)) {
            for squashed in [false, true] {
                match self.applied(diff_id, &chain_id, squashed) {
                    Ok(Some(key)) => drop(reached.layers.insert(key.as_str().to_owned())),
                    Ok(None) => {}
                    Err(e) => reached.problems.push(format!("{name}: {e}")),
                }
            }
        }
    }

    /// Checks everything: documents, the bytes of every blob, the applied layers. Gives what is wrong, a sentence each. With `repair`,
    /// what is wrong is removed, so that it is fetched again: damaged blobs, layers without a tree, and names that lead to nothing.
    pub fn check(&self, repair: bool, mut checked: impl FnMut(&Digest, u64)) -> Result<Vec<String>> {
        if repair {
            self.lock.exclusive()?;
        }
        let lost = if repair { self.replace_damaged_index()? } else { None };
        let mut reached = self.reach(repair)?;
        reached.problems.extend(lost);
        for digest in self.blobs()? {
            let Some(file) = self.layout().blob(&digest)? else { continue };
            let size =
                reached.blobs.get(&digest).map_or(Ok(file.metadata()?.len()), |d| Ok::<_, Error>(d.size))?;
            if let Err(e) = whole(file, &digest, size) {
                reached.problems.push(format!("blob {digest}: {e}"));
                if repair {
                    self.damaged(&digest)?;
                }
            }
            checked(&digest, size);
        }
        for name in self.layer_names()? {
            let path = format!("layers/{name}");
            let record = self.record_in(&name)?;
            if record.is_none() || tree::open_dir(self.layout().dir(), format!("{path}/fs")).is_err() {
                reached.problems.push(format!("{path}: incomplete"));
                if repair {
                    self.remove_layer(&name)?;
                }
            }
        }
        if repair {
            self.forget_broken()?;
            self.lock.shared()?;
        }
        Ok(reached.problems)
    }

    /// Nothing can be said of what an unreadable index named; a person may, by the copy.
    fn replace_damaged_index(&self) -> Result<Option<String>> {
        match self.layout().index() {
            Err(e) if e.kind() == Kind::Invalid => {
                let root = self.layout().dir();
                match renameat(root, "index.json", root, DAMAGED_INDEX) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(e) => return Err(e).context("index.json"),
                }
                self.layout().set_index(&Index::of(Vec::new()))?;
                Ok(Some(format!("{e}; kept as {DAMAGED_INDEX}, an empty one is there now")))
            }
            other => other.map(|_| None),
        }
    }

    fn forget_broken(&self) -> Result<()> {
        self.change_names(|names| {
            names.retain(|named| {
                let mut reached = Reached::default();
                self.follow(named, "", true, 0, &mut reached);
                reached.problems.is_empty()
            });
            Ok(())
        })
    }
}

fn whole(file: std::fs::File, digest: &Digest, size: u64) -> Result<()> {
    let mut reader = Verified::new(file, digest, size);
    let mut buffer = vec![0; 256 << 10];
    while reader.read(&mut buffer)? > 0 {}
    Ok(())
}
