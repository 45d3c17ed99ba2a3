//! Positions that clients keep and hand back, opaque to them: of which store and which life of it, and where in it. One text
//! is one position: what was cut, changed or spelled otherwise is none, so that nobody is led to a place they have not been.

use std::fmt::Write as _;

use crate::store::Identity;

/// More than any cursor of ours has.
const MAX_LEN: usize = 128;

/// The text of a position: `<store>.<epoch>.<numbers>.<check>`, all in hexadecimal.
pub(super) fn write(life: &Identity, at: &[u64]) -> String {
    let mut text: String = life.store_id.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    for number in [life.epoch].iter().chain(at) {
        // Writing to a string does not fail.
        let _ = write!(text, ".{number:x}");
    }
    let check = blake3::hash(text.as_bytes());
    text.push('.');
    for byte in check.as_bytes().iter().take(4) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The position of a text; `None` if [`write`] has not given it in this life.
pub(super) fn read<const N: usize>(life: &Identity, text: &str) -> Option<[u64; N]> {
    if text.len() > MAX_LEN {
        return None;
    }
    let mut at = [0; N];
    let mut parts = text.split('.').skip(2);
    for number in &mut at {
        *number = u64::from_str_radix(parts.next()?, 16).ok()?;
    }
    // Signs, leading zeros, capitals, another life and whatever else: only what is written so is taken.
    (write(life, &at) == text).then_some(at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn life(store: u8, epoch: u64) -> Identity {
        Identity { store_id: [store; 16], epoch }
    }

    #[test]
    fn other_spellings_are_no_cursor() {
        let life = life(0xab, 2);
        let text = write(&life, &[0x1f, 10, 3]);
        let (place, check) = text.rsplit_once('.').unwrap();
        assert_eq!(place, "abababababab.2.1f.a.3");
        assert_eq!(read(&life, &text), Some([0x1f, 10, 3]));
        for other in
            ["abababababab.2.1F.a.3", "abababababab.2.01f.a.3", "abababababab.2.+1f.a.3", "ABababababab.2.1f.a.3"]
        {
            assert_eq!(read::<3>(&life, &format!("{other}.{check}")), None, "{other}");
        }
        assert_eq!(read::<3>(&life, &format!("{text} ")), None);
        assert_eq!(read::<3>(&life, &format!("{place}.{}", check.to_uppercase() + "x")), None);
        assert_eq!(read::<3>(&life, &text.replace('.', "..")), None);
        assert_eq!(read::<3>(&life, &"f".repeat(100_000)), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(store: u8, epoch: u64, one: u64, three: [u64; 3]) {
            let life = life(store, epoch);
            prop_assert_eq!(read(&life, &write(&life, &[one])), Some([one]));
            prop_assert_eq!(read(&life, &write(&life, &three)), Some(three));
            prop_assert!(write(&life, &three).len() <= MAX_LEN);
            prop_assert_eq!(read::<1>(&life, &write(&life, &three)), None, "a position of another kind");
            prop_assert_eq!(read::<3>(&life, &write(&life, &[one])), None);
        }

        #[test]
        fn another_life_is_refused(store: u8, other: u8, epoch: u64, later: u64, at: [u64; 3]) {
            prop_assume!(store != other && epoch != later);
            let text = write(&life(store, epoch), &at);
            prop_assert_eq!(read::<3>(&life(other, epoch), &text), None);
            prop_assert_eq!(read::<3>(&life(store, later), &text), None);
        }

        #[test]
        fn cut_or_changed_anywhere_it_is_refused(at: [u64; 3], seed: usize, byte in 0x20_u8..0x7f) {
            let life = life(1, 7);
            let text = write(&life, &at);
            let index = seed % text.len();
            prop_assert_eq!(read::<3>(&life, &text[..index]), None, "cut");
            prop_assert_eq!(read::<3>(&life, &text[index + 1..]), None, "cut in front");
            let mut changed = text.clone().into_bytes();
            changed[index] = byte;
            let changed = String::from_utf8(changed).unwrap();
            prop_assert_eq!(read::<3>(&life, &changed).is_some(), changed == text);
            let doubled = format!("{}{}", &text[..=index], &text[index..]);
            prop_assert_eq!(read::<3>(&life, &doubled), None, "longer");
        }

        #[test]
        fn any_text_is_a_position_only_if_it_is_written_so(text in "\\PC{0,140}") {
            prop_assert_eq!(read::<3>(&life(1, 7), &text), None);
            prop_assert_eq!(read::<1>(&life(1, 7), &text), None);
        }
    }
}
