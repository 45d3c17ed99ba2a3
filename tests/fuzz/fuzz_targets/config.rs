//! Any text as the configuration file.
#![no_main]

use academy_rt::config::{Sources, load};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let file = Some(("academy-rt.toml".into(), text.to_owned()));
    let _ = load(&Sources { file, env: Default::default(), flags: Vec::new() });
});
