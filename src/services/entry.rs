//! Who may enter a room: the rules of this server and, if `chat.authorize_url` is set, the platform. It is asked in one place,
//! for sockets, HTTP and polls alike. Its answers hold for a while; what it takes is bounded in time and number, so that a
//! platform that hangs holds up nobody but who waits for it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_util::{TryStreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::domain::audit::action;
use crate::domain::chat::{Author, Membership};
use crate::domain::{Refusal, Role, RoomId, UserId};
use crate::protocol::error::{ApiError, ErrorCode};
use crate::realtime::live::Live;
use crate::services::Caller;
use crate::services::errors::store_error;
use crate::services::platform::{Platform, Verdict};
use crate::services::settings::LiveSettings;
use crate::services::storage::Storage;
use crate::store::StoreError;
use crate::store::operations::{Act, SetMember};

/// So many answers are remembered.
const MOST_KNOWN: usize = 20_000;
/// The platform is asked so many things at once.
const AT_ONCE: usize = 32;
/// Of these so many for one caller who names many rooms.
const AT_ONCE_OF_ONE: usize = 8;

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Question {
    user: UserId,
    roles: Vec<Role>,
    room: RoomId,
}

/// The platform's answers that still hold. Each holds for the same time, so the oldest ends first.
#[derive(Debug, Default)]
struct Known {
    verdicts: HashMap<Question, (Verdict, u64)>,
    order: VecDeque<(Instant, u64, Question)>,
    given: u64,
}

impl Known {
    fn get(&mut self, question: &Question, now: Instant, lasts: Duration) -> Option<Verdict> {
        while let Some((at, ..)) = self.order.front() {
            if now.duration_since(*at) < lasts {
                break;
            }
            self.forget_oldest();
        }
        self.verdicts.get(question).map(|(verdict, _)| *verdict)
    }

    fn put(&mut self, question: Question, verdict: Verdict, now: Instant) {
        self.given += 1;
        self.order.push_back((now, self.given, question.clone()));
        self.verdicts.insert(question, (verdict, self.given));
        while self.order.len() > MOST_KNOWN {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((_, nth, question)) = self.order.pop_front() else { return };
        // Unless a newer answer has taken its place.
        if self.verdicts.get(&question).is_some_and(|(_, given)| *given == nth) {
            self.verdicts.remove(&question);
        }
    }
}

struct Asking {
    platform: OnceLock<Arc<dyn Platform>>,
    known: Mutex<Known>,
    turns: Semaphore,
}

/// Who may enter a room.
#[derive(Clone)]
pub struct Entry {
    store: Storage,
    settings: Arc<LiveSettings>,
    asking: Arc<Asking>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entry")
    }
}

impl Entry {
    pub(super) fn new(store: Storage, settings: Arc<LiveSettings>) -> Entry {
        let asking = Asking { platform: OnceLock::new(), known: Mutex::default(), turns: Semaphore::new(AT_ONCE) };
        Entry { store, settings, asking: Arc::new(asking) }
    }

    /// This is the platform.
    pub fn ask_at(&self, platform: Arc<dyn Platform>) {
        // There is one for a process.
        drop(self.asking.platform.set(platform));
    }

    /// The platform, if there is one.
    #[must_use]
    pub fn platform(&self) -> Option<&Arc<dyn Platform>> {
        self.asking.platform.get()
    }

    /// Whether the caller may enter a room, by the platform's word and by what is stored at this moment.
    ///
    /// # Errors
    /// `forbidden`, `unavailable`.
    pub(super) async fn require(&self, caller: &Caller, room: &RoomId) -> Result<(), ApiError> {
        self.require_word(caller, room).await?;
        self.require_right(caller, room).await
    }

    /// As [`Entry::require`], for who asks for something of a room. Who is in it was asked about when they came.
    ///
    /// # Errors
    /// `forbidden`, `unavailable`.
    pub(super) async fn require_outside(&self, live: &Live, caller: &Caller, room: &RoomId) -> Result<(), ApiError> {
        self.require_word_outside(live, caller, room).await?;
        self.require_right(caller, room).await
    }

    async fn require_right(&self, caller: &Caller, room: &RoomId) -> Result<(), ApiError> {
        let policy = self.settings.policy();
        self.store.may_enter(room.clone(), Author::of(&caller.actor), policy).await.map_err(store_error)
    }

    /// Whether the platform lets the caller enter all of these rooms, but for those that they are in.
    ///
    /// # Errors
    /// `forbidden`, `unavailable`.
    pub(super) async fn require_words(&self, live: &Live, caller: &Caller, rooms: &[RoomId]) -> Result<(), ApiError> {
        if !self.is_asked(caller) {
            return Ok(());
        }
        let (limit, fails_open) = {
            let settings = self.settings.get();
            (settings.chat.authorize_timeout, settings.chat.authorize_fails_open)
        };
        let asked = rooms.iter().map(|room| self.require_word_outside(live, caller, room));
        let all = stream::iter(asked.map(Ok::<_, ApiError>)).try_for_each_concurrent(AT_ONCE_OF_ONE, |word| word);
        // However many rooms are named, who asks knows within the time for one.
        match tokio::time::timeout(limit, all).await {
            Ok(words) => words,
            Err(_) if fails_open => Ok(()),
            Err(_) => Err(undecided()),
        }
    }

