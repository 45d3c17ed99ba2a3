//! What a store that takes another one's place takes over from it.

use super::*;
use crate::domain::access::{Ban, Banned};
use crate::domain::audit::{AuditEntry, Link, action};
use crate::domain::privacy::PurgeKind;
use crate::domain::privacy::{Erasure, Hold, Subject};
use crate::domain::{Id, Timestamp};
use crate::store::Audits;
use crate::store::embedded::engine::schema::meta;
use crate::store::embedded::offline::carry_forward::Carried;
use crate::store::embedded::offline::migrate::migrate;
use crate::store::embedded::offline::rows::{Held, OfflineFile};
use crate::store::operations::{
    Act, AwaitedTarget, BeginErasure, EraseSlice, LiftBan, NoteForwarded, PruneWithheld, Purge, PurgeCursor, Record,
    ReleaseHold, SetBan, SetHold,
};

const NOW: Timestamp = Timestamp(900_000);

fn user(text: &str) -> UserId {
    UserId::parse(text).unwrap()
}

fn room(text: &str) -> Subject {
    Subject::Room(RoomId::parse(text).unwrap())
}

async fn at<O: Operation>(bed: &Bed, at: u64, operation: O) -> O::Answer {
    let store: &dyn Store = &*bed.store;
    store.apply(Timestamp(at), operation).await.unwrap()
}

async fn say(bed: &Bed, to: &str, who: &str) {
    let room = RoomId::parse(to).unwrap();
    let author = Author { user: user(who), ..author() };
    at(bed, 1, post(Draft { room, author, client_id: None, ..draft("x") })).await;
}

fn act(action: &'static str) -> Act {
    Act { actor: "root".into(), origin: "local".into(), action, target: "t".into(), note: String::new() }
}

async fn begin_erasure(bed: &Bed, time: u64, who: &str) {
    let begin =
        BeginErasure { user: user(who), by: "root".into(), consent: true, floor: Duration::ZERO, is_dry_run: false };
    assert!(at(bed, time, begin).await.is_new);
}

async fn erase(bed: &Bed, time: u64, who: &str) {
    begin_erasure(bed, time, who).await;
    let slice = || EraseSlice { user: user(who), limit: 100, act: act(action::USER_ERASE) };
    while !at(bed, time, slice()).await.is_finished {}
}

async fn record(bed: &Bed, time: u64) {
    let (actor, origin, action) = ("root".to_owned(), "local".to_owned(), action::BACKUP.to_owned());
    let entry = AuditEntry { at: Timestamp(time), actor, origin, action, target: "t".into(), outcome: "done".into() };
    at(bed, time, Record { entry }).await;
}

/// A purge by age keeps what the receiver of the audit log has not taken, up to the bound, and says what goes beyond it.
#[test]
fn a_purge_keeps_what_is_not_forwarded_yet() {
    run(async {
        let bed = Bed::new();
        for time in 1..=10 {
            record(&bed, time).await;
        }
        let purge = |before: u64, target: &str, most: u64| Purge {
            kind: PurgeKind::Audit,
            before: Timestamp(before),
            cursor: PurgeCursor::default(),
            limit: 3,
            forwarded_to: Some(AwaitedTarget { target: target.into(), most }),
            act: act(action::PURGE),
        };
        let begins = async || bed.store.audit_ends().await.unwrap().0.number;
        let all = async |mut one: Purge| {
            let mut lost = 0;
            loop {
                let step = at(&bed, 100, one.clone()).await;
                lost += step.unforwarded;
                match step.next {
                    Some(next) => one.cursor = next,
                    None => return lost,
                }
            }
        };
        assert_eq!((all(purge(50, "tls://a:1", 100)).await, begins().await), (0, 0), "nothing is forwarded");
        let link = Link::from(&bed.store.audit(3, 1).await.unwrap()[0]);
        at(&bed, 60, NoteForwarded { target: "tls://a:1".into(), link }).await;
        assert_eq!((all(purge(50, "tls://b:1", 100)).await, begins().await), (0, 0), "that was another target");
        assert_eq!((all(purge(50, "tls://a:1", 100)).await, begins().await), (0, 4));
        // The head is at 13 with the record of the beginning: four stay for the receiver.
        assert_eq!((all(purge(50, "tls://a:1", 4)).await, begins().await), (5, 9));
        let records = bed.store.audit(9, 100).await.unwrap();
        let last = &records.last().unwrap().entry.outcome;
        assert_eq!(last, "done: 5 purged, 5 of them were not forwarded, 0 held");
    });
}

