//! What changed in a tree, as a layer: in the upper directory of an overlay, in a flat tree since its stat manifest
//! was written, or all of a tree. One walk each, sorted by name, a directory before what is in it and its whiteouts
//! first; memory for the names of the directories from the root to where the walk is.

mod ids;
mod marks;
mod mask;
mod out;
mod walk;

use std::io::{Read, Write};
use std::os::fd::BorrowedFd;

use crate::error::{Context as _, Result};
use crate::layer::diff::walk::{Base, Walk};
use crate::layer::stat::Reader;
use crate::layer::tree::Chain;
use crate::layer::write::Archive;

pub use ids::Ids;
pub use marks::Overlay;
pub(crate) use walk::check_name;

/// How a layer is made.
#[derive(Clone, Default)]
pub struct Options<'a> {
    /// Paths in the container that stay out, with all below them: volumes, what the runtime made. Their parents are
    /// told when something else changed in them. Symbolic links in these paths are not resolved.
    pub mask: Vec<Vec<u8>>,
    /// SOURCE_DATE_EPOCH: no member is told to be younger, in seconds since 1970.
    pub epoch: Option<u64>,
    /// From the host's ids to the image's.
    pub ids: Ids<'a>,
    /// How an upper directory was mounted.
    pub overlay: Overlay,
}

/// Appends what the upper directory of an overlay changes in the tree below it. `lower` is that tree, whole and mounted:
/// the layer has whiteouts for what was there only, opaque directories become explicit whiteouts, and files that were
/// copied up and not changed stay out. Files with several names are never left out, so that they stay one file.
///
/// # Errors
/// When a name cannot be told in a layer (`.wh.`), the tree changes meanwhile or cannot be read, or the archive
/// fails.
pub fn overlay<W: Write>(
    upper: BorrowedFd<'_>,
    lower: BorrowedFd<'_>,
    options: &Options<'_>,
    archive: &mut Archive<W>,
    warn: &mut dyn FnMut(&str),
) -> Result<()> {
    let base = Base::Lower(Chain::new(lower).context("the tree below the overlay")?);
    Walk::new(upper, base, Some(options.overlay), options, archive, warn)?.run()
}

/// Appends what changed in a flat tree since [`record`](crate::layer::stat::record) wrote `manifest`.
///
/// # Errors
/// As [`overlay`]; and when the manifest is none.
pub fn flat<W: Write>(
    root: BorrowedFd<'_>,
    manifest: impl Read,
    options: &Options<'_>,
    archive: &mut Archive<W>,
    warn: &mut dyn FnMut(&str),
) -> Result<()> {
    let (reader, was) = Reader::new(manifest)?;
    Walk::new(root, Base::Manifest(reader, was), None, options, archive, warn)?.run()
}

/// Appends a whole tree.
///
/// # Errors
/// As [`overlay`].
pub fn plain<W: Write>(
    root: BorrowedFd<'_>,
    options: &Options<'_>,
    archive: &mut Archive<W>,
    warn: &mut dyn FnMut(&str),
) -> Result<()> {
    Walk::new(root, Base::Empty, None, options, archive, warn)?.run()
}
