//! The verbs, one a file, each told top to bottom; and what they all are given.

pub mod unpack;

use std::path::PathBuf;

use crate::platform::Platform;
use crate::progress::Progress;

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
    /// Who is told.
    pub progress: Progress,
}
