//! One delivery: who gets what, encoded once. What has been committed and what is said in passing goes through one [`Feed`],
//! in one order; the Socket.IO pump and the long poll both read it there (ARCHITECTURE, "One delivery").
//!
//! The feed is a ring: the pump's backlog is bounded (the store's writer waits for it, which is the backpressure that
//! reaches the clients as a full queue), and what the pump has sent stays a while for long polls.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::contract::events::ServerEvent;
use crate::contract::packet::Frame;
use crate::domain::notification::{Audience, Selection};
use crate::domain::{Room, UserId};
use crate::ops::tally::Tally;
use crate::store::{Change, CommitSink, InboxAction};

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
    pub frame: Frame,
    /// The id of the stored change that it tells of; `None` for what is not stored.
    pub stored: Option<u64>,
    /// What the gates of the sockets must know of it.
    pub kind: DeliveryKind,
}

/// What a delivery is to the gate of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryKind {
    /// A message with its `seq`.
    Message(u64),
    /// A notification with its id.
    Notification(u64),
    /// Anything else that must arrive.
    Event,
    /// Something that is dropped rather than queued for a slow reader.
    Volatile,
}

impl Delivery {
    /// An event that is not stored.
    #[must_use]
    pub fn passing(room: Room, event: &ServerEvent<'_>) -> Delivery {
        Delivery {
            room,
            except_socket: None,
            except_user: None,
            name: Cow::Borrowed(event.name()),
            frame: event.encode(),
            stored: None,
            kind: DeliveryKind::Event,
        }
    }

    /// The same, for everybody in the room but one user.
    #[must_use]
    pub fn to_others(room: Room, user: &UserId, event: &ServerEvent<'_>) -> Delivery {
        Delivery { except_user: Some(user.clone()), ..Delivery::passing(room, event) }
    }

    /// The same, dropped rather than queued.
    #[must_use]
    pub fn volatile(self) -> Delivery {
        Delivery { kind: DeliveryKind::Volatile, ..self }
    }
}

/// The deliveries that a stored change becomes.
#[must_use]
pub fn deliveries_of(change: &Change) -> Vec<Delivery> {
    let stored = Some(change.id());
    let (room, event, kind) = match change {
        Change::Posted(message) => (
            Room::Chat(message.room.clone()),
            ServerEvent::ChatMessage((&**message).into()),
            DeliveryKind::Message(message.seq),
        ),
        Change::Edited { room, message_id, content, at, .. } => (
            Room::Chat(room.clone()),
            ServerEvent::ChatMessageEdited {
                room_id: room,
                message_id: *message_id,
                new_content: content,
                edited_at: *at,
            },
            DeliveryKind::Event,
        ),
        Change::Deleted { room, message_id, at, .. } => (
            Room::Chat(room.clone()),
            ServerEvent::ChatMessageDeleted { room_id: room, message_id: *message_id, deleted_at: *at },
            DeliveryKind::Event,
        ),
        Change::Read { mark, .. } => (
            Room::Chat(mark.room.clone()),
            ServerEvent::ChatRead { room_id: &mark.room, user_id: &mark.user, message_id: mark.message_id },
            DeliveryKind::Event,
        ),
        Change::Progressed { progress, .. } => {
            (Room::User(progress.user.clone()), ServerEvent::ProgressUpdated(progress.into()), DeliveryKind::Event)
        }
        Change::Notified(notification) => {
            let event = ServerEvent::NotificationNew(notification.into());
            let frame = event.encode();
            let to = |room| Delivery {
                room,
                except_socket: None,
                except_user: None,
                name: Cow::Borrowed(event.name()),
                frame: frame.clone(),
                stored,
                kind: DeliveryKind::Notification(notification.id),
            };
            return match &notification.audience {
                Audience::All => vec![to(Room::All)],
                Audience::Role(role) => vec![to(Room::Role(*role))],
                Audience::Users(users) => users.iter().map(|user| to(Room::User(user.clone()))).collect(),
            };
        }
        Change::InboxChanged { user, selection, action, unread, origin, .. } => {
            let ids = match selection {
                Selection::Ids(ids) => Some(ids.as_slice()),
                Selection::All => None,
            };
            let event = ServerEvent::NotificationUpdated { ids, read: *action == InboxAction::Read, unread: *unread };
            let delivery = Delivery::passing(Room::User(user.clone()), &event);
            return vec![Delivery { stored, except_socket: *origin, ..delivery }];
        }
    };
    vec![Delivery { stored, kind, ..Delivery::passing(room, &event) }]
}

