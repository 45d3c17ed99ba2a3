//! The page of `serve --dev` at `/dev`: two people who chat, with everything that goes over the wire.

use ::http::HeaderValue;
use ::http::header::CACHE_CONTROL;
use askama::Template;
use bytes::Bytes;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use crate::transport::static_file::StaticFile;

use super::words::{DEV, DevWords, Language};
use super::{in_one_language, one_of};

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

struct Files {
    script: String,
    style: String,
    own_style: String,
    icon: String,
}

/// One of the two.
struct Person {
    user: &'static str,
    name: &'static str,
    role: &'static str,
}

const PEOPLE: [Person; 2] =
    [Person { user: "7", name: "Ann", role: "learner" }, Person { user: "8", name: "Ben", role: "coach" }];

#[derive(Template)]
#[template(path = "dev.html", config = "assets/console/askama.toml")]
struct DevPage<'a> {
    lang: Language,
    words: &'static DevWords,
    files: &'a Files,
    people: &'static [Person],
    version: &'static str,
    path: &'a str,
    api_path: &'a str,
}

/// The page and its files.
pub(crate) fn routes(path: &str, api_path: &str) -> BoxedFilter<(Response,)> {
    let script = StaticFile::hashed("dev.js", SCRIPT, include_bytes!("../../../assets/console/dev.js"));
    let style = StaticFile::hashed("check.css", STYLE, include_bytes!("../../../assets/console/check.css"));
    let own_style = StaticFile::hashed("dev.css", STYLE, include_bytes!("../../../assets/console/dev.css"));
    let icon = StaticFile::hashed("icon.svg", "image/svg+xml", include_bytes!("../../../assets/console/icon.svg"));
    // The stock client as npm has it (MIT): the script names it, so its name has no hash.
    let client = StaticFile::new("socket.io.js", SCRIPT, &include_bytes!("../../../assets/console/socket.io.js")[..]);
    let [script_name, style_name, own_style_name, icon_name] =
        [&script, &style, &own_style, &icon].map(|file| file.name().to_owned());
    let files = Files { script: script_name, style: style_name, own_style: own_style_name, icon: icon_name };
    let [english, french] = [Language::English, Language::French].map(|lang| {
        let (words, version) = (&DEV, env!("CARGO_PKG_VERSION"));
        let page = DevPage { lang, words, files: &files, people: &PEOPLE, version, path, api_path };
        // A template fails where what it writes to fails, and memory does not.
        Bytes::from(page.render().unwrap_or_default())
    });
    let page = warp::path::end().and(warp::get()).and(in_one_language(english, french)).map(|mut page: Response| {
        page.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        page
    });
    let file = one_of([script, style, own_style, icon, client]);
    page.or(file).unify().boxed()
}
