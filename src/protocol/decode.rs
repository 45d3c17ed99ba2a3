//! Reads JSON of strangers into typed requests; an error names the field. It never recurses deeper than
//! `serde_json` allows (128), whatever the nesting of the input.

use serde::de::DeserializeOwned;

use crate::domain::nearest;
use crate::protocol::error::{ApiError, ErrorCode};
use crate::protocol::input::{Input, without_half_pairs};

/// At most so many characters of a text of the sender's are in an error.
const SHOWN: usize = 40;

/// Reads one JSON object into a request, as [`input`](super::input) says.
///
/// # Errors
/// `invalid_payload` with the field concerned: `content`, `[3].progress`, `target.user`.
pub fn request<T: DeserializeOwned>(json: &str) -> Result<T, ApiError> {
    let json = without_half_pairs(json);
    let mut deserializer = serde_json::Deserializer::from_str(&json);
    let value = serde_path_to_error::deserialize(Input(&mut deserializer)).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." || path == "?" { None } else { Some(path) };
        wrong(path.as_deref(), &error.into_inner())
    })?;
    deserializer
        .end()
        .map_err(|_| ApiError::new(ErrorCode::InvalidPayload, "there is something behind the JSON value"))?;
    Ok(value)
}

/// What is wrong at a place, in words of people: serde's own are those of Rust.
fn wrong(path: Option<&str>, error: &serde_json::Error) -> ApiError {
    let text = error.to_string();
    // The position means nothing inside a packet.
    let text = text.get(..text.rfind(" at line ").unwrap_or(text.len())).unwrap_or(&text);
    let name = || text.split('`').nth(1).unwrap_or_default();
    let below = |name: &str| match path {
        // The path of an unknown field is that of the field.
        Some(path) if path == name || path.ends_with(&format!(".{name}")) => path.to_owned(),
        Some(path) => format!("{path}.{name}"),
        None => name.to_owned(),
    };
    if text.starts_with("missing field") {
        let field = below(name());
        return ApiError::field(field.clone(), format!("{field} is missing"));
    }
    if text.starts_with("duplicate field") {
        let field = below(name());
        return ApiError::field(field.clone(), format!("{field} is there twice"));
    }
    if text.starts_with("unknown field") {
        let name: String = name().chars().take(SHOWN).collect();
        let known: Vec<&str> = text.split('`').skip(3).step_by(2).collect();
        let advice = match nearest(&name, known.iter().copied()) {
            Some(nearest) => format!("did you mean {nearest}?"),
            None if known.is_empty() => "there may be none".to_owned(),
            None => format!("there may be: {}", known.join(", ")),
        };
        let field = below(&name);
        return ApiError::field(field.clone(), format!("there is no field {field} here; {advice}"));
    }
    let says = if error.is_data() { said(text) } else { format!("is not valid JSON: {text}") };
    match path {
        Some(path) => ApiError::field(path, format!("{path} {says}")),
        None => ApiError::new(ErrorCode::InvalidPayload, format!("the request {says}")),
    }
}

