//! Which certificates a registry may show, and which one we show: the system's bundle, and what lies in the certs.d folders
//! that Docker and Podman have (`HOST[:PORT]/*.crt`, `*.cert` with `*.key`), see containers-certs.d(5). All are read when a
//! connection needs them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use crate::error::{Context, Error, Result};

/// Where everybody's folders lie.
const FOLDERS: [&str; 2] = ["/etc/containers/certs.d", "/etc/docker/certs.d"];

/// Where distributions keep their bundle, as Go's programs look for it; one file holds all that the folder beside it does.
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// What is trusted.
#[derive(Debug)]
pub(super) struct Trust {
    folders: Vec<PathBuf>,
    bundle: Option<PathBuf>,
    system: OnceLock<Arc<Vec<Certificate<'static>>>>,
}

impl Trust {
    /// Looks into `further` folders before the standard ones, and into `bundle`, if there is one, in place of the system's.
    pub(super) fn new(further: &[PathBuf], bundle: Option<PathBuf>) -> Self {
        let folders = further.iter().cloned().chain(FOLDERS.map(PathBuf::from)).collect();
        Self { folders, bundle, system: OnceLock::new() }
    }

    /// For connections to `host`, which has a port where it is not TLS's own; `lax` takes any certificate.
    pub(super) fn config(&self, host: &str, lax: bool) -> Result<TlsConfig> {
        let (mut roots, mut ours) = (Vec::new(), None);
        for folder in &self.folders {
            read_folder(&folder.join(host), &mut roots, &mut ours)?;
        }
        let roots = match (lax, roots.is_empty()) {
            (true, _) => Arc::new(Vec::new()),
            (false, true) => self.system()?,
            (false, false) => Arc::new(self.system()?.iter().cloned().chain(roots).collect()),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Ok(TlsConfig::builder()
            .root_certs(RootCerts::Specific(roots))
            .client_cert(ours)
            .disable_verification(lax)
            .unversioned_rustls_crypto_provider(provider)
            .build())
    }

    /// The bundle. A system without one trusts nobody, which is told when a certificate's issuer is unknown.
    fn system(&self) -> Result<Arc<Vec<Certificate<'static>>>> {
        if let Some(known) = self.system.get() {
            return Ok(Arc::clone(known));
        }
        let found = match &self.bundle {
            Some(bundle) => certificates(bundle)?,
            None => BUNDLES.iter().find_map(|path| certificates(Path::new(path)).ok()).unwrap_or_default(),
        };
        Ok(Arc::clone(self.system.get_or_init(|| Arc::new(found))))
    }
}

/// Adds what one folder holds; most hosts have none.
fn read_folder(
    folder: &Path,
    roots: &mut Vec<Certificate<'static>>,
    ours: &mut Option<ClientCert>,
) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        match path.extension().and_then(|e| e.to_str()) {
            Some("crt") => roots.extend(certificates(&path)?),
            Some("cert") if ours.is_none() => {
                let chain = certificates(&path)?;
                let key = path.with_extension("key");
                let pem = fs::read(&key).with_context(|| key.display())?;
                let key = PrivateKey::from_pem(&pem)
                    .map_err(|_| Error::invalid(format!("{}: no private key in PEM", key.display())))?;
                *ours = Some(ClientCert::new_with_certs(&chain, key));
            }
            _ => {}
        }
    }
    Ok(())
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>> {
    let pem = fs::read(path).with_context(|| path.display())?;
    let found: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if found.is_empty() {
        return Err(Error::invalid(format!("{}: no certificate in PEM", path.display())));
    }
    Ok(found)
}
