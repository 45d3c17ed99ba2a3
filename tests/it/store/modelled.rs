//! Random sequences of operations against the engine and the model: single ones, several at once, so that they share a commit,
//! and the store closed and opened again in between. Each answer, what the sink hears and what readers see must be alike.
//!
//! `ACADEMY_RT_TEST_CASES` sets how many sequences are tried.

use academy_rt::store::{InboxQuery, ListQuery};
use proptest::prelude::*;

use super::model::{Model, unchained};
use super::*;

/// What is done, by whom, and three small numbers that mean something different to each.
type Seed = (u8, u8, u8, u8, u8);

#[derive(Debug, Clone)]
enum Event {
    /// These are handed in at once, by a clock that is off by so many milliseconds.
    Writes(Vec<Seed>, i64),
    /// Time passes, in milliseconds.
    Passes(u64),
    Reopens,
}

const USERS: [&str; 3] = ["1", "2", "x"];
const KINDS: u8 = 40;

fn roles(who: u8) -> Vec<Role> {
    match who {
        0 => vec![Role::Admin, Role::Coach],
        1 => vec![Role::Learner],
        _ => vec![],
    }
}

fn rooms() -> [RoomId; 3] {
    [room("1"), room("b"), room("c")]
}

fn writes() -> impl Strategy<Value = Event> {
    let seed = (0..KINDS, 0u8..3, 0u8..12, 0u8..12, 0u8..12);
    let many = prop_oneof![3 => prop::collection::vec(seed.clone(), 1..2), 1 => prop::collection::vec(seed, 2..7)];
    (many, -3_000i64..3_000).prop_map(|(seeds, off)| Event::Writes(seeds, off))
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    // No sum of these comes near a day but by four of the last: what ends is well behind or well ahead.
    let passes = prop_oneof![Just(1_000u64), Just(10_000), Just(DAY / 4 + 60_000)];
    let one = prop_oneof![20 => writes(), 3 => passes.prop_map(Event::Passes), 1 => Just(Event::Reopens)];
    prop::collection::vec(one, 1..40)
}

fn pick(ids: &[u64], n: u8) -> u64 {
    ids.get(usize::from(n) % (ids.len() + 1)).copied().unwrap_or(9_999)
}

/// One slice takes all that a sequence makes, and five of them are less than what fills a commit: what is asked together is done
/// in the order in which it was asked.
const WHOLE: usize = 500;

