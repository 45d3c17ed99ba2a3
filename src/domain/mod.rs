//! Nouns and rules of academy-rt: who somebody is, what a room, a message, a progress and a notification are, and what may
//! be done with them. No I/O, no async, and no clock but [`time`]. Everything here is a pure function of its arguments, so
//! that a store engine may call it inside a transaction and both transports get the same answer.

pub mod access;
pub mod audit;
pub mod chat;
pub mod histogram;
pub mod host;
pub mod id;
pub mod nearest;
pub mod normal_form;
pub mod notification;
pub mod origin;
pub mod panics;
pub mod pem;
pub mod privacy;
pub mod problem;
pub mod progress;
pub mod report;
pub mod room_state;
pub mod time;
pub mod visible;
pub mod webhook;

pub use id::{Id, IdError, IdType, LessonId, RoomId, UserId};
pub use nearest::nearest;
pub use normal_form::normal_form;
pub use time::{Clock, ExpiryClock, SystemClock, Timestamp};

use serde::{Deserialize, Serialize};

/// The largest integer that JavaScript holds exactly, 2^53 - 1. Every id that leaves the server is at most this.
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// The whole number that was written as `7.0` or `1e3`, as many languages write what they have as a float; `None` if it is none, or
/// larger than JavaScript holds exactly.
#[must_use]
#[allow(clippy::cast_possible_truncation, reason = "a whole number in this range is both")]
pub fn whole(number: f64) -> Option<i64> {
    (number.fract() == 0.0 && number.abs() <= MAX_SAFE_INTEGER as f64).then_some(number as i64)
}

/// One of the four roles that have a room of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Administrators: every room, every administrative call.
    Admin,
    /// Human-resources managers.
    Hr,
    /// Coaches.
    Coach,
    /// Learners: what a token without a role is.
    Learner,
}

impl Role {
    /// All roles, in the order in which they are listed to people.
    pub const ALL: [Role; 4] = [Role::Admin, Role::Hr, Role::Coach, Role::Learner];

    /// The role's name on the wire, which is also the name of its room.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::Hr => "hr",
            Role::Coach => "coach",
            Role::Learner => "learner",
        }
    }
}

impl std::str::FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Role::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| UnknownRole(text.chars().take(40).collect()))
    }
}

/// A role name that is none of the four.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a role; use admin, hr, coach or learner")]
pub struct UnknownRole(pub String);

/// What a service token may do beside what its role allows. `Admin` includes all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// `POST /api/v1/broadcast`.
    Broadcast,
    /// `POST /api/v1/notifications`.
    Notify,
    /// Administration of chat rooms.
    Rooms,
    /// Administration of people.
    Users,
    /// Progress of lessons, read and written on behalf of a user.
    Progress,
    /// `GET /metrics`.
    Metrics,
    /// All of the above, and everything an administrator may call.
    Admin,
}

impl Scope {
    /// All scopes, in the order in which they are listed to people.
    pub const ALL: [Scope; 7] =
        [Scope::Broadcast, Scope::Notify, Scope::Rooms, Scope::Users, Scope::Progress, Scope::Metrics, Scope::Admin];

    /// The scope's name in a token's `scope` claim.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Broadcast => "broadcast",
            Scope::Notify => "notify",
            Scope::Rooms => "rooms",
            Scope::Users => "users",
            Scope::Progress => "progress",
            Scope::Metrics => "metrics",
            Scope::Admin => "admin",
        }
    }

    /// The scope of that name, if there is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Scope> {
        Scope::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
}

/// A hash of what a request says, kept with its first answer: the same key with another content is a mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// Of the same with more fields.
    #[must_use]
    pub fn with(self, fields: &[&str]) -> Fingerprint {
        let Fingerprint(more) = Fingerprint::of(fields);
        let mut hash = [0; 16];
        blake3::Hasher::new().update(&self.0).update(&more).finalize_xof().fill(&mut hash);
        Fingerprint(hash)
    }

    /// Over the fields of a request, each with its length.
    #[must_use]
    pub fn of(fields: &[&str]) -> Fingerprint {
        let mut hasher = blake3::Hasher::new();
        for field in fields {
            hasher.update(&(field.len() as u64).to_le_bytes());
            hasher.update(field.as_bytes());
        }
        let mut hash = [0; 16];
        hasher.finalize_xof().fill(&mut hash);
        Fingerprint(hash)
    }
}

