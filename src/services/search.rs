//! Search: messages that have the words that somebody looks for, in the rooms that they may read. The index says which may be meant;
//! each is read from the store again, under the rights that `chat:history` asks for, before it is shown.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use crate::config::capacity;
use crate::domain::chat::{Author, Message};
use crate::domain::{MAX_SAFE_INTEGER, RoomId};
use crate::protocol::answer::Found;
use crate::protocol::error::{ApiError, ErrorCode};
use crate::protocol::request::{ChatSearch, MAX_FOUND};
use crate::protocol::view::MessageView;
use crate::search::follower::{Follower, NotNow, Standing};
use crate::search::{Query, Reader};
use crate::services::Caller;
use crate::services::chat::hide_keys_of_others;
use crate::services::errors::store_error;
use crate::services::pages::{fitting, limit_within};
use crate::services::settings::LiveSettings;
use crate::services::storage::Storage;
use crate::services::turns::{NoTurn, Turn, Turns};
use crate::services::uses::Uses;

/// Messages of a page for which nothing was said.
const DEFAULT_FOUND: usize = 20;
/// So many messages are looked at, where those of the first look are not what is looked for: some may be gone since, or have the
/// words of a phrase elsewhere.
const CANDIDATES: usize = 100;
/// So often, until a page is given as it is.
const ROUNDS: usize = 10;
/// So long a search may take, waiting for its turn apart.
const TIME: Duration = Duration::from_secs(2);
/// So long it waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// Search.
#[derive(Debug, Clone)]
pub struct Search {
    store: Storage,
    settings: Arc<LiveSettings>,
    uses: Uses,
    /// Where it is on, and the server has begun.
    index: Arc<OnceLock<Arc<Follower>>>,
    asked: Turns,
    working: Arc<Semaphore>,
}

impl Search {
    pub(super) fn new(store: Storage, settings: Arc<LiveSettings>, uses: Uses) -> Search {
        let working = Arc::new(Semaphore::new(capacity::SEARCHES));
        Search { store, settings, uses, index: Arc::default(), asked: Turns::default(), working }
    }

    /// From here on there is an index.
    pub fn begin(&self, index: Arc<Follower>) {
        let _ = self.index.set(index);
    }

    /// How the index stands; `None` where there is none.
    #[must_use]
    pub fn standing(&self) -> Option<Standing> {
        self.index.get().map(|index| index.standing())
    }

    /// Ends the index with all that is stored by now; the store is still open.
    pub(super) async fn end(&self) {
        let Some(index) = self.index.get() else { return };
        index.end();
        if tokio::time::timeout(PATIENCE, index.ended()).await.is_err() {
            tracing::info!("the index of search did not end in time; the next start compares it with the store");
        }
    }

