//! A chain of certificates as it is sent (RFC 8446, 4.4.2): the one that the key belongs to first, then who has signed each. A
//! file that has them in another order, or twice, means the same chain, and is put in order.

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::SigningKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use rustls::crypto::CryptoProvider;

/// The certificates of a file in their order. Which is first, the key says; if it belongs to none, the order stays, and whoever
/// uses the chain finds out. Certificates that nobody in the chain was signed by come last.
pub(super) fn in_order(
    provider: &CryptoProvider,
    chain: Vec<CertificateDer<'static>>,
    key: &PrivateKeyDer<'static>,
) -> Vec<CertificateDer<'static>> {
    let signing = provider.key_provider.load_private_key(key.clone_key()).ok();
    let Some(public) = signing.as_deref().and_then(SigningKey::public_key) else { return chain };
    let mut rest: Vec<Named> = Vec::new();
    for der in chain.iter() {
        let Some(named) = Named::read(der) else { return chain };
        if !rest.iter().any(|known| known.der == named.der) {
            rest.push(named);
        }
    }
    let Some(leaf) = rest.iter().position(|named| named.key == public.as_ref()) else { return chain };
    let mut ordered = vec![rest.remove(leaf)];
    while let Some(issuer) = ordered.last().filter(|last| last.issuer != last.subject).map(|last| last.issuer.clone())
        && let Some(next) = rest.iter().position(|named| named.subject == issuer)
    {
        ordered.push(rest.remove(next));
    }
    ordered.append(&mut rest);
    ordered.into_iter().map(|named| named.der).collect()
}

/// A certificate with what its place is found by, each as its DER.
struct Named {
    der: CertificateDer<'static>,
    subject: Vec<u8>,
    issuer: Vec<u8>,
    key: Vec<u8>,
}

impl Named {
    fn read(der: &CertificateDer<'static>) -> Option<Named> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        Some(Named {
            der: der.clone(),
            subject: certificate.subject().as_raw().to_vec(),
            issuer: certificate.issuer().as_raw().to_vec(),
            key: certificate.public_key().raw.to_vec(),
        })
    }
}
