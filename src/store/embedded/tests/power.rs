//! Power cuts, hundreds of them: each at a random call of the engine, while people write or while the store is being opened
//! after the cut before, with what was not synced lost, torn and reordered. After each everything acknowledged is there as it
//! was acknowledged, nothing is there twice, and nothing contradicts anything.
//!
//! 200 cuts; `ACADEMY_RT_TEST_CUTS=2000` makes more (`tests/run --long`), `ACADEMY_RT_TEST_SEED` others.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::*;
use crate::domain::access::{Ban, Banned};
use crate::domain::audit::action;
use crate::domain::notification::{Audience, NotificationBody, NotificationDraft, Selection};
use crate::domain::progress::{Percent, Update};
use crate::domain::{Actor, Fingerprint, LessonId, Role, Timestamp};
use crate::store::operations::{
    Act, Arrive, Broadcast, DeleteMessage, InboxAction, MarkInbox, MarkRead, Notify, Record, Report, SendBroadcast,
    SetBan, SyncProgress,
};
use crate::store::{InboxQuery, LessonFilter};

const ROOMS: u64 = 3;
const USERS: u64 = 4;
const LESSONS: u64 = 3;
/// So many cuts meet the same store.
const STORE_CUTS: u64 = 100;
/// Calls between two cuts at most, about: openings take some tens, a commit four or five.
const CALLS: u64 = 260;

/// What was promised, and what may have happened.
#[derive(Default)]
struct Promised {
    /// Key of a message -> its room, and its id and seq once they were acknowledged.
    messages: BTreeMap<String, (u64, Option<(u64, u64)>)>,
    /// Message -> contents that it may have, the last acknowledged first; empty for a deletion.
    contents: HashMap<u64, Vec<String>>,
    /// (user, lesson) -> the last version that was acknowledged.
    versions: HashMap<(u64, u64), u64>,
    /// Keys of reports that were acknowledged, with their version.
    reports: BTreeMap<(u64, String), (u64, u64)>,
    /// Notifications to all that were acknowledged.
    notifications: BTreeSet<u64>,
    /// Records of the audit trail that were acknowledged.
    audit: u64,
    /// Tokens whose revocation was acknowledged.
    revoked: BTreeSet<String>,
    /// (user, room) -> the read mark that was acknowledged.
    marks: HashMap<(u64, u64), u64>,
}

impl Promised {
    fn count(&self) -> usize {
        self.messages.values().filter(|(_, place)| place.is_some()).count()
            + self.reports.len()
            + self.notifications.len()
            + usize::try_from(self.audit).unwrap()
            + self.revoked.len()
    }
}

fn user(n: u64) -> UserId {
    UserId::parse(&(n + 1).to_string()).unwrap()
}

fn who(n: u64) -> Author {
    Author { user: user(n), name: format!("user {n}"), admin: false }
}

fn actor(n: u64) -> Actor {
    Actor { user: user(n), name: format!("user {n}"), roles: vec![Role::Learner], ..Actor::local_admin() }
}

fn room(n: u64) -> RoomId {
    RoomId::parse(&format!("r{n}")).unwrap()
}

fn said(key: &str, to: u64, by: u64) -> Draft {
    Draft { room: room(to), author: who(by), content: key.into(), client_id: Some(key.into()), ..draft(key) }
}

/// A report; the same again for the same key, as of a device that tries again.
fn update(lesson: u64, key: &str) -> Update {
    let share = key.bytes().map(u32::from).sum::<u32>() % 101;
    Update {
        lesson: LessonId::parse(&lesson.to_string()).unwrap(),
        progress: Percent::new(f64::from(share)).unwrap(),
        time_spent: 1,
        course: None,
        module: None,
        status: None,
        sync_id: Some(key.to_owned()),
        base_version: None,
    }
}

fn sync(by: u64, update: Update) -> SyncProgress {
    SyncProgress { reports: vec![Report::new(&user(by), user(by), update)] }
}

