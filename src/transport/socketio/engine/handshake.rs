//! What happens to a request before the Engine.IO library sees it: the token is taken out of it, what the library would
//! keep for the life of the socket is copied small, and the connection is tied to the session.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_KEY};
use http::request::Parts;
use http::{Request, StatusCode, Uri};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use zeroize::Zeroizing;

use crate::domain::{Actor, UserId};
use crate::transport::socketio::engine::connection::Connection;

use crate::transport::origin::{self, ClientAddress};
use crate::transport::socketio::SocketIoTransport;
use crate::transport::socketio::engine::sessions::{PollGuard, SendGuard, Upgrade, UpgradeGuard};
use crate::transport::socketio::engine::upgrade;
use crate::transport::socketio::socket::Link;

/// A client has so long to finish an upgrade.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);
/// Behind a probe a poll that still waits is answered once more after so long, and then after twice as long each time.
const RELEASE: Duration = Duration::from_millis(100);

/// The headers that the library reads: it keeps them as long as the socket lives.
const KEPT: [HeaderName; 2] = [CONTENT_TYPE, SEC_WEBSOCKET_KEY];

/// A token from the query, a header or a cookie of the handshake. Never shown. The library keeps the request as long as the
/// socket lives, and not the token: it is taken out once, and its memory is overwritten when it has been looked at.
#[derive(Clone, Default)]
pub struct HandshakeToken(Arc<Mutex<Option<Zeroizing<String>>>>);

impl HandshakeToken {
    /// A token, if the request has one.
    #[must_use]
    pub fn new(token: Option<Zeroizing<String>>) -> HandshakeToken {
        HandshakeToken(Arc::new(Mutex::new(token)))
    }

    /// The token, the first time. From then on there is none, in no copy of this.
    #[must_use]
    pub fn take(&self) -> Option<Zeroizing<String>> {
        self.0.lock().take()
    }
}

/// Whether somebody has asked to sign in on a WebSocket that begins a session.
#[derive(Debug, Clone, Default)]
pub struct HasAsked(pub Arc<AtomicBool>);

/// Whom the token of the handshake has named, for a client that leaves and signs in again on its connection: the token itself is
/// not kept for that.
#[derive(Debug, Clone, Default)]
pub struct HandshakeActor(Arc<Mutex<Option<Actor>>>);

impl HandshakeActor {
    /// It was good, and is this one's.
    pub fn keep(&self, actor: &Actor) {
        *self.0.lock() = Some(actor.clone());
    }

    /// Whose it was, if it was good.
    #[must_use]
    pub fn get(&self) -> Option<Actor> {
        self.0.lock().clone()
    }
}

impl std::fmt::Debug for HandshakeToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HandshakeToken")
    }
}

/// The query of a request to Socket.IO, read once for everything that goes by it.
#[derive(Default)]
pub struct SocketQuery {
    /// The session of a request that is not its first.
    pub session: Option<String>,
    /// Whether it asks for a WebSocket.
    pub is_websocket: bool,
    /// Whether it is of an older protocol.
    pub is_old: bool,
    token: Option<Zeroizing<String>>,
    /// What the library needs of it.
    kept: String,
}

impl std::fmt::Debug for SocketQuery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SocketQuery").field("is_websocket", &self.is_websocket).finish_non_exhaustive()
    }
}

/// What the library reads of a query. It takes the first of several, and another reader may take the last.
const READ_ONCE: [&str; 4] = ["sid", "transport", "EIO", "b64"];

impl SocketQuery {
    /// Reads a query.
    ///
    /// # Errors
    /// The name of a parameter that is given more than once, though only one can be meant: a request with two sessions would
    /// be one session's for whoever reads the first, and another's for whoever reads the last.
    pub fn parse(text: &str) -> Result<SocketQuery, &'static str> {
        let mut query = SocketQuery { kept: String::with_capacity(64), ..SocketQuery::default() };
        let mut seen = [false; READ_ONCE.len()];
        for pair in text.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some((name, seen)) = READ_ONCE.iter().zip(&mut seen).find(|(name, _)| **name == key) else {
                let token = form_urlencoded::parse(pair.as_bytes()).find(|(key, _)| key == "token");
                query.token = query.token.or_else(|| token.map(|(_, token)| Zeroizing::new(token.into_owned())));
                continue;
            };
            if std::mem::replace(seen, true) {
                return Err(name);
            }
            match key {
                "sid" => query.session = Some(value.to_owned()),
                "EIO" => query.is_old = matches!(value, "1" | "2" | "3"),
                "transport" => query.is_websocket = value == "websocket",
                _ => {}
            }
            query.kept.push(if query.kept.is_empty() { '?' } else { '&' });
            query.kept.push_str(pair);
        }
        Ok(query)
    }
}

