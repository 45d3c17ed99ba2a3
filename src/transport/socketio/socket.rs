//! One Socket.IO socket as the services see it: an [`Outlet`]. It sends through the Engine.IO library while the socket is on
//! polling, and straight to the [`Connection`] when it is on a WebSocket; the change from one to the other keeps the order
//! ([`Marker`]).

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use socketioxide::extract::{AckSender, SocketRef};
use socketioxide::{SendError, SocketError, TransportType};

use crate::config::capacity;
use crate::domain::{Actor, Timestamp};
use crate::observability::counters::Counters;
use crate::protocol::error::ApiError;
use crate::protocol::event::ServerEvent;
use crate::protocol::packet::Packet;
use crate::realtime::batch::{Batch, Packets};
use crate::realtime::registry::{Outlet, SocketHandle};
use crate::services::Caller;
use crate::transport::origin::network_of;
use crate::transport::refusals;
use crate::transport::socketio::engine::connection::{Backlogs, Connection, Cut, Refused};
use crate::transport::socketio::engine::frame;
use crate::transport::socketio::engine::marker::Marker;

use crate::transport::socketio::engine::sessions::Sessions;

/// After a last word the client has so long to hang up.
pub const FAREWELL: Duration = Duration::from_secs(3);

/// Between a last word and the packet behind it: a handler that hangs up and connects again at once would have the packet, if it
/// was read together with the word, for its new connection.
pub const HEARD: Duration = Duration::from_millis(200);

struct State {
    /// Cleared when the socket has gone: socket and link hold each other.
    socket: Option<SocketRef>,
}

/// What an ack goes back by.
pub struct Ack {
    /// The client's number of the request.
    pub id: i64,
    /// The library's way to answer it.
    pub sender: AckSender,
}

/// How a socket came.
#[derive(Debug, Clone, Copy)]
pub struct Came {
    /// From where, if it is known.
    pub from: Option<IpAddr>,
    /// When.
    pub at: Timestamp,
    /// Whether a client certificate was shown.
    pub is_certified: bool,
}

