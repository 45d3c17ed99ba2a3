//! What `doctor` sees of the server through an address, as a client would: certificate, health, polling, WebSocket.

use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::header::{CONNECTION, HOST, UPGRADE};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;

use crate::config::Config;

use crate::cli::client::connect::{Stream, Trust, connect};
use crate::cli::client::runtime;
use crate::cli::commands::doctor::Finding;
use crate::cli::exit::Failure;

/// One request may take so long.
const PATIENCE: Duration = Duration::from_secs(10);
/// More of an answer is not read.
const MOST: usize = 64 << 10;

/// Tries everything that a client does first.
pub(super) fn look(config: &Config, url: &str, trust: Trust<'_>) -> anyhow::Result<Vec<Finding>> {
    let address = url.trim_end_matches('/');
    runtime()?.block_on(async {
        let ask = async |method: Method, path: &str, upgrade: bool, body: &'static str| {
            let asked = async {
                let (stream, host) = connect(config, address, trust).await?;
                ask(stream, &host, method, path, upgrade, body).await
            };
            tokio::time::timeout(PATIENCE, asked)
                .await
                .unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in {} s", PATIENCE.as_secs())))
        };
        let mut findings = Vec::new();
        match ask(Method::GET, "/api/health", false, "").await {
            Ok((StatusCode::OK, text)) if text.contains("\"version\"") => {
                findings.push(Finding::good("address", format!("{address} answers")))
            }
            Ok((status, _)) => {
                let remedy =
                    "Something else answers there, or a proxy does not reach the server: look at its upstream.";
                findings.push(Finding::problem(
                    "address",
                    format!("{address} answers {status}, and not as an academy-rt"),
                    remedy,
                ));
                return Ok(findings);
            }
            Err(error) => {
                let remedy = error
                    .downcast_ref::<Failure>()
                    .map_or("Check the address, the firewall and the proxy.", |failure| {
                        failure.problem.remedy.as_str()
                    });
                findings.push(Finding::problem("address", format!("{error:#}"), remedy));
                return Ok(findings);
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
            findings.push(match handshake {
                Ok((StatusCode::SERVICE_UNAVAILABLE, text)) if text.contains("realtime_disabled") => Finding::warning(
                    "polling",
                    "Socket.IO is switched off",
                    "Set server.websocket_enabled, if it shall be on; clients poll the HTTP API meanwhile.",
                ),
                Ok((status, _)) => Finding::problem(
                    "polling",
                    format!("{path} answers {status}"),
                    "Let the proxy pass everything below this path to the server, unchanged.",
                ),
                Err(error) => Finding::problem(
                    "polling",
                    format!("{path}: {error:#}"),
                    "Let the proxy pass everything below this path to the server.",
                ),
            });
            return Ok(findings);
        };
        // Closing the session shows that the second request meets the same server, and that bodies pass; nobody signs in.
        let session = format!("{path}/?EIO=4&transport=polling&sid={sid}");
        findings.push(match ask(Method::POST, &session, false, "1").await {
            Ok((StatusCode::OK, _)) => Finding::good("polling", "Socket.IO by polling works"),
            Ok((status, _)) => {
                let remedy = "With several servers behind the proxy, one client must always reach the same one.";
                Finding::problem(
                    "polling",
                    format!("a session is not kept: the second request is answered {status}"),
                    remedy,
                )
            }
            Err(error) => Finding::problem("polling", format!("{error:#}"), "Check the time-outs of the proxy."),
        });
        findings.push(match ask(Method::GET, &format!("{path}/?EIO=4&transport=websocket"), true, "").await {
            Ok((StatusCode::SWITCHING_PROTOCOLS, _)) => Finding::good("websocket", "Socket.IO by WebSocket works"),
            Ok((status, _)) => {
                let remedy =
                    "Let the proxy pass on the headers Upgrade and Connection, with HTTP/1.1; clients poll meanwhile.";
                Finding::warning("websocket", format!("the upgrade to WebSocket is answered {status}"), remedy)
            }
            Err(error) => Finding::warning(
                "websocket",
                format!("{error:#}"),
                "Let the proxy pass WebSocket; clients poll meanwhile.",
            ),
        });
        Ok(findings)
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
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.context("no HTTP there")?;
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
    let response = sender.send_request(request).await.context("no HTTP answer")?;
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
