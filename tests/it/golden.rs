//! What clients see, frozen: one JSON of each event and of each kind of answer. A change here is a change of the contract.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use academy_rt::archive::format::Header;
use academy_rt::domain::audit::{AuditEntry, Link, action};
use academy_rt::domain::chat::{Membership, Message, MessageKind};
use academy_rt::domain::notification::{Audience, Notification, NotificationBody};
use academy_rt::domain::privacy::{Certificate, ErasureCounts, Hold, Subject};
use academy_rt::domain::progress::{Percent, Progress, Status};
use academy_rt::domain::room_state::RoomState;
use academy_rt::domain::{LessonId, Role, RoomId, Timestamp, UserId};
use academy_rt::protocol::admin::data::{AuditView, HoldView};
use academy_rt::protocol::answer::{Failed, Joined, MessagePosted, Ok as OkAnswer, ProgressSynced};
use academy_rt::protocol::error::{ApiError, ErrorCode};
use academy_rt::protocol::event::{RoomGuest, ServerEvent};
use academy_rt::protocol::view::Session;

fn written() -> String {
    let (user, room, at) =
        (UserId::parse("7").unwrap(), RoomId::parse("room-123").unwrap(), Timestamp(1_795_447_502_545));
    let message = Message {
        id: 12,
        seq: 3,
        room: room.clone(),
        sender: user.clone(),
        sender_name: "Ann".into(),
        content: "Hello!".into(),
        kind: MessageKind::Text,
        reply_to: Some(11),
        client_id: Some("c-1".into()),
        at,
        edited_at: None,
        deleted_at: None,
        edited_by: None,
        deleted_by: None,
    };
    let progress = Progress {
        user: user.clone(),
        lesson: LessonId::parse("42").unwrap(),
        progress: Percent::new(75.0).unwrap(),
        time_spent: 120,
        status: Status::InProgress,
        version: 1,
        course: Some(LessonId::parse("fr-2").unwrap()),
        module: None,
        updated_at: at,
        completed_at: None,
    };
    let notification = Notification {
        id: 13,
        audience: Audience::All,
        body: NotificationBody {
            kind: "info".into(),
            title: "Reminder".into(),
            message: "Lesson at 10".into(),
            title_fr: Some("Rappel".into()),
            message_fr: Some("Cours à 10 h".into()),
            link: Some("/lessons/42".into()),
            metadata: Some(r#"{"b":1,"a":2}"#.into()),
        },
        at,
        read: false,
    };
    let guest = || RoomGuest { room_id: &room, user_id: &user, user_name: "Ann", timestamp: at };
    let error = ApiError::field("roomId", "roomId is missing");
    let limited = ApiError::rate_limited(std::time::Duration::from_millis(120), "too many messages");
    let events = [
        ServerEvent::Authenticated(Session {
            user_id: &user,
            name: "Ann",
            role: Some(Role::Hr),
            roles: &[Role::Hr],
            rooms: vec!["hr".into(), "user:7".into(), "all".into()],
            expires_at: None,
            server_time: at,
            unread: 2,
            store_id: "5f0c3a9e".into(),
        }),
        ServerEvent::AuthError(&ApiError::new(ErrorCode::TokenExpired, "the token has expired")),
        ServerEvent::AuthExpiring { expires_at: at },
        ServerEvent::ServerDraining { retry_after_ms: 1_250 },
        ServerEvent::RequestError { event: "chat:join", error: &error, room: None },
        ServerEvent::ChatMessage((&message).into()),
        ServerEvent::ChatMessageEdited {
            room_id: &room,
            message_id: 12,
            new_content: "Hi",
            edited_at: at,
            id: 14,
            edited_by: None,
        },
        ServerEvent::ChatMessageDeleted {
            room_id: &room,
            message_id: 12,
            deleted_at: at,
            id: 15,
            deleted_by: Some(&user),
        },
        ServerEvent::ChatUserJoined(guest()),
        ServerEvent::ChatUserLeft(guest()),
        ServerEvent::ChatTyping { room_id: &room, user_id: &user, user_name: "Ann", is_typing: true },
        ServerEvent::ChatRead { room_id: &room, user_id: &user, message_id: 12 },
        ServerEvent::ChatState { room_id: &room, state: RoomState { locked: true, slow_seconds: 30 }.into(), id: 14 },
        ServerEvent::ChatMuted { room_id: Some(&room), user_id: &user, until: Some(at) },
        ServerEvent::ChatMuted { room_id: None, user_id: &user, until: None },
        ServerEvent::ChatReported {
            report_id: 15,
            room_id: &room,
            message_id: 12,
            reported_at: at,
            resolved_at: None,
            id: 15,
        },
        ServerEvent::ProgressUpdated((&progress).into()),
        ServerEvent::NotificationNew((&notification).into()),
        ServerEvent::NotificationUpdated { ids: Some(&[13]), up_to: None, read: true, unread: 1 },
        ServerEvent::NotificationUpdated { ids: None, up_to: None, read: false, unread: 0 },
        ServerEvent::NotificationUpdated { ids: None, up_to: Some(13), read: true, unread: 2 },
        ServerEvent::PresenceChanged { user_id: &user, online: false, last_seen: at },
    ];
    let mut text = String::new();
    for event in &events {
        // The JSON array, without what says that it is an event.
        writeln!(text, "{}", String::from_utf8_lossy(&event.encode().text()[2..])).unwrap();
    }
    let mut answer = |json: String| writeln!(text, "{json}").unwrap();
    let posted = MessagePosted { id: 12, seq: 3, timestamp: at, duplicate: true };
    answer(serde_json::to_string(&OkAnswer::new(posted)).unwrap());
    let joined = Joined {
        room_id: room.clone(),
        last_id: 12,
        last_seq: 3,
        messages: vec![message.clone()],
        has_more: true,
        members: 2,
        read_up_to: 11,
        membership: Some(Membership::Member),
        state: RoomState { locked: true, slow_seconds: 30 }.into(),
        muted_until: None,
    };
    answer(serde_json::to_string(&OkAnswer::new(joined)).unwrap());
    let synced = ProgressSynced { progress: progress.clone(), duplicate: false, merged: true };
    answer(serde_json::to_string(&OkAnswer::new(synced)).unwrap());
    answer(serde_json::to_string(&Failed::new(&error)).unwrap());
    answer(serde_json::to_string(&Failed::new(&limited)).unwrap());
    // What administrators are answered, and the header of a backup: files of years ago must be understood.
    let hold = Hold { number: 3, subject: Subject::Room(room.clone()), reason: "case 12".into(), by: "1".into(), at };
    answer(serde_json::to_string(&HoldView::from(&hold)).unwrap());
    let entry = AuditEntry {
        at,
        actor: "1".into(),
        origin: "10.0.0.7".into(),
        action: action::USER_ERASE.into(),
        target: "user 7".into(),
        outcome: "done".into(),
    };
    answer(serde_json::to_string(&AuditView::from(&Link::START.next(entry))).unwrap());
    let certificate = Certificate {
        user_id: user.clone(),
        erased_at: at,
        by: "1".into(),
        consent: false,
        store_id: "00".repeat(16),
        counts: ErasureCounts { messages: 2, ..ErasureCounts::default() },
        hash: "ab".repeat(32),
    };
    answer(serde_json::to_string(&certificate).unwrap());
    let header = Header {
        layout: 1,
        application: "0.1.0".into(),
        format: 2,
        created_at: at,
        store_id: "00".repeat(16),
        epoch: 1,
        next_id: 14,
        rows: 100,
        audit_head: None,
    };
    answer(serde_json::to_string(&header).unwrap());
    text
}

#[test]
fn the_wire_is_as_it_was() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/golden/wire.jsonl");
    let written = written();
    if std::env::var_os("ACADEMY_RT_REGENERATE").is_some() {
        fs::write(&path, &written).unwrap();
    }
    let known = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(written, known, "if the contract is to change, renew it with ACADEMY_RT_REGENERATE=1");
}
