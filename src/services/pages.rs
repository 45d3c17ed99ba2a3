//! How much of a list one answer has: so many items, and so many bytes of JSON.

use std::io::{self, Write};

use serde::Serialize;

use crate::config::capacity;
use crate::protocol::error::ApiError;

/// The most bytes of JSON that an answer has. A character of control takes six of them: what a limit of items lets through is
/// not bounded by what was stored.
pub const MOST_BYTES: usize = capacity::ANSWER_BYTES;
/// What is left of them for what stands beside a list, and between its items.
const BESIDE: usize = 64 << 10;
/// The most items of a page of lessons, rooms or people.
const MOST_ITEMS: usize = 1_000;
/// Items of such a page for which nothing was said.
const DEFAULT_ITEMS: usize = 500;

/// The space for the items of one answer. The first item always fits, so that whoever asks for page after page comes to the
/// end.
#[derive(Debug, Default)]
pub(super) struct Space {
    taken: usize,
}

impl Space {
    /// Whether an item of so many bytes still fits; it is taken in if it does.
    pub(super) fn takes(&mut self, bytes: usize) -> bool {
        if self.taken > 0 && self.taken + bytes > MOST_BYTES - BESIDE {
            return false;
        }
        self.taken += bytes;
        true
    }
}

/// How many items, from the first on, fit into one answer.
pub(super) fn fitting<V: Serialize>(items: impl IntoIterator<Item = V>) -> usize {
    let mut space = Space::default();
    items.into_iter().take_while(|item| space.takes(json_bytes(item))).count()
}

/// How many bytes something has as JSON.
fn json_bytes(value: &impl Serialize) -> usize {
    struct Counter(usize);
    impl Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    // What cannot be written takes no space.
    let _ = serde_json::to_writer(&mut counter, value);
    counter.0
}

/// How many items of a page of lessons, rooms or people are asked for.
///
/// # Errors
/// `invalid_payload`.
pub(super) fn limit_of(asked: Option<usize>) -> Result<usize, ApiError> {
    limit_within(asked, DEFAULT_ITEMS, MOST_ITEMS)
}

/// How many items of a page are asked for: so many without a word, and at most so many.
///
/// # Errors
/// `invalid_payload`.
pub(super) fn limit_within(asked: Option<usize>, default: usize, most: usize) -> Result<usize, ApiError> {
    match asked {
        None => Ok(default),
        Some(limit) if (1..=most).contains(&limit) => Ok(limit),
        Some(_) => Err(ApiError::field("limit", format!("limit must be 1 to {most}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_at_least_one_item_and_is_cut_before_it_is_too_large() {
        let control = "\u{1}".repeat(1_000);
        assert_eq!(json_bytes(&control), 6_002);
        assert_eq!(fitting(vec![&control; 1_000]), (MOST_BYTES - BESIDE) / 6_002);
        assert_eq!(fitting(["x".repeat(2 * MOST_BYTES), "y".to_owned()]), 1);
        assert_eq!(fitting(["x"; 3]), 3);
        assert_eq!(fitting(Vec::<&str>::new()), 0);
    }
}
