//! Cursors: positions in one life of one store, opaque to the clients that hand them back. Only what was written by
//! [`Cursor`] for the same user is read by it: whatever else somebody sends is a cursor from elsewhere. A seal at its end, keyed
//! with a secret of the store, tells what was cut, changed, forged or taken from somebody else.

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

/// What positions are authenticated with: a key of the store, and who they were given to.
#[derive(Clone, Copy)]
pub struct Seal<'s> {
    /// The store's secret.
    pub key: &'s [u8; 32],
    /// The canonical id of the user; nobody else's cursor is read.
    pub user: &'s str,
}

impl fmt::Debug for Seal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seal").field("user", &self.user).finish_non_exhaustive()
    }
}

impl<const N: usize> Cursor<N> {
    /// Reads what [`Cursor::write`] has written for the same user; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str, seal: Seal<'_>) -> Option<Cursor<N>> {
        // A store, so many numbers and the seal: more is not looked at.
        let mut parts = text.splitn(N + 3, '.');
        let store = hex(parts.next()?)?.to_be_bytes();
        let [0, 0, a, b, c, d, e, f] = store else { return None };
        let epoch = hex(parts.next()?)?;
        let mut numbers = [0; N];
        for number in &mut numbers {
            *number = hex(parts.next()?)?;
        }
        let cursor = Cursor { life: Life { store: [a, b, c, d, e, f], epoch }, numbers };
        // One spelling: no sign, no capitals, no zeros in front, nothing behind; and the seal. BLAKE3 hashes compare in
        // constant time: no clock tells how much of a forged one was right.
        let written = cursor.write(seal);
        (blake3::hash(written.as_bytes()) == blake3::hash(text.as_bytes())).then_some(cursor)
    }

    /// The position as a client is given it.
    #[must_use]
    pub fn write(&self, seal: Seal<'_>) -> String {
        let mut text = String::with_capacity(64);
        let mut hasher = blake3::Hasher::new_keyed(seal.key);
        for byte in self.life.store {
            text.push_str(&format!("{byte:02x}"));
        }
        hasher.update(&self.life.store);
        for number in [self.life.epoch].iter().chain(&self.numbers) {
            text.push_str(&format!(".{number:x}"));
            hasher.update(&number.to_le_bytes());
        }
        hasher.update(seal.user.as_bytes());
        let mut mac = [0; 8];
        hasher.finalize_xof().fill(&mut mac);
        text.push_str(&format!(".{:016x}", u64::from_be_bytes(mac)));
        text
    }
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SEAL: Seal<'static> = Seal { key: &[7; 32], user: "7" };

    #[test]
    fn another_spelling_is_a_cursor_from_elsewhere() {
        let good = Cursor { life: Life::new([0xab; 16], 2), numbers: [0x1a] };
        let text = good.write(SEAL);
        let seal = text.strip_prefix("abababababab.2.1a.").unwrap();
        assert_eq!((seal.len(), Cursor::parse(&text, SEAL)), (16, Some(good)));
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
            for bad in [format!("{bad}.{seal}"), bad.to_owned(), format!("{bad}.")] {
                assert_eq!(Cursor::<1>::parse(&bad, SEAL), None, "{bad}");
            }
        }
        for bad in ["", ".", "..", "...", &"f".repeat(100_000)] {
            assert_eq!(Cursor::<1>::parse(bad, SEAL), None);
        }
    }

    #[test]
    fn another_users_and_another_keys_are_none() {
        let text = Cursor { life: Life::new([1; 16], 1), numbers: [1, 2, 3] }.write(SEAL);
        assert!(Cursor::<3>::parse(&text, SEAL).is_some());
        assert_eq!(Cursor::<3>::parse(&text, Seal { user: "8", ..SEAL }), None);
        assert_eq!(Cursor::<3>::parse(&text, Seal { key: &[8; 32], ..SEAL }), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(store_id: [u8; 16], epoch: u64, numbers: [u64; 3]) {
            let cursor = Cursor { life: Life::new(store_id, epoch), numbers };
            prop_assert_eq!(Cursor::parse(&cursor.write(SEAL), SEAL), Some(cursor));
            prop_assert_eq!(Cursor::<1>::parse(&cursor.write(SEAL), SEAL), None);
        }

        #[test]
        fn cut_or_changed_anywhere_it_is_none(numbers: [u64; 3], seed: usize, byte in 0x20_u8..0x7f) {
            let text = Cursor { life: Life::new([1; 16], 7), numbers }.write(SEAL);
            let at = seed % text.len();
            prop_assert_eq!(Cursor::<3>::parse(&text[..at], SEAL), None, "cut");
            prop_assert_eq!(Cursor::<3>::parse(&text[at + 1..], SEAL), None, "cut in front");
            prop_assert_eq!(Cursor::<3>::parse(&format!("{}{}", &text[..=at], &text[at..]), SEAL), None, "longer");
            let mut changed = text.clone().into_bytes();
            changed[at] = byte;
            let changed = String::from_utf8(changed).unwrap();
            prop_assert_eq!(Cursor::<3>::parse(&changed, SEAL).is_some(), changed == text);
        }

        #[test]
        fn any_text_is_answered(text in "[0-9a-fA-F.+-]{0,40}") {
            if let Some(cursor) = Cursor::<1>::parse(&text, SEAL) {
                prop_assert_eq!(cursor.write(SEAL), text);
            }
        }
    }
}
