//! Everything the events do, by polling. Each route is the event of the same row.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use crate::domain::{RoomId, UserId};

use crate::protocol::answer::{BatchSynced, Done};
use crate::protocol::decode;
use crate::protocol::error::{ApiError, ErrorCode};
use crate::protocol::http::{ErrorBody, Polled, PolledEvent, Resync};
use crate::protocol::request::{ClientEvent, ProgressSync};
use crate::protocol::view::Session;
use crate::services::Caller;
use crate::services::limits::budget::RequestKind;
use crate::services::long_poll::{MAX_ROOMS, MAX_WAIT, PollAnswer, PollStep};

use crate::transport::http::deferred::Later;
use crate::transport::http::extract::{Given, Kind, from_body, from_query, id_in_path, number_in_path, text};
use crate::transport::http::{HttpApi, answer, asker, asker_with_body, failure, failure_with, query, with_api};

const PAGE: [(&str, Kind); 4] =
    [("before", Kind::Number), ("after", Kind::Number), ("limit", Kind::Number), ("versions", Kind::Flag)];
/// Whose progress is meant, from a back end.
const USER: [(&str, Kind); 1] = [("userId", Kind::Id)];

/// The user of a query.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct OnBehalf {
    #[serde(default)]
    user_id: Option<UserId>,
}

pub(super) fn routes(api: &Arc<HttpApi>) -> BoxedFilter<(Response,)> {
    let v1 = || warp::path!("api" / "v1" / ..);
    let session = v1()
        .and(warp::path!("session"))
        .and(warp::get())
        .and(with_api(api))
        .and(asker(api, RequestKind::Session))
        .then(session);
    let rooms = v1()
        .and(warp::path!("rooms"))
        .and(warp::get())
        .and(with_api(api))
        .and(asker(api, RequestKind::Event(ClientEvent::ChatRooms)))
        .and(query())
        .then(rooms);
    let search = v1()
        .and(warp::path!("search"))
        .and(warp::get())
        .and(with_api(api))
        .and(asker(api, RequestKind::Event(ClientEvent::ChatSearch)))
        .and(query())
        .then(search);
    let history = v1()
        .and(warp::path!("rooms" / String / "messages"))
        .and(warp::get())
        .and(with_api(api))
        .and(asker(api, RequestKind::Event(ClientEvent::ChatHistory)))
        .and(query())
        .then(history);
    let post = v1()
        .and(warp::path!("rooms" / String / "messages"))
        .and(warp::post())
        .and(with_api(api))
        .and(asker_with_body(api, RequestKind::Event(ClientEvent::ChatMessage)))
        .then(post);
    let edit = v1()
        .and(warp::path!("rooms" / String / "messages" / String))
        .and(warp::patch())
        .and(with_api(api))
        .and(asker_with_body(api, RequestKind::Event(ClientEvent::ChatEdit)))
        .then(edit);
    let delete = v1()
        .and(warp::path!("rooms" / String / "messages" / String))
        .and(warp::delete())
        .and(with_api(api))
        .and(asker(api, RequestKind::Event(ClientEvent::ChatDelete)))
        .then(delete);
    let typing = v1()
        .and(warp::path!("rooms" / String / "typing"))
        .and(warp::post())
        .and(with_api(api))
        .and(asker_with_body(api, RequestKind::Event(ClientEvent::ChatTyping)))
        .then(typing);
    let read = v1()
        .and(warp::path!("rooms" / String / "read"))
        .and(warp::post())
        .and(with_api(api))
        .and(asker_with_body(api, RequestKind::Event(ClientEvent::ChatRead)))
        .then(mark_read);
    let join = v1()
        .and(warp::path!("rooms" / String / "join"))
        .and(warp::post())
        .and(with_api(api))
        .and(asker_with_body(api, RequestKind::Event(ClientEvent::ChatJoin)))
        .then(join);
    let leave = v1()
        .and(warp::path!("rooms" / String / "leave"))
        .and(warp::post())
        .and(with_api(api))
        .and(asker(api, RequestKind::Event(ClientEvent::ChatLeave)))
        .then(leave);
    let presence = v1()
        .and(warp::path!("rooms" / String / "presence"))
        .and(warp::get())
        .and(with_api(api))
        .and(asker(api, RequestKind::Event(ClientEvent::PresenceList)))
        .and(query())
        .then(presence);
    let chat = session
        .or(rooms)
        .unify()
        .or(search)
        .unify()
        .or(history)
        .unify()
        .or(post)
        .unify()
        .or(edit)
        .unify()
        .or(delete)
        .unify();
    let chat = chat.or(typing).unify().or(read).unify().or(join).unify().or(leave).unify().or(presence).unify().boxed();
    chat.or(progress_routes(api)).unify().or(inbox_routes(api)).unify().boxed()
}

