//! Whose messages are in which blocks of ids, over the bounds of blocks.

use redb::ReadableTable;

use super::*;
use crate::domain::Timestamp;
use crate::domain::privacy::PurgeKind;
use crate::store::embedded::chat::places::block_of;
use crate::store::embedded::engine::failure::Outcome;
use crate::store::embedded::engine::schema::{k16, meta, triple};
use crate::store::embedded::offline::rows::Held;
use crate::store::operations::{
    Act, BeginErasure, EraseSlice, LeaveRoom, MarkRead, Purge, PurgeCursor, RemoveMember, RemoveMessages, RemoveRoom,
};
use crate::store::{ExportCursor, UserItem};

/// Who says something in which room, and in which block.
const SAID: [(&str, &str, u64); 12] = [
    ("7", "r", 0),
    ("8", "r", 0),
    ("7", "s", 0),
    ("7", "r", 0),
    ("8", "r", 1),
    ("7", "s", 1),
    ("7", "r", 1),
    ("9", "r", 1),
    ("8", "s", 3),
    ("7", "r", 3),
    ("9", "s", 3),
    ("7", "s", 3),
];

fn room(text: &str) -> RoomId {
    RoomId::parse(text).unwrap()
}

fn opened(dir: &Path) -> Arc<dyn Store> {
    open(&config(dir), SystemClock::shared(), Arc::new(NoSink)).unwrap()
}

