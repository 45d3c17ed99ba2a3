//! What a TLS certificate says of itself: its names, its time, who has signed it. For the status, the warnings ahead of its
//! end, and `doctor`. It verifies no signature: clients do that, with the verifier that they have.

use std::net::IpAddr;
use std::time::Duration;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::domain::Timestamp;

/// The last second that a certificate can name: it means that there is no end.
pub const NO_END: Timestamp = Timestamp::LAST;
const DAY: Duration = Duration::from_secs(86_400);
/// An end so near is worth a warning,
pub const SOON: Duration = DAY.saturating_mul(30);
/// and so near an alarm.
pub const VERY_SOON: Duration = DAY.saturating_mul(7);

/// One certificate of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The names and addresses that it is for.
    pub names: Vec<String>,
    /// Whom it names.
    pub subject: String,
    /// Who has signed it.
    pub issuer: String,
    /// It is good from then on,
    pub not_before: Timestamp,
    /// and until then.
    pub not_after: Timestamp,
    /// Whether it has signed itself.
    pub is_self_issued: bool,
}

/// How much time a certificate has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// It is not good yet.
    NotYet,
    /// It is good for longer than 30 days.
    Good,
    /// It ends within 30 days.
    Soon,
    /// It ends within 7 days.
    VerySoon,
    /// It is over.
    Expired,
}

/// What does not fit in a chain of certificates.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainFault {
    /// A certificate is not followed by the one that has signed it.
    #[error("the certificate of '{subject}' was signed by '{issuer}', and the next one in the file is of '{next}'")]
    Order {
        /// Whose it is.
        subject: String,
        /// Who has signed it.
        issuer: String,
        /// What comes instead.
        next: String,
    },
    /// The certificate is alone, and who has signed it is no root that anybody knows.
    #[error(
        "the chain is incomplete: '{issuer}', who has signed the certificate, is neither in the file nor a root of this system"
    )]
    Incomplete {
        /// Who is missing.
        issuer: String,
    },
}

impl CertificateFacts {
    /// Reads a certificate.
    ///
    /// # Errors
    /// Why it is none.
    pub fn read(der: &[u8]) -> Result<CertificateFacts, String> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        let alternative = certificate.subject_alternative_name().map_err(|error| error.to_string())?;
        let names =
            alternative.map_or_else(Vec::new, |names| names.value.general_names.iter().filter_map(name).collect());
        let validity = certificate.validity();
        Ok(CertificateFacts {
            names,
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            not_before: time(validity.not_before.timestamp()),
            not_after: time(validity.not_after.timestamp()),
            is_self_issued: certificate.subject().as_raw() == certificate.issuer().as_raw(),
        })
    }

    /// When it ends; one that ends with the calendar never does (RFC 5280, 4.1.2.5).
    fn end(&self) -> Timestamp {
        if self.not_after >= NO_END { Timestamp(u64::MAX) } else { self.not_after }
    }

    /// How much time it has.
    #[must_use]
    pub fn validity(&self, now: Timestamp) -> Validity {
        let end = self.end();
        if now >= end {
            Validity::Expired
        } else if now < self.not_before {
            Validity::NotYet
        } else if now.plus(VERY_SOON) >= end {
            Validity::VerySoon
        } else if now.plus(SOON) >= end {
            Validity::Soon
        } else {
            Validity::Good
        }
    }

    /// Whether it is good now, and for so long from now on.
    #[must_use]
    pub fn is_good_until(&self, now: Timestamp, least: Duration) -> bool {
        now >= self.not_before && now.plus(least) < self.end()
    }

    /// The whole days that it has left; 0 when it is over.
    #[must_use]
    pub fn days_left(&self, now: Timestamp) -> u64 {
        now.until(self.not_after).as_secs() / DAY.as_secs()
    }

    /// Whether it is for a host name or an address (RFC 6125: a `*` stands for one whole first label).
    #[must_use]
    pub fn is_for(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.');
        self.names.iter().any(|name| match name.strip_prefix("*.") {
            Some(domain) => host.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(domain)),
            None => name.eq_ignore_ascii_case(host),
        })
    }
}

/// The certificates of a chain that clients look at, the server's own first: a root that is sent along is one that they have, or
/// do not trust.
pub fn links(chain: &[CertificateFacts]) -> impl Iterator<Item = &CertificateFacts> {
    let others = chain.iter().skip(1).filter(|facts| !facts.is_self_issued);
    chain.first().into_iter().chain(others)
}

/// The certificate of a chain that ends first: the chain ends with it.
#[must_use]
pub fn first_end(chain: &[CertificateFacts]) -> Option<&CertificateFacts> {
    links(chain).min_by_key(|facts| facts.not_after)
}

/// How much time a chain has: that of the certificate in it that has least. An empty one is over.
#[must_use]
pub fn chain_validity(chain: &[CertificateFacts], now: Timestamp) -> Validity {
    let rank = |validity: &Validity| match validity {
        Validity::Good => 0,
        Validity::Soon => 1,
        Validity::VerySoon => 2,
        Validity::NotYet => 3,
        Validity::Expired => 4,
    };
    links(chain).map(|facts| facts.validity(now)).max_by_key(rank).unwrap_or(Validity::Expired)
}

