//! Calls to the platform: signed, bounded in time and in what is read of the answer, with no redirect followed. The addresses
//! are the configuration's alone: nothing that a user says leads to a call elsewhere.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{CertificateError, ClientConfig};
use tower_service::Service;

use crate::config::Webhooks;
use crate::domain::Timestamp;
use crate::domain::problem::Problem;
use crate::domain::webhook::Endpoint;
use crate::server::dns;
use crate::server::platform::secrets::Secrets;
use crate::server::tls::outgoing;

/// So much of an answer is read.
const MOST_ANSWERED: usize = 64 << 10;
/// So many connections wait for the next call.
const IDLE_CONNECTIONS: usize = 8;
/// For so long: shorter than the common servers keep theirs, so that none is used that the other side has just closed.
const IDLE: Duration = Duration::from_secs(4);
/// The longest pause that an answer can ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60 * 60);

/// What calls the platform.
pub(super) struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector<Names>>, Full<Bytes>>,
    secrets: Secrets,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("secrets", &self.secrets).finish_non_exhaustive()
    }
}

/// An answer of the platform.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<Duration>,
    /// Where a redirect leads.
    pub(super) location: Option<String>,
    /// Its beginning.
    pub(super) body: Vec<u8>,
    pub(super) is_whole: bool,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct NoAnswer {
    /// In words.
    pub(super) words: String,
    /// Whether nobody can be called at all: no connection, or another's certificate.
    pub(super) is_unreachable: bool,
}

impl Client {
    /// A client as the configuration says. Reads files.
    pub(super) fn new(webhooks: &Webhooks, data_dir: &Path) -> Result<Client, Problem> {
        let secrets = Secrets::read(webhooks, data_dir)?;
        let tls = tls_client(webhooks)?;
        let mut connector = HttpConnector::new_with_resolver(Names);
        connector.enforce_http(false);
        connector.set_nodelay(true);
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(connector);
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .build(connector);
        Ok(Client { http, secrets })
    }

    /// Sends a body, signed at this moment.
    pub(super) async fn post(
        &self,
        to: &Endpoint,
        id: &str,
        now: Timestamp,
        body: Vec<u8>,
        limit: Duration,
    ) -> Result<Answered, NoAnswer> {
        let called = tokio::time::timeout(limit, self.call(to, id, now, body));
        called.await.unwrap_or_else(|_| {
            let words = format!("{} did not answer within {} s", to.host(), limit.as_secs_f64());
            Err(NoAnswer { words, is_unreachable: false })
        })
    }

    async fn call(&self, to: &Endpoint, id: &str, now: Timestamp, body: Vec<u8>) -> Result<Answered, NoAnswer> {
        let seconds = now.0 / 1_000;
        let request = Request::post(to.as_str())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("academy-rt/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", id)
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", self.secrets.sign(id, seconds, &body))
            .body(Full::new(Bytes::from(body)));
        let request = request.map_err(|error| NoAnswer { words: error.to_string(), is_unreachable: true })?;
        let answer = self.http.request(request).await.map_err(|error| no_answer(to, &error))?;
        let status = answer.status();
        let text = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let retry_after = retry_after(answer.headers(), now);
        let location = text(LOCATION).filter(|_| status.is_redirection()).map(|to| to.chars().take(200).collect());
        let (mut read, mut is_whole) = (Vec::new(), true);
        let mut pieces = answer.into_body();
        // What is longer is not read: its connection is closed.
        while let Some(piece) = pieces.frame().await {
            let Ok(piece) = piece else {
                is_whole = false;
                break;
            };
            let Ok(data) = piece.into_data() else { continue };
            let room = MOST_ANSWERED - read.len();
            read.extend(data.chunk().iter().take(room));
            if data.len() > room {
                is_whole = false;
                break;
            }
        }
        Ok(Answered { status, retry_after, location, body: read, is_whole })
    }
}

fn tls_client(webhooks: &Webhooks) -> Result<ClientConfig, Problem> {
    let roots = outgoing::configured_roots(webhooks.ca_file.as_deref(), "webhooks.ca_file", "the platform's")?;
    let client = outgoing::client(roots);
    let client = client.map_err(|error| Problem::new("TLS is not available", error, "Report this."))?;
    Ok(client.with_no_client_auth())
}

fn no_answer(to: &Endpoint, error: &legacy::Error) -> NoAnswer {
    let host = to.host();
    let mut words = Vec::new();
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(error) = cause {
        if let Some(tls) = error.downcast_ref() {
            return NoAnswer { words: certificate_in_words(host, tls), is_unreachable: true };
        }
        words.push(error.to_string());
        // Of what an error of I/O wraps, its `source` is the cause alone.
        cause = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    // The innermost says most, and often the others repeat it.
    let why = words.pop().unwrap_or_else(|| error.to_string());
    match error.is_connect() {
        true => NoAnswer { words: format!("{host} cannot be reached: {why}"), is_unreachable: true },
        false => NoAnswer { words: format!("the connection to {host} broke off: {why}"), is_unreachable: false },
    }
}

fn certificate_in_words(host: &str, error: &rustls::Error) -> String {
    let rustls::Error::InvalidCertificate(why) = error else { return format!("TLS with {host} failed: {error}") };
    match why {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("the certificate that was shown is not for {host}: it is another's")
        }
        CertificateError::UnknownIssuer => format!(
            "the certificate of {host} is not signed by a known authority; for one of your own set webhooks.ca_file"
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("the certificate of {host} has expired")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("the certificate of {host} is not valid yet; look at the clocks")
        }
        other => format!("the certificate of {host} is not good: {other}"),
    }
}

/// What `Retry-After` says, in seconds or as a date; no longer than is sensible.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp().as_millisecond();
            now.until(Timestamp(u64::try_from(at).ok()?))
        }
    };
    Some(wait.min(LONGEST_RETRY_AFTER))
}

/// Names by this program's own resolver: that of the C library must not be used in a static program.
#[derive(Debug, Clone)]
struct Names;

impl Service<Name> for Names {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(async move {
            let found = dns::lookup(name.as_str()).await?;
            Ok(found.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect::<Vec<_>>().into_iter())
        })
    }
}

/// A client that others share.
pub(super) type SharedClient = Arc<Client>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_and_bounded() {
        let now = Timestamp(1_445_412_480_000 - 90_000); // 90 s before Wed, 21 Oct 2015 07:28:00 GMT
        for (text, wait) in [
            ("120", Some(Duration::from_secs(120))),
            ("999999", Some(LONGEST_RETRY_AFTER)),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some(Duration::from_secs(90))),
            ("Wed, 21 Oct 2014 07:28:00 GMT", Some(Duration::ZERO)),
            ("soon", None),
            ("-5", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            // A weekday that does not fit its date is no date at all.
            let found = retry_after(&headers, now);
            assert!(found == wait || (text.contains("2014") && found.is_none()), "{text}: {found:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
