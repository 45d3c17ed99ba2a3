//! The client SDK and the broadcast service for back ends, as the binary carries them: a page loads them from the very server
//! that it talks to, so that they fit each other. They are public, and hold nothing of this installation.

use std::sync::Arc;

use ::http::HeaderValue;
use ::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, HeaderMap, HeaderName};
use serde::Serialize;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use crate::protocol::error::{ApiError, ErrorCode};
use crate::protocol::json;
use crate::transport::static_file::StaticFile;

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
    let paths = StaticFile::new("server.json", JSON, told);
    let files: Arc<[StaticFile]> = FILES
        .into_iter()
        .map(|(name, content_type, text)| StaticFile::new(name, content_type, text))
        .chain([paths])
        .collect();
    warp::path!("sdk" / String)
        .and(warp::get())
        .and(warp::header::headers_cloned())
        .map(move |name: String, headers: HeaderMap| {
            if let Some(file) = files.iter().find(|file| file.name() == name) {
                return answer(file, &headers);
            }
            match npm::find(&name) {
                Some(package) => answer(&StaticFile::new(name, PACKAGE, package), &headers),
                None => {
                    let names: Vec<String> =
                        files.iter().map(|file| file.name().to_owned()).chain(npm::names()).collect();
                    let message = format!("there is no such file of the SDK; there are {}", names.join(", "));
                    failure(&ApiError::new(ErrorCode::NotFound, message))
                }
            }
        })
        .boxed()
}

/// A file, for pages of any origin.
fn answer(file: &StaticFile, headers: &HeaderMap) -> Response {
    let mut response = file.answer(headers);
    let headers = response.headers_mut();
    // A module script of another origin is fetched by CORS, and a page that isolates itself asks for the policy, too.
    // Any origin may read it: it is public. What it then asks of the API is for server.cors_origins to allow.
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("cross-origin"));
    response
}
