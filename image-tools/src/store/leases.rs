//! Who uses which images and applied layers: a mount as long as the machine runs, a bundle as long as its folder is there. What is leased
//! is no garbage, even without a name.

use std::path::{Path, PathBuf};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::Store;
use super::layers::Key;
use crate::digest::Digest;
use crate::error::{Context, Result};
use crate::layout::unique;
use crate::manifest::{Descriptor, json, to_json};
use crate::tree;

/// What a folder needs of the store.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    /// The folder.
    pub dir: PathBuf,
    /// The image's manifest.
    pub image: Descriptor,
    /// Its layers, base first.
    pub layers: Vec<Key>,
    /// A mount ends with the machine's run, whose ID this is; a bundle has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
}

impl Lease {
    /// Whether the mount or the bundle may still be there.
    pub fn is_live(&self) -> bool {
        match &self.boot {
            Some(boot) => *boot == boot_id(),
            // A folder that can't be looked into now may be there all the same.
            None => !matches!(
                rustix::fs::stat(self.dir.join(crate::bundle::record::FILE)),
                Err(Errno::NOENT | Errno::NOTDIR)
            ),
        }
    }
}

/// This run of the machine.
pub fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.map(|id| id.trim().to_owned()).unwrap_or_default()
}

impl Store {
    /// Keeps a lease; one for the same folder is replaced.
    pub fn lease(&self, lease: &Lease) -> Result<()> {
        let (root, name) = (self.layout().dir(), format!("tmp/{}", unique()));
        self.layout().write_unsynced(&name, &to_json(lease))?;
        rustix::fs::renameat(root, &name, root, lease_name(&lease.dir)).context("lease")
    }

    /// Ends the lease of a folder; without one nothing happens.
    pub fn end_lease(&self, dir: &Path) -> Result<()> {
        match rustix::fs::unlinkat(self.layout().dir(), lease_name(dir), rustix::fs::AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(e) => Err(e).context("lease"),
        }
    }

    /// The lease of a folder.
    pub fn lease_of(&self, dir: &Path) -> Result<Option<Lease>> {
        let name = lease_name(dir);
        match self.layout().small(&name, 1 << 20)? {
            Some(text) => json(&text).context(name).map(Some),
            None => Ok(None),
        }
    }

    /// All leases that still hold. Whoever is `alone` in the store ends the others.
    pub fn leases(&self, alone: bool) -> Result<Vec<Lease>> {
        let mut live = Vec::new();
        let dir = tree::open_dir(self.layout().dir(), "leases")?;
        for (name, _) in tree::names(&dir)? {
            let name = format!("leases/{}", name.to_string_lossy());
            let Some(text) = self.layout().small(&name, 1 << 20)? else { continue };
            match json::<Lease>(&text) {
                Ok(lease) if lease.is_live() => live.push(lease),
                _ if !alone => {}
                // Torn by a power failure, or over.
                _ => match rustix::fs::unlinkat(self.layout().dir(), &name, rustix::fs::AtFlags::empty()) {
                    Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                    Err(e) => return Err(e).context(name),
                },
            }
        }
        Ok(live)
    }
}

fn lease_name(dir: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    format!("leases/{}", Digest::of(dir.as_os_str().as_bytes()).hex())
}
