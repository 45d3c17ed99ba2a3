//! Reads JSON of strangers into typed requests; an error names the field. It never recurses deeper than
//! `serde_json` allows (128), whatever the nesting of the input.

use serde::de::DeserializeOwned;

use crate::protocol::error::{ApiError, ErrorCode};

/// Reads one JSON object into a request.
///
/// # Errors
/// `invalid_payload` with the field concerned.
pub fn request<T: DeserializeOwned>(json: &str) -> Result<T, ApiError> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let cause = error.into_inner();
        match missing_field(&cause) {
            Some(field) => ApiError::field(field.clone(), format!("{field} is missing")),
            None if path == "." || path == "?" => ApiError::new(ErrorCode::InvalidPayload, plain(&cause)),
            None => ApiError::field(path.clone(), format!("{path}: {}", plain(&cause))),
        }
    })?;
    deserializer
        .end()
        .map_err(|_| ApiError::new(ErrorCode::InvalidPayload, "there is something behind the JSON value"))?;
    Ok(value)
}

/// serde's own sentence without the position, which means nothing inside a packet, and without the sender's data beyond
/// what names the mistake.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    text.get(..end).unwrap_or(&text).chars().take(200).collect()
}

fn missing_field(error: &serde_json::Error) -> Option<String> {
    let text = error.to_string();
    let field = text.strip_prefix("missing field `")?.split('`').next()?;
    Some(field.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::request::{ChatMessage, ProgressSync};

    fn refused(json: &str) -> ApiError {
        request::<ChatMessage>(json).expect_err(json)
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(refused(r#"{"roomId":"a"}"#).field.as_deref(), Some("content"));
        assert_eq!(refused(r#"{"roomId":"a b","content":"x"}"#).field.as_deref(), Some("roomId"));
        assert_eq!(refused(r#"{"roomId":"a","content":7}"#).field.as_deref(), Some("content"));
        for bad in ["", "null", "[]", "7", "\"a\"", "{", r#"{"roomId":"a","content":"x"} x"#] {
            assert_eq!(refused(bad).code, ErrorCode::InvalidPayload, "{bad}");
        }
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
