//! Health and figures (CONTRACT 3.1).

use std::sync::Arc;

use ::http::{HeaderValue, StatusCode};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use crate::contract::errors::{ErrorCode, WireError};
use crate::contract::http::Health;
use crate::domain::Scope;
use crate::ops::metrics;

use super::{Asker, HttpApi, asker, failure, json, text_response, with_api};

pub(super) fn routes(api: &Arc<HttpApi>) -> BoxedFilter<(Response,)> {
    let alive = warp::path!("healthz").and(warp::get()).then(alive);
    let ready = warp::path!("readyz").and(warp::get()).and(with_api(api)).then(ready);
    let health = warp::path!("api" / "health").and(warp::get()).and(with_api(api)).then(health);
    let metrics = warp::path!("metrics").and(warp::get()).and(with_api(api)).and(asker(api)).then(metrics_text);
    alive.or(ready).unify().or(health).unify().or(metrics).unify().boxed()
}

impl HttpApi {
    /// Whether requests are taken, or why not.
    pub(super) fn readiness(&self) -> Result<(), String> {
        if self.process.is_draining() {
            return Err("the server is stopping".to_owned());
        }
        self.services.ready()
    }
}

fn plain(status: StatusCode, text: &str) -> Response {
    text_response(status, HeaderValue::from_static("text/plain; charset=utf-8"), format!("{text}\n").into_bytes())
}

async fn alive() -> Response {
    plain(StatusCode::OK, "ok")
}

async fn ready(api: Arc<HttpApi>) -> Response {
    match api.readiness() {
        Ok(()) => plain(StatusCode::OK, "ready"),
        Err(reason) => plain(StatusCode::SERVICE_UNAVAILABLE, &reason),
    }
}

async fn health(api: Arc<HttpApi>) -> Response {
    let readiness = api.readiness();
    let body = Health {
        status: if readiness.is_ok() { "ok" } else { "unavailable" },
        alive: true,
        ready: readiness.is_ok(),
        reason: readiness.as_ref().err().cloned(),
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: api.process.uptime().as_secs(),
        websocket_enabled: api.process.websocket_enabled(),
    };
    json(if readiness.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &body)
}

async fn metrics_text(api: Arc<HttpApi>, asker: Asker) -> Response {
    match asker {
        Err(error) => failure(&error),
        Ok(caller) if !caller.actor.may(Scope::Metrics) => {
            let message = "this needs role admin or a token with the scope metrics";
            failure(&WireError::new(ErrorCode::Forbidden, message))
        }
        Ok(_) => {
            let counts = api.sockets.counts();
            let (users, rooms) = api.services.sockets().totals();
            let figures = metrics::Figures {
                uptime: api.process.uptime(),
                websocket_sockets: counts.websocket,
                polling_sockets: counts.polling,
                users,
                rooms,
                deliveries: api.sockets.delivered(),
                slow_readers: api.sockets.slow_readers(),
                store: api.services.store_status(),
                is_ready: api.readiness().is_ok(),
                now: api.services.now(),
            };
            let content_type = HeaderValue::from_static(metrics::CONTENT_TYPE);
            text_response(StatusCode::OK, content_type, metrics::render(&figures).into_bytes())
        }
    }
}
