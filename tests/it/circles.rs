//! No circles between modules, inside folders either: whoever reads one module has to read those that it names, and is never
//! sent back. A module and the folder around it are one: a child may name its parent's items, and the parent its children's.

use std::collections::{BTreeMap, BTreeSet};

/// `realtime/feed.rs` is `realtime::feed`, `realtime/mod.rs` is `realtime`.
fn module_of(file: &str) -> String {
    let path = file.strip_suffix(".rs").unwrap();
    path.strip_suffix("/mod").unwrap_or(path).replace('/', "::")
}

/// The parts of a list inside braces, braces inside it left whole.
fn parts(list: &str) -> Vec<&str> {
    let (mut found, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(&list[start..]);
    found
}

/// The paths of a `use`, each spelled out.
fn spelled_out(prefix: &str, tree: &str, found: &mut Vec<String>) {
    let tree = tree.trim();
    match tree.split_once('{') {
        Some((head, rest)) if tree.ends_with('}') => {
            for part in parts(rest.strip_suffix('}').unwrap()) {
                spelled_out(&format!("{prefix}{head}"), part, found);
            }
        }
        _ => found.push(format!("{prefix}{}", tree.split(" as ").next().unwrap())),
    }
}

/// Every path that a module names.
fn paths_in(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = String::new();
    let mut left = code;
    while let Some(at) = left.find("use ") {
        let (before, behind) = left.split_at(at);
        rest.push_str(before);
        let is_start = before.is_empty() || before.ends_with([' ', '\n', '{', ')']);
        let (tree, behind) = if is_start { behind[4..].split_once(';').unwrap() } else { ("", &behind[4..]) };
        spelled_out("", tree, &mut found);
        left = behind;
    }
    rest.push_str(left);
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    found.extend(rest.split(|c| !is_path(c)).filter(|word| word.contains("::")).map(str::to_owned));
    found
}

/// The module that a path leads to, as far as it is one of ours.
fn target(module: &str, path: &str, modules: &BTreeMap<String, String>) -> Option<String> {
    let mut parts: Vec<&str> = path.split("::").filter(|part| !part.is_empty()).collect();
    let mut base: Vec<&str> = module.split("::").collect();
    match *parts.first()? {
        "crate" => base.clear(),
        "self" => {}
        "super" => {
            while parts.first() == Some(&"super") {
                parts.remove(0);
                base.pop();
            }
            parts.insert(0, "super");
        }
        _ => return None,
    }
    base.extend(parts.drain(1..));
    while !base.is_empty() {
        let name = base.join("::");
        if modules.contains_key(&name) {
            return Some(name);
        }
        base.pop();
    }
    None
}

fn is_around(one: &str, other: &str) -> bool {
    one == other || one.starts_with(&format!("{other}::")) || other.starts_with(&format!("{one}::"))
}

type Graph = BTreeMap<String, BTreeSet<String>>;

fn graph(modules: &BTreeMap<String, String>) -> Graph {
    let edges = modules.iter().map(|(module, code)| {
        let targets = paths_in(code).iter().filter_map(|path| target(module, path, modules)).collect::<BTreeSet<_>>();
        (module.clone(), targets.into_iter().filter(|target| !is_around(module, target)).collect())
    });
    edges.collect()
}

/// A way from a module back to itself, if there is one.
fn circle<'g>(graph: &'g Graph, way: &mut Vec<&'g str>, done: &mut BTreeSet<&'g str>) -> Option<String> {
    let here = *way.last()?;
    for next in graph.get(here)? {
        if let Some(at) = way.iter().position(|module| module == next) {
            return Some(format!("{} -> {next}", way[at..].join(" -> ")));
        }
        if done.contains(next.as_str()) {
            continue;
        }
        way.push(next);
        if let Some(found) = circle(graph, way, done) {
            return Some(found);
        }
        way.pop();
    }
    done.insert(here);
    None
}

fn first_circle(modules: &BTreeMap<String, String>) -> Option<String> {
    let graph = graph(modules);
    let mut done = BTreeSet::new();
    graph.keys().find_map(|module| circle(&graph, &mut vec![module], &mut done))
}

#[test]
fn modules_have_no_circles() {
    let modules: BTreeMap<String, String> = crate::tidy::sources()
        .into_iter()
        .filter(|(file, _)| !file.contains("/tests") && !file.contains("/attacks"))
        .map(|(file, text)| (module_of(&file), crate::tidy::code(&text)))
        .collect();
    let edges: usize = graph(&modules).values().map(BTreeSet::len).sum();
    assert!(modules.len() > 200 && edges > 800, "{} modules with {edges} imports were read", modules.len());
    assert_eq!(first_circle(&modules), None);
}

#[test]
fn a_circle_is_found_whatever_its_spelling() {
    let modules =
        |entries: &[(&str, &str)]| entries.iter().map(|(name, code)| ((*name).into(), (*code).into())).collect();
    for (a, b) in [
        ("use crate::x::b::Thing;", "use super::a::{self, Other};"),
        ("use crate::x::{c, b::{Thing, More}};", "fn f() -> super::a::Other {}"),
        ("pub use super::b as renamed;", "let a = crate::x::a::new();"),
    ] {
        let found = first_circle(&modules(&[("x", ""), ("x::a", a), ("x::b", b), ("x::c", "")]));
        assert_eq!(found.as_deref(), Some("x::a -> x::b -> x::a"), "{a} {b}");
    }
    let found =
        first_circle(&modules(&[("x", "use self::a::A;"), ("x::a", "use super::B;"), ("y", "use crate::x::a::A;")]));
    assert_eq!(found, None, "a folder and what is in it are one");
}