fn progress_routes(api: &Arc<HttpApi>) -> BoxedFilter<(Response,)> {
    let v1 = || warp::path!("api" / "v1" / ..);
    let get = v1()
        .and(warp::path!("progress"))
        .and(warp::get())
        .and(with_api(api))
        .and(asker(api, RequestKind::Event(ClientEvent::ProgressGet)))
        .and(query())
        .then(progress);
    let sync = v1()
        .and(warp::path!("progress"))
        .and(warp::post())
        .and(with_api(api))
        .and(asker_with_body(api, RequestKind::Event(ClientEvent::ProgressSync)))
        .and(query())
        .then(sync);
    let versions = v1()
        .and(warp::path!("progress" / String / "history"))
        .and(warp::get())
        .and(with_api(api))
        .and(asker(api, RequestKind::Event(ClientEvent::ProgressHistory)))
        .and(query())
        .then(versions);
    let events = v1()
        .and(warp::path!("events"))
        .and(warp::get())
        .and(with_api(api))
        .and(asker(api, RequestKind::Events))
        .and(query())
        .then(events);
    get.or(sync).unify().or(versions).unify().or(events).unify().boxed()
}

fn inbox_routes(api: &Arc<HttpApi>) -> BoxedFilter<(Response,)> {
    let v1 = || warp::path!("api" / "v1" / ..);
    let list = v1()
        .and(warp::path!("notifications"))
        .and(warp::get())
        .and(with_api(api))
        .and(asker(api, RequestKind::Event(ClientEvent::NotificationList)))
        .and(query())
        .then(inbox);
    let read = v1()
        .and(warp::path!("notifications" / "read"))
        .and(warp::post())
        .and(with_api(api))
        .and(asker_with_body(api, RequestKind::Event(ClientEvent::NotificationRead)))
        .then(read_notifications);
    let delete = v1()
        .and(warp::path!("notifications" / String))
        .and(warp::delete())
        .and(with_api(api))
        .and(asker(api, RequestKind::Event(ClientEvent::NotificationDelete)))
        .then(delete_notification);
    list.or(read).unify().or(delete).unify().boxed()
}

async fn session(api: Arc<HttpApi>, caller: Caller) -> Response {
    let unread = api.app.inbox.unread(&caller).await;
    let store = &api.app.store;
    answer(unread.map(|unread| Session::new(&caller.actor, unread, store.now(), store.id())))
}

async fn rooms(api: Arc<HttpApi>, caller: Caller, query: String) -> Response {
    const KNOWN: [(&str, Kind); 2] = [("after", Kind::Text), ("limit", Kind::Number)];
    let result = async { api.app.chat.rooms(&caller, from_query(&query, &KNOWN, [])?).await };
    answer(result.await)
}

async fn history(room: String, api: Arc<HttpApi>, caller: Caller, query: String) -> Response {
    let result = async { api.app.chat.history(&caller, from_query(&query, &PAGE, [room_id(&room)?])?).await };
    answer(result.await)
}

async fn post(room: String, api: Arc<HttpApi>, caller: Caller, body: Bytes) -> Response {
    let result = async { api.app.chat.post(&caller, from_body(&body, [room_id(&room)?])?).await };
    answer(result.await)
}

async fn edit(room: String, message: String, api: Arc<HttpApi>, caller: Caller, body: Bytes) -> Response {
    let result = async {
        api.app.chat.edit(&caller, from_body(&body, [room_id(&room)?, number_in_path("messageId", &message)?])?).await
    };
    answer(result.await)
}

