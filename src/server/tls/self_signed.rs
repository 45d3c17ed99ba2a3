//! A certificate that the server makes for itself: where nobody has given one, and for `init`.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, PublicKeyData,
};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

use crate::config::Config;
use crate::domain::{Timestamp, host};
use crate::observability::certificate::NO_END;

const DAY: Duration = Duration::from_secs(86_400);
/// It is good for so long; Apple's systems refuse one of more days (825), whoever has signed it.
pub const GOOD_FOR: Duration = DAY.saturating_mul(820);
/// It is good from a day before: clocks of clients may be behind.
const GOOD_BEFORE: Duration = DAY;
/// Whom it names: by this the server knows its own again.
pub const COMMON_NAME: &str = "academy-rt";

/// The names that this machine is reached by as far as it knows itself: its own, the loopback's, the address listened on.
#[must_use]
pub fn own_names(config: &Config) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let host = host_name().filter(|host| !names.contains(host));
    names.extend(host);
    let listen = config.server.listen.ip();
    if !listen.is_unspecified() && !names.contains(&listen.to_string()) {
        names.push(listen.to_string());
    }
    names
}

/// This machine's name, if a certificate can have it.
#[must_use]
pub fn host_name() -> Option<String> {
    // Asked of the kernel: in the unit's sandbox there is no /proc/sys.
    host::spelt(rustix::system::uname().nodename().to_str().ok()?).ok()
}

/// Makes a key (mode 0600) and a certificate (0644) for host names and addresses, in PEM. Each takes its name when it is
/// whole; the key first: a certificate that is there has its key.
///
/// # Errors
/// A name that no certificate can have, or what the file system says.
pub fn make(names: &[String], cert: &Path, key: &Path, now: Timestamp) -> Result<(), io::Error> {
    let (certificate, private_key) = make_pem(names, now)?;
    if let Some(dir) = cert.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    write_whole(key, &private_key, 0o600)?;
    write_whole(cert, &certificate, 0o644)
}

/// A certificate and its key as PEM.
///
/// # Errors
/// A name that no certificate can have.
pub fn make_pem(names: &[String], now: Timestamp) -> Result<(String, Zeroizing<String>), io::Error> {
    let pair = KeyPair::generate().map_err(io::Error::other)?;
    Ok((signed(names, &pair, now)?, Zeroizing::new(pair.serialize_pem())))
}

/// A certificate as PEM for a key that is there already, in PEM.
///
/// # Errors
/// It is no key that a certificate can be signed with, or a name that no certificate can have.
pub fn certify(names: &[String], key: &[u8], now: Timestamp) -> Result<String, io::Error> {
    let text = std::str::from_utf8(key).map_err(io::Error::other)?;
    // What the library says has no part of the key in it.
    let pair = KeyPair::from_pem(text).map_err(|_| io::Error::other("it is no private key in PEM"))?;
    signed(names, &pair, now)
}

fn signed(names: &[String], pair: &KeyPair, now: Timestamp) -> Result<String, io::Error> {
    // What reads as an address becomes one.
    let mut params = CertificateParams::new(names.to_vec()).map_err(io::Error::other)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let at = |moment: Timestamp| epoch + Duration::from_secs(moment.min(NO_END).as_secs());
    params.not_before = at(now.minus(GOOD_BEFORE));
    params.not_after = at(now.plus(GOOD_FOR));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, COMMON_NAME);
    let certificate = params.self_signed(pair).map_err(io::Error::other)?;
    Ok(certificate.pem())
}

/// So many pairs are kept that another clock has put out of use.
const KEPT: usize = 4;

/// The places of pairs that are kept beside a pair: a clock that was wrong for a while, and is set right, makes one of them good
/// again.
pub fn kept_beside([cert, key]: [&Path; 2]) -> impl Iterator<Item = [PathBuf; 2]> {
    let (cert, key) = (cert.to_owned(), key.to_owned());
    (1..=KEPT).map(move |number| [&cert, &key].map(|path| path.with_extension(format!("{number}.pem"))))
}

/// Keeps a pair in the first place that is free, or else in the last one.
///
/// # Errors
/// What the file system says.
pub fn keep(pair: [&Path; 2]) -> io::Result<()> {
    let place = kept_beside(pair).find(|[cert, _]| !cert.exists()).or_else(|| kept_beside(pair).last());
    let Some(place) = place else { return Ok(()) };
    // The pair itself stays until another one takes its names.
    for (kept, path) in place.iter().zip(pair) {
        link_anew(path, kept)?;
    }
    Ok(())
}

/// Puts a pair that was kept in the place of this one, which is kept in its place.
///
/// # Errors
/// What the file system says.
pub fn put_back([kept_cert, kept_key]: [&Path; 2], [cert, key]: [&Path; 2]) -> io::Result<()> {
    for (kept, path) in [(kept_key, key), (kept_cert, cert)] {
        let aside = path.with_extension("aside");
        if path.exists() {
            link_anew(path, &aside)?;
        }
        fs::rename(kept, path)?;
        if aside.exists() {
            fs::rename(&aside, kept)?;
        }
    }
    Ok(())
}

/// Whether a key belongs to a certificate.
pub fn is_pair([cert, key]: [&Path; 2]) -> bool {
    let public = || {
        let pem = Zeroizing::new(fs::read(key).ok()?);
        Some(KeyPair::from_pem(std::str::from_utf8(&pem).ok()?).ok()?.subject_public_key_info())
    };
    let certified = || {
        let der = CertificateDer::from_pem_file(cert).ok()?;
        let (_, certificate) = X509Certificate::from_der(&der).ok()?;
        Some(certificate.public_key().raw.to_vec())
    };
    public().is_some_and(|public| Some(public) == certified())
}

/// The key of a certificate among those that are kept beside it.
pub fn key_beside([cert, key]: [&Path; 2]) -> Option<PathBuf> {
    let kept = kept_beside([cert, key]).map(|[_, key]| key);
    [key.with_extension("aside")].into_iter().chain(kept).find(|key| is_pair([cert, key]))
}

/// Gives the certificate of a pair its own key back, and keeps the other key beside it.
///
/// # Errors
/// What the file system says.
pub fn put_key_back(kept: &Path, [_, key]: [&Path; 2]) -> io::Result<()> {
    let other = key.with_extension("other");
    link_anew(key, &other)?;
    fs::rename(kept, key)?;
    fs::rename(other, kept)
}

fn link_anew(path: &Path, link: &Path) -> io::Result<()> {
    match fs::remove_file(link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::hard_link(path, link),
    }
}

/// Writes a certificate (0644), which takes its name when it is whole.
///
/// # Errors
/// What the file system says.
pub fn write_cert(path: &Path, pem: &str) -> io::Result<()> {
    write_whole(path, pem, 0o644)
}

fn write_whole(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let temporary = path.with_extension("new");
    // Left behind by a process that was cut short. A link of this name is removed, and not followed.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}
