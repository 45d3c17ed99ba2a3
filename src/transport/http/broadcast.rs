//! The broadcast service for back ends.

use std::sync::Arc;

use bytes::Bytes;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use crate::domain::notification::Times;
use crate::protocol::decode;
use crate::protocol::request::NotificationTarget;
use crate::services::Caller;

use crate::services::limits::budget::RequestKind;
use crate::transport::http::extract::text;
use crate::transport::http::{HttpApi, answer, asker_with_body, with_api};

pub(super) fn routes(api: &Arc<HttpApi>) -> BoxedFilter<(Response,)> {
    let key = || warp::header::optional::<String>("idempotency-key");
    let broadcast = warp::path!("api" / "v1" / "broadcast")
        .and(warp::post())
        .and(with_api(api))
        .and(asker_with_body(api, RequestKind::Broadcast))
        .and(key())
        .then(broadcast);
    let notify = warp::path!("api" / "v1" / "notifications")
        .and(warp::post())
        .and(with_api(api))
        .and(asker_with_body(api, RequestKind::Notify))
        .and(key())
        .then(notify);
    broadcast.or(notify).unify().boxed()
}

async fn broadcast(api: Arc<HttpApi>, caller: Caller, body: Bytes, key: Option<String>) -> Response {
    answer(async { api.app.broadcast.send(&caller, decode::request(text(&body)?)?, key).await }.await)
}

async fn notify(api: Arc<HttpApi>, caller: Caller, body: Bytes, key: Option<String>) -> Response {
    let result = async {
        let json = text(&body)?;
        let NotificationTarget { target, at, until, .. } = decode::request(json)?;
        api.app.broadcast.notify(&caller, target, decode::request(json)?, Times { at, until }, key).await
    };
    answer(result.await)
}
