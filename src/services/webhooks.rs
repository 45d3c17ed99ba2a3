//! What the platform is told, as administrators see it; and who comes and goes, as the platform is to be told it. What is told is
//! a state: where somebody is now, if that is not what was told last. So nothing of it is lost over a crash.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::domain::audit::action;
use crate::domain::webhook::HookEvent;
use crate::domain::{Refusal, Scope};
use crate::protocol::admin::webhooks::{
    DeadLetterView, HookList, HookListRequest, HookReplayRequest, HookTested, HooksReplayed, HooksView,
};
use crate::protocol::error::{ApiError, ErrorCode};
use crate::protocol::webhook::{GAP, change_of, hook_id};
use crate::realtime::live::Live;
use crate::realtime::registry::{New, Whereabouts};
use crate::services::entry::Entry;
use crate::services::errors::store_error;
use crate::services::pages::limit_within;
use crate::services::platform::{HookStanding, Platform, Tried};
use crate::services::settings::LiveSettings;
use crate::services::storage::Storage;
use crate::services::{Caller, authorize};
use crate::store::operations::{Act, Sighting, TellAgain, TellSightings};
use crate::store::{HookPlan, StoreError};

/// The events of who comes and goes.
const SIGHTINGS: [HookEvent; 4] =
    [HookEvent::UserOnline, HookEvent::UserOffline, HookEvent::RoomJoined, HookEvent::RoomLeft];
/// How often it is looked at who has come or gone.
const LOOK: Duration = Duration::from_millis(250);
/// Who is away for so long has gone: a page that is reloaded is no absence.
const GRACE: Duration = Duration::from_secs(5);
/// After a start, everybody has so long to come back.
const RETURN: Duration = Duration::from_secs(10);
/// What the store did not take is given to it again.
const AGAIN: Duration = Duration::from_secs(1);
/// So many sightings are one write, and one page.
const SLICE: usize = 500;
/// So many people are waited for; with more, everybody is looked at.
const MOST_AWAITED: usize = 100_000;
/// A page of dead letters.
const DEAD_PAGE: usize = 100;
const MOST_DEAD_PAGE: usize = 1_000;
/// So many dead letters are one write.
const REPLAY_SLICE: usize = 500;

/// What the platform is told.
#[derive(Debug, Clone)]
pub struct Webhooks {
    store: Storage,
    live: Arc<Live>,
    settings: Arc<LiveSettings>,
    entry: Entry,
}

/// Of whom it is not yet certain that they have gone.
#[derive(Debug, Default)]
struct Awaited {
    until: HashMap<Whereabouts, Instant>,
    /// Then everybody is looked at, and whoever the platform was told is somewhere.
    all_at: Option<Instant>,
}

impl Awaited {
    fn wait_for(&mut self, who: Whereabouts, until: Instant) {
        if self.until.len() >= MOST_AWAITED {
            self.all_at = Some(until);
            return;
        }
        self.until.entry(who).or_insert(until);
    }
}

impl Webhooks {
    pub(super) fn new(store: Storage, live: Arc<Live>, settings: Arc<LiveSettings>, entry: Entry) -> Webhooks {
        Webhooks { store, live, settings, entry }
    }

    /// Keeps for the platform what the settings in force say.
    pub fn plan(&self) {
        let settings = self.settings.get();
        let events = settings.webhooks.events_told();
        self.store.plan_hooks(HookPlan { events, most: settings.webhooks.outbox });
        self.live.sockets.watch_news(events.has_any(&SIGHTINGS));
    }

