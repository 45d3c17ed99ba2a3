//! Administration of data: backups, the audit trail, legal holds, exports and erasures.

use std::sync::Arc;

use ::http::HeaderValue;
use ::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use bytes::Bytes;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::{Reply, Response};

use crate::domain::privacy::Subject;
use crate::protocol::admin::data::{AuditSearch, Holds, TranscriptFormat, TranscriptRequest};
use crate::protocol::decode;
use crate::protocol::error::{ApiError, ErrorCode};
use crate::services::limits::budget::RequestKind;
use crate::services::streams::ByteStream;
use crate::services::{Caller, reads_alone};
use crate::transport::http::extract::{self, Kind, room, text};
use crate::transport::http::routes::{ARCHIVE, JSON, JSON_LINES};
use crate::transport::http::{HttpApi, answer, asker, asker_with_body, failure, query, with_api};

pub(in crate::transport::http) fn routes(api: &Arc<HttpApi>) -> BoxedFilter<(Response,)> {
    let admin = || warp::path("api").and(warp::path("v1")).and(warp::path("admin"));
    let backup = admin()
        .and(warp::path!("backup"))
        .and(warp::get())
        .and(with_api(api))
        .and(asker(api, RequestKind::Admin))
        .then(backup);
    let backup_kept = admin()
        .and(warp::path!("backup"))
        .and(warp::post())
        .and(with_api(api))
        .and(asker_with_body(api, RequestKind::Admin))
        .then(backup_kept);
    let tables = admin()
        .and(warp::path!("tables"))
        .and(warp::get())
        .and(with_api(api))
        .and(asker(api, RequestKind::Admin))
        .then(tables);
    let audit = admin()
        .and(warp::path!("audit"))
        .and(warp::get())
        .and(with_api(api))
        .and(asker(api, RequestKind::Admin))
        .and(query())
        .then(audit);
    let report = admin()
        .and(warp::path!("audit"))
        .and(warp::post())
        .and(with_api(api))
        .and(asker_with_body(api, RequestKind::Admin))
        .then(report);
    let holds = admin()
        .and(warp::path!("holds"))
        .and(warp::get())
        .and(with_api(api))
        .and(asker(api, RequestKind::Admin))
        .then(holds);
    let set_hold = admin()
        .and(warp::path!("holds"))
        .and(warp::post())
        .and(with_api(api))
        .and(asker_with_body(api, RequestKind::Admin))
        .then(set_hold);
    let release = admin()
        .and(warp::path!("holds" / String / String))
        .and(warp::delete())
        .and(with_api(api))
        .and(asker(api, RequestKind::Admin))
        .and(query())
        .then(release);
    let export = admin()
        .and(warp::path!("users" / String / "export"))
        .and(warp::get())
        .and(with_api(api))
        .and(asker(api, RequestKind::Admin))
        .then(export);
    let transcript = admin()
        .and(warp::path!("rooms" / String / "export"))
        .and(warp::get())
        .and(with_api(api))
        .and(asker(api, RequestKind::Admin))
        .and(query())
        .then(transcript);
    let erase = admin()
        .and(warp::path!("users" / String))
        .and(warp::delete())
        .and(with_api(api))
        .and(asker(api, RequestKind::Admin))
        .and(query())
        .then(erase);
    let certificate = admin()
        .and(warp::path!("users" / String / "erasure"))
        .and(warp::get())
        .and(with_api(api))
        .and(asker(api, RequestKind::Admin))
        .then(certificate);
    let of_data = backup.or(backup_kept).unify().or(tables).unify().or(audit).unify().or(report).unify();
    let of_people = holds
        .or(set_hold)
        .unify()
        .or(release)
        .unify()
        .or(export)
        .unify()
        .or(transcript)
        .unify()
        .or(erase)
        .unify()
        .or(certificate)
        .unify();
    of_data.or(of_people).unify().boxed()
}

