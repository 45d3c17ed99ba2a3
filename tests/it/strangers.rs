//! Bytes of strangers, quickly: the seeds of the fuzz targets and thousands of mutations of them, through the same functions.
//! The long suite has libFuzzer look further.

use std::fs;
use std::path::{Path, PathBuf};

use crate::surfaces;

/// Mutations of the seeds of one surface.
const MUTATIONS: usize = 4_000;
/// No seed is larger: they are read by every run.
const MAX_SEED_BYTES: u64 = 4_096;
/// What structured bytes have in them.
const MORSELS: [&[u8]; 16] = [
    b"\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"\"",
    b"\\u0000",
    b"{",
    b"[[[[[[[[",
    b"}",
    b".",
    b"-1",
    b"1e400",
    b"9007199254740993",
    b"user:",
    "\u{202e}".as_bytes(),
    "\u{ff35}".as_bytes(),
    b"%00",
];

/// The seeds of a surface, in the order of their names.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let mut paths: Vec<PathBuf> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = paths.iter().map(|path| {
        assert!(fs::metadata(path).unwrap().len() <= MAX_SEED_BYTES, "{} is large for a seed", path.display());
        fs::read(path).unwrap()
    });
    read.collect()
}

/// The same numbers on every run: what fails once fails again.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }
}

fn mutate(bytes: &mut Vec<u8>, other: &[u8], numbers: &mut Numbers) {
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(bytes.len() + 1);
        match numbers.below(6) {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => bytes[at] ^= 1 << numbers.below(8),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            3 => drop(bytes.splice(at..at, other[numbers.below(other.len() + 1)..].iter().copied())),
            4 if at < bytes.len() => bytes[at] = numbers.below(256) as u8,
            _ => drop(bytes.splice(at..at, MORSELS[numbers.below(MORSELS.len())].iter().copied())),
        }
    }
}

#[test]
fn what_strangers_send_is_refused_or_read_and_never_a_panic() {
    std::thread::scope(|scope| {
        for (name, surface) in surfaces::ALL {
            scope.spawn(move || {
                let seeds = seeds(name);
                assert!(seeds.len() >= 3, "{name} has few seeds");
                seeds.iter().for_each(|seed| surface(seed));
                let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
                for _ in 0..MUTATIONS {
                    let mut bytes = seeds[numbers.below(seeds.len())].clone();
                    mutate(&mut bytes, &seeds[numbers.below(seeds.len())], &mut numbers);
                    surface(&bytes);
                }
            });
        }
    });
}

#[test]
fn a_fuzz_target_has_its_seeds_and_its_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    for (name, _) in surfaces::ALL {
        assert!(manifest.contains(&format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"")), "{name}");
        assert!(
            fs::read_to_string(root.join(format!("fuzz_targets/{name}.rs")))
                .unwrap()
                .contains(&format!("surfaces::{name}("))
        );
    }
    assert_eq!(manifest.matches("[[bin]]").count(), surfaces::ALL.len());
}