async fn search(api: Arc<HttpApi>, caller: Caller, query: String) -> Response {
    const KNOWN: [(&str, Kind); 4] =
        [("q", Kind::Text), ("room", Kind::Id), ("before", Kind::Number), ("limit", Kind::Number)];
    let result = async { api.app.search.search(&caller, from_query(&query, &KNOWN, [])?).await };
    answer(result.await)
}

async fn delete(room: String, message: String, api: Arc<HttpApi>, caller: Caller) -> Response {
    let result = async {
        let given = [room_id(&room)?, number_in_path("messageId", &message)?];
        api.app.chat.delete(&caller, from_body(&Bytes::new(), given)?).await
    };
    answer(result.await)
}

async fn typing(room: String, api: Arc<HttpApi>, caller: Caller, body: Bytes) -> Response {
    let result = async { api.app.chat.typing(&caller, from_body(&body, [room_id(&room)?])?).await };
    answer(result.await.map(|()| Done {}))
}

async fn mark_read(room: String, api: Arc<HttpApi>, caller: Caller, body: Bytes) -> Response {
    let result = async { api.app.chat.mark_read(&caller, from_body(&body, [room_id(&room)?])?).await };
    answer(result.await)
}

async fn join(room: String, api: Arc<HttpApi>, caller: Caller, body: Bytes) -> Response {
    let result = async { api.app.chat.take_part(&caller, from_body(&body, [room_id(&room)?])?).await };
    answer(result.await)
}

async fn leave(room: String, api: Arc<HttpApi>, caller: Caller) -> Response {
    let result = async { api.app.chat.leave(&caller, from_body(&Bytes::new(), [room_id(&room)?])?).await };
    answer(result.await)
}

async fn presence(room: String, api: Arc<HttpApi>, caller: Caller, query: String) -> Response {
    const KNOWN: [(&str, Kind); 2] = [("after", Kind::Id), ("limit", Kind::Number)];
    let result = async { api.app.presence.list(&caller, from_query(&query, &KNOWN, [room_id(&room)?])?).await };
    answer(result.await)
}

fn room_id(segment: &str) -> Result<Given, ApiError> {
    id_in_path("roomId", segment)
}

async fn progress(api: Arc<HttpApi>, caller: Caller, query: String) -> Response {
    const KNOWN: [(&str, Kind); 5] = [
        ("lessonId", Kind::Id),
        ("courseId", Kind::Id),
        ("since", Kind::Text),
        ("limit", Kind::Number),
        ("userId", Kind::Id),
    ];
    let result = async { api.app.progress.get(&caller, from_query(&query, &KNOWN, [])?).await };
    answer(result.await)
}

async fn sync(api: Arc<HttpApi>, caller: Caller, body: Bytes, query: String) -> Response {
    let read = || -> Result<(Vec<ProgressSync>, bool), ApiError> {
        let body = text(&body)?;
        let is_batch = body.trim_start().starts_with('[');
        let mut reports: Vec<ProgressSync> =
            if is_batch { decode::request(body)? } else { vec![decode::request(body)?] };
        // The user of the query is that of whoever the reports do not name.
        if let OnBehalf { user_id: Some(user) } = from_query(&query, &USER, [])? {
            for report in &mut reports {
                report.user_id.get_or_insert_with(|| user.clone());
            }
        }
        Ok((reports, is_batch))
    };
    let (reports, is_batch) = match read() {
        Ok(read) => read,
        Err(error) => return failure(&error),
    };
    let synced = api.app.progress.sync(&caller, reports).await;
    if is_batch {
        return answer(synced.map(|results| BatchSynced { results }));
    }
    answer(synced.and_then(|mut synced| {
        synced.pop().ok_or_else(|| ApiError::new(ErrorCode::Internal, "the report has no answer"))
    }))
}

async fn versions(lesson: String, api: Arc<HttpApi>, caller: Caller, query: String) -> Response {
    let result = async {
        let request = from_query(&query, &USER, [id_in_path("lessonId", &lesson)?])?;
        api.app.progress.history(&caller, request).await
    };
    answer(result.await)
}

