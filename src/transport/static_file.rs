//! A file that the binary carries, as an answer: with a tag, by which a browser that has it already is told so.

use ::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, IF_NONE_MATCH};
use ::http::{HeaderValue, StatusCode};
use bytes::Bytes;
use warp::reply::Response;

/// A file.
#[derive(Debug)]
pub(crate) struct StaticFile {
    name: String,
    content_type: HeaderValue,
    cache: HeaderValue,
    tag: HeaderValue,
    text: Bytes,
}

impl StaticFile {
    /// A file that may be another one with the next version: browsers ask for it anew each time, and are answered with 304.
    pub(crate) fn new(name: impl Into<String>, content_type: &'static str, text: impl Into<Bytes>) -> StaticFile {
        let text = text.into();
        let tag = format!("\"{}\"", blake3::hash(&text).to_hex());
        StaticFile {
            name: name.into(),
            content_type: HeaderValue::from_static(content_type),
            cache: HeaderValue::from_static("no-cache"),
            tag: HeaderValue::try_from(tag).unwrap_or(HeaderValue::from_static("\"\"")),
            text,
        }
    }

    /// A file with its hash in its name: what has this name never changes. `name` is split at its last dot, as in
    /// `check-0123456789abcdef.js`.
    pub(crate) fn hashed(name: &str, content_type: &'static str, text: &'static [u8]) -> StaticFile {
        let hash = blake3::hash(text).to_hex();
        let short = hash.as_str().get(..16).unwrap_or_default();
        let (stem, ending) = name.rsplit_once('.').unwrap_or((name, ""));
        StaticFile {
            cache: HeaderValue::from_static("public, max-age=31536000, immutable"),
            ..StaticFile::new(format!("{stem}-{short}.{ending}"), content_type, text)
        }
    }

    /// Its name, without a path.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The file, or that the asker has it already (304).
    pub(crate) fn answer(&self, headers: &HeaderMap) -> Response {
        let is_known = headers.get_all(IF_NONE_MATCH).iter().any(|known| names(known, &self.tag));
        let mut response = Response::new(if is_known { Bytes::new() } else { self.text.clone() }.into());
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, self.content_type.clone());
        headers.insert(ETAG, self.tag.clone());
        headers.insert(CACHE_CONTROL, self.cache.clone());
        response
    }
}

/// Whether an `If-None-Match` names the tag (RFC 9110, 13.1.2: compared weakly).
fn names(known: &HeaderValue, tag: &HeaderValue) -> bool {
    let Ok(known) = known.to_str() else { return false };
    let tags = known.split(',').map(str::trim);
    tags.map(|one| one.strip_prefix("W/").unwrap_or(one)).any(|one| one == "*" || one.as_bytes() == tag.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_known_alone_in_a_list_weak_and_by_a_star() {
        let is_known = |known| names(&HeaderValue::from_static(known), &HeaderValue::from_static("\"a\""));
        for known in ["\"a\"", "W/\"a\"", "\"b\", \"a\"", "\"b\",W/\"a\"", "*"] {
            assert!(is_known(known), "{known}");
        }
        for other in ["", "a", "\"b\"", "\"A\"", "\"ab\"", "W/"] {
            assert!(!is_known(other), "{other}");
        }
    }

    #[test]
    fn a_name_with_a_hash_is_another_one_for_another_text() {
        let name = |text| StaticFile::hashed("check.js", "text/javascript", text).name().to_owned();
        assert_eq!(name(b"a"), name(b"a"));
        assert_ne!(name(b"a"), name(b"b"));
        assert!(
            name(b"a").starts_with("check-") && name(b"a").ends_with(".js") && name(b"a").len() == 25,
            "{}",
            name(b"a")
        );
    }
}
