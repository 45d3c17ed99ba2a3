//! The broadcast service of back ends. Some events are known to the store: a `chat:message` to a chat room becomes a stored
//! message, `chat:message-edited` and `chat:message-deleted` a stored edit or deletion, a `notification:new` a stored
//! notification; any other goes to who is connected. A key belongs to who calls, whatever they send and in whose name.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;
use serde_json::value::RawValue;

use crate::domain::audit::action;
use crate::domain::chat::{Author, Draft, MessageKind};
use crate::domain::notification::{Audience, NotificationDraft, Times};
use crate::domain::{Fingerprint, Room, RoomId, Scope, Timestamp, UserId};
use crate::protocol::answer::BroadcastSent;
use crate::protocol::decode;
use crate::protocol::error::ApiError;
use crate::protocol::event::RESERVED_EVENTS;
use crate::protocol::request::{
    self, MAX_KEY_CHARS, NotificationContent, PlatformDeletion, PlatformEdit, PlatformMessage, Target, check_key,
};
use crate::store::operations::{
    self, Act, BroadcastsOut, DeleteMessage, EditMessage, ExternalId, KeyKind, MessageTarget, PostMessage, RequestKey,
    SendBroadcast,
};

use crate::realtime::delivery::broadcast_deliveries;
use crate::realtime::live::Live;
use crate::services::errors::store_error;
use crate::services::inbox::draft_of;
use crate::services::notices::{Notices, words_of as words_of_times};
use crate::services::settings::LiveSettings;
use crate::services::storage::Storage;
use crate::services::uses::Uses;
use crate::services::{Caller, authorize};

/// The most users that one target may name.
const MAX_USERS: usize = 1_000;
const MAX_EVENT_CHARS: usize = 64;
/// As of a token's `name`.
const MAX_NAME_CHARS: usize = 200;

/// A broadcast on its way to the store: who sends it, its key, and what the audit log says of it.
struct Sending<'c> {
    caller: &'c Caller,
    key: Option<String>,
    act: Option<Act>,
}

impl Sending<'_> {
    /// The key of a request that says so much. The kinds of broadcasts have keys of their own.
    fn key(&mut self, kind: KeyKind, fingerprint: Fingerprint) -> Option<RequestKey> {
        let caller = self.caller.actor.user.clone();
        self.key.take().map(|key| RequestKey { caller, kind, key, fingerprint })
    }

    fn external_id(&self, name: String) -> Result<ExternalId, ApiError> {
        check_key("externalId", Some(&name))?;
        Ok(ExternalId { caller: self.caller.actor.user.clone(), name })
    }

    fn target(&self, message_id: Option<u64>, external_id: Option<String>) -> Result<MessageTarget, ApiError> {
        match (message_id, external_id) {
            (Some(id), None) => Ok(MessageTarget::Id(id)),
            (None, Some(name)) => Ok(MessageTarget::External(self.external_id(name)?)),
            _ => Err(ApiError::field("messageId", "name the message by either messageId or externalId")),
        }
    }

    /// The platform itself: the rules of rooms do not bind it.
    fn platform(&self) -> Author {
        Author { user: self.caller.actor.user.clone(), name: self.caller.actor.name.clone(), admin: true }
    }
}

/// What back ends send.
#[derive(Debug, Clone)]
pub struct Broadcast {
    /// Where messages, notifications and kept broadcasts go.
    store: Storage,
    /// Who is connected.
    live: Arc<Live>,
    /// The rules of open rooms, and how long a message may be.
    settings: Arc<LiveSettings>,
    /// What services do with their tokens.
    uses: Uses,
    /// Notifications with a time.
    notices: Notices,
    /// Which kept broadcasts have gone out.
    marks: Arc<Marks>,
}

/// Which kept broadcasts have gone out.
#[derive(Debug)]
struct Marks {
    /// The last that had gone out as of the last look.
    sent: AtomicU64,
    /// The last that the store knows of.
    noted: AtomicU64,
    /// The first change id of this process: what is kept from before it is another's.
    first_of_now: u64,
}

impl Broadcast {
    pub(super) fn new(
        store: Storage,
        live: Arc<Live>,
        settings: Arc<LiveSettings>,
        uses: Uses,
        notices: Notices,
    ) -> Broadcast {
        let marks = Marks { sent: AtomicU64::new(0), noted: AtomicU64::new(0), first_of_now: store.last_id() + 1 };
        Broadcast { store, live, settings, uses, notices, marks: Arc::new(marks) }
    }

