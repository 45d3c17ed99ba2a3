//! Administration (CONTRACT 3.4).

use std::sync::Arc;

use ::http::StatusCode;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use crate::contract::care::LastBackup;
use crate::contract::errors::{ErrorCode, WireError};
use crate::contract::http::{Status, StoreCounts};
use crate::domain::Scope;

use super::{Asker, HttpApi, asker, failure, json, with_api};

pub(super) fn routes(api: &Arc<HttpApi>) -> BoxedFilter<(Response,)> {
    warp::path!("api" / "v1" / "admin" / "status")
        .and(warp::get())
        .and(with_api(api))
        .and(asker(api))
        .then(status)
        .boxed()
}

async fn status(api: Arc<HttpApi>, asker: Asker) -> Response {
    let caller = match asker {
        Ok(caller) => caller,
        Err(error) => return failure(&error),
    };
    if !caller.actor.may(Scope::Admin) {
        let message = "this needs role admin or a token with the scope admin";
        return failure(&WireError::new(ErrorCode::Forbidden, message));
    }
    let readiness = api.readiness();
    let (users, rooms) = api.services.sockets().totals();
    let store = api.services.store_status();
    let body = Status {
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: api.process.uptime().as_secs(),
        addresses: api.process.addresses(),
        websocket_enabled: api.process.websocket_enabled(),
        ready: readiness.is_ok(),
        reason: readiness.err(),
        sockets: api.sockets.counts(),
        users,
        rooms,
        store: StoreCounts {
            file_bytes: store.file_bytes,
            queued: store.queued,
            commits: store.commits,
            writes: store.writes,
            last_id: store.last_id,
            last_backup: store.last_backup.map(|(at, bytes)| LastBackup { at, bytes }),
        },
        deliveries: api.sockets.delivered(),
        slow_readers: api.sockets.slow_readers(),
    };
    json(StatusCode::OK, &body)
}