async fn hold(bed: &Bed, subject: Subject) {
    let hold = Hold { number: 0, subject, reason: "case".into(), by: "root".into(), at: Timestamp(5) };
    at(bed, 5, SetHold { hold }).await;
}

async fn ban(bed: &Bed, who: &str) {
    let (ban, by, before) = (Ban::User(user(who)), "root".to_owned(), Timestamp(0));
    at(bed, 5, SetBan { banned: Banned { ban, before, until: None, by, at: Timestamp(5) } }).await;
}

/// Another store with the same content, as a backup of now would give.
async fn backed_up(bed: Bed) -> (Bed, tempfile::TempDir) {
    bed.store.close().await.unwrap();
    let backup = tempfile::tempdir().unwrap();
    std::fs::copy(bed.dir.path().join(NAME), backup.path().join(NAME)).unwrap();
    (bed.reopen(), backup)
}

impl Bed {
    fn reopen(self) -> Bed {
        let free = Box::new(|| Ok(u64::MAX));
        let (config, clock) = (config(self.dir.path()), SystemClock::shared());
        let store = Embedded::open(&config, clock, self.heard.clone(), self.disk.clone(), free).unwrap();
        Bed { store: Arc::new(store), ..self }
    }
}

fn offline(dir: &Path) -> OfflineFile {
    Held::take(dir).unwrap().open().unwrap()
}

fn carry(to: &Path, from: &Path) -> Carried {
    let (to, from) = (offline(to), offline(from));
    let carried = to.carry_over(&from, NOW).unwrap();
    to.close().unwrap();
    carried
}

/// Whose erasures a store knows: since when, whether they have ended, how many messages they took.
fn erasures(dir: &Path) -> Vec<(String, u64, bool, u64)> {
    let shown = |one: &Erasure| (one.user.canonical(), one.at.0, one.finished_at.is_some(), one.counts.messages);
    offline(dir).erasures().unwrap().iter().map(shown).collect()
}

fn subjects(dir: &Path) -> Vec<String> {
    offline(dir).holds().unwrap().iter().map(|hold| hold.subject.to_string()).collect()
}