fn banned(token: &str) -> Banned {
    let (ban, by) = (Ban::Token(token.to_owned()), "root".to_owned());
    Banned { ban, before: Timestamp(1), until: None, by, at: Timestamp(1) }
}

/// An administrative act: the ban and its record.
fn revoke(store: &dyn Store, token: &str) -> impl Future<Output = Result<(), StoreError>> + use<> {
    let banned = banned(token);
    let act = Act {
        actor: "root".into(),
        origin: "local".into(),
        action: action::TOKEN_REVOKE,
        target: banned.ban.to_string(),
        note: String::new(),
    };
    let done = store.submit(SystemClock::shared().now(), SetBan { banned }, Some(act));
    async move { done.await.map(|applied| applied.answer) }
}

fn arrive(by: u64) -> Arrive {
    let Actor { user, name, roles, .. } = actor(by);
    Arrive { user, name, roles }
}

fn key_of(by: u64, kind: KeyKind, key: &str) -> RequestKey {
    RequestKey { caller: user(by), kind, key: key.to_owned(), fingerprint: Fingerprint::of(&[]) }
}

fn note(key: &str) -> NotificationDraft {
    let body = NotificationBody {
        kind: "info".into(),
        title: key.into(),
        message: "m".repeat(200),
        title_fr: None,
        message_fr: None,
        link: None,
        metadata: None,
    };
    NotificationDraft { audience: Audience::All, body }
}

/// One life between two cuts: people write at random, and what is acknowledged before the power goes is promised.
async fn live(store: &Arc<Embedded>, disk: &Disk, cut: u64, random: &mut Random, promised: &mut Promised) {
    let known: Vec<(u64, u64)> =
        promised.messages.values().filter_map(|(room, place)| place.map(|(id, _)| (*room, id))).collect();
    let mut n = 0;
    let rounds = 1 + random.below(8);
    for _ in 0..rounds {
        // Some at once, so that a commit has many kinds.
        let mut waiting: Vec<std::pin::Pin<Box<dyn Future<Output = Told>>>> = Vec::new();
        for _ in 0..1 + random.below(12) {
            n += 1;
            let key = format!("{cut}-{n}");
            let by = random.below(USERS);
            match random.below(17) {
                0..=6 => {
                    let to = random.below(ROOMS);
                    promised.messages.insert(key.clone(), (to, None));
                    let one = ask(&**store, post(said(&key, to, by)));
                    waiting.push(Box::pin(async move { one.await.map(|p| Event::Posted(key, p.id, p.seq)) }));
                }
                7 | 8 => {
                    let lesson = random.below(LESSONS);
                    let one = ask(&**store, sync(by, update(lesson, &key)));
                    waiting.push(Box::pin(async move {
                        one.await.map(|synced| Event::Synced(by, lesson, key, synced[0].progress.version))
                    }));
                }
                9 if !known.is_empty() => {
                    let (to, id) = known[usize::try_from(random.below(known.len() as u64)).unwrap()];
                    let content = if random.below(4) == 0 { String::new() } else { format!("edit {key}") };
                    promised.contents.entry(id).or_default().push(content.clone());
                    let admin = Author { admin: true, ..who(by) };
                    let (room, target) = (room(to), MessageTarget::Id(id));
                    let one: std::pin::Pin<Box<dyn Future<Output = _>>> = if content.is_empty() {
                        let delete = DeleteMessage { room, target, author: admin, policy: OPEN, key: None, act: None };
                        Box::pin(ask(&**store, delete))
                    } else {
                        let content = content.clone();
                        let edit =
                            EditMessage { room, target, author: admin, content, policy: OPEN, key: None, act: None };
                        Box::pin(ask(&**store, edit))
                    };
                    waiting.push(Box::pin(async move {
                        match one.await {
                            Ok(_) => Ok(Event::Changed(id, content)),
                            // It was deleted before.
                            Err(StoreError::Refused(_)) => Ok(Event::Nothing),
                            Err(error) => Err(error),
                        }
                    }));
                }
                10 if !known.is_empty() => {
                    let (to, id) = known[usize::try_from(random.below(known.len() as u64)).unwrap()];
                    let mark = MarkRead { room: room(to), reader: who(by), message_id: id, policy: OPEN };
                    let one = ask(&**store, mark);
                    waiting.push(Box::pin(async move { one.await.map(|mark| Event::Read(by, to, mark.message_id)) }));
                }
                11 => {
                    let key = Some(key_of(by, KeyKind::Notify, &key));
                    let one = ask(&**store, Notify { draft: note("n"), key });
                    waiting.push(Box::pin(async move { one.await.map(|one| Event::Notified(one.notification.id)) }));
                }
                12 => {
                    let (user, roles, selection) = (user(by), actor(by).roles, Selection::All { up_to: None });
                    let mark = MarkInbox { user, roles, selection, action: InboxAction::Read, origin: None };
                    let one = ask(&**store, mark);
                    waiting.push(Box::pin(async move { one.await.map(|_| Event::Nothing) }));
                }
                13 => {
                    let entry = crate::domain::audit::AuditEntry {
                        at: Timestamp(1),
                        actor: key,
                        origin: String::new(),
                        action: "test".into(),
                        target: String::new(),
                        outcome: "done".into(),
                    };
                    let one = ask(&**store, Record { entry });
                    waiting.push(Box::pin(async move { one.await.map(|record| Event::Recorded(record.number)) }));
                }
                14 => {
                    let broadcast = Broadcast { rooms: Vec::new(), event: "e".into(), payload: "{}".into() };
                    let key = Some(key_of(by, KeyKind::Passing, &key));
                    let one = ask(&**store, SendBroadcast { broadcast: Arc::new(broadcast), key, sockets: 3 });
                    waiting.push(Box::pin(async move { one.await.map(|_| Event::Nothing) }));
                }
                15 => {
                    let one = revoke(&**store, &key);
                    waiting.push(Box::pin(async move { one.await.map(|()| Event::Revoked(key)) }));
                }
                _ => {
                    let one = ask(&**store, arrive(by));
                    waiting.push(Box::pin(async move { one.await.map(|_| Event::Nothing) }));
                }
            }
        }
        for one in waiting {
            let Ok(event) = one.await else { continue };
            // What is answered behind the cut is answered by a machine without power.
            if !disk.faults.is_cut() {
                promised.keep(event);
            }
        }
    }
}