/// Somebody who asks: the identity that a verified token gives, or the local administrator behind the control socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The user id with the JSON type that the token gave it.
    pub user: UserId,
    /// What the token calls them, where that is not the normal form of their id.
    pub claimed_as: Option<String>,
    /// The display name; the empty string if the token has none.
    pub name: String,
    /// The roles whose rooms the actor belongs to, without doubles, in the order of [`Role::ALL`].
    pub roles: Vec<Role>,
    /// The scopes of a service token.
    pub scopes: Vec<Scope>,
    /// When the token ends, without leeway; `None` for a token without `exp`.
    pub expires_at: Option<Timestamp>,
    /// The token's own id, if it has one.
    pub token_id: Option<String>,
    /// When the token was issued, if it says so.
    pub issued_at: Option<Timestamp>,
    /// Whether the token gives rights that are left out here: it came without a client certificate where one is needed for them.
    pub lacks_certificate: bool,
}

impl Actor {
    /// The local administrator: whoever can open the control socket.
    #[must_use]
    pub fn local_admin() -> Actor {
        Actor {
            user: UserId::system(),
            claimed_as: None,
            name: "system".to_owned(),
            roles: vec![Role::Admin],
            scopes: vec![Scope::Admin],
            expires_at: None,
            token_id: None,
            issued_at: None,
            lacks_certificate: false,
        }
    }

    /// The same person without what makes them trusted: the role `admin` and all scopes.
    #[must_use]
    pub fn without_trust(mut self) -> Actor {
        self.lacks_certificate = self.is_trusted();
        self.roles.retain(|role| *role != Role::Admin);
        self.scopes.clear();
        self
    }

    /// Whether the actor speaks for the platform rather than for a person: an administrator, or a service token.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        self.is_admin() || !self.scopes.is_empty()
    }

    /// Whether the actor has the role `admin`.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.roles.contains(&Role::Admin)
    }

    /// Whether the actor may use an administrative call: role `admin`, the scope itself, or the scope `admin`.
    #[must_use]
    pub fn may(&self, scope: Scope) -> bool {
        self.is_admin() || self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin)
    }

    /// The rooms that the actor is in by being who they are: those of their roles, their own, and everybody's.
    #[must_use]
    pub fn own_rooms(&self) -> Vec<Room> {
        let mut rooms: Vec<Room> = self.roles.iter().copied().map(Room::Role).collect();
        rooms.push(Room::User(self.user.clone()));
        rooms.push(Room::All);
        rooms
    }

    /// The first role, in the order of [`Role::ALL`].
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        self.roles.first().copied()
    }
}

/// Where a delivery can go. Only [`Room::name`] spells room names; a client's text never becomes one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Room {
    /// Every authenticated socket.
    All,
    /// The sockets of everybody with a role.
    Role(Role),
    /// The sockets of one user.
    User(UserId),
    /// The sockets that joined a chat room.
    Chat(RoomId),
}

impl Room {
    /// The room's full name, as the API reference writes it: `all`, `admin`, `user:7`, `chat:room-123`.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Room::All => "all".to_owned(),
            Room::Role(role) => role.as_str().to_owned(),
            Room::User(user) => format!("user:{user}"),
            Room::Chat(room) => format!("chat:{room}"),
        }
    }

    /// Reads a full room name. For back ends alone: a client names a chat room by its id.
    ///
    /// # Errors
    /// [`IdError`] if it is none of the four forms or the id in it is not valid.
    pub fn parse(name: &str) -> Result<Room, IdError> {
        if name == "all" {
            return Ok(Room::All);
        }
        if let Ok(role) = name.parse() {
            return Ok(Room::Role(role));
        }
        if let Some(user) = name.strip_prefix("user:") {
            return Ok(Room::User(UserId::parse(user)?));
        }
        if let Some(room) = name.strip_prefix("chat:") {
            return Ok(Room::Chat(RoomId::parse(room)?));
        }
        Err(IdError::NotARoomName)
    }
}

