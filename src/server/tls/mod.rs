//! TLS material: a certificate and key from files, from credentials of systemd, or a self-signed pair that is made in the data
//! directory, kept there, and made again before its end. Each thing that can be wrong with them has its own message. What is
//! in force can be replaced at any time: new connections get the new one, live ones keep theirs.

mod chain;
mod clients;
pub mod handshakes;
pub mod outgoing;
pub mod self_signed;

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::{CipherSuite, ServerConfig};
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

use crate::archive::moments::day;
use crate::config::trusted_file;
use crate::config::{Config, TlsMode, TlsProfile, TlsVersion};
use crate::domain::problem::Problem;
use crate::domain::{Timestamp, pem};
use crate::observability::certificate::{CertificateFacts, Validity, chain_fault, chain_validity, first_end, links};

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
    /// The revocation lists of client certificates are good until then.
    revoked_until: Option<Timestamp>,
    /// The authorities of client certificates,
    authorities: Vec<CertificateFacts>,
    /// and what says whether a client certificate is good.
    clients: Option<Arc<dyn ClientCertVerifier>>,
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

    /// How much time the chain has: that of the certificate in it that has least.
    #[must_use]
    pub fn validity(&self, now: Timestamp) -> Validity {
        chain_validity(&self.chain, now)
    }

    /// The certificate of the chain that ends first.
    #[must_use]
    pub fn first_end(&self) -> Option<&CertificateFacts> {
        first_end(&self.chain)
    }

    /// What there is to say of authorities of client certificates.
    #[must_use]
    pub fn authority_warnings(&self, now: Timestamp) -> Vec<String> {
        clients::warnings(&self.authorities, now)
    }

    /// Why a client certificate that was good when its connection was made is not one any more, if it is not: it was revoked, it is
    /// over, or its authority is not one any more. Where client certificates are not asked for any more, none counts.
    #[must_use]
    pub fn why_not(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> Option<String> {
        let (verifier, (leaf, rest)) = (self.clients.as_ref()?, chain.split_first()?);
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()));
        verifier.verify_client_cert(leaf, rest, now).err().map(|error| error.to_string())
    }

    /// What there is to say of revocation lists that are over.
    #[must_use]
    pub fn revocation_warning(&self, now: Timestamp) -> Option<String> {
        clients::Revoked::warning(self.revoked_until, now)
    }

    /// Whether a file that it was read from is another one now.
    #[must_use]
    pub fn is_outdated(&self) -> bool {
        self.files.is_outdated()
    }

    /// Whether it may take the place of material that is in force.
    ///
    /// # Errors
    /// A certificate that is over does not replace one that is good, nor does a chain with one that is over, nor do revocation
    /// lists.
    pub fn may_replace(&self, other: &Material, now: Timestamp) -> Result<(), Problem> {
        let is_usable = |material: &Material| !matches!(material.validity(now), Validity::Expired | Validity::NotYet);
        if is_usable(other) && !is_usable(self) {
            return Err(Problem::new(
                "the new certificate is not used",
                time_faults(&self.chain, now).join("; "),
                "Use a certificate that is valid now. Until then, the old one stays in use.",
            ));
        }
        match (self.revocation_warning(now), other.revoked_until.filter(|until| *until > now)) {
            (Some(why), Some(_)) => {
                Err(Problem::new("the new revocation lists are not used", why, "Until then, the old ones stay in use."))
            }
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
    let tls = &config.tls;
    let paths = [Some(&place.cert), Some(&place.key), tls.client_ca.as_ref(), tls.client_crl.as_ref()];
    let files = WatchedFiles::new(paths.into_iter().flatten().cloned());
    let provider = Arc::new(provider(tls.profile));
    let ders = read_chain(&place.cert)?;
    // Before the key is read: what is no certificate is told first.
    facts(&ders, &place.cert)?;
    let private_key = read_key(&place.key)?;
    let ders = chain::in_order(&provider, ders, &private_key);
    let chain = facts(&ders, &place.cert)?;
    let revoked = tls.client_crl.as_deref().map(clients::Revoked::read).transpose()?;
    let revoked_until = revoked.as_ref().and_then(|revoked| revoked.until);
    let mut authorities = Vec::new();
    let mut verifier = None;
    if let Some(path) = &tls.client_ca {
        let ders = read_chain(path)?;
        verifier = Some(clients::verifier(path, ders.clone(), revoked, provider.clone())?);
        authorities = facts(&ders, path)?;
    }
    let server = server_config(config, place, provider, (ders, private_key), verifier.clone())?;
    let mut warnings = warnings(&chain, place, now);
    warnings.extend(clients::warnings(&authorities, now));
    warnings.extend(clients::Revoked::warning(revoked_until, now));
    Ok(Material { server: Arc::new(server), chain, warnings, revoked_until, authorities, clients: verifier, files })
}

fn place(config: &Config) -> Result<Option<Place>, Problem> {
    let tls = &config.tls;
    let credentials = if tls.mode == TlsMode::SelfSigned { credentials(config)? } else { None };
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

/// The pair among the credentials of systemd, if there is one.
///
/// # Errors
/// If there is half of one: without a word, clients would get a certificate that nobody has given.
fn credentials(config: &Config) -> Result<Option<[PathBuf; 2]>, Problem> {
    let Some(dir) = &config.credentials_dir else { return Ok(None) };
    let [cert, key] = CREDENTIALS;
    let half = |is: &str, is_not: &str| {
        Problem::new(
            format!("the credential {is} cannot be used"),
            format!("there is no credential {is_not}"),
            format!(
                "Add LoadCredential={is_not}:FILE to the unit (systemctl edit academy-rt), or remove {is} from it."
            ),
        )
    };
    match (dir.join(cert).exists(), dir.join(key).exists()) {
        (true, true) => Ok(Some(CREDENTIALS.map(|name| dir.join(name)))),
        (true, false) => Err(half(cert, key)),
        (false, true) => Err(half(key, cert)),
        (false, false) => Ok(None),
    }
}

/// Makes the server's own pair, if there is none or its time is not now. One that somebody else has put there is left alone.
fn renew(config: &Config, place: &Place, now: Timestamp) -> Result<(), Problem> {
    let failed = |error: io::Error| {
        let what = format!("the certificate {} cannot be created", place.cert.display());
        Problem::new(what, error, "Make the data directory writable, or use --tls-cert and --tls-key.")
    };
    let mut names = self_signed::own_names(config);
    let pair = [place.cert.as_path(), place.key.as_path()];
    match (place.cert.exists(), place.key.exists()) {
        (false, false) => {}
        // A start that was cut off, or half of somebody's pair: the key is not thrown away.
        (false, true) => {
            let pem = self_signed::certify(&names, &pem::plain(&read(&place.key, "key")?), now);
            let pem = pem.map_err(|why| {
                let what = format!("the key {} cannot be used", place.key.display());
                Problem::new(what, why, "Put its certificate beside it as cert.pem, or move the key away.")
            })?;
            return self_signed::write_cert(&place.cert, &pem).map_err(failed);
        }
        // A start that was cut off between the two files of a pair, of which one has taken its name.
        (true, true) if own_facts(&place.cert).is_some() && !self_signed::is_pair(pair) => {
            if let Some(key) = self_signed::key_beside(pair) {
                return self_signed::put_key_back(&key, pair).map_err(failed);
            }
            tracing::warn!(
                "the certificate {} and the key {} of this server do not belong together: another pair is made. Clients that trust \
                 the old certificate must be given the new one",
                place.cert.display(),
                place.key.display()
            );
        }
        (true, has_key) => match own_facts(&place.cert) {
            Some(old) if has_key && old.is_good_until(now, RENEWED_BEFORE) => return Ok(()),
            Some(old) => {
                let is_good = |[cert, key]: &[PathBuf; 2]| {
                    key.exists() && own_facts(cert).is_some_and(|facts| facts.is_good_until(now, RENEWED_BEFORE))
                };
                // A clock that was wrong for a while: who trusts the certificate from before goes on trusting it.
                if let Some([cert, key]) = self_signed::kept_beside(pair).find(is_good) {
                    return self_signed::put_back([&cert, &key], pair).map_err(failed);
                }
                // One that ends by the same clock is of no use any more.
                if has_key && matches!(old.validity(now), Validity::Expired | Validity::NotYet) {
                    self_signed::keep(pair).map_err(failed)?;
                }
                // Names that it was made for stay.
                let more: Vec<String> = old.names.into_iter().filter(|name| !names.contains(name)).collect();
                names.extend(more);
            }
            None if has_key => return Ok(()),
            None => {
                let what = format!("the certificate {} cannot be used", place.cert.display());
                let remedy = "Put its key beside it as key.pem, or move the certificate away.";
                return Err(Problem::new(what, format!("its key {} is not there", place.key.display()), remedy));
            }
        },
    }
    self_signed::make(&names, &place.cert, &place.key, now).map_err(failed)
}

/// What a certificate says of itself, if it is one that this server has made for itself.
fn own_facts(path: &Path) -> Option<CertificateFacts> {
    let der = CertificateDer::from_pem_file(path).ok()?;
    let facts = CertificateFacts::read(&der).ok()?;
    let is_own = facts.is_self_issued && facts.subject == format!("CN={}", self_signed::COMMON_NAME);
    is_own.then_some(facts)
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
    for fault in time_faults(chain, now) {
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

/// Why certificates of a chain are not good at a time.
#[must_use]
pub fn time_faults(chain: &[CertificateFacts], now: Timestamp) -> Vec<String> {
    let fault = |(place, facts): (usize, &CertificateFacts)| {
        let which = match place {
            0 => "it".to_owned(),
            _ => format!("the certificate of '{}' in its chain", facts.subject),
        };
        match facts.validity(now) {
            Validity::Expired => Some(format!("{which} expired on {}", day(facts.not_after))),
            Validity::NotYet => Some(format!("{which} is valid only from {}; check the clock", day(facts.not_before))),
            _ => None,
        }
    };
    links(chain).enumerate().filter_map(fault).collect()
}

/// The names of the roots that this system trusts.
fn system_roots() -> HashSet<String> {
    let roots = rustls_native_certs::load_native_certs().certs;
    roots.iter().filter_map(|der| CertificateFacts::read(der).ok()).map(|facts| facts.subject).collect()
}

fn server_config(
    config: &Config,
    place: &Place,
    provider: Arc<CryptoProvider>,
    (chain, private_key): (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>),
    clients: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<ServerConfig, Problem> {
    let versions: &[&rustls::SupportedProtocolVersion] = match config.tls.min_version {
        TlsVersion::V1_2 => &[&rustls::version::TLS12, &rustls::version::TLS13],
        TlsVersion::V1_3 => &[&rustls::version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions);
    let builder = builder.map_err(|error| Problem::new("TLS cannot be set up", error, "Report this."))?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    let count = chain.len();
    let mut server = builder.with_single_cert(chain, private_key).map_err(|error| {
        let (cert, key) = (place.cert.display(), place.key.display());
        let what = format!("the certificate {cert} and the key {key} cannot be used");
        match error {
            rustls::Error::InconsistentKeys(_) => Problem::new(
                what,
                match count {
                    1 => "the key does not belong to the certificate".to_owned(),
                    _ => {
                        format!("the key does not belong to the certificate, nor to another of the {count} in its file")
                    }
                },
                "Use the private key of this certificate.",
            ),
            error => Problem::new(what, error, "Use a certificate chain and its key in PEM, RSA or ECDSA."),
        }
    })?;
    // Who comes again does half a handshake, however many have come in between: what is needed for it is in the client's ticket. Its keys
    // are in memory alone, are others every six hours, and go with the certificate and with the server.
    server.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| {
        Problem::new("TLS cannot be set up", error, "The system gives no random numbers: look at its log.")
    })?;
    // The upgrade to WebSocket is HTTP/1.1's.
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(server)
}

/// The cipher suites and the key exchanges of a profile, the preferred first. The default has X25519MLKEM768 first: what is
/// recorded today is not read by a quantum computer later. The client's order decides; every client that knows a hybrid one
/// prefers it.
///
/// The profile is AES in GCM with ephemeral ECDH on P-256 and P-384, after version 2 of ITSP.40.062 (Canadian Centre for Cyber
/// Security, 13 October 2020), and SecP256r1MLKEM768: that is P-256 itself, with the secret of ML-KEM (FIPS 203, 2024) behind its
/// own, and no weaker than P-256 alone. Version 2 is older than ML-KEM.
#[must_use]
pub fn provider(profile: TlsProfile) -> CryptoProvider {
    use aws_lc_rs::kx_group::{SECP256R1, SECP256R1MLKEM768, SECP384R1, X25519, X25519MLKEM768};
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![X25519MLKEM768, X25519, SECP256R1MLKEM768, SECP256R1, SECP384R1];
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
        provider.kx_groups = vec![SECP256R1MLKEM768, SECP384R1, SECP256R1];
    }
    provider
}

/// No file of certificates or keys is larger.
const MAX_FILE_BYTES: u64 = 16 << 20;

fn read(path: &Path, what: &str) -> Result<Zeroizing<Vec<u8>>, Problem> {
    trusted_file::read(path, MAX_FILE_BYTES).map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => {
                "Check the path; it is tls.cert, tls.key, tls.client_ca or tls.client_crl in the configuration."
            }
            io::ErrorKind::PermissionDenied => "Make it readable for the user of the server.",
            _ => "Check the file.",
        };
        Problem::new(format!("the {what} {} cannot be read", path.display()), error, remedy)
    })
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let pem = pem::plain(&read(path, "certificate")?);
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
    let pem = pem::plain(&read(path, "key")?);
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