type Told = Result<Event, StoreError>;

enum Event {
    Posted(String, u64, u64),
    Changed(u64, String),
    Synced(u64, u64, String, u64),
    Read(u64, u64, u64),
    Notified(u64),
    Recorded(u64),
    Revoked(String),
    Nothing,
}

impl Promised {
    fn keep(&mut self, event: Event) {
        match event {
            Event::Posted(key, id, seq) => {
                if let Some((_, place)) = self.messages.get_mut(&key) {
                    *place = Some((id, seq));
                }
                self.contents.entry(id).or_insert_with(|| vec![key]);
            }
            // What was written before it can not be there any more.
            Event::Changed(id, content) => {
                let all = self.contents.entry(id).or_default();
                let at = all.iter().position(|one| *one == content).unwrap_or(0);
                all.drain(..at);
            }
            Event::Synced(user, lesson, key, version) => {
                let last = self.versions.entry((user, lesson)).or_default();
                *last = version.max(*last);
                self.reports.insert((user, key), (lesson, version));
            }
            Event::Read(user, room, id) => {
                let mark = self.marks.entry((user, room)).or_default();
                *mark = id.max(*mark);
            }
            Event::Notified(id) => drop(self.notifications.insert(id)),
            Event::Recorded(number) => self.audit = number.max(self.audit),
            Event::Revoked(token) => drop(self.revoked.insert(token)),
            Event::Nothing => {}
        }
    }

