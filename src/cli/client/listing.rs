//! Fetches the lists of the admin API page by page, and formats them.

use http::Method;
use serde_json::Value;

use crate::cli::Global;
use crate::cli::client::{Call, ServerArgs, call, segment};
use crate::cli::exit::in_line;

/// A whole list: the first answer, with the items of all pages. The path may have a query.
///
/// # Errors
/// If the server refuses the request.
pub fn all(global: &Global, server: &ServerArgs, path: &str, only: Option<&str>) -> anyhow::Result<Value> {
    let only = only.map(|text| format!("&text={}", segment(text))).unwrap_or_default();
    let joint = if path.contains('?') { '&' } else { '?' };
    let mut whole: Option<Value> = None;
    let mut after = String::new();
    loop {
        let behind = if after.is_empty() { String::new() } else { format!("&after={}", segment(&after)) };
        let get = Call::new(Method::GET, format!("{path}{joint}limit=1000{only}{behind}"), None).offline_too();
        let mut page = call(global, server, get)?;
        let next = page.get("next").and_then(Value::as_str).map(ToOwned::to_owned);
        if let Some(page) = page.as_object_mut() {
            page.remove("next");
        }
        match whole.as_mut().and_then(|whole| whole.get_mut("items")).and_then(Value::as_array_mut) {
            Some(items) => items.extend(items_of(&page).iter().cloned()),
            None => whole = Some(page),
        }
        match next {
            Some(next) => after = next,
            None => return Ok(whole.unwrap_or_default()),
        }
    }
}

/// The items of a list.
#[must_use]
pub fn items_of(list: &Value) -> &[Value] {
    items(list, "items")
}

/// A field that is a list; empty if it is absent.
#[must_use]
pub fn items<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// One line per item, or the text for an empty list.
pub fn lines(list: &Value, none: &str, line: impl Fn(&Value) -> String) -> String {
    let lines: Vec<String> = items_of(list).iter().map(line).collect();
    if lines.is_empty() { none.to_owned() } else { lines.join("\n") }
}

/// A field that is a text, a number or null, as text that stays within its line.
#[must_use]
pub fn text(value: &Value, name: &str) -> String {
    match value.get(name) {
        Some(Value::String(text)) => in_line(text),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}

/// A field that is a number; 0 if it is absent.
#[must_use]
pub fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or_default()
}
