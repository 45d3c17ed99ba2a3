//! The HTTP API: health, the broadcast service, polling, administration and the SDK's files. Each resource is a file; here is
//! what they share: who asks, how bodies and queries are read, how answers are written.

pub mod admin;
pub mod broadcast;
pub mod client;
mod contract;
pub mod deferred;
pub mod dev;
pub mod extract;
pub mod health;
pub mod npm;
mod order;
pub mod routes;
mod sdk;

use std::sync::Arc;
use std::time::Duration;

use ::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use ::http::{HeaderMap, HeaderValue, Method, StatusCode};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use serde::Serialize;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reject::Rejection;
/// What an answer is made of.
pub use warp::reply::Response;

use crate::archive::continuous::recorder::Standing;
use crate::auth::Verifier;
use crate::config::capacity;
use crate::domain::{Actor, UserId};
use crate::observability::forwarding::Forwarding;
use crate::protocol::answer::Ok as OkAnswer;
use crate::protocol::error::{ApiError, ErrorCode};
use crate::protocol::http::{CertificateStatus, ErrorBody};
use crate::services::limits::budget::{RequestKind, points_for_size};
use crate::services::{App, Caller, authorize};
use crate::transport::console;
use crate::transport::http::routes::{HeadAlone, Route};
use crate::transport::memory::{Memory, Sender, Turn, declared_length};
use crate::transport::origin::{self, Certified, ClientAddress, OverControlSocket, SignedIn, network_of};
use crate::transport::socketio::SocketIoTransport;
use crate::transport::socketio::engine::handshake::bearer_of;
use crate::transport::socketio::{identify, note_refused};

/// What the process says of itself.
pub trait Process: Send + Sync {
    /// Since when it runs.
    fn uptime(&self) -> Duration;
    /// Where it listens.
    fn addresses(&self) -> Vec<String>;
    /// Whether Socket.IO is switched on.
    fn websocket_enabled(&self) -> bool;
    /// Whether it has a page at `/`.
    fn has_welcome(&self) -> bool;
    /// Whether it is about to stop.
    fn is_draining(&self) -> bool;
    /// The certificate in force.
    fn certificate(&self) -> Option<CertificateStatus> {
        None
    }
    /// Why the last reload was refused.
    fn config_error(&self) -> Option<String> {
        None
    }
    /// Why a certificate that has changed is not used.
    fn certificate_error(&self) -> Option<String> {
        None
    }
    /// Why keys that have changed are not used.
    fn keys_error(&self) -> Option<String> {
        None
    }
    /// How the continuous backup stands, if there is one.
    fn continuous(&self) -> Option<Standing> {
        None
    }
    /// How the forwarding of the audit log stands, if there is one.
    fn forwarding(&self) -> Option<Forwarding> {
        None
    }
    /// The bytes that are free where the data are.
    fn free_bytes(&self) -> Option<u64> {
        None
    }
}

/// Everything the handlers need.
pub struct HttpApi {
    /// The services.
    pub app: Arc<App>,
    /// Who is who.
    pub verifier: Arc<Verifier>,
    /// The sockets, for the figures.
    pub sockets: Arc<SocketIoTransport>,
    /// The process.
    pub process: Arc<dyn Process>,
    /// The paths of Socket.IO and of this API, for clients that ask.
    pub paths: [String; 2],
    /// The largest body, in bytes.
    pub payload_bytes: u64,
    /// The memory for bodies.
    pub bodies: Arc<Memory>,
    /// The memory for answers.
    pub answers: Arc<Memory>,
    /// What signs tokens for a developer, with `serve --dev` alone.
    pub dev: Option<Arc<dev::DevTokens>>,
}

impl std::fmt::Debug for HttpApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpApi").finish_non_exhaustive()
    }
}

/// Why a request is refused before its handler is asked, and before anything of its body is read.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) ApiError);

impl warp::reject::Reject for Refusal {}

/// A HEAD whose asker would be given what they ask about: nothing more is done for it.
#[derive(Debug)]
struct HeadAnswered(HeadAlone);