/// What does not fit in a chain, the server's own certificate first. `is_root` says whether this system knows somebody as a
/// root. A chain that has an issuing authority is whole also where its root is none of this system: clients of a private authority
/// have that root, and no server need send it. (Whether another authority between the two is missing, nobody can see here.)
#[must_use]
pub fn chain_fault(chain: &[CertificateFacts], is_root: impl Fn(&str) -> bool) -> Option<ChainFault> {
    for (one, next) in chain.iter().zip(chain.iter().skip(1)) {
        if one.issuer != next.subject {
            return Some(ChainFault::Order {
                subject: one.subject.clone(),
                issuer: one.issuer.clone(),
                next: next.subject.clone(),
            });
        }
    }
    let last = chain.last()?;
    let is_complete = chain.len() > 1 || last.is_self_issued || is_root(&last.issuer);
    (!is_complete).then(|| ChainFault::Incomplete { issuer: last.issuer.clone() })
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let address = match <[u8; 4]>::try_from(*bytes) {
                Ok(v4) => IpAddr::from(v4),
                Err(_) => IpAddr::from(<[u8; 16]>::try_from(*bytes).ok()?),
            };
            Some(address.to_string())
        }
        _ => None,
    }
}

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_secs(u64::try_from(seconds).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

    use super::*;

    fn params(name: &str, names: &[&str]) -> CertificateParams {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2027, 1, 1);
        params
    }

    fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
        let mut params = params(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    #[test]
    fn names_addresses_and_times_are_read() {
        let pair = KeyPair::generate().unwrap();
        let made = params("leaf", &["rt.example.ca", "*.apps.example.ca", "192.0.2.7", "2001:db8::7"]);
        let facts = CertificateFacts::read(made.self_signed(&pair).unwrap().der()).unwrap();
        assert_eq!(facts.names, ["rt.example.ca", "*.apps.example.ca", "192.0.2.7", "2001:db8::7"]);
        assert!(facts.is_self_issued);
        for good in ["rt.example.ca", "RT.example.ca.", "a.apps.example.ca", "192.0.2.7", "2001:db8::7"] {
            assert!(facts.is_for(good), "{good}");
        }
        for bad in ["example.ca", "a.b.apps.example.ca", "apps.example.ca", "192.0.2.8", ""] {
            assert!(!facts.is_for(bad), "{bad}");
        }
        let end = facts.not_after;
        let before = |days: u32| Timestamp(end.0 - u64::from(days) * 86_400_000);
        assert_eq!(facts.validity(before(31)), Validity::Good);
        assert_eq!(facts.validity(before(30)), Validity::Soon);
        assert_eq!(facts.validity(before(7)), Validity::VerySoon);
        assert_eq!(facts.validity(end), Validity::Expired);
        assert_eq!(facts.validity(Timestamp(1)), Validity::NotYet);
        assert_eq!(facts.days_left(before(12)), 12);
        assert!(CertificateFacts::read(b"nonsense").is_err());
    }

    #[test]
    fn a_chain_out_of_order_or_incomplete_is_told_apart_from_a_whole_one() {
        let (root, other) = (authority("root"), authority("other"));
        let mut middle = params("middle", &[]);
        middle.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let middle = CertifiedIssuer::signed_by(middle, KeyPair::generate().unwrap(), &root).unwrap();
        let pair = KeyPair::generate().unwrap();
        let leaf = params("leaf", &["rt.example.ca"]).signed_by(&pair, &middle).unwrap();
        let read = |der: &[u8]| CertificateFacts::read(der).unwrap();
        let (leaf, middle) = (read(leaf.der()), read(middle.as_ref().der()));
        let (root, other) = (read(root.as_ref().der()), read(other.as_ref().der()));
        let fault = |chain: &[&CertificateFacts], known: &str| {
            let chain: Vec<CertificateFacts> = chain.iter().map(|facts| (*facts).clone()).collect();
            chain_fault(&chain, |name| name == known)
        };
        assert_eq!(fault(&[&leaf, &middle], "CN=root"), None, "the system knows the root");
        assert_eq!(fault(&[&leaf, &middle], ""), None, "a private authority, whose root the clients have");
        assert_eq!(fault(&[&leaf, &middle, &root], ""), None, "the root is in the file");
        assert_eq!(fault(&[&leaf], "CN=root"), Some(ChainFault::Incomplete { issuer: "CN=middle".into() }));
        assert!(
            matches!(fault(&[&leaf, &other], "CN=root"), Some(ChainFault::Order { next, .. }) if next == "CN=other")
        );
        assert!(matches!(fault(&[&middle, &leaf], "CN=root"), Some(ChainFault::Order { .. })));
        assert_eq!(fault(&[&root], ""), None, "self-signed");
    }
}
