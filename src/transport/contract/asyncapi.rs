//! `asyncapi.yaml` (AsyncAPI 3.0).

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::{Info, Ordered, Schemas, compare, done};
use crate::domain::RoomId;
use crate::protocol::admin::access::MuteChanged;
use crate::protocol::answer::{
    BatchSynced, Found, History, InboxMarked, Joined, MessageDeleted, MessageEdited, MessagePosted, NotificationItems,
    PresenceItems, ProgressItems, ProgressVersions, ReadUpTo, RoomAnswer, RoomList, SyncedView,
};
use crate::protocol::event::schemas as of_events;
use crate::protocol::order::{
    ChatLock, ChatMute, ChatReport, ChatReports, ChatResolve, ChatSlow, ChatUnmute, ReportList, ReportMade,
    ResolvedFields, RoomStateAnswer,
};
use crate::protocol::request::{
    AuthRefresh, ChatEdit, ChatHistory, ChatJoin, ChatMessage, ChatRooms, ChatSearch, ChatTyping, ClientEvent,
    MessageRef, NotificationDelete, NotificationList, NotificationRead, PresenceList, ProgressGet, ProgressHistory,
    ProgressSync, RoomOnly,
};
use crate::transport::socketio::Refreshed;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    asyncapi: &'static str,
    info: Info,
    default_content_type: &'static str,
    servers: Value,
    channels: Value,
    operations: Ordered<Value>,
    components: Components,
}

#[derive(Serialize)]
struct Components {
    messages: Ordered<Value>,
    schemas: BTreeMap<String, Value>,
}