/// One authenticated socket.
pub struct Link {
    /// The server's own number of the socket.
    pub number: u64,
    /// The Engine.IO session.
    pub session: String,
    /// How it came.
    pub came: Came,
    /// From where it came, in words for the audit log.
    origin: Option<Arc<str>>,
    /// Whether it is counted among those from where it came; changed under the lock of [`crate::transport::socketio::directory`].
    pub is_counted: AtomicBool,
    /// Whether its last word has been said: the answer to the poll that waits, or to the next one, brings it.
    pub is_closing: AtomicBool,
    /// Whether the client has it: the next poll is answered by what closes the session. Not the same one: a stock client
    /// hands events out a moment after it has read them, and nothing once it has read that it is closed.
    pub is_told: AtomicBool,
    /// Who it is; replaced when a new token is given.
    actor: Mutex<Arc<Actor>>,
    /// Held while something is handed to the library, so that nothing overtakes it on the connection.
    state: Mutex<State>,
    /// The connection, from the moment on at which everything goes by it. Until then the library's queue is the way.
    direct: OnceLock<Arc<dyn Connection>>,
    /// Set once the socket has been entered into the registry.
    handle: Mutex<Option<SocketHandle>>,
    is_gone: AtomicBool,
    sessions: Arc<Sessions>,
    backlogs: Arc<Backlogs>,
    /// The bytes that were given to the library since the last poll was answered: each is this socket's alone there.
    unpolled: AtomicUsize,
    /// Whose limiter bounds what is logged of refusals.
    counters: Arc<Counters>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.note_polled();
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Link {
    /// A link for a session whose token is good. It has no socket yet: one that leaves before its connect packet is out gets
    /// no disconnect, and link and socket would hold each other for good.
    pub fn new(
        number: u64,
        session: String,
        actor: Actor,
        came: Came,
        sessions: &Arc<Sessions>,
        backlogs: &Arc<Backlogs>,
        counters: &Arc<Counters>,
    ) -> Arc<Link> {
        Arc::new(Link {
            number,
            session,
            origin: came.from.map(|from| from.to_string().into()),
            came,
            is_counted: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
            is_told: AtomicBool::new(false),
            actor: Mutex::new(Arc::new(actor)),
            state: Mutex::new(State { socket: None }),
            direct: OnceLock::new(),
            handle: Mutex::new(None),
            is_gone: AtomicBool::new(false),
            sessions: sessions.clone(),
            backlogs: backlogs.clone(),
            unpolled: AtomicUsize::new(0),
            counters: counters.clone(),
        })
    }

    /// The connect packet is out: from here on the socket's departure is told.
    pub fn attach(&self, socket: SocketRef) {
        self.state.lock().socket = Some(socket);
        if self.is_gone() {
            self.close();
        }
    }

    /// Notes in the log that a request of it was refused.
    pub fn note_refused_request(&self, event: &str, error: &ApiError) {
        let origin = self.origin.as_deref().unwrap_or("an unknown address");
        refusals::request_refused(&self.counters, event, Some(&self.actor().user), origin, error);
    }

    fn note_cut(&self, reason: &'static str, why: &str) {
        let origin = self.origin.as_deref().unwrap_or("an unknown address");
        refusals::cut_off(&self.counters, Some(&self.actor().user), origin, reason, why);
    }

    fn note_slow_reader(&self) {
        self.sessions.note_slow_reader();
        self.note_cut(
            "slow_reader",
            "its client does not read what it is sent: more waits than may (limits.send_queue, or the memory for it), or nothing was taken for \
             too long; it comes back and fetches what it missed",
        );
    }

    /// Who asks.
    pub fn caller(&self) -> Caller {
        Caller {
            actor: self.actor.lock().clone(),
            socket: Some(self.number),
            origin: self.origin.clone(),
            reads_only: false,
        }
    }

    /// Whether it has come from the same network as another one.
    pub fn is_from_where(&self, other: &Link) -> bool {
        self.came.from.map(network_of) == other.came.from.map(network_of)
    }

    /// The identity of the last good token.
    pub fn actor(&self) -> Arc<Actor> {
        self.actor.lock().clone()
    }

    /// A new token of the same user has been given.
    pub fn set_actor(&self, actor: Arc<Actor>) {
        *self.actor.lock() = actor;
    }

    /// Its place in the registry, once it has one.
    pub fn handle(&self) -> Option<SocketHandle> {
        self.handle.lock().clone()
    }

    /// Notes its place in the registry.
    pub fn set_handle(&self, handle: SocketHandle) {
        *self.handle.lock() = Some(handle);
    }

    /// Whether the socket has gone.
    pub fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Acquire)
    }

    /// Whether the socket's departure has been told: nothing is left of it to hang up on.
    fn has_departed(&self) -> bool {
        self.is_gone() && self.state.lock().socket.is_none()
    }

    /// Whether the socket is on a WebSocket now; `None` if it has gone.
    pub fn is_websocket(&self) -> Option<bool> {
        let state = self.state.lock();
        state.socket.as_ref().map(|socket| socket.transport_type() == TransportType::Websocket)
    }

    /// The socket has gone: nothing is sent any more, and what it held is let go.
    pub fn close(&self) {
        self.is_gone.store(true, Ordering::Release);
        self.state.lock().socket = None;
        *self.handle.lock() = None;
    }

    /// Answers a request.
    pub fn answer<T: serde::Serialize>(&self, ack: Ack, body: &T) {
        if self.is_gone() {
            return;
        }
        let state = self.state.lock();
        if let Some(connection) = self.connection(&state) {
            drop(state);
            self.note(connection.push_own(&frame::of(&Packet::ack(ack.id, body))), &**connection);
            return;
        }
        // The library encodes it for the poll; one text, so that no key is sorted anew. The lock is held, so that nothing
        // overtakes it on the connection.
        let Ok(body) = serde_json::value::to_raw_value(body) else { return };
        if !self.may_wait_for_poll(body.get().len()) {
            drop(state);
            return self.has_not_polled();
        }
        let sent = ack.sender.send(&body);
        drop(state);
        if let Err(error) = sent {
            self.library_failed(&error);
        }
    }

    /// A request of this socket was refused.
    pub fn note_refusal(&self, why: Refused) {
        if let Some(connection) = self.direct.get() {
            connection.note_refusal(why);
        }
    }

    /// Sends an event to this socket alone.
    pub fn emit(&self, event: &ServerEvent<'_>) {
        self.send(&Batch::from(event.encode()).all());
    }

    /// The connection, if the socket is on a WebSocket; changes over to it when the time has come.
    fn connection(&self, state: &State) -> Option<&Arc<dyn Connection>> {
        if let Some(connection) = self.direct.get() {
            return Some(connection);
        }
        let socket = state.socket.as_ref()?;
        if socket.transport_type() != TransportType::Websocket {
            return None;
        }
        // A poll that began before the upgrade may still take what is queued, and would swallow the marker.
        let connection = self.sessions.connection_of(&self.session)?;
        connection.await_marker();
        if let Err(error) = socket.emit(Marker::EVENT, &Marker::secret()) {
            tracing::debug!(%error, "the marker was not queued");
            connection.cut(Cut::SlowReader);
        }
        connection.note_signed_in();
        // What was queued in the library goes out by the WebSocket.
        self.note_polled();
        Some(self.direct.get_or_init(|| connection))
    }

    fn library_failed(&self, error: &SendError) {
        if let SendError::Socket(SocketError::InternalChannelFull) = error {
            self.has_not_polled();
        }
    }

    /// What waits for a poll is more than may.
    fn has_not_polled(&self) {
        if !self.is_gone.swap(true, Ordering::AcqRel) {
            self.note_slow_reader();
            self.hang_up(Duration::ZERO);
        }
    }

    /// Whether so many bytes more may wait for a poll; they are counted if they may.
    fn may_wait_for_poll(&self, bytes: usize) -> bool {
        let waiting = self.unpolled.load(Ordering::Relaxed);
        let takes = self.backlogs.own.takes(bytes, waiting, capacity::QUEUE_BYTES);
        if takes {
            self.unpolled.fetch_add(bytes, Ordering::Relaxed);
        }
        takes
    }

    /// A poll has taken what waited, or the socket is on a WebSocket now.
    pub fn note_polled(&self) {
        self.backlogs.own.give_back(self.unpolled.swap(0, Ordering::Relaxed));
    }

    fn note(&self, was_pushed: bool, connection: &dyn Connection) -> bool {
        if !was_pushed && connection.is_cut() == Some(Cut::SlowReader) && !self.is_gone.swap(true, Ordering::AcqRel) {
            self.note_slow_reader();
        }
        was_pushed
    }

    /// Ends the connection behind a last word, and not the namespace: a stock client connects again by itself then. What
    /// waits is delivered first, and with it what closes the connection.
    pub fn send_away(&self, word: &ServerEvent<'_>) {
        let is_on_websocket = {
            let state = self.state.lock();
            self.connection(&state).is_some()
        };
        // First: the word is what a poll waits for.
        self.is_closing.store(!is_on_websocket, Ordering::Release);
        self.emit(word);
        if is_on_websocket {
            self.leave_websocket();
        }
    }

    /// Ends a WebSocket behind what has been said. Gives whether it is one.
    pub fn leave_websocket(&self) -> bool {
        let connection = {
            let state = self.state.lock();
            self.connection(&state).cloned()
        };
        if let Some(connection) = &connection
            && !self.is_gone.swap(true, Ordering::AcqRel)
        {
            connection.close(&Bytes::from_static(frame::CLOSE));
        }
        connection.is_some()
    }

    /// As [`Link::send_away`], and a client that does not go is hung up on.
    pub fn dismiss(self: &Arc<Self>, word: &ServerEvent<'_>) {
        self.send_away(word);
        let link = Arc::downgrade(self);
        self.sessions.tasks().spawn(async move {
            tokio::time::sleep(FAREWELL).await;
            if let Some(link) = link.upgrade().filter(|link| !link.has_departed()) {
                link.hang_up(Duration::ZERO);
            }
        });
    }

    /// The client has left the namespace, and there is only one: what it was on is hung up on, unless the client does so.
    pub fn leave_session(&self, farewell: Duration) {
        self.sessions.end_session(&self.session, self.direct.get(), farewell, true);
    }

    /// Closes the namespace, and the connection a while later if the client has not. In a task of its own: the library runs
    /// the disconnect handler in here, and the caller may hold a gate.
    fn hang_up(&self, grace: Duration) {
        let (socket, connection) = {
            let state = self.state.lock();
            (state.socket.clone(), self.connection(&state).cloned())
        };
        let (session, sessions) = (self.session.clone(), self.sessions.clone());
        let heard = if grace.is_zero() { Duration::ZERO } else { HEARD };
        self.sessions.tasks().spawn(async move {
            tokio::time::sleep(heard).await;
            if let Some(socket) = socket
                && let Err(error) = socket.disconnect()
            {
                tracing::debug!(%error, "the socket was not told to disconnect");
            }
            sessions.end_session(&session, connection.as_ref(), grace, false);
        });
    }
}

