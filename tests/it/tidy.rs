//! The house, held by its source: who may import whom, what has one home, and that every file says what it is for.

use std::fs;
use std::path::{Path, PathBuf};

/// The layers in reading order; each may import the earlier ones that are named beside it.
const LAYERS: [(&str, &[&str]); 13] = [
    ("domain", &[]),
    ("protocol", &["domain"]),
    ("config", &["domain"]),
    ("auth", &["domain", "config"]),
    ("store", &["domain", "config"]),
    ("observability", &["domain", "config", "store"]),
    ("archive", &["domain", "config", "store", "observability"]),
    ("search", &["domain", "store"]),
    ("realtime", &["domain", "protocol", "store", "observability", "search"]),
    ("services", &["domain", "protocol", "config", "store", "archive", "observability", "search", "realtime"]),
    ("transport", &["domain", "protocol", "config", "auth", "archive", "observability", "realtime", "services"]),
    ("server", &[EARLIER]),
    ("cli", &[EARLIER]),
];

/// All layers that stand before.
const EARLIER: &str = "*";

/// Whether a layer may import another one.
fn may_import(layer: &str, target: &str) -> bool {
    let at = |name: &str| LAYERS.iter().position(|(layer, _)| *layer == name).unwrap();
    let allowed = LAYERS[at(layer)].1;
    allowed.contains(&target) || (allowed == [EARLIER] && at(target) < at(layer))
}

/// Crates that have one home. The server composes the library's layer and warp's routes; the command line has the small
/// client of the control socket.
const HOMES: [(&str, &[&str]); 15] = [
    ("toml", &["config/"]),
    ("jsonwebtoken", &["auth/"]),
    ("redb", &["store/embedded/"]),
    ("tantivy", &["search/"]),
    ("frostem", &["search/"]),
    ("socketioxide", &["transport/socketio/", "server/mod.rs", "server/compose.rs", "server/middleware.rs"]),
    ("warp", &["transport/http/", "transport/console/", "transport/static_file.rs", "server/middleware.rs"]),
    ("askama", &["transport/console/"]),
    ("hyper", &["server/", "cli/client/", "cli/commands/doctor/network.rs", "cli/commands/bench/client.rs"]),
    ("rustls", &["server/", "cli/client/connect.rs"]),
    ("clap", &["cli/"]),
    ("anyhow", &["cli/"]),
    ("zstd", &["archive/"]),
    ("age", &["archive/"]),
    ("indicatif", &["cli/"]),
];

