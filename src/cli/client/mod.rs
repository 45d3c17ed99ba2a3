//! How a command talks to a running server: over its control socket, or over `--url` with a token.

pub mod connect;
pub mod listing;
pub mod save;

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::config::acting_as::Rights;
use crate::observability::local_person;
use crate::server::offline::{Offline, OfflineError};
use crate::server::threads;
use crate::transport::origin::BEHIND_COMMAND;

use crate::cli::Global;
use crate::cli::client::connect::{Connected, Stream, Trust, connect};
use crate::cli::data_dir_flag;
use crate::cli::exit;
use crate::cli::exit::Failure;

/// Time limit of a call.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The runtime directory of the systemd unit in the packages.
pub(super) const SERVICE_RUNTIME_DIR: &str = "/run/academy-rt";
/// Time limit of a long call, and of each piece of a download.
const LONG_TIMEOUT: Duration = Duration::from_secs(60 * 60);
/// Time limit of a report to the audit log: what is reported is done already.
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How many pieces of a download may be buffered.
const PIECES: usize = 8;
/// The largest answer that is read.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// Which server a command talks to.
#[derive(Debug, Clone, Default, Args)]
pub struct ServerArgs {
    /// Address of the server; needs a token in ACADEMY_RT_TOKEN [default: the control socket on this machine]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// File with trusted certificates for --url, in PEM [default: those of the system, and of the server on this machine]
    #[arg(long, value_name = "FILE", requires = "url")]
    cacert: Option<PathBuf>,
    /// File with the client certificate for --url, in PEM; needed if tls.client_ca is set on the server
    #[arg(long, value_name = "FILE", requires = "url", requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// File with the private key of the client certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
    /// Data directory of the server on this machine
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl ServerArgs {
    /// The server of this machine, with this data directory.
    #[must_use]
    pub fn local(data_dir: Option<&Path>) -> ServerArgs {
        ServerArgs { data_dir: data_dir.map(Path::to_owned), ..ServerArgs::default() }
    }

    /// The arguments for a call that must be answered: the address if there is a token for it, else the control socket.
    #[must_use]
    pub fn that_answers(&self) -> ServerArgs {
        let has_token = std::env::var_os("ACADEMY_RT_TOKEN").is_some_and(|token| !token.is_empty());
        if has_token { self.clone() } else { ServerArgs::local(self.data_dir()) }
    }

    /// The server on this machine that has a data directory open.
    #[must_use]
    pub fn here(data_dir: &Path) -> ServerArgs {
        ServerArgs { data_dir: Some(data_dir.to_owned()), ..ServerArgs::default() }
    }

    /// The address that was given.
    #[must_use]
    pub fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    /// The trusted certificates, and the client certificate.
    #[must_use]
    pub fn trust(&self) -> Trust<'_> {
        let identity = self.client_cert.as_deref().zip(self.client_key.as_deref());
        Trust { cacert: self.cacert.as_deref(), identity, is_unverified: false }
    }

    /// The data directory that was given.
    #[must_use]
    pub fn data_dir(&self) -> Option<&Path> {
        self.data_dir.as_deref()
    }
}

/// One call.
#[derive(Debug)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// The path, with its query.
    pub path: String,
    /// The body, if it has one.
    pub body: Option<Value>,
    /// Whether the call works directly on the data directory when no server is running.
    pub works_offline: bool,
    /// Time limit of the call, or of the next piece of a download.
    pub timeout: Duration,
}

impl Call {
    /// A call that needs a running server.
    #[must_use]
    pub fn new(method: Method, path: impl Into<String>, body: Option<Value>) -> Call {
        Call { method, path: path.into(), body, works_offline: false, timeout: TIMEOUT }
    }

    /// The call also works directly on the data directory when no server is running.
    #[must_use]
    pub fn offline_too(self) -> Call {
        Call { works_offline: true, ..self }
    }

    /// The call may take long.
    #[must_use]
    pub fn patient(self) -> Call {
        Call { timeout: LONG_TIMEOUT, ..self }
    }
}

/// A response that has begun, and its connection.
struct Exchange {
    response: Response<Incoming>,
    connection: JoinHandle<hyper::Result<()>>,
    offline: Option<Offline>,
    /// Whether it is over the socket of those who may only read.
    reads_only: bool,
}

impl Exchange {
    async fn end(self) -> anyhow::Result<()> {
        self.connection.abort();
        if let Some(offline) = self.offline {
            offline.close().await.map_err(Failure::from)?;
        }
        Ok(())
    }
}

