//! `/metrics` on an address of its own, without a token: for a Prometheus on the machine or in a network of administrators.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::header::{ALLOW, HeaderValue};
use http::{Method, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::capacity;
use crate::transport::http::{HttpApi, Response};

/// A connection may take so long from its first byte to its last.
const TIMEOUT: Duration = Duration::from_secs(30);
/// After an error of `accept` nothing is accepted for so long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves until it is asked to stop. The server owns the task.
pub(super) async fn serve(listener: TcpListener, api: Arc<HttpApi>, stop: CancellationToken) {
    let tasks = TaskTracker::new();
    // In the order in which they have come: one Prometheus has one, and is answered in a moment.
    let mut open: VecDeque<(Weak<()>, CancellationToken)> = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        open.retain(|(connection, _)| connection.strong_count() > 0);
        // Who has been here for longest makes room: a scrape takes a moment, and who takes longer keeps nobody else from it.
        if open.len() >= capacity::SCRAPES
            && let Some((_, oldest)) = open.pop_front()
        {
            oldest.cancel();
        }
        let (here, ended) = (Arc::new(()), stop.child_token());
        open.push_back((Arc::downgrade(&here), ended.clone()));
        let api = api.clone();
        tasks.spawn(async move {
            let service = service_fn(move |request| {
                let response = answer(&api, &request);
                async move { Ok::<_, Infallible>(response) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(TIMEOUT)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                () = ended.cancelled() => {}
                _ = tokio::time::timeout(TIMEOUT, served) => {}
            }
            drop(here);
        });
    }
    tasks.close();
    tasks.wait().await;
}

fn answer(api: &HttpApi, request: &http::Request<Incoming>) -> Response {
    if request.uri().path() == "/metrics" {
        if matches!(*request.method(), Method::GET | Method::HEAD) {
            return api.metrics(request.headers());
        }
        let mut response = Response::new("There are only GET and HEAD /metrics here.\n".into());
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let mut response = Response::new("There is only GET /metrics here.\n".into());
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}
