//! What `check` finds when somebody, or a mistake of the writer, has changed a row.

use super::*;
use crate::domain::audit::AuditEntry;
use crate::domain::notification::{Audience, AudienceKind, Selection};
use crate::domain::privacy::{Hold, Subject};
use crate::domain::{Role, Timestamp};
use crate::store::embedded::access::rows::{decode_room, encode_room};
use crate::store::embedded::chat::places::member_key;
use crate::store::embedded::chat::rows::{InRoom, RoomChangeRow};
use crate::store::embedded::engine::codec::get;
use crate::store::embedded::engine::counts;
use crate::store::embedded::engine::failure::Outcome;
use crate::store::embedded::engine::schema::{external_hash, external_key, k16, k24};
use crate::store::embedded::inbox::view as flags;
use crate::store::embedded::inbox::view::{audience_space, deleted_space, user_space};
use crate::store::embedded::offline::rows::Held;
use crate::store::operations::{
    Act, Arrive, BeginErasure, DeleteMessage, EraseSlice, ExternalId, InboxAction, MarkInbox, Record, SetHold,
};

/// The numbers and ids of what [`lived_in`] makes.
const USER: u64 = 1;
const ROOM: u64 = 1;
const NAMED: u64 = 2;
const DELETED: u64 = 3;
const DELETION: u64 = 4;
const FOR_ALL: u64 = 5;
const FOR_ONE: u64 = 6;
const OTHER_USER: u64 = 2;
const OTHER_ROOM: u64 = 2;
const FOR_ALL_TOO: u64 = 8;

fn external() -> ExternalId {
    ExternalId { caller: UserId::parse("svc").unwrap(), name: "order-1".into() }
}

fn for_all() -> u64 {
    audience_space(crate::store::embedded::inbox::view::audience_code(&Audience::All).unwrap())
}

/// A store in which there is something of everything that is kept beside what it is kept of.
async fn lived_in() -> Bed {
    let bed = Bed::new();
    let (store, room) = (&*bed.store, RoomId::parse("r").unwrap());
    let Author { user, name, .. } = author();
    let roles = vec![Role::Learner];
    ask(store, Arrive { user: user.clone(), name, roles: roles.clone() }).await.unwrap();
    let (subject, reason, by) = (Subject::Room(room.clone()), "case".to_owned(), "root".to_owned());
    ask(store, SetHold { hold: Hold { number: 0, subject, reason, by, at: Timestamp(1) } }).await.unwrap();
    // A hold of a room that is not there yet holds it from its first message on.
    let named = ask(store, PostMessage { external_id: Some(external()), ..post(draft("named")) }).await.unwrap();
    let deleted = bed.say("deleted").await.unwrap();
    assert_eq!((named.id, deleted.id), (NAMED, DELETED));
    let target = MessageTarget::Id(DELETED);
    ask(store, DeleteMessage { room, target, author: author(), policy: OPEN, key: None, act: None }).await.unwrap();
    ask(store, note(Audience::All)).await.unwrap();
    let one = ask(store, note(Audience::Users(vec![user.clone()]))).await.unwrap();
    assert_eq!(one.notification.id, FOR_ONE);
    let (selection, action) = (Selection::Ids(vec![FOR_ALL]), InboxAction::Read);
    let read = MarkInbox { user, roles, selection, action, origin: None };
    ask(store, read.clone()).await.unwrap();
    assert_eq!(ask(store, note(Audience::All)).await.unwrap().notification.id, FOR_ALL_TOO);
    let (selection, action) = (Selection::Ids(vec![FOR_ALL_TOO]), InboxAction::Delete);
    ask(store, MarkInbox { selection, action, ..read }).await.unwrap();
    // Somebody who has written once, in another room.
    let (other, by) = (RoomId::parse("s").unwrap(), Author { user: UserId::parse("8").unwrap(), ..author() });
    ask(store, post(Draft { room: other, author: by, ..draft("once") })).await.unwrap();
    let entry = |n: u64| AuditEntry {
        at: Timestamp(n),
        actor: "root".into(),
        origin: "local".into(),
        action: crate::domain::audit::action::BACKUP.into(),
        target: n.to_string(),
        outcome: "done".into(),
    };
    for n in 1..=3 {
        ask(store, Record { entry: entry(n) }).await.unwrap();
    }
    bed
}

/// Changes rows, and what is to be found then.
type Tampering = (&'static str, fn(&mut Tables<'_>) -> Outcome<()>);

