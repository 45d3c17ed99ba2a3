//! A token of a stranger is never good.
#![no_main]

use academy_rt::auth::Verifier;
use academy_rt::config::{Config, Secret};
use academy_rt::domain::Timestamp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let verifier = Verifier::new(&Config::default().auth, &Secret::new("a secret that the fuzzer does not know"));
    assert!(verifier.verify(text, Timestamp(1)).is_err());
});
