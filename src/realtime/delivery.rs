//! One delivery: who gets what, encoded once. What has been committed and what is said in passing goes through one
//! [`Feed`](crate::realtime::feed::Feed), in one order; the Socket.IO pump and the long poll both read it there.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::value::RawValue;

use crate::domain::access::Ban;
use crate::domain::notification::{Audience, Selection};
use crate::domain::{Role, Room, Timestamp, UserId};
use crate::protocol::event::ServerEvent;
use crate::protocol::packet::Packet;
use crate::protocol::view::MessageView;
use crate::store::Change;
use crate::store::operations::{Broadcast, InboxAction};

/// An event on its way.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Who gets it.
    pub room: Room,
    /// A socket that does not.
    pub except_socket: Option<u64>,
    /// A user none of whose sockets does.
    pub except_user: Option<UserId>,
    /// The event's name.
    pub name: Cow<'static, str>,
    /// The event, encoded.
    pub packet: Packet,
    /// The event as its subject's own sockets and polls get it, where that differs: with the key that they gave it.
    pub own: Option<Packet>,
    /// The id of the stored change that it reports; `None` for what is not stored.
    pub stored: Option<u64>,
    /// What the gates of the sockets must know of it.
    pub kind: DeliveryKind,
    /// The user it is about or from: it is not sent again after their erasure.
    pub subject: Option<UserId>,
    /// The change of a broadcast that the store keeps until it has gone out.
    pub outbox: Option<u64>,
}

/// What a delivery is to the gate of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryKind {
    /// A message with its `seq`.
    Message(u64),
    /// A notification with its id.
    Notification(u64),
    /// An edit of a message.
    Edit {
        /// When it was made.
        at: Timestamp,
        /// The id of the edit before it, or 0.
        supersedes: u64,
    },
    /// Anything else that must arrive.
    Event,
    /// Something that is dropped rather than queued for a slow reader.
    Volatile,
}

impl Delivery {
    /// An event that is not stored.
    #[must_use]
    pub fn passing(room: Room, event: &ServerEvent<'_>) -> Delivery {
        Delivery { name: Cow::Borrowed(event.name()), ..Delivery::of(room, event.encode()) }
    }

    /// A packet to a room, not stored, without a name yet.
    #[must_use]
    pub fn of(room: Room, packet: Packet) -> Delivery {
        Delivery {
            room,
            except_socket: None,
            except_user: None,
            name: Cow::Borrowed(""),
            packet,
            own: None,
            stored: None,
            kind: DeliveryKind::Event,
            subject: None,
            outbox: None,
        }
    }

    /// The event in the form that is this user's alone, if they get another one than the rest of the room.
    #[must_use]
    pub fn own_packet(&self, user: &UserId) -> Option<&Packet> {
        self.own.as_ref().filter(|_| self.subject.as_ref() == Some(user))
    }

    /// The event as a user gets it.
    #[must_use]
    pub fn packet_for(&self, user: &UserId) -> &Packet {
        self.own_packet(user).unwrap_or(&self.packet)
    }

    /// The bytes of its packets.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.packet.text().len() + self.own.as_ref().map_or(0, |own| own.text().len())
    }

    /// The same, speaking of somebody.
    #[must_use]
    pub fn about(self, user: &UserId) -> Delivery {
        Delivery { subject: Some(user.clone()), ..self }
    }

    /// The same, for everybody in the room but one user.
    #[must_use]
    pub fn to_others(room: Room, user: &UserId, event: &ServerEvent<'_>) -> Delivery {
        Delivery { except_user: Some(user.clone()), ..Delivery::passing(room, event).about(user) }
    }

    /// The same, dropped rather than queued.
    #[must_use]
    pub fn volatile(self) -> Delivery {
        Delivery { kind: DeliveryKind::Volatile, ..self }
    }
}