    /// Sends an event. `key` is the `Idempotency-Key`.
    ///
    /// # Errors
    /// `invalid_payload`, `forbidden`, `not_found`, `conflict`, `unavailable`.
    pub async fn send(
        &self,
        caller: &Caller,
        request: request::Broadcast,
        key: Option<String>,
    ) -> Result<BroadcastSent, ApiError> {
        authorize(caller, Scope::Broadcast)?;
        check_event(&request.event)?;
        check_key("Idempotency-Key", key.as_deref())?;
        let words = format!("{} to {}", request.event, describe(&request.target));
        let rooms = rooms_of(request.target, &self.settings)?;
        let payload = request.payload.as_deref().map_or("null", RawValue::get);
        let sending = self.sending(caller, &request.event, words, key);
        match (request.event.as_str(), rooms.as_slice()) {
            ("chat:message", [Room::Chat(room)]) => self.broadcast_message(sending, room.clone(), payload).await,
            ("chat:message-edited", [Room::Chat(room)]) => self.broadcast_edit(sending, room.clone(), payload).await,
            ("chat:message-deleted", [Room::Chat(room)]) => {
                self.broadcast_deletion(sending, room.clone(), payload).await
            }
            (event @ ("chat:message" | "chat:message-edited" | "chat:message-deleted"), _) => {
                let message = format!("{event} goes to one chat room; name it as room: \"chat:ID\"");
                Err(ApiError::field("target", message))
            }
            ("notification:new", _) => {
                let audience = audience_of(rooms)?;
                let content: NotificationContent = decode::request(payload)?;
                if let Some(field) = content.time() {
                    let message = format!(
                        "{field} has no meaning here; send a notification with a time by POST /api/v1/notifications"
                    );
                    return Err(ApiError::field(field, message));
                }
                self.send_draft(sending, draft_of(audience, content)?).await
            }
            _ => self.broadcast_passing(sending, &request.event, rooms, payload).await,
        }
    }

    /// Stores and sends a notification to a target.
    ///
    /// # Errors
    /// As [`Broadcast::send`].
    pub async fn notify(
        &self,
        caller: &Caller,
        target: Target,
        content: NotificationContent,
        times: Times,
        key: Option<String>,
    ) -> Result<BroadcastSent, ApiError> {
        authorize(caller, Scope::Notify)?;
        check_key("Idempotency-Key", key.as_deref())?;
        if !times.is_plain() {
            return self.schedule(caller, target, content, times, key).await;
        }
        let words = format!("notification:new to {}", describe(&target));
        let audience = audience_of(rooms_of(target, &self.settings)?)?;
        let sending = self.sending(caller, "notification:new", words, key);
        self.send_draft(sending, draft_of(audience, content)?).await
    }

    /// Stores a notification for its time, or sends it now until its time is over.
    async fn schedule(
        &self,
        caller: &Caller,
        target: Target,
        content: NotificationContent,
        times: Times,
        key: Option<String>,
    ) -> Result<BroadcastSent, ApiError> {
        let words = describe(&target);
        let draft = draft_of(audience_of(rooms_of(target, &self.settings)?)?, content)?;
        let moment = |time: Option<Timestamp>| time.map_or_else(String::new, |time| time.0.to_string());
        let fingerprint = draft.fingerprint().with(&[&moment(times.at), &moment(times.until)]);
        let key =
            key.map(|key| RequestKey { caller: caller.actor.user.clone(), kind: KeyKind::Notify, key, fingerprint });
        // What was answered is answered alike, also when its time has come.
        if !self.store.has_answered(key.as_ref()).await {
            self.notices.check(times)?;
        }
        // Whoever asks, it is recorded: what comes later, nobody who is asked remembers.
        let act = caller.act(action::NOTIFICATION_SCHEDULE, format!("{words}{}", words_of_times(times)));
        let sockets = self.reach_of(&draft.audience);
        let scheduled = self.notices.schedule(caller, draft, times, key, Some(act)).await?;
        let is_sent_now = scheduled.notice.sent.is_some() && !scheduled.duplicate;
        Ok(BroadcastSent {
            sockets: if is_sent_now && times.at.is_none() { sockets } else { 0 },
            id: Some(scheduled.notice.id),
            duplicate: scheduled.duplicate,
            at: times.at,
            until: times.until,
        })
    }

    fn reach_of(&self, audience: &Audience) -> usize {
        self.reach(&match audience {
            Audience::All => vec![Room::All],
            Audience::Role(role) => vec![Room::Role(*role)],
            Audience::Users(users) => users.iter().cloned().map(Room::User).collect(),
        })
    }

