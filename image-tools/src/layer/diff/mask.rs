//! Paths that stay out of a layer, with all below them.

use std::collections::HashMap;

use crate::error::{Error, Result};

/// The masked names, by the directory that holds them.
#[derive(Default)]
pub(super) struct Masks(HashMap<Vec<u8>, Vec<Vec<u8>>>);

impl Masks {
    pub(super) fn new(paths: &[Vec<u8>]) -> Result<Self> {
        let mut masks = Self::default();
        for path in paths {
            let mut components: Vec<&[u8]> =
                path.split(|b| *b == b'/').filter(|c| !c.is_empty() && *c != b".").collect();
            let wrong = |why| Error::invalid(format!("mask {:?}: {why}", String::from_utf8_lossy(path)));
            if components.contains(&&b".."[..]) {
                return Err(wrong("a path without .. is needed"));
            }
            let name = components.pop().ok_or_else(|| wrong("it would leave out everything"))?;
            masks.0.entry(components.join(&b'/')).or_default().push(name.to_vec());
        }
        Ok(masks)
    }

    /// The names in this directory.
    pub(super) fn of(&self, directory: &[u8]) -> &[Vec<u8>] {
        self.0.get(directory).map_or(&[], Vec::as_slice)
    }
}
