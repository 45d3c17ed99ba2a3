//! The SDK as npm packages, made of the files that the binary carries: the same bytes on every machine, and nothing but cargo needed
//! for it. A package has each module twice, as it is written and for `require`.

use std::sync::LazyLock;

use bytes::Bytes;

/// A package: its name and its files, by the names that they have in it.
struct Package {
    name: &'static str,
    files: &'static [(&'static str, &'static str)],
}

const LICENSE: (&str, &str) = ("LICENSE", include_str!("../../../LICENSE"));

const PACKAGES: [Package; 2] = [
    Package {
        name: "academy-rt-client",
        files: &[
            LICENSE,
            ("README.md", include_str!("../../../assets/sdk/npm/client/README.md")),
            ("academy-rt.d.ts", include_str!("../../../assets/sdk/academy-rt.d.ts")),
            ("academy-rt.js", include_str!("../../../assets/sdk/academy-rt.js")),
            ("index.d.ts", include_str!("../../../assets/sdk/npm/client/index.d.ts")),
            ("index.js", include_str!("../../../assets/sdk/npm/client/index.js")),
            ("package.json", include_str!("../../../assets/sdk/npm/client/package.json")),
            ("react.d.ts", include_str!("../../../assets/sdk/npm/client/react.d.ts")),
            ("react.js", include_str!("../../../assets/sdk/npm/client/react.js")),
            ("testing.d.ts", include_str!("../../../assets/sdk/npm/client/testing.d.ts")),
            ("testing.js", include_str!("../../../assets/sdk/npm/client/testing.js")),
        ],
    },
    Package {
        name: "academy-rt-broadcast",
        files: &[
            LICENSE,
            ("README.md", include_str!("../../../assets/sdk/npm/broadcast/README.md")),
            ("broadcast-service.d.ts", include_str!("../../../assets/sdk/broadcast-service.d.ts")),
            ("broadcast-service.js", include_str!("../../../assets/sdk/broadcast-service.js")),
            ("package.json", include_str!("../../../assets/sdk/npm/broadcast/package.json")),
        ],
    },
];

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The time of every file, as npm itself writes it.
const MODIFIED: u64 = 499_162_500;
const BLOCK: usize = 512;

/// The packages by their file names. They are made when somebody asks for the first of them.
static MADE: LazyLock<Vec<(String, Bytes)>> = LazyLock::new(|| {
    let made = |package: &Package| (format!("{}-{VERSION}.tgz", package.name), Bytes::from(archive(package)));
    PACKAGES.iter().map(made).collect()
});

/// The packages: their file names and their bytes.
pub fn packages() -> impl Iterator<Item = (&'static str, Bytes)> {
    MADE.iter().map(|(name, bytes)| (name.as_str(), bytes.clone()))
}

/// The file names of the packages, with the version and without.
pub(super) fn names() -> impl Iterator<Item = String> {
    PACKAGES.iter().flat_map(|package| [format!("{}-{VERSION}.tgz", package.name), format!("{}.tgz", package.name)])
}

/// A package by its file name, with the version or without.
pub(super) fn find(name: &str) -> Option<Bytes> {
    let stem = name.strip_suffix(".tgz")?;
    let stem = stem.strip_suffix(VERSION).and_then(|stem| stem.strip_suffix('-')).unwrap_or(stem);
    let at = PACKAGES.iter().position(|package| package.name == stem)?;
    MADE.get(at).map(|(_, bytes)| bytes.clone())
}

fn archive(package: &Package) -> Vec<u8> {
    let mut tar = Vec::new();
    for (name, text) in package.files {
        let text = text.replace("@VERSION@", VERSION);
        add(&mut tar, name, text.as_bytes());
        if let Some(stem) = name.strip_suffix(".d.ts") {
            add(&mut tar, &format!("{stem}.d.cts"), for_require(&text).as_bytes());
        } else if let Some(stem) = name.strip_suffix(".js") {
            add(&mut tar, &format!("{stem}.cjs"), required(&text).as_bytes());
        }
    }
    tar.resize(tar.len() + 2 * BLOCK, 0);
    gzip(&tar)
}

/// References to the other files, by the names that they have for `require`.
fn for_require(text: &str) -> String {
    let lines = text.lines().map(|line| match line.contains(" from './") {
        true => line.replace(".js';", ".cjs';"),
        false => line.to_owned(),
    });
    lines.map(|line| line + "\n").collect()
}

