//! Ids that keep their JSON type. `7` and `"7"` name the same user, room or lesson, and what is emitted keeps the type it
//! was given, so that `===` in a browser holds. Equality and hashing look at the canonical text alone. A text becomes an id in
//! its normal form, here and nowhere else: `café` is one room, however it was typed.

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::{MAX_SAFE_INTEGER, normal_form, visible, whole};

/// A number or a text, as JSON gave it.
#[derive(Debug, Clone)]
pub enum Id {
    /// A non-negative integer, at most [`MAX_SAFE_INTEGER`].
    Number(u64),
    /// A text.
    Text(Box<str>),
}

impl Id {
    /// The canonical text: what two ids must share to be the same.
    #[must_use]
    pub fn canonical(&self) -> String {
        self.to_string()
    }

    fn from_text(text: &str) -> Id {
        Id::Text(text.into())
    }

    /// The same in the normal form. What is far too long to be an id stays as it is, and is refused.
    fn normal(self) -> Id {
        match &self {
            Id::Text(text) if !text.is_ascii() && text.len() <= LONGEST_LOOKED_AT => match normal_form(text) {
                Cow::Borrowed(_) => self,
                Cow::Owned(form) => Id::Text(form.into()),
            },
            _ => self,
        }
    }
}

/// Texts over so many bytes are no ids in any form: 100 characters have at most four bytes, and are written with at most four each.
const LONGEST_LOOKED_AT: usize = 4 * 4 * 100;

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Id::Number(number) => write!(f, "{number}"),
            Id::Text(text) => f.write_str(text),
        }
    }
}

impl PartialEq for Id {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Id::Number(a), Id::Number(b)) => a == b,
            (Id::Text(a), Id::Text(b)) => a == b,
            (Id::Number(number), Id::Text(text)) | (Id::Text(text), Id::Number(number)) => number.to_string() == **text,
        }
    }
}

impl Eq for Id {}

impl Hash for Id {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Id::Number(number) => number.to_string().hash(state),
            Id::Text(text) => (**text).hash(state),
        }
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Id::Number(number) => serializer.serialize_u64(*number),
            Id::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdVisitor;

        impl Visitor<'_> for IdVisitor {
            type Value = Id;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a non-negative integer or a text")
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Id, E> {
                match whole(number).map(u64::try_from) {
                    Some(Ok(number)) => Ok(Id::Number(number)),
                    _ => Err(E::invalid_value(de::Unexpected::Float(number), &self)),
                }
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Id, E> {
                if number > MAX_SAFE_INTEGER {
                    return Err(E::custom("is over 2^53 - 1, which JavaScript cannot hold"));
                }
                Ok(Id::Number(number))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Id, E> {
                Ok(Id::from_text(text))
            }
        }

        deserializer.deserialize_any(IdVisitor)
    }
}

/// Why an id is refused. The message says what is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not a valid user id.
    #[error(
        "must be a positive integer, or 1 to 64 characters without control characters, invisible ones, spaces, ':' or ','"
    )]
    User,
    /// Not a valid room id.
    #[error(
        "must be a non-negative integer, or 1 to 100 characters without control characters, invisible ones or spaces, and neither '.' nor '..'"
    )]
    Room,
    /// The id spells an inner room of the server.
    #[error("must be the id of a chat room alone, for example \"room-123\", without the prefix of a room name")]
    Reserved,
    /// Not a valid lesson, course or module id.
    #[error(
        "must be a non-negative integer, or 1 to 100 characters without control characters, invisible ones or spaces, and neither '.' nor '..'"
    )]
    Lesson,
    /// Not a full room name.
    #[error("must be a room name: all, admin, hr, coach, learner, user:ID or chat:ID")]
    NotARoomName,
}

/// Whether a text id of at most `max_chars` characters is clean: two names that look alike must not be two rooms.
fn is_clean(text: &str, max_chars: usize, also_forbidden: &[char]) -> bool {
    let mut chars = 0;
    for c in text.chars() {
        chars += 1;
        if chars > max_chars || c.is_control() || c.is_whitespace() || also_forbidden.contains(&c) {
            return false;
        }
    }
    chars > 0 && !visible::hides_something(text)
}

/// Whether a text is the id of a room or a lesson. Whatever asks by HTTP takes a segment `.` or `..` out of its path, also where it
/// is percent-encoded (WHATWG URL, 4.4): what has such an id could be joined, and never be asked for.
fn is_name(text: &str) -> bool {
    is_clean(text, 100, &[]) && !matches!(text, "." | "..")
}