const TAMPERINGS: [Tampering; 37] = [
    ("message 3: the index of room 1 does not have it as 2", |t| put_place(t, ROOM, DELETED, 3, USER)),
    ("message 3: the index of room 1 does not have it as 2", |t| put_place(t, ROOM, DELETED, 2, OTHER_USER)),
    ("the index of rooms has 4 messages, the log 3", |t| put_place(t, OTHER_ROOM, 999, 2, USER)),
    ("message 2: the blocks of its sender do not have it", |t| {
        t.msg_blocks.write()?.remove(&k24(USER, 0, ROOM))?;
        Ok(())
    }),
    ("user 1: has nothing in block 0 of room 2, which says otherwise", |t| {
        t.msg_blocks.write()?.insert(&k24(USER, 0, OTHER_ROOM), ())?;
        Ok(())
    }),
    ("the lists of members and of their rooms differ in length", |t| {
        t.in_rooms.write()?.remove(&member_key(ROOM, USER))?;
        Ok(())
    }),
    ("change 999 of room 1: is beyond the last id", |t| {
        let row = encode(&RoomChangeRow::Deleted(DELETED), &mut Vec::new())?.to_vec();
        t.changes_by_room.write()?.insert(&k16(ROOM, 999), row.as_slice())?;
        Ok(())
    }),
    ("the table members is not kept any more, and has rows", |t| {
        t.members.write()?.insert(&k16(ROOM, USER), [].as_slice())?;
        Ok(())
    }),
    ("has written in room 2, which is not known", |t| {
        t.authors.write()?.remove(&k16(OTHER_USER, OTHER_ROOM))?;
        Ok(())
    }),
    ("room 1: its record ends at 2 (2), its messages at 3 (2)", |t| {
        let mut record = get(t.rooms.read()?, &k8(ROOM), decode_room)?.unwrap();
        record.last_id = NAMED;
        t.rooms.write()?.insert(&k8(ROOM), encode_room(&record, &mut Vec::new())?)?;
        Ok(())
    }),
    ("room 1: its record ends at 3 (7), its messages at 3 (2)", |t| {
        let mut record = get(t.rooms.read()?, &k8(ROOM), decode_room)?.unwrap();
        record.last_seq = 7;
        t.rooms.write()?.insert(&k8(ROOM), encode_room(&record, &mut Vec::new())?)?;
        Ok(())
    }),
    ("notification 6: user 7 does not see it", |t| {
        t.inbox.write()?.insert(&k16(USER, FOR_ONE), encode(&flags::READ, &mut Vec::new())?)?;
        Ok(())
    }),
    ("notification 999: is in the inbox of user 1, but not there", |t| {
        t.inbox.write()?.insert(&k16(USER, 999), encode(&flags::NAMED, &mut Vec::new())?)?;
        Ok(())
    }),
    ("notification 5: is not counted in the inbox of user 1", |t| {
        counts::change(t.inbox_counts.write()?, user_space(USER, AudienceKind::All), FOR_ALL, false)
    }),
    ("audit log: the chain ends at record 2, and should end at record 3", |t| {
        t.audit.write()?.remove(&k8(3))?;
        Ok(())
    }),
    ("audit log: ", |t| {
        t.audit.write()?.remove(&k8(2))?;
        Ok(())
    }),
    ("audit log: ", |t| {
        t.audit.write()?.remove(&k8(1))?;
        Ok(())
    }),
    ("has written in room 1, which is not known", |t| {
        t.authors.write()?.remove(&k16(USER, ROOM))?;
        Ok(())
    }),
    ("is a tombstone that is not counted", |t| counts::change(t.tombstones.write()?, ROOM, 2, false)),
    ("2 are counted", |t| counts::change(t.tombstones.write()?, ROOM, 1, true)),
    ("its record says 5", |t| {
        let mut record = get(t.rooms.read()?, &k8(ROOM), decode_room)?.unwrap();
        record.deleted = 5;
        t.rooms.write()?.insert(&k8(ROOM), encode_room(&record, &mut Vec::new())?)?;
        Ok(())
    }),
    ("has 2 notifications, 1 are counted", |t| counts::change(t.inbox_counts.write()?, for_all(), FOR_ALL, false)),
    ("audience 4: has 0 notifications, 1 are counted", |t| {
        counts::change(t.inbox_counts.write()?, audience_space(4), FOR_ALL, true)
    }),
    ("has 2 notifications, 3 are counted", |t| counts::change(t.inbox_counts.write()?, for_all(), FOR_ONE, true)),
    ("is not counted in the inbox of user 1", |t| {
        counts::change(t.inbox_counts.write()?, user_space(USER, AudienceKind::Named), FOR_ONE, false)
    }),
    ("is counted in the inbox of user 1, and should not be", |t| {
        counts::change(t.inbox_counts.write()?, user_space(USER, AudienceKind::All), 999, true)
    }),
    ("is counted in the inbox of user 1, and should not be", |t| {
        counts::change(t.inbox_counts.write()?, user_space(USER, AudienceKind::Named), FOR_ALL, true)
    }),
    ("is not listed in the inbox of user 1", |t| {
        t.named.write()?.remove(&k16(USER, FOR_ONE))?;
        Ok(())
    }),
    ("is listed in the inbox of user 1, and should not be", |t| {
        t.named.write()?.insert(&k16(USER, FOR_ALL), ())?;
        Ok(())
    }),
    ("is not counted as deleted by user 1", |t| {
        counts::change(t.inbox_counts.write()?, deleted_space(USER, AudienceKind::All), FOR_ALL_TOO, false)
    }),
    ("is counted in the inbox of user 1, and should not be", |t| {
        counts::change(t.inbox_counts.write()?, deleted_space(USER, AudienceKind::All), FOR_ALL, true)
    }),
    ("block 0 of level 1 says 9, below it are 2", |t| {
        let key = k16(user_space(USER, AudienceKind::All), 1 << 56);
        t.inbox_counts.write()?.insert(&key, encode(&9u64, &mut Vec::new())?)?;
        Ok(())
    }),
    ("a block is missing", |t| {
        t.tombstones.write()?.remove(&k16(ROOM, 3 << 56))?;
        Ok(())
    }),
    ("a back end's name leads to it, and it does not know the name", |t| {
        t.external_by_message.write()?.remove(&k8(NAMED))?;
        Ok(())
    }),
    ("more or fewer names that back ends gave", |t| {
        let ExternalId { caller, name } = external();
        t.external_ids.write()?.remove(&external_key(ROOM, external_hash(&caller, &name)))?;
        Ok(())
    }),
    ("message 999: has a withheld version, but is not there", |t| {
        let row = get(t.withheld.read()?, &k16(DELETED, DELETION), |row| Ok(row.to_vec()))?.unwrap();
        t.withheld.write()?.insert(&k16(999, DELETION), row.as_slice())?;
        Ok(())
    }),
    ("unknown codec 9", |t| {
        t.outbox.write()?.insert(&k8(1), [9].as_slice())?;
        Ok(())
    }),
];

