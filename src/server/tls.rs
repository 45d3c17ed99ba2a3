//! TLS material: a certificate and key from files, or a self-signed pair made once in the data directory. Each thing that
//! can be wrong with them has its own message.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config::{Config, TlsMode, TlsVersion};

use super::ServeError;

/// What does TLS for new connections; `None` where it is off.
///
/// # Errors
/// What is wrong with the certificate or the key, and what to do.
pub fn acceptor(config: &Config) -> Result<Option<TlsAcceptor>, ServeError> {
    let (cert, key) = match config.tls.mode {
        TlsMode::Off => return Ok(None),
        TlsMode::Files => match (&config.tls.cert, &config.tls.key) {
            (Some(cert), Some(key)) => (cert.clone(), key.clone()),
            _ => {
                return Err(ServeError::new(
                    "TLS has no certificate",
                    "tls.mode is files",
                    "Give tls.cert and tls.key.",
                ));
            }
        },
        TlsMode::SelfSigned => {
            let cert = config.self_signed_cert();
            let key = cert.with_file_name("key.pem");
            if !cert.exists() || !key.exists() {
                make_self_signed(config, &cert, &key).map_err(|error| {
                    let what = format!("no certificate could be made at {}", cert.display());
                    ServeError::new(what, error, "Make the data directory writable, or give --tls-cert and --tls-key.")
                })?;
            }
            (cert, key)
        }
    };
    let server = server_config(&cert, &key, config.tls.min_version)?;
    Ok(Some(TlsAcceptor::from(Arc::new(server))))
}

fn server_config(cert: &Path, key: &Path, min_version: TlsVersion) -> Result<ServerConfig, ServeError> {
    let chain = read_chain(cert)?;
    let private_key = read_key(key)?;
    let versions: &[&rustls::SupportedProtocolVersion] = match min_version {
        TlsVersion::V1_2 => &[&rustls::version::TLS12, &rustls::version::TLS13],
        TlsVersion::V1_3 => &[&rustls::version::TLS13],
    };
    let mut server = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private_key))
        .map_err(|error| {
            let what = format!("the certificate {} and the key {} cannot be used", cert.display(), key.display());
            match error {
                rustls::Error::InconsistentKeys(_) => ServeError::new(
                    what,
                    "the key is not the certificate's",
                    "Give the key that the certificate was made with.",
                ),
                error => ServeError::new(what, error, "Give a certificate chain and its key in PEM, RSA or ECDSA."),
            }
        })?;
    // The upgrade to WebSocket is HTTP/1.1's.
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(server)
}

fn read(path: &Path, what: &str) -> Result<Vec<u8>, ServeError> {
    fs::read(path).map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => "Check the path; it is tls.cert or tls.key in the configuration.",
            io::ErrorKind::PermissionDenied => "Make it readable for the user that runs the server.",
            _ => "Check the file.",
        };
        ServeError::new(format!("the {what} {} cannot be read", path.display()), error, remedy)
    })
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, ServeError> {
    let pem = read(path, "certificate")?;
    let what = || format!("the certificate {} cannot be used", path.display());
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain =
        chain.map_err(|error| ServeError::new(what(), error, "It must be PEM: -----BEGIN CERTIFICATE-----."))?;
    if chain.is_empty() {
        let why = "there is no certificate in it";
        return Err(ServeError::new(what(), why, "It must be PEM: -----BEGIN CERTIFICATE-----."));
    }
    Ok(chain)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, ServeError> {
    let pem = zeroize::Zeroizing::new(read(path, "key")?);
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        let what = format!("the key {} cannot be used", path.display());
        ServeError::new(what, "there is no private key in it", "It must be PEM and without a passphrase.")
    })
}

/// Names: this machine's, the loopback's, and the address that is listened on.
fn make_self_signed(config: &Config, cert: &Path, key: &Path) -> Result<(), io::Error> {
    let mut names = vec!["localhost".to_owned()];
    if let Ok(host) = fs::read_to_string("/proc/sys/kernel/hostname") {
        let host = host.trim().to_owned();
        if !host.is_empty() && !names.contains(&host) {
            names.push(host);
        }
    }
    let mut params = CertificateParams::new(names).map_err(io::Error::other)?;
    let mut addresses: Vec<IpAddr> = vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
    let listen = config.server.listen.ip();
    if !listen.is_unspecified() && !addresses.contains(&listen) {
        addresses.push(listen);
    }
    params.subject_alt_names.extend(addresses.into_iter().map(SanType::IpAddress));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "academy-rt");
    let pair = KeyPair::generate().map_err(io::Error::other)?;
    let certificate = params.self_signed(&pair).map_err(io::Error::other)?;
    if let Some(dir) = cert.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    // The key first: a certificate that is there has its key.
    write_whole(key, &zeroize::Zeroizing::new(pair.serialize_pem()), 0o600)?;
    write_whole(cert, &certificate.pem(), 0o644)
}

fn write_whole(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn pair(dir: &Path) -> (PathBuf, PathBuf) {
        let mut config = Config::default();
        config.storage.data_dir = dir.to_owned();
        assert!(acceptor(&config).unwrap().is_some());
        let cert = config.self_signed_cert();
        (cert.clone(), cert.with_file_name("key.pem"))
    }

    #[test]
    fn a_self_signed_pair_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, _) = pair(dir.path());
        let first = fs::read(&cert).unwrap();
        pair(dir.path());
        assert_eq!(fs::read(&cert).unwrap(), first);
    }

    #[test]
    fn each_fault_has_its_own_message() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let ((cert, key), (_, other_key)) = (pair(dir.path()), pair(other.path()));
        let fault = |cert: &Path, key: &Path| server_config(cert, key, TlsVersion::V1_2).unwrap_err().to_string();
        assert!(server_config(&cert, &key, TlsVersion::V1_3).is_ok());
        assert!(fault(&cert, &other_key).contains("not the certificate's"));
        assert!(fault(&dir.path().join("absent"), &key).contains("cannot be read"));
        assert!(fault(&key, &key).contains("no certificate in it"));
        assert!(fault(&cert, &cert).contains("no private key in it"));
    }
}