impl warp::reject::Reject for HeadAnswered {}

/// All routes.
#[must_use]
pub fn routes(api: Arc<HttpApi>) -> BoxedFilter<(Response,)> {
    health::routes(&api)
        .or(broadcast::routes(&api))
        .unify()
        .or(client::routes(&api))
        .unify()
        .or(order::routes(&api))
        .unify()
        .or(admin::routes(&api))
        .unify()
        .or(admin::data::routes(&api))
        .unify()
        .or(admin::messages::routes(&api))
        .unify()
        .or(admin::notices::routes(&api))
        .unify()
        .or(admin::users::routes(&api))
        .unify()
        .or(admin::rooms::routes(&api))
        .unify()
        .or(admin::webhooks::routes(&api))
        .unify()
        .or(sdk::routes(&api))
        .unify()
        .or(contract::routes(&api))
        .unify()
        .or(console(&api))
        .unify()
        .recover(refused)
        .unify()
        .boxed()
}

fn console(api: &HttpApi) -> BoxedFilter<(Response,)> {
    let [path, api_path] = &api.paths;
    let process = api.process.clone();
    let pages = console::routes(path, api_path, move || process.has_welcome());
    match &api.dev {
        Some(tokens) => pages.or(dev::routes(path, api_path, tokens)).unify().boxed(),
        None => pages,
    }
}

async fn refused(rejection: Rejection) -> Result<Response, Rejection> {
    // First: of the other routes, each has its own word to say of a request that is not for it.
    if let Some(HeadAnswered(HeadAlone(content_type))) = rejection.find() {
        return Ok(text_response(StatusCode::OK, HeaderValue::from_static(content_type), Vec::new()));
    }
    let error = if let Some(Refusal(error)) = rejection.find() {
        error.clone()
    } else if rejection.find::<warp::reject::PayloadTooLarge>().is_some() {
        ApiError::new(ErrorCode::TooLarge, "the body is too large")
    } else if rejection.find::<warp::reject::MethodNotAllowed>().is_some() {
        ApiError::new(ErrorCode::MethodNotAllowed, "this address does not take this method")
    } else {
        ApiError::new(ErrorCode::NotFound, "there is nothing at this address")
    };
    Ok(failure(&error))
}

impl HttpApi {
    /// The caller of a request: the control socket, or a bearer token.
    fn asker(
        &self,
        headers: &HeaderMap,
        control: Option<OverControlSocket>,
        address: Option<ClientAddress>,
        is_certified: bool,
        kind: RequestKind,
        sender: Option<&SignedIn>,
    ) -> Result<Caller, ApiError> {
        let origin = origin::describe(control.as_ref(), address);
        let reads_only = control.as_ref().is_some_and(|control| control.reads_only);
        if control.is_some() && !headers.contains_key(AUTHORIZATION) {
            return Ok(Caller::http(Actor::local_admin(), &origin).reading(reads_only));
        }
        let token = bearer_of(headers);
        let is_certified = is_certified || (control.is_some() && !reads_only);
        match identify(&self.verifier, &self.app, token.as_deref().map(String::as_str), is_certified) {
            Ok(actor) => {
                if let Some(sender) = sender {
                    sender.note(&actor.user);
                }
                self.app.rates.charge(&actor, kind, declared_length(headers).unwrap_or(0))?;
                self.app.uses.note_sign_in(&actor, &origin);
                Ok(Caller::http(actor, &origin).reading(reads_only))
            }
            Err(error) => {
                note_refused(
                    &self.verifier,
                    &self.app,
                    token.as_deref().map(String::as_str),
                    (control.as_ref(), address),
                    &error,
                );
                if let Some(ClientAddress(address)) = address {
                    self.app.rates.charge_network(network_of(address), RequestKind::Stranger)?;
                }
                Err(error)
            }
        }
    }
}