/// What a request is to a session.
#[derive(Debug)]
pub struct Passage {
    /// The session of a request that is not its first.
    session: Option<String>,
    /// Whether it asks for a WebSocket.
    pub is_websocket: bool,
    /// Held until the poll is answered.
    poll: Option<PollGuard>,
    /// Held until what it sends has been read.
    _send: Option<SendGuard>,
    /// Of a WebSocket that begins a session: whether somebody has asked to sign in on it, and from where it comes.
    newcomer: Option<(Arc<AtomicBool>, String)>,
}

/// A request that must not reach the library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedSession;

impl Passage {
    /// The session that asks for a WebSocket in place of polling.
    #[must_use]
    pub fn upgrades(&self) -> Option<&str> {
        self.session.as_deref().filter(|_| self.is_websocket)
    }

    /// Whether it opens a session on polling.
    #[must_use]
    pub fn opens_polling(&self) -> bool {
        self.session.is_none() && !self.is_websocket
    }

    /// Resolves when the client of a waiting poll wants to go over to its WebSocket; never for any other request.
    pub async fn released(&self) {
        match &self.poll {
            Some(poll) => poll.released().await,
            None => std::future::pending().await,
        }
    }

    /// Resolves when the session of a waiting poll is hung up on; never for any other request.
    pub async fn ended(&self) {
        match &self.poll {
            Some(poll) => poll.ended().await,
            None => std::future::pending().await,
        }
    }
}

