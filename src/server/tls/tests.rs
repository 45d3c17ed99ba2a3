//! Certificates good and bad, made for the occasion.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{ServerName, UnixTime};

use crate::server::tls::*;

const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn config(dir: &Path) -> Config {
    let mut config = Config::default();
    config.storage.data_dir = dir.to_owned();
    config
}

fn with_files(cert: &Path, key: &Path) -> Config {
    let mut config = Config::default();
    config.tls.mode = TlsMode::Files;
    config.tls.cert = Some(cert.to_owned());
    config.tls.key = Some(key.to_owned());
    config
}

/// A pair made at a time, in a directory.
fn pair(dir: &Path, at: Timestamp) -> (PathBuf, PathBuf) {
    let (cert, key) = (dir.join("c.pem"), dir.join("k.pem"));
    self_signed::make(&["rt.example.ca".to_owned()], &cert, &key, at).unwrap();
    (cert, key)
}

fn loaded(config: &Config, now: Timestamp) -> Material {
    load(config, now).unwrap().unwrap()
}

#[test]
fn a_self_signed_pair_is_made_once_and_again_before_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut seen = Vec::new();
    let mut start_after = |days: u32| {
        loaded(&config(dir.path()), NOW.plus(DAY * days));
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
fn a_pair_that_is_made_again_keeps_the_names_of_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let cert = config.self_signed_cert();
    self_signed::make(&["rt.example.ca".to_owned()], &cert, &cert.with_file_name("key.pem"), NOW).unwrap();
    assert_eq!(loaded(&config, NOW).leaf().unwrap().names, ["rt.example.ca"]);
    let renewed = loaded(&config, NOW.plus(DAY * 800));
    let leaf = renewed.leaf().unwrap();
    assert!(leaf.is_for("rt.example.ca") && leaf.is_for("localhost") && leaf.is_for("127.0.0.1"), "{leaf:?}");
    assert_eq!(leaf.validity(NOW.plus(DAY * 800)), Validity::Good);
}

#[test]
fn a_certificate_that_somebody_has_put_there_is_not_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let cert = config.self_signed_cert();
    fs::create_dir_all(cert.parent().unwrap()).unwrap();
    let pair = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["other.example".to_owned()]).unwrap();
    let other = params.self_signed(&pair).unwrap();
    fs::write(cert.with_file_name("key.pem"), pair.serialize_pem()).unwrap();
    fs::write(&cert, other.pem()).unwrap();
    loaded(&config, NOW);
    assert_eq!(fs::read_to_string(&cert).unwrap(), other.pem());
}