fn changed<T>(dir: &Path, change: impl FnOnce(&mut Tables<'_>) -> Outcome<T>) -> T {
    let file = Held::take(dir).unwrap().open().unwrap();
    let changed = file.write(change).unwrap();
    file.close().unwrap();
    changed
}

/// A store where that was said, the n-th at the moment n + 1; and the ids of it.
async fn made() -> (tempfile::TempDir, Vec<u64>) {
    let dir = tempfile::tempdir().unwrap();
    let mut ids: Vec<u64> = Vec::new();
    for block in [0, 1, 3] {
        opened(dir.path()).close().await.unwrap();
        if block > 0 {
            // As if others had said so much in between.
            let first = (0..).map(|bits| block << bits).find(|id| block_of(*id) == block).unwrap();
            let next = encode(&first, &mut Vec::new()).unwrap().to_vec();
            changed(dir.path(), |tables| {
                tables.meta.write()?.insert(meta::NEXT_ID, next.as_slice())?;
                Ok(())
            });
        }
        let store = opened(dir.path());
        for (n, (who, to, _)) in SAID.iter().enumerate().filter(|(_, said)| said.2 == block) {
            let draft = Draft { room: room(to), author: by(who), client_id: None, ..draft(&n.to_string()) };
            let posted = store.apply(Timestamp(n as u64 + 1), post(draft)).await.unwrap();
            assert_eq!(block_of(posted.id), block);
            ids.push(posted.id);
        }
        store.close().await.unwrap();
    }
    assert_eq!(check(dir.path()).unwrap(), Vec::<String>::new());
    (dir, ids)
}

/// The blocks that there are: of whom, which, and in which rooms, by numbers.
fn blocks(dir: &Path) -> Vec<(u64, u64, u64)> {
    changed(dir, |tables| {
        let rows = tables.msg_blocks.read()?.iter()?.map(|row| Ok(triple(row?.0.value())));
        rows.collect()
    })
}

fn act() -> Act {
    let (actor, origin, target) = ("root".into(), "local".into(), "x".into());
    Act { actor, origin, action: crate::domain::audit::action::PURGE, target, note: String::new() }
}

async fn exported(store: &dyn Store, who: &str, limit: usize) -> Vec<u64> {
    let (mut cursor, mut ids) = (ExportCursor::default(), Vec::new());
    loop {
        let page = store.export_page(by(who).user, cursor, limit).await.unwrap();
        ids.extend(page.items.iter().filter_map(|item| match item {
            UserItem::Message { message, .. } => Some(message.id),
            _ => None,
        }));
        match page.next {
            Some(next) => cursor = next,
            None => return ids,
        }
    }
}

fn said_by(who: &str, ids: &[u64]) -> Vec<u64> {
    SAID.iter().zip(ids).filter(|(said, _)| said.0 == who).map(|(_, id)| *id).collect()
}

#[test]
fn what_somebody_has_said_is_given_in_the_order_of_ids() {
    run(async {
        let (dir, ids) = made().await;
        assert_eq!(
            blocks(dir.path()),
            [(1, 0, 1), (1, 0, 2), (1, 1, 1), (1, 1, 2), (1, 3, 1), (1, 3, 2)]
                .into_iter()
                .chain([(2, 0, 1), (2, 1, 1), (2, 3, 2), (3, 1, 1), (3, 3, 2)])
                .collect::<Vec<_>>()
        );
        let store = opened(dir.path());
        for who in ["7", "8", "9"] {
            let theirs = said_by(who, &ids);
            for limit in 1..9 {
                assert_eq!(exported(&*store, who, limit).await, theirs, "{who}, {limit} a page");
            }
            assert_eq!(store.erasable(by(who).user).await.unwrap().messages, theirs.len() as u64);
        }
        store.close().await.unwrap();
    });
}

#[test]
fn an_erasure_goes_over_blocks_slice_by_slice() {
    run(async {
        for limit in [1, 2, 3, 100] {
            let (dir, ids) = made().await;
            let store = opened(dir.path());
            let user = by("7").user;
            let begin = |floor, is_dry_run| BeginErasure {
                user: user.clone(),
                by: "root".into(),
                consent: false,
                floor: Duration::from_millis(floor),
                is_dry_run,
            };
            // The newest was said at 12.
            let young = store.apply(Timestamp(20), begin(9, true)).await;
            assert_eq!(young, Err(StoreError::Refused(Refusal::BelowFloor)));
            assert!(store.apply(Timestamp(20), begin(8, false)).await.unwrap().is_new);
            let mut erased = 0;
            loop {
                let slice = EraseSlice { user: user.clone(), limit, act: act() };
                let step = store.apply(Timestamp(20), slice).await.unwrap();
                erased += step.counts.messages;
                assert!(is_sound(&*store, dir.path()).await, "at each slice of {limit}");
                if step.is_finished {
                    break;
                }
            }
            assert_eq!(erased, said_by("7", &ids).len() as u64);
            store.close().await.unwrap();
            assert!(blocks(dir.path()).iter().all(|(user, ..)| *user != 1));
            assert_eq!(check(dir.path()).unwrap(), Vec::<String>::new());
            let store = opened(dir.path());
            assert_eq!(exported(&*store, "8", 10).await, said_by("8", &ids));
            store.close().await.unwrap();
        }
    });
}

/// Whether a copy of what is stored is sound.
async fn is_sound(store: &dyn Store, dir: &Path) -> bool {
    // Nothing is under way: what is on disk is what was committed.
    drop(store.row_counts().await.unwrap());
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(dir.join(NAME), copy.path().join(NAME)).unwrap();
    check(copy.path()).unwrap().is_empty()
}

#[test]
fn what_is_looked_at_at_once_has_a_bound() {
    run(async {
        let (dir, mut ids) = made().await;
        let store = opened(dir.path());
        // In one block much of somebody else.
        for n in 0..150 {
            ask(&*store, post(Draft { author: by("8"), ..draft(&format!("much {n}")) })).await.unwrap();
        }
        ids.push(ask(&*store, post(Draft { author: by("9"), ..draft("little") })).await.unwrap().id);
        let theirs: Vec<u64> = said_by("9", &ids).into_iter().chain(ids.last().copied()).collect();
        for limit in [1, 2, 3] {
            assert_eq!(exported(&*store, "9", limit).await, theirs, "{limit} a page");
        }
        // Behind the last of theirs there is much of somebody else: a page that is to have little looks at one block of it.
        let (user, behind) = (by("9").user, ExportCursor { section: 2, after: (theirs[2], 0) });
        let page = store.export_page(user.clone(), behind, 1).await.unwrap();
        let next = page.next.unwrap();
        assert!(page.items.is_empty() && next.section == 2 && next.after > behind.after, "{next:?}");
        assert_eq!(store.export_page(user.clone(), next, 1).await.unwrap().next.unwrap().section, 3);
        assert_eq!(store.export_page(user.clone(), behind, 2).await.unwrap().next.unwrap().section, 3);
        let begin = BeginErasure {
            user: user.clone(),
            by: "root".into(),
            consent: true,
            floor: Duration::ZERO,
            is_dry_run: false,
        };
        ask(&*store, begin).await.unwrap();
        let mut steps = Vec::new();
        loop {
            let step = ask(&*store, EraseSlice { user: user.clone(), limit: 1, act: act() }).await.unwrap();
            steps.push(step.counts.messages);
            if step.is_finished {
                break;
            }
        }
        assert_eq!(steps.iter().sum::<u64>(), 3, "{steps:?}");
        store.close().await.unwrap();
        assert_eq!(check(dir.path()).unwrap(), Vec::<String>::new());
    });
}

#[test]
fn a_purge_leaves_the_blocks_of_what_is_left() {
    run(async {
        for before in 1..=SAID.len() as u64 + 1 {
            let (dir, ids) = made().await;
            let store = opened(dir.path());
            for (who, from) in [("8", "r"), ("9", "r")] {
                ask(&*store, LeaveRoom { room: room(from), user: by(who).user }).await.unwrap();
                ask(&*store, RemoveMember { room: room(from), user: by(who).user }).await.unwrap();
            }
            let mut cursor = Some(PurgeCursor::default());
            while let Some(at) = cursor {
                let purge = Purge {
                    kind: PurgeKind::Chat,
                    before: Timestamp(before),
                    cursor: at,
                    limit: 2,
                    forwarded_to: None,
                    act: act(),
                };
                cursor = store.apply(Timestamp(20), purge).await.unwrap().next;
            }
            for who in ["7", "8", "9"] {
                let old = before as usize - 1;
                let left: Vec<u64> = said_by(who, &ids).into_iter().filter(|id| !ids[..old].contains(id)).collect();
                assert_eq!(exported(&*store, who, 2).await, left, "{who} before {before}");
            }
            // Who is no member any more and has nothing left in a room is not one who has written in it.
            let last = store.last_id();
            store.close().await.unwrap();
            assert_eq!(check(dir.path()).unwrap(), Vec::<String>::new(), "before {before}");
            let numbers =
                |who: u64| SAID.iter().enumerate().filter(move |(_, said)| said.0 == ["7", "8", "9"][who as usize - 1]);
            changed(dir.path(), |tables| {
                for who in [2, 3] {
                    let is_left = numbers(who).any(|(n, said)| said.1 == "r" && n as u64 + 1 >= before);
                    let key = k16(who, 1);
                    assert_eq!(tables.authors.read()?.get(&key)?.is_some(), is_left, "{who} before {before}");
                }
                Ok(())
            });
            // No id is given twice, whatever has gone.
            let store = opened(dir.path());
            assert_eq!(store.last_id(), last);
            let posted = ask(&*store, post(Draft { room: room("r"), ..draft("goes on") })).await.unwrap();
            assert_eq!((posted.id, posted.seq), (last + 1, 8), "before {before}");
            store.close().await.unwrap();
        }
    });
}

#[test]
fn a_room_that_is_removed_leaves_no_blocks() {
    run(async {
        let (dir, ids) = made().await;
        let store = opened(dir.path());
        ask(&*store, RemoveRoom { room: room("r") }).await.unwrap();
        while !ask(&*store, RemoveMessages { limit: 2 }).await.unwrap() {
            assert!(is_sound(&*store, dir.path()).await);
        }
        let in_s = |who| {
            said_by(who, &ids)
                .into_iter()
                .filter(|id| ids.iter().position(|one| one == id).is_some_and(|n| SAID[n].1 == "s"))
        };
        for who in ["7", "8", "9"] {
            assert_eq!(exported(&*store, who, 2).await, in_s(who).collect::<Vec<_>>());
        }
        let last = store.last_id();
        store.close().await.unwrap();
        assert!(blocks(dir.path()).iter().all(|(.., room)| *room == 2));
        assert_eq!(check(dir.path()).unwrap(), Vec::<String>::new());
        let store = opened(dir.path());
        assert_eq!(store.last_id(), last);
        store.close().await.unwrap();
    });
}

#[test]
fn what_no_message_has_is_none_of_a_room() {
    run(async {
        let bed = Bed::new();
        let said = bed.say("one").await.unwrap();
        let store: &dyn Store = &*bed.store;
        // Among them what stands for a member.
        for id in [0, said.id + 1, u64::MAX >> 1, (1 << 63) | 1, u64::MAX] {
            let mark = MarkRead { room: room("r"), reader: author(), message_id: id, policy: OPEN };
            assert_eq!(ask(&*bed.store, mark).await, Err(StoreError::Refused(Refusal::NotFound)), "{id}");
            assert!(store.withheld(room("r"), vec![id]).await.unwrap().is_empty());
            let after = id.max(2);
            assert!(store.members(room("r"), after, 9).await.unwrap().members.is_empty());
            let page = Page { before: Some(id.max(2)), after: None, limit: 9 };
            assert_eq!(bed.store.history(room("r"), author(), page, OPEN).await.unwrap().messages.len(), 1);
        }
        bed.end().await;
    });
}
