//! The table of events: each is decoded, given to its service, and answered.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::capacity;
use crate::domain::RoomId;
use crate::protocol::answer::{BatchSynced, Done, Ok as OkAnswer};
use crate::protocol::decode;
use crate::protocol::error::{ApiError, ErrorCode};
use crate::protocol::request::{AuthRefresh, ChatJoin, ClientEvent, PresenceList, ProgressSync, RoomOnly};

use crate::services::limits::budget::RequestKind;
use crate::transport::memory::Sender;
use crate::transport::socketio::SocketIoTransport;
use crate::transport::socketio::mailbox::refuse;
use crate::transport::socketio::socket::{Ack, Link};

impl SocketIoTransport {
    /// Does what an event asks, and answers it.
    pub(super) async fn handle(&self, link: &Link, event: ClientEvent, payload: &str, ack: Option<Ack>) {
        let caller = link.caller();
        let app = &*self.app;
        // Until what is read is on its way.
        let _memory = if RequestKind::Event(event).may_be_large() {
            let sender = Sender::User(caller.actor.user.clone());
            match self.answers.admit(sender, capacity::ANSWER_BYTES as u64).await {
                Ok(turn) => Some(turn),
                Err(error) => {
                    self.counters().rate_limited.add("answers");
                    return refuse(link, event.name(), ack, &error);
                }
            }
        } else {
            None
        };
        match event {
            ClientEvent::ChatJoin => self.join(link, payload, ack).await,
            ClientEvent::ChatLeave => {
                let result = match room_only(payload) {
                    Ok(request) => app.chat.leave(&caller, request).await,
                    Err(error) => Err(error),
                };
                answer(link, event, ack, result);
            }
            ClientEvent::ChatMessage => {
                let result = with(payload, async |request| app.chat.post(&caller, request).await).await;
                answer(link, event, ack, result);
            }
            ClientEvent::ChatEdit => {
                answer(link, event, ack, with(payload, async |request| app.chat.edit(&caller, request).await).await);
            }
            ClientEvent::ChatDelete => {
                answer(link, event, ack, with(payload, async |request| app.chat.delete(&caller, request).await).await);
            }
            ClientEvent::ChatTyping => {
                let result = with(payload, async |request| app.chat.typing(&caller, request).await).await;
                answer(link, event, ack, result.map(|()| Done {}));
            }
            ClientEvent::ChatRead => {
                let result = with(payload, async |request| app.chat.mark_read(&caller, request).await).await;
                answer(link, event, ack, result);
            }
            ClientEvent::ChatHistory => {
                answer(link, event, ack, with(payload, async |request| app.chat.history(&caller, request).await).await);
            }
            ClientEvent::ChatSearch => {
                answer(
                    link,
                    event,
                    ack,
                    with(payload, async |request| app.search.search(&caller, request).await).await,
                );
            }
            ClientEvent::ChatRooms => {
                // It may come without anything, or with what says nothing.
                let payload = if is_object(payload) { payload } else { "{}" };
                answer(link, event, ack, with(payload, async |request| app.chat.rooms(&caller, request).await).await);
            }
            ClientEvent::ChatMute => {
                let result = with(payload, async |request| app.moderators.mute(&caller, request).await).await;
                answer(link, event, ack, result);
            }
            ClientEvent::ChatUnmute => {
                let result = with(payload, async |request| app.moderators.unmute(&caller, request).await).await;
                answer(link, event, ack, result);
            }
            ClientEvent::ChatLock => {
                let result = with(payload, async |request| app.moderators.lock(&caller, request).await).await;
                answer(link, event, ack, result);
            }
            ClientEvent::ChatSlow => {
                let result = with(payload, async |request| app.moderators.slow(&caller, request).await).await;
                answer(link, event, ack, result);
            }
            ClientEvent::ChatReport => {
                let result = with(payload, async |request| app.moderators.report(&caller, request).await).await;
                answer(link, event, ack, result);
            }
            ClientEvent::ChatReports => {
                let result = with(payload, async |request| app.moderators.reports(&caller, request).await).await;
                answer(link, event, ack, result);
            }
            ClientEvent::ChatResolve => {
                let result = with(payload, async |request| app.moderators.resolve(&caller, request).await).await;
                answer(link, event, ack, result);
            }
            ClientEvent::ProgressSync => self.sync(link, payload, ack).await,
            ClientEvent::ProgressGet => {
                let result = with(payload, async |request| app.progress.get(&caller, request).await).await;
                answer(link, event, ack, result);
            }
            ClientEvent::ProgressHistory => {
                let result = with(payload, async |request| app.progress.history(&caller, request).await).await;
                answer(link, event, ack, result);
            }
            ClientEvent::NotificationList => {
                answer(link, event, ack, with(payload, async |request| app.inbox.list(&caller, request).await).await);
            }
            ClientEvent::NotificationRead => {
                let result = with(payload, async |request| app.inbox.read(&caller, request).await).await;
                answer(link, event, ack, result);
            }
            ClientEvent::NotificationDelete => {
                let result = with(payload, async |request| app.inbox.delete(&caller, request).await).await;
                answer(link, event, ack, result);
            }
            ClientEvent::PresenceList => {
                let request = if is_object(payload) {
                    decode::request(payload)
                } else {
                    bare_room(payload).map(|room_id| PresenceList { room_id, after: None, limit: None })
                };
                let result = match request {
                    Ok(request) => app.presence.list(&caller, request).await,
                    Err(error) => Err(error),
                };
                answer(link, event, ack, result);
            }
            ClientEvent::AuthRefresh => {
                let result = with(payload, async |request: AuthRefresh| self.refresh(link, &request.token).await).await;
                let is_good = result.is_ok();
                answer(link, event, ack, result);
                // Behind the answer: who one is now, and what waits for the roles that one has now.
                if is_good && let Some(handle) = link.handle() {
                    self.greet(link, &handle).await;
                }
            }
        }
    }

