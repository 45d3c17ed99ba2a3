//! What is a word, and what two words have in common. A text is in English or in French, often in both, and nobody says in which:
//! each word is looked at as a word of both languages. It counts as the same as another one if it has the same stem in either of
//! them; accents, ligatures, capitals and what is elided before a word (l', d', qu') make no difference.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use frostem::{Algorithm, Stemmer};
use icu_normalizer::DecomposingNormalizerBorrowed;

use crate::domain::normal_form;

/// So many words are remembered with their stems: most of what is said is made of few words, and a stem takes a microsecond.
const KNOWN: usize = 8_192;

/// The longest word, in characters; of a longer one the beginning counts.
const WORD_CHARS: usize = 64;

/// What stands before an apostrophe and is no part of the word behind it.
const ELIDED: [&str; 16] =
    ["l", "d", "j", "m", "t", "s", "c", "n", "qu", "jusqu", "lorsqu", "puisqu", "quoiqu", "quelqu", "presqu", "entr"];

/// What stands behind an apostrophe and is no part of the word before it.
const CONTRACTED: [&str; 6] = ["'s", "'d", "'ll", "'re", "'ve", "'m"];

/// A word, by its stems: those of French begin with `f`, that of English with `e`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    stems: Arc<[String]>,
}

impl Word {
    /// Its stems; no two are equal.
    pub fn stems(&self) -> &[String] {
        &self.stems
    }

    /// Whether it counts as the same as another one.
    pub fn is_like(&self, other: &Word) -> bool {
        self.stems.iter().any(|stem| other.stems.contains(stem))
    }
}

/// Finds the words of a text.
pub struct Reader {
    english: Stemmer,
    french: Stemmer,
    /// What is known already, as it was written: at most [`KNOWN`].
    known: HashMap<Box<str>, Option<Word>>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reader")
    }
}

impl Default for Reader {
    fn default() -> Reader {
        Reader {
            english: Stemmer::new(Algorithm::English),
            french: Stemmer::new(Algorithm::French),
            known: HashMap::new(),
        }
    }
}

impl Reader {
    /// The words of a text, in their order.
    pub fn words(&mut self, text: &str) -> Vec<Word> {
        let text = normal_form(text);
        let mut words = Vec::new();
        let mut word = String::new();
        for c in text.chars() {
            if c.is_ascii_alphanumeric() {
                word.push(c.to_ascii_lowercase());
            } else if is_part(c) {
                word.extend(c.to_lowercase());
            } else if is_apostrophe(c) {
                word.push('\'');
            } else if !is_passed_over(c) {
                words.extend(self.known(&word));
                word.clear();
            }
        }
        words.extend(self.known(&word));
        words
    }

    /// As [`Reader::word`], remembered.
    fn known(&mut self, written: &str) -> Option<Word> {
        if written.is_empty() {
            return None;
        }
        if let Some(word) = self.known.get(written) {
            return word.clone();
        }
        let word = self.word(written);
        // What is not a word of people is not said twice.
        if written.len() <= WORD_CHARS {
            if self.known.len() >= KNOWN {
                self.known.clear();
            }
            self.known.insert(written.into(), word.clone());
        }
        word
    }

    /// A word of small letters, digits and apostrophes; `None` if nothing is left of it.
    fn word(&self, written: &str) -> Option<Word> {
        let mut word = written.trim_matches('\'');
        while let Some((_, behind)) = word.split_once('\'').filter(|(before, _)| ELIDED.contains(before)) {
            word = behind.trim_matches('\'');
        }
        if let Some(whole) = CONTRACTED.iter().find_map(|ending| word.strip_suffix(ending)) {
            word = whole;
        }
        let is_short = word.len() <= WORD_CHARS;
        let kept: Cow<'_, str> = if is_short && !word.contains('\'') {
            Cow::Borrowed(word)
        } else {
            Cow::Owned(word.chars().filter(|c| *c != '\'').take(WORD_CHARS).collect())
        };
        if kept.is_empty() {
            return None;
        }
        let accented = without_ligatures(&kept);
        let plain = without_accents(&accented);
        if plain.is_empty() {
            return None;
        }
        let mut stems = Vec::with_capacity(3);
        // Typed without its accents a word has the stem of what is typed, and a participle (étudiée, etudiee) that of its verb. What
        // we do (parlons, mangeons) is left to us: the stemmer takes it for a plural.
        let of_us = plain.strip_suffix("eons").or_else(|| plain.strip_suffix("ons"));
        let infinitive = of_us.filter(|rest| rest.len() > 2).map(|rest| format!("{rest}er"));
        let shortened = match plain.strip_suffix("ees").or_else(|| plain.strip_suffix("ee")) {
            Some(rest) if rest.len() > 2 => Cow::Owned(format!("{rest}e")),
            _ => Cow::Borrowed(&*plain),
        };
        for form in [&*accented, &*plain, &*shortened].into_iter().chain(infinitive.as_deref()) {
            let stem = self.french.stem(form);
            add(&mut stems, 'f', &without_accents(&stem));
        }
        add(&mut stems, 'e', &self.english.stem(&plain));
        Some(Word { stems: stems.into() })
    }
}