impl HttpApi {
    /// A segment of a path as a user's id, with the JSON type that the user has.
    fn user(&self, segment: &str) -> Result<UserId, ApiError> {
        Ok(self.app.live.named(extract::user(segment)?))
    }

    /// Memory for the largest answer there may be.
    async fn answer_turn(&self, caller: &Caller) -> Result<Turn, ApiError> {
        let sender = Sender::User(caller.actor.user.clone());
        let turn = self.answers.admit(sender, capacity::ANSWER_BYTES as u64).await;
        turn.inspect_err(|_| self.app.live.counters().rate_limited.add("answers"))
    }

    async fn turn(&self, sender: Sender, length: u64) -> Result<Turn, ApiError> {
        let turn = self.bodies.admit(sender, length).await;
        turn.inspect_err(|_| self.app.live.counters().rate_limited.add("bodies"))
    }

    /// Reads a body of somebody who has signed in. It has its place among all bodies before a byte of it is read, and until
    /// the handler lets go of it.
    async fn read_body<B: Buf>(
        &self,
        caller: &Caller,
        is_local: bool,
        length: Length,
        body: impl Stream<Item = Result<B, warp::Error>>,
    ) -> Result<Bytes, ApiError> {
        let too_large = || ApiError::new(ErrorCode::TooLarge, "the body is too large");
        let most = match length {
            Length::Known(bytes) if bytes > self.payload_bytes => return Err(too_large()),
            Length::Known(bytes) => bytes,
            // It may be as long as it may.
            Length::Unknown => self.payload_bytes,
        };
        // An administrator of this machine waits for nobody.
        let mut turn = match is_local {
            true => None,
            false => Some(self.turn(Sender::User(caller.actor.user.clone()), most).await?),
        };
        let mut body = std::pin::pin!(body);
        let mut read = BytesMut::new();
        while let Some(piece) = body.next().await {
            let mut piece = piece.map_err(|_| {
                ApiError::new(ErrorCode::InvalidPayload, "the body broke off; send the request again, with all of it")
            })?;
            if (read.len() + piece.remaining()) as u64 > most {
                return Err(too_large());
            }
            read.put(piece.copy_to_bytes(piece.remaining()));
        }
        if length == Length::Unknown {
            turn.iter_mut().for_each(|turn| turn.shrink(read.len()));
            // Paid for with the head where it says so.
            self.app.rates.charge_points(&caller.actor, points_for_size(read.len() as u64))?;
        }
        let bytes = read.freeze();
        Ok(match turn {
            Some(turn) => Bytes::from_owner(Held { bytes, _turn: turn }),
            None => bytes,
        })
    }
}

/// The API itself, as the first argument of a handler.
pub(crate) fn with_api(
    api: &Arc<HttpApi>,
) -> impl Filter<Extract = (Arc<HttpApi>,), Error = std::convert::Infallible> + Clone + use<> {
    let api = api.clone();
    warp::any().map(move || api.clone())
}

/// Who asks, as an argument of a handler, and pays for a request of this kind. Who is not let in, or asks for too much, is
/// refused here, and so is a HEAD that needs nothing more than to know who asks.
pub(crate) fn asker(api: &Arc<HttpApi>, kind: RequestKind) -> BoxedFilter<(Caller,)> {
    let api = api.clone();
    warp::header::headers_cloned()
        .and(warp::method())
        .and(warp::ext::optional::<OverControlSocket>())
        .and(warp::ext::optional::<ClientAddress>())
        .and(warp::ext::optional::<Certified>())
        .and(warp::ext::optional::<SignedIn>())
        .and(warp::ext::optional::<&'static Route>())
        .and(warp::ext::optional::<HeadAlone>())
        .and_then(
            move |headers: HeaderMap,
                  method: Method,
                  control,
                  address,
                  certified: Option<Certified>,
                  sender: Option<SignedIn>,
                  route: Option<&'static Route>,
                  head| {
                let (api, is_certified) = (api.clone(), certified.is_some());
                async move {
                    let refuse = |error| warp::reject::custom(Refusal(error));
                    let caller =
                        api.asker(&headers, control, address, is_certified, kind, sender.as_ref()).map_err(refuse)?;
                    let needs = route.and_then(|route| route.needs(&method));
                    needs.map_or(Ok(()), |scope| authorize(&caller, scope)).map_err(refuse)?;
                    // Before anything is answered or told of them.
                    api.app.identities.keep(&caller.actor).await;
                    if let Some(head) = head {
                        return Err(warp::reject::custom(HeadAnswered(head)));
                    }
                    // Before anything is read for it. The administrator of this machine, who has no sender to note, waits for nobody.
                    if let Some(sender) = sender.filter(|_| method == Method::GET && kind.may_be_large()) {
                        sender.keep_for_answer(api.answer_turn(&caller).await.map_err(refuse)?);
                    }
                    Ok::<_, Rejection>(caller)
                }
            },
        )
        .boxed()
}

/// How long a body is, as far as the head of its request says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Known(u64),
    /// It comes in chunks.
    Unknown,
}

