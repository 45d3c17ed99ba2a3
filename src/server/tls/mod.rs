//! TLS material: a certificate and key from files, from credentials of systemd, or a self-signed pair that is made in the data
//! directory, kept there, and made again before its end. Each thing that can be wrong with them has its own message. What is
//! in force can be replaced at any time: new connections get the new one, live ones keep theirs.

pub mod handshakes;
pub mod self_signed;

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CipherSuite, RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

use crate::archive::moments::day;
use crate::config::trusted_file;
use crate::config::{Config, TlsMode, TlsProfile, TlsVersion};
use crate::domain::Timestamp;
use crate::observability::certificate::{CertificateFacts, Validity, chain_fault};

use crate::domain::problem::Problem;
use crate::server::file_watcher::WatchedFiles;

const DAY: Duration = Duration::from_secs(86_400);
/// A certificate of its own is made again so long before its end.
const RENEWED_BEFORE: Duration = DAY.saturating_mul(30);
/// The names of certificate and key among the credentials of systemd (`LoadCredential=tls_cert:/path`).
const CREDENTIALS: [&str; 2] = ["tls_cert", "tls_key"];

/// The TLS of a running server.
#[derive(Debug)]
pub struct Tls(ArcSwap<Material>);

/// A certificate with its key, ready for connections, and what there is to say of it.
#[derive(Debug)]
pub struct Material {
    server: Arc<ServerConfig>,
    /// The chain, the server's own certificate first.
    pub chain: Vec<CertificateFacts>,
    /// What should be fixed.
    pub warnings: Vec<String>,
    /// What it was read from, as it was.
    files: WatchedFiles,
}

/// Where certificate and key are, and whether the server looks after them itself.
struct Place {
    cert: PathBuf,
    key: PathBuf,
    is_own: bool,
}

impl Tls {
    /// TLS with this material.
    #[must_use]
    pub fn new(material: Material) -> Tls {
        Tls(ArcSwap::from_pointee(material))
    }

    /// What does TLS for a new connection.
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.load().server.clone())
    }

    /// What is in force.
    #[must_use]
    pub fn material(&self) -> Arc<Material> {
        self.0.load_full()
    }

    /// The state of TLS in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        let material = self.0.load();
        match material.leaf() {
            Some(leaf) => format!("certificate for {} until {}", leaf.names.join(" "), day(leaf.not_after)),
            None => "on".to_owned(),
        }
    }

    /// Uses other material for new connections.
    pub fn replace(&self, material: Material) {
        self.0.store(Arc::new(material));
    }
}

impl Material {
    /// The server's own certificate.
    #[must_use]
    pub fn leaf(&self) -> Option<&CertificateFacts> {
        self.chain.first()
    }

    /// Whether a file that it was read from is another one now.
    #[must_use]
    pub fn is_outdated(&self) -> bool {
        self.files.is_outdated()
    }

    /// Whether it may take the place of material that is in force.
    ///
    /// # Errors
    /// A certificate that is over does not replace one that is good.
    pub fn may_replace(&self, other: &Material, now: Timestamp) -> Result<(), Problem> {
        let is_usable = |material: &Material| {
            material.leaf().is_some_and(|leaf| !matches!(leaf.validity(now), Validity::Expired | Validity::NotYet))
        };
        match (self.leaf(), is_usable(self) || !is_usable(other)) {
            (Some(leaf), false) => Err(Problem::new(
                "the new certificate is not used",
                time_fault(leaf, now).unwrap_or_default(),
                "Use a certificate that is valid now. Until then, the old one stays in use.",
            )),
            _ => Ok(()),
        }
    }
}

/// TLS for new connections; `None` where it is off. A certificate that is over is used with a warning: somebody may still
/// accept it, and nobody is served by a server that does not start.
///
/// # Errors
/// What is wrong with the certificate or the key, and what to do.
pub fn load(config: &Config, now: Timestamp) -> Result<Option<Material>, Problem> {
    let Some(place) = place(config)? else { return Ok(None) };
    if place.is_own {
        renew(config, &place, now)?;
    }
    read_material(config, &place, now).map(Some)
}

/// As [`load`], and makes nothing: `None` also where the server would make a certificate.
///
/// # Errors
/// As [`load`].
pub fn load_existing(config: &Config, now: Timestamp) -> Result<Option<Material>, Problem> {
    match place(config)? {
        Some(place) if !place.is_own || place.cert.exists() => read_material(config, &place, now).map(Some),
        _ => Ok(None),
    }
}

