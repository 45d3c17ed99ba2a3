//! How a command talks to a running server: over its control socket, or over `--url` with a token.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::config::Config;

use super::Global;
use super::exit::Failure;
use super::token::data_dir_flag;

/// The whole call may take so long.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest answer that is read.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// Which server a command talks to.
#[derive(Debug, Args)]
pub struct ServerArgs {
    /// The server's address, with a token in ACADEMY_RT_TOKEN [default: the control socket on this machine]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Certificate that is trusted for --url, PEM [default: the system's, and the server's own on this machine]
    #[arg(long, value_name = "FILE", requires = "url")]
    cacert: Option<PathBuf>,
    /// Where the data of the server on this machine are
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// One call.
#[derive(Debug)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// The path.
    pub path: &'static str,
    /// The body, if it has one.
    pub body: Option<Value>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Makes a call and gives the JSON of a good answer.
///
/// # Errors
/// What did not work; a refusal has the server's own code and message.
pub fn call(global: &Global, server: &ServerArgs, call: Call) -> anyhow::Result<Value> {
    let config = global.load(data_dir_flag(server.data_dir.as_ref()))?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("the runtime cannot be started")?;
    runtime.block_on(async {
        match tokio::time::timeout(PATIENCE, make(&config, server, call)).await {
            Ok(answer) => answer,
            Err(_) => {
                let why = format!("no answer in {} s", PATIENCE.as_secs());
                Err(Failure::new("the server does not answer", why, "Look at its log, or try again.").into())
            }
        }
    })
}

async fn make(config: &Config, server: &ServerArgs, call: Call) -> anyhow::Result<Value> {
    let (stream, host, token): (Box<dyn Stream>, String, Option<String>) = match &server.url {
        Some(url) => {
            let token = std::env::var("ACADEMY_RT_TOKEN").ok().filter(|token| !token.is_empty()).ok_or_else(|| {
                Failure::usage(
                    "--url needs a token",
                    "ACADEMY_RT_TOKEN is not set",
                    "Issue one on the server: academy-rt token issue --user svc --scope broadcast, and set ACADEMY_RT_TOKEN to it.",
                )
            })?;
            let (stream, host) = connect(config, url, server.cacert.as_deref()).await?;
            (stream, host, Some(token))
        }
        None => {
            let path = config.control_socket();
            let stream = UnixStream::connect(&path).await.map_err(|error| {
                Failure::new(
                    format!("no server answers on {}", path.display()),
                    error,
                    "Start it (academy-rt serve), give its --data-dir, or use --url with a token in ACADEMY_RT_TOKEN.",
                )
            })?;
            (Box::new(stream), "localhost".to_owned(), None)
        }
    };
    let body = call.body.as_ref().map(serde_json::to_vec).transpose()?.unwrap_or_default();
    let mut request = Request::builder()
        .method(call.method)
        .uri(call.path)
        .header(HOST, host)
        .header(CONTENT_TYPE, "application/json");
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {}", token.trim()));
    }
    let request =
        request.body(Full::new(Bytes::from(body))).context("the token has characters that a header cannot")?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.context("the server does not speak HTTP")?;
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await.context("the server hung up")?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("the answer cannot be read: {error}"))?.to_bytes();
    connection.abort();
    let answer: Value = serde_json::from_slice(&body)
        .with_context(|| format!("the answer (status {status}) is not JSON: is this an academy-rt?"))?;
    if status.is_success() {
        return Ok(answer);
    }
    let field = |name: &str| answer.pointer(&format!("/error/{name}")).and_then(Value::as_str).unwrap_or("?");
    let remedy = match field("code") {
        "forbidden" | "token_missing" | "token_invalid" | "token_expired" | "token_malformed" => {
            "Use a token that is good here and has role admin or the scope."
        }
        "unavailable" => "Try again in a moment; academy-rt status says more.",
        _ => "Correct the request.",
    };
    Err(Failure::new(format!("the server refused: {}", field("code")), field("message"), remedy).into())
}

async fn connect(config: &Config, url: &str, cacert: Option<&Path>) -> anyhow::Result<(Box<dyn Stream>, String)> {
    let bad = |why: &str| Failure::usage(format!("'{url}' is not a server's address"), why, "Write https://HOST:PORT.");
    let uri: Uri = url.parse().map_err(|_| bad("it is not a URL"))?;
    let authority = uri.authority().ok_or_else(|| bad("it has no host"))?;
    let is_tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(bad("it begins with neither https:// nor http://").into()),
    };
    let host = authority.host().trim_matches(['[', ']']).to_owned();
    let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let failed = |error: std::io::Error| {
        Failure::new(format!("no connection to {authority}"), error, "Check the address, and that the server runs.")
    };
    let stream = TcpStream::connect((host.as_str(), port)).await.map_err(failed)?;
    if !is_tls {
        return Ok((Box::new(stream), authority.to_string()));
    }
    let mut roots = RootCertStore::empty();
    match cacert {
        Some(path) => trust_file(&mut roots, path)?,
        None => {
            for certificate in rustls_native_certs::load_native_certs().certs {
                // A certificate of the system that rustls cannot read is not trusted, and that is all.
                drop(roots.add(certificate));
            }
            let own = config.self_signed_cert();
            if own.exists() {
                trust_file(&mut roots, &own)?;
            }
        }
    }
    let client = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host).map_err(|_| bad("its host is not a name"))?;
    let stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await.map_err(|error| {
        let remedy = "If its certificate is self-signed, give it with --cacert (DATA_DIR/tls/cert.pem on the server).";
        Failure::new(format!("no TLS with {authority}"), error, remedy)
    })?;
    Ok((Box::new(stream), authority.to_string()))
}

fn trust_file(roots: &mut RootCertStore, path: &Path) -> anyhow::Result<()> {
    let failed = |why: String| {
        Failure::new(format!("the certificate {} cannot be used", path.display()), why, "Give a certificate in PEM.")
    };
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))?;
    for certificate in certificates {
        roots.add(certificate.map_err(|e| failed(e.to_string()))?).map_err(|e| failed(e.to_string()))?;
    }
    Ok(())
}
