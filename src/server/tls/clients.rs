//! Certificates of clients: the authorities that may sign them, and what those have revoked.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::archive::moments::day;
use crate::domain::Timestamp;
use crate::domain::pem;
use crate::domain::problem::Problem;
use crate::observability::certificate::{CertificateFacts, Validity};

/// Revocation lists, and until when all of them are good.
pub(super) struct Revoked {
    lists: Vec<CertificateRevocationListDer<'static>>,
    /// The first moment at which one of them is over; `None` if no one says when it is.
    pub(super) until: Option<Timestamp>,
}

impl Revoked {
    /// Reads the lists of a file. One that is over is read: what it revokes is revoked.
    ///
    /// # Errors
    /// If it cannot be read, or has no list.
    pub(super) fn read(path: &Path) -> Result<Revoked, Problem> {
        let failed = |why: String| {
            let what = format!("the revocation lists in {} cannot be used", path.display());
            Problem::new(
                what,
                why,
                "Set tls.client_crl to a file with the lists of all authorities in tls.client_ca, in PEM or DER.",
            )
        };
        let bytes = super::read(path, "revocation list")?;
        // Authorities publish DER (RFC 5280, 4.2.1.13).
        let lists = if bytes.first() == Some(&0x30) {
            vec![CertificateRevocationListDer::from(bytes.to_vec())]
        } else {
            let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&pem::plain(&bytes)).collect();
            lists.map_err(|error| failed(error.to_string()))?
        };
        if lists.is_empty() {
            return Err(failed("it contains no revocation list (-----BEGIN X509 CRL-----)".to_owned()));
        }
        let mut until: Option<Timestamp> = None;
        for list in &lists {
            let (_, list) = CertificateRevocationList::from_der(list).map_err(|error| failed(error.to_string()))?;
            let end = list.next_update().map(|end| u64::try_from(end.timestamp()).unwrap_or_default());
            if let Some(end) = end.map(Timestamp::from_secs) {
                until = Some(until.map_or(end, |until| until.min(end)));
            }
        }
        Ok(Revoked { lists, until })
    }

    /// What to say of lists that are over.
    pub(super) fn warning(until: Option<Timestamp>, now: Timestamp) -> Option<String> {
        until.filter(|until| *until <= now).map(|until| {
            format!(
                "a revocation list in tls.client_crl is over since {}: client certificates are refused until there is a new one. \
                 Get it from the authority, and put it there.",
                day(until)
            )
        })
    }
}

/// What to say of authorities that are over, are not good yet or end soon: the certificates that they have signed are refused then.
pub(super) fn warnings(authorities: &[CertificateFacts], now: Timestamp) -> Vec<String> {
    let warning = |one: &CertificateFacts| {
        let why = match one.validity(now) {
            Validity::Good => return None,
            Validity::Expired => {
                format!("expired on {}: the client certificates that it has signed are refused", day(one.not_after))
            }
            Validity::NotYet => format!(
                "is valid only from {}: the client certificates that it has signed are refused; check the clock",
                day(one.not_before)
            ),
            Validity::Soon | Validity::VerySoon => {
                format!(
                    "expires on {}: from then on the client certificates that it has signed are refused",
                    day(one.not_after)
                )
            }
        };
        Some(format!("the authority '{}' in tls.client_ca {why}. Add its new certificate to the file.", one.subject))
    };
    authorities.iter().filter_map(warning).collect()
}

/// Whoever shows a certificate must have one of these authorities, and must not be revoked. Who shows none is let in: what an
/// administrator may do is another question. With lists, a certificate of an authority without one is refused, and so is every
/// certificate when a list is over.
pub(super) fn verifier(
    path: &Path,
    authorities: Vec<CertificateDer<'static>>,
    revoked: Option<Revoked>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Problem> {
    let failed = |why: String| {
        let what = format!("the authorities of client certificates in {} cannot be used", path.display());
        Problem::new(what, why, "Set tls.client_ca to a file with their certificates in PEM.")
    };
    let mut roots = RootCertStore::empty();
    for der in authorities {
        roots.add(der).map_err(|error| failed(error.to_string()))?;
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).allow_unauthenticated();
    if let Some(revoked) = revoked {
        builder = builder.with_crls(revoked.lists).enforce_revocation_expiration();
    }
    builder.build().map_err(|error| failed(error.to_string()))
}