#[test]
fn a_backup_takes_over_what_has_been_done_since() {
    run(async {
        let bed = Bed::new();
        for (who, at) in [("5", 12), ("6", 10)] {
            say(&bed, "r", who).await;
            erase(&bed, at, who).await;
        }
        for who in ["6", "7", "7", "8", "8", "8", "9"] {
            say(&bed, "r", who).await;
        }
        hold(&bed, room("released")).await;
        hold(&bed, room("kept")).await;
        ban(&bed, "lifted").await;
        ban(&bed, "stays").await;
        let (bed, backup) = backed_up(bed).await;
        // Since then: somebody who came again is erased again, one for the first time; one erasure is under way.
        erase(&bed, 20, "6").await;
        erase(&bed, 20, "7").await;
        begin_erasure(&bed, 20, "8").await;
        at(&bed, 30, ReleaseHold { subject: room("released"), number: None }).await;
        hold(&bed, room("new")).await;
        at(&bed, 30, LiftBan { ban: Ban::User(user("lifted")) }).await;
        ban(&bed, "new").await;
        ban(&bed, "newer").await;
        bed.store.close().await.unwrap();

        let (to, from) = (backup.path(), bed.dir.path());
        let records = |dir| offline(dir).audit_after(0, 1_000).unwrap();
        let since = (records(from).len() - records(to).len()) as u64;
        assert_eq!(since, 2, "each erasure that has ended has a record");
        let carried = carry(to, from);
        let erased = ["6", "7", "8"].map(user).to_vec();
        let expected =
            Carried { erased, holds: 2, bans: 3, audit: since, is_same_audit_log: true, is_incomplete: false };
        assert_eq!(carried, expected);
        let one = |who: &str, at, is_finished, messages| (who.to_owned(), at, is_finished, messages);
        // What has ended keeps its certificate, with what was counted then; what has not says what it took here.
        let known = [one("5", 12, true, 1), one("6", 20, true, 1), one("7", 20, true, 2), one("8", 20, false, 3)];
        assert_eq!(erasures(to), known);
        assert_eq!(subjects(to), ["room kept", "room new"]);
        assert_eq!(records(to), records(from));
        assert_eq!(offline(to).audit_ends().unwrap(), offline(from).audit_ends().unwrap());
        assert_eq!(check(to).unwrap(), Vec::<String>::new());
        // Once more changes nothing.
        assert_eq!(carry(to, from), Carried { erased: Vec::new(), audit: 0, ..carried });
        assert_eq!((erasures(to), records(to)), (known.to_vec(), records(from)));

        let store = open(&config(to), SystemClock::shared(), Arc::new(NoSink)).unwrap();
        let mut banned: Vec<String> = store.bans().await.unwrap().iter().map(|one| one.ban.to_string()).collect();
        banned.sort();
        assert_eq!(banned, ["user new", "user newer", "user stays"]);
        // What the released hold had kept goes before anything is held anew.
        let late =
            Hold { number: 0, subject: room("late"), reason: "case".into(), by: "root".into(), at: Timestamp(5) };
        let held = ask(&*store, SetHold { hold: late.clone() }).await;
        assert_eq!(held, Err(StoreError::Refused(Refusal::Unsettled)));
        assert!(ask(&*store, PruneWithheld { limit: 9 }).await.unwrap());
        ask(&*store, SetHold { hold: late }).await.unwrap();
        store.close().await.unwrap();
    });
}

#[test]
fn holds_that_stand_in_both_leave_nothing_to_be_settled() {
    run(async {
        let bed = Bed::new();
        hold(&bed, room("kept")).await;
        let (bed, backup) = backed_up(bed).await;
        bed.store.close().await.unwrap();
        assert_eq!(carry(backup.path(), bed.dir.path()).holds, 1);
        let store = open(&config(backup.path()), SystemClock::shared(), Arc::new(NoSink)).unwrap();
        let hold =
            Hold { number: 0, subject: room("late"), reason: "case".into(), by: "root".into(), at: Timestamp(5) };
        ask(&*store, SetHold { hold }).await.unwrap();
        store.close().await.unwrap();
    });
}

/// Whether every record of a trail is in another one behind a carrying over, and how many were added.
fn trails(to: &Path, from: &Path) -> (bool, u64) {
    let carried = carry(to, from);
    (carried.is_same_audit_log, carried.audit)
}

#[test]
fn a_trail_is_carried_over_where_it_is_the_same_one() {
    run(async {
        let empty = Bed::new();
        empty.store.close().await.unwrap();
        let foreign = Bed::new();
        for n in 0..9 {
            record(&foreign, n).await;
        }
        foreign.store.close().await.unwrap();
        let bed = Bed::new();
        for n in 1..=4 {
            record(&bed, n * 10).await;
        }
        let (bed, backup) = backed_up(bed).await;
        for n in 5..=6 {
            record(&bed, n * 10).await;
        }
        bed.store.close().await.unwrap();
        let (newer, older) = (bed.dir.path().to_owned(), backup.path().to_owned());
        let (newer, older) = (newer.as_path(), older.as_path());
        // A trail that goes on from where the other one ends has all of it; one of nothing has nothing to carry.
        assert_eq!(trails(newer, older), (true, 0));
        assert_eq!(trails(newer, empty.dir.path()), (true, 0));
        assert_eq!(trails(newer, foreign.dir.path()), (false, 0), "it goes on by itself");
        assert_eq!(offline(newer).audit_ends().unwrap().1.number, 6);
        // The older one gets what it does not have, even if all that both knew has been purged.
        let bed = bed.reopen();
        let purge = Purge {
            kind: PurgeKind::Audit,
            before: Timestamp(45),
            cursor: PurgeCursor::default(),
            limit: 100,
            forwarded_to: None,
            act: act(action::PURGE),
        };
        assert_eq!(at(&bed, 100, purge).await.purged, 4);
        bed.store.close().await.unwrap();
        let ends = offline(newer).audit_ends().unwrap();
        assert_eq!((ends.0, ends.1.number), (offline(older).audit_ends().unwrap().1, 8));
        assert_eq!(trails(newer, older), (true, 0), "the other one ends where this one begins");
        assert_eq!(trails(older, newer), (true, 4));
        let (begin, end) = offline(older).audit_ends().unwrap();
        assert_eq!((begin, end), (Link::START, ends.1));
        assert_eq!(check(older).unwrap(), Vec::<String>::new());
    });
}