/// A delivery with its place in the feed.
#[derive(Debug, Clone)]
pub struct Placed {
    /// Rises with each delivery of the feed.
    pub position: u64,
    /// What is delivered.
    pub delivery: Arc<Delivery>,
}

/// How many deliveries the pump may be behind, and how many stay for long polls.
const RING: usize = 16_384;

/// The feed is full: the pump does not keep up. Try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too much is on its way")]
pub struct FeedFull;

/// The one ordered way of all deliveries.
#[derive(Debug)]
pub struct Feed {
    /// Random: a position means nothing in another process's feed.
    id: u64,
    /// Held for a few instructions at a time, never over an await.
    ring: Mutex<Ring>,
    /// Wakes the pump.
    arrived: Notify,
    /// Wakes a writer thread that waits for the pump.
    pumped: Condvar,
    /// What passes is counted.
    tally: Arc<Tally>,
}

#[derive(Debug, Default)]
struct Ring {
    /// The position of the first delivery that is still here.
    start: u64,
    deliveries: VecDeque<Arc<Delivery>>,
    /// The position up to which the pump has taken them.
    taken: u64,
    closed: bool,
}

impl Ring {
    fn head(&self) -> u64 {
        self.start + self.deliveries.len() as u64
    }

    fn backlog(&self) -> u64 {
        self.head() - self.taken
    }

    fn push(&mut self, delivery: Delivery) {
        // What the pump has not taken yet is never dropped.
        if self.deliveries.len() >= RING && self.taken > self.start {
            self.deliveries.pop_front();
            self.start += 1;
        }
        self.deliveries.push_back(Arc::new(delivery));
    }

    fn from(&self, position: u64, most: usize) -> Vec<Arc<Delivery>> {
        let skip = usize::try_from(position.saturating_sub(self.start)).unwrap_or(usize::MAX);
        self.deliveries.iter().skip(skip).take(most).cloned().collect()
    }

    /// What the pump has not taken yet.
    fn take(&mut self, most: usize) -> Vec<Placed> {
        let first = self.taken;
        let batch = self.from(first, most);
        self.taken += batch.len() as u64;
        (first..).zip(batch).map(|(position, delivery)| Placed { position, delivery }).collect()
    }
}

