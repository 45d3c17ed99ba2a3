//! Administration of single messages.

use std::sync::Arc;

use bytes::Bytes;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use crate::protocol::error::ApiError;
use crate::services::Caller;
use crate::services::limits::budget::RequestKind;
use crate::transport::http::extract::{self, Kind, from_body};
use crate::transport::http::{HttpApi, answer, asker, asker_with_body, query, with_api};

pub(in crate::transport::http) fn routes(api: &Arc<HttpApi>) -> BoxedFilter<(Response,)> {
    let messages = || warp::path!("api" / "v1" / "admin" / "messages" / ..);
    let show = messages()
        .and(warp::path!(String))
        .and(warp::get())
        .and(with_api(api))
        .and(asker(api, RequestKind::Admin))
        .and(query());
    let delete = messages()
        .and(warp::path!(String / "delete"))
        .and(warp::post())
        .and(with_api(api))
        .and(asker_with_body(api, RequestKind::Admin));
    show.then(shown).or(delete.then(deleted)).unify().boxed()
}

/// What is shown of a message.
#[derive(serde::Deserialize)]
struct ShowQuery {
    #[serde(default)]
    versions: bool,
}

fn message_id(segment: &str) -> Result<u64, ApiError> {
    let (field, id) = extract::number_in_path("messageId", segment)?;
    id.as_u64().ok_or_else(|| ApiError::field(field, "messageId must be a non-negative integer"))
}

async fn shown(id: String, api: Arc<HttpApi>, caller: Caller, query: String) -> Response {
    let result = async {
        let ShowQuery { versions } = extract::from_query(&query, &[("versions", Kind::Flag)], [])?;
        api.app.moderation.message(&caller, message_id(&id)?, versions).await
    };
    answer(result.await)
}

async fn deleted(id: String, api: Arc<HttpApi>, caller: Caller, body: Bytes) -> Response {
    let result = async { api.app.moderation.delete_message(&caller, message_id(&id)?, from_body(&body, [])?).await };
    answer(result.await)
}