/// The names that clients check it for, with the verifier that they have.
#[test]
fn a_self_signed_certificate_is_good_for_this_machine_and_its_address() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.server.listen = "192.0.2.7:443".parse().unwrap();
    loaded(&config, NOW);
    let certificate = CertificateDer::from_pem_file(config.self_signed_cert()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let time = UnixTime::since_unix_epoch(Duration::from_secs(NOW.as_secs()));
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
    let ((cert, key), (_, other_key)) = (pair(dir.path(), NOW), pair(other.path(), NOW));
    let fault = |cert: &Path, key: &Path| load(&with_files(cert, key), NOW).unwrap_err().to_string();
    assert!(load(&with_files(&cert, &key), NOW).is_ok());
    assert!(fault(&cert, &other_key).contains("does not belong to the certificate"));
    assert!(fault(&dir.path().join("absent"), &key).contains("cannot be read"));
    assert!(fault(&key, &key).contains("contains no certificate"));
    assert!(fault(&cert, &cert).contains("contains no private key"));
    let locked = dir.path().join("locked.pem");
    fs::write(&locked, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n").unwrap();
    assert!(fault(&cert, &locked).contains("openssl pkey"));
    let torn = dir.path().join("torn.pem");
    fs::write(&torn, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    assert!(fault(&torn, &key).contains("X.509"));
    let mut with_ca = with_files(&cert, &key);
    with_ca.tls.client_ca = Some(torn);
    assert!(load(&with_ca, NOW).unwrap_err().to_string().contains("tls.client_ca"));
}

#[test]
fn one_that_is_over_is_used_with_a_warning_and_replaces_no_good_one() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (old, new) = (pair(dir.path(), NOW), pair(other.path(), NOW.plus(DAY * 900)));
    let later = NOW.plus(DAY * 900);
    let expired = loaded(&with_files(&old.0, &old.1), later);
    assert!(expired.warnings.iter().any(|warning| warning.contains("it expired on 2029-")), "{expired:?}");
    let good = loaded(&with_files(&new.0, &new.1), later);
    assert!(good.warnings.is_empty(), "{:?}", good.warnings);
    assert!(expired.may_replace(&good, later).unwrap_err().to_string().contains("expired"));
    assert!(good.may_replace(&expired, later).is_ok() && good.may_replace(&good, later).is_ok());
    assert!(expired.may_replace(&expired, later).is_ok(), "nothing is lost");
    let early = loaded(&with_files(&new.0, &new.1), NOW);
    assert!(early.warnings.iter().any(|warning| warning.contains("check the clock")));
}

#[test]
fn an_incomplete_chain_is_used_with_a_warning_that_names_who_is_missing() {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
    let dir = tempfile::tempdir().unwrap();
    let authority = |name: &str| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    };
    let key = || KeyPair::generate().unwrap();
    let root = CertifiedIssuer::self_signed(authority("Department Root CA"), key()).unwrap();
    let authority = CertifiedIssuer::signed_by(authority("Department Issuing CA"), key(), &root).unwrap();
    let pair = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["rt.example.ca".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&pair, &authority).unwrap();
    let (cert, key) = (dir.path().join("c.pem"), dir.path().join("k.pem"));
    fs::write(&key, pair.serialize_pem()).unwrap();
    fs::write(&cert, leaf.pem()).unwrap();
    let alone = loaded(&with_files(&cert, &key), NOW);
    assert!(alone.warnings.iter().any(|warning| warning.contains("'CN=Department Issuing CA'")), "{alone:?}");
    fs::write(&cert, format!("{}{}", leaf.pem(), authority.as_ref().pem())).unwrap();
    assert!(alone.is_outdated());
    let whole = loaded(&with_files(&cert, &key), NOW);
    assert!(whole.warnings.is_empty() && !whole.is_outdated(), "{:?}", whole.warnings);
}

#[test]
fn credentials_of_the_service_manager_are_used_where_nothing_is_configured() {
    let (dir, credentials) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (cert, key) = pair(dir.path(), NOW);
    let mut config = config(dir.path());
    config.credentials_dir = Some(credentials.path().to_owned());
    assert!(loaded(&config, NOW).leaf().unwrap().is_for("localhost"), "there are none");
    fs::copy(&cert, credentials.path().join("tls_cert")).unwrap();
    fs::copy(&key, credentials.path().join("tls_key")).unwrap();
    assert_eq!(loaded(&config, NOW).leaf().unwrap().names, ["rt.example.ca"]);
}

#[test]
fn the_canadian_profile_has_aes_gcm_and_curves_of_nist_alone() {
    let provider = provider(TlsProfile::Itsp40062);
    let suites: Vec<String> = provider.cipher_suites.iter().map(|suite| format!("{:?}", suite.suite())).collect();
    assert_eq!(suites.len(), 6);
    assert!(suites.iter().all(|name| name.contains("AES") && name.contains("GCM")), "{suites:?}");
    let groups: Vec<String> = provider.kx_groups.iter().map(|group| format!("{:?}", group.name())).collect();
    assert_eq!(groups, ["secp256r1MLKEM768", "secp384r1", "secp256r1"]);
}

#[test]
fn the_default_prefers_the_hybrid_key_exchange() {
    let groups = provider(TlsProfile::Default).kx_groups;
    assert_eq!(format!("{:?}", groups[0].name()), "X25519MLKEM768");
}