/// Why a well-formed request is refused by the rules. The store returns it from inside its transaction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such thing, or the asker may not know that there is.
    #[error("not found")]
    NotFound,
    /// The asker may not do this.
    #[error("not allowed")]
    Forbidden,
    /// The request contradicts what is stored, for example a room that exists already.
    #[error("contradicts what is stored")]
    Conflict,
    /// The key of the request was used for another request of the same caller and kind.
    #[error("the key was used for another request")]
    KeyReused,
    /// The cursor or `after` is not of this store's life: the asker starts anew.
    #[error("not of this store's life")]
    Resync,
    /// Legal holds stand against it: each with its reason.
    #[error("legal hold: {0}")]
    Held(String),
    /// The user is being erased.
    #[error("the erasure of user {0} is under way")]
    Erasing(UserId),
    /// A room is being removed, with what the request is about.
    #[error("the removal of room {0} is under way")]
    Removing(RoomId),
    /// Several legal holds stand on one subject, and which of them is meant was not said: each with its number.
    #[error("several legal holds: {0}")]
    SeveralHolds(String),
    /// What a released hold kept is still being removed: a new hold would keep some of it.
    #[error("what a released hold kept is still being removed")]
    Unsettled,
    /// The user has as many lessons as a user may have.
    #[error("too many lessons of user {0}: {1}")]
    TooManyLessons(UserId, u64),
    /// The user may read, and not write, until a moment.
    #[error("user {user} is muted")]
    Muted {
        /// Who.
        user: UserId,
        /// Until when.
        until: Timestamp,
        /// The moment of the request.
        now: Timestamp,
    },
    /// The room is locked: moderators and administrators write in it, others read.
    #[error("the room is locked")]
    Locked,
    /// The room is in slow mode, and the user writes again after so long.
    #[error("the room is in slow mode")]
    TooSoon(std::time::Duration),
    /// The message is deleted.
    #[error("message {0} is deleted")]
    Deleted(u64),
    /// The user keeps order themselves: a moderator of the room, or an administrator.
    #[error("user {0} keeps order here")]
    KeepsOrder(UserId),
    /// The user's newest data are younger than the retention floor.
    #[error("below the retention floor")]
    BelowFloor,
}

impl Refusal {
    /// Whether an administrative act that was refused for this reason stands in the audit log as refused.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        matches!(self, Refusal::Held(_) | Refusal::Erasing(_) | Refusal::Removing(_) | Refusal::BelowFloor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_names_read_back() {
        for name in ["all", "admin", "hr", "user:7", "user:abc", "chat:room-123", "chat:5"] {
            assert_eq!(Room::parse(name).expect(name).name(), name);
        }
        for bad in ["", "Admin", "user:", "chat:", "user:a b", "lesson:4", "user:a:b"] {
            assert!(Room::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn scopes_read_back() {
        for scope in Scope::ALL {
            assert_eq!(Scope::parse(scope.as_str()), Some(scope));
        }
        assert_eq!(Scope::parse("notify"), Some(Scope::Notify));
        assert_eq!(Scope::parse("everything"), None);
    }

    #[test]
    fn an_actor_is_what_their_roles_are() {
        let mut actor = Actor { scopes: Vec::new(), ..Actor::local_admin() };
        assert!(actor.is_admin() && actor.may(Scope::Rooms));
        assert_eq!(actor.role(), Some(Role::Admin));
        actor.roles = vec![Role::Coach];
        assert!(!actor.is_admin() && !actor.may(Scope::Rooms));
    }

    #[test]
    fn the_scope_admin_includes_all_others() {
        let mut actor = Actor::local_admin();
        actor.roles.clear();
        for scope in Scope::ALL {
            assert!(actor.may(scope));
        }
        actor.scopes = vec![Scope::Notify];
        assert!(actor.may(Scope::Notify) && !actor.may(Scope::Broadcast));
    }
}