    /// Everything that was acknowledged is there, once; gives what is known now of what was not acknowledged.
    async fn verify(&mut self, store: &dyn Store, cut: u64) {
        let mut found: HashMap<String, (u64, u64, u64)> = HashMap::new();
        for n in 0..ROOMS {
            let page = Page { limit: usize::MAX, ..Page::default() };
            let page = store.history(room(n), who(0), page, OPEN).await.unwrap();
            for (at, message) in page.messages.iter().enumerate() {
                assert_eq!(message.seq, at as u64 + 1, "cut {cut}: room {n} has a gap");
                let key = message.client_id.clone().unwrap();
                let before = found.insert(key.clone(), (n, message.id, message.seq));
                assert!(before.is_none(), "cut {cut}: {key} is there twice");
                let all = self.contents.entry(message.id).or_insert_with(|| vec![key.clone()]);
                assert!(all.contains(&message.content), "cut {cut}: {key} says {:?}, not {all:?}", message.content);
                *all = vec![message.content.clone()];
            }
        }
        for (key, (to, place)) in &mut self.messages {
            let there = found.get(key).map(|(room, id, seq)| {
                assert_eq!(room, to, "cut {cut}: {key} is in another room");
                (*id, *seq)
            });
            if let Some(place) = place {
                assert_eq!(there, Some(*place), "cut {cut}: {key} was acknowledged");
            }
            *place = there;
        }
        // What is not there was never acknowledged, and is not tried again but once.
        self.messages.retain(|_, (_, place)| place.is_some());
        for ((of, lesson), version) in &self.versions {
            let lesson = LessonId::parse(&lesson.to_string()).unwrap();
            let filter = LessonFilter { lesson: Some(lesson.clone()), ..LessonFilter::default() };
            let now = store.progress(user(*of), filter).await.unwrap().items;
            assert!(now[0].0.version >= *version, "cut {cut}: version {version} was acknowledged");
            let kept = store.progress_history(user(*of), lesson).await.unwrap();
            assert!(kept.windows(2).all(|two| two[0].version + 1 == two[1].version), "cut {cut}: versions have a gap");
        }
        for ((of, to), mark) in &self.marks {
            let page = store.history(room(*to), who(*of), Page { limit: 1, ..Page::default() }, OPEN).await.unwrap();
            assert!(page.read_up_to >= *mark, "cut {cut}: the mark {mark} was acknowledged");
        }
        let query = InboxQuery { limit: usize::MAX, ..InboxQuery::default() };
        let inbox = store.inbox(actor(0), query).await.unwrap();
        let there: BTreeSet<u64> = inbox.items.iter().map(|one| one.id).collect();
        assert!(self.notifications.is_subset(&there), "cut {cut}: a notification was acknowledged");
        let (_, head) = store.audit_ends().await.unwrap();
        assert!(head.number >= self.audit, "cut {cut}: record {} was acknowledged", self.audit);
        // No act without its record, and no record without its act.
        let revoked: BTreeSet<String> =
            store.bans().await.unwrap().into_iter().map(|one| one.ban.to_string()).collect();
        assert!(self.revoked.iter().all(|token| revoked.contains(&banned(token).ban.to_string())), "cut {cut}");
        let records = store.audit(0, usize::MAX).await.unwrap();
        let acts = records.into_iter().filter(|record| record.entry.action == action::TOKEN_REVOKE);
        let targets: Vec<String> = acts.map(|record| record.entry.target).collect();
        assert_eq!(targets.len(), revoked.len(), "cut {cut}");
        assert_eq!(targets.into_iter().collect::<BTreeSet<_>>(), revoked, "cut {cut}");
    }