macro_rules! typed_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Id);

        impl $name {
            /// The id with its JSON type.
            #[must_use]
            pub fn id(&self) -> &Id {
                &self.0
            }

            /// The canonical text: what two ids must share to be the same.
            #[must_use]
            pub fn canonical(&self) -> String {
                self.0.canonical()
            }

            /// An id that is stored. It was looked at when it came, by what was an id then.
            #[must_use]
            pub fn stored(id: Id) -> Self {
                Self(id)
            }

            /// An id given as text, on a command line or in a URL: digits that are written canonically become a number, where
            /// that number is an id. (The text `"0"` is a user's, and the number is nobody's.)
            ///
            /// # Errors
            /// [`IdError`] if the text is not a valid id.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                if let Ok(number) = text.parse::<u64>()
                    && number <= MAX_SAFE_INTEGER
                    && number.to_string() == text
                    && let Ok(id) = Self::new(Id::Number(number))
                {
                    return Ok(id);
                }
                Self::new(Id::from_text(text))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        #[cfg(test)]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": ["integer", "string"], "minimum": 0, "maximum": MAX_SAFE_INTEGER, "minLength": 1, "maxLength": 100
                })
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(Id::deserialize(deserializer)?).map_err(de::Error::custom)
            }
        }
    };
}

/// Which JSON type the id of a user has who is a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdType {
    /// That of the first token of theirs.
    First,
    /// A number.
    Number,
    /// A text.
    Text,
}

typed_id! {
    /// A user: a positive integer, or 1-64 characters without control characters, spaces, `:` or `,`.
    UserId
}

impl UserId {
    /// Checks an id.
    ///
    /// # Errors
    /// [`IdError::User`] if it is none.
    pub fn new(id: Id) -> Result<UserId, IdError> {
        let id = id.normal();
        let valid = match &id {
            Id::Number(number) => *number > 0,
            Id::Text(text) => is_clean(text, 64, &[':', ',']),
        };
        if valid { Ok(UserId(id)) } else { Err(IdError::User) }
    }

    /// The number that the id is, whichever JSON type it has; `None` for one that is none.
    #[must_use]
    pub fn as_number(&self) -> Option<u64> {
        match &self.0 {
            Id::Number(number) => Some(*number),
            Id::Text(text) => {
                let number: u64 = text.parse().ok()?;
                ((1..=MAX_SAFE_INTEGER).contains(&number) && number.to_string() == **text).then_some(number)
            }
        }
    }

    /// The same user with one JSON type: a number where `as_number` and the id is one, else a text.
    #[must_use]
    pub fn typed(&self, as_number: bool) -> UserId {
        match self.as_number() {
            Some(number) if as_number => UserId(Id::Number(number)),
            Some(number) => UserId(Id::Text(number.to_string().into())),
            None => self.clone(),
        }
    }

    /// The sender of what the server or a back end says: `"system"`.
    #[must_use]
    pub fn system() -> UserId {
        UserId(Id::from_text("system"))
    }

    /// The sender of what somebody wrote who has been erased: `"erased"`, the same for all of them.
    #[must_use]
    pub fn erased() -> UserId {
        UserId(Id::from_text("erased"))
    }

    /// Whether it is one of the two above: nobody signs in as one of them.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        *self == UserId::system() || *self == UserId::erased()
    }
}

typed_id! {
    /// A chat room: a non-negative integer, or 1-100 characters without control characters or spaces. Ids that begin like
    /// a full room name (`user:`, `chat:`, in any case) are refused, so that nobody takes them for an inner room.
    RoomId
}

impl RoomId {
    /// The room of a number.
    #[must_use]
    pub fn number(number: u64) -> RoomId {
        RoomId(Id::Number(number))
    }

    /// Checks an id.
    ///
    /// # Errors
    /// [`IdError::Room`] or [`IdError::Reserved`].
    pub fn new(id: Id) -> Result<RoomId, IdError> {
        let id = id.normal();
        if let Id::Text(text) = &id {
            if !is_name(text) {
                return Err(IdError::Room);
            }
            if has_reserved_prefix(text) {
                return Err(IdError::Reserved);
            }
        }
        Ok(RoomId(id))
    }
}

