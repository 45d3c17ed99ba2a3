//! Pages for people: so far the connection check at `/`. Both languages are equal, nothing of a page is loaded from elsewhere,
//! and nothing in it is a script or a style of its own. It says nothing that `/api/health` and `/sdk/server.json` do not say.

pub(crate) mod dev;
mod words;

use std::sync::Arc;

use ::http::HeaderValue;
use ::http::header::{ACCEPT_LANGUAGE, CONTENT_LANGUAGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, VARY};
use askama::Template;
use bytes::Bytes;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use crate::transport::static_file::StaticFile;
use words::{CHECK, CheckWords, Language};

/// Own scripts and styles alone, none of them inline, and requests to this server alone.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// Where the files of a page are, as the page says it: it may be below a path of a proxy.
struct Files {
    script: String,
    style: String,
    icon: String,
}

#[derive(Template)]
#[template(path = "check.html", config = "assets/console/askama.toml")]
struct CheckPage<'a> {
    lang: Language,
    words: &'static CheckWords,
    files: &'a Files,
    version: &'static str,
    path: &'a str,
    api_path: &'a str,
}

/// The page at `/` and its files, while `is_shown` says so; `path` is that of Socket.IO, `api_path` that of the HTTP API.
pub(crate) fn routes(
    path: &str,
    api_path: &str,
    is_shown: impl Fn() -> bool + Clone + Send + Sync + 'static,
) -> BoxedFilter<(Response,)> {
    let script = StaticFile::hashed(
        "check.js",
        "text/javascript; charset=utf-8",
        include_bytes!("../../../assets/console/check.js"),
    );
    let style =
        StaticFile::hashed("check.css", "text/css; charset=utf-8", include_bytes!("../../../assets/console/check.css"));
    let icon = StaticFile::hashed("icon.svg", "image/svg+xml", include_bytes!("../../../assets/console/icon.svg"));
    let place = |file: &StaticFile| format!("console/{}", file.name());
    let files = Files { script: place(&script), style: place(&style), icon: place(&icon) };
    let [english, french] = [Language::English, Language::French].map(|lang| {
        let page = CheckPage { lang, words: &CHECK, files: &files, version: env!("CARGO_PKG_VERSION"), path, api_path };
        // A template fails where what it writes to fails, and memory does not.
        Bytes::from(page.render().unwrap_or_default())
    });
    let gate = warp::any().and_then(move || {
        let is_shown = is_shown();
        async move { if is_shown { Ok(()) } else { Err(warp::reject::not_found()) } }
    });
    let gate = gate.untuple_one();
    let page = warp::path::end().and(warp::get()).and(gate.clone()).and(in_one_language(english, french));
    let file = warp::path("console").and(gate).and(one_of([script, style, icon]));
    page.or(file).unify().boxed()
}

/// The page in the language that is asked for.
fn in_one_language(english: Bytes, french: Bytes) -> BoxedFilter<(Response,)> {
    warp::query::raw()
        .or(warp::any().map(String::new))
        .unify()
        .and(warp::header::headers_cloned())
        .map(move |query: String, headers: HeaderMap| {
            let accepted = headers.get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
            let asked = Language::negotiate(&query, accepted);
            let page = match asked {
                Language::English => &english,
                Language::French => &french,
            };
            let mut response = Response::new(page.clone().into());
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
            headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static(asked.tag()));
            headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
            headers.append(VARY, HeaderValue::from_static("Accept-Language"));
            response
        })
        .boxed()
}

/// The file of these whose name is the rest of the path.
fn one_of<const N: usize>(files: [StaticFile; N]) -> BoxedFilter<(Response,)> {
    let held: Arc<[StaticFile]> = files.into();
    warp::path!(String)
        .and(warp::get())
        .and(warp::header::headers_cloned())
        .and_then(move |name: String, headers: HeaderMap| {
            let found = held.iter().find(|file| file.name() == name).map(|file| file.answer(&headers));
            async move { found.ok_or_else(warp::reject::not_found) }
        })
        .boxed()
}