/// The operations that a seed means, as the model stands.
fn operations(
    model: &Model,
    clock: Timestamp,
    is_alone: bool,
    (what, who, a, b, c): Seed,
) -> Vec<(AnyOperation, Option<Act>)> {
    let user = user(USERS[usize::from(who)]);
    let author = Author { user: user.clone(), name: format!("name of {user}"), admin: who == 0 };
    let other = self::user(USERS[usize::from(b) % 3]);
    let to = rooms()[usize::from(a) % 3].clone();
    let policy = if c == 11 { CLOSED } else { OPEN };
    let (a64, b64, c64) = (u64::from(a), u64::from(b), u64::from(c));
    let message_id = pick(&model.ids_in(&to), b);
    let caller = if b % 4 == 0 { self::user("svc") } else { user.clone() };
    let key = |kind, fingerprint| {
        let key = format!("k{}", c % 2);
        (c % 3 == 0).then(|| RequestKey { caller: caller.clone(), kind, key, fingerprint })
    };
    let external = || ExternalId { caller: self::user("svc"), name: format!("x{}", c % 2) };
    let target = if c % 5 == 4 { MessageTarget::External(external()) } else { MessageTarget::Id(message_id) };
    let content = format!("text {}", b % 4);
    let subject = if a % 2 == 0 { Subject::User(other.clone()) } else { Subject::Room(to.clone()) };
    let erase = || {
        let act = act(action::USER_ERASE, &format!("user {user}"));
        AnyOperation::from(EraseSlice { user: user.clone(), limit: WHOLE, act })
    };
    let mut admin_act = None;
    let mut acted = |word, target: &str| admin_act = Some(act(word, target));
    let operation: AnyOperation = match what {
        0..=7 => {
            let kind = if c == 7 { MessageKind::System } else { MessageKind::Text };
            let reply_to = (c == 8).then_some(message_id);
            let client_id = (c % 3 == 0).then(|| format!("k{}", c % 2));
            let draft = Draft { room: to, author, content, kind, reply_to, client_id };
            let key = key(KeyKind::Message, draft.fingerprint());
            let external_id = (c % 4 == 1).then(external);
            PostMessage { draft, policy, key, external_id, origin: Some(a64) }.into()
        }
        8..=10 => {
            let key = key(KeyKind::PlatformChange, Fingerprint::of(&["edit", &content]));
            EditMessage { room: to, target, author, content, policy, key, act: None }.into()
        }
        11 | 12 => {
            let key = key(KeyKind::PlatformChange, Fingerprint::of(&["delete", &content]));
            DeleteMessage { room: to, target, author, policy, key, act: None }.into()
        }
        13 => JoinRoom { room: to, author, policy }.into(),
        14 => EnlistMembers { room: to, users: vec![other, user], policy }.into(),
        15 => LeaveRoom { room: to, user }.into(),
        16 | 17 => MarkRead { room: to, reader: author, message_id, policy }.into(),
        18..=20 => {
            let update = |n: u8, key: bool| Update {
                lesson: lesson(["0", "x"][usize::from(n) % 2]),
                progress: Percent::new([0.0, 33.5, 100.0, 60.0][usize::from(b) % 4]).unwrap(),
                time_spent: u32::from(n),
                course: (b % 3 == 0).then(|| lesson("course")),
                module: (b % 5 == 0).then(|| lesson("module")),
                status: [None, Some(Status::NotStarted), Some(Status::InProgress), Some(Status::Completed)]
                    [usize::from(c) % 4],
                sync_id: key.then(|| format!("k{}", c % 2)),
                base_version: (c % 2 == 0).then_some(b64 % 3),
            };
            let mut reports = vec![Report::new(&user, user.clone(), update(a, c % 3 == 0))];
            if b % 3 == 0 {
                reports.push(Report::new(&user, user.clone(), update(a + c % 2, c % 6 == 0)));
            }
            SyncProgress { reports }.into()
        }
        21 | 22 => {
            let audience = match a % 4 {
                0 => Audience::All,
                1 => Audience::Role(Role::Learner),
                2 => Audience::Role(Role::Coach),
                _ => Audience::Users(vec![user.clone(), other]),
            };
            let draft = note(audience, &content);
            let key = key(KeyKind::Notify, draft.fingerprint());
            Notify { draft, key }.into()
        }
        23 | 24 => {
            let ids = model.notification_ids();
            let selection = match a % 3 {
                0 => Selection::All { up_to: (b % 2 == 0).then(|| pick(&ids, b)) },
                _ => Selection::Ids(vec![pick(&ids, b), pick(&ids, c), pick(&ids, b)]),
            };
            let action = if c % 3 == 0 { InboxAction::Delete } else { InboxAction::Read };
            MarkInbox { user, roles: roles(who), selection, action, origin: Some(c64) }.into()
        }
        25 => Arrive { user, name: content, roles: roles(who) }.into(),
        26 => {
            let mark = DeliveryMark { audience: AudienceKind::ALL[usize::from(a) % 6], up_to: b64 * 5 };
            Delivered { marks: vec![(user, mark)] }.into()
        }
        27 => Left { user }.into(),
        28 if a < 4 => BroadcastsOut { up_to: b64 * 5 }.into(),
        28 => {
            if c % 2 == 0 {
                acted(action::BROADCAST, "e to nobody");
            }
            let key = key(KeyKind::Passing, Fingerprint::of(&[&content]));
            SendBroadcast { broadcast: broadcast(&content), key, sockets: c64 }.into()
        }
        29 => {
            let ban = [Ban::User(user.clone()), Ban::AllTokens, Ban::TokensOf(user.clone()), Ban::Token(content)]
                [usize::from(a) % 4]
                .clone();
            if b % 3 == 0 {
                acted(action::USER_UNBLOCK, "somebody");
                LiftBan { ban }.into()
            } else if b == 11 {
                Disconnect { user }.into()
            } else {
                let until = (c % 3 > 0).then_some(Timestamp(clock.0 + c64 % 3 * (DAY / 8)));
                SetBan { banned: Banned { ban, before: Timestamp(c64), until, by: format!("by {b}"), at: clock } }
                    .into()
            }
        }
        30 if a < 6 => {
            let members = vec![(other, Membership::Moderator), (user, Membership::Guest)];
            let name = (b % 2 == 0).then(|| content.clone());
            CreateRoom { draft: RoomDraft { id: to, name, private: c % 2 == 0, members } }.into()
        }
        30 => {
            acted(action::ROOM_SET, &to.canonical());
            let name = [None, Some(String::new()), Some(content)][usize::from(b) % 3].clone();
            let private = [None, Some(true), Some(false)][usize::from(c) % 3];
            PatchRoom { room: to, patch: RoomPatch { name, private, admit_guests: b % 2 == 0 } }.into()
        }
        31 => {
            let membership = [Membership::Guest, Membership::Member, Membership::Moderator][usize::from(c) % 3];
            SetMember { room: to, user: other, membership }.into()
        }
        32 => {
            acted(action::MEMBER_REMOVE, &to.canonical());
            RemoveMember { room: to, user: other }.into()
        }
        33 if b < 4 => {
            acted(action::ROOM_DELETE, &to.canonical());
            RemoveRoom { room: to }.into()
        }
        33 => RemoveMessages { limit: usize::from(c) }.into(),
        34 => {
            acted(action::HOLD_SET, &subject.to_string());
            SetHold { hold: Hold { number: 0, subject, reason: content, by: user.canonical(), at: clock } }.into()
        }
        35 if c < 3 => PruneWithheld { limit: WHOLE }.into(),
        35 => ReleaseHold { subject, number: (c % 2 == 0).then_some(u64::from(c) % 9) }.into(),
        36 | 37 => {
            acted(action::USER_ERASE, &format!("user {user}"));
            let floor = Duration::from_secs(if c % 3 == 0 { 3_600 } else { 0 });
            let begin = BeginErasure {
                user: user.clone(),
                by: "root".into(),
                consent: c % 2 == 0,
                floor,
                is_dry_run: c % 7 == 6,
            };
            // A record first: with its commit goes what has expired, and what is left of it is counted.
            let record = Record { entry: entry("root", "before", clock) };
            let mut all = vec![(record.into(), None), (begin.into(), admin_act)];
            all.extend((b % 3 > 0).then(|| (erase(), None)));
            return all;
        }
        38 => {
            // A purge does not look at a room that its own commit registers, nor counts that a hold keeps it: it comes alone.
            let kinds: &[PurgeKind] =
                if is_alone { &PurgeKind::ALL } else { &[PurgeKind::Notifications, PurgeKind::Audit] };
            let kind = kinds[usize::from(a) % kinds.len()];
            // Half an hour ago is between two times that pass. Nothing that is stored at the same time is old, unless the bound
            // lies ahead.
            let before = Timestamp(if b % 2 == 0 || !is_alone {
                clock.0.saturating_sub(1_800_000)
            } else {
                clock.0 + 1_800_000
            });
            let act = act(action::PURGE, kind.as_str());
            Purge { kind, before, cursor: PurgeCursor::default(), limit: WHOLE, forwarded_to: None, act }.into()
        }
        _ if b < 4 => return vec![(Record { entry: entry("root", "before", clock) }.into(), None), (erase(), None)],
        _ => Record { entry: entry(&user.canonical(), &content, clock) }.into(),
    };
    vec![(operation, admin_act)]
}

