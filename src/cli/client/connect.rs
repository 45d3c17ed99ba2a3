//! Connects to a server by its address: DNS, TCP, TLS and trusted certificates.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use http::Uri;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConnection, DigitallySignedStruct, ProtocolVersion, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use crate::config::Config;
use crate::domain::host;

use crate::cli::exit::Failure;
use crate::server::dns;
use crate::server::tls::outgoing;

/// A connection, with or without TLS.
pub(in crate::cli) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Which certificates a connection trusts, and its client certificate.
#[derive(Debug, Clone, Copy, Default)]
pub struct Trust<'a> {
    /// A certificate that is trusted instead of the system's.
    pub cacert: Option<&'a Path>,
    /// A client certificate and its key, for `tls.client_ca`.
    pub identity: Option<(&'a Path, &'a Path)>,
    /// Accept any certificate: for `doctor`, which checks it separately.
    pub is_unverified: bool,
}

/// A connection to a server.
pub(in crate::cli) struct Connected {
    /// What is said goes through here.
    pub stream: Box<dyn Stream>,
    /// The host as a request names it.
    pub host: String,
    /// What was agreed on, where it is TLS.
    pub tls: Option<String>,
}

/// Connects to the server of a URL.
pub(in crate::cli) async fn connect(config: &Config, url: &str, trust: Trust<'_>) -> anyhow::Result<Connected> {
    // The error does not repeat the address, which may contain a password or a token.
    let bad = |why: &str| Failure::usage("--url is not the address of a server", why, "Write it as https://HOST:PORT.");
    let uri: Uri = in_ascii(url).parse().map_err(|_| bad("it is not a URL"))?;
    let authority = uri.authority().ok_or_else(|| bad("it has no host"))?;
    let is_tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(bad("it begins with neither https:// nor http://").into()),
    };
    // Other parts would be ignored, which the user does not expect.
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() || authority.as_str().contains('@') {
        return Err(bad("it contains more than a host and a port").into());
    }
    let host = authority.host().trim_matches(['[', ']']).trim_end_matches('.').to_owned();
    // The library takes a port that is none for no port at all.
    let port = match authority.as_str().strip_prefix(authority.host()).filter(|rest| !rest.is_empty()) {
        None => {
            if is_tls {
                443
            } else {
                80
            }
        }
        Some(rest) => {
            // A number with a sign is a number to Rust, and not in an address.
            let digits = rest.strip_prefix(':').filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
            let port = digits.and_then(|port| port.parse().ok()).filter(|port| *port != 0);
            port.ok_or_else(|| bad("its port is not a number from 1 to 65535"))?
        }
    };
    let failed = |error: std::io::Error| {
        Failure::new(
            format!("cannot connect to {authority}"),
            error,
            "Check the address, and check that the server is running.",
        )
    };
    let stream = dns::connect(&host, port).await.map_err(failed)?;
    // As browsers do: else a small message may wait for the acknowledgement of the one before.
    stream.set_nodelay(true).map_err(failed)?;
    if !is_tls {
        return Ok(Connected { stream: Box::new(stream), host: authority.to_string(), tls: None });
    }
    let roots = match trust.cacert {
        Some(path) => {
            let mut roots = RootCertStore::empty();
            trust_file(&mut roots, path)?;
            roots
        }
        None => {
            let mut roots = outgoing::system_roots();
            let own = config.self_signed_cert();
            if own.exists() {
                trust_file(&mut roots, &own)?;
            }
            roots
        }
    };
    let client = outgoing::client(roots)?;
    let mut client = match trust.identity {
        None => client.with_no_client_auth(),
        Some((cert, key)) => outgoing::with_identity(client, cert, key).map_err(|why| {
            let what =
                format!("the client certificate {} and its key {} cannot be used", cert.display(), key.display());
            let remedy = "Use a certificate that an authority in tls.client_ca has signed, and its key, both in PEM.";
            Failure::new(what, why, remedy)
        })?,
    };
    if trust.is_unverified {
        client.dangerous().set_certificate_verifier(Arc::new(Unverified));
    }
    let name = ServerName::try_from(host).map_err(|_| bad("its host is not a valid name"))?;
    let stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await.map_err(|error| {
        let remedy =
            "If the server has a self-signed certificate, give it with --cacert (DATA_DIR/tls/cert.pem on the server).";
        Failure::new(format!("no TLS connection to {authority}"), error, remedy)
    })?;
    let tls = Some(agreed(stream.get_ref().1));
    Ok(Connected { stream: Box::new(stream), host: authority.to_string(), tls })
}

/// A URL whose host is in punycode: people write it as they read it.
fn in_ascii(url: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = url.split_once("://").filter(|_| !url.is_ascii()) else { return url.into() };
    let (name, rest) = rest.split_at(rest.find([':', '/', '?', '#']).unwrap_or(rest.len()));
    match host::spelt(name) {
        Ok(name) => format!("{scheme}://{name}{rest}").into(),
        Err(_) => url.into(),
    }
}

/// What a client gets of TLS, in words.
fn agreed(connection: &ClientConnection) -> String {
    let version = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
        Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
        _ => "TLS",
    };
    let suite = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or("unknown");
    let group = connection.negotiated_key_exchange_group().map(|group| group.name());
    let group = group.and_then(|group| group.as_str()).unwrap_or("unknown");
    format!("{version}, key exchange {group}, cipher suite {suite}")
}

/// For `doctor` on the server's own machine, which checks the certificate separately and has no host name. Nothing secret is
/// sent over such a connection.
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

fn trust_file(roots: &mut RootCertStore, path: &Path) -> Result<(), Failure> {
    outgoing::trust(roots, path).map_err(|why| {
        Failure::new(format!("the certificate {} cannot be used", path.display()), why, "Use a certificate in PEM.")
    })
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
            "https://127.0.0.1:84430",
            "https://localhost:",
            "https://[::1]:0",
            "http://localhost:+80",
        ] {
            let Err(error) = runtime.block_on(connect(&Config::default(), bad, Trust::default())) else {
                panic!("{bad}")
            };
            assert!(error.downcast_ref::<Failure>().unwrap().is_usage, "{bad}: {error}");
            assert!(!format!("{error:?}").contains("password") && !format!("{error:?}").contains("token"), "{error:?}");
        }
    }
}