    /// What an administrator sends is an administrative act, recorded with it. A service does it all day long: that is gathered.
    fn sending<'c>(&self, caller: &'c Caller, event: &str, words: String, key: Option<String>) -> Sending<'c> {
        let act = caller.actor.is_admin().then(|| caller.act(action::BROADCAST, words));
        if act.is_none() {
            self.uses.note_service(caller, action::BROADCAST, event);
        }
        Sending { caller, key, act }
    }

    async fn store<O: operations::Operation>(&self, operation: O, act: Option<Act>) -> Result<O::Answer, ApiError> {
        self.store.act(operation, act).await.map(|applied| applied.answer).map_err(store_error)
    }

    async fn send_draft(&self, mut sending: Sending<'_>, draft: NotificationDraft) -> Result<BroadcastSent, ApiError> {
        let sockets = self.reach_of(&draft.audience);
        let key = sending.key(KeyKind::Notify, draft.fingerprint());
        let notify = operations::Notify { draft, key };
        let operations::Notified { notification, duplicate } = self.store(notify, sending.act).await?;
        Ok(stored(notification.id, duplicate, sockets))
    }

    async fn broadcast_message(
        &self,
        mut sending: Sending<'_>,
        room: RoomId,
        payload: &str,
    ) -> Result<BroadcastSent, ApiError> {
        let message: PlatformMessage = decode::request(payload)?;
        check_room(&room, message.room_id.as_ref())?;
        self.settings.check_content(&message.content)?;
        check_sender(message.sender_id.as_ref(), message.sender_name.as_deref())?;
        let external_id = message.external_id.map(|name| sending.external_id(name)).transpose()?;
        let sockets = self.reach(&[Room::Chat(room.clone())]);
        // What a back end passes on of a person is theirs, who may edit and delete it.
        let is_a_persons = message.sender_id.as_ref().is_some_and(|user| !user.is_reserved());
        let kind = if is_a_persons { MessageKind::Text } else { MessageKind::System };
        let draft = Draft {
            room,
            author: Author {
                user: message.sender_id.map_or_else(UserId::system, |user| self.live.named(user)),
                name: message.sender_name.unwrap_or_else(|| "system".to_owned()),
                admin: true,
            },
            content: message.content,
            kind: message.kind.unwrap_or(kind),
            reply_to: message.reply_to_id,
            client_id: None,
        };
        let external = external_id.as_ref().map_or("", |external| &external.name);
        let author = [&draft.author.user.canonical(), &draft.author.name, external];
        let fingerprint = draft.fingerprint().with(&author);
        let (policy, key) = (self.settings.policy(), sending.key(KeyKind::PlatformMessage, fingerprint));
        let posted = self.store(PostMessage { draft, policy, key, external_id, origin: None }, sending.act).await?;
        Ok(stored(posted.id, posted.duplicate, sockets))
    }

    async fn broadcast_edit(
        &self,
        mut sending: Sending<'_>,
        room: RoomId,
        payload: &str,
    ) -> Result<BroadcastSent, ApiError> {
        let edit: PlatformEdit = decode::request(payload)?;
        check_room(&room, edit.room_id.as_ref())?;
        self.settings.check_content(&edit.new_content)?;
        let sockets = self.reach(&[Room::Chat(room.clone())]);
        let target = sending.target(edit.message_id, edit.external_id)?;
        let fingerprint = Fingerprint::of(&["edit", &room.canonical(), &words_of(&target), &edit.new_content]);
        let edit = EditMessage {
            room,
            target,
            author: sending.platform(),
            content: edit.new_content,
            policy: self.settings.policy(),
            key: sending.key(KeyKind::PlatformChange, fingerprint),
            act: Some(sending.caller.act(action::MESSAGE_EDIT, String::new())),
        };
        let changed = self.store(edit, sending.act).await?;
        Ok(stored(changed.message_id, changed.duplicate, sockets))
    }

    async fn broadcast_deletion(
        &self,
        mut sending: Sending<'_>,
        room: RoomId,
        payload: &str,
    ) -> Result<BroadcastSent, ApiError> {
        let deletion: PlatformDeletion = decode::request(payload)?;
        check_room(&room, deletion.room_id.as_ref())?;
        let sockets = self.reach(&[Room::Chat(room.clone())]);
        let target = sending.target(deletion.message_id, deletion.external_id)?;
        let fingerprint = Fingerprint::of(&["delete", &room.canonical(), &words_of(&target)]);
        let deletion = DeleteMessage {
            room,
            target,
            author: sending.platform(),
            policy: self.settings.policy(),
            key: sending.key(KeyKind::PlatformChange, fingerprint),
            act: Some(sending.caller.act(action::MESSAGE_DELETE, String::new())),
        };
        let changed = self.store(deletion, sending.act).await?;
        Ok(stored(changed.message_id, changed.duplicate, sockets))
    }

    /// Without a key and a record nothing is stored of it, and it goes straight to who is connected.
    async fn broadcast_passing(
        &self,
        mut sending: Sending<'_>,
        event: &str,
        rooms: Vec<Room>,
        payload: &str,
    ) -> Result<BroadcastSent, ApiError> {
        let sockets = self.reach(&rooms);
        let broadcast = operations::Broadcast { rooms, event: event.to_owned(), payload: payload.to_owned() };
        if sending.key.is_none() && sending.act.is_none() {
            self.live.feed.publish(broadcast_deliveries(None, &broadcast)).map_err(|_| ApiError::unavailable())?;
            return Ok(BroadcastSent { sockets, id: None, duplicate: false, at: None, until: None });
        }
        let targets: Vec<String> = broadcast.rooms.iter().map(Room::name).collect();
        let fingerprint = Fingerprint::of(&[event, &targets.join(","), &normal(payload)]);
        let key = sending.key(KeyKind::Passing, fingerprint);
        let broadcast = SendBroadcast { broadcast: Arc::new(broadcast), key, sockets: sockets as u64 };
        let operations::BroadcastSent { sockets, duplicate } = self.store(broadcast, sending.act).await?;
        Ok(BroadcastSent {
            sockets: usize::try_from(sockets).unwrap_or(usize::MAX),
            id: None,
            duplicate,
            at: None,
            until: None,
        })
    }

    /// The store need not keep broadcasts any more that have gone out.
    pub(super) async fn note_sent(&self) {
        // One look later: what was handed to a connection has left this process by then.
        let up_to = self.marks.sent.swap(self.live.feed.broadcasts_sent(), Ordering::Relaxed);
        if up_to <= self.marks.noted.load(Ordering::Relaxed) {
            return;
        }
        match self.store.write(BroadcastsOut { up_to }).await {
            Ok(()) => self.marks.noted.store(up_to, Ordering::Relaxed),
            Err(error) => tracing::debug!(%error, "broadcasts that have gone out were not noted; it is tried again"),
        }
    }

    /// Broadcasts that an earlier process acknowledged, and of which it is not known that they have gone out, go out now. What
    /// was sent just before a crash may so come twice.
    pub(super) async fn resend(&self) {
        let unsent = match self.store.unsent_broadcasts().await {
            Ok(unsent) => unsent,
            Err(error) => return tracing::warn!(%error, "could not look for broadcasts that were not sent"),
        };
        let first_of_now = self.marks.first_of_now;
        for (id, broadcast) in unsent.into_iter().filter(|(id, _)| *id < first_of_now) {
            tracing::info!(event = broadcast.event, "sending a broadcast that was acknowledged before the start");
            if self.live.feed.publish(broadcast_deliveries(Some(id), &broadcast)).is_err() {
                tracing::warn!(event = broadcast.event, "the feed is full: this broadcast is sent at the next start");
            }
        }
    }

    fn reach(&self, rooms: &[Room]) -> usize {
        rooms.iter().map(|room| self.live.sockets.count(room)).sum()
    }
}