    /// Tells the store who comes and goes, while the platform wants to hear of it. The server owns the task.
    pub async fn follow_sightings(&self, stop: CancellationToken) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut awaited: Option<Awaited> = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = looks.tick() => {}
            }
            if !self.settings.get().webhooks.events_told().has_any(&SIGHTINGS) {
                awaited = None;
                continue;
            }
            let all_at = Some(Instant::now() + RETURN);
            let awaited = awaited.get_or_insert_with(|| Awaited { all_at, ..Awaited::default() });
            self.look(awaited).await;
        }
    }

    async fn look(&self, awaited: &mut Awaited) {
        let now = Instant::now();
        let mut found = Vec::new();
        match self.live.sockets.take_news() {
            New::OfAll => awaited.all_at = Some(awaited.all_at.map_or(now, |at| at.min(now))),
            New::Of(news) => {
                for who in news {
                    if self.is_there(&who) {
                        awaited.until.remove(&who);
                        found.push(sighting(who, true));
                    } else {
                        awaited.wait_for(who, now + GRACE);
                    }
                }
            }
        }
        let due: Vec<Whereabouts> = awaited.until.extract_if(|_, until| *until <= now).map(|(who, _)| who).collect();
        found.extend(due.into_iter().map(|who| {
            let is_there = self.is_there(&who);
            sighting(who, is_there)
        }));
        if awaited.all_at.is_some_and(|at| at <= now) {
            match self.everybody().await {
                Ok(all) => {
                    awaited.all_at = None;
                    found.extend(all);
                }
                Err(error) => {
                    tracing::debug!(%error, "who the platform was told is here could not be read");
                    awaited.all_at = Some(now + AGAIN);
                }
            }
        }
        let mut found = found.into_iter().peekable();
        while found.peek().is_some() {
            let sightings: Vec<Sighting> = found.by_ref().take(SLICE).collect();
            if let Err(error) = self.store.write(TellSightings { sightings: sightings.clone() }).await {
                tracing::debug!(%error, "who has come or gone was not stored for the platform; it is stored later");
                sightings
                    .into_iter()
                    .for_each(|sighting| awaited.wait_for((sighting.user, sighting.room), now + AGAIN));
            }
        }
    }

    fn is_there(&self, (user, room): &Whereabouts) -> bool {
        match room {
            Some(room) => self.live.sockets.is_present(user, room),
            None => self.live.sockets.is_online(user),
        }
    }

    /// Who is here, and who is not of whom the platform was told that they are.
    async fn everybody(&self) -> Result<Vec<Sighting>, StoreError> {
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let page = self.store.sighted(after, SLICE).await?;
            let gone = page.people.into_iter().filter(|who| !self.is_there(who));
            all.extend(gone.map(|who| sighting(who, false)));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        all.extend(self.live.sockets.all_here().into_iter().map(|user| sighting((user, None), true)));
        for room in self.live.sockets.live_rooms() {
            let people = self.live.sockets.people_in(&room).into_iter();
            all.extend(people.map(|(user, _)| sighting((user, Some(room.clone())), true)));
        }
        Ok(all)
    }

    /// How webhooks stand.
    #[must_use]
    pub fn standing(&self) -> Option<HookStanding> {
        self.entry.platform().map(|platform| platform.standing())
    }

    /// As an administrator sees how they stand.
    #[must_use]
    pub fn view(&self) -> Option<HooksView> {
        let standing = self.standing()?;
        let asks = self.settings.get().chat.authorize_url.is_some();
        let is_used = !standing.url.is_empty() || asks || standing.waiting + standing.dead > 0;
        is_used.then(|| self.view_of(standing))
    }

    fn view_of(&self, standing: HookStanding) -> HooksView {
        let lag_seconds = standing.lag_seconds(self.store.now());
        let events = HookEvent::ALL.iter().filter(|event| standing.events.has(**event));
        HooksView {
            events: events.map(|event| event.as_str()).collect(),
            url: Some(standing.url).filter(|url| !url.is_empty()),
            waiting: standing.waiting,
            outbox: self.settings.get().webhooks.outbox,
            lag_seconds,
            sent: standing.sent,
            failed: standing.failed,
            gaps: standing.gaps,
            dead: standing.dead,
            taken_at: standing.taken_at,
            is_gone: standing.is_gone,
            problem: standing.problem,
            asked: standing.asked,
            undecided: standing.undecided,
        }
    }

    /// How they stand, with a part of the dead letters.
    ///
    /// # Errors
    /// `invalid_payload`, `forbidden`, `unavailable`.
    pub async fn list(&self, caller: &Caller, request: HookListRequest) -> Result<HookList, ApiError> {
        authorize(caller, Scope::Admin)?;
        let limit = limit_within(request.limit, DEAD_PAGE, MOST_DEAD_PAGE)?;
        let mut standing = self.standing().unwrap_or_default();
        let counts = self.store.hook_counts().await.map_err(store_error)?;
        (standing.waiting, standing.oldest, standing.dead) = (counts.waiting, counts.oldest, counts.dead);
        let letters = self.store.dead_letters(request.after.unwrap_or(0), limit).await.map_err(store_error)?;
        let next = letters.last().filter(|_| letters.len() >= limit).map(|last| last.id);
        let (store_id, epoch) = (self.store.id(), self.store.identity().epoch);
        let items = letters.into_iter().map(|letter| DeadLetterView {
            id: hook_id(&store_id, epoch, letter.id),
            kind: letter.event.map_or(GAP, HookEvent::as_str),
            at: letter.at,
            given_up_at: letter.given_up_at,
            attempts: letter.attempts,
            why: letter.why,
        });
        Ok(HookList { items: items.collect(), webhooks: self.view_of(standing), next })
    }

    /// Sends a webhook of type `test`, past what waits.
    ///
    /// # Errors
    /// `forbidden`, `conflict` if there is no receiver, `unavailable`.
    pub async fn test(&self, caller: &Caller) -> Result<HookTested, ApiError> {
        authorize(caller, Scope::Admin)?;
        let platform = self.platform()?;
        let act = caller.act(action::WEBHOOK_TEST, "webhooks.url".to_owned());
        let tried = platform.try_out().await.map_err(|why| ApiError::new(ErrorCode::Conflict, why))?;
        let Tried { id, is_taken, status, millis, words, answer } = tried;
        let act = Act { note: words.clone(), ..act };
        let entry = act.entry(self.store.now(), if is_taken { "done" } else { "failed" });
        self.store.write(crate::store::operations::Record { entry }).await.map_err(store_error)?;
        Ok(HookTested { id, is_taken, status, millis, words, answer })
    }

    /// Tells dead letters again: one, or all.
    ///
    /// # Errors
    /// `invalid_payload`, `forbidden`, `not_found`, `unavailable`.
    pub async fn replay(&self, caller: &Caller, request: HookReplayRequest) -> Result<HooksReplayed, ApiError> {
        authorize(caller, Scope::Admin)?;
        let id = match (request.id.as_deref(), request.all) {
            (Some(text), false) => {
                let wrong = || ApiError::field("id", "id must be that of a dead letter, for example msg_01234567_1_42");
                Some(change_of(text).ok_or_else(wrong)?)
            }
            (None, true) => None,
            _ => return Err(ApiError::field("id", "give either the id of one dead letter, or all: true")),
        };
        let target = id.map_or_else(|| "all dead letters".to_owned(), |id| format!("dead letter {id}"));
        let mut replayed = 0;
        loop {
            let again = TellAgain { id, limit: REPLAY_SLICE };
            // The first slice carries the record; what it found is in it.
            let act = (replayed == 0).then(|| caller.act(action::WEBHOOK_REPLAY, target.clone()));
            let moved = self.store.act(again, act).await.map_err(|error| match error {
                StoreError::Refused(Refusal::NotFound) => {
                    ApiError::new(ErrorCode::NotFound, "there is no such dead letter")
                }
                other => store_error(other),
            })?;
            replayed += moved.answer;
            if id.is_some() || moved.answer < REPLAY_SLICE as u64 {
                break;
            }
        }
        if let Ok(platform) = self.platform() {
            platform.look_again();
        }
        Ok(HooksReplayed { replayed })
    }

    fn platform(&self) -> Result<&Arc<dyn Platform>, ApiError> {
        let absent = || ApiError::new(ErrorCode::Conflict, "this server tells no platform: set webhooks.url");
        self.entry.platform().ok_or_else(absent)
    }
}

fn sighting((user, room): Whereabouts, is_there: bool) -> Sighting {
    Sighting { user, room, is_there }
}
