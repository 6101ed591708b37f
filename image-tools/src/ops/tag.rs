//! `tag`: one more name for an image.

use super::Common;
use crate::error::Result;
use crate::reference::Reference;
use crate::store::Store;

/// Names what `word` leads to.
pub fn tag(common: &Common, word: &str, name: &Reference) -> Result<()> {
    let store = Store::open(&common.root)?;
    let descriptor = store.find(word)?;
    store.name(&name.to_string(), &descriptor)
}
