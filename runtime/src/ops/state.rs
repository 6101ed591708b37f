//! `state`: the state of one container, as the runtime spec words it.

use super::Context;
use super::list::Item;
use crate::error::{Error, Result};
use crate::state::{Container, Status};

/// Returns the JSON object of `id` with runc's keys in runc's order, ready to print (2-space indent, no newline).
///
/// # Errors
/// `container does not exist`.
pub fn state(context: &Context, id: &str) -> Result<String> {
    let mut item = describe(&Container::load(context, id)?)?;
    // runc leaves the owner to `list`.
    item.owner = String::new();
    serde_json::to_string_pretty(&item).map_err(|error| Error::new(error.to_string()))
}

/// A container as `state` and `list` show it.
///
/// # Errors
/// A cgroup that can't be read.
pub fn describe(container: &Container) -> Result<Item> {
    let status = container.status()?;
    let state = &container.state;
    Ok(Item {
        oci_version: crate::spec::VERSION.to_owned(),
        id: state.id.clone(),
        pid: if status == Status::Stopped { 0 } else { state.pid },
        status: status.as_str().to_owned(),
        bundle: state.bundle.display().to_string(),
        rootfs: state.rootfs.display().to_string(),
        created: state.created.clone(),
        annotations: state.saved.annotations.clone(),
        owner: format!("#{}", container.owner()),
    })
}
