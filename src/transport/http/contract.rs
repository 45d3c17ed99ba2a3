//! The machine-readable contract, as the binary carries it: a back end or a tool reads it from the very server that it talks to.
//! It is public, and says nothing of this installation but where its paths are.

use std::sync::Arc;

use ::http::HeaderValue;
use ::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, HeaderMap};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use crate::protocol::error::{ApiError, ErrorCode};
use crate::transport::static_file::StaticFile;

use super::{HttpApi, failure};

/// RFC 9512.
const YAML: &str = "application/yaml";

const OPENAPI: &str = include_str!("../../../assets/contract/openapi.yaml");
const ASYNCAPI: &str = include_str!("../../../assets/contract/asyncapi.yaml");

/// Where the paths are in the files.
const PATH: &str = "/ws";
const API_PATH: &str = "/api/v1/";

pub(super) fn routes(api: &HttpApi) -> BoxedFilter<(Response,)> {
    let [path, api_path] = &api.paths;
    let openapi = OPENAPI.replace(API_PATH, &format!("{}/", api_path.trim_end_matches('/')));
    let asyncapi = ["address: ", "pathname: "].iter().fold(ASYNCAPI.to_owned(), |text, field| {
        text.replace(&format!("{field}{PATH}\n"), &format!("{field}{path}\n"))
    });
    let files: Arc<[StaticFile]> =
        [StaticFile::new("openapi.yaml", YAML, openapi), StaticFile::new("asyncapi.yaml", YAML, asyncapi)].into();
    warp::path!("docs" / String)
        .and(warp::get())
        .and(warp::header::headers_cloned())
        .map(move |name: String, headers: HeaderMap| match files.iter().find(|file| file.name() == name) {
            Some(file) => {
                let mut response = file.answer(&headers);
                // Viewers of such files are pages of other sites.
                response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
                response
            }
            None => {
                let message = "there is no such file; there are openapi.yaml and asyncapi.yaml";
                failure(&ApiError::new(ErrorCode::NotFound, message))
            }
        })
        .boxed()
}