fn add(stems: &mut Vec<String>, language: char, stem: &str) {
    let is_known = stems.iter().any(|known| known.strip_prefix(language) == Some(stem));
    if !is_known {
        let mut named = String::with_capacity(stem.len() + 1);
        named.push(language);
        named.push_str(stem);
        stems.push(named);
    }
}

/// Letters, digits, and the accents that have not become one with their letter.
fn is_part(c: char) -> bool {
    c.is_alphanumeric() || is_accent(c)
}

fn is_accent(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}')
}

fn is_apostrophe(c: char) -> bool {
    matches!(c, '\'' | '\u{2018}' | '\u{2019}' | '\u{2bc}' | '\u{ff07}')
}

/// What may stand in the middle of a word and shows nothing: places where it may be broken, and joiners.
fn is_passed_over(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}')
}

fn without_ligatures(word: &str) -> Cow<'_, str> {
    if !word.contains(['œ', 'æ']) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(word.replace('œ', "oe").replace('æ', "ae"))
}

fn without_accents(word: &str) -> Cow<'_, str> {
    if word.is_ascii() {
        return Cow::Borrowed(word);
    }
    let decomposed = DecomposingNormalizerBorrowed::new_nfkd().normalize(word);
    let mut plain = String::with_capacity(decomposed.len());
    for c in decomposed.chars().filter(|c| !is_accent(*c)) {
        match c {
            'œ' => plain.push_str("oe"),
            'æ' => plain.push_str("ae"),
            'ß' => plain.push_str("ss"),
            'ø' => plain.push('o'),
            'đ' | 'ð' => plain.push('d'),
            'ł' => plain.push('l'),
            'ı' => plain.push('i'),
            'þ' => plain.push_str("th"),
            c => plain.push(c),
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(text: &str) -> Word {
        let mut words = Reader::default().words(text);
        assert_eq!(words.len(), 1, "{text:?}: {words:?}");
        words.remove(0)
    }

    #[test]
    fn what_is_the_same_word_to_people_is_the_same_here() {
        for alike in [
            &["école", "écoles", "ecole", "ÉCOLE", "e\u{301}cole", "l'école", "L’École", "d'école"][..],
            &["manger", "mangé", "mangée", "mangeons", "mangeait", "mange"],
            &["parler", "parlons", "parlé"],
            &["étudiée", "etudiee", "étudiées", "ETUDIEES"],
            &["œuvre", "oeuvre", "ŒUVRES"],
            &["cheval", "chevaux"],
            &["réunion", "reunions", "Réunions"],
            &["study", "studies", "studied", "studying"],
            &["teacher", "teachers", "teacher's", "Teacher’s"],
            &["class", "classes"],
            &["don't", "don’t", "dont"],
            &["aujourd'hui", "aujourd’hui", "AUJOURD'HUI"],
            &["naïve", "naive"],
            &["Straße", "strasse"],
            &["co\u{ad}opération", "coopération", "cooperations"],
            &["ﬁche", "fiche", "fiches"],
            &["qu'examen", "examens", "l'examen", "jusqu'examen"],
            &["B2", "b2"],
        ] {
            for other in alike {
                assert!(one(alike[0]).is_like(&one(other)), "{} and {other}", alike[0]);
            }
        }
        for (one_word, other) in
            [("chat", "chien"), ("note", "nation"), ("cours", "course"), ("b1", "b2"), ("lundi", "mardi")]
        {
            assert!(!one(one_word).is_like(&one(other)), "{one_word} and {other}");
        }
    }

    #[test]
    fn a_text_is_cut_where_people_cut_it() {
        let count = |text: &str| Reader::default().words(text).len();
        assert_eq!(count("Rendez-vous à 9 h 30, salle B2 : l’examen d'anglais"), 10);
        assert_eq!(count("  '' \" ! … — l' 👍 "), 1, "what is elided alone is a word");
        assert_eq!(count(""), 0);
        assert_eq!(count(&"x".repeat(10_000)), 1);
        assert_eq!(one(&"x".repeat(10_000)), one(&"x".repeat(WORD_CHARS)));
    }

    proptest! {
        #[test]
        fn any_text_has_words_that_are_like_themselves(text in "\\PC{0,60}") {
            let words = Reader::default().words(&text);
            for word in &words {
                prop_assert!(word.is_like(word));
                prop_assert!(word.stems().len() <= 5);
            }
        }
    }
}
