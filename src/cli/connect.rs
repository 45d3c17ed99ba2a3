//! The way to a server by its address: names, TCP, TLS, and whom to trust.

use std::path::Path;
use std::sync::Arc;

use http::Uri;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use crate::config::Config;

use super::exit::Failure;
use super::names;

/// What bytes go over, whatever is below.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection, and the host as a request names it. `verifies` is whether the certificate must be good for that host.
pub(super) async fn connect(
    config: &Config,
    url: &str,
    cacert: Option<&Path>,
    verifies: bool,
) -> anyhow::Result<(Box<dyn Stream>, String)> {
    // The address is not repeated: somebody may have put a password or a token into it.
    let bad = |why: &str| Failure::usage("--url is not a server's address", why, "Write https://HOST:PORT.");
    let uri: Uri = url.parse().map_err(|_| bad("it is not a URL"))?;
    let authority = uri.authority().ok_or_else(|| bad("it has no host"))?;
    let is_tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(bad("it begins with neither https:// nor http://").into()),
    };
    // They would not be used, and somebody thinks that they are.
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() || authority.as_str().contains('@') {
        return Err(bad("it has more than a host and a port").into());
    }
    let host = authority.host().trim_matches(['[', ']']).to_owned();
    let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let failed = |error: std::io::Error| {
        Failure::new(format!("no connection to {authority}"), error, "Check the address, and that the server runs.")
    };
    let stream = names::connect(&host, port).await.map_err(failed)?;
    if !is_tls {
        return Ok((Box::new(stream), authority.to_string()));
    }
    let mut roots = RootCertStore::empty();
    match cacert {
        Some(path) => trust_file(&mut roots, path)?,
        None => {
            for certificate in rustls_native_certs::load_native_certs().certs {
                // A certificate of the system that rustls cannot read is not trusted, and that is all.
                drop(roots.add(certificate));
            }
            let own = config.self_signed_cert();
            if own.exists() {
                trust_file(&mut roots, &own)?;
            }
        }
    }
    let client = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut client = client.with_no_client_auth();
    if !verifies {
        client.dangerous().set_certificate_verifier(Arc::new(Unverified));
    }
    let name = ServerName::try_from(host).map_err(|_| bad("its host is not a name"))?;
    let stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await.map_err(|error| {
        let remedy = "If its certificate is self-signed, give it with --cacert (DATA_DIR/tls/cert.pem on the server).";
        Failure::new(format!("no TLS with {authority}"), error, remedy)
    })?;
    Ok((Box::new(stream), authority.to_string()))
}

/// For `doctor` on the server's own machine, which looks at the certificate by itself and has no name to ask for. Nothing
/// secret is sent over such a connection.
#[derive(Debug)]
struct Unverified;

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

fn trust_file(roots: &mut RootCertStore, path: &Path) -> anyhow::Result<()> {
    let failed = |why: String| {
        Failure::new(format!("the certificate {} cannot be used", path.display()), why, "Give a certificate in PEM.")
    };
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))?;
    for certificate in certificates {
        roots.add(certificate.map_err(|e| failed(e.to_string()))?).map_err(|e| failed(e.to_string()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_host_and_a_port() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for bad in [
            "127.0.0.1:8443",
            "ftp://localhost",
            "https:///x",
            "http://127.0.0.1:1/prefix",
            "http://127.0.0.1:1/?token=x",
            "http://user:password@127.0.0.1:1",
        ] {
            let Err(error) = runtime.block_on(connect(&Config::default(), bad, None, true)) else { panic!("{bad}") };
            assert!(error.downcast_ref::<Failure>().unwrap().is_usage, "{bad}: {error}");
            assert!(!format!("{error:?}").contains("password") && !format!("{error:?}").contains("token"), "{error:?}");
        }
    }
}