impl SocketIoTransport {
    /// Whether a path is Socket.IO's.
    #[must_use]
    pub fn is_path(&self, path: &str) -> bool {
        path.strip_prefix(&self.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Prepares a request for the library. `token` is what was found outside of the Socket.IO handshake.
    ///
    /// # Errors
    /// If the session was hung up on, or its path cannot be read: the request must not reach the library.
    pub fn prepare(
        self: &Arc<Self>,
        parts: &mut Parts,
        query: SocketQuery,
        token: Option<Zeroizing<String>>,
        connection: &Arc<dyn Connection>,
    ) -> Result<Passage, EndedSession> {
        let SocketQuery { session, is_websocket, kept, .. } = query;
        let has_ended = |session: &str| {
            let is_told = |link: Arc<Link>| link.is_told.load(Ordering::Acquire);
            self.directory.sessions.is_refused(session) || self.directory.signed_in(session).is_some_and(is_told)
        };
        if session.as_deref().is_some_and(has_ended) {
            return Err(EndedSession);
        }
        // The library keeps the head of the request that opens a session: a URL without the token, in memory of its own,
        // and few headers (the others would pin the connection's read buffer).
        parts.uri = format!("{}{kept}", self.path).parse::<Uri>().map_err(|_| EndedSession)?;
        parts.headers = compact(&parts.headers);
        if session.is_none() {
            parts.extensions.insert(HandshakeToken::new(token));
            parts.extensions.insert(HandshakeActor::default());
        }
        if let Some(session) = &session {
            self.directory.sessions.note_asked(session);
        }
        let mut newcomer = None;
        if is_websocket && session.is_none() {
            parts.extensions.insert(connection.clone());
            let has_asked = HasAsked::default();
            let address = parts.extensions.get::<ClientAddress>().copied();
            newcomer = Some((has_asked.0.clone(), origin::describe(None, address)));
            parts.extensions.insert(has_asked);
        }
        let poll = match &session {
            Some(session) if !is_websocket && parts.method == http::Method::GET => {
                Some(self.directory.sessions.begin_poll(session))
            }
            _ => None,
        };
        let send = match &session {
            Some(session) if !is_websocket && poll.is_none() => self.directory.sessions.begin_send(session),
            _ => None,
        };
        Ok(Passage { session, is_websocket, poll, _send: send, newcomer })
    }

    /// Whether a request belongs to a socket that is here: it may take its leave when nobody else may come.
    #[must_use]
    pub fn is_of_a_socket(&self, query: &SocketQuery) -> bool {
        query.session.as_deref().is_some_and(|session| self.directory.signed_in(session).is_some())
    }

    /// Who is behind a session that has signed in.
    #[must_use]
    pub fn user_of(&self, query: &SocketQuery) -> Option<UserId> {
        Some(self.directory.signed_in(query.session.as_deref()?)?.actor().user.clone())
    }

    /// Whether a request belongs to a session whose rights it may not use: those of an administrator or a service token, without a
    /// client certificate where one is needed.
    #[must_use]
    pub fn lacks_certificate(&self, query: &SocketQuery) -> bool {
        self.app.settings.get().needs_certificate
            && query
                .session
                .as_deref()
                .and_then(|session| self.directory.signed_in(session))
                .is_some_and(|link| link.actor().is_trusted())
    }

    /// Looks at the library's answer before it goes out.
    pub fn conclude(&self, passage: &mut Passage, status: StatusCode, connection: &Arc<dyn Connection>) {
        if let Some(poll) = &mut passage.poll {
            poll.note_answered();
        }
        if status == StatusCode::OK
            && let Some(session) = passage.session.as_ref().filter(|_| passage.poll.is_some())
            && let Some(link) = self.directory.signed_in(session)
        {
            link.note_polled();
            if link.is_closing.load(Ordering::Acquire) {
                link.is_told.store(true, Ordering::Release);
            }
        }
        if status == StatusCode::SWITCHING_PROTOCOLS && passage.is_websocket {
            connection.expect_websocket(passage.session.is_none());
            if let Some((has_asked, origin)) = passage.newcomer.take() {
                self.directory.sessions.note_newcomer(connection, has_asked, origin);
            }
        }
    }

    /// An answer to a poll as gzip; `None` if it goes out as it is. Administrators are shown more of a room than its members, who
    /// might guess at it: theirs always do.
    pub async fn gzip(&self, passage: &Passage, answer: &Bytes) -> Option<Bytes> {
        passage.poll.as_ref()?;
        let link = self.directory.signed_in(passage.session.as_deref()?)?;
        if link.actor().is_trusted() {
            return None;
        }
        drop(link);
        self.compressors.gzip(answer).await
    }

    /// Begins the change of a session from polling to a WebSocket, whose answer is 101: the request's connection is handed to the
    /// library when the client has finished it. `None` if there is no such session.
    /// `upgraded` gives the connection behind that answer.
    pub fn begin_upgrade<B, S>(
        self: &Arc<Self>,
        request: Request<B>,
        upgraded: impl Future<Output = Option<S>> + Send + 'static,
        session: &str,
        connection: &Arc<dyn Connection>,
    ) -> Option<HeaderMap>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let guard = match self.directory.sessions.begin_upgrade(session) {
            Upgrade::Unknown => return None,
            Upgrade::Late => None,
            Upgrade::Begun(guard) => Some(guard),
        };
        let (parts, _) = request.into_parts();
        let headers = parts.headers.clone();
        let (this, connection) = (self.clone(), connection.clone());
        self.tasks().spawn(async move {
            let Some(stream) = upgraded.await else { return };
            let Some(guard) = guard else { return upgrade::turn_away(stream).await };
            tokio::select! {
                () = this.finish_upgrade(stream, guard, parts, &connection) => {}
                () = this.directory.sessions.leaving().cancelled() => {}
            }
        });
        Some(headers)
    }

    async fn finish_upgrade<S>(&self, stream: S, guard: UpgradeGuard, parts: Parts, connection: &Arc<dyn Connection>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let probed = Notify::new();
        // A poll may be on its way when the probe is answered, and the answer to an earlier one may overtake that to the probe: it is
        // released again, more and more seldom.
        let releases = async {
            probed.notified().await;
            let mut pause = RELEASE;
            loop {
                guard.release_poll();
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
        };
        let finished = tokio::select! {
            finished = upgrade::handshake(stream, || probed.notify_one()) => finished,
            () = releases => return,
            () = tokio::time::sleep(UPGRADE_TIMEOUT) => return,
        };
        let Ok(stream) = finished else { return };
        if !guard.is_wanted() {
            return upgrade::turn_away(stream).await;
        }
        guard.finish(connection);
        self.hand_over(stream, Request::from_parts(parts, ()));
    }
}

/// The token in a request: query, then bearer header, then the cookie of that name.
#[must_use]
pub fn token_of(query: &mut SocketQuery, headers: &HeaderMap, cookie_name: Option<&str>) -> Option<Zeroizing<String>> {
    if let Some(token) = query.token.take() {
        return Some(token);
    }
    if let Some(token) = bearer_of(headers) {
        return Some(token);
    }
    let cookie_name = cookie_name?;
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == cookie_name)
        .map(|(_, value)| Zeroizing::new(value.to_owned()))
}

/// The token of an `Authorization: Bearer` header.
#[must_use]
pub fn bearer_of(headers: &HeaderMap) -> Option<Zeroizing<String>> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| Zeroizing::new(token.trim().to_owned()))
}

