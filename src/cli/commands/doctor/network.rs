//! The checks of `doctor` over the network, as a client: certificate, health, polling and WebSocket.

use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::header::{CONNECTION, HOST, UPGRADE};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;

use crate::config::Config;

use crate::cli::client::connect::{Connected, Stream, Trust, connect};
use crate::cli::client::runtime;
use crate::cli::commands::doctor::CheckResult;
use crate::cli::exit::Failure;

/// Time limit of a request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes that are read of an answer.
const MOST: usize = 64 << 10;

/// Makes the first requests of a client.
pub(super) fn look(config: &Config, url: &str, trust: Trust<'_>) -> anyhow::Result<Vec<CheckResult>> {
    let address = url.trim_end_matches('/');
    let agreed = Mutex::new(None);
    runtime()?.block_on(async {
        let ask = async |method: Method, path: &str, upgrade: bool, body: &'static str| {
            let asked = async {
                let Connected { stream, host, tls } = connect(config, address, trust).await?;
                *agreed.lock() = tls;
                ask(stream, &host, method, path, upgrade, body).await
            };
            tokio::time::timeout(TIMEOUT, asked)
                .await
                .unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in {} s", TIMEOUT.as_secs())))
        };
        let mut results = Vec::new();
        match ask(Method::GET, "/api/health", false, "").await {
            Ok((StatusCode::OK, text)) if text.contains("\"version\"") => {
                results.push(CheckResult::good("address", format!("{address} answers")));
                results.extend(agreed.lock().take().map(|tls| CheckResult::good("tls", format!("a client gets {tls}"))));
            }
            Ok((status, _)) => {
                let remedy =
                    "Check the address. If a proxy is there, check whether its upstream is the server.";
                results.push(CheckResult::problem(
                    "address",
                    format!("{address} answers with status {status}, but not as academy-rt"),
                    remedy,
                ));
                return Ok(results);
            }
            Err(error) => {
                let remedy = error
                    .downcast_ref::<Failure>()
                    .map_or("Check the address, the firewall and the proxy.", |failure| {
                        failure.problem.remedy.as_str()
                    });
                results.push(CheckResult::problem("address", format!("{error:#}"), remedy));
                return Ok(results);
            }
        }
        let path = &config.server.path;
        let handshake = ask(Method::GET, &format!("{path}/?EIO=4&transport=polling"), false, "").await;
        let sid = match &handshake {
            Ok((StatusCode::OK, text)) => {
                text.split("\"sid\":\"").nth(1).and_then(|rest| rest.split('"').next()).map(ToOwned::to_owned)
            }
            _ => None,
        };
        let Some(sid) = sid else {
            results.push(match handshake {
                Ok((StatusCode::SERVICE_UNAVAILABLE, text)) if text.contains("realtime_disabled") => CheckResult::warning(
                    "polling",
                    "Socket.IO is disabled",
                    "To enable it, set server.websocket_enabled. Until then clients use the HTTP API.",
                ),
                Ok((status, _)) => CheckResult::problem(
                    "polling",
                    format!("{path} answers with status {status}"),
                    "Configure the proxy to forward all requests below this path unchanged.",
                ),
                Err(error) => CheckResult::problem(
                    "polling",
                    format!("{path}: {error:#}"),
                    "Configure the proxy to forward all requests below this path.",
                ),
            });
            return Ok(results);
        };
        // Closing the session shows that the second request reaches the same server, and that bodies are forwarded. No user signs in.
        let session = format!("{path}/?EIO=4&transport=polling&sid={sid}");
        results.push(match ask(Method::POST, &session, false, "1").await {
            Ok((StatusCode::OK, _)) => CheckResult::good("polling", "Socket.IO by polling works"),
            Ok((status, _)) => {
                let remedy = "If the proxy has several servers, configure it to send a client always to the same one.";
                CheckResult::problem(
                    "polling",
                    format!("the session is lost: the second request is answered with status {status}"),
                    remedy,
                )
            }
            Err(error) => CheckResult::problem("polling", format!("{error:#}"), "Check the timeouts of the proxy."),
        });
        results.push(match ask(Method::GET, &format!("{path}/?EIO=4&transport=websocket"), true, "").await {
            Ok((StatusCode::SWITCHING_PROTOCOLS, _)) => CheckResult::good("websocket", "Socket.IO by WebSocket works"),
            Ok((status, _)) => {
                let remedy =
                    "Configure the proxy to use HTTP/1.1 and to forward the headers Upgrade and Connection. Until then clients use polling.";
                CheckResult::warning("websocket", format!("the upgrade to WebSocket is answered with status {status}"), remedy)
            }
            Err(error) => CheckResult::warning(
                "websocket",
                format!("{error:#}"),
                "Configure the proxy to allow WebSocket. Until then clients use polling.",
            ),
        });
        Ok(results)
    })
}

async fn ask(
    stream: Box<dyn Stream>,
    host: &str,
    method: Method,
    path: &str,
    upgrade: bool,
    body: &'static str,
) -> anyhow::Result<(StatusCode, String)> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.context("this is not an HTTP server")?;
    let connection = tokio::spawn(connection.with_upgrades());
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, host)
        .body(Full::new(Bytes::from_static(body.as_bytes())))?;
    if upgrade {
        let headers = request.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert("sec-websocket-version", HeaderValue::from_static("13"));
        // RFC 6455 wants 16 random bytes; nothing here depends on them.
        headers.insert("sec-websocket-key", HeaderValue::from_static("ZG9jdG9yIGxvb2tzIGluLg=="));
    }
    let response = sender.send_request(request).await.context("the server sent no HTTP response")?;
    let status = response.status();
    let text = if status == StatusCode::SWITCHING_PROTOCOLS {
        String::new()
    } else {
        let read = Limited::new(response.into_body(), MOST).collect().await;
        let read = read.map_err(|error| anyhow::anyhow!("the answer cannot be read: {error}"))?;
        String::from_utf8_lossy(&read.to_bytes()).into_owned()
    };
    connection.abort();
    Ok((status, text))
}
