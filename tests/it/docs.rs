//! docs/protocol.md against the source: its generated tables are those of the code, and no event is left out.
//! `UPDATE_DOCS=1 cargo test --test it docs::` writes the tables anew.

use std::path::{Path, PathBuf};

use academy_rt::config::KEYS;
use academy_rt::protocol::error::ErrorCode;
use academy_rt::protocol::request::ClientEvent;
use academy_rt::services::limits::budget::{Cost, RequestKind};
use academy_rt::transport::http::routes::ROUTES;

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(in_repository(path)).unwrap()
}

/// What is behind a text and before the next other one.
fn between<'t>(text: &'t str, from: &str, to: &str) -> &'t str {
    let (_, behind) = text.split_once(from).unwrap_or_else(|| panic!("there is no '{from}'"));
    behind.split_once(to).unwrap_or_else(|| panic!("there is no '{to}' behind '{from}'")).0
}

fn errors() -> String {
    let mut table = "| code | HTTP status | meaning, and what a client does |\n|---|---|---|\n".to_owned();
    for code in ErrorCode::ALL {
        table.push_str(&format!("| `{}` | {} | {} |\n", code.as_str(), code.http_status(), code.meaning()));
    }
    table
}

fn limits() -> String {
    let mut table = "| key | default | limit | a new value holds |\n|---|---|---|---|\n".to_owned();
    for key in KEYS.iter().filter(|key| key.parts().0 == "limits") {
        let when = if key.is_live { "after a reload" } else { "after a restart" };
        table.push_str(&format!("| `{}` | `{}` | {} | {when} |\n", key.name, key.default_value(), key.help));
    }
    table
}

/// What each kind of request costs; the tests that try them all read this table.
fn costs() -> String {
    let mut table = "| request, also over HTTP | takes |\n|---|---|\n".to_owned();
    for (kind, name, cost) in RequestKind::ALL {
        let name = if matches!(kind, RequestKind::Event(_)) { format!("`{name}`") } else { name.to_owned() };
        let takes = match cost {
            Cost::Points(1) => "1 point".to_owned(),
            Cost::Points(points) => format!("{points} points"),
            Cost::Rate(rate) => format!("one of `limits.{}_per_second`", rate.name()),
        };
        table.push_str(&format!("| {name} | {takes} |\n"));
    }
    table
}

/// Compares the block of that name with what the code says, or writes it where that is asked for.
fn assert_generated(name: &str, table: &str) {
    let (begin, end) = (format!("<!-- generated: {name} -->\n"), "<!-- end -->");
    let page = read("docs/protocol.md");
    let stated = between(&page, &begin, end);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let page = page.replacen(&format!("{begin}{stated}{end}"), &format!("{begin}{table}{end}"), 1);
        // The other tests read the page meanwhile: they find it whole.
        let new = in_repository("docs/protocol.md.new");
        std::fs::write(&new, page).unwrap();
        std::fs::rename(&new, in_repository("docs/protocol.md")).unwrap();
        return;
    }
    assert_eq!(stated, table, "docs/protocol.md: run UPDATE_DOCS=1 cargo test --test it docs::");
}

#[test]
fn the_generated_tables_are_those_of_the_code() {
    // One test: both write the same file.
    assert_generated("errors", &errors());
    assert_generated("limits", &limits());
    assert_generated("costs", &costs());
}

#[test]
fn every_error_code_is_in_the_list() {
    let source = read("src/protocol/error.rs");
    let variants = between(&source, "pub enum ErrorCode {\n", "\n}\n").lines().map(str::trim);
    let names: Vec<String> = variants
        .filter(|line| !line.starts_with("//") && !line.starts_with('#'))
        .map(|line| line.trim_end_matches(',').to_owned())
        .collect();
    assert_eq!(names, ErrorCode::ALL.map(|code| format!("{code:?}")));
}

/// The names that a heading of the page has, for each heading that says which way an event goes.
fn headings(direction: &str) -> Vec<String> {
    let page = read("docs/protocol.md");
    let of_events = page.lines().filter(|line| line.starts_with("### `") && line.ends_with(direction));
    let mut names: Vec<String> =
        of_events.flat_map(|line| line.split('`').skip(1).step_by(2)).map(ToOwned::to_owned).collect();
    names.sort();
    names
}

#[test]
fn every_event_has_one_heading() {
    let mut asked = ClientEvent::ALL.map(|(_, name)| name.to_owned()).to_vec();
    asked.sort();
    assert_eq!(headings("(client to server)"), asked);

    let source = read("src/protocol/event.rs");
    let arms = between(&source, "pub fn name(&self)", "\n    }\n").lines();
    let mut told: Vec<String> =
        arms.filter_map(|line| Some(line.split_once("=> \"")?.1.split_once('"')?.0.to_owned())).collect();
    told.sort();
    assert!(told.contains(&"server:draining".to_owned()), "the names are found: {told:?}");
    assert_eq!(headings("(server to client)"), told);
}

#[test]
fn every_address_has_a_heading_for_each_method() {
    let page = read("docs/http.md");
    let headings = page.lines().filter(|line| line.starts_with("### `"));
    let mut stated: Vec<String> =
        headings.flat_map(|line| line.split('`').skip(1).step_by(2)).map(str::to_owned).collect();
    let mut taken: Vec<String> = Vec::new();
    for route in &ROUTES {
        // One row of the table has a heading for each kind of hold.
        let paths = match route.path.strip_suffix("/{kind}/{id}") {
            Some(holds) => vec![format!("{holds}/user/{{userId}}"), format!("{holds}/room/{{roomId}}")],
            None => vec![route.path.to_owned()],
        };
        for path in paths {
            taken.extend(route.methods.iter().map(|method| format!("{method} {path}")));
        }
    }
    stated.sort();
    taken.sort();
    assert_eq!(stated, taken, "docs/http.md against src/transport/http/routes.rs");
}
