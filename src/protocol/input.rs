//! How JSON of strangers is taken: a whole number may be written as `42.0` or `1e3`, as many languages write what they have as
//! a float; a list is no object; half a surrogate pair (`"\ud83d"`) is U+FFFD, as browsers show it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor};

use crate::domain::whole;

/// Reads as the deserializer below it does, but for what the module says.
pub(super) struct Input<T>(pub(super) T);

/// The same of a visitor.
struct Given<V> {
    visitor: V,
    /// Whether a fraction that is a whole number is one.
    has_whole: bool,
}

macro_rules! forwarded {
    ($($method:ident: $has_whole:literal),* $(,)?) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.0.$method(Given { visitor, has_whole: $has_whole })
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Input<D> {
    type Error = D::Error;

    forwarded! {
        deserialize_any: true, deserialize_u8: true, deserialize_u16: true, deserialize_u32: true, deserialize_u64: true,
        deserialize_u128: true, deserialize_i8: true, deserialize_i16: true, deserialize_i32: true, deserialize_i64: true,
        deserialize_i128: true, deserialize_f32: false, deserialize_f64: false, deserialize_bool: false,
        deserialize_char: false, deserialize_str: false, deserialize_string: false, deserialize_bytes: false,
        deserialize_byte_buf: false, deserialize_option: false, deserialize_unit: false, deserialize_seq: false,
        deserialize_map: false, deserialize_identifier: false, deserialize_ignored_any: false,
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_unit_struct(name, Given { visitor, has_whole: false })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_newtype_struct(name, Given { visitor, has_whole: false })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_tuple(length, Given { visitor, has_whole: false })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_tuple_struct(name, length, Given { visitor, has_whole: false })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        // What derives Deserialize takes a list of its fields, too; a map it takes from an object alone.
        self.0.deserialize_map(Given { visitor, has_whole: false })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_enum(name, variants, Given { visitor, has_whole: false })
    }
}

macro_rules! visited {
    ($($method:ident: $given:ty),* $(,)?) => {
        $(fn $method<E: Error>(self, given: $given) -> Result<V::Value, E> {
            self.visitor.$method(given)
        })*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Given<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    visited! {
        visit_bool: bool, visit_i64: i64, visit_i128: i128, visit_u64: u64, visit_u128: u128, visit_char: char,
        visit_str: &str, visit_borrowed_str: &'de str, visit_string: String, visit_bytes: &[u8],
        visit_borrowed_bytes: &'de [u8], visit_byte_buf: Vec<u8>,
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<V::Value, E> {
        match whole(number).filter(|_| self.has_whole) {
            None => self.visitor.visit_f64(number),
            Some(whole) => match u64::try_from(whole) {
                Ok(whole) => self.visitor.visit_u64(whole),
                Err(_) => self.visitor.visit_i64(whole),
            },
        }
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_some(Input(deserializer))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_newtype_struct(Input(deserializer))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, parts: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_seq(Input(parts))
    }

    fn visit_map<A: MapAccess<'de>>(self, parts: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_map(Input(parts))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, parts: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_enum(Input(parts))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Input<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(Input(deserializer))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Input<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_element_seed(Input(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Input<A> {
    type Error = A::Error;

    // A key is a text, and what RawValue calls its own.
    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_key_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(Input(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: EnumAccess<'de>> EnumAccess<'de> for Input<A> {
    type Error = A::Error;
    type Variant = Input<A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), A::Error> {
        self.0.variant_seed(seed).map(|(value, variant)| (value, Input(variant)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Input<A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.0.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.0.newtype_variant_seed(Input(seed))
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.0.tuple_variant(length, Given { visitor, has_whole: false })
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.0.struct_variant(fields, Given { visitor, has_whole: false })
    }
}

/// The JSON with `\ufffd` in place of each half of a surrogate pair that stands alone; JavaScript has such texts where a pair
/// was cut in two, and writes them so. What is no JSON stays as it is.
pub(super) fn without_half_pairs(json: &str) -> Cow<'_, str> {
    let mut mended = String::new();
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = json.get(at..).and_then(|rest| rest.find('\\')) {
        let escape = at + found;
        // What an escape begins: two characters, or six of `\uXXXX`. A backslash is followed by one character, whatever it is.
        let Some(unit) = unit(json, escape) else {
            at = json
                .get(escape + 1..)
                .and_then(|rest| rest.chars().next())
                .map_or(json.len(), |c| escape + 1 + c.len_utf8());
            continue;
        };
        at = escape + 6;
        let is_pair = (0xd800..0xdc00).contains(&unit)
            && self::unit(json, at).is_some_and(|second| (0xdc00..0xe000).contains(&second));
        if is_pair {
            at += 6;
        } else if (0xd800..0xe000).contains(&unit) {
            mended.push_str(json.get(copied..escape).unwrap_or_default());
            mended.push_str("\\ufffd");
            copied = at;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(json);
    }
    mended.push_str(json.get(copied..).unwrap_or_default());
    Cow::Owned(mended)
}

/// The code unit of the `\uXXXX` at this place, if there is one.
fn unit(json: &str, at: usize) -> Option<u16> {
    let digits = json.get(at..at + 6)?.strip_prefix("\\u")?;
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;
    use serde_json::value::RawValue;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Asked {
        id: u64,
        #[serde(default)]
        seconds: Option<u32>,
        #[serde(default)]
        ids: Vec<u64>,
        #[serde(default)]
        below: i64,
        #[serde(default)]
        share: f64,
    }

    fn read<'de, T: Deserialize<'de>>(json: &'de str) -> Result<T, serde_json::Error> {
        T::deserialize(Input(&mut serde_json::Deserializer::from_str(json)))
    }

    #[test]
    fn a_whole_number_may_be_written_as_a_fraction() {
        let asked: Asked = read(r#"{"id":42.0,"seconds":1e3,"ids":[1.0,2,3e0],"below":-7.0,"share":0.5}"#).unwrap();
        let expected = Asked { id: 42, seconds: Some(1_000), ids: vec![1, 2, 3], below: -7, share: 0.5 };
        assert_eq!(asked, expected);
        assert_eq!(read::<u64>("-0.0").unwrap(), 0);
        for bad in ["1.5", "-1.0", "1e300", "9007199254740993.5", "\"1\"", "true", "null"] {
            assert!(read::<u64>(bad).is_err(), "{bad}");
        }
        assert!(read::<u32>("4294967296.0").is_err());
    }

    #[test]
    fn a_list_is_no_object() {
        assert!(read::<Asked>("[7]").is_err());
        assert!(read::<Vec<Asked>>(r#"[{"id":7},[8]]"#).is_err());
        assert_eq!(read::<Vec<Asked>>(r#"[{"id":7}]"#).unwrap().len(), 1);
    }

    #[test]
    fn what_is_passed_on_keeps_its_text() {
        let raw: Box<RawValue> = read(r#"{"a": 42.0, "b":[1e3]}"#).unwrap();
        assert_eq!(raw.get(), r#"{"a": 42.0, "b":[1e3]}"#);
    }

    #[test]
    fn half_a_pair_is_the_replacement_character() {
        for (json, mended) in [
            (r#""\ud83d""#, r#""\ufffd""#),
            (r#""\udc00\uD83D\ude00\ud83dx""#, r#""\ufffd\uD83D\ude00\ufffdx""#),
            (r#""\\ud83d""#, r#""\\ud83d""#),
            (r#""\\\ud83d""#, r#""\\\ufffd""#),
            (r#""\ud83d\n\ud83d\ud83d\ude00""#, r#""\ufffd\n\ufffd\ud83d\ude00""#),
            (r#""\ud83"#, r#""\ud83"#),
        ] {
            assert_eq!(without_half_pairs(json), mended, "{json}");
        }
    }

    proptest! {
        #[test]
        fn texts_of_any_code_units_are_read_as_a_browser_shows_them(units: Vec<u16>) {
            let json = format!("\"{}\"", units.iter().map(|unit| format!("\\u{unit:04x}")).collect::<String>());
            let read: String = serde_json::from_str(&without_half_pairs(&json)).unwrap();
            prop_assert_eq!(read, String::from_utf16_lossy(&units));
        }

        #[test]
        fn what_is_no_escape_stays(text in ".*") {
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(&*without_half_pairs(&json), &json);
            let _ = without_half_pairs(&text);
        }
    }
}
