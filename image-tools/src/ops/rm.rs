//! `rm`: takes names away, and then what nobody needs any more.

use super::Common;
use crate::error::Result;
use crate::layout::REF_NAME;
use crate::store::Store;
use crate::store::gc::Collected;

/// Removes the names; with a digest or an ID, every name of that image.
pub fn rm(common: &Common, words: &[String]) -> Result<Collected> {
    let store = Store::open(&common.root)?;
    for word in words {
        let found = store.find(word)?;
        let name = found.annotation(REF_NAME).map(str::to_owned);
        let by_name = name.as_deref() == Some(word.as_str())
            || name.is_some() && name == crate::reference::Reference::parse(word).ok().map(|r| r.to_string());
        store.change_names(|names| {
            names.retain(|d| match by_name {
                true => d.annotation(REF_NAME) != name.as_deref(),
                false => d.digest != found.digest,
            });
            Ok(())
        })?;
    }
    store.collect()
}
