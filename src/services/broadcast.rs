//! The broadcast service of back ends (CONTRACT 3.2). Two events are known to the store: a `chat:message` to a chat room
//! becomes a stored message, a `notification:new` a stored notification; any other goes to who is connected.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::contract::answers::BroadcastSent;
use crate::contract::decode;
use crate::contract::errors::{ErrorCode, WireError};
use crate::contract::events::RESERVED_EVENTS;
use crate::contract::packet::Frame;
use crate::contract::requests::{Broadcast, MAX_KEY_CHARS, NotificationContent, SystemMessage, Target, check_key};
use crate::domain::audit::action;
use crate::domain::chat::{Author, Draft, MessageKind};
use crate::domain::notification::Audience;
use crate::domain::{Room, RoomId, Scope, UserId};
use crate::store::AnswerKey;

use super::delivery::{Delivery, DeliveryKind};
use super::{Caller, Services, may, store_error};

/// The most users that one target may name.
const MAX_USERS: usize = 1_000;
const MAX_EVENT_CHARS: usize = 64;

/// The first answer of a broadcast that stores nothing else.
#[derive(Serialize, Deserialize)]
struct FirstAnswer {
    sockets: usize,
}

impl Services {
    /// Sends an event. `key` is the `Idempotency-Key`.
    ///
    /// # Errors
    /// `invalid_payload`, `forbidden`, `conflict`, `unavailable`.
    pub async fn broadcast(
        &self,
        caller: &Caller,
        request: Broadcast,
        key: Option<String>,
    ) -> Result<BroadcastSent, WireError> {
        may(caller, Scope::Broadcast)?;
        check_event(&request.event)?;
        check_key("Idempotency-Key", key.as_deref())?;
        let target = format!("{} to {}", request.event, words(&request.target));
        let sent = self.broadcast_now(caller, request, key).await?;
        self.note_sent(caller, target, &sent).await;
        Ok(sent)
    }

    async fn broadcast_now(
        &self,
        caller: &Caller,
        request: Broadcast,
        key: Option<String>,
    ) -> Result<BroadcastSent, WireError> {
        let rooms = rooms_of(request.target)?;
        let payload = request.payload.as_deref();
        match (request.event.as_str(), rooms.as_slice()) {
            ("chat:message", [Room::Chat(room)]) => self.broadcast_message(room.clone(), payload, key).await,
            ("chat:message", _) => {
                Err(WireError::field("target", "chat:message goes to one chat room; name it as room: \"chat:ID\""))
            }
            ("notification:new", _) => {
                let audience = audience_of(rooms)?;
                let content = decode::request(payload.map_or("null", RawValue::get))?;
                self.send_notification(caller, audience, content, key).await
            }
            _ => self.broadcast_passing(caller, &request.event, rooms, payload, key).await,
        }
    }

    /// Stores and sends a notification to a target.
    ///
    /// # Errors
    /// As [`Services::broadcast`].
    pub async fn post_notification(
        &self,
        caller: &Caller,
        target: Target,
        content: NotificationContent,
        key: Option<String>,
    ) -> Result<BroadcastSent, WireError> {
        may(caller, Scope::Notify)?;
        check_key("Idempotency-Key", key.as_deref())?;
        let words = format!("notification:new to {}", words(&target));
        let audience = audience_of(rooms_of(target)?)?;
        let sent = self.send_notification(caller, audience, content, key).await?;
        self.note_sent(caller, words, &sent).await;
        Ok(sent)
    }

    /// What an administrator sends is an administrative act. A back end's service token does it all day long.
    async fn note_sent(&self, caller: &Caller, target: String, sent: &BroadcastSent) {
        if !caller.actor.is_admin() || sent.duplicate {
            return;
        }
        let outcome = format!("done: {} sockets", sent.sockets);
        if let Err(error) = self.record(caller, action::BROADCAST, target, outcome).await {
            tracing::warn!(code = error.code.as_str(), "a broadcast was sent, and not recorded in the audit trail");
        }
    }

    async fn send_notification(
        &self,
        caller: &Caller,
        audience: Audience,
        content: NotificationContent,
        key: Option<String>,
    ) -> Result<BroadcastSent, WireError> {
        let sockets = self.reach(&match &audience {
            Audience::All => vec![Room::All],
            Audience::Role(role) => vec![Room::Role(*role)],
            Audience::Users(users) => users.iter().cloned().map(Room::User).collect(),
        });
        let key = key.map(|key| AnswerKey { user: caller.actor.user.clone(), key });
        let (notification, duplicate) = self.notify(audience, content, key).await?;
        Ok(BroadcastSent { sockets: if duplicate { 0 } else { sockets }, id: Some(notification.id), duplicate })
    }

    async fn broadcast_message(
        &self,
        room: RoomId,
        payload: Option<&RawValue>,
        key: Option<String>,
    ) -> Result<BroadcastSent, WireError> {
        let message: SystemMessage = decode::request(payload.map_or("null", RawValue::get))?;
        self.check_content(&message.content)?;
        let sockets = self.reach(&[Room::Chat(room.clone())]);
        let draft = Draft {
            room,
            author: Author {
                user: message.sender_id.unwrap_or_else(UserId::system),
                name: message.sender_name.unwrap_or_else(|| "system".to_owned()),
                admin: true,
            },
            content: message.content,
            kind: MessageKind::System,
            reply_to: message.reply_to_id,
            client_id: key,
            at: self.now(),
        };
        let posted = self.append(draft).await?;
        let sockets = if posted.duplicate { 0 } else { sockets };
        Ok(BroadcastSent { sockets, id: Some(posted.id), duplicate: posted.duplicate })
    }

