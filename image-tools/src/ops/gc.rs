//! `gc`: removes what no name and no bundle leads to.

use super::Common;
use crate::error::Result;
use crate::store::Store;
use crate::store::gc::Collected;

/// Collects garbage, as soon as no other command works in the store.
pub fn gc(common: &Common) -> Result<Collected> {
    Store::open(&common.root)?.collect()
}
