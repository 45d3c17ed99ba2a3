//! Administration of webhooks: how they stand, a test, and dead letters sent again.

use std::sync::Arc;

use bytes::Bytes;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use crate::services::Caller;
use crate::services::limits::budget::RequestKind;
use crate::transport::http::extract::{Kind, from_body, from_query};
use crate::transport::http::{HttpApi, answer, asker, asker_with_body, query, with_api};

pub(in crate::transport::http) fn routes(api: &Arc<HttpApi>) -> BoxedFilter<(Response,)> {
    let webhooks = || warp::path!("api" / "v1" / "admin" / "webhooks" / ..);
    let list = webhooks()
        .and(warp::path::end())
        .and(warp::get())
        .and(with_api(api))
        .and(asker(api, RequestKind::Admin))
        .and(query());
    let test = webhooks()
        .and(warp::path!("test"))
        .and(warp::post())
        .and(with_api(api))
        .and(asker_with_body(api, RequestKind::Admin));
    let replay = webhooks()
        .and(warp::path!("replay"))
        .and(warp::post())
        .and(with_api(api))
        .and(asker_with_body(api, RequestKind::Admin));
    list.then(listed).or(test.then(tested)).unify().or(replay.then(replayed)).unify().boxed()
}

async fn listed(api: Arc<HttpApi>, caller: Caller, query: String) -> Response {
    let known = [("after", Kind::Number), ("limit", Kind::Number)];
    answer(async { api.app.webhooks.list(&caller, from_query(&query, &known, [])?).await }.await)
}

async fn tested(api: Arc<HttpApi>, caller: Caller, _body: Bytes) -> Response {
    answer(api.app.webhooks.test(&caller).await)
}

async fn replayed(api: Arc<HttpApi>, caller: Caller, body: Bytes) -> Response {
    answer(async { api.app.webhooks.replay(&caller, from_body(&body, [])?).await }.await)
}
