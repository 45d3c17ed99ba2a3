//! How order is kept in a room, by polling. Each route is the event of the same row; those of administrators are of all rooms.

use std::sync::Arc;

use bytes::Bytes;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use crate::protocol::error::ApiError;
use crate::protocol::request::ClientEvent;
use crate::services::Caller;
use crate::services::limits::budget::RequestKind;
use crate::transport::http::extract::{Given, Kind, from_body, from_query, id_in_path, number_in_path};
use crate::transport::http::{HttpApi, answer, asker, asker_with_body, query, with_api};

/// Which part of a list of reports is asked for.
const PART: [(&str, Kind); 3] = [("before", Kind::Number), ("limit", Kind::Number), ("all", Kind::Flag)];

pub(super) fn routes(api: &Arc<HttpApi>) -> BoxedFilter<(Response,)> {
    let rooms = || warp::path!("api" / "v1" / "rooms" / ..);
    let body = |event| asker_with_body(api, RequestKind::Event(event));
    let mute = rooms()
        .and(warp::path!(String / "mute"))
        .and(warp::post())
        .and(with_api(api))
        .and(body(ClientEvent::ChatMute))
        .then(mute);
    let unmute = rooms()
        .and(warp::path!(String / "unmute"))
        .and(warp::post())
        .and(with_api(api))
        .and(body(ClientEvent::ChatUnmute))
        .then(unmute);
    let lock = rooms()
        .and(warp::path!(String / "lock"))
        .and(warp::post())
        .and(with_api(api))
        .and(body(ClientEvent::ChatLock))
        .then(lock);
    let slow = rooms()
        .and(warp::path!(String / "slow"))
        .and(warp::post())
        .and(with_api(api))
        .and(body(ClientEvent::ChatSlow))
        .then(slow);
    let report = rooms()
        .and(warp::path!(String / "messages" / String / "report"))
        .and(warp::post())
        .and(with_api(api))
        .and(body(ClientEvent::ChatReport))
        .then(report);
    let reports = rooms()
        .and(warp::path!(String / "reports"))
        .and(warp::get())
        .and(with_api(api))
        .and(asker(api, RequestKind::Event(ClientEvent::ChatReports)))
        .and(query())
        .then(reports);
    let resolve = rooms()
        .and(warp::path!(String / "reports" / String / "resolve"))
        .and(warp::post())
        .and(with_api(api))
        .and(body(ClientEvent::ChatResolve))
        .then(resolve);
    let of_rooms = mute.or(unmute).unify().or(lock).unify().or(slow).unify().boxed();
    let of_reports = report.or(reports).unify().or(resolve).unify().boxed();
    of_rooms.or(of_reports).unify().or(of_administrators(api)).unify().boxed()
}

fn of_administrators(api: &Arc<HttpApi>) -> BoxedFilter<(Response,)> {
    let reports = || warp::path!("api" / "v1" / "admin" / "reports" / ..);
    let list = reports()
        .and(warp::path::end())
        .and(warp::get())
        .and(with_api(api))
        .and(asker(api, RequestKind::Admin))
        .and(query())
        .then(all_reports);
    let resolve = reports()
        .and(warp::path!(String / "resolve"))
        .and(warp::post())
        .and(with_api(api))
        .and(asker_with_body(api, RequestKind::Admin))
        .then(resolve_any);
    list.or(resolve).unify().boxed()
}

fn room_id(segment: &str) -> Result<Given, ApiError> {
    id_in_path("roomId", segment)
}

async fn mute(room: String, api: Arc<HttpApi>, caller: Caller, body: Bytes) -> Response {
    answer(async { api.app.moderators.mute(&caller, from_body(&body, [room_id(&room)?])?).await }.await)
}

async fn unmute(room: String, api: Arc<HttpApi>, caller: Caller, body: Bytes) -> Response {
    answer(async { api.app.moderators.unmute(&caller, from_body(&body, [room_id(&room)?])?).await }.await)
}

async fn lock(room: String, api: Arc<HttpApi>, caller: Caller, body: Bytes) -> Response {
    answer(async { api.app.moderators.lock(&caller, from_body(&body, [room_id(&room)?])?).await }.await)
}

async fn slow(room: String, api: Arc<HttpApi>, caller: Caller, body: Bytes) -> Response {
    answer(async { api.app.moderators.slow(&caller, from_body(&body, [room_id(&room)?])?).await }.await)
}

async fn report(room: String, message: String, api: Arc<HttpApi>, caller: Caller, body: Bytes) -> Response {
    let result = async {
        let given = [room_id(&room)?, number_in_path("messageId", &message)?];
        api.app.moderators.report(&caller, from_body(&body, given)?).await
    };
    answer(result.await)
}

async fn reports(room: String, api: Arc<HttpApi>, caller: Caller, query: String) -> Response {
    answer(async { api.app.moderators.reports(&caller, from_query(&query, &PART, [room_id(&room)?])?).await }.await)
}

async fn resolve(room: String, report: String, api: Arc<HttpApi>, caller: Caller, body: Bytes) -> Response {
    let result = async {
        let given = [room_id(&room)?, number_in_path("reportId", &report)?];
        api.app.moderators.resolve(&caller, from_body(&body, given)?).await
    };
    answer(result.await)
}

async fn all_reports(api: Arc<HttpApi>, caller: Caller, query: String) -> Response {
    const KNOWN: [(&str, Kind); 4] =
        [("roomId", Kind::Id), ("before", Kind::Number), ("limit", Kind::Number), ("all", Kind::Flag)];
    answer(async { api.app.moderators.all_reports(&caller, from_query(&query, &KNOWN, [])?).await }.await)
}

async fn resolve_any(report: String, api: Arc<HttpApi>, caller: Caller, body: Bytes) -> Response {
    let result = async {
        let given = [number_in_path("reportId", &report)?];
        api.app.moderators.resolve_any(&caller, from_body(&body, given)?).await
    };
    answer(result.await)
}