fn send_by_library(socket: &SocketRef, packets: &Packets<'_>) -> Result<(), SendError> {
    for (name, payload) in packets.iter().filter_map(Packet::parts) {
        socket.emit(name, payload)?;
    }
    Ok(())
}

impl Outlet for Link {
    fn send(&self, packets: &Packets<'_>) -> bool {
        if self.is_gone() {
            return false;
        }
        // The hot path: no lock of ours, no count of references.
        if let Some(connection) = self.direct.get() {
            return self.note(connection.push(&packets.encoded(frame::encode)), &**connection);
        }
        let state = self.state.lock();
        if let Some(connection) = self.connection(&state) {
            drop(state);
            return self.note(connection.push(&packets.encoded(frame::encode)), &**connection);
        }
        let Some(socket) = &state.socket else { return false };
        if !self.may_wait_for_poll(packets.iter().map(|packet| packet.text().len()).sum()) {
            drop(state);
            self.has_not_polled();
            return false;
        }
        let sent = send_by_library(socket, packets);
        drop(state);
        match sent {
            Ok(()) => true,
            Err(error) => {
                self.library_failed(&error);
                false
            }
        }
    }

    fn send_volatile(&self, packets: &Packets<'_>) {
        match self.direct.get() {
            Some(connection) => connection.push_volatile(&packets.encoded(frame::encode)),
            None => drop(self.send(packets)),
        }
    }

    fn expel(&self, error: &ApiError) {
        let code = error.code.as_str();
        self.note_cut(code, &format!("{code}: {}", refusals::why(error)));
        self.emit(&ServerEvent::AuthError(error));
        // From here on it asks for nothing and is told nothing.
        self.is_gone.store(true, Ordering::Release);
        self.hang_up(FAREWELL);
    }
}
