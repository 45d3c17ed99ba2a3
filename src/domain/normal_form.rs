//! One form of a text. `é` is written as one character or as a letter with an accent behind it; both are the same text (UAX #15),
//! and look the same. Which of them is sent depends on keyboards and file systems, so that ids are compared in the normal form
//! NFC, whose tables `icu_normalizer` carries.

use std::borrow::Cow;

use icu_normalizer::ComposingNormalizerBorrowed;

/// A text in the normal form NFC. Of ASCII, by far the most, nothing is looked up.
#[must_use]
pub fn normal_form(text: &str) -> Cow<'_, str> {
    if text.is_ascii() { Cow::Borrowed(text) } else { ComposingNormalizerBorrowed::new_nfc().normalize(text) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_the_same_text_has_one_form() {
        for (text, form) in [
            ("cafe\u{301}", "caf\u{e9}"),
            // The order of accents above and below a letter means nothing.
            ("q\u{307}\u{323}", "q\u{323}\u{307}"),
            ("\u{1112}\u{1161}\u{11ab}", "\u{d55c}"),
            ("\u{212b}", "\u{c5}"),
            ("room-1", "room-1"),
            ("👩🏽\u{200d}🏫", "👩🏽\u{200d}🏫"),
        ] {
            assert_eq!(normal_form(text), form, "{text:?}");
        }
        // What only looks alike, or is wider, is another text.
        for other in ["\u{ff21}", "\u{430}", "\u{fb01}"] {
            assert_eq!(normal_form(other), other, "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn the_normal_form_is_its_own(text in "\\PC{0,40}") {
            let form = normal_form(&text);
            prop_assert_eq!(normal_form(&form), form.as_ref());
        }
    }
}