/// So many threads a command needs: the runtime's, those that read files, and the store's where no server runs.
const THREADS: usize = 5;

pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    threads::refuse_too_few(THREADS).map_err(Failure::from)?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("the runtime cannot be started")
}

/// The rights for a call. Where no server answers, the command works on the data directory itself, and root does that as its owner:
/// so do all threads that are started for it. A server that runs is to know that it was root who asked.
fn rights_for(config: &Config, server: &ServerArgs, call: &Call) -> Result<Rights, Failure> {
    let is_alone =
        || std::os::unix::net::UnixStream::connect(config.control_socket()).is_err_and(|error| is_absent(&error));
    let rights = match server.url.is_none() && call.works_offline && is_alone() {
        true => Rights::within(&config.storage.data_dir),
        false => Rights::own(),
    };
    rights.map_err(|error| {
        let what = format!("the data directory {} cannot be used", config.storage.data_dir.display());
        Failure::new(what, error, "Run the command as the user of the server.")
    })
}

/// Where somebody wants a file to be written, and the data directory of the service of this machine, if that is known.
#[derive(Debug, Clone)]
pub struct Place {
    path: PathBuf,
    data_dir: Option<PathBuf>,
}

impl Place {
    /// A place for what a server is asked for.
    #[must_use]
    pub fn new(global: &Global, server: &ServerArgs, path: &Path) -> Place {
        let flags = data_dir_flag(server.data_dir.as_deref()).ok();
        let config = flags.and_then(|flags| global.load_to_ask(flags).ok());
        Place { path: path.to_owned(), data_dir: config.map(|(config, _)| config.storage.data_dir) }
    }

    /// A new file there, which must not exist yet.
    ///
    /// # Errors
    /// What the file system says, or that this process cannot have the rights.
    pub fn create(&self, mode: u32) -> io::Result<File> {
        let _rights = self.taken()?;
        OpenOptions::new().write(true).create_new(true).mode(mode).open(&self.path)
    }

    /// Removes what did not become whole. Where that fails, what has failed before is what is told.
    pub fn remove(&self) {
        drop(self.taken().and_then(|_rights| std::fs::remove_file(&self.path)));
    }

    fn taken(&self) -> io::Result<Rights> {
        match &self.data_dir {
            Some(data_dir) => Rights::within_if_of(&self.path, data_dir),
            None => Rights::own(),
        }
    }

    /// The rights to write there. In a directory of the service's user, where any name may be a link to elsewhere, root writes as
    /// that user; anywhere else a file of root's is root's.
    ///
    /// # Errors
    /// If this process cannot have them.
    pub fn rights(&self) -> Result<Rights, Failure> {
        self.taken().map_err(|error| {
            Failure::new(format!("{} cannot be written", self.path.display()), error, "Use another directory.")
        })
    }
}

/// Makes a call and gives the JSON of a good answer.
///
/// # Errors
/// If the call fails; a refusal has the server's own code and message.
pub fn call(global: &Global, server: &ServerArgs, call: Call) -> anyhow::Result<Value> {
    let context = Context::load(global, server)?;
    let timeout = call.timeout;
    let _rights = rights_for(&context.config, server, &call)?;
    runtime()?.block_on(async {
        let made = async {
            let mut exchange = exchange(global, &context, server, call).await?;
            let (status, reads_only) = (exchange.response.status(), exchange.reads_only);
            let body = Limited::new(exchange.response.body_mut(), MAX_ANSWER_BYTES).collect().await;
            let body = body.map_err(|error| Failure::new("the answer cannot be read", error, "Try again."))?.to_bytes();
            exchange.end().await?;
            match good(status, &body, reads_only) {
                Err(error) => Err(with_reason(global, &context, server, error).await),
                good => good,
            }
        };
        match tokio::time::timeout(timeout, made).await {
            Ok(answer) => answer,
            Err(_) => Err(silent(timeout).into()),
        }
    })
}

fn silent(timeout: Duration) -> Failure {
    let why = format!("no answer in {} s", timeout.as_secs());
    Failure::new("the server does not answer", why, "Check its log, or try again.")
}

fn good(status: http::StatusCode, body: &[u8], reads_only: bool) -> anyhow::Result<Value> {
    let answer: Value = serde_json::from_slice(body).map_err(|error| {
        let why = format!("status {status}, and the body is not JSON: {error}");
        Failure::new(
            "this is not an answer of academy-rt",
            why,
            "Check the address, and any proxy in front of the server.",
        )
    })?;
    if status.is_success() { Ok(answer) } else { Err(refused(status, &answer, reads_only).into()) }
}