fn read_material(config: &Config, place: &Place, now: Timestamp) -> Result<Material, Problem> {
    // Before they are read: what changes meanwhile is read again.
    let paths = [Some(&place.cert), Some(&place.key), config.tls.client_ca.as_ref()];
    let files = WatchedFiles::new(paths.into_iter().flatten().cloned());
    let ders = read_chain(&place.cert)?;
    let chain = facts(&ders, &place.cert)?;
    let server = server_config(config, place, ders)?;
    let warnings = warnings(&chain, place, now);
    Ok(Material { server: Arc::new(server), chain, warnings, files })
}

fn place(config: &Config) -> Result<Option<Place>, Problem> {
    let tls = &config.tls;
    let credentials = config.credentials_dir.as_ref().map(|dir| CREDENTIALS.map(|name| dir.join(name)));
    let credentials = credentials.filter(|paths| paths.iter().all(|path| path.exists()));
    match (tls.mode, &tls.cert, &tls.key) {
        (TlsMode::Off, _, _) => Ok(None),
        (TlsMode::Files, Some(cert), Some(key)) => {
            Ok(Some(Place { cert: cert.clone(), key: key.clone(), is_own: false }))
        }
        (TlsMode::Files, _, _) => Err(Problem::new(
            "TLS has no certificate",
            "tls.mode is files, but no file is set",
            "Set tls.cert and tls.key.",
        )),
        (TlsMode::SelfSigned, _, _) => Ok(Some(match credentials {
            Some([cert, key]) => Place { cert, key, is_own: false },
            None => {
                let cert = config.self_signed_cert();
                Place { key: cert.with_file_name("key.pem"), cert, is_own: true }
            }
        })),
    }
}

/// Makes the server's own pair, if there is none or it is near its end. One that somebody else has put there is left alone.
fn renew(config: &Config, place: &Place, now: Timestamp) -> Result<(), Problem> {
    let mut names = self_signed::own_names(config);
    if place.cert.exists() && place.key.exists() {
        let Ok(der) = CertificateDer::from_pem_file(&place.cert) else { return Ok(()) };
        let Ok(old) = CertificateFacts::read(&der) else { return Ok(()) };
        let is_ours = old.is_self_issued && old.subject == format!("CN={}", self_signed::COMMON_NAME);
        if !is_ours || old.not_after > now.plus(RENEWED_BEFORE) {
            return Ok(());
        }
        // Names that it was made for stay.
        let more: Vec<String> = old.names.into_iter().filter(|name| !names.contains(name)).collect();
        names.extend(more);
    }
    self_signed::make(&names, &place.cert, &place.key, now).map_err(|error| {
        let what = format!("the certificate {} cannot be created", place.cert.display());
        Problem::new(what, error, "Make the data directory writable, or use --tls-cert and --tls-key.")
    })
}

fn facts(ders: &[CertificateDer<'static>], path: &Path) -> Result<Vec<CertificateFacts>, Problem> {
    let read: Result<Vec<_>, _> = ders.iter().map(|der| CertificateFacts::read(der)).collect();
    read.map_err(|error| {
        let what = format!("the certificate {} cannot be used", path.display());
        Problem::new(what, error, "It must be an X.509 certificate in PEM: -----BEGIN CERTIFICATE-----.")
    })
}

/// What clients will not like about a certificate that can be used.
fn warnings(chain: &[CertificateFacts], place: &Place, now: Timestamp) -> Vec<String> {
    let mut warnings = Vec::new();
    let Some(leaf) = chain.first() else { return warnings };
    let path = place.cert.display();
    if let Some(fault) = time_fault(leaf, now) {
        warnings.push(format!("the certificate {path}: {fault}. Clients refuse it: put a new one there."));
    }
    if leaf.names.is_empty() {
        warnings.push(format!("the certificate {path} is for no host name (no subjectAltName). Clients refuse it."));
    }
    // Reading the roots of the system takes a while: only where they are asked for.
    if !place.is_own
        && let Some(fault) = chain_fault(chain, |name| system_roots().contains(name))
    {
        warnings.push(format!(
            "the certificate {path}: {fault}. Clients may refuse it: put the certificates of those who have signed it behind \
             it, in their order."
        ));
    }
    warnings
}

/// Why a certificate is not good at a time.
#[must_use]
pub fn time_fault(leaf: &CertificateFacts, now: Timestamp) -> Option<String> {
    match leaf.validity(now) {
        Validity::Expired => Some(format!("it expired on {}", day(leaf.not_after))),
        Validity::NotYet => Some(format!("it is valid only from {}; check the clock", day(leaf.not_before))),
        _ => None,
    }
}

/// The names of the roots that this system trusts.
fn system_roots() -> HashSet<String> {
    let roots = rustls_native_certs::load_native_certs().certs;
    roots.iter().filter_map(|der| CertificateFacts::read(der).ok()).map(|facts| facts.subject).collect()
}

fn server_config(config: &Config, place: &Place, chain: Vec<CertificateDer<'static>>) -> Result<ServerConfig, Problem> {
    let private_key = read_key(&place.key)?;
    let versions: &[&rustls::SupportedProtocolVersion] = match config.tls.min_version {
        TlsVersion::V1_2 => &[&rustls::version::TLS12, &rustls::version::TLS13],
        TlsVersion::V1_3 => &[&rustls::version::TLS13],
    };
    let provider = Arc::new(provider(config.tls.profile));
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions);
    let builder = builder.map_err(|error| Problem::new("TLS cannot be set up", error, "Report this."))?;
    let builder = match &config.tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => builder.with_client_cert_verifier(client_verifier(path, provider)?),
    };
    let mut server = builder.with_single_cert(chain, private_key).map_err(|error| {
        let (cert, key) = (place.cert.display(), place.key.display());
        let what = format!("the certificate {cert} and the key {key} cannot be used");
        match error {
            rustls::Error::InconsistentKeys(_) => Problem::new(
                what,
                "the key does not belong to the certificate",
                "Use the private key of this certificate.",
            ),
            error => Problem::new(what, error, "Use a certificate chain and its key in PEM, RSA or ECDSA."),
        }
    })?;
    // The upgrade to WebSocket is HTTP/1.1's.
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(server)
}