    fn is_asked(&self, caller: &Caller) -> bool {
        self.settings.get().chat.authorize_url.is_some()
            && !Author::of(&caller.actor).admin
            && self.asking.platform.get().is_some()
    }

    /// As [`Entry::require_word`], unless the caller is in the room: they were asked about when they came.
    ///
    /// # Errors
    /// `forbidden`, `unavailable`.
    pub(super) async fn require_word_outside(
        &self,
        live: &Live,
        caller: &Caller,
        room: &RoomId,
    ) -> Result<(), ApiError> {
        let is_in = match caller.socket {
            Some(socket) => live.sockets.is_in(socket, room),
            None => live.sockets.is_present(&caller.actor.user, room),
        };
        if is_in { Ok(()) } else { self.require_word(caller, room).await }
    }

    /// Whether the platform lets the caller enter a room, if it is asked.
    ///
    /// # Errors
    /// `forbidden`; `unavailable` if it does not say, and is to.
    pub(super) async fn require_word(&self, caller: &Caller, room: &RoomId) -> Result<(), ApiError> {
        let Some(platform) = self.asking.platform.get().filter(|_| self.is_asked(caller)) else { return Ok(()) };
        let chat = self.settings.get().chat.clone();
        let mut roles = caller.actor.roles.clone();
        roles.sort_unstable();
        let question = Question { user: caller.actor.user.clone(), roles, room: room.clone() };
        let known = self.asking.known.lock().get(&question, Instant::now(), chat.authorize_cache);
        if let Some(verdict) = known {
            return self.follow(&question, verdict, false).await;
        }
        // Waiting for a turn counts as well: who asks knows after this time, whatever the others wait for.
        let asked = async {
            let Ok(_turn) = self.asking.turns.acquire().await else { return Err("the server stops".to_owned()) };
            platform.may_enter(&caller.actor, room).await
        };
        let late = || Err(format!("it did not answer within {} ms", chat.authorize_timeout.as_millis()));
        let word = tokio::time::timeout(chat.authorize_timeout, asked).await.unwrap_or_else(|_| late());
        match word {
            Ok(verdict) => {
                if !chat.authorize_cache.is_zero() {
                    self.asking.known.lock().put(question.clone(), verdict, Instant::now());
                }
                self.follow(&question, verdict, true).await
            }
            Err(why) if chat.authorize_fails_open => {
                tracing::warn!(%room, "the platform does not say who may enter ({why}); the rules of this server decide");
                Ok(())
            }
            Err(why) => {
                tracing::warn!(%room, "the platform does not say who may enter ({why}); nobody new enters");
                Err(undecided())
            }
        }
    }

    /// Does as the platform says.
    async fn follow(&self, question: &Question, verdict: Verdict, is_new: bool) -> Result<(), ApiError> {
        if !verdict.may_enter {
            return Err(ApiError::new(ErrorCode::Forbidden, "the platform does not let you enter this room"));
        }
        match verdict.role.filter(|_| is_new) {
            Some(role) => self.make(question, role).await,
            None => Ok(()),
        }
    }

    /// Makes somebody in a room what the platform says they are. A room that nobody has registered has no members: there they
    /// are what everybody is.
    async fn make(&self, question: &Question, role: Membership) -> Result<(), ApiError> {
        let Question { user, room, .. } = question;
        let is = self.store.membership(room.clone(), user.clone()).await.map_err(store_error)?;
        if is.unwrap_or(Membership::Guest) == role {
            return Ok(());
        }
        let act = Act {
            actor: "platform".to_owned(),
            origin: "chat.authorize_url".to_owned(),
            action: action::MEMBER_ADD,
            target: format!("room {room}"),
            note: format!("user {user} is {}", role.as_str()),
        };
        let set = SetMember { room: room.clone(), user: user.clone(), membership: role };
        match self.store.act(set, act).await {
            Ok(_) | Err(StoreError::Refused(Refusal::NotFound)) => Ok(()),
            Err(error) => Err(store_error(error)),
        }
    }
}

fn undecided() -> ApiError {
    let message = "the platform that decides who may enter this room does not answer; try again";
    ApiError::new(ErrorCode::Unavailable, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(n: usize) -> Question {
        let user = UserId::parse(&format!("u{n}")).unwrap();
        Question { user, roles: vec![Role::Learner], room: RoomId::parse("r").unwrap() }
    }

    #[test]
    fn an_answer_holds_for_its_time_and_the_oldest_makes_room() {
        let (yes, no) = (Verdict { may_enter: true, role: None }, Verdict { may_enter: false, role: None });
        let (mut known, start, lasts) = (Known::default(), Instant::now(), Duration::from_secs(60));
        known.put(question(1), yes, start);
        assert_eq!(known.get(&question(1), start, lasts), Some(yes));
        // A newer answer takes its place, and outlives it.
        known.put(question(1), no, start + Duration::from_secs(30));
        assert_eq!(known.get(&question(1), start + Duration::from_secs(61), lasts), Some(no));
        assert_eq!(known.get(&question(1), start + Duration::from_secs(90), lasts), None);
        assert!(known.verdicts.is_empty() && known.order.is_empty());
        (0..MOST_KNOWN + 10).for_each(|n| known.put(question(n), yes, start));
        assert_eq!((known.verdicts.len(), known.order.len()), (MOST_KNOWN, MOST_KNOWN));
        assert_eq!(known.get(&question(9), start, lasts), None);
        assert_eq!(known.get(&question(10), start, lasts), Some(yes));
    }
}
