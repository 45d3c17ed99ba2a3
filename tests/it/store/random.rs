//! Random sequences of requests to two stores. One of them is closed and opened again in between, so that all it knows it has
//! from the disk; both give the same answers and tell their sinks the same, and what lies on disk contradicts nothing. The
//! sequences and [`perform`] know nothing of that: a model may be asked the same.

use academy_rt::store::InboxQuery;
use proptest::prelude::*;

use super::cases_maintenance::{entry, erase_all, purge_all};
use super::*;

/// A request: what, by whom, and two small numbers that mean something different to each.
pub type Step = (u8, u8, u8, u8);

const ROOMS: [&str; 3] = ["1", "b", "never-written"];
const KINDS: u8 = 34;

fn keyed(n: u8) -> Option<String> {
    n.is_multiple_of(3).then(|| format!("k{}", n % 4))
}

fn roles(who: u8) -> Vec<Role> {
    match who {
        0 => vec![Role::Admin, Role::Coach],
        1 => vec![Role::Learner],
        _ => vec![],
    }
}

/// Takes a step, and says what was answered.
pub async fn perform(bed: &Bed, (what, who, a, b): Step) -> String {
    let store = &bed.store;
    let name = (who + 1).to_string();
    let by = Author { admin: who == 0, ..author(&name) };
    let me = actor(&name, &roles(who));
    let to = ROOMS[usize::from(a) % 3];
    let policy = if b % 8 == 7 { CLOSED } else { OPEN };
    let (a64, b64) = (u64::from(a), u64::from(b));
    let at = Timestamp(b64);
    let of = format!("{}", a % 3);
    match what {
        0..=2 => {
            let to = ROOMS[usize::from(a) % 2];
            let client_id = keyed(b);
            let draft = Draft { author: by, client_id, ..draft(to, &name, &format!("{a}/{b}"), None) };
            format!("{:?}", store.append_message(draft, policy).await)
        }
        3 => format!("{:?}", store.edit_message(change(to, b64, by), format!("e{a}"), policy).await),
        4 => format!("{:?}", store.delete_message(change(to, b64, by), policy).await),
        5 => format!("{:?}", store.mark_read(room(to), by, b64, policy).await),
        6 => {
            let page = Page { after: (b % 2 == 0).then_some(b64), before: (b % 3 == 0).then_some(b64), limit: 3 };
            format!("{:?}", store.join_room(room(to), by, page, policy).await)
        }
        7 => {
            let page = Page { after: (b % 2 == 0).then_some(b64), before: (b % 3 == 0).then_some(b64), limit: 3 };
            format!("{:?}", store.history(room(to), by, page, policy).await)
        }
        8 => format!("{:?}", store.rooms_of(user(&name)).await),
        9 | 10 => {
            let mut updates = vec![Update { base_version: Some(b64 % 3), ..report(&of, f64::from(b), 2, None) }];
            updates[0].sync_id = keyed(b);
            if a % 2 == 0 {
                updates.push(Update {
                    course: Some(lesson("c")),
                    sync_id: keyed(a),
                    ..report("x", f64::from(a), 1, None)
                });
            }
            format!("{:?}", store.sync_progress(user(&name), updates, at).await)
        }
        11 => {
            let filter = LessonFilter {
                lesson: (a % 4 == 1).then(|| lesson(&of)),
                course: (a % 4 == 2).then(|| lesson("c")),
                since: (b % 2 == 0).then_some(b64),
                limit: None,
            };
            format!("{:?}", store.progress(user(&name), filter).await)
        }
        12 => format!("{:?}", store.progress_history(user(&name), lesson(&of)).await),
        13 | 14 => {
            let audience = match a % 4 {
                0 => Audience::All,
                1 => Audience::Role(Role::Learner),
                2 => Audience::Role(Role::Coach),
                _ => Audience::Users(vec![user("1"), user(&(b % 4 + 1).to_string())]),
            };
            let key = keyed(b).map(|text| key(&name, &text));
            format!("{:?}", store.notify(note(audience, &format!("n{b}")), key).await)
        }
        15 => {
            let query = InboxQuery { before: (a % 2 == 0).then_some(b64), limit: 3, unread_only: b % 2 == 0 };
            format!("{:?}", store.inbox(me, query).await)
        }
        16 => {
            let selection = if a % 4 == 0 {
                Selection::All { up_to: (b % 2 == 0).then_some(b64) }
            } else {
                Selection::Ids(vec![b64, a64, b64 / 2])
            };
            let action = if b % 3 == 0 { InboxAction::Delete } else { InboxAction::Read };
            format!("{:?}", store.mark_inbox(me, selection, action, Some(a64)).await)
        }
        17 => format!("{:?}", store.arrive(me, at, usize::from(a % 4)).await),
        18 => {
            let marked = store.delivered(vec![(user(&name), b64)]).await;
            format!("{marked:?} {:?}", store.left(user(&name), at).await)
        }
        19 => {
            let rooms = if a % 2 == 0 { vec![room("1"), room("b"), room("1")] } else { vec![room(to)] };
            format!("{:?}", store.replay(me, rooms, b64, usize::from(a)).await)
        }
        21 => format!("{:?}", store.record(entry(&name, &format!("{a}/{b}"), a64 * 100)).await),
        22 => {
            let hold = Hold { number: 0, subject: subject(a, b), reason: format!("{b}"), by: name, at };
            format!("{:?} {:?}", store.hold(hold).await, store.holds().await)
        }
        23 => format!("{:?}", store.release(subject(a, b)).await),
        24 => {
            let begun = store.begin_erasure(user(&name)).await;
            let erased = match begun.is_ok() {
                true => format!("{:?}", erase_all(bed, &name, if a % 2 == 0 { 1_000 } else { 2 }).await),
                false => String::new(),
            };
            format!("{begun:?} {erased} {:?}", store.erasures().await)
        }
        25 => {
            let kind = PurgeKind::ALL[usize::from(a) % 3];
            let slice = if b % 2 == 0 { 1_000 } else { 2 };
            format!("{:?}", purge_all(bed, kind, Timestamp(b64), slice).await)
        }
        26 => {
            format!("{:?}", store.export(user(&name), usize::from(1 + b % 7)).await)
        }
        27 => format!("{:?} {:?}", store.audit(a64, 4).await, store.audit_ends().await),
        28 => {
            let patch = RoomPatch { private: Some(b % 2 == 0), admit_guests: a % 2 == 0, name: None };
            let act = act(action::ROOM_SET, to);
            format!("{:?}", store.act(PatchRoom { room: room(to), patch }, act).await)
        }
        29 if a % 8 == 0 => {
            let begun = store.act(RemoveRoom { room: room(to) }, act(action::ROOM_DELETE, to)).await;
            format!("{begun:?} {:?}", store.remove_messages(usize::from(b % 4)).await)
        }
        29 => format!("{:?}", store.leave_room(to, &name).await),
        30 => {
            let membership = [Membership::Guest, Membership::Member, Membership::Moderator][usize::from(b) % 3];
            format!("{:?}", store.set_member(room(to), user(&name), membership).await)
        }
        31 if a % 4 == 0 => format!("{:?}", store.remove_member(room(to), user(&name)).await),
        31 => format!("{:?}", store.withheld(room(to), (b64..b64 + 20).collect()).await),
        32 => {
            let external = ExternalId { caller: user("svc"), name: format!("x{}", b % 5) };
            let (room, target) = (room(to), MessageTarget::External(external.clone()));
            if a % 3 == 0 {
                let draft = draft(to, &name, &format!("x{a}"), None);
                let post = PostMessage { draft, policy, key: None, external_id: Some(external), origin: None };
                format!("{:?}", store.ask(post).await)
            } else {
                format!("{:?}", store.delete_message(One { room, target, author: by }, policy).await)
            }
        }
        33 => format!("{:?}", store.ask(PruneWithheld { limit: usize::from(1 + b % 3) }).await),
        _ => {
            // Six hours, so that four of them expire a key.
            bed.clock.advance(DAY / 4);
            let answer = store.first_answer(key(&name, &format!("k{}", a % 4)), &format!("{}", a % 3), b64).await;
            let unsent = store.unsent_broadcasts().await;
            format!("{answer:?} {unsent:?} {:?}", store.last_seen(vec![user("1"), user("2"), user("3")]).await)
        }
    }
}

