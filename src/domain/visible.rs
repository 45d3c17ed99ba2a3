//! What of a text can be seen. A name that looks like another one must not be another one, and a message that shows nothing is
//! none. What a character is stands in the Unicode Character Database (UAX #44, UTS #51), which `icu_properties` carries.

use icu_properties::CodePointSetData;
use icu_properties::props::{DefaultIgnorableCodePoint, ExtendedPictographic};

const JOINER: char = '\u{200d}';
const KEYCAP: char = '\u{20e3}';
/// The one before it is shown as a picture.
const AS_PICTURE: char = '\u{fe0f}';
const BLACK_FLAG: char = '\u{1f3f4}';

/// Whether a text shows something: a character that is neither a space, nor a control, nor a filler.
#[must_use]
pub fn shows_something(text: &str) -> bool {
    !text.chars().all(|c| c.is_whitespace() || c.is_control() || shows_nothing(c))
}

/// Whether a text has a character that shows nothing and is no part of an emoji: two names that differ by it look alike.
#[must_use]
pub(super) fn hides_something(text: &str) -> bool {
    // By far the most names.
    if text.is_ascii() {
        return false;
    }
    let chars: Vec<char> = text.chars().collect();
    chars.iter().enumerate().any(|(at, c)| shows_nothing(*c) && !is_of_an_emoji(&chars, at))
}

/// Characters that are drawn as nothing: what Unicode calls ignorable, and what is blank without being a space.
fn shows_nothing(c: char) -> bool {
    matches!(c, '\u{2800}' | '\u{fff9}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}')
        || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

/// Whether the character at a place holds an emoji together: a joiner between two pictures, the mark that a character is
/// shown as a picture, or the letters in a flag.
fn is_of_an_emoji(chars: &[char], at: usize) -> bool {
    let is_picture = |c: &char| CodePointSetData::new::<ExtendedPictographic>().contains(*c);
    let is_modifier = |c: &&char| matches!(**c, AS_PICTURE | '\u{1f3fb}'..='\u{1f3ff}');
    let (before, behind) = (chars.get(..at).unwrap_or_default(), chars.get(at + 1));
    match chars.get(at) {
        Some(&JOINER) => {
            before.iter().rev().find(|c| !is_modifier(c)).is_some_and(is_picture) && behind.is_some_and(is_picture)
        }
        Some(&AS_PICTURE) => {
            before.last().is_some_and(|last| is_picture(last) || (behind == Some(&KEYCAP) && is_of_a_keycap(*last)))
        }
        Some('\u{e0020}'..='\u{e007f}') => {
            // Only behind a flag, all of them up to the one that ends them.
            let is_tag = |c: &&char| matches!(c, '\u{e0020}'..='\u{e007e}');
            let is_ended = chars.iter().skip(at).find(|c| !is_tag(c)) == Some(&'\u{e007f}');
            is_ended && before.iter().rev().find(|c| !is_tag(c)) == Some(&BLACK_FLAG)
        }
        _ => false,
    }
}

fn is_of_a_keycap(c: char) -> bool {
    matches!(c, '0'..='9' | '#' | '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_what_is_drawn_as_nothing_shows_nothing() {
        for nothing in [
            "",
            " \n\t",
            "\0\0",
            "\u{200b}",
            "\u{3164}",
            "\u{2800}",
            "\u{ad}\u{feff}",
            "\u{115f} \u{1160}",
            "\u{e0041}",
        ] {
            assert!(!shows_something(nothing), "{nothing:?}");
        }
        for something in [".", "\u{200b}a", "é", "👍", "❤\u{fe0f}", "\u{fffd}", "\u{301}"] {
            assert!(shows_something(something), "{something:?}");
        }
    }

    #[test]
    fn only_an_emoji_has_what_cannot_be_seen() {
        let family = "👨\u{200d}👩\u{200d}👧";
        let scotland = "🏴\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f}";
        for good in
            ["room", "café", "教室", family, "👩🏽\u{200d}🏫", "❤\u{fe0f}\u{200d}🔥", "1\u{fe0f}\u{20e3}", scotland]
        {
            assert!(!hides_something(good), "{good:?}");
        }
        for bad in [
            "a\u{200d}b",
            "👨\u{200d}",
            "\u{200d}👨",
            "👨\u{200d}a",
            "a\u{fe0f}",
            "1\u{fe0f}",
            "ro\u{3164}om",
            "a\u{e0067}",
            "🏴\u{e0067}",
            "a\u{200b}",
            "\u{202e}a",
            "a\u{34f}b",
            "a\u{2800}",
            "a\u{fff9}b",
        ] {
            assert!(hides_something(bad), "{bad:?}");
        }
    }
}
