//! What somebody looks for: words that a text must have, phrases in quotes, and what it must not have. Everything else of what is
//! typed is text: there is no language that one could make a mistake in.

use super::words::{Reader, Word};

/// The most characters of a query.
pub const QUERY_CHARS: usize = 256;
/// The most words of a query.
pub const QUERY_WORDS: usize = 16;

/// A word, or several that stand one behind another.
pub(super) type Part = Vec<Word>;

/// What is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// A text has all of these.
    pub(super) wanted: Vec<Part>,
    /// And none of these.
    pub(super) unwanted: Vec<Part>,
}

/// Why something cannot be looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadQuery {
    /// It is too long.
    #[error("q may have {QUERY_CHARS} characters at most")]
    TooLong,
    /// It has too many words.
    #[error("q may have {QUERY_WORDS} words at most")]
    TooManyWords,
    /// There is no word that a text must have.
    #[error("q must have a word to look for; a word behind - is one that must not be there")]
    NoWord,
}

impl Query {
    /// What somebody has typed.
    ///
    /// # Errors
    /// [`BadQuery`].
    pub fn parse(typed: &str) -> Result<Query, BadQuery> {
        if typed.chars().nth(QUERY_CHARS).is_some() {
            return Err(BadQuery::TooLong);
        }
        let mut reader = Reader::default();
        let mut query = Query { wanted: Vec::new(), unwanted: Vec::new() };
        let mut rest = typed;
        while let Some((piece, is_unwanted, behind)) = next_piece(rest) {
            rest = behind;
            let part = reader.words(piece);
            let parts = if is_unwanted { &mut query.unwanted } else { &mut query.wanted };
            if !part.is_empty() && !parts.contains(&part) {
                parts.push(part);
            }
        }
        let words: usize = query.wanted.iter().chain(&query.unwanted).map(Vec::len).sum();
        if words > QUERY_WORDS {
            return Err(BadQuery::TooManyWords);
        }
        if query.wanted.is_empty() {
            return Err(BadQuery::NoWord);
        }
        Ok(query)
    }

    /// Whether a text is what is looked for.
    pub fn fits(&self, reader: &mut Reader, text: &str) -> bool {
        let words = reader.words(text);
        let has = |part: &Part| {
            words.windows(part.len()).any(|here| here.iter().zip(part).all(|(word, wanted)| word.is_like(wanted)))
        };
        self.wanted.iter().all(has) && !self.unwanted.iter().any(has)
    }
}

/// The next piece of what is typed: a phrase, or what stands up to the next white space; whether it must not be there; and what
/// comes behind it.
fn next_piece(typed: &str) -> Option<(&str, bool, &str)> {
    let typed = typed.trim_start();
    if typed.is_empty() {
        return None;
    }
    // Only where something follows at once: "a - b" is two words.
    let behind = typed.strip_prefix(['-', '\u{2212}']).filter(|rest| !rest.starts_with(char::is_whitespace));
    let (is_unwanted, from) = behind.map_or((false, typed), |rest| (true, rest));
    if let Some(phrase) = from.strip_prefix(is_quote) {
        let end = phrase.find(is_quote).unwrap_or(phrase.len());
        let (inside, rest) = phrase.split_at(end);
        return Some((inside, is_unwanted, rest.strip_prefix(is_quote).unwrap_or(rest)));
    }
    let end = from.find(|c: char| c.is_whitespace() || is_quote(c)).unwrap_or(from.len());
    let (word, rest) = from.split_at(end);
    Some((word, is_unwanted, rest))
}

/// As keyboards and word processors of both languages write them.
fn is_quote(c: char) -> bool {
    matches!(c, '"' | '\u{201c}' | '\u{201d}' | '\u{201e}' | '\u{ab}' | '\u{bb}' | '\u{ff02}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fits(query: &str, text: &str) -> bool {
        Query::parse(query).unwrap().fits(&mut Reader::default(), text)
    }

    #[test]
    fn words_phrases_and_what_must_not_be_there() {
        let text = "L’examen d’anglais est reporté à jeudi; bring your books.";
        for query in [
            "examen",
            "examens anglais",
            "\"examen d'anglais\"",
            "jeudi -vendredi",
            "book JEUDI",
            "« examen anglais »",
            "examen -\"anglais examen\"",
            "anglais-est",
            "\"your books",
            "reportée",
            "- examen",
            "**examen**",
            "<b>examen</b> -x",
        ] {
            let is_markup = query.contains("<b>");
            assert_eq!(fits(query, text), !is_markup, "{query}");
        }
        for query in ["examen -jeudi", "\"anglais examen\"", "examen vendredi", "examen -\"est reporté\"", "exam*n"] {
            assert!(!fits(query, text), "{query}");
        }
    }

    #[test]
    fn what_cannot_be_looked_for_is_said() {
        for (query, why) in [
            ("x".repeat(QUERY_CHARS + 1), BadQuery::TooLong),
            ("a b c d e f g h i j k l m n o p q".to_owned(), BadQuery::TooManyWords),
            (String::new(), BadQuery::NoWord),
            ("-examen".to_owned(), BadQuery::NoWord),
            ("\"\" ** ()".to_owned(), BadQuery::NoWord),
        ] {
            assert_eq!(Query::parse(&query), Err(why), "{query:?}");
        }
        assert!(Query::parse(&"é".repeat(QUERY_CHARS)).is_ok());
        assert!(Query::parse("a b c d e f g h i j k l m n o p").is_ok());
    }

    proptest! {
        #[test]
        fn anything_that_is_typed_is_taken_or_refused(typed in "\\PC{0,300}") {
            if let Ok(query) = Query::parse(&typed) {
                let words: usize = query.wanted.iter().chain(&query.unwanted).map(Vec::len).sum();
                prop_assert!((1..=QUERY_WORDS).contains(&words));
                prop_assert!(!query.fits(&mut Reader::default(), ""));
            }
        }
    }
}
