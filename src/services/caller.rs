//! Who asks, and what they may ask for.

use std::sync::Arc;

use crate::domain::chat::Author;
use crate::domain::{Actor, RoomId, Scope};
use crate::protocol::error::{ApiError, ErrorCode};
use crate::realtime::live::Live;
use crate::services::errors::store_error;
use crate::services::settings::LiveSettings;
use crate::services::storage::Storage;
use crate::store::operations::Act;

/// Who asks, and from which socket.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The identity.
    pub actor: Arc<Actor>,
    /// The socket's number; `None` over HTTP.
    pub socket: Option<u64>,
    /// Where the request came from, for the audit log; `None` for a socket whose address is not known.
    pub origin: Option<Arc<str>>,
    /// Whether they have come by a way on which one may only look, whoever they are.
    pub reads_only: bool,
}

impl Caller {
    /// Somebody over HTTP.
    #[must_use]
    pub fn http(actor: Actor, origin: &str) -> Caller {
        Caller { actor: Arc::new(actor), socket: None, origin: Some(origin.into()), reads_only: false }
    }

    /// The same, who may only look if so it is.
    #[must_use]
    pub fn reading(self, reads_only: bool) -> Caller {
        Caller { reads_only, ..self }
    }

    /// The server itself, for what it does without being asked.
    #[must_use]
    pub fn server() -> Caller {
        Caller::http(Actor::local_admin(), "server")
    }

    /// Whether it is the administrator of this machine, over the control socket or in a process of their own.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.socket.is_none() && *self.actor == Actor::local_admin()
    }

    /// Who it is, and from where, for a line of the log.
    pub(super) fn in_words(&self) -> String {
        let origin = self.origin.as_deref().unwrap_or("a socket");
        if self.is_local() { origin.to_owned() } else { format!("user {} from {origin}", self.actor.user) }
    }

    /// What the audit log says of an act of this caller's.
    pub(super) fn act(&self, action: &'static str, target: String) -> Act {
        Act {
            actor: self.actor.user.canonical(),
            origin: self.origin.as_deref().unwrap_or("socket").to_owned(),
            action,
            target,
            note: String::new(),
        }
    }
}

/// What is said to somebody who may only read, and asks for more.
#[must_use]
pub fn reads_alone() -> ApiError {
    ApiError::new(
        ErrorCode::Forbidden,
        "over this socket one may only read: the state of the server, its metrics, users, connections, mutes, revoked tokens and the audit \
         log. Whatever changes something, and what people have written, needs root or the user of the server, on the control socket",
    )
}

/// Whether somebody may use an administrative call.
///
/// # Errors
/// `forbidden`.
pub fn authorize(caller: &Caller, scope: Scope) -> Result<(), ApiError> {
    if caller.actor.may(scope) {
        return Ok(());
    }
    let message = match caller.actor.lacks_certificate {
        true => "this needs a client certificate of an authority in tls.client_ca".to_owned(),
        false => format!("this needs role admin or a token with the scope {}", scope.as_str()),
    };
    Err(ApiError::new(ErrorCode::Forbidden, message))
}

/// Whether the caller may enter all of these rooms, by what is stored at one moment.
///
/// # Errors
/// `forbidden`, `unavailable`.
pub(super) async fn require_memberships(
    store: &Storage,
    settings: &LiveSettings,
    caller: &Caller,
    rooms: Vec<RoomId>,
) -> Result<(), ApiError> {
    let may_enter = enterable(store, settings, caller, rooms.clone()).await?;
    match rooms.iter().zip(may_enter).find(|(_, may_enter)| !may_enter) {
        None => Ok(()),
        Some((room, _)) => Err(ApiError {
            field: Some("room".to_owned()),
            ..ApiError::new(ErrorCode::Forbidden, format!("you may not enter the room {room}"))
        }),
    }
}

/// Which of these rooms the caller may enter, by what is stored at one moment. Of none nothing is read.
///
/// # Errors
/// `unavailable`.
pub(super) async fn enterable(
    store: &Storage,
    settings: &LiveSettings,
    caller: &Caller,
    rooms: Vec<RoomId>,
) -> Result<Vec<bool>, ApiError> {
    if rooms.is_empty() {
        return Ok(Vec::new());
    }
    store.enterable(rooms, Author::of(&caller.actor), settings.policy()).await.map_err(store_error)
}

/// Whether the caller's socket has joined a room. Over HTTP nobody joins, and nothing is asked.
///
/// # Errors
/// `not_joined`.
pub(super) fn require_join(live: &Live, caller: &Caller, room: &RoomId) -> Result<(), ApiError> {
    match caller.socket {
        Some(socket) if !live.sockets.is_in(socket, room) => {
            Err(ApiError::new(ErrorCode::NotJoined, "join the room first: chat:join"))
        }
        _ => Ok(()),
    }
}