/// ITSP.40.062 (Canadian Centre for Cyber Security) recommends AES in GCM with ephemeral ECDH on the curves of NIST, in every
/// one of its versions; what it merely suffers, or has taken up only lately, is left out here.
fn provider(profile: TlsProfile) -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    if profile == TlsProfile::Itsp40062 {
        provider.cipher_suites.retain(|suite| {
            matches!(
                suite.suite(),
                CipherSuite::TLS13_AES_256_GCM_SHA384
                    | CipherSuite::TLS13_AES_128_GCM_SHA256
                    | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
                    | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                    | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
                    | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
            )
        });
        provider.kx_groups = vec![aws_lc_rs::kx_group::SECP384R1, aws_lc_rs::kx_group::SECP256R1];
    }
    provider
}

/// Whoever shows a certificate must have one of these authorities; the administrators' API asks for one, the others do not.
fn client_verifier(path: &Path, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, Problem> {
    let failed = |why: String| {
        let what = format!("the authorities of client certificates in {} cannot be used", path.display());
        Problem::new(what, why, "Set tls.client_ca to a file with their certificates in PEM.")
    };
    let mut roots = RootCertStore::empty();
    for der in read_chain(path)? {
        roots.add(der).map_err(|error| failed(error.to_string()))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    builder.allow_unauthenticated().build().map_err(|error| failed(error.to_string()))
}

/// No file of certificates or keys is larger.
const MAX_FILE_BYTES: u64 = 16 << 20;

fn read(path: &Path, what: &str) -> Result<Zeroizing<Vec<u8>>, Problem> {
    trusted_file::read(path, MAX_FILE_BYTES).map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => "Check the path; it is tls.cert or tls.key in the configuration.",
            io::ErrorKind::PermissionDenied => "Make it readable for the user of the server.",
            _ => "Check the file.",
        };
        Problem::new(format!("the {what} {} cannot be read", path.display()), error, remedy)
    })
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let pem = read(path, "certificate")?;
    let what = || format!("the certificate {} cannot be used", path.display());
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.map_err(|error| Problem::new(what(), error, "It must be PEM: -----BEGIN CERTIFICATE-----."))?;
    if chain.is_empty() {
        let why = "it contains no certificate";
        return Err(Problem::new(what(), why, "It must be PEM: -----BEGIN CERTIFICATE-----."));
    }
    Ok(chain)
}

/// Both forms of a key with a passphrase have it in a heading.
const PASSPHRASE: &[u8] = b"ENCRYPTED";

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, Problem> {
    let pem = read(path, "key")?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        let what = format!("the key {} cannot be used", path.display());
        let has_passphrase = pem.windows(PASSPHRASE.len()).any(|part| part == PASSPHRASE);
        if has_passphrase {
            let remedy =
                "Remove the passphrase (openssl pkey -in KEY -out KEY.plain), and let only the user of the server read the new file.";
            return Problem::new(what, "it has a passphrase", remedy);
        }
        Problem::new(what, "it contains no private key", "It must be PEM: -----BEGIN PRIVATE KEY-----.")
    })
}

#[cfg(test)]
mod tests;
