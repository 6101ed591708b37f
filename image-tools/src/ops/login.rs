//! `login` and `logout`: credentials of registries, in the file that podman, buildah and skopeo read, too.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::registry::credentials::{self, Credentials};
use crate::registry::{Client, Settings};

/// Asks the registry whether it takes the credentials, and keeps them in `file`.
pub fn login(settings: Settings, registry: &str, credentials: &Credentials, file: &Path) -> Result<()> {
    let settings = Settings { credentials: Some(credentials.clone()), ..settings };
    Client::new(settings)?.login(registry)?;
    credentials::store(file, &credentials::key(registry), credentials)
}

/// Removes a registry's credentials from every file; false where none had them.
pub fn logout(registry: &str, files: &[PathBuf]) -> Result<bool> {
    let mut had = false;
    for file in files {
        had |= credentials::erase(file, &credentials::key(registry))?;
    }
    Ok(had)
}