/// Full-width and other compatibility forms are folded for the letters and the colon concerned, so that `ＵＳＥＲ：１` is seen
/// for what it imitates.
fn has_reserved_prefix(text: &str) -> bool {
    let folded: String = text
        .chars()
        .take(5)
        .map(|c| match c {
            '\u{ff01}'..='\u{ff5e}' => char::from_u32(c as u32 - 0xfee0).unwrap_or(c),
            '\u{fe55}' | '\u{fe13}' | '\u{2236}' | '\u{a789}' => ':',
            '\u{17f}' => 's',
            _ => c,
        })
        .flat_map(char::to_lowercase)
        .collect();
    folded.starts_with("user:") || folded.starts_with("chat:")
}

typed_id! {
    /// A lesson, course or module: a non-negative integer, or 1-100 characters without control characters or spaces.
    LessonId
}

impl LessonId {
    /// Checks an id.
    ///
    /// # Errors
    /// [`IdError::Lesson`] if it is none.
    pub fn new(id: Id) -> Result<LessonId, IdError> {
        let id = id.normal();
        match &id {
            Id::Text(text) if !is_name(text) => Err(IdError::Lesson),
            _ => Ok(LessonId(id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn room(json: &str) -> Result<RoomId, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn seven_and_its_text_are_the_same_room_and_keep_their_type() {
        let (number, text) = (room("7").unwrap(), room("\"7\"").unwrap());
        assert_eq!(number, text);
        assert_eq!(HashSet::from([number.clone(), text.clone()]).len(), 1);
        assert_eq!(serde_json::to_string(&number).unwrap(), "7");
        assert_eq!(serde_json::to_string(&text).unwrap(), "\"7\"");
        assert_ne!(room("\"07\"").unwrap(), number);
    }

    #[test]
    fn bad_room_ids_are_refused() {
        let long = format!("\"{}\"", "x".repeat(101));
        for bad in [
            "-1",
            "1.5",
            "null",
            "true",
            "[]",
            "{}",
            "\"\"",
            "\" \"",
            "\"a b\"",
            "\"a\\u0000\"",
            "\"a\\u200bb\"",
            "\"\\u202eb\"",
            "9007199254740992",
            "\"user:1\"",
            "\"USER:1\"",
            "\"chat:room\"",
            "\"ｕｓｅｒ：1\"",
            "\".\"",
            "\"..\"",
            &long,
        ] {
            assert!(room(bad).is_err(), "{bad}");
        }
        for good in ["0", "\"room-123\"", "\"é\"", "\"admin\"", "\"users:1\"", "9007199254740991"] {
            assert!(room(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn dots_alone_are_refused_and_read_where_they_were_stored() {
        for dots in [".", ".."] {
            assert_eq!(RoomId::parse(dots), Err(IdError::Room));
            assert_eq!(LessonId::parse(dots), Err(IdError::Lesson));
            assert_eq!(RoomId::stored(Id::from_text(dots)).canonical(), dots);
        }
        for good in ["...", ".a", "a/..", "%2e%2e", "?", "#", "a\\b", "%"] {
            assert!(RoomId::parse(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn both_forms_of_a_text_are_one_id_and_the_normal_one_is_told() {
        let (composed, decomposed) = ("\"caf\u{e9}\"", "\"cafe\u{301}\"");
        assert_eq!(room(composed).unwrap(), room(decomposed).unwrap());
        assert_eq!(serde_json::to_string(&room(decomposed).unwrap()).unwrap(), composed);
        assert_eq!(RoomId::parse("cafe\u{301}").unwrap().canonical(), "caf\u{e9}");
        assert_eq!(UserId::parse("cafe\u{301}"), UserId::parse("caf\u{e9}"));
        assert_eq!(LessonId::parse("cafe\u{301}"), LessonId::parse("caf\u{e9}"));
        // What is stored is read as it lies.
        assert_eq!(RoomId::stored(Id::from_text("cafe\u{301}")).canonical(), "cafe\u{301}");
        // The length is that of the normal form, which is what is told and taken back.
        assert!(RoomId::parse(&"e\u{301}".repeat(100)).is_ok() && RoomId::parse(&"e\u{301}".repeat(101)).is_err());
        assert!(RoomId::parse(&"\u{958}".repeat(50)).is_ok() && RoomId::parse(&"\u{958}".repeat(51)).is_err());
        assert!(RoomId::parse(&"e\u{301}".repeat(100_000)).is_err());
        // What is refused is refused in any form.
        assert_eq!(RoomId::parse("e\u{301}\u{200b}"), Err(IdError::Room));
    }

    #[test]
    fn an_id_may_be_as_long_as_it_says_and_no_longer() {
        assert!(RoomId::parse(&"é".repeat(100)).is_ok() && RoomId::parse(&"é".repeat(101)).is_err());
        assert!(LessonId::parse(&"x".repeat(100)).is_ok() && LessonId::parse(&"x".repeat(101)).is_err());
        assert!(UserId::parse(&"x".repeat(64)).is_ok() && UserId::parse(&"x".repeat(65)).is_err());
        // Longer by more than one: the count is compared, and not met.
        assert!(UserId::parse(&"x".repeat(80)).is_err());
    }

    #[test]
    fn what_imitates_an_inner_room_is_refused() {
        for colon in ['\u{fe55}', '\u{fe13}', '\u{2236}', '\u{a789}', '\u{ff1a}'] {
            assert_eq!(RoomId::parse(&format!("user{colon}1")), Err(IdError::Reserved), "{colon}");
        }
        assert_eq!(RoomId::parse("u\u{17f}er:1"), Err(IdError::Reserved));
        assert!(RoomId::parse("uler:1").is_ok());
    }

    #[test]
    fn a_user_has_the_json_type_that_is_asked_for_where_the_id_is_a_number() {
        let json = |id: &str, as_number| {
            let id: UserId = serde_json::from_str(id).unwrap();
            serde_json::to_string(&id.typed(as_number)).unwrap()
        };
        for id in ["7", "\"7\"", "7.0"] {
            assert_eq!((json(id, true).as_str(), json(id, false).as_str()), ("7", "\"7\""), "{id}");
        }
        for text in ["\"ann\"", "\"007\"", "\"0\"", "\"7.0\"", "\"+7\"", "\"9007199254740993\""] {
            assert_eq!((json(text, true).as_str(), json(text, false).as_str()), (text, text));
        }
    }

    #[test]
    fn nobody_signs_in_as_one_of_the_two_reserved_senders() {
        assert!(UserId::system().is_reserved() && UserId::erased().is_reserved());
        assert!(!UserId::parse("7").unwrap().is_reserved());
    }

    #[test]
    fn what_is_no_id_is_told_what_one_is() {
        let error = room("true").unwrap_err().to_string();
        assert!(error.contains("a non-negative integer or a text"), "{error}");
    }

    #[test]
    fn different_ids_hash_differently() {
        let hash = |id: &Id| {
            let mut hasher = std::collections::hash_map::DefaultHasher::new();
            id.hash(&mut hasher);
            hasher.finish()
        };
        assert_ne!(hash(&Id::Number(7)), hash(&Id::Number(8)));
    }

    #[test]
    fn bad_user_ids_are_refused() {
        for bad in ["0", "-7", "\"\"", "\"a:b\"", "\"a,b\"", "\"a b\"", "7.5"] {
            assert!(serde_json::from_str::<UserId>(bad).is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<UserId>("\"auth0|abc\"").is_ok());
    }

    #[test]
    fn who_has_an_id_can_be_named_by_its_text() {
        // The number 0 is nobody's; a text may be all digits.
        for json in ["7", "\"7\"", "\"0\"", "\"007\"", "\"9007199254740993\"", "\"auth0|abc\""] {
            let id: UserId = serde_json::from_str(json).unwrap();
            assert_eq!(UserId::parse(&id.canonical()), Ok(id), "{json}");
        }
    }

    proptest! {
        #[test]
        fn ids_round_trip(text in "\\PC{1,60}") {
            if let Ok(id) = RoomId::parse(&text) {
                let json = serde_json::to_string(&id).unwrap();
                let back: RoomId = serde_json::from_str(&json).unwrap();
                prop_assert_eq!(&back, &id);
                prop_assert_eq!(back.canonical(), normal_form(&text));
            }
        }

        #[test]
        fn equal_ids_hash_alike(number in 0..=MAX_SAFE_INTEGER) {
            let a = Id::Number(number);
            let b = Id::Text(number.to_string().into());
            prop_assert_eq!(&a, &b);
            prop_assert_eq!(HashSet::from([a, b]).len(), 1);
        }
    }
}