fn entry(actor: &str, target: &str, at: Timestamp) -> AuditEntry {
    let (origin, action, outcome) = ("10.0.0.1".to_owned(), action::BACKUP.to_owned(), "done".to_owned());
    AuditEntry { at, actor: actor.to_owned(), origin, action, target: target.to_owned(), outcome }
}

/// A record as the model keeps it: without its hash, and without that of a certificate.
fn plain(record: &AuditRecord) -> AuditRecord {
    let mut entry = record.entry.clone();
    if let Some(at) = entry.outcome.find("certificate ") {
        entry.outcome.truncate(at + "certificate ".len());
    }
    unchained(record.number, entry)
}

fn plain_change(change: Change) -> Change {
    match change {
        Change::Recorded { id, record } => Change::Recorded { id, record: plain(&record) },
        change => change,
    }
}

/// The answer as text.
fn shown(answer: Result<AnyAnswer, Refusal>) -> String {
    match answer {
        Ok(AnyAnswer::Record(record)) => format!("{:?}", plain(&record)),
        Ok(AnyAnswer::Purge(PurgeStep { purged, held, next, .. })) => {
            format!("{purged} purged, {held} held, {}", if next.is_some() { "more" } else { "all" })
        }
        answer => format!("{answer:?}"),
    }
}