fn compact(headers: &HeaderMap) -> HeaderMap {
    let copy = |name: HeaderName| {
        let value = HeaderValue::from_bytes(headers.get(&name)?.as_bytes()).ok()?;
        Some((name, value))
    };
    // Without room for what is not there: a map without a header has no memory of its own.
    let mut small = HeaderMap::new();
    for (name, value) in KEPT.into_iter().filter_map(copy) {
        if small.is_empty() {
            small.reserve(1);
        }
        small.insert(name, value);
    }
    small
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_looked_for_in_query_header_and_cookie_in_this_order() {
        let all = [("authorization", "Bearer b"), ("cookie", "x=1; session=c")];
        let found = |query: &str, headers: &[(&'static str, &'static str)], cookie: Option<&str>| {
            let headers =
                headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            let mut query = SocketQuery::parse(query).unwrap();
            token_of(&mut query, &headers.collect(), cookie).map(|token| token.to_string())
        };
        assert_eq!(found("token=a%2E&token=z", &all, Some("session")).as_deref(), Some("a."));
        assert_eq!(found("%74oken=a", &all, Some("session")).as_deref(), Some("a"));
        assert_eq!(found("", &all, Some("session")).as_deref(), Some("b"));
        assert_eq!(found("", &all[1..], Some("session")).as_deref(), Some("c"));
        assert_eq!(found("", &all[1..], None), None);
        assert_eq!(found("", &[("authorization", "Basic b")], None), None);
    }

    #[test]
    fn a_query_is_read_once_and_keeps_what_the_library_needs() {
        let query = SocketQuery::parse("EIO=4&transport=websocket&token=secret&t=abc&xsid=no&sid=S").unwrap();
        assert_eq!((query.session.as_deref(), query.is_websocket), (Some("S"), true));
        assert_eq!(query.kept, "?EIO=4&transport=websocket&sid=S");
        assert!(!format!("{query:?}").contains("secret"));
        let query = SocketQuery::parse("EIO=4&xsid=1&xtransport=websocket").unwrap();
        assert_eq!((query.session, query.is_websocket), (None, false), "another name is another parameter");
    }

    #[test]
    fn what_can_be_meant_once_is_given_once() {
        for (query, name) in [
            ("sid=a&sid=b", "sid"),
            ("sid=a&sid=a", "sid"),
            ("transport=polling&transport=websocket", "transport"),
            ("EIO=4&EIO=3", "EIO"),
        ] {
            assert_eq!(SocketQuery::parse(query).map(drop), Err(name), "{query}");
        }
    }

    #[test]
    fn the_token_of_a_handshake_is_there_once_and_is_not_shown() {
        let token = HandshakeToken::new(Some(Zeroizing::new("hidden".to_owned())));
        let kept_by_the_library = token.clone();
        assert!(!format!("{token:?}").contains("hidden"));
        assert_eq!(token.take().as_deref().map(String::as_str), Some("hidden"));
        assert_eq!(kept_by_the_library.take(), None);
    }
}