    async fn broadcast_passing(
        &self,
        caller: &Caller,
        event: &str,
        rooms: Vec<Room>,
        payload: Option<&RawValue>,
        key: Option<String>,
    ) -> Result<BroadcastSent, WireError> {
        let sockets = self.reach(&rooms);
        if let Some(key) = key {
            let key = AnswerKey { user: caller.actor.user.clone(), key };
            let answer = serde_json::to_vec(&FirstAnswer { sockets }).unwrap_or_default();
            let first = self.store.first_answer(key, answer, self.now()).await.map_err(store_error)?;
            if let Some(first) = first {
                let first: FirstAnswer = serde_json::from_slice(&first)
                    .map_err(|_| WireError::new(ErrorCode::Conflict, "this key was used for another request"))?;
                return Ok(BroadcastSent { sockets: first.sockets, id: None, duplicate: true });
            }
        }
        let frame = Frame::event(event, &payload);
        let deliveries = rooms.into_iter().map(|room| Delivery {
            room,
            except_socket: None,
            except_user: None,
            name: event.to_owned().into(),
            frame: frame.clone(),
            stored: None,
            kind: DeliveryKind::Event,
        });
        self.feed.publish(deliveries.collect()).map_err(|_| WireError::unavailable())?;
        Ok(BroadcastSent { sockets, id: None, duplicate: false })
    }

    fn reach(&self, rooms: &[Room]) -> usize {
        rooms.iter().map(|room| self.sockets.count(room)).sum()
    }
}

/// A target for people. Ids are checked elsewhere, and bounded here.
fn words(target: &Target) -> String {
    let one = match (&target.user, &target.users, &target.role, &target.room) {
        (Some(user), ..) => format!("user {user}"),
        (_, Some(users), ..) => format!("{} users", users.len()),
        (_, _, Some(role), _) => format!("role {role}"),
        (_, _, _, Some(room)) => format!("room {room}"),
        _ => "all".to_owned(),
    };
    one.chars().take(150).collect()
}

fn check_event(event: &str) -> Result<(), WireError> {
    let chars = event.chars().take(MAX_KEY_CHARS + 1).count();
    if chars == 0 || chars > MAX_EVENT_CHARS || event.chars().any(char::is_control) {
        return Err(WireError::field("event", format!("event must have 1 to {MAX_EVENT_CHARS} characters")));
    }
    if RESERVED_EVENTS.contains(&event) {
        return Err(WireError::field("event", format!("'{event}' is reserved by Socket.IO; choose another name")));
    }
    Ok(())
}

fn rooms_of(target: Target) -> Result<Vec<Room>, WireError> {
    const ONE_OF: &str = "target must have exactly one of user, users, role, room and all: true";
    let Target { user, users, role, room, all } = target;
    let given = [user.is_some(), users.is_some(), role.is_some(), room.is_some(), all];
    if given.iter().filter(|is_given| **is_given).count() != 1 {
        return Err(WireError::field("target", ONE_OF));
    }
    if let Some(user) = user {
        return Ok(vec![Room::User(user)]);
    }
    if let Some(mut users) = users {
        users.sort_by_key(UserId::canonical);
        users.dedup();
        if users.is_empty() || users.len() > MAX_USERS {
            return Err(WireError::field("target.users", format!("users must name 1 to {MAX_USERS} users")));
        }
        return Ok(users.into_iter().map(Room::User).collect());
    }
    if let Some(role) = role {
        let role = role
            .parse()
            .map_err(|error: crate::domain::UnknownRole| WireError::field("target.role", error.to_string()))?;
        return Ok(vec![Room::Role(role)]);
    }
    if let Some(room) = room {
        let room = Room::parse(&room).map_err(|error| WireError::field("target.room", format!("room {error}")))?;
        return Ok(vec![room]);
    }
    Ok(vec![Room::All])
}

fn audience_of(rooms: Vec<Room>) -> Result<Audience, WireError> {
    match rooms.as_slice() {
        [Room::All] => Ok(Audience::All),
        [Room::Role(role)] => Ok(Audience::Role(*role)),
        _ => {
            let users: Option<Vec<UserId>> = rooms
                .into_iter()
                .map(|room| match room {
                    Room::User(user) => Some(user),
                    _ => None,
                })
                .collect();
            users.map(Audience::Users).ok_or_else(|| {
                WireError::field("target", "a notification goes to users, a role or all; a chat room has messages")
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(json: &str) -> Result<Vec<Room>, WireError> {
        rooms_of(serde_json::from_str(json).expect(json))
    }

    #[test]
    fn a_target_is_exactly_one() {
        assert_eq!(target(r#"{"user":7}"#).unwrap()[0].name(), "user:7");
        assert_eq!(target(r#"{"users":[7,"7",8]}"#).unwrap().len(), 2, "the same user once");
        assert_eq!(target(r#"{"role":"hr"}"#).unwrap()[0].name(), "hr");
        assert_eq!(target(r#"{"room":"chat:a"}"#).unwrap()[0].name(), "chat:a");
        assert_eq!(target(r#"{"all":true}"#).unwrap(), [Room::All]);
        for bad in [
            "{}",
            r#"{"all":false}"#,
            r#"{"user":7,"all":true}"#,
            r#"{"users":[]}"#,
            r#"{"role":"boss"}"#,
            r#"{"room":"lesson:1"}"#,
        ] {
            assert!(target(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn reserved_and_shapeless_names_are_refused() {
        for bad in ["", "connect", "disconnecting", "a\nb", &"x".repeat(65)] {
            assert!(check_event(bad).is_err(), "{bad}");
        }
        check_event("system:alert").unwrap();
    }
}