#[test]
fn an_older_format_gives_what_it_knows() {
    run(async {
        let bed = Bed::new();
        let (bed, backup) = backed_up(bed).await;
        hold(&bed, room("kept")).await;
        ban(&bed, "7").await;
        bed.store.close().await.unwrap();
        for (format, holds, bans) in [(1u32, 0, 0), (2, 1, 0), (3, 1, 1)] {
            let file = offline(bed.dir.path());
            let written = file.write(|tables| {
                tables.meta.write()?.insert(meta::FORMAT, encode(&format, &mut Vec::new())?)?;
                Ok(())
            });
            written.unwrap();
            file.close().unwrap();
            let carried = carry(backup.path(), bed.dir.path());
            assert_eq!(
                (carried.holds, carried.bans, carried.is_same_audit_log),
                (holds, bans, true),
                "format {format}"
            );
        }
    });
}

/// With the accent as a character of its own, and in the normal form.
const JOSE: [&str; 2] = ["jose\u{301}", "jos\u{e9}"];

/// Somebody by an id as it was stored before format 8.
fn of_before(text: &str) -> UserId {
    UserId::stored(Id::Text(text.into()))
}

/// A message of somebody of before, in a room of that name.
async fn say_before(bed: &Bed, to: &str, who: &str) {
    let (room, author) = (RoomId::parse(to).unwrap(), Author { user: of_before(who), ..author() });
    at(bed, 1, post(Draft { room, author, client_id: None, ..draft("x") })).await;
}

async fn erase_before(bed: &Bed, time: u64, who: &str) {
    let (user, by) = (of_before(who), "root".into());
    let begin = BeginErasure { user: user.clone(), by, consent: true, floor: Duration::ZERO, is_dry_run: false };
    assert!(at(bed, time, begin).await.is_new);
    let slice = || EraseSlice { user: user.clone(), limit: 100, act: act(action::USER_ERASE) };
    while !at(bed, time, slice()).await.is_finished {}
}

/// Gives a file the number of the format whose ids have any form.
fn make_format_7(dir: &Path) {
    let file = offline(dir);
    let written = file.write(|tables| {
        tables.meta.write()?.insert(meta::FORMAT, encode(&7u32, &mut Vec::new())?)?;
        Ok(())
    });
    written.unwrap();
    file.close().unwrap();
}

/// Migrates a file; first it takes the names that another life of its store has given.
fn upgrade(dir: &Path, names_of: Option<&Path>) {
    let mut file = offline(dir);
    if let Some(other) = names_of {
        file.take_names_from(&offline(other)).unwrap();
    }
    migrate(&mut file, &mut |_| {}).unwrap();
    file.close().unwrap();
}

