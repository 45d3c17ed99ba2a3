//! Reads paths, queries and bodies into the very requests that the events have, so that a rule of decoding is written once.

use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::domain::{Id, RoomId, UserId};
use crate::protocol::decode;
use crate::protocol::error::{ApiError, ErrorCode};

/// What a query parameter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A non-negative integer.
    Number,
    /// An id: canonical digits are a number, anything else a text.
    Id,
    /// Text.
    Text,
    /// `true` or `false`.
    Flag,
}

/// Something that a URL says of a request.
pub type Given = (&'static str, Value);

/// A segment of a path as an id of the request.
///
/// # Errors
/// `invalid_payload` if it is not valid UTF-8.
pub fn id_in_path(field: &'static str, segment: &str) -> Result<Given, ApiError> {
    Ok((field, id(&self::segment(field, segment)?)))
}

/// A segment of a path as text.
///
/// # Errors
/// `invalid_payload` if it is not valid UTF-8.
pub fn segment(field: &'static str, segment: &str) -> Result<String, ApiError> {
    let text = percent_decode_str(segment).decode_utf8();
    text.map(Into::into).map_err(|_| ApiError::field(field, format!("{field} must be UTF-8")))
}

/// A segment of a path as a user's id. Canonical digits are a number.
///
/// # Errors
/// `invalid_payload`.
pub fn user(segment: &str) -> Result<UserId, ApiError> {
    let text = self::segment("userId", segment)?;
    UserId::parse(&text).map_err(|error| ApiError::field("userId", error.to_string()))
}

/// A segment of a path as a room's id. Canonical digits are a number.
///
/// # Errors
/// `invalid_payload`.
pub fn room(segment: &str) -> Result<RoomId, ApiError> {
    let (field, value) = id_in_path("roomId", segment)?;
    serde_json::from_value(value).map_err(|error| ApiError::field(field, error.to_string()))
}

/// A segment of a path as a number of the request.
///
/// # Errors
/// `invalid_payload` if it is none.
pub fn number_in_path(field: &'static str, segment: &str) -> Result<Given, ApiError> {
    number(field, segment).map(|value| (field, value))
}

/// A request from a query with known parameters; others are passed over.
///
/// # Errors
/// `invalid_payload` with the parameter's name.
pub fn from_query<T: DeserializeOwned>(
    query: &str,
    known: &[(&'static str, Kind)],
    given: impl IntoIterator<Item = Given>,
) -> Result<T, ApiError> {
    let mut map = Map::new();
    for (key, text) in form_urlencoded::parse(query.as_bytes()) {
        let Some((field, kind)) = known.iter().find(|(field, _)| *field == key) else { continue };
        if text.is_empty() {
            continue;
        }
        let value = match kind {
            Kind::Number => number(field, &text)?,
            Kind::Id => id(&text),
            Kind::Text => Value::String(text.into_owned()),
            Kind::Flag => match &*text {
                "true" | "1" => Value::Bool(true),
                "false" | "0" => Value::Bool(false),
                _ => return Err(ApiError::field(*field, format!("{field} must be true or false"))),
            },
        };
        map.insert((*field).to_owned(), value);
    }
    finish(map, given)
}

/// A request from a JSON object, with what the path says in place of what the body may say of it.
///
/// # Errors
/// `invalid_payload`.
pub fn from_body<T: DeserializeOwned>(body: &Bytes, given: impl IntoIterator<Item = Given>) -> Result<T, ApiError> {
    let text = text(body)?;
    let map: Map<String, Value> = if text.trim().is_empty() { Map::new() } else { decode::request(text)? };
    finish(map, given)
}

/// The body as text, without the byte order mark that some clients begin it with (RFC 8259, 8.1: a reader may pass over it).
///
/// # Errors
/// `invalid_payload` if it is not UTF-8.
pub fn text(body: &Bytes) -> Result<&str, ApiError> {
    let text = std::str::from_utf8(body);
    let text = text.map_err(|_| ApiError::new(ErrorCode::InvalidPayload, "the body must be JSON in UTF-8"))?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

fn finish<T: DeserializeOwned>(
    mut map: Map<String, Value>,
    given: impl IntoIterator<Item = Given>,
) -> Result<T, ApiError> {
    for (field, value) in given {
        map.insert(field.to_owned(), value);
    }
    decode::request(&Value::Object(map).to_string())
}

fn number(field: &'static str, text: &str) -> Result<Value, ApiError> {
    let number: Result<u64, _> = text.parse();
    number.map(Value::from).map_err(|_| ApiError::field(field, format!("{field} must be a non-negative integer")))
}

fn id(text: &str) -> Value {
    match text.parse::<u64>() {
        Ok(number) if number.to_string() == text && number <= crate::domain::MAX_SAFE_INTEGER => {
            serde_json::to_value(Id::Number(number)).unwrap_or_default()
        }
        _ => Value::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::request::{ChatHistory, ChatMessage, NotificationList};

    #[test]
    fn a_path_names_the_room_and_its_type_is_that_of_its_digits() {
        let room = |segment| id_in_path("roomId", segment).unwrap().1;
        assert_eq!(room("7"), Value::from(7));
        assert_eq!(room("007"), Value::from("007"));
        assert_eq!(room("caf%C3%A9"), Value::from("café"));
        assert!(id_in_path("roomId", "%ff").is_err());
    }

    #[test]
    fn the_path_wins_over_the_body() {
        let body = Bytes::from(r#"{"roomId":"other","content":"x"}"#);
        let request: ChatMessage = from_body(&body, [id_in_path("roomId", "mine").unwrap()]).unwrap();
        assert_eq!(request.room_id.canonical(), "mine");
    }

    #[test]
    fn bad_parameters_are_named() {
        let known = [("before", Kind::Number), ("limit", Kind::Number), ("unreadOnly", Kind::Flag)];
        let bad = |query: &str| from_query::<NotificationList>(query, &known, []).expect_err(query).field.unwrap();
        assert_eq!(bad("before=-1"), "before");
        assert_eq!(bad("limit=ten"), "limit");
        assert_eq!(bad("unreadOnly=maybe"), "unreadOnly");
        let room = id_in_path("roomId", "a b").unwrap();
        assert!(from_query::<ChatHistory>("", &known, [room]).is_err());
    }
}