/// The answer to a broadcast that is stored; what is said again reaches nobody.
fn stored(id: u64, duplicate: bool, sockets: usize) -> BroadcastSent {
    BroadcastSent { sockets: if duplicate { 0 } else { sockets }, id: Some(id), duplicate, at: None, until: None }
}

fn words_of(target: &MessageTarget) -> String {
    match target {
        MessageTarget::Id(id) => format!("id {id}"),
        MessageTarget::External(external) => format!("external {}", external.name),
    }
}

/// JSON in one spelling: the order of keys and white space do not matter.
fn normal(payload: &str) -> String {
    serde_json::from_str::<Value>(payload).map_or_else(|_| payload.to_owned(), |value| value.to_string())
}

/// A target for people. Ids are checked elsewhere, and bounded here.
fn describe(target: &Target) -> String {
    let one = match (&target.user, &target.users, &target.role, &target.room) {
        (Some(user), ..) => format!("user {user}"),
        (_, Some(users), ..) => format!("{} users", users.len()),
        (_, _, Some(role), _) => format!("role {role}"),
        (_, _, _, Some(room)) => format!("room {room}"),
        _ => "all".to_owned(),
    };
    one.chars().take(150).collect()
}

fn check_event(event: &str) -> Result<(), ApiError> {
    let chars = event.chars().take(MAX_KEY_CHARS + 1).count();
    if chars == 0 || chars > MAX_EVENT_CHARS || event.chars().any(char::is_control) {
        return Err(ApiError::field("event", format!("event must have 1 to {MAX_EVENT_CHARS} characters")));
    }
    if RESERVED_EVENTS.contains(&event) {
        return Err(ApiError::field("event", format!("'{event}' is reserved by Socket.IO; choose another name")));
    }
    Ok(())
}