/// Tells the audit log what a command has done with files, without the server. Where neither a server nor its data are, there
/// is no audit log. What cannot be recorded is done all the same, and the command warns.
///
/// # Errors
/// If standard error cannot be written.
pub fn report(global: &Global, server: &ServerArgs, action: &str, target: &str, outcome: &str) -> anyhow::Result<()> {
    let has_audit_log = server.url.is_some()
        || data_dir_flag(server.data_dir.as_deref()).ok().and_then(|flags| global.load_to_ask(flags).ok()).is_some_and(
            |(config, _)| {
                config.control_socket().exists() || config.storage.data_dir.join(crate::store::embedded::NAME).exists()
            },
        );
    if !has_audit_log {
        return Ok(());
    }
    let body = serde_json::json!({ "action": action, "target": target, "outcome": outcome });
    let post = Call { timeout: REPORT_TIMEOUT, ..Call::new(Method::POST, "/api/v1/admin/audit", Some(body)) };
    match call(global, server, post.offline_too()) {
        Ok(_) => Ok(()),
        Err(error) => exit::warn(&format!("this is done, but the audit log has no record of it: {error}")),
    }
}

/// Makes a call whose answer is large, and hands it piece by piece to `take`, on a thread of its own.
///
/// # Errors
/// If the call fails, or `take` fails.
pub fn download<T: Send + 'static>(
    global: &Global,
    server: &ServerArgs,
    call: Call,
    take: impl FnOnce(&mut dyn Read) -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let context = Context::load(global, server)?;
    let timeout = call.timeout;
    let _rights = rights_for(&context.config, server, &call)?;
    runtime()?.block_on(async {
        let begun = tokio::time::timeout(timeout, exchange(global, &context, server, call)).await;
        let mut exchange = begun.map_err(|_| silent(timeout))??;
        let (status, reads_only) = (exchange.response.status(), exchange.reads_only);
        if !status.is_success() {
            let body = Limited::new(exchange.response.body_mut(), MAX_ANSWER_BYTES).collect().await;
            exchange.end().await?;
            let body = body.map_err(|error| Failure::new("the answer cannot be read", error, "Try again."))?;
            if let Err(error) = good(status, &body.to_bytes(), reads_only) {
                return Err(with_reason(global, &context, server, error).await);
            }
            return Err(Failure::new("this is not an answer of academy-rt", status, "Check the address.").into());
        }
        let (sender, pieces) = tokio::sync::mpsc::channel(PIECES);
        let taking = tokio::task::spawn_blocking(move || {
            let mut reader = Pieces { pieces, piece: Bytes::new() };
            take(&mut reader)
        });
        let body = exchange.response.body_mut();
        loop {
            let piece = match tokio::time::timeout(timeout, body.frame()).await {
                Ok(None) => break,
                Ok(Some(Ok(frame))) => frame.into_data().map_err(|_| io::ErrorKind::InvalidData.into()),
                Ok(Some(Err(error))) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, error)),
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            };
            // The reader has stopped, and returns the reason.
            if sender.send(piece).await.is_err() {
                break;
            }
        }
        drop(sender);
        let taken = taking.await.context("the answer was not taken to its end")?;
        exchange.end().await?;
        taken
    })
}

/// What a server says to everybody who is refused with `unavailable` has no reason in it. An administrator asks for it.
async fn with_reason(global: &Global, context: &Context, server: &ServerArgs, error: anyhow::Error) -> anyhow::Error {
    let failure = match error.downcast::<Failure>() {
        Ok(failure) if failure.code() == Some("unavailable") => failure,
        Ok(failure) => return failure.into(),
        Err(error) => return error,
    };
    let asked = async {
        let call = Call::new(Method::GET, "/api/v1/admin/status", None).offline_too();
        let mut exchange = exchange(global, context, server, call).await.ok()?;
        let body = Limited::new(exchange.response.body_mut(), MAX_ANSWER_BYTES).collect().await.ok()?.to_bytes();
        exchange.end().await.ok()?;
        let status: Value = serde_json::from_slice(&body).ok()?;
        Some(status.get("reason")?.as_str()?.to_owned())
    };
    let Ok(Some(reason)) = tokio::time::timeout(REPORT_TIMEOUT, asked).await else { return failure.into() };
    let remedy = match reason.contains("disk is full") {
        true => "Free space on the disk of the data directory (df -h), or enlarge it, and try again.",
        false => "Try again in a moment. academy-rt doctor says what to do.",
    };
    Failure::new(failure.problem.what, reason, remedy).with_code("unavailable").into()
}