/// A module as a script for `require`. Its imports are lines of names; its exports are declarations, or a line of names at its end.
fn required(text: &str) -> String {
    let mut script = "'use strict';\n\n".to_owned();
    let mut exported = Vec::new();
    for line in for_require(text).lines() {
        if let Some((names, from)) = line.strip_prefix("import {").and_then(|rest| rest.split_once("} from ")) {
            let names = names.replace(" as ", ": ");
            script += &format!("const {{{names}}} = require({});\n", from.trim_end_matches(';'));
        } else if let Some(names) = line.strip_prefix("export {") {
            exported.extend(names.trim_end_matches("};").split(',').map(|name| name.trim().to_owned()));
        } else if let Some(declaration) = line.strip_prefix("export ") {
            let mut words = declaration.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '$');
            let name = words.find(|word| !matches!(*word, "async" | "function" | "class" | "const" | "let"));
            exported.extend(name.map(ToOwned::to_owned));
            script += declaration;
            script += "\n";
        } else {
            script += line;
            script += "\n";
        }
    }
    script += &format!("module.exports = {{ {} }};\n", exported.join(", "));
    script
}

/// Adds a file (POSIX.1-1988, ustar).
fn add(tar: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    let mut header = Vec::with_capacity(BLOCK);
    let mut field = |text: &str, length: usize| {
        header.extend(text.bytes().take(length));
        header.resize(header.len() + length.saturating_sub(text.len()), 0);
    };
    field(&format!("package/{name}"), 100);
    field("0000644", 8);
    field("0000000", 8);
    field("0000000", 8);
    field(&format!("{:011o}", bytes.len()), 12);
    field(&format!("{MODIFIED:011o}"), 12);
    // The sum of the header is made as if these were spaces.
    field("        ", 8);
    field("0", 1);
    field("", 100);
    field("ustar", 6);
    field("00", 2);
    field("", BLOCK - 265);
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    let sum = format!("{sum:06o}\0 ");
    header.splice(148..156, sum.bytes());
    tar.extend(header);
    tar.extend(bytes);
    tar.resize(tar.len().next_multiple_of(BLOCK), 0);
}

/// Bytes as gzip (RFC 1952) in blocks that are stored: what packs smaller packs differently on each machine and in each version.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut blocks = bytes.chunks(usize::from(u16::MAX)).peekable();
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        packed.push(u8::from(blocks.peek().is_none()));
        packed.extend(length.to_le_bytes());
        packed.extend((!length).to_le_bytes());
        packed.extend(block);
    }
    packed.extend(crc32(bytes).to_le_bytes());
    packed.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    packed
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ if sum & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_sum_is_that_of_the_standard() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn a_module_becomes_a_script_for_require() {
        let script = required(
            "// x\nimport { a, b as c } from 'react';\nimport { d } from './index.js';\nexport async function f() {}\nexport const g = 1;\nexport class H extends a {}\n\nexport { c, d };\n",
        );
        assert_eq!(
            script,
            "'use strict';\n\n// x\nconst { a, b: c } = require('react');\nconst { d } = require('./index.cjs');\nasync function f() {}\nconst g = 1;\nclass H extends a {}\n\nmodule.exports = { f, g, H, c, d };\n"
        );
    }

    #[test]
    fn every_module_of_a_package_is_one_that_can_be_made_a_script() {
        for (name, text) in PACKAGES.iter().flat_map(|package| package.files) {
            if name.ends_with(".js") {
                let script = required(text);
                let left = script.lines().find(|line| line.starts_with("import ") || line.starts_with("export "));
                assert_eq!(left, None, "{name}");
                assert!(!script.contains("module.exports = {  }"), "{name}");
            }
            for line in for_require(text).lines().filter(|_| name.ends_with(".d.ts")) {
                assert!(!line.contains(" from './") || line.ends_with(".cjs';"), "{name}: {line}");
            }
        }
    }

    #[test]
    fn a_package_has_two_names_and_is_the_same_each_time() {
        for (package, (name, bytes)) in PACKAGES.iter().zip(packages()) {
            assert_eq!(find(name), Some(bytes.clone()));
            assert_eq!(find(&format!("{}.tgz", package.name)), Some(bytes.clone()));
            assert_eq!(archive(package), bytes);
            assert_eq!(find(&format!("{}-0.0.0.tgz", package.name)), None);
        }
        assert_eq!(find("academy-rt-client"), None);
    }
}
