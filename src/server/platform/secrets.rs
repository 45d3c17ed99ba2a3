//! The secrets that calls to the platform are signed with, and the signature: HMAC-SHA256 as the Standard Webhooks
//! specification has it.

use std::path::Path;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use zeroize::Zeroizing;

use crate::config::Webhooks;
use crate::config::trusted_file::{self, Trust};
use crate::domain::problem::Problem;

/// What a secret begins with.
const PREFIX: &str = "whsec_";
/// How many bytes a secret has.
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// How many a new one has.
const NEW_BYTES: usize = 32;
/// So many sign at once, at most.
const MOST: usize = 8;
/// No file of secrets is larger.
const MAX_FILE_BYTES: u64 = 16 << 10;

const REMEDY: &str =
    "Make one with: academy-rt webhook secret FILE; it has one secret a line, whsec_ and 24 to 64 bytes in base64.";

/// The secrets in force, the newest first.
pub(super) struct Secrets(Vec<hmac::Key>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} secrets", self.0.len())
    }
}

impl Secrets {
    /// Reads the file that a configuration names.
    pub(super) fn read(webhooks: &Webhooks, data_dir: &Path) -> Result<Secrets, Problem> {
        let Some(path) = &webhooks.secret_file else {
            return Err(Problem::new("webhooks cannot be signed", "webhooks.secret_file is not set", REMEDY));
        };
        let wrong = |why: String| {
            Problem::new(format!("the file {} of webhooks.secret_file cannot be used", path.display()), why, REMEDY)
        };
        Trust::of_server(data_dir).check(path).map_err(|error| {
            let (what, remedy) =
                (format!("the file {} of webhooks.secret_file cannot be used", path.display()), error.remedy());
            Problem::new(what, error, remedy)
        })?;
        let text = read(path).map_err(wrong)?;
        Secrets::parse(&text).map_err(wrong)
    }

    fn parse(text: &str) -> Result<Secrets, String> {
        let mut keys = Vec::new();
        for (nth, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let encoded =
                line.strip_prefix(PREFIX).ok_or_else(|| format!("line {nth} does not begin with {PREFIX}"))?;
            let bytes = STANDARD.decode(encoded).or_else(|_| STANDARD_NO_PAD.decode(encoded)).map(Zeroizing::new);
            let bytes = bytes.map_err(|_| format!("line {nth} is not base64 behind {PREFIX}"))?;
            if !BYTES.contains(&bytes.len()) {
                return Err(format!("the secret of line {nth} has {} bytes; 24 to 64 are allowed", bytes.len()));
            }
            keys.push(hmac::Key::new(hmac::HMAC_SHA256, &bytes));
        }
        match keys.len() {
            0 => Err("it has no secret".to_owned()),
            many if many > MOST => Err(format!("it has {many} secrets; at most {MOST} sign at once")),
            _ => Ok(Secrets(keys)),
        }
    }

    /// The value of `webhook-signature`: one signature of each secret.
    pub(super) fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let signatures = self.0.iter().map(|key| {
            let mut context = hmac::Context::with_key(key);
            context.update(format!("{id}.{timestamp}.").as_bytes());
            context.update(body);
            format!("v1,{}", STANDARD.encode(context.sign().as_ref()))
        });
        signatures.collect::<Vec<_>>().join(" ")
    }
}

fn read(path: &Path) -> Result<Zeroizing<String>, String> {
    let bytes = trusted_file::read(path, MAX_FILE_BYTES).map_err(|error| error.to_string())?;
    std::str::from_utf8(&bytes).map(|text| Zeroizing::new(text.to_owned())).map_err(|_| "it is no text".to_owned())
}

/// A new secret, as a line of the file.
///
/// # Errors
/// The system has no random numbers.
pub fn new_secret() -> Result<Zeroizing<String>, Problem> {
    let mut bytes = Zeroizing::new([0_u8; NEW_BYTES]);
    getrandom::fill(&mut *bytes)
        .map_err(|error| Problem::new("the system has no random numbers", error, "Check /dev/urandom."))?;
    Ok(Zeroizing::new(format!("{PREFIX}{}", STANDARD.encode(bytes.as_slice()))))
}

/// Looks whether a text is a file of secrets.
///
/// # Errors
/// Why it is none.
pub fn refuse_wrong(text: &str) -> Result<(), String> {
    Secrets::parse(text).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector that the libraries of the specification are tested with.
    #[test]
    fn the_signature_is_that_of_the_specification() {
        let secrets = Secrets::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let signature = secrets.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn each_secret_signs_and_what_is_none_is_refused() {
        let (one, two) = (new_secret().unwrap(), new_secret().unwrap());
        let both = Secrets::parse(&format!("# the new one\n{}\n\n{}\n", *one, *two)).unwrap();
        let alone = Secrets::parse(&two).unwrap();
        let signature = both.sign("msg_1", 1, b"{}");
        assert_eq!(signature.split(' ').nth(1).unwrap(), alone.sign("msg_1", 1, b"{}"));
        for (bad, why) in [
            ("", "no secret"),
            ("# only this", "no secret"),
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "line 1 does not begin with whsec_"),
            ("whsec_!!!!", "not base64"),
            ("whsec_c2hvcnQ=", "has 5 bytes"),
            (&format!("whsec_{}", STANDARD.encode([0; 65])), "has 65 bytes"),
            (&format!("{}\n", *one).repeat(9), "at most 8"),
        ] {
            let error = Secrets::parse(bad).unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
            assert!(!error.contains("MfKQ9r8GKYqrTwjU"), "{error}");
        }
    }
}
