//! Cursors: positions in one life of one store, opaque to the clients that hand them back. Only what was written by
//! [`Cursor`] is read by it: whatever else somebody sends is a cursor from elsewhere.

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
        // A store, and so many numbers: more is not looked at.
        let mut parts = text.splitn(N + 3, '.');
        let store = hex(parts.next()?)?.to_be_bytes();
        let [0, 0, a, b, c, d, e, f] = store else { return None };
        let epoch = hex(parts.next()?)?;
        let mut numbers = [0; N];
        for number in &mut numbers {
            *number = hex(parts.next()?)?;
        }
        let cursor = Cursor { life: Life { store: [a, b, c, d, e, f], epoch }, numbers };
        // One spelling: no sign, no capitals, no zeros in front, nothing behind.
        (cursor.to_string() == text).then_some(cursor)
    }
}

impl<const N: usize> fmt::Display for Cursor<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.life.store {
            write!(f, "{byte:02x}")?;
        }
        write!(f, ".{:x}", self.life.epoch)?;
        self.numbers.iter().try_for_each(|number| write!(f, ".{number:x}"))
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
        let good = Cursor { life: Life::new([0xab; 16], 2), numbers: [10] };
        assert_eq!(good.to_string(), "abababababab.2.a");
        assert_eq!(Cursor::parse("abababababab.2.a"), Some(good));
        for bad in [
            "",
            ".",
            "..",
            "abababababab.2",
            "abababababab.2.a.",
            "abababababab.2.a.0",
            "abababababab.2.+a",
            "abababababab.2.A",
            "abababababab.2.0a",
            "ABABABABABAB.2.a",
            "ababababab.2.a",
            "00abababababab.2.a",
            "abababababab.2.-1",
            "abababababab.2.10000000000000000",
            " abababababab.2.a",
        ] {
            assert_eq!(Cursor::<1>::parse(bad), None, "{bad}");
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
        fn any_text_is_answered(text in "[0-9a-fA-F.+-]{0,40}") {
            if let Some(cursor) = Cursor::<1>::parse(&text) {
                prop_assert_eq!(cursor.to_string(), text);
            }
        }
    }
}