/// Why the server takes no changes, in its own words.
#[must_use]
pub fn why_not_ready(global: &Global, server: &ServerArgs) -> Option<String> {
    let get = Call { timeout: REPORT_TIMEOUT, ..Call::new(Method::GET, "/api/v1/admin/status", None) };
    let status = call(global, server, get.offline_too()).ok()?;
    Some(status.get("reason")?.as_str()?.to_owned())
}

/// Pieces of a download as a reader, for a thread that may block.
struct Pieces {
    pieces: tokio::sync::mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.piece = piece?,
            }
        }
        let part = self.piece.split_to(self.piece.len().min(buffer.len()));
        if let Some(place) = buffer.get_mut(..part.len()) {
            place.copy_from_slice(&part);
        }
        Ok(part.len())
    }
}

/// How the server is found.
struct Context {
    config: Config,
    /// What is wrong with the configuration. A server that runs is asked all the same; without one it is the answer.
    wrong: Option<Failure>,
}

impl Context {
    fn load(global: &Global, server: &ServerArgs) -> anyhow::Result<Context> {
        let (config, wrong) = global.load_to_ask(data_dir_flag(server.data_dir.as_deref())?)?;
        Ok(Context { config, wrong })
    }
}

async fn exchange(global: &Global, context: &Context, server: &ServerArgs, call: Call) -> anyhow::Result<Exchange> {
    let Context { config, wrong } = context;
    let (mut offline, mut reads_only) = (None, false);
    let (stream, host, token): (Box<dyn Stream>, String, Option<String>) = match &server.url {
        Some(url) => {
            let token = std::env::var("ACADEMY_RT_TOKEN").ok().filter(|token| !token.is_empty()).ok_or_else(|| {
                Failure::usage(
                    "--url needs a token",
                    "ACADEMY_RT_TOKEN is not set",
                    "Issue a token on the server (academy-rt token issue --user svc --scope broadcast), and set ACADEMY_RT_TOKEN to it.",
                )
            })?;
            let Connected { stream, host, .. } = connect(config, url, server.trust()).await?;
            (stream, host, Some(token))
        }
        None => {
            let path = config.control_socket();
            let mut connected = UnixStream::connect(&path).await;
            // Who may not command the server may be one who may read.
            if connected.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
                && let Some(stream) = as_reader(config).await
            {
                (connected, reads_only) = (Ok(stream), true);
            }
            // What a wrong configuration says of the data is nothing to work on.
            if let (Err(_), Some(wrong)) = (&connected, wrong) {
                return Err(wrong.clone().into());
            }
            let stream: Box<dyn Stream> = match connected {
                Ok(stream) => Box::new(stream),
                Err(error) if call.works_offline && is_absent(&error) => {
                    let (opened, stream) = Offline::open(config).await.map_err(|failed| match failed {
                        OfflineError::Other(error) => Failure::from(error),
                        OfflineError::InUse(by) => {
                            let why = format!("the data are in use by {by}. If that is a server, its control socket is in another place, or was removed");
                            let remedy = "If it was removed, the server makes it again: try again in a few seconds. Otherwise set RUNTIME_DIRECTORY to the directory of its control.sock (/run/academy-rt for the service), or use --url with a token in ACADEMY_RT_TOKEN.";
                            Failure::new(format!("no server answers on {}", path.display()), why, remedy)
                        }
                    })?;
                    offline = Some(opened);
                    Box::new(stream)
                }
                Err(error) => {
                    let what = format!("no server answers on {}", path.display());
                    return Err(Failure::new(what, &error, unreached(&path, &error)).into());
                }
            };
            (stream, "localhost".to_owned(), None)
        }
    };
    if let Some(wrong) = wrong {
        global.warn_of(wrong)?;
    }
    let body = call.body.as_ref().map(serde_json::to_vec).transpose()?.unwrap_or_default();
    let mut request = Request::builder()
        .method(call.method)
        .uri(call.path)
        .header(HOST, host)
        .header(CONTENT_TYPE, "application/json");
    match token {
        Some(token) => request = request.header(AUTHORIZATION, format!("Bearer {}", token.trim())),
        // Over the control socket: whoever is behind this command is in the audit log.
        None => {
            if let Some(person) = local_person::behind_this_process() {
                request = request.header(BEHIND_COMMAND, person);
            }
        }
    }
    let request = request.body(Full::new(Bytes::from(body))).map_err(|error| {
        Failure::usage("the token in ACADEMY_RT_TOKEN cannot be sent", error, "Set it exactly as it was issued.")
    })?;
    let no_http = |error: hyper::Error| {
        let remedy = "Check that this is the address of academy-rt, and whether it needs https:// or http://.";
        Failure::new("the server sent no HTTP response", error, remedy)
    };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(no_http)?;
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(no_http)?;
    Ok(Exchange { response, connection, offline, reads_only })
}