impl Feed {
    /// An empty feed. `id` is random: it tells cursors of another process's feed apart.
    #[must_use]
    pub fn new(id: u64) -> Arc<Feed> {
        Arc::new(Feed {
            id,
            ring: Mutex::default(),
            arrived: Notify::new(),
            pumped: Condvar::new(),
            tally: Arc::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has happened since the start.
    #[must_use]
    pub fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// The feed's random id.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The position behind the last delivery.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.lock().head()
    }

    /// Adds deliveries that are not stored, all or none. Does not block.
    ///
    /// # Errors
    /// [`FeedFull`] if the pump is too far behind.
    pub fn publish(&self, deliveries: Vec<Delivery>) -> Result<(), FeedFull> {
        let mut ring = self.lock();
        if ring.backlog() + deliveries.len() as u64 > RING as u64 && ring.backlog() > 0 {
            return Err(FeedFull);
        }
        for delivery in deliveries {
            ring.push(delivery);
        }
        drop(ring);
        self.arrived.notify_one();
        Ok(())
    }

    /// Takes what has arrived, at most `most`, for the pump; waits if there is nothing. `None` when the feed is closed and
    /// empty. Only one task may call it.
    pub async fn take(&self, most: usize) -> Option<Vec<Placed>> {
        loop {
            let (batch, closed) = {
                let mut ring = self.lock();
                (ring.take(most), ring.closed)
            };
            if !batch.is_empty() {
                self.pumped.notify_all();
                return Some(batch);
            }
            if closed {
                return None;
            }
            self.arrived.notified().await;
        }
    }

    /// As [`Feed::take`], and empty if nothing has arrived.
    pub fn take_now(&self, most: usize) -> Vec<Placed> {
        let batch = self.lock().take(most);
        if !batch.is_empty() {
            self.pumped.notify_all();
        }
        batch
    }

    /// The deliveries from a position on, at most `most`; `None` if the position is no longer (or not yet) here.
    #[must_use]
    pub fn since(&self, position: u64, most: usize) -> Option<Vec<Arc<Delivery>>> {
        let ring = self.lock();
        (ring.start..=ring.head()).contains(&position).then(|| ring.from(position, most))
    }

    /// No more deliveries: the pump ends when it has sent what is here, and nobody waits for it.
    pub fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_one();
        self.pumped.notify_all();
    }
}

fn kind_of(change: &Change) -> &'static str {
    match change {
        Change::Posted(_) => "message",
        Change::Edited { .. } => "edit",
        Change::Deleted { .. } => "deletion",
        Change::Read { .. } => "read_mark",
        Change::Progressed { .. } => "progress",
        Change::Notified(_) => "notification",
        Change::InboxChanged { .. } => "inbox",
    }
}

impl CommitSink for Feed {
    /// Called on the store's writer thread: it waits here while the pump is too far behind, so that a server that cannot
    /// deliver does not take in either.
    fn committed(&self, changes: Vec<Change>) {
        for change in &changes {
            self.tally.stored.add(kind_of(change));
        }
        let deliveries: Vec<Delivery> = changes.iter().flat_map(deliveries_of).collect();
        if deliveries.is_empty() {
            return;
        }
        let mut ring = self.lock();
        while ring.backlog() >= RING as u64 && !ring.closed {
            ring = self.pumped.wait(ring).unwrap_or_else(PoisonError::into_inner);
        }
        for delivery in deliveries {
            ring.push(delivery);
        }
        drop(ring);
        self.arrived.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Role;

    fn delivery(n: u64) -> Delivery {
        Delivery {
            room: Room::Role(Role::Admin),
            except_socket: None,
            except_user: None,
            name: "e".into(),
            frame: Frame::event("e", &n),
            stored: Some(n),
            kind: DeliveryKind::Event,
        }
    }

    #[tokio::test]
    async fn the_pump_takes_in_order_and_polls_read_the_same() {
        let feed = Feed::new(1);
        feed.publish((0..10).map(delivery).collect()).unwrap();
        let taken = feed.take(4).await.unwrap();
        assert_eq!(taken.iter().map(|d| d.delivery.stored.unwrap()).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(feed.since(8, 100).unwrap().len(), 2);
        assert_eq!(feed.since(10, 100).unwrap().len(), 0);
        assert!(feed.since(11, 100).is_none());
    }

    #[tokio::test]
    async fn a_full_feed_refuses_and_drops_only_what_was_taken() {
        let feed = Feed::new(1);
        for n in 0..RING as u64 {
            feed.publish(vec![delivery(n)]).unwrap();
        }
        assert_eq!(feed.publish(vec![delivery(0)]), Err(FeedFull));
        assert_eq!(feed.take(2).await.unwrap().len(), 2);
        feed.publish(vec![delivery(0), delivery(0)]).unwrap();
        assert!(feed.since(1, 1).is_none(), "the two taken made room");
        assert!(feed.since(2, 1).is_some());
    }

    #[tokio::test]
    async fn a_closed_feed_is_emptied_first() {
        let feed = Feed::new(1);
        feed.publish(vec![delivery(1)]).unwrap();
        feed.close();
        assert_eq!(feed.take(10).await.unwrap().len(), 1);
        assert!(feed.take(10).await.is_none());
    }
}
