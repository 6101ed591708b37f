//! `fsck`: reads everything in the store and says what is wrong.

use super::Common;
use crate::error::Result;
use crate::store::Store;

/// Checks the store; gives what is wrong, a sentence each. With `repair` that is removed, so that the next pull fetches it again.
pub fn fsck(common: &Common, repair: bool) -> Result<Vec<String>> {
    let store = Store::open(&common.root)?;
    store.check(repair, |digest, size| {
        let task = common.progress.blob(digest, size);
        task.advance(size);
        task.done("checked");
    })
}