struct Pair {
    bed: Bed,
    model: Model,
    /// What was asked, for whoever looks at a failure.
    log: Vec<String>,
}

impl Pair {
    async fn take(mut self, event: &Event) -> Pair {
        match event {
            Event::Passes(ms) => self.bed.clock.advance(*ms),
            Event::Reopens => {
                self.bed = self.bed.reopen().await;
                self.log.push("reopens".to_owned());
            }
            Event::Writes(seeds, off) => {
                let clock = self.bed.now();
                let at = Timestamp(clock.0.saturating_add_signed(*off));
                let asked = seeds.iter().flat_map(|seed| operations(&self.model, clock, seeds.len() == 1, *seed));
                let asked: Vec<Write> = asked.map(|(operation, act)| Write { at, operation, act }).collect();
                // All are queued before the first is awaited: they share a commit where the writer is busy.
                let given: Vec<_> = asked.iter().map(|write| self.bed.store.write(write.clone())).collect();
                let mut sweeps = Vec::new();
                for (write, given) in asked.iter().zip(given) {
                    self.log.push(format!("{write:?}"));
                    let given = given.await;
                    let (mut cursor, change) = (None, given.as_ref().map_or(0, |applied| applied.change));
                    if let Ok(Applied { answer: AnyAnswer::Purge(step), .. }) = &given {
                        cursor = step.next;
                    }
                    let given = match given {
                        Ok(applied) => Ok(applied.answer),
                        Err(StoreError::Refused(refusal)) => Err(refusal),
                        Err(error) => panic!("{error}"),
                    };
                    let (expected, expected_change) = self.model.apply(clock, write);
                    let expected_change = if expected.is_ok() { expected_change } else { 0 };
                    assert_eq!((shown(given), change), (shown(expected), expected_change), "{}", self.told());
                    if matches!(write.operation, AnyOperation::Record(_)) {
                        self.model.forget_expired();
                    }
                    if let (Some(cursor), AnyOperation::Purge(purge)) = (cursor, write.operation.clone()) {
                        sweeps.push(Purge { cursor, ..purge });
                    }
                }
                for purge in sweeps {
                    self.sweep(clock, at, purge).await;
                }
            }
        }
        self
    }

    /// A purge of notifications goes on until all is done.
    async fn sweep(&mut self, clock: Timestamp, at: Timestamp, purge: Purge) {
        let write = Write { at, operation: purge.into(), act: None };
        self.log.push(format!("{write:?}"));
        let given = self.bed.store.write(write.clone()).await.unwrap().answer;
        let (expected, _) = self.model.apply(clock, &write);
        assert_eq!(shown(Ok(given)), shown(expected), "{}", self.told());
    }

