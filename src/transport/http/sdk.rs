//! The client SDK and the broadcast service for back ends, as the binary carries them: a page loads them from the very server
//! that it talks to, so that they fit each other. They are public, and hold nothing of this installation.

use std::sync::Arc;

use ::http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, IF_NONE_MATCH,
};
use ::http::{HeaderValue, StatusCode};
use bytes::Bytes;
use serde::Serialize;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use crate::protocol::error::{ApiError, ErrorCode};
use crate::protocol::json;

use super::routes::JSON;
use super::{HttpApi, failure, npm};

const SCRIPT: &str = "text/javascript; charset=utf-8";
const TYPES: &str = "application/typescript; charset=utf-8";
const PACKAGE: &str = "application/gzip";
const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Name, type and text of each file.
const FILES: [(&str, &str, &[u8]); 4] = [
    ("academy-rt.js", SCRIPT, include_bytes!("../../../assets/sdk/academy-rt.js")),
    ("academy-rt.d.ts", TYPES, include_bytes!("../../../assets/sdk/academy-rt.d.ts")),
    ("broadcast-service.js", SCRIPT, include_bytes!("../../../assets/sdk/broadcast-service.js")),
    ("broadcast-service.d.ts", TYPES, include_bytes!("../../../assets/sdk/broadcast-service.d.ts")),
];

struct File {
    name: &'static str,
    content_type: HeaderValue,
    tag: HeaderValue,
    text: Bytes,
}

/// What a client asks that does not know where the server has its paths, or whether it is there at all.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Server<'a> {
    server: &'static str,
    path: &'a str,
    api_path: &'a str,
}

pub(super) fn routes(api: &HttpApi) -> BoxedFilter<(Response,)> {
    let [path, api_path] = &api.paths;
    let told = json::to_vec(&Server { server: "academy-rt", path, api_path }).unwrap_or_default();
    let paths = File::new(("server.json", JSON, told.into()));
    let files: Arc<[File]> = FILES
        .into_iter()
        .map(|(name, content_type, text)| File::new((name, content_type, Bytes::from_static(text))))
        .chain([paths])
        .collect();
    warp::path!("sdk" / String)
        .and(warp::get())
        .and(warp::header::headers_cloned())
        .map(move |name: String, headers: HeaderMap| {
            if let Some(file) = files.iter().find(|file| file.name == name) {
                return file.answer(&headers);
            }
            match npm::find(&name) {
                Some(package) => File::new(("", PACKAGE, package)).answer(&headers),
                None => {
                    let names: Vec<String> =
                        files.iter().map(|file| file.name.to_owned()).chain(npm::names()).collect();
                    let message = format!("there is no such file of the SDK; there are {}", names.join(", "));
                    failure(&ApiError::new(ErrorCode::NotFound, message))
                }
            }
        })
        .boxed()
}

impl File {
    fn new((name, content_type, text): (&'static str, &'static str, Bytes)) -> File {
        let tag = format!("\"{}\"", blake3::hash(&text).to_hex());
        File {
            name,
            content_type: HeaderValue::from_static(content_type),
            tag: HeaderValue::try_from(tag).unwrap_or(HeaderValue::from_static("\"\"")),
            text,
        }
    }

    fn answer(&self, headers: &HeaderMap) -> Response {
        let is_known = headers.get_all(IF_NONE_MATCH).iter().any(|known| names(known, &self.tag));
        let mut response = Response::new(if is_known { Bytes::new() } else { self.text.clone() }.into());
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, self.content_type.clone());
        headers.insert(ETAG, self.tag.clone());
        // Asked for anew each time, and answered with 304: a page never runs an older SDK than its server's.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        // A module script of another origin is fetched by CORS, and a page that isolates itself asks for the policy, too.
        // Any origin may read it: it is public. What it then asks of the API is for server.cors_origins to allow.
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("cross-origin"));
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
}
