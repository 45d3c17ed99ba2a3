//! Cursors: positions in one life of one store, opaque to the clients that hand them back. Only what was written by
//! [`Cursor`] is read by it: whatever else somebody sends is a cursor from elsewhere. One that was cut would be another good
//! one, of a moment before: a check at its end tells.

use std::fmt;

/// One life of a store: a restore begins another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    store: [u8; 6],
    epoch: u64,
}

impl Life {
    /// The life of a store with this id. Six bytes of it tell stores apart.
    #[must_use]
    pub fn new(store_id: [u8; 16], epoch: u64) -> Life {
        let [a, b, c, d, e, f, ..] = store_id;
        Life { store: [a, b, c, d, e, f], epoch }
    }
}

/// A position: `N` numbers that mean something within one life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor<const N: usize> {
    /// The life in which they mean something.
    pub life: Life,
    /// The numbers.
    pub numbers: [u64; N],
}

impl<const N: usize> Cursor<N> {
    /// Reads what [`Cursor`] has written; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Cursor<N>> {
        // A store, so many numbers and the check: more is not looked at.
        let mut parts = text.splitn(N + 3, '.');
        let store = hex(parts.next()?)?.to_be_bytes();
        let [0, 0, a, b, c, d, e, f] = store else { return None };
        let epoch = hex(parts.next()?)?;
        let mut numbers = [0; N];
        for number in &mut numbers {
            *number = hex(parts.next()?)?;
        }
        let cursor = Cursor { life: Life { store: [a, b, c, d, e, f], epoch }, numbers };
        // One spelling: no sign, no capitals, no zeros in front, nothing behind; and the check.
        (cursor.to_string() == text).then_some(cursor)
    }
}

impl<const N: usize> fmt::Display for Cursor<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut check = blake3::Hasher::new();
        for byte in self.life.store {
            write!(f, "{byte:02x}")?;
        }
        check.update(&self.life.store);
        for number in [self.life.epoch].iter().chain(&self.numbers) {
            write!(f, ".{number:x}")?;
            check.update(&number.to_le_bytes());
        }
        let [a, b, c, d, ..] = *check.finalize().as_bytes();
        write!(f, ".{a:02x}{b:02x}{c:02x}{d:02x}")
    }
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn another_spelling_is_a_cursor_from_elsewhere() {
        let good = Cursor { life: Life::new([0xab; 16], 2), numbers: [0x1a] };
        let text = good.to_string();
        let check = text.strip_prefix("abababababab.2.1a.").unwrap();
        assert_eq!((check.len(), Cursor::parse(&text)), (8, Some(good)));
        for bad in [
            "abababababab.2.1a.0",
            "abababababab.2.+1a",
            "abababababab.2.1A",
            "abababababab.2.01a",
            "ABABABABABAB.2.1a",
            "ababababab.2.1a",
            "00abababababab.2.1a",
            "abababababab.2.-1",
            "abababababab.2.10000000000000000",
            " abababababab.2.1a",
            "abababababab.2",
        ] {
            for bad in [format!("{bad}.{check}"), bad.to_owned(), format!("{bad}.")] {
                assert_eq!(Cursor::<1>::parse(&bad), None, "{bad}");
            }
        }
        for bad in ["", ".", "..", "...", &"f".repeat(100_000)] {
            assert_eq!(Cursor::<1>::parse(bad), None);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(store_id: [u8; 16], epoch: u64, numbers: [u64; 3]) {
            let cursor = Cursor { life: Life::new(store_id, epoch), numbers };
            prop_assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
            prop_assert_eq!(Cursor::<1>::parse(&cursor.to_string()), None);
        }

        #[test]
        fn cut_or_changed_anywhere_it_is_none(numbers: [u64; 3], seed: usize, byte in 0x20_u8..0x7f) {
            let text = Cursor { life: Life::new([1; 16], 7), numbers }.to_string();
            let at = seed % text.len();
            prop_assert_eq!(Cursor::<3>::parse(&text[..at]), None, "cut");
            prop_assert_eq!(Cursor::<3>::parse(&text[at + 1..]), None, "cut in front");
            prop_assert_eq!(Cursor::<3>::parse(&format!("{}{}", &text[..=at], &text[at..])), None, "longer");
            let mut changed = text.clone().into_bytes();
            changed[at] = byte;
            let changed = String::from_utf8(changed).unwrap();
            prop_assert_eq!(Cursor::<3>::parse(&changed).is_some(), changed == text);
        }

        #[test]
        fn any_text_is_answered(text in "[0-9a-fA-F.+-]{0,40}") {
            if let Some(cursor) = Cursor::<1>::parse(&text) {
                prop_assert_eq!(cursor.to_string(), text);
            }
        }
    }
}
