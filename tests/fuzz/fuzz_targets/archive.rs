//! A backup of a stranger: refused or read, never a panic, never much memory.
#![no_main]

use academy_rt::ops::archive;
use academy_rt::store::rows::Digests;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut file = b"academy-rt backup\n".to_vec();
    file.extend_from_slice(bytes);
    for input in [bytes, file.as_slice()] {
        let _ = archive::read(&mut { input }, 2, &mut Digests::default(), &mut |_, _| {});
    }
});