/// Who a message of a back end's is by: nobody can be erased who is `erased`, and a name is one.
fn check_sender(id: Option<&UserId>, name: Option<&str>) -> Result<(), ApiError> {
    if id.is_some_and(|id| *id == UserId::erased()) {
        return Err(ApiError::field(
            "senderId",
            "'erased' is nobody's user id; leave senderId out for a message of the system",
        ));
    }
    let is_name =
        |name: &str| (1..=MAX_NAME_CHARS).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    if name.is_some_and(|name| !is_name(name)) {
        let message = format!("senderName must have 1 to {MAX_NAME_CHARS} characters, and no control characters");
        return Err(ApiError::field("senderName", message));
    }
    Ok(())
}

fn rooms_of(target: Target, settings: &LiveSettings) -> Result<Vec<Room>, ApiError> {
    const ONE_OF: &str = "target must have exactly one of user, users, role, room and all: true";
    let Target { user, users, role, room, all } = target;
    let given = [user.is_some(), users.is_some(), role.is_some(), room.is_some(), all];
    if given.iter().filter(|is_given| **is_given).count() != 1 {
        return Err(ApiError::field("target", ONE_OF));
    }
    if let Some(user) = user {
        return Ok(vec![Room::User(user)]);
    }
    if let Some(mut users) = users {
        users.sort_by_key(UserId::canonical);
        users.dedup();
        if users.is_empty() || users.len() > MAX_USERS {
            return Err(ApiError::field("target.users", format!("users must name 1 to {MAX_USERS} users")));
        }
        return Ok(users.into_iter().map(Room::User).collect());
    }
    if let Some(role) = role {
        return Ok(vec![Room::Role(settings.role("target.role", &role)?)]);
    }
    if let Some(room) = room {
        let room = Room::parse(&room).map_err(|error| ApiError::field("target.room", format!("room {error}")))?;
        return Ok(vec![room]);
    }
    Ok(vec![Room::All])
}

fn audience_of(rooms: Vec<Room>) -> Result<Audience, ApiError> {
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
                ApiError::field("target", "a notification goes to users, a role or all; a chat room has messages")
            })
        }
    }
}

/// The room that the payload of an event names is that of the target.
fn check_room(target: &RoomId, named: Option<&RoomId>) -> Result<(), ApiError> {
    match named {
        Some(named) if named != target => Err(ApiError::field(
            "roomId",
            format!("roomId is {named}, and the target is the room {target}; leave roomId out"),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(json: &str) -> Result<Vec<Room>, ApiError> {
        let settings = LiveSettings::new(crate::services::Settings::new(&crate::config::Config::default(), 0));
        rooms_of(serde_json::from_str(json).expect(json), &settings)
    }

    #[test]
    fn a_target_is_exactly_one() {
        assert_eq!(target(r#"{"user":7}"#).unwrap()[0].name(), "user:7");
        assert_eq!(target(r#"{"users":[7,"7",8]}"#).unwrap().len(), 2, "the same user once");
        for (word, role) in
            [("hr", "hr"), ("hr_admin", "hr"), ("owner", "admin"), ("user", "learner"), ("coach", "coach")]
        {
            assert_eq!(target(&format!(r#"{{"role":"{word}"}}"#)).unwrap()[0].name(), role, "{word}");
        }
        for (word, advice) in [
            ("learners", "did you mean 'learner'?"),
            ("hr_manger", "did you mean 'hr_manager'?"),
            ("Admin", "did you mean 'admin'?"),
            ("headmistress", "use one of admin, hr, coach, learner, owner, superadmin, hr_admin, hr_manager, user"),
        ] {
            let error = target(&format!(r#"{{"role":"{word}"}}"#)).unwrap_err();
            assert_eq!(
                (error.field.as_deref(), error.message),
                (Some("target.role"), format!("'{word}' is no role here; {advice}").into())
            );
        }
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