/// The files below some places of the repository; not what npm has put there.
fn files_below(places: &[&str]) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut left: Vec<PathBuf> = places.iter().map(|place| root.join(place)).collect();
    let mut found = Vec::new();
    while let Some(place) = left.pop() {
        if !place.is_dir() {
            found.push(place);
        } else if !place.ends_with("node_modules") {
            left.extend(fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found
}

pub(crate) fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let named = files_below(&["src"]).into_iter().map(|path| {
        let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        (name, fs::read_to_string(path).unwrap())
    });
    named.collect()
}

/// The code without its comments and without its tests.
pub(crate) fn code(text: &str) -> String {
    let before_tests = text.split("#[cfg(test)]").next().unwrap();
    let lines = before_tests.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

fn layer_of(file: &str) -> Option<&str> {
    let first = file.split('/').next()?;
    let name = first.strip_suffix(".rs").unwrap_or(first);
    LAYERS.iter().any(|(layer, _)| *layer == name).then_some(name)
}

#[test]
fn a_layer_imports_earlier_ones_alone() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let Some(layer) = layer_of(&file) else { continue };
        for part in code(&text).split("crate::").skip(1) {
            let target: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let is_layer = LAYERS.iter().any(|(name, _)| *name == target);
            if is_layer && target != layer && !may_import(layer, &target) {
                wrong.push(format!("{file} names crate::{target}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_crate_stays_in_its_home() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let code = code(&text);
        for (name, homes) in HOMES {
            let is_named = [format!("use {name}::"), format!(" {name}::"), format!("({name}::"), format!("<{name}::")]
                .iter()
                .any(|form| code.contains(form.as_str()));
            if is_named && !homes.iter().any(|home| file.starts_with(home)) {
                wrong.push(format!("{file} names {name}, whose home is {}", homes.join(", ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        if !text.starts_with("//!") && !text.starts_with("#![doc") {
            wrong.push(format!("{file} does not open with //!"));
        }
        for shapeless in ["utils", "helpers", "common", "manager", "types"] {
            if file.contains(shapeless) {
                wrong.push(format!("{file}: '{shapeless}' says nothing; name what is in it"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The documents that a reader of the repository meets: the two at its root and the pages in docs/.
fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = vec![root.join("README.md"), root.join("CONTRIBUTING.md")];
    found.extend(fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    found.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    found
}

/// The anchor that a heading has on a page, as the common renderers of Markdown make it.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>();
    kept.replace(' ', "-")
}

#[test]
fn the_readme_is_short_and_names_only_what_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    for path in [
        "tests/run",
        "CONTRIBUTING.md",
        "docs/tutorial.md",
        "docs/admin.md",
        "docs/security.md",
        "assets/academy-rt.toml",
        "man",
        "LICENSE",
    ] {
        assert!(readme.contains(path) && root.join(path).exists(), "{path}");
    }
    assert!(readme.lines().count() <= 120, "{} lines: the details belong in docs/", readme.lines().count());
}

/// Each relative link leads to a file, and to a heading in it where it names one. The README links every page of docs/.
#[test]
fn each_link_of_the_documents_leads_somewhere() {
    let mut wrong = Vec::new();
    let mut linked = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") || link.contains(' ') {
                continue;
            }
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { document.clone() } else { document.parent().unwrap().join(path) };
            let headings = || fs::read_to_string(&target).unwrap_or_default();
            if !target.exists() {
                wrong.push(format!("{}: {link} leads nowhere", document.display()));
            } else if !heading.is_empty()
                && !headings()
                    .lines()
                    .any(|line| line.starts_with('#') && anchor(line.trim_start_matches('#').trim()) == heading)
            {
                wrong.push(format!("{}: {link} names no heading", document.display()));
            }
            if document.ends_with("README.md") {
                linked.push(target);
            }
        }
    }
    let pages = documents().into_iter().filter(|page| page.parent().unwrap().ends_with("docs"));
    wrong.extend(
        pages.filter(|page| !linked.contains(page)).map(|page| format!("the README does not link {}", page.display())),
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The table of threats in docs/security.md names tests: each of them is there, in Rust as a function, in JavaScript by its title.
#[test]
fn each_test_that_the_page_about_security_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = String::new();
    for path in files_below(&["src", "tests/it", "tests/clients"]) {
        if path.extension().is_some_and(|extension| extension == "rs" || extension == "mjs") {
            all.push_str(&fs::read_to_string(path).unwrap());
        }
    }
    let page = fs::read_to_string(root.join("docs/security.md")).unwrap();
    let section = page.split("\n## ").find(|section| section.starts_with("Threats\n")).unwrap();
    let mut named = 0;
    for row in section.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| threat")) {
        let tests = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        for test in tests.split(", ").filter(|test| test.ends_with(['`', '"'])) {
            let name = test.trim_matches(['`', '"']);
            let is_there = if test.starts_with('`') {
                all.contains(&format!("fn {name}("))
            } else {
                all.lines().any(|line| line.trim_start().starts_with("test(") && line.contains(name))
            };
            assert!(is_there, "{test} is not a test");
            named += 1;
        }
    }
    assert!(named > 40, "{named} tests are named");
}

/// `cargo test` leaves out what is ignored; tests/run runs the long tests with the others and names each of the rest.
#[test]
fn tests_that_are_left_out_are_long_or_named_by_the_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let run = fs::read_to_string(root.join("tests/run")).unwrap();
    assert!(run.contains("--include-ignored"), "tests/run leaves out the long tests");
    let skipped: Vec<&str> = run.split("--skip ").skip(1).map(|rest| rest.split_whitespace().next().unwrap()).collect();
    let mut used = vec![false; skipped.len()];
    let mut wrong = Vec::new();
    for place in files_below(&["src", "tests/it"]) {
        let Ok(text) = fs::read_to_string(&place) else { continue };
        let path = place.strip_prefix(root).unwrap().with_extension("").to_string_lossy().replace('/', "::");
        for test in text.split("#[test]").skip(1) {
            let head = test.split('{').next().unwrap();
            let name = head.split("fn ").nth(1).and_then(|rest| rest.split('(').next()).unwrap_or_default();
            let whole = format!("{path}::{name}");
            let by: Vec<usize> = (0..skipped.len()).filter(|&at| whole.contains(skipped[at])).collect();
            by.iter().for_each(|&at| used[at] = true);
            let is_other = head.contains("#[ignore") && !head.contains("#[ignore = \"long\"]");
            if is_other == by.is_empty() {
                wrong.push(format!(
                    "{whole}: ignored for another reason than \"long\": {is_other}, skipped by tests/run: {}",
                    !by.is_empty()
                ));
            }
        }
    }
    wrong.extend(
        skipped
            .iter()
            .zip(used)
            .filter(|(_, is_used)| !is_used)
            .map(|(skip, _)| format!("tests/run skips {skip}, which is no test")),
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What the runbook quotes in its first columns is what the program says: `...` stands for what differs.
#[test]
fn the_runbook_quotes_messages_as_the_program_prints_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source: String = sources().into_iter().map(|(_, text)| text).collect();
    let page = fs::read_to_string(root.join("docs/admin.md")).unwrap();
    let runbook = page.split("\n## Runbook\n").nth(1).unwrap();
    let mut wrong = Vec::new();
    let mut quoted = 0;
    for row in runbook.lines().filter(|line| line.starts_with("| ")) {
        let symptom = row.split(" | ").next().unwrap();
        for message in symptom.split('`').skip(1).step_by(2) {
            quoted += 1;
            let parts = message.split("...").map(str::trim).filter(|part| part.len() > 5);
            wrong.extend(parts.filter(|part| !source.contains(part)).map(|part| format!("nothing says '{part}'")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(quoted > 30, "{quoted} messages are quoted");
}

/// What is not in the repository, its readers do not have: docs/protocol.md is there for them.
#[test]
fn nothing_cites_what_is_not_in_the_repository() {
    let places = ["src", "assets", "docs", "packaging", "tests/clients", "tests/it", "README.md", "CONTRIBUTING.md"];
    let word = ["CONT", "RACT "].concat();
    let cites = |path: &PathBuf| fs::read_to_string(path).is_ok_and(|text| text.contains(&word));
    let wrong: Vec<PathBuf> = files_below(&places).into_iter().filter(cites).collect();
    assert!(wrong.is_empty(), "{wrong:?} cite a document that readers do not have");
}
