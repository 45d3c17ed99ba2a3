//! Administration of chat rooms and their members.

use std::sync::Arc;

use bytes::Bytes;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use crate::protocol::admin::access::{ListRequest, NumberedRequest};
use crate::protocol::decode;
use crate::protocol::error::ApiError;
use crate::services::Caller;
use crate::services::limits::budget::RequestKind;
use crate::transport::http::extract::{self, Kind, from_body, room, text};
use crate::transport::http::{HttpApi, answer, asker, asker_with_body, query, with_api};

pub(in crate::transport::http) fn routes(api: &Arc<HttpApi>) -> BoxedFilter<(Response,)> {
    let rooms = || warp::path!("api" / "v1" / "admin" / "rooms" / ..);
    let list = rooms()
        .and(warp::path::end())
        .and(warp::get())
        .and(with_api(api))
        .and(asker(api, RequestKind::Admin))
        .and(query());
    let create = rooms()
        .and(warp::path::end())
        .and(warp::post())
        .and(with_api(api))
        .and(asker_with_body(api, RequestKind::Admin));
    let one = || rooms().and(warp::path!(String));
    let show = one().and(warp::get()).and(with_api(api)).and(asker(api, RequestKind::Admin)).and(query());
    let patch = one().and(warp::patch()).and(with_api(api)).and(asker_with_body(api, RequestKind::Admin));
    let delete = one().and(warp::delete()).and(with_api(api)).and(asker(api, RequestKind::Admin));
    let member = || rooms().and(warp::path!(String / "members" / String));
    let put = member().and(warp::put()).and(with_api(api)).and(asker_with_body(api, RequestKind::Admin));
    let remove = member().and(warp::delete()).and(with_api(api)).and(asker(api, RequestKind::Admin));
    let of_all = list.then(all).or(create.then(created)).unify();
    let of_one = show.then(shown).or(patch.then(patched)).unify().or(delete.then(deleted)).unify();
    let of_members = put.then(admitted).or(remove.then(removed)).unify();
    of_all.or(of_one).unify().or(of_members).unify().boxed()
}

/// What a query asks for of a list.
pub(super) fn listed(query: &str) -> Result<ListRequest, ApiError> {
    extract::from_query(query, &[("after", Kind::Text), ("limit", Kind::Number), ("text", Kind::Text)], [])
}

/// The same of a list in the order of numbers.
pub(super) fn numbered(query: &str) -> Result<NumberedRequest, ApiError> {
    extract::from_query(query, &[("after", Kind::Number), ("limit", Kind::Number)], [])
}

async fn all(api: Arc<HttpApi>, caller: Caller, query: String) -> Response {
    answer(async { api.app.rooms.list(&caller, listed(&query)?).await }.await)
}

async fn created(api: Arc<HttpApi>, caller: Caller, body: Bytes) -> Response {
    answer(async { api.app.rooms.create(&caller, decode::request(text(&body)?)?).await }.await)
}

async fn shown(id: String, api: Arc<HttpApi>, caller: Caller, query: String) -> Response {
    answer(async { api.app.rooms.get(&caller, room(&id)?, numbered(&query)?).await }.await)
}

async fn patched(id: String, api: Arc<HttpApi>, caller: Caller, body: Bytes) -> Response {
    answer(async { api.app.rooms.patch(&caller, room(&id)?, from_body(&body, [])?).await }.await)
}

async fn deleted(id: String, api: Arc<HttpApi>, caller: Caller) -> Response {
    answer(async { api.app.rooms.delete(&caller, room(&id)?).await }.await)
}

async fn admitted(id: String, who: String, api: Arc<HttpApi>, caller: Caller, body: Bytes) -> Response {
    let result = async { api.app.rooms.set_member(&caller, room(&id)?, api.user(&who)?, from_body(&body, [])?).await };
    answer(result.await)
}

async fn removed(id: String, who: String, api: Arc<HttpApi>, caller: Caller) -> Response {
    answer(async { api.app.rooms.remove_member(&caller, room(&id)?, api.user(&who)?).await }.await)
}
