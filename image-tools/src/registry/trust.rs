//! Which certificates a registry may show, and which one we show: the system's bundle, and what lies in the certs.d folders
//! that Docker and Podman have (`HOST[:PORT]/*.crt`, `*.cert` with `*.key`), see containers-certs.d(5).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use crate::error::{Context, Error, Result};

/// Where everybody's folders lie.
const FOLDERS: [&str; 2] = ["/etc/containers/certs.d", "/etc/docker/certs.d"];

/// What is trusted.
#[derive(Debug)]
pub(super) struct Trust {
    folders: Vec<PathBuf>,
    system: OnceLock<Arc<Vec<Certificate<'static>>>>,
}

impl Trust {
    /// Looks into `further` folders before the standard ones.
    pub(super) fn new(further: &[PathBuf]) -> Self {
        let folders = further.iter().cloned().chain(FOLDERS.map(PathBuf::from)).collect();
        Self { folders, system: OnceLock::new() }
    }

    /// For connections to `host`, which has a port where it is not TLS's own; `lax` takes any certificate.
    pub(super) fn config(&self, host: &str, lax: bool) -> Result<TlsConfig> {
        let (mut roots, mut ours) = (Vec::new(), None);
        for folder in &self.folders {
            read_folder(&folder.join(host), &mut roots, &mut ours)?;
        }
        let roots = match (lax, roots.is_empty()) {
            (true, _) => Arc::new(Vec::new()),
            (false, true) => self.system(),
            (false, false) => Arc::new(self.system().iter().cloned().chain(roots).collect()),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Ok(TlsConfig::builder()
            .root_certs(RootCerts::Specific(roots))
            .client_cert(ours)
            .disable_verification(lax)
            .unversioned_rustls_crypto_provider(provider)
            .build())
    }

    /// The system's bundle, read when it is first needed. Files that can't be read are passed over: what is missing then is
    /// told when a certificate's issuer is unknown.
    fn system(&self) -> Arc<Vec<Certificate<'static>>> {
        let load = || {
            let found = rustls_native_certs::load_native_certs();
            Arc::new(found.certs.iter().map(|c| Certificate::from_der(c).to_owned()).collect())
        };
        Arc::clone(self.system.get_or_init(load))
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