    fn told(&self) -> String {
        format!("after\n{}", self.log.join("\n"))
    }

    /// Readers see the same, and the sink has heard the same.
    async fn compare(&self, n: u64) {
        let Pair { bed, model, .. } = self;
        let store = &bed.store;
        macro_rules! same {
            ($one:expr, $two:expr) => {
                match ($one, $two) {
                    (one, two) => assert_eq!(format!("{one:?}"), format!("{two:?}"), "{}", self.told()),
                }
            };
        }
        fn read<T>(answer: Result<T, StoreError>) -> Result<T, Refusal> {
            answer.map_err(|error| match error {
                StoreError::Refused(refusal) => refusal,
                error => panic!("{error}"),
            })
        }
        same!(store.last_id(), model.last_id());
        let heard: Vec<Change> = bed.heard.all().into_iter().map(plain_change).collect();
        assert_eq!(heard, model.feed, "{}", self.told());
        let after = n % (model.last_id() + 2);
        for (who, name) in (0u8..).zip(USERS) {
            let (user, roles) = (user(name), roles(who));
            let viewer = Author { user: user.clone(), name: String::new(), admin: who == 0 };
            let actor = actor(name, &roles);
            for room in rooms() {
                let policy = if n.is_multiple_of(7) { CLOSED } else { OPEN };
                let may = store.may_enter(room.clone(), viewer.clone(), policy).await;
                same!(read(may), model.enter(&room, &viewer, policy).map(drop));
                let part = Page {
                    after: n.is_multiple_of(2).then_some(after),
                    before: n.is_multiple_of(3).then_some(n % 40),
                    limit: 2,
                };
                for page in [latest(1_000), part] {
                    let seen = store.history(room.clone(), viewer.clone(), page.clone(), policy).await;
                    same!(read(seen), model.history(&room, &viewer, &page, policy));
                }
            }
            same!(read(store.rooms_of(user.clone()).await), Ok::<_, Refusal>(model.rooms_of(&user)));
            let filter = LessonFilter {
                lesson: (n % 3 == 1).then(|| lesson("x")),
                course: (n % 5 == 1).then(|| lesson("course")),
                since: (n % 2 == 1).then_some(after),
                limit: None,
            };
            same!(read(store.progress(user.clone(), filter.clone()).await), model.progress(&user, &filter));
            // Page by page it is the same.
            let mut paged = (Vec::new(), read(store.progress(user.clone(), filter.clone()).await).map(|all| all.1));
            let mut part = LessonFilter { limit: Some(1 + n as usize % 3), ..filter.clone() };
            while let Ok(page) = read(store.store.progress(user.clone(), part.clone()).await) {
                paged.0.extend(page.items.into_iter().map(|(progress, _)| progress));
                part.since = Some(page.up_to);
                if !page.has_more {
                    paged.1 = Ok(page.up_to);
                    break;
                }
            }
            same!(paged.1.map(|up_to| (paged.0, up_to)), model.progress(&user, &filter));
            let (mut paged, mut query) = (Vec::new(), RoomQuery { after: None, limit: 1 + n as usize % 3 });
            loop {
                let page = store.store.rooms_of(viewer.clone(), query, OPEN).await.unwrap();
                query.after = page.rooms.last().map(|(_, place)| *place);
                paged.extend(page.rooms.into_iter().map(|(room, _)| room));
                if !page.has_more {
                    break;
                }
            }
            let mut may_enter = model.rooms_of(&user);
            may_enter.retain(|one| viewer.admin || !one.room.private || one.membership.admits());
            same!(paged, may_enter);
            let asked_rooms: Vec<_> = rooms().to_vec();
            let enterable = store.enterable(asked_rooms.clone(), viewer.clone(), OPEN).await;
            let wanted: Vec<bool> = asked_rooms.iter().map(|room| model.enter(room, &viewer, OPEN).is_ok()).collect();
            same!(read(enterable), Ok::<_, Refusal>(wanted));
            for known in ["0", "x"].map(lesson) {
                let kept = store.progress_history(user.clone(), known.clone()).await.unwrap();
                same!(kept, model.progress_history(&user, &known));
            }
            let part =
                InboxQuery { before: n.is_multiple_of(2).then_some(after), limit: 2, unread_only: n.is_multiple_of(3) };
            for query in [InboxQuery { limit: 1_000, ..InboxQuery::default() }, part] {
                same!(store.inbox(actor.clone(), query.clone()).await.unwrap(), model.inbox(&user, &roles, &query));
            }
            same!(store.arrival(actor.clone(), 3).await.unwrap(), model.arrival(&user, &roles, 3));
            same!(store.last_seen(vec![user.clone()]).await.unwrap(), vec![model.last_seen(&user)]);
            let asked = [rooms()[0].clone(), rooms()[1].clone(), rooms()[0].clone()];
            for limit in [2, 1_000] {
                let missed = store.replay(actor.clone(), asked.to_vec(), after, limit).await;
                same!(read(missed), model.replay(&user, &roles, &asked, after, limit));
            }
            let exported = store.export(user.clone(), 1 + n as usize % 5).await.map(|items| {
                let plainly = |item| match item {
                    UserItem::Audit(record) => UserItem::Audit(plain(&record)),
                    // The model does not know when what was read.
                    UserItem::Notification { notification, is_deleted, .. } => {
                        UserItem::Notification { notification, is_deleted, read_at: None }
                    }
                    item => item,
                };
                items.into_iter().map(plainly).collect::<Vec<_>>()
            });
            same!(read(exported), model.export(&user));
            let kinds =
                [KeyKind::Message, KeyKind::Progress, KeyKind::Notify, KeyKind::Passing, KeyKind::PlatformChange];
            for kind in kinds {
                let key =
                    RequestKey { caller: user.clone(), kind, key: "k0".into(), fingerprint: Fingerprint::of(&[]) };
                // An expired one counts until it is gone.
                let (is, expected) = (store.is_answered(key.clone()).await.unwrap(), model.is_answered(&key));
                assert!(is == expected || expected, "{}", self.told());
            }
        }
        for room in rooms() {
            let ids = model.ids_in(&room);
            same!(store.withheld(room.clone(), ids).await.unwrap(), model.withheld(&room));
            same!(read(store.members(room.clone(), 0, 100).await), model.members(&room));
        }
        let all = ListQuery { limit: 1_000, ..ListQuery::default() };
        same!(store.list_rooms(all.clone()).await.unwrap(), model.list_rooms());
        same!(store.list_users(all).await.unwrap(), model.list_people());
        same!(store.holds().await.unwrap(), model.holds());
        same!(store.erasures().await.unwrap(), model.erasures());
        same!(store.unsent_broadcasts().await.unwrap(), model.unsent());
        let sorted = |bans: &[Banned]| {
            let mut bans: Vec<String> = bans.iter().map(|one| format!("{one:?}")).collect();
            bans.sort();
            bans
        };
        same!(sorted(&store.bans().await.unwrap()), sorted(model.bans()));
        let records = store.audit(0, 10_000).await.unwrap();
        same!(records.iter().map(plain).collect::<Vec<_>>(), model.records());
        let (anchor, head) = store.audit_ends().await.unwrap();
        assert_eq!(records.iter().try_fold(anchor, |link, record| link.follow(record)), Ok(head), "{}", self.told());
    }
}

fn cases() -> u32 {
    std::env::var("ACADEMY_RT_TEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(64)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_does_what_the_model_does(events in events()) {
        run(async move {
            let mut pair = Pair { bed: Bed::new(), model: Model::default(), log: Vec::new() };
            for (n, event) in (0u64..).zip(&events) {
                pair = pair.take(event).await;
                pair.compare(n * 7).await;
            }
            assert_rising(&pair.bed.heard.all());
            pair.bed.end().await;
        });
    }
}
