//! `insert`: a file or a tree of the host put into an image, or a path taken out of it, as one more layer.
//!
//! The change is made in the image's own tree, mounted where nobody sees it, so links inside it lead where they would in the container.

use std::ffi::CString;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, statat};
use rustix::io::Errno;

use super::load::Loaded;
use super::{Common, Making, find, mount};
use crate::derive;
use crate::error::{Context, Error, Result};
use crate::layer::apply::{self, Form, apply, clean};
use crate::layer::diff;
use crate::layer::member::{Kind, Member, Time};
use crate::layer::write::Archive;
use crate::location::Location;
use crate::overlay::{self, Upper};
use crate::reference::Reference;
use crate::store::Store;
use crate::tree;

/// What happens at a path of the image.
#[derive(Clone, Debug)]
pub enum Change {
    /// This file or tree comes there, over what is there.
    Add(PathBuf),
    /// This tree comes there, in place of what is there.
    Replace(PathBuf),
    /// What is there goes.
    Remove,
}

/// Makes the change at `path` of the image that `from` names; the new one is called `name`, or takes its name over.
pub fn insert(
    common: &Common,
    from: &Location,
    change: &Change,
    path: &str,
    name: Option<&Reference>,
    making: &Making,
) -> Result<Loaded> {
    let store = Store::open(&common.root)?;
    let found = find(common, &store, from)?;
    let name = found.new_name(name)?.to_string();
    let (_, trees) = mount::layers(common, &store, &found)?;
    let temporary = store.temporary()?;
    let (upper, work) = (temporary.make("upper")?, temporary.make("work")?);
    if let Some(root) = overlay::root_of(&trees) {
        tree::copy_root(root, &upper)?;
    }
    let top = Upper { upper: upper.as_fd(), work: work.as_fd(), volatile: true };
    let tree = overlay::stack(&trees, Some(&top))?;
    let at = clean(path.as_bytes());
    make(common, &tree, &at, change).with_context(|| path.to_owned())?;
    drop(tree);
    let layer = derive::layer(&store, making.compression, |archive| {
        let lower = overlay::stack(&trees, None)?;
        let options = diff::Options {
            epoch: making.epoch,
            overlay: super::overlay_notes(),
            ..diff::Options::default()
        };
        let mut warn = |text: &str| common.progress.warn(text);
        diff::overlay(upper.as_fd(), lower.as_fd(), &options, archive, &mut warn)
    })?;
    let step = making.step(&format!("pintle-image insert {path}"));
    let changed = (layer.members > 0).then_some(&layer);
    let image = derive::image(&store, Some(&found.image), &common.platform, changed, &step, |_| Ok(()))?;
    store.name(&name, &image)?;
    Ok(Loaded { name: Some(name), digest: image.digest })
}

fn make(common: &Common, tree: &OwnedFd, at: &[u8], change: &Change) -> Result<()> {
    if at.is_empty() && !matches!(change, Change::Add(_)) {
        return Err(Error::new(crate::error::Kind::Usage, "the root can't be replaced or removed"));
    }
    if !matches!(change, Change::Add(_)) {
        let split = at.iter().rposition(|b| *b == b'/');
        let (parent, name) = split.map_or((&b"."[..], at), |slash| (&at[..slash], &at[slash + 1..]));
        let parent = apply::open_in_root(tree.as_fd(), parent).context("its directory")?;
        let name = CString::new(name).map_err(|_| Error::invalid("a name with a NUL"))?;
        if matches!(change, Change::Remove) {
            statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        tree::remove(&parent, &name)?;
    }
    match change {
        Change::Remove => Ok(()),
        Change::Add(source) | Change::Replace(source) => copy(common, source, tree.as_fd(), at),
    }
}

/// Copies as an archive: what an archive can tell is what a layer can tell.
fn copy(common: &Common, source: &Path, tree: BorrowedFd<'_>, at: &[u8]) -> Result<()> {
    let shown = source.display().to_string();
    let meta = std::fs::symlink_metadata(source).with_context(|| shown.clone())?;
    // A folder's content goes into the directory at the path, a file goes to the path itself.
    let (target, at) = match meta.is_dir() {
        true => (apply::make_in_root(tree, at)?, &b""[..]),
        false => (tree.try_clone_to_owned()?, at),
    };
    let (reader, writer) = std::io::pipe()?;
    std::thread::scope(|scope| {
        let sent = scope.spawn(move || {
            let mut archive = Archive::new(writer);
            match meta.is_dir() {
                true => {
                    let root = tree::open_dir(rustix::fs::CWD, source)?;
                    let options = diff::Options::default();
                    diff::plain(root.as_fd(), &options, &mut archive, &mut |text| {
                        common.progress.warn(text)
                    })?;
                }
                false => archive.append(&file_member(source, at, &meta)?, File::open(source)?)?,
            }
            archive.finish().map(drop)
        });
        let options = apply::Options {
            form: Form::Flat,
            base: false,
            ids: crate::layer::ids::Ids::default(),
            squash: common.squash,
            limit: u64::MAX,
        };
        let applied =
            apply(BufReader::new(reader), target.as_fd(), &options, &mut |text| common.progress.warn(&text));
        let applied = applied.and_then(|(_, mut rest)| {
            rest.read_to_end(&mut Vec::new())?;
            Ok(())
        });
        let sent = sent.join().unwrap_or_else(|_| Err(Error::other("the reading thread panicked")));
        // Where sending stops, applying sees an archive without an end; where applying stops, sending sees nobody reading.
        match sent {
            Err(e) if !e.to_string().ends_with(&pintle::error::errno_text(Errno::PIPE)) => Err(e),
            sent => applied.and(sent),
        }
    })
    .with_context(|| shown.clone())
}

fn file_member(source: &Path, at: &[u8], meta: &std::fs::Metadata) -> Result<Member> {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::MetadataExt;
    if !meta.is_file() {
        return Err(Error::unsupported("neither a regular file nor a directory"));
    }
    let name = source.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
    let path = if at.is_empty() { name.to_vec() } else { at.to_vec() };
    path.split(|b| *b == b'/').try_for_each(diff::check_name)?;
    Ok(Member {
        path,
        kind: Kind::File { size: meta.len(), extents: None },
        mode: meta.mode() & 0o7777,
        uid: 0,
        gid: 0,
        mtime: Time { seconds: meta.mtime(), nanoseconds: meta.mtime_nsec() as u32 },
        xattrs: Vec::new(),
    })
}