async fn inbox(api: Arc<HttpApi>, caller: Caller, query: String) -> Response {
    const KNOWN: [(&str, Kind); 3] = [("before", Kind::Number), ("limit", Kind::Number), ("unreadOnly", Kind::Flag)];
    let result = async { api.app.inbox.list(&caller, from_query(&query, &KNOWN, [])?).await };
    answer(result.await)
}

async fn read_notifications(api: Arc<HttpApi>, caller: Caller, body: Bytes) -> Response {
    let result = async { api.app.inbox.read(&caller, from_body(&body, [])?).await };
    answer(result.await)
}

async fn delete_notification(id: String, api: Arc<HttpApi>, caller: Caller) -> Response {
    let result = async {
        let request = from_body(&Bytes::new(), [number_in_path("id", &id)?])?;
        api.app.inbox.delete(&caller, request).await
    };
    answer(result.await)
}

async fn events(api: Arc<HttpApi>, caller: Caller, query: String) -> Response {
    let (mut cursor, mut rooms, mut wait) = (None, Vec::new(), Duration::ZERO);
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            "cursor" if !value.is_empty() => cursor = Some(value.into_owned()),
            "rooms" => match room_list("rooms", value.split(',')) {
                Ok(list) => rooms.extend(list),
                Err(error) => return failure(&error),
            },
            // A room whose id has a comma, or any other: one a parameter.
            "room" => match room_list("room", std::iter::once(&*value)) {
                Ok(list) => rooms.extend(list),
                Err(error) => return failure(&error),
            },
            "wait" if !value.is_empty() => match value.parse::<u64>() {
                Ok(seconds) if seconds <= MAX_WAIT.as_secs() => wait = Duration::from_secs(seconds),
                _ => {
                    let message = format!("wait must be 0 to {} seconds", MAX_WAIT.as_secs());
                    return failure(&ApiError::field("wait", message));
                }
            },
            _ => {}
        }
    }
    if rooms.len() > MAX_ROOMS {
        return failure(&ApiError::field("rooms", format!("rooms may name at most {MAX_ROOMS} rooms")));
    }
    if let Err(error) = api.app.rates.charge_points(&caller.actor, points_for_rooms(rooms.len())) {
        return failure(&error);
    }
    // Nobody waits longer than their token is good for; the next poll is refused then.
    if let Some(expires_at) = caller.actor.expires_at {
        let ends = expires_at.plus(api.verifier.leeway());
        wait = wait.min(Duration::from_millis(ends.0.saturating_sub(api.app.store.now().0)));
    }
    if let Err(error) = api.app.uses.note_reading(&caller, &rooms).await {
        return failure(&error);
    }
    match api.app.long_poll.poll(&caller, cursor.as_deref(), rooms.clone(), wait).await {
        Ok(PollStep::Answered(polled)) => polled_response(Ok(polled), &caller),
        Ok(PollStep::Waits(poll)) => Later::response(async move {
            let polled = api.app.long_poll.wait(&caller, poll).await;
            polled_response(polled, &caller)
        }),
        Err(error) if error.code == ErrorCode::Resync => failure_with(
            &error,
            &Resync { error: ErrorBody::new(&error), cursor: api.app.long_poll.cursor_of_now(&caller, &rooms) },
        ),
        Err(error) => polled_response(Err(error), &caller),
    }
}

/// What a poll costs more for the rooms that it names.
fn points_for_rooms(rooms: usize) -> u32 {
    u32::try_from(rooms / 10).unwrap_or(u32::MAX)
}

fn polled_response(polled: Result<PollAnswer, ApiError>, caller: &Caller) -> Response {
    match polled {
        Ok(polled) => {
            let events = polled.deliveries.iter().filter_map(|delivery| {
                let payload = delivery.packet_for(&caller.actor.user).payload()?;
                Some(PolledEvent { event: &delivery.name, payload })
            });
            answer(Ok(Polled { events: events.collect(), cursor: polled.cursor }))
        }
        Err(error) => failure(&error),
    }
}

fn room_list<'a>(field: &'static str, names: impl Iterator<Item = &'a str>) -> Result<Vec<RoomId>, ApiError> {
    names
        .filter(|room| !room.is_empty())
        .map(|room| RoomId::parse(room).map_err(|error| ApiError::field(field, format!("{field}: each {error}"))))
        .collect()
}