    /// The newest messages with some words, in one room or in those on the caller's list.
    ///
    /// # Errors
    /// `invalid_payload`, `forbidden`, `not_found` where search is off, `unavailable`.
    pub async fn search(&self, caller: &Caller, request: ChatSearch) -> Result<Found, ApiError> {
        let index = self.index.get().ok_or_else(|| {
            ApiError::new(ErrorCode::NotFound, "search is off on this server (search.enabled in its configuration)")
        })?;
        let query = Query::parse(&request.q).map_err(|bad| ApiError::field("q", bad.to_string()))?;
        let limit = limit_within(request.limit, DEFAULT_FOUND, MAX_FOUND)?;
        let room = request.room_id;
        if let Some(room) = &room {
            self.uses.note_reading(caller, std::slice::from_ref(room)).await?;
        }
        let _turn = self.turn(caller)?;
        // The first search of a server begins its index, and waits for all that can be found in a moment; the first behind a start finds
        // it being opened.
        let _ = match index.want() {
            true => tokio::time::timeout(TIME, index.completed()).await,
            false => tokio::time::timeout(PATIENCE, index.opened()).await,
        };
        let author = Author::of(&caller.actor);
        let policy = self.settings.policy();
        let rooms = self.store.searched_rooms(author.clone(), room.clone(), policy).await.map_err(store_error)?;
        let (query, rooms) = (Arc::new(query), Arc::new(rooms.into_iter().collect::<HashSet<u64>>()));
        // Before anything is looked for: what is found is no older than this says.
        let standing = index.standing();
        // All that is not older than this has been looked at.
        let mut looked_to = request.before.unwrap_or(MAX_SAFE_INTEGER).min(MAX_SAFE_INTEGER);
        let (mut found, mut is_end) = (Vec::new(), rooms.is_empty());
        for round in 0..ROUNDS {
            if is_end || found.len() > limit {
                break;
            }
            let most = if round == 0 { limit + 1 } else { CANDIDATES };
            let ids = self.candidates(index, &query, &rooms, looked_to, most).await?;
            is_end = ids.len() < most;
            looked_to = ids.last().copied().unwrap_or(looked_to);
            let read = self.store.found(ids, author.clone(), room.clone(), policy).await.map_err(store_error)?;
            found.extend(self.those_that_fit(&query, read, limit + 1 - found.len()).await?);
        }
        let is_over = found.len() > limit;
        found.truncate(limit);
        hide_keys_of_others(&mut found, &caller.actor.user);
        let fit = fitting(found.iter().map(MessageView::from));
        let is_cut = is_over || fit < found.len();
        found.truncate(fit);
        if room.is_none() {
            let read: HashSet<RoomId> = found.iter().map(|message| message.room.clone()).collect();
            self.uses.note_reading(caller, &read.into_iter().collect::<Vec<RoomId>>()).await?;
        }
        let has_more = is_cut || !is_end;
        let next = if is_cut { found.last().map_or(looked_to, |last| last.id) } else { looked_to };
        Ok(Found {
            messages: found,
            has_more,
            next: has_more.then_some(next),
            is_complete: standing.is_complete(),
            up_to: standing.up_to,
        })
    }

    /// A place among those who look for something now.
    fn turn(&self, caller: &Caller) -> Result<Turn, ApiError> {
        self.asked.begin(&caller.actor.user, capacity::SEARCHES_WAITING, capacity::SEARCHES_EACH).map_err(|why| {
            let message = match why {
                NoTurn::Own => {
                    format!("a user may search {} times at once; wait for an answer first", capacity::SEARCHES_EACH)
                }
                NoTurn::All => "too many searches at once; try again".to_owned(),
            };
            ApiError { message: message.into(), ..ApiError::unavailable() }
        })
    }

    /// Works on a thread that may block, one of few.
    async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
        let turn = tokio::time::timeout(PATIENCE, self.working.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(ApiError::unavailable()) };
        let worked = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        });
        worked.await.map_err(|error| {
            tracing::error!(%error, "a search ended early");
            ApiError::new(ErrorCode::Internal, "the search ended early")
        })
    }

    /// What the index says of messages before an id: their ids, falling.
    async fn candidates(
        &self,
        index: &Arc<Follower>,
        query: &Arc<Query>,
        rooms: &Arc<HashSet<u64>>,
        before: u64,
        most: usize,
    ) -> Result<Vec<u64>, ApiError> {
        let (index, query, rooms) = (index.clone(), query.clone(), rooms.clone());
        let looked = self.work(move || index.look_for(&query, &rooms, before, most, Instant::now() + TIME)).await?;
        looked.map_err(|why| {
            let message = match why {
                NotNow::NoIndex => "the index of search is being opened or built; try again",
                NotNow::TooLong => "this search takes too long; look in one room, or for rarer words",
            };
            ApiError { message: message.into(), ..ApiError::unavailable() }
        })
    }

    /// The first of these messages that are what is looked for as they are now.
    async fn those_that_fit(
        &self,
        query: &Arc<Query>,
        messages: Vec<Message>,
        most: usize,
    ) -> Result<Vec<Message>, ApiError> {
        let query = query.clone();
        self.work(move || {
            let mut reader = Reader::default();
            messages.into_iter().filter(|message| query.fits(&mut reader, &message.content)).take(most).collect()
        })
        .await
    }
}
