//! The id maps of a user namespace, written from outside. user_namespaces(7)

use crate::error::{Context, Result};
use crate::plan::namespaces::IdMaps;
use std::fs;

/// Writes the maps of process `pid`.
///
/// # Errors
/// Maps that this process may not write; the kernel says no more than EPERM or EINVAL.
pub fn write(pid: i32, maps: &IdMaps) -> Result<()> {
    let put = |file: &str, text: &str| {
        let path = format!("/proc/{pid}/{file}");
        fs::write(&path, text).with_context(|| format!("write {text:?} to {path}"))
    };
    if maps.deny_set_groups {
        put("setgroups", "deny")?;
    }
    put("gid_map", &maps.gids)?;
    put("uid_map", &maps.uids)
}