/// A user, or a room that is written to.
fn subject(a: u8, b: u8) -> Subject {
    match a % 2 {
        0 => Subject::User(user(&(b % 3 + 1).to_string())),
        _ => Subject::Room(room(ROOMS[usize::from(b) % 2])),
    }
}

/// What is kept is what counting gives, for everybody.
pub async fn assert_counts(bed: &Bed) {
    for who in 0..3 {
        let name = (who + 1).to_string();
        let inbox = bed.store.inbox(actor(&name, &roles(who)), InboxQuery { limit: 10_000, ..InboxQuery::default() });
        let inbox = inbox.await.unwrap();
        let unread = inbox.items.iter().filter(|one| !one.read).count() as u64;
        assert_eq!(inbox.unread, unread, "the inbox of {name}");
        for listed in bed.store.rooms_of(user(&name)).await.unwrap() {
            let all = bed.store.history(listed.room.id.clone(), admin(), latest(10_000), OPEN).await.unwrap().messages;
            let is_behind = |id: u64| id > listed.read_up_to;
            let behind = all.iter().filter(|one| is_behind(one.id) && one.deleted_at.is_none()).count() as u64;
            // What was said before they came does not count.
            assert!(listed.unread <= behind, "{} of {behind} in {} for {name}", listed.unread, listed.room.id);
        }
    }
}

/// Sequences of steps, for whoever takes them.
pub fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((0..KINDS, 0u8..3, 0u8..30, 0u8..60), 1..most)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    #[ignore = "long"]
    fn what_is_known_by_heart_is_what_lies_on_disk(
        steps in steps(120),
        reopen_at in prop::collection::btree_set(0usize..120, 1..4),
    ) {
        run(async move {
            let (mut one, two) = Bed::twins().await;
            for (n, step) in steps.into_iter().enumerate() {
                if reopen_at.contains(&n) {
                    one = one.reopen().await;
                }
                assert_eq!(perform(&one, step).await, perform(&two, step).await, "step {n}: {step:?}");
                assert_eq!(one.store.last_id(), two.store.last_id(), "step {n}: {step:?}");
            }
            assert_counts(&one).await;
            let heard = one.heard.all();
            assert_rising(&heard);
            assert_eq!(heard, two.heard.all());
            one.end().await;
            two.end().await;
        });
    }
}
