//! JSON as it leaves the server: no character of it steers a terminal or turns the direction of what is shown.

use serde::Serialize;

/// A value as JSON.
///
/// # Errors
/// What the library says of a value that has no JSON.
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_string(value).map(|text| escaped(text).into_bytes())
}

/// JSON in which what the library leaves as it is (DEL, the controls of C1, marks of direction, separators of lines) is escaped:
/// such characters stand in strings alone, where both spellings mean the same.
#[must_use]
pub fn escaped(json: String) -> String {
    // All of them but DEL begin with one of these bytes.
    if !json.bytes().any(|byte| matches!(byte, 0x7f | 0xc2 | 0xd8 | 0xe2)) || !json.chars().any(steers) {
        return json;
    }
    let mut out = String::with_capacity(json.len() + 16);
    for char in json.chars() {
        if steers(char) {
            out.push_str(&format!("\\u{:04x}", u32::from(char)));
        } else {
            out.push(char);
        }
    }
    out
}

/// Whether a character steers a terminal, ends a line or changes the direction of text. Those below U+0020 are escaped by
/// every JSON.
#[must_use]
pub fn steers(char: char) -> bool {
    matches!(char, '\u{7f}'..='\u{9f}' | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_is_escaped_and_means_the_same() {
        let text = "Zo\u{eb} \u{1b}[2J\u{7f}\u{9b}31m\u{202e}exe\u{2028}\u{61c}\u{200f} \u{2013} \u{d8} \u{1f600}\n\t";
        let json = String::from_utf8(to_vec(text).unwrap()).unwrap();
        assert!(!json.chars().any(|char| char.is_control() || steers(char)), "{json}");
        assert!(json.contains("Zo\u{eb} ") && json.contains("\u{2013} \u{d8} \u{1f600}"), "{json}");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }
}
