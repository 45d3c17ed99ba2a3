//! TLS material: a certificate and key from files, or a self-signed pair that is made in the data directory, kept there, and
//! made again when it has expired. Each thing that can be wrong with them has its own message.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::config::{Config, TlsMode, TlsVersion};
use crate::domain::{Clock, SystemClock, Timestamp};

use super::ServeError;

const DAY: Duration = Duration::from_secs(86_400);
/// A certificate of one's own is good for so long; Apple's systems refuse one of more days (825), whoever has signed it.
const GOOD_FOR: Duration = DAY.saturating_mul(820);
/// It is good from a day before: clocks of clients may be behind.
const GOOD_BEFORE: Duration = DAY;
/// It is made again so long before its end, so that a server that has just started does not end up without.
const RENEWED_BEFORE: Duration = DAY.saturating_mul(30);

/// What does TLS for new connections; `None` where it is off.
///
/// # Errors
/// What is wrong with the certificate or the key, and what to do.
pub fn acceptor(config: &Config) -> Result<Option<TlsAcceptor>, ServeError> {
    acceptor_at(config, SystemClock.now())
}

fn acceptor_at(config: &Config, now: Timestamp) -> Result<Option<TlsAcceptor>, ServeError> {
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
            if !cert.exists() || !key.exists() || ends_before(&cert, now.plus(RENEWED_BEFORE)) {
                make_self_signed(config, &cert, &key, now).map_err(|error| {
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

/// Both forms of a key with a passphrase have it in a heading.
const PASSPHRASE: &[u8] = b"ENCRYPTED";

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, ServeError> {
    let pem = zeroize::Zeroizing::new(read(path, "key")?);
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        let what = format!("the key {} cannot be used", path.display());
        let has_passphrase = pem.windows(PASSPHRASE.len()).any(|part| part == PASSPHRASE);
        if has_passphrase {
            let remedy =
                "Take the passphrase off: openssl pkey -in KEY -out KEY.plain, and keep that for the server's user.";
            return ServeError::new(what, "it has a passphrase", remedy);
        }
        ServeError::new(what, "there is no private key in it", "It must be PEM: -----BEGIN PRIVATE KEY-----.")
    })
}

/// Names: this machine's, the loopback's, and the address that is listened on.
fn make_self_signed(config: &Config, cert: &Path, key: &Path, now: Timestamp) -> Result<(), io::Error> {
    let mut names = vec!["localhost".to_owned()];
    if let Ok(host) = fs::read_to_string("/proc/sys/kernel/hostname") {
        let host = host.trim().to_owned();
        // A certificate can have no other names, and a machine with another one shall have a certificate all the same.
        if !host.is_empty() && host.is_ascii() && !names.contains(&host) {
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
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(now.as_secs()).saturating_sub(GOOD_BEFORE);
    params.not_after = epoch + Duration::from_secs(now.plus(GOOD_FOR).as_secs());
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

/// Whether the certificate that the server made for itself is over at a time. Asked of the verifier that clients have: what
/// else it says of the certificate (somebody has put another one there) is no reason to write over it.
fn ends_before(cert: &Path, time: Timestamp) -> bool {
    let Ok(certificate) = CertificateDer::from_pem_file(cert) else { return false };
    let mut roots = RootCertStore::empty();
    if roots.add(certificate.clone()).is_err() {
        return false;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let Ok(verifier) = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build() else {
        return false;
    };
    let Ok(name) = ServerName::try_from("localhost") else { return false };
    let time = UnixTime::since_unix_epoch(Duration::from_secs(time.as_secs()));
    matches!(
        verifier.verify_server_cert(&certificate, &[], &name, &[], time),
        Err(rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }))
    )
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
    use std::os::unix::fs::PermissionsExt;
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
    fn a_self_signed_pair_is_made_once_and_again_when_it_has_expired() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.storage.data_dir = dir.path().to_owned();
        let made = Timestamp::from_secs(1_800_000_000);
        let mut seen = Vec::new();
        let mut start_after = |days: u32| {
            acceptor_at(&config, made.plus(DAY * days)).unwrap();
            let both = ["cert.pem", "key.pem"].map(|name| fs::read(dir.path().join("tls").join(name)).unwrap());
            let is_new = !seen.contains(&both);
            seen.push(both);
            is_new
        };
        assert!(start_after(0));
        assert!(!start_after(0));
        assert!(!start_after(789));
        assert!(start_after(791), "30 days before its end");
        assert!(!start_after(792));
        assert!(start_after(5_000));
        let mode = fs::metadata(dir.path().join("tls").join("key.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_certificate_that_somebody_has_put_there_is_not_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = pair(dir.path());
        let pair = KeyPair::generate().unwrap();
        let other = CertificateParams::new(vec!["other.example".to_owned()]).unwrap().self_signed(&pair).unwrap();
        fs::write(&key, pair.serialize_pem()).unwrap();
        fs::write(&cert, other.pem()).unwrap();
        self::pair(dir.path());
        assert_eq!(fs::read_to_string(&cert).unwrap(), other.pem());
    }

    /// The names that clients check it for, with the verifier that they have.
    #[test]
    fn a_self_signed_certificate_is_good_for_this_machine_and_its_address() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.storage.data_dir = dir.path().to_owned();
        config.server.listen = "192.0.2.7:443".parse().unwrap();
        let now = Timestamp::from_secs(1_800_000_000);
        acceptor_at(&config, now).unwrap();
        let certificate = CertificateDer::from_pem_file(config.self_signed_cert()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let time = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()));
        let is_good = |name: &'static str| {
            verifier.verify_server_cert(&certificate, &[], &ServerName::try_from(name).unwrap(), &[], time).is_ok()
        };
        for name in ["localhost", "127.0.0.1", "::1", "192.0.2.7"] {
            assert!(is_good(name), "{name}");
        }
        assert!(!is_good("192.0.2.8") && !is_good("elsewhere.example"));
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
        let locked = dir.path().join("locked.pem");
        fs::write(&locked, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
            .unwrap();
        assert!(fault(&cert, &locked).contains("openssl pkey"));
    }
}