/// Who has written in a store, by the rooms that are named by them.
async fn authors(dir: &Path) -> Vec<String> {
    let store = open(&config(dir), SystemClock::shared(), Arc::new(NoSink)).unwrap();
    let mut all = Vec::new();
    for room in ["decomposed", "composed"] {
        let page = Page { limit: 10, ..Page::default() };
        let asker = Author { admin: true, ..author() };
        let found = store.history(RoomId::parse(room).unwrap(), asker, page, OPEN).await;
        let messages = found.map(|page| page.messages).unwrap_or_default();
        let left = messages.into_iter().filter(|message| message.deleted_at.is_none());
        all.extend(left.map(|message| format!("{room} {}", message.sender.canonical())));
    }
    store.close().await.unwrap();
    all
}

/// The backup was made before somebody came who has the normal form of another one's id: both lives call each the same.
#[test]
fn who_was_erased_under_a_name_of_their_own_is_erased_in_a_backup_of_before() {
    run(async {
        let bed = Bed::new();
        say_before(&bed, "decomposed", JOSE[0]).await;
        let (bed, backup) = backed_up(bed).await;
        say_before(&bed, "composed", JOSE[1]).await;
        bed.store.close().await.unwrap();
        let (to, from) = (backup.path(), bed.dir.path().to_owned());
        for dir in [to, &from] {
            make_format_7(dir);
        }
        upgrade(&from, None);
        assert_eq!(authors(&from).await, ["decomposed jos\u{e9}-2", "composed jos\u{e9}"]);
        let bed = bed.reopen();
        erase(&bed, 20, "jos\u{e9}-2").await;
        ban(&bed, "jos\u{e9}-2").await;
        bed.store.close().await.unwrap();
        upgrade(to, Some(&from));
        let carried = carry(to, &from);
        assert_eq!(carried.erased, [user("jos\u{e9}-2")]);
        assert_eq!(authors(to).await, Vec::<String>::new(), "they are erased here, too");
        let store = open(&config(to), SystemClock::shared(), Arc::new(NoSink)).unwrap();
        assert_eq!(store.renamed_users().await.unwrap(), [(JOSE[0].to_owned(), user("jos\u{e9}-2"))]);
        store.close().await.unwrap();
        assert_eq!(check(to).unwrap(), Vec::<String>::new());
    });
}

/// Somebody was erased before the upgrade whose id has the normal form of another one's, and a backup has that one alone.
#[test]
fn an_erasure_of_before_is_not_about_who_has_the_normal_form() {
    run(async {
        let bed = Bed::new();
        say_before(&bed, "composed", JOSE[1]).await;
        let (bed, backup) = backed_up(bed).await;
        say_before(&bed, "decomposed", JOSE[0]).await;
        erase_before(&bed, 20, JOSE[0]).await;
        let hold = Hold {
            number: 0,
            subject: Subject::User(of_before(JOSE[0])),
            reason: "case".into(),
            by: "root".into(),
            at: Timestamp(30),
        };
        at(&bed, 30, SetHold { hold }).await;
        bed.store.close().await.unwrap();
        let (to, from) = (backup.path(), bed.dir.path().to_owned());
        // Whether the data in place have been upgraded or not.
        for is_upgraded in [false, true] {
            for dir in [to, &from] {
                make_format_7(dir);
            }
            if is_upgraded {
                upgrade(&from, None);
            }
            upgrade(to, Some(&from));
            carry(to, &from);
            assert_eq!(authors(to).await, ["composed jos\u{e9}"], "upgraded: {is_upgraded}");
            assert_eq!(erasures(to), [(JOSE[0].to_owned(), 20, true, 1)]);
            assert_eq!(subjects(to), ["user jos\u{e9}-2"]);
            assert_eq!(check(to).unwrap(), Vec::<String>::new());
        }
        // Whoever has the normal form is erased by themselves, and both certificates stay.
        let bed = bed.reopen();
        at(&bed, 30, ReleaseHold { subject: Subject::User(user("jos\u{e9}-2")), number: None }).await;
        assert!(at(&bed, 30, PruneWithheld { limit: 9 }).await, "all is settled");
        erase(&bed, 40, JOSE[1]).await;
        bed.store.close().await.unwrap();
        assert_eq!(erasures(&from), [(JOSE[1].to_owned(), 40, true, 1), (JOSE[0].to_owned(), 20, true, 1)]);
    });
}