fn put_place(tables: &mut Tables<'_>, room: u64, id: u64, seq: u64, sender: u64) -> Outcome<()> {
    let at = get(tables.in_rooms.read()?, &k16(ROOM, DELETED), InRoom::decode)?.unwrap().at;
    let row = InRoom { seq, at, sender }.encode(&mut Vec::new())?.to_vec();
    tables.in_rooms.write()?.insert(&k16(room, id), row.as_slice())?;
    Ok(())
}

#[test]
fn what_was_tampered_with_is_found() {
    run(async {
        let bed = lived_in().await;
        bed.store.close().await.unwrap();
        assert_eq!(check(bed.dir.path()).unwrap(), Vec::<String>::new());
        for (expected, tamper) in TAMPERINGS {
            let dir = tempfile::tempdir().unwrap();
            std::fs::copy(bed.dir.path().join(NAME), dir.path().join(NAME)).unwrap();
            let file = Held::take(dir.path()).unwrap().open().unwrap();
            file.write(tamper).unwrap();
            file.close().unwrap();
            let found = check(dir.path()).unwrap();
            assert!(found.iter().any(|what| what.contains(expected)), "{expected}: {found:?}");
        }
    });
}

#[test]
fn what_is_on_its_way_out_is_no_fault() {
    run(async {
        let bed = lived_in().await;
        let user = author().user;
        for n in 0..3 {
            ask(&*bed.store, note(Audience::Users(vec![user.clone()]))).await.unwrap();
            bed.say(&n.to_string()).await.unwrap();
        }
        // An erasure that has not come to its end has taken rows of an inbox, and not what is counted of them.
        let (subject, by) = (Subject::Room(RoomId::parse("r").unwrap()), "root".to_owned());
        ask(&*bed.store, crate::store::operations::ReleaseHold { subject, number: None }).await.unwrap();
        let begin = BeginErasure { user: user.clone(), by, consent: true, floor: Duration::ZERO, is_dry_run: false };
        ask(&*bed.store, begin).await.unwrap();
        let inbox = async || {
            let rows = bed.store.row_counts().await.unwrap();
            rows.iter().find(|(name, _)| *name == "inbox").unwrap().1
        };
        let before = inbox().await;
        while inbox().await == before {
            let act = Act {
                actor: "root".into(),
                origin: "local".into(),
                action: crate::domain::audit::action::USER_ERASE,
                target: "user 7".into(),
                note: String::new(),
            };
            let step = ask(&*bed.store, EraseSlice { user: user.clone(), limit: 1, act }).await.unwrap();
            assert!(!step.is_finished);
        }
        bed.store.close().await.unwrap();
        // A mark may outlive what it is on until it is swept away; a name must not.
        let file = Held::take(bed.dir.path()).unwrap().open().unwrap();
        let mark = |tables: &mut Tables<'_>| {
            tables.inbox.write()?.insert(&k16(OTHER_USER, 999), encode(&flags::READ, &mut Vec::new())?)?;
            Ok(())
        };
        file.write(mark).unwrap();
        file.close().unwrap();
        assert_eq!(check(bed.dir.path()).unwrap(), Vec::<String>::new());
    });
}

#[test]
fn a_page_that_is_damaged_is_found() {
    run(async {
        let bed = Bed::new();
        bed.say("a text that is looked for in the file").await.unwrap();
        bed.store.close().await.unwrap();
        let path = bed.dir.path().join(NAME);
        let mut bytes = std::fs::read(&path).unwrap();
        let text = b"a text that is looked for";
        let found: Vec<usize> = (0..bytes.len() - text.len()).filter(|at| bytes[*at..].starts_with(text)).collect();
        for at in found {
            bytes[at] ^= 1;
        }
        std::fs::write(&path, bytes).unwrap();
        assert_ne!(check(bed.dir.path()).unwrap(), Vec::<String>::new());
    });
}