/// What a client sends with an event, and what it is answered.
fn exchange(schemas: &mut Schemas, event: ClientEvent) -> (Value, Value) {
    let or_room = |schema: Value, room: Value| json!({ "anyOf": [schema, room] });
    // These may come without anything, which asks for all.
    let or_nothing = |schema: Value| json!({ "anyOf": [schema, { "type": "null" }] });
    let room = schemas.read::<RoomId>();
    match event {
        ClientEvent::ChatJoin => (or_room(schemas.read::<ChatJoin>(), room), schemas.answer::<Joined>()),
        ClientEvent::ChatLeave => (or_room(schemas.read::<RoomOnly>(), room), schemas.answer::<RoomAnswer>()),
        ClientEvent::ChatMessage => (schemas.read::<ChatMessage>(), schemas.answer::<MessagePosted>()),
        ClientEvent::ChatEdit => (schemas.read::<ChatEdit>(), schemas.answer::<MessageEdited>()),
        ClientEvent::ChatDelete => (schemas.read::<MessageRef>(), schemas.answer::<MessageDeleted>()),
        ClientEvent::ChatTyping => (schemas.read::<ChatTyping>(), done()),
        ClientEvent::ChatRead => (schemas.read::<MessageRef>(), schemas.answer::<ReadUpTo>()),
        ClientEvent::ChatHistory => (schemas.read::<ChatHistory>(), schemas.answer::<History>()),
        ClientEvent::ChatSearch => (schemas.read::<ChatSearch>(), schemas.answer::<Found>()),
        ClientEvent::ChatRooms => (
            json!({ "anyOf": [schemas.read::<ChatRooms>(), { "not": { "type": "object" } }] }),
            schemas.answer::<RoomList>(),
        ),
        ClientEvent::ChatMute => (schemas.read::<ChatMute>(), schemas.answer::<MuteChanged>()),
        ClientEvent::ChatUnmute => (schemas.read::<ChatUnmute>(), schemas.answer::<MuteChanged>()),
        ClientEvent::ChatLock => (schemas.read::<ChatLock>(), schemas.answer::<RoomStateAnswer>()),
        ClientEvent::ChatSlow => (schemas.read::<ChatSlow>(), schemas.answer::<RoomStateAnswer>()),
        ClientEvent::ChatReport => (schemas.read::<ChatReport>(), schemas.answer::<ReportMade>()),
        ClientEvent::ChatReports => (schemas.read::<ChatReports>(), schemas.answer::<ReportList>()),
        ClientEvent::ChatResolve => (schemas.read::<ChatResolve>(), schemas.answer::<ResolvedFields<'static>>()),
        ClientEvent::ProgressSync => {
            let report = schemas.read::<ProgressSync>();
            let answers = [schemas.answer::<SyncedView<'static>>(), schemas.answer::<BatchSynced>()];
            (
                json!({ "oneOf": [report, { "type": "array", "maxItems": 500, "items": report }] }),
                json!({ "anyOf": answers }),
            )
        }
        ClientEvent::ProgressGet => (or_nothing(schemas.read::<ProgressGet>()), schemas.answer::<ProgressItems>()),
        ClientEvent::ProgressHistory => (schemas.read::<ProgressHistory>(), schemas.answer::<ProgressVersions>()),
        ClientEvent::NotificationList => {
            (or_nothing(schemas.read::<NotificationList>()), schemas.answer::<NotificationItems>())
        }
        ClientEvent::NotificationRead => (schemas.read::<NotificationRead>(), schemas.answer::<InboxMarked>()),
        ClientEvent::NotificationDelete => (schemas.read::<NotificationDelete>(), schemas.answer::<InboxMarked>()),
        ClientEvent::PresenceList => (or_room(schemas.read::<PresenceList>(), room), schemas.answer::<PresenceItems>()),
        ClientEvent::AuthRefresh => (schemas.read::<AuthRefresh>(), schemas.answer::<Refreshed>()),
    }
}

/// `chat:message` as a name for a message: `chatMessage`.
fn key(event: &str) -> String {
    let mut key = String::new();
    let mut is_begun = true;
    for letter in event.chars() {
        if letter.is_ascii_alphanumeric() {
            key.push(if is_begun { letter } else { letter.to_ascii_uppercase() });
        }
        is_begun = letter.is_ascii_alphanumeric();
    }
    key
}

/// In a few words, what a client asks for.
fn summary(event: ClientEvent) -> &'static str {
    match event {
        ClientEvent::ChatJoin => "Join a room and get its latest messages",
        ClientEvent::ChatLeave => "Leave a room",
        ClientEvent::ChatMessage => "Post a message",
        ClientEvent::ChatEdit => "Edit a message",
        ClientEvent::ChatDelete => "Delete a message",
        ClientEvent::ChatTyping => "Begin or end typing",
        ClientEvent::ChatRead => "Move the read mark",
        ClientEvent::ChatHistory => "A page of messages",
        ClientEvent::ChatSearch => "Messages by their words",
        ClientEvent::ChatRooms => "The user's rooms",
        ClientEvent::ChatMute => "Let somebody read and not write in a room, for a time",
        ClientEvent::ChatUnmute => "Let somebody write again",
        ClientEvent::ChatLock => "Lock or unlock a room",
        ClientEvent::ChatSlow => "Let everybody write once in so many seconds",
        ClientEvent::ChatReport => "Report a message",
        ClientEvent::ChatReports => "The reports of a room",
        ClientEvent::ChatResolve => "Resolve a report",
        ClientEvent::ProgressSync => "Report progress, one lesson or several",
        ClientEvent::ProgressGet => "What is known of lessons",
        ClientEvent::ProgressHistory => "The versions of a lesson",
        ClientEvent::NotificationList => "A part of the inbox",
        ClientEvent::NotificationRead => "Mark notifications as read",
        ClientEvent::NotificationDelete => "Remove a notification from the inbox",
        ClientEvent::PresenceList => "Who is in a room",
        ClientEvent::AuthRefresh => "A new token for the same user",
    }
}

#[test]
fn the_file_has_every_event_with_its_answer_as_the_types_say() {
    let mut schemas = Schemas::new();
    schemas.written::<crate::protocol::ApiError>();
    let (mut messages, mut operations, mut on_channel) = (Vec::new(), Vec::new(), serde_json::Map::new());
    let mut message = |name: String, title: &str, payload: Value| {
        on_channel.insert(name.clone(), json!({ "$ref": format!("#/components/messages/{name}") }));
        messages.push((name, json!({ "name": title, "title": title, "payload": payload })));
    };
    let at = |name: &str| json!({ "$ref": format!("#/channels/socket/messages/{name}") });
    let channel = json!({ "$ref": "#/channels/socket" });
    for (event, name) in ClientEvent::ALL {
        let (payload, answer) = exchange(&mut schemas, event);
        let (sent, acked) = (format!("{}Request", key(name)), format!("{}Answer", key(name)));
        message(sent.clone(), name, payload);
        let refusal = json!({ "$ref": "#/components/schemas/Refusal" });
        message(acked.clone(), &format!("{name} (acknowledgement)"), json!({ "anyOf": [answer, refusal] }));
        let operation = json!({
            "action": "receive", "channel": channel, "summary": summary(event), "messages": [at(&sent)],
            "reply": { "channel": channel, "messages": [at(&acked)] }
        });
        operations.push((format!("receive{}{}", sent[..1].to_uppercase(), &sent[1..]), operation));
    }
    for (name, summary, payload) in of_events(&mut schemas.written) {
        let told = key(name);
        message(told.clone(), name, super::tidied(payload));
        let operation = json!({ "action": "send", "channel": channel, "summary": summary, "messages": [at(&told)] });
        operations.push((format!("send{}{}", told[..1].to_uppercase(), &told[1..]), operation));
    }
    let document = Document {
        asyncapi: "3.1.0",
        info: Info::of(
            "academy-rt events",
            "The events of Socket.IO at `/ws`, default namespace, with a token in `auth.token`. A message is the event's first argument; \
             the reply of an operation is the acknowledgement. Back ends may broadcast events of their own besides.",
        ),
        default_content_type: "application/json",
        servers: json!({
            "server": { "host": "localhost:8443", "protocol": "wss", "pathname": "/ws", "description": "Socket.IO 4 (Engine.IO 4), WebSocket or long polling." }
        }),
        channels: json!({
            "socket": {
                "address": "/ws", "title": "The connection", "description": "One connection of one user.", "messages": on_channel
            }
        }),
        operations: Ordered(operations),
        components: Components { messages: Ordered(messages), schemas: schemas.all() },
    };
    compare("asyncapi.yaml", &document);
}

#[test]
fn the_events_are_those_of_the_protocol_page() {
    let page = include_str!("../../../docs/protocol.md");
    let mut generator = Schemas::new().written;
    let known: Vec<&str> = of_events(&mut generator).into_iter().map(|(name, ..)| name).collect();
    let headed = page.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix("` (server to client)"));
    for name in headed.flat_map(|names| names.split("`, `")) {
        assert!(known.contains(&name), "{name}");
    }
    for name in &known {
        assert!(page.contains(&format!("`{name}`")), "{name}");
    }
}