/// Who asks, and the body of their request, bounded, as two arguments of a handler. Nothing of the body is read for somebody
/// whom [`asker`] does not let in. A request that says nothing of a body has none.
pub(crate) fn asker_with_body(api: &Arc<HttpApi>, kind: RequestKind) -> BoxedFilter<(Caller, Bytes)> {
    let of_body = api.clone();
    asker(api, kind)
        .and(warp::ext::optional::<OverControlSocket>())
        .and(warp::header::optional::<u64>("content-length"))
        .and(warp::header::optional::<String>("transfer-encoding"))
        .and(warp::body::stream())
        .and_then(
            move |caller: Caller,
                  local: Option<OverControlSocket>,
                  length: Option<u64>,
                  coding: Option<String>,
                  body| {
                let api = of_body.clone();
                let length = match coding {
                    Some(_) => Length::Unknown,
                    None => Length::Known(length.unwrap_or(0)),
                };
                async move {
                    match api.read_body(&caller, local.is_some(), length, body).await {
                        Ok(body) => Ok((caller, body)),
                        Err(error) => Err(warp::reject::custom(Refusal(error))),
                    }
                }
            },
        )
        .untuple_one()
        .boxed()
}

/// A body and its place.
struct Held {
    bytes: Bytes,
    _turn: Turn,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The query as it is.
pub(crate) fn query() -> BoxedFilter<(String,)> {
    warp::query::raw().or(warp::any().map(String::new)).unify().boxed()
}

/// An answer with `ok: true`, or an error with its status.
pub(crate) fn answer<T: Serialize>(result: Result<T, ApiError>) -> Response {
    match result {
        Ok(body) => json(StatusCode::OK, &OkAnswer::new(body)),
        Err(error) => failure(&error),
    }
}

/// In the extensions of an answer: the error that it tells.
#[derive(Debug, Clone)]
pub struct Refused(pub ApiError);

/// An error with its status.
pub(crate) fn failure(error: &ApiError) -> Response {
    failure_with(error, &ErrorBody::new(error))
}

/// An error with its status and a body of its own.
pub(crate) fn failure_with<T: Serialize>(error: &ApiError, body: &T) -> Response {
    let status = StatusCode::from_u16(error.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(status, body);
    if let Some(wait_ms) = error.retry_after_ms {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait_ms.div_ceil(1_000)));
    }
    // The outer service says in the log whom it has refused what, and why.
    response.extensions_mut().insert(Refused(error.clone()));
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// A JSON answer; never cached.
pub(crate) fn json<T: Serialize>(status: StatusCode, body: &T) -> Response {
    let Ok(text) = crate::protocol::json::to_vec(body) else {
        return failure(&ApiError::new(ErrorCode::Internal, "the answer could not be written"));
    };
    text_response(status, HeaderValue::from_static("application/json"), text)
}

/// An answer of some type; never cached.
pub(crate) fn text_response(status: StatusCode, content_type: HeaderValue, text: Vec<u8>) -> Response {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