/// The socket of those who may only read. Whoever could put another one in its place could tell readers what they like: its
/// directory belongs to root, or to whoever has the control socket.
fn readers_socket(config: &Config) -> Option<PathBuf> {
    let owner_of = |path: &Path| {
        let found = std::fs::symlink_metadata(path).ok().filter(std::fs::Metadata::is_dir);
        found.map(|found| found.uid())
    };
    let (readers, control) = (config.readers_socket()?, config.control_socket());
    let owner = owner_of(readers.parent()?)?;
    (owner == 0 || Some(owner) == owner_of(control.parent()?)).then_some(readers)
}

async fn as_reader(config: &Config) -> Option<UnixStream> {
    UnixStream::connect(readers_socket(config)?).await.ok()
}

/// Whether this user may read what the server of this machine says of itself, and may not command it.
#[must_use]
pub fn may_only_read(config: &Config) -> bool {
    use std::os::unix::net::UnixStream;
    UnixStream::connect(config.control_socket()).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
        && readers_socket(config).is_some_and(|path| UnixStream::connect(path).is_ok())
}

/// An id as a segment of a path.
#[must_use]
pub fn segment(id: &str) -> String {
    percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// No server is running: there is no socket, or a process has left it behind.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

/// What to do when the control socket does not answer.
fn unreached(path: &Path, error: &std::io::Error) -> String {
    if error.kind() == std::io::ErrorKind::PermissionDenied {
        return "Run the command as root (sudo), as the user of the server or as a member of its group; as a member of the readers' group (academy-rt-readers) \
                to look alone; or use --url with a token in ACADEMY_RT_TOKEN."
            .to_owned();
    }
    // systemd tells only the service where the socket is. The error names it, but the command does not use it: a command for
    // the server of this data directory must not reach another server.
    let service = Path::new(SERVICE_RUNTIME_DIR);
    if path.parent() != Some(service) && service.join("control.sock").exists() {
        return format!("To reach the service of this machine: RUNTIME_DIRECTORY={SERVICE_RUNTIME_DIR} academy-rt ...");
    }
    "Start the server (academy-rt serve), give its data directory with --data-dir, or use --url with a token in ACADEMY_RT_TOKEN.".to_owned()
}

/// A refusal, with the message of the server.
fn refused(status: http::StatusCode, answer: &Value, reads_only: bool) -> Failure {
    let field = |name: &str| answer.pointer(&format!("/error/{name}")).and_then(Value::as_str);
    let Some(code) = field("code") else {
        let remedy = "Check the address, and any proxy in front of the server.";
        return Failure::new("this is not an answer of academy-rt", format!("status {status}"), remedy);
    };
    let message = field("message").unwrap_or("the reason is unknown");
    let why = field("field").map_or_else(|| message.to_owned(), |field| format!("{field}: {message}"));
    if reads_only && code == "forbidden" {
        let remedy =
            "Run the command as root (sudo academy-rt ...), or as the user of the server or a member of its group.";
        return Failure::new("this account may only read", why, remedy).with_code(code);
    }
    let remedy = match code {
        "forbidden" | "token_missing" | "token_invalid" | "token_expired" | "token_malformed" => {
            "Use a valid token with the role admin or the scope of this command."
        }
        "unavailable" => "Try again in a moment. academy-rt status shows more.",
        "conflict" => "Resolve the conflict, and try again.",
        "not_found" => "Check the name or the ID.",
        _ => "Correct the request.",
    };
    Failure::new(format!("the server refused: {code}"), why, remedy).with_code(code)
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refusal_has_the_servers_code_message_and_field() {
        let answer = json!({"error": {"code": "invalid_payload", "message": "is too long", "field": "event"}});
        let failure = refused(StatusCode::BAD_REQUEST, &answer, false);
        assert_eq!(failure.to_string(), "the server refused: invalid_payload: event: is too long");
        let failure = refused(StatusCode::BAD_GATEWAY, &json!({"detail": "proxy"}), false);
        assert!(failure.to_string().contains("not an answer of academy-rt: status 502"));
    }
}
