//! TLS where this program is the client: what it trusts, and what it shows of itself. Commands ask a server by it, and the
//! forwarding of the audit log its receiver.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};
use zeroize::Zeroizing;

use crate::config::TlsProfile;
use crate::domain::pem;
use crate::domain::problem::Problem;
use crate::server::tls::provider;

/// The authorities that the system trusts. What the library cannot read of them is not trusted.
#[must_use]
pub fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for certificate in rustls_native_certs::load_native_certs().certs {
        drop(roots.add(certificate));
    }
    roots
}

/// Trusts the certificates of a file in PEM as well.
///
/// # Errors
/// Why it cannot be used.
pub fn trust(roots: &mut RootCertStore, path: &Path) -> Result<(), String> {
    for certificate in CertificateDer::pem_slice_iter(&read(path)?) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// The authorities that a configuration names by a file, under a key; without one, those of the system. `whose` they are is for the
/// advice.
///
/// # Errors
/// Why the file cannot be used, or that it has no certificate.
pub fn configured_roots(file: Option<&Path>, key: &str, whose: &str) -> Result<RootCertStore, Problem> {
    let Some(path) = file else { return Ok(system_roots()) };
    let wrong = |why: String| {
        let what = format!("the file {} of {key} cannot be used", path.display());
        Problem::new(what, why, format!("Give the certificates of {whose} authorities, in PEM."))
    };
    let mut roots = RootCertStore::empty();
    trust(&mut roots, path).map_err(wrong)?;
    if roots.is_empty() {
        return Err(wrong("it has no certificate".to_owned()));
    }
    Ok(roots)
}

/// A client that trusts these authorities, and offers what the server's own default profile does.
///
/// # Errors
/// The library's, if it has no version of TLS.
pub fn client(roots: RootCertStore) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(Arc::new(provider(TlsProfile::Default)));
    Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(roots))
}

/// The same client with a certificate and its key, each a file in PEM.
///
/// # Errors
/// Why they cannot be used.
pub fn with_identity(
    client: ConfigBuilder<ClientConfig, WantsClientCert>,
    cert: &Path,
    key: &Path,
) -> Result<ClientConfig, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(cert)?).collect();
    let chain = chain.map_err(|error| error.to_string())?;
    let key = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| error.to_string())?;
    client.with_client_auth_cert(chain, key).map_err(|error| error.to_string())
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let text = std::fs::read(path).map(Zeroizing::new).map_err(|error| error.to_string())?;
    Ok(pem::plain(&text))
}