fn streamed(stream: Result<ByteStream, ApiError>, content_type: &'static str) -> Response {
    match stream {
        Err(error) => failure(&error),
        Ok(stream) => {
            let mut response = warp::reply::stream(stream).into_response();
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
    }
}

async fn backup(api: Arc<HttpApi>, caller: Caller) -> Response {
    streamed(async { api.app.backups.stream(&caller).await }.await, ARCHIVE)
}

async fn backup_kept(api: Arc<HttpApi>, caller: Caller, body: Bytes) -> Response {
    answer(async { api.app.backups.note(&caller, decode::request(text(&body)?)?).await }.await)
}

async fn tables(api: Arc<HttpApi>, caller: Caller) -> Response {
    answer(async { api.app.backups.tables(&caller).await }.await)
}

/// What is asked of the trail.
#[derive(serde::Deserialize)]
struct AuditQuery {
    #[serde(default)]
    after: u64,
    #[serde(default = "page")]
    limit: usize,
    #[serde(default)]
    export: bool,
}

fn page() -> usize {
    100
}

async fn audit(api: Arc<HttpApi>, caller: Caller, query: String) -> Response {
    const PAGE: [(&str, Kind); 3] = [("after", Kind::Number), ("limit", Kind::Number), ("export", Kind::Flag)];
    const SEARCH: [(&str, Kind); 6] = [
        ("before", Kind::Number),
        ("since", Kind::Number),
        ("until", Kind::Number),
        ("by", Kind::Text),
        ("action", Kind::Text),
        ("target", Kind::Text),
    ];
    let asked = || Ok((extract::from_query(&query, &PAGE, [])?, extract::from_query(&query, &SEARCH, [])?));
    let (AuditQuery { after, limit, export }, search): (AuditQuery, AuditSearch) = match asked() {
        Ok(asked) => asked,
        Err(error) => return failure(&error),
    };
    match search.is_any() {
        true if export || after > 0 => failure(&ApiError::new(
            ErrorCode::InvalidPayload,
            "a search goes back from before; after and export are for the whole log: ask for one of both",
        )),
        true => answer(api.app.audit.search(&caller, &search, limit).await),
        // An export is a record in the audit log, so it is no reading.
        false if export && caller.reads_only => failure(&reads_alone()),
        false => {
            let result = async {
                if export {
                    api.app.uses.note_audit_export(&caller, after == 0).await?;
                }
                api.app.audit.page(&caller, after, limit).await
            };
            answer(result.await)
        }
    }
}

async fn report(api: Arc<HttpApi>, caller: Caller, body: Bytes) -> Response {
    answer(async { api.app.uses.report(&caller, decode::request(text(&body)?)?).await }.await)
}

async fn holds(api: Arc<HttpApi>, caller: Caller) -> Response {
    answer(async { api.app.privacy.holds(&caller).await.map(|items| Holds { items }) }.await)
}

async fn set_hold(api: Arc<HttpApi>, caller: Caller, body: Bytes) -> Response {
    answer(async { api.app.privacy.set_hold(&caller, decode::request(text(&body)?)?).await }.await)
}

/// Which hold is released.
#[derive(serde::Deserialize)]
struct ReleaseQuery {
    #[serde(default)]
    number: Option<u64>,
}

async fn release(kind: String, id: String, api: Arc<HttpApi>, caller: Caller, query: String) -> Response {
    let result = async {
        let subject = match kind.as_str() {
            "user" => Subject::User(api.user(&id)?),
            "room" => Subject::Room(room(&id)?),
            _ => return Err(ApiError::new(ErrorCode::NotFound, "write holds/user/ID or holds/room/ID")),
        };
        let ReleaseQuery { number } = extract::from_query(&query, &[("number", Kind::Number)], [])?;
        api.app.privacy.release_hold(&caller, subject, number).await
    };
    answer(result.await)
}

async fn export(id: String, api: Arc<HttpApi>, caller: Caller) -> Response {
    streamed(async { api.app.privacy.export_user(&caller, api.user(&id)?).await }.await, JSON)
}

async fn transcript(id: String, api: Arc<HttpApi>, caller: Caller, query: String) -> Response {
    let known = [
        ("format", Kind::Text),
        ("lang", Kind::Text),
        ("since", Kind::Number),
        ("until", Kind::Number),
        ("versions", Kind::Flag),
    ];
    let result = async {
        let request: TranscriptRequest = extract::from_query(&query, &known, [])?;
        let (content_type, name) = match request.format {
            TranscriptFormat::Jsonl => (JSON_LINES, "attachment; filename=\"transcript.jsonl\""),
            // It is nobody's to open in the name of this server.
            TranscriptFormat::Html => ("text/html; charset=utf-8", "attachment; filename=\"transcript.html\""),
        };
        let stream = api.app.transcripts.stream(&caller, room(&id)?, request).await?;
        let mut response = streamed(Ok(stream), content_type);
        response.headers_mut().insert(CONTENT_DISPOSITION, HeaderValue::from_static(name));
        Ok(response)
    };
    result.await.unwrap_or_else(|error: ApiError| failure(&error))
}

async fn certificate(id: String, api: Arc<HttpApi>, caller: Caller) -> Response {
    answer(async { api.app.privacy.certificate(&caller, api.user(&id)?).await }.await)
}

/// How somebody is erased.
#[derive(serde::Deserialize)]
struct EraseQuery {
    #[serde(default)]
    consent: bool,
    #[serde(default, rename = "dryRun")]
    dry_run: bool,
}

async fn erase(id: String, api: Arc<HttpApi>, caller: Caller, query: String) -> Response {
    let result = async {
        let user = api.user(&id)?;
        let known = [("consent", Kind::Flag), ("dryRun", Kind::Flag)];
        let EraseQuery { consent, dry_run } = extract::from_query(&query, &known, [])?;
        Ok(match dry_run {
            true => answer(api.app.privacy.preview_erasure(&caller, user, consent).await),
            false => answer(api.app.privacy.erase_user(&caller, user, consent).await),
        })
    };
    result.await.unwrap_or_else(|error: ApiError| failure(&error))
}
