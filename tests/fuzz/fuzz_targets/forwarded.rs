#![no_main]

#[path = "../surfaces.rs"]
mod surfaces;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| surfaces::forwarded(bytes));
