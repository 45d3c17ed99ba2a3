//! `/metrics` on an address of its own, without a token: for a Prometheus on the machine or in a network of administrators.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, HeaderValue};
use http::{Method, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::transport::http::{HttpApi, Response};

/// So many connections at once: one Prometheus has one.
const CONNECTIONS: usize = 32;
/// A connection may take so long from its first byte to its last.
const TIMEOUT: Duration = Duration::from_secs(30);
/// After an error of `accept` nothing is accepted for so long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves until it is asked to stop. The server owns the task.
pub(super) async fn serve(listener: TcpListener, api: Arc<HttpApi>, stop: CancellationToken) {
    let (turns, tasks) = (Arc::new(Semaphore::new(CONNECTIONS)), TaskTracker::new());
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // Who comes beyond them is closed at once.
        let Ok(turn) = turns.clone().try_acquire_owned() else { continue };
        let (api, stop) = (api.clone(), stop.clone());
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
                () = stop.cancelled() => {}
                _ = tokio::time::timeout(TIMEOUT, served) => {}
            }
            drop(turn);
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
