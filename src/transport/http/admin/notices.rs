//! Administration of notifications: the list, the readers of one, and taking one back.

use std::sync::Arc;

use bytes::Bytes;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use crate::protocol::error::ApiError;
use crate::services::Caller;
use crate::services::limits::budget::RequestKind;
use crate::transport::http::extract::{self, Kind, from_body, from_query};
use crate::transport::http::{HttpApi, answer, asker, asker_with_body, query, with_api};

pub(in crate::transport::http) fn routes(api: &Arc<HttpApi>) -> BoxedFilter<(Response,)> {
    let notices = || warp::path!("api" / "v1" / "admin" / "notifications" / ..);
    let list = notices()
        .and(warp::path::end())
        .and(warp::get())
        .and(with_api(api))
        .and(asker(api, RequestKind::Admin))
        .and(query());
    let readers = notices()
        .and(warp::path!(String / "readers"))
        .and(warp::get())
        .and(with_api(api))
        .and(asker(api, RequestKind::Admin))
        .and(query());
    let recall = notices()
        .and(warp::path!(String / "recall"))
        .and(warp::post())
        .and(with_api(api))
        .and(asker_with_body(api, RequestKind::Admin));
    list.then(listed).or(readers.then(read_by)).unify().or(recall.then(recalled)).unify().boxed()
}

fn notification_id(segment: &str) -> Result<u64, ApiError> {
    let (field, id) = extract::number_in_path("notificationId", segment)?;
    id.as_u64().ok_or_else(|| ApiError::field(field, "notificationId must be a non-negative integer"))
}

async fn listed(api: Arc<HttpApi>, caller: Caller, query: String) -> Response {
    let known = [("state", Kind::Text), ("before", Kind::Number), ("limit", Kind::Number)];
    answer(async { api.app.notices.list(&caller, from_query(&query, &known, [])?).await }.await)
}

async fn read_by(id: String, api: Arc<HttpApi>, caller: Caller, query: String) -> Response {
    let known = [("after", Kind::Number), ("limit", Kind::Number), ("read", Kind::Flag)];
    let result = async {
        let id = notification_id(&id)?;
        api.app.notices.readers(&caller, id, from_query(&query, &known, [])?).await
    };
    answer(result.await)
}

async fn recalled(id: String, api: Arc<HttpApi>, caller: Caller, body: Bytes) -> Response {
    let result = async { api.app.notices.recall(&caller, notification_id(&id)?, from_body(&body, [])?).await };
    answer(result.await)
}