    async fn join(&self, link: &Link, payload: &str, ack: Option<Ack>) {
        let request = if is_object(payload) {
            decode::request(payload)
        } else {
            bare_room(payload).map(|room_id| ChatJoin { room_id, after: None, limit: None })
        };
        let granted = match request {
            Ok(request) => self.app.chat.join(&link.caller(), request).await,
            Err(error) => Err(error),
        };
        let grant = match granted {
            Ok(grant) => grant,
            Err(error) => return refuse(link, "chat:join", ack, &error),
        };
        let after_seq = grant.after_seq;
        grant.gate.open(link, after_seq, 0, || {
            if let Some(ack) = ack {
                link.answer(ack, &OkAnswer::new(&grant.answer));
            }
        });
    }

    async fn sync(&self, link: &Link, payload: &str, ack: Option<Ack>) {
        let caller = link.caller();
        let event = ClientEvent::ProgressSync;
        if payload.trim_start().starts_with('[') {
            let result =
                with(payload, async |reports: Vec<ProgressSync>| self.app.progress.sync(&caller, reports).await);
            return answer(link, event, ack, result.await.map(|results| BatchSynced { results }));
        }
        let result = with(payload, async |report: ProgressSync| {
            let mut synced = self.app.progress.sync(&caller, vec![report]).await?;
            synced.pop().ok_or_else(|| ApiError::new(ErrorCode::Internal, "the report has no answer"))
        });
        answer(link, event, ack, result.await);
    }
}

async fn with<T: DeserializeOwned, A>(
    payload: &str,
    serve: impl AsyncFnOnce(T) -> Result<A, ApiError>,
) -> Result<A, ApiError> {
    serve(decode::request(payload)?).await
}

fn answer<A: Serialize>(link: &Link, event: ClientEvent, ack: Option<Ack>, result: Result<A, ApiError>) {
    match (result, ack) {
        (Ok(body), Some(ack)) => link.answer(ack, &OkAnswer::new(body)),
        (Ok(_), None) => {}
        (Err(error), ack) => refuse(link, event.name(), ack, &error),
    }
}

fn is_object(payload: &str) -> bool {
    payload.trim_start().starts_with('{')
}

fn room_only(payload: &str) -> Result<RoomOnly, ApiError> {
    if is_object(payload) { decode::request(payload) } else { bare_room(payload).map(|room_id| RoomOnly { room_id }) }
}

fn bare_room(payload: &str) -> Result<RoomId, ApiError> {
    decode::request::<RoomId>(payload).map_err(|error| ApiError { field: Some("roomId".to_owned()), ..error })
}