/// The deliveries that a change becomes; none for what only changes who may be where.
#[must_use]
pub fn deliveries_of(change: &Change) -> Vec<Delivery> {
    let stored = Some(change.id());
    let (room, event, kind, subject) = match change {
        Change::Posted { message, .. } => {
            let view = MessageView::from(&**message);
            let own = view.client_id.is_some().then(|| ServerEvent::ChatMessage(view.clone()).encode());
            // A key is its caller's, and is shown to nobody else.
            let event = ServerEvent::ChatMessage(MessageView { client_id: None, ..view });
            let kind = DeliveryKind::Message(message.seq);
            let delivery = Delivery::passing(Room::Chat(message.room.clone()), &event);
            return vec![Delivery { stored, kind, own, subject: Some(message.sender.clone()), ..delivery }];
        }
        Change::Edited { id, message, supersedes } => (
            Room::Chat(message.room.clone()),
            ServerEvent::ChatMessageEdited {
                room_id: &message.room,
                message_id: message.id,
                new_content: &message.content,
                edited_at: message.edited_at.unwrap_or(message.at),
                id: *id,
                edited_by: message.edited_by.as_ref(),
            },
            DeliveryKind::Edit { at: message.edited_at.unwrap_or(message.at), supersedes: *supersedes },
            Some(message.sender.clone()),
        ),
        Change::Deleted { id, message, .. } => (
            Room::Chat(message.room.clone()),
            ServerEvent::ChatMessageDeleted {
                room_id: &message.room,
                message_id: message.id,
                deleted_at: message.deleted_at.unwrap_or(message.at),
                id: *id,
                deleted_by: message.deleted_by.as_ref(),
            },
            DeliveryKind::Event,
            None,
        ),
        Change::Read { mark, .. } => (
            Room::Chat(mark.room.clone()),
            ServerEvent::ChatRead { room_id: &mark.room, user_id: &mark.user, message_id: mark.message_id },
            DeliveryKind::Event,
            Some(mark.user.clone()),
        ),
        Change::Progressed { progress, .. } => (
            Room::User(progress.user.clone()),
            ServerEvent::ProgressUpdated(progress.into()),
            DeliveryKind::Event,
            Some(progress.user.clone()),
        ),
        Change::Notified(notification) => {
            let event = ServerEvent::NotificationNew(notification.into());
            let packet = event.encode();
            let to = |room| Delivery {
                name: Cow::Borrowed(event.name()),
                stored,
                kind: DeliveryKind::Notification(notification.id),
                ..Delivery::of(room, packet.clone())
            };
            return rooms_of(&notification.audience).into_iter().map(to).collect();
        }
        Change::Withdrawn { notification, audience, ending, .. } => {
            let event = ServerEvent::NotificationGone { id: *notification, reason: ending.as_str() };
            let packet = event.encode();
            let to =
                |room| Delivery { name: Cow::Borrowed(event.name()), stored, ..Delivery::of(room, packet.clone()) };
            return rooms_of(audience).into_iter().map(to).collect();
        }
        Change::InboxChanged { user, selection, action, unread, origin, .. } => {
            let (ids, up_to) = match selection {
                Selection::Ids(ids) => (Some(ids.as_slice()), None),
                Selection::All { up_to } => (None, *up_to),
            };
            let read = *action == InboxAction::Read;
            let event = ServerEvent::NotificationUpdated { ids, up_to, read, unread: *unread };
            let delivery = Delivery::passing(Room::User(user.clone()), &event);
            return vec![Delivery { stored, except_socket: *origin, ..delivery }];
        }
        Change::Broadcast { id, broadcast } => return broadcast_deliveries(Some(*id), broadcast),
        Change::StateSet { id, room, state } => (
            Room::Chat(room.clone()),
            ServerEvent::ChatState { room_id: room, state: (*state).into(), id: *id },
            DeliveryKind::Event,
            None,
        ),
        Change::Reported { id, report, to } => {
            let event = ServerEvent::ChatReported {
                report_id: report.id,
                room_id: &report.room,
                message_id: report.message_id,
                reported_at: report.at,
                resolved_at: report.resolution.as_ref().map(|resolution| resolution.at),
                id: *id,
            };
            let administrators = to.administrators.then_some(Room::Role(Role::Admin));
            let rooms = administrators.into_iter().chain(to.moderators.iter().cloned().map(Room::User));
            return rooms.map(|room| Delivery { stored, ..Delivery::passing(room, &event) }).collect();
        }
        Change::Banned { banned, .. } => return mute_deliveries(&banned.ban, banned.until),
        Change::Unbanned { ban, .. } => return mute_deliveries(ban, None),
        Change::Anonymised { .. }
        | Change::Disconnected { .. }
        | Change::RoomChanged { .. }
        | Change::RoomRemoved { .. }
        | Change::MemberSet { .. }
        | Change::MemberRemoved { .. }
        | Change::Erased { .. }
        | Change::HoldSet { .. }
        | Change::HoldReleased { .. }
        | Change::Purged { .. }
        | Change::Recorded { .. } => return Vec::new(),
    };
    vec![Delivery { stored, kind, subject, ..Delivery::passing(room, &event) }]
}

/// Who is muted hears of it, and that they are not any more. It is not stored: a join says it, too.
fn mute_deliveries(ban: &Ban, until: Option<Timestamp>) -> Vec<Delivery> {
    let Ban::Mute { user, room } = ban else { return Vec::new() };
    let event = ServerEvent::ChatMuted { room_id: room.as_ref(), user_id: user, until };
    vec![Delivery::passing(Room::User(user.clone()), &event).about(user)]
}

/// The rooms that an audience is in.
fn rooms_of(audience: &Audience) -> Vec<Room> {
    match audience {
        Audience::All => vec![Room::All],
        Audience::Role(role) => vec![Room::Role(*role)],
        Audience::Users(users) => users.iter().map(|user| Room::User(user.clone())).collect(),
    }
}

/// The deliveries of a broadcast. `outbox` is the change under which the store keeps it until they have gone out, if it does.
#[must_use]
pub fn broadcast_deliveries(outbox: Option<u64>, broadcast: &Broadcast) -> Vec<Delivery> {
    let payload = RawValue::from_string(broadcast.payload.clone()).ok();
    let packet = Packet::event(&broadcast.event, &payload);
    let name: Cow<'static, str> = broadcast.event.clone().into();
    let to = |room: &Room| Delivery { name: name.clone(), outbox, ..Delivery::of(room.clone(), packet.clone()) };
    broadcast.rooms.iter().map(to).collect()
}

/// A delivery with its place in the feed.
#[derive(Debug, Clone)]
pub struct Placed {
    /// Rises with each delivery of the feed.
    pub position: u64,
    /// What is delivered.
    pub delivery: Arc<Delivery>,
}