    /// A retry of what was acknowledged stores nothing.
    async fn retry(&self, store: &dyn Store, cut: u64, random: &mut Random) {
        if self.messages.is_empty() {
            return;
        }
        let nth = usize::try_from(random.below(self.messages.len() as u64)).unwrap();
        let (key, (to, place)) = self.messages.iter().nth(nth).unwrap();
        // Whose key it was is in the history.
        let page = Page { limit: usize::MAX, ..Page::default() };
        let page = store.history(room(*to), who(0), page, OPEN).await.unwrap();
        let message = page.messages.iter().find(|one| one.client_id.as_ref() == Some(key)).unwrap();
        let author = Author { user: message.sender.clone(), ..who(0) };
        let again = ask(store, post(Draft { author, ..said(key, *to, 0) })).await.unwrap();
        assert!(again.duplicate && Some((again.id, again.seq)) == *place, "cut {cut}: {key} was stored again");
        if let Some(((of, key), (lesson, version))) = self.reports.iter().next_back() {
            let again = ask(store, sync(*of, update(*lesson, key))).await.unwrap();
            assert!(again[0].duplicate && again[0].progress.version == *version, "cut {cut}: report {key}");
        }
    }
}

/// What lies on disk of a new store, in which somebody has arrived.
async fn new_store() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&config(dir.path()), SystemClock::shared(), Arc::new(NoSink)).unwrap();
    ask(&*store, arrive(0)).await.unwrap();
    store.close().await.unwrap();
    std::fs::read(dir.path().join(NAME)).unwrap()
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
#[ignore = "long"]
fn power_cuts_lose_nothing_that_was_acknowledged_and_double_nothing() {
    let cuts = number("ACADEMY_RT_TEST_CUTS", 200);
    let seed = number("ACADEMY_RT_TEST_SEED", 42);
    println!("seed {seed}");
    run(async move {
        let mut random = Random(seed);
        let (mut promised, mut content) = (Promised::default(), Vec::new());
        let (mut in_opening, mut in_closing, mut acknowledged) = (0, 0, 0);
        for cut in 0..cuts {
            if cut % STORE_CUTS == 0 {
                // Everything is looked at after each cut: a store that grew on and on would take all the time.
                acknowledged += promised.count();
                (promised, content) = (Promised::default(), new_store().await);
            }
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(NAME), &content).unwrap();
            let disk = Arc::new(Disk::default());
            // Every fourth goes early, in the opening that mends the cut before.
            let calls = if cut % 4 == 0 { random.below(8) } else { random.below(CALLS) };
            disk.faults.power_goes_after(calls, content.clone(), random.below(u64::MAX));
            let free = Box::new(|| Ok(u64::MAX));
            let clock = SystemClock::shared();
            let store = Embedded::open(&config(dir.path()), clock, Arc::new(NoSink), disk.clone(), free).unwrap();
            in_opening += u64::from(disk.faults.is_cut());
            let store = Arc::new(store);
            if !disk.faults.is_cut() {
                live(&store, &disk, cut, &mut random, &mut promised).await;
            }
            if random.below(2) == 0 && !disk.faults.is_cut() {
                // A clean end, cut or not.
                store.close().await.unwrap();
                in_closing += u64::from(disk.faults.is_cut());
                content = disk.faults.image();
            } else {
                content = disk.faults.image();
                store.close().await.unwrap();
            }
            let after = tempfile::tempdir().unwrap();
            std::fs::write(after.path().join(NAME), &content).unwrap();
            assert_eq!(check(after.path()).unwrap(), Vec::<String>::new(), "seed {seed}, cut {cut}");
            // On a copy: the opening that mends the cut is cut itself in the next round.
            std::fs::write(after.path().join(NAME), &content).unwrap();
            let store = open(&config(after.path()), SystemClock::shared(), Arc::new(NoSink)).unwrap();
            promised.verify(&*store, cut).await;
            promised.retry(&*store, cut, &mut random).await;
            store.close().await.unwrap();
        }
        acknowledged += promised.count();
        assert!(in_opening > cuts / 20 && acknowledged > 500, "{in_opening} in openings, {acknowledged} records");
        println!(
            "{cuts} power cuts ({in_opening} while opening, {in_closing} while closing): {acknowledged} acknowledged records, 0 lost, 0 doubled"
        );
    });
}
