//! Health and figures.

use std::sync::Arc;

use ::http::header::ACCEPT;
use ::http::{HeaderMap, HeaderValue, StatusCode};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use crate::domain::Scope;
use crate::observability::{metrics, process};
use crate::protocol::http::Health;
use crate::services::Caller;
use crate::services::caller::authorize;
use crate::services::limits::budget::RequestKind;

use super::{HttpApi, asker, failure, json, text_response, with_api};

pub(super) fn routes(api: &Arc<HttpApi>) -> BoxedFilter<(Response,)> {
    let alive = warp::path!("healthz").and(warp::get()).then(alive);
    let ready = warp::path!("readyz").and(warp::get()).and(with_api(api)).then(ready);
    let health = warp::path!("api" / "health").and(warp::get()).and(with_api(api)).then(health);
    let metrics = warp::path!("metrics")
        .and(warp::get())
        .and(with_api(api))
        .and(asker(api, RequestKind::Metrics))
        .and(warp::header::headers_cloned())
        .then(metrics_text);
    alive.or(ready).unify().or(health).unify().or(metrics).unify().boxed()
}

impl HttpApi {
    /// Whether requests are taken, or why not.
    pub(super) fn readiness(&self) -> Result<(), String> {
        if self.process.is_draining() {
            return Err("the server is stopping".to_owned());
        }
        self.app.store.ready().map_err(|error| error.to_string())
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
        ok: readiness.is_ok(),
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

async fn metrics_text(api: Arc<HttpApi>, caller: Caller, headers: HeaderMap) -> Response {
    match authorize(&caller, Scope::Metrics) {
        Ok(()) => api.metrics(&headers),
        Err(error) => failure(&error),
    }
}

impl HttpApi {
    /// The figures, in the format that is asked for.
    #[must_use]
    pub fn metrics(&self, headers: &HeaderMap) -> Response {
        let (counts, now) = (self.sockets.counts(), self.app.store.now());
        let (users, rooms) = self.app.live.sockets.totals();
        let roles = counts.roles;
        let figures = metrics::Figures {
            uptime: self.process.uptime(),
            websocket_sockets: counts.websocket,
            polling_sockets: counts.polling,
            roles: [
                ("admin", roles.admin),
                ("hr", roles.hr),
                ("coach", roles.coach),
                ("learner", roles.learner),
                ("none", roles.none),
            ],
            users,
            rooms,
            deliveries: self.sockets.delivered(),
            slow_readers: self.sockets.slow_readers(),
            quota_users: self.app.rates.refused_users(now).into_iter().map(|(quota, of)| (quota.name(), of)).collect(),
            store: self.app.store.status(),
            is_ready: self.readiness().is_ok(),
            is_websocket_enabled: self.process.websocket_enabled(),
            now,
            continuous: self.process.continuous().map(|standing| metrics::Continuous {
                lag: standing.lag,
                is_failing: standing.problem.is_some(),
                gaps: standing.gaps,
            }),
            forwarding: self.process.forwarding(),
            webhooks: self.app.webhooks.view().map(|webhooks| metrics::Webhooks {
                waiting: webhooks.waiting,
                lag_seconds: webhooks.lag_seconds,
                sent: webhooks.sent,
                failed: webhooks.failed,
                gaps: webhooks.gaps,
                dead: webhooks.dead,
                is_failing: webhooks.problem.is_some(),
                asked: webhooks.asked,
                undecided: webhooks.undecided,
            }),
            search: self.app.search.standing().map(|standing| metrics::SearchIndex {
                messages: standing.documents,
                removed: standing.removed,
                bytes: standing.bytes,
                lag: standing.behind(),
                is_failing: standing.problem.is_some(),
                times_anew: standing.times_anew,
            }),
            process: process::read(),
            free_bytes: self.process.free_bytes(),
            certificate_not_after: self.process.certificate().map(|certificate| certificate.not_after),
            is_reload_refused: [
                self.process.config_error(),
                self.process.keys_error(),
                self.process.certificate_error(),
            ]
            .iter()
            .any(Option::is_some),
        };
        let text = metrics::render(&figures, self.app.live.counters());
        let accepts = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (content_type, text) = if accepts.contains("application/openmetrics-text") {
            (metrics::OPEN_METRICS, text)
        } else {
            (metrics::PLAIN, metrics::plain(&text))
        };
        text_response(StatusCode::OK, HeaderValue::from_static(content_type), text.into_bytes())
    }
}