/// `invalid type: string "x", expected u32` as `must be a whole number from 0 to 4294967295, and is a text`.
fn said(text: &str) -> String {
    if text.starts_with("unknown variant") {
        let known: Vec<&str> = text.split('`').skip(3).step_by(2).collect();
        return format!("must be one of {}", known.join(", "));
    }
    let Some((found, wanted)) = text
        .strip_prefix("invalid type: ")
        .or_else(|| text.strip_prefix("invalid value: "))
        .and_then(|rest| rest.rsplit_once(", expected "))
    else {
        // The domain's own words: "must be ...".
        let own = text.starts_with("must ") || text.starts_with("is ");
        let shown: String = text.chars().take(200).collect();
        return if own { shown } else { format!("is wrong: {shown}") };
    };
    let wanted = match wanted {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number that is not negative",
        "i64" => "a whole number",
        "f32" | "f64" => "a number",
        "a string" | "a borrowed string" => "a text",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "an object",
        other if other.starts_with("struct ") => "an object",
        other => other,
    };
    let is = match found.split([' ', '`']).next().unwrap_or_default() {
        "string" | "character" => "is a text".to_owned(),
        "map" => "is an object".to_owned(),
        "sequence" => "is a list".to_owned(),
        "null" | "unit" | "Option" => "is null".to_owned(),
        _ => format!(
            "is {}",
            found.split('`').nth(1).unwrap_or("something else").chars().take(SHOWN).collect::<String>()
        ),
    };
    format!("must be {wanted}, and {is}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::request::{Broadcast, ChatMessage, ProgressSync, Target};

    fn refused(json: &str) -> ApiError {
        request::<ChatMessage>(json).expect_err(json)
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(refused(r#"{"roomId":"a"}"#).field.as_deref(), Some("content"));
        assert_eq!(refused(r#"{"roomId":"a b","content":"x"}"#).field.as_deref(), Some("roomId"));
        assert_eq!(refused(r#"{"roomId":"a","content":7}"#).field.as_deref(), Some("content"));
        assert_eq!(
            refused(r#"{"roomId":"a","content":"x","replyToId":"7"}"#).message,
            "replyToId must be a whole number that is not negative, and is a text"
        );
        for bad in ["", "null", "[]", "7", "\"a\"", "{", r#"{"roomId":"a","content":"x"} x"#] {
            assert_eq!(refused(bad).code, ErrorCode::InvalidPayload, "{bad}");
        }
    }

    #[test]
    fn it_is_said_in_words_of_people() {
        fn says<T: DeserializeOwned + std::fmt::Debug>(json: &str) -> (String, String) {
            let error = request::<T>(json).expect_err(json);
            (error.field.unwrap_or_default(), error.message.into_owned())
        }
        let sync = |json: &str| says::<Vec<ProgressSync>>(json);
        let (field, words) = sync(r#"[{"lessonId":1,"progress":5},{"lessonId":1}]"#);
        assert_eq!((&*field, &*words), ("[1].progress", "[1].progress is missing"));
        let (field, words) = sync(r#"[{"lessonId":1,"progress":5,"timeSpent":5000000000}]"#);
        assert_eq!(field, "[0].timeSpent");
        assert_eq!(words, "[0].timeSpent must be a whole number from 0 to 4294967295, and is 5000000000");
        let (field, words) = sync(r#"[{"lessonId":{},"progress":5}]"#);
        assert_eq!(field, "[0].lessonId");
        assert_eq!(words, "[0].lessonId must be a non-negative integer or a text, and is an object");
        let (field, words) = says::<ChatMessage>(r#"{"roomId":"a","content":null}"#);
        assert_eq!((&*field, &*words), ("content", "content must be a text, and is null"));
        let (field, words) = says::<ChatMessage>(r#"{"roomId":"a","content":"x","type":"loud"}"#);
        assert_eq!((&*field, &*words), ("type", "type must be one of text, image, file, system"));
        let (field, words) = says::<ChatMessage>(r#"["a","x"]"#);
        assert_eq!((&*field, &*words), ("", "the request must be an object, and is a list"));
        let (_, words) = says::<ChatMessage>(r#"{"roomId":"a""#);
        assert!(words.starts_with("the request is not valid JSON: "), "{words}");
        let (field, words) = says::<Target>(r#"{"usr":7}"#);
        assert_eq!((&*field, &*words), ("usr", "there is no field usr here; did you mean user?"));
        let (field, words) = says::<Broadcast>(r#"{"target":{"everybody-and-his-dog":7},"event":"x"}"#);
        assert_eq!(field, "target.everybody-and-his-dog");
        assert!(words.ends_with("there may be: user, users, role, room, all"), "{words}");
        let (field, words) = says::<Target>(r#"{"user":7,"user":8}"#);
        assert_eq!((&*field, &*words), ("user", "user is there twice"));
    }

    #[test]
    fn nesting_of_100_000_is_refused_and_not_followed() {
        let deep = "[".repeat(100_000);
        assert!(request::<ChatMessage>(&format!(r#"{{"roomId":"a","content":{deep}"#)).is_err());
        let object = r#"{"a":"#.repeat(100_000);
        assert!(request::<ChatMessage>(&object).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in ".*") {
            let _ = request::<ChatMessage>(&text);
            let _ = request::<ProgressSync>(&text);
        }
    }
}
