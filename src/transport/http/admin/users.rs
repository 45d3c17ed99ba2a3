//! Administration of people: who is known, who is connected, who is shut out, what is revoked.

use std::sync::Arc;

use bytes::Bytes;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use crate::domain::Scope;
use crate::protocol::admin::access::{Listed, MAX_LISTED, NumberedRequest, RevokeRequest};
use crate::protocol::decode;
use crate::protocol::error::{ApiError, ErrorCode};
use crate::services::{Caller, authorize};

use crate::services::limits::budget::RequestKind;
use crate::transport::http::admin::rooms::numbered;
use crate::transport::http::extract::{Kind, from_body, from_query, text};
use crate::transport::http::{HttpApi, answer, asker, asker_with_body, query, with_api};

pub(in crate::transport::http) fn routes(api: &Arc<HttpApi>) -> BoxedFilter<(Response,)> {
    let admin = || warp::path!("api" / "v1" / "admin" / ..);
    let users = || admin().and(warp::path("users"));
    let list = users()
        .and(warp::path::end())
        .and(warp::get())
        .and(with_api(api))
        .and(asker(api, RequestKind::Admin))
        .and(query());
    let show = users().and(warp::path!(String)).and(warp::get()).and(with_api(api)).and(asker(api, RequestKind::Admin));
    let act = users()
        .and(warp::path!(String / String))
        .and(warp::post())
        .and(with_api(api))
        .and(asker_with_body(api, RequestKind::Admin));
    let tokens = || admin().and(warp::path("tokens"));
    let revoke = tokens()
        .and(warp::path!("revoke"))
        .and(warp::post())
        .and(with_api(api))
        .and(asker_with_body(api, RequestKind::Admin));
    let revoked =
        tokens().and(warp::path!("revoked")).and(warp::get()).and(with_api(api)).and(asker(api, RequestKind::Admin));
    let diagnosis = users()
        .and(warp::path!(String / "diagnosis"))
        .and(warp::get())
        .and(with_api(api))
        .and(asker(api, RequestKind::Admin));
    let mutes =
        admin().and(warp::path!("mutes")).and(warp::get()).and(with_api(api)).and(asker(api, RequestKind::Admin));
    let connections = admin()
        .and(warp::path!("connections"))
        .and(warp::get())
        .and(with_api(api))
        .and(asker(api, RequestKind::Admin))
        .and(query());
    let of_people =
        list.then(all).or(show.then(shown)).unify().or(act.then(acted)).unify().or(diagnosis.then(diagnosed)).unify();
    let of_people = of_people.or(mutes.then(muted)).unify();
    let of_tokens = revoke.then(token_revoked).or(revoked.then(all_revoked)).unify();
    of_people.or(of_tokens).unify().or(connections.then(connected)).unify().boxed()
}

async fn all(api: Arc<HttpApi>, caller: Caller, query: String) -> Response {
    let known = [("after", Kind::Text), ("limit", Kind::Number), ("text", Kind::Text), ("online", Kind::Flag)];
    answer(async { api.app.access.users(&caller, from_query(&query, &known, [])?).await }.await)
}

async fn shown(id: String, api: Arc<HttpApi>, caller: Caller) -> Response {
    answer(async { api.app.access.user(&caller, api.user(&id)?).await }.await)
}

async fn diagnosed(id: String, api: Arc<HttpApi>, caller: Caller) -> Response {
    let result = async {
        let user = api.user(&id)?;
        let mut diagnosis = api.app.access.diagnose(&caller, user.clone()).await?;
        if diagnosis.bans.iter().any(|ban| ban.kind == "block") {
            diagnosis.blocked_by = api.app.audit.last_block(&caller, &user).await?;
        }
        diagnosis.connections = api.sockets.connections_of(&user);
        Ok(diagnosis)
    };
    answer(result.await)
}

async fn acted(id: String, what: String, api: Arc<HttpApi>, caller: Caller, body: Bytes) -> Response {
    match what.as_str() {
        "block" => answer(async { api.app.access.block(&caller, api.user(&id)?, from_body(&body, [])?).await }.await),
        "unblock" => {
            answer(async { api.app.access.unblock(&caller, api.user(&id)?, from_body(&body, [])?).await }.await)
        }
        "mute" => answer(async { api.app.moderation.mute(&caller, api.user(&id)?, from_body(&body, [])?).await }.await),
        "unmute" => {
            answer(async { api.app.moderation.unmute(&caller, api.user(&id)?, from_body(&body, [])?).await }.await)
        }
        "disconnect" => answer(async { api.app.access.disconnect(&caller, api.user(&id)?).await }.await),
        _ => crate::transport::http::failure(&ApiError::new(ErrorCode::NotFound, "there is nothing at this address")),
    }
}

async fn muted(api: Arc<HttpApi>, caller: Caller) -> Response {
    answer(async { api.app.moderation.mutes(&caller).await.map(|items| Listed { items, next: None }) }.await)
}

async fn token_revoked(api: Arc<HttpApi>, caller: Caller, body: Bytes) -> Response {
    let request: RevokeRequest = match text(&body).and_then(decode::request) {
        Ok(request) => request,
        Err(error) => return crate::transport::http::failure(&error),
    };
    match request.dry_run {
        true => answer(api.app.access.preview_revocation(&caller, request)),
        false => answer(api.app.access.revoke(&caller, request).await),
    }
}

async fn all_revoked(api: Arc<HttpApi>, caller: Caller) -> Response {
    answer(async { api.app.access.list(&caller).await.map(|items| Listed { items, next: None }) }.await)
}

async fn connected(api: Arc<HttpApi>, caller: Caller, query: String) -> Response {
    let result = async {
        authorize(&caller, Scope::Admin)?;
        let NumberedRequest { after, limit } = numbered(&query)?;
        let limit = limit.clamp(1, MAX_LISTED);
        let items = api.sockets.connections(after, limit);
        let next = items.last().filter(|_| items.len() == limit).map(|last| last.socket.to_string());
        Ok(Listed { items, next })
    };
    answer(result.await)
}
