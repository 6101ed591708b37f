//! SELinux's label of mounts (`linux.mountLabel`): an option of each new file system that can hold labels, so that
//! everything in it belongs to the container. mount(8), "context"; of processes see `process`.

use crate::bail;
use crate::error::Result;
use crate::host::Host;
use crate::spec::{Linux, Spec};

/// crun's annotation for another option than `context`.
const OPTION: &str = "run.oci.mount_context_type";
const OPTIONS: [&str; 4] = ["context", "fscontext", "defcontext", "rootcontext"];

/// A label, and the option that gives it to a file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountLabel {
    /// The option's name.
    pub option: &'static str,
    /// The SELinux context.
    pub label: String,
}

/// How a file system gets the label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By an option.
    Option,
    /// Its root is labelled once it is there.
    Attribute,
    /// It labels its files itself.
    None,
}

impl Way {
    /// Of a kind of file system.
    pub fn of(kind: &str) -> Self {
        match kind {
            "proc" | "sysfs" | "cgroup" | "cgroup2" => Self::None,
            "mqueue" => Self::Attribute,
            _ => Self::Option,
        }
    }
}

/// The label of all mounts, if config.json asks for one.
///
/// # Errors
/// A machine without SELinux, in runc's words; an option that there is not.
pub fn mount_label(spec: &Spec, linux: &Linux, host: &Host) -> Result<Option<MountLabel>> {
    let Some(label) = linux.mount_label.as_deref().filter(|label| !label.is_empty()) else { return Ok(None) };
    if !host.selinux {
        bail!("selinux label is specified in config, but selinux is disabled or not supported");
    }
    let asked = spec.annotations.as_ref().and_then(|annotations| annotations.get(OPTION));
    let asked = asked.map_or("context", String::as_str);
    let Some(option) = OPTIONS.into_iter().find(|option| *option == asked) else {
        bail!("annotations[{OPTION:?}]: {asked:?} is none of {}", OPTIONS.join(", "));
    };
    Ok(Some(MountLabel { option, label: label.to_owned() }))
}
