//! Everything behind the transports, composed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::domain::Clock;
use crate::realtime::live::Live;
use crate::services::access::Access;
use crate::services::audit::Audit;
use crate::services::backups::Backups;
use crate::services::broadcast::Broadcast;
use crate::services::chat::Chat;
use crate::services::entry::Entry;
use crate::services::identities::Identities;
use crate::services::inbox::Inbox;
use crate::services::limits::Rates;
use crate::services::long_poll::LongPoll;
use crate::services::moderation::Moderation;
use crate::services::moderators::Moderators;
use crate::services::notices::Notices;
use crate::services::presence::Presence;
use crate::services::privacy::Privacy;
use crate::services::progress::Progress;
use crate::services::purges::Purges;
use crate::services::rooms::Rooms;
use crate::services::search::Search;
use crate::services::settings::{LiveSettings, Settings};
use crate::services::storage::Storage;
use crate::services::streams::Streams;
use crate::services::transcripts::Transcripts;
use crate::services::uses::Uses;
use crate::services::webhooks::Webhooks;
use crate::store::{Store, StoreError};

/// Answers that are streamed out are given so long to end when the server stops.
const STREAMS_END: Duration = Duration::from_secs(5);
/// The store is given so long to close while it may wait for deliveries.
const STORE_CLOSES: Duration = Duration::from_secs(10);

/// One of each service, for the process, and what they share. It has no behaviour of its own.
#[derive(Debug)]
pub struct App {
    /// Rooms as their users see them: join, post, read.
    pub chat: Chat,
    /// Reports of lessons, and what is known of them.
    pub progress: Progress,
    /// Notifications of each user.
    pub inbox: Inbox,
    /// Notifications with a time, and who has read which.
    pub notices: Notices,
    /// Who is in a room.
    pub presence: Presence,
    /// Blocks and revocations, and the users that they are about.
    pub access: Access,
    /// Which JSON type the id of each user has.
    pub identities: Identities,
    /// Rooms as administrators see them.
    pub rooms: Rooms,
    /// Other people's words, as administrators look at them and take them away; who may not write for a time.
    pub moderation: Moderation,
    /// How order is kept in a room by its moderators, and what is reported to them.
    pub moderators: Moderators,
    /// What was said, by its words.
    pub search: Search,
    /// Transcripts of rooms.
    pub transcripts: Transcripts,
    /// Legal holds, exports and erasures.
    pub privacy: Privacy,
    /// What goes by its age.
    pub purges: Purges,
    /// The audit log.
    pub audit: Audit,
    /// Rights that are used all day long, for the audit log.
    pub uses: Uses,
    /// Backups while the server runs.
    pub backups: Backups,
    /// What back ends send.
    pub broadcast: Broadcast,
    /// Who asks over HTTP what has happened.
    pub long_poll: LongPoll,
    /// Who may enter which room, and the platform that is asked.
    pub entry: Entry,
    /// What the platform is told.
    pub webhooks: Webhooks,
    /// The store with the clock, for readiness and figures.
    pub store: Storage,
    /// The connections, the revocations and blocks, and the feed of deliveries.
    pub live: Arc<Live>,
    /// The settings in force.
    pub settings: Arc<LiveSettings>,
    /// The rates in force.
    pub rates: Arc<Rates>,
    /// The answers that are being streamed out.
    pub streams: Streams,
}

impl App {
    /// The services over a store whose commits go to `live`. Backups are signed with the key in `key_dir`, if there is one.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, live: Arc<Live>, settings: Settings, key_dir: Option<&Path>) -> App {
        let clock: Arc<dyn Clock> = live.clock.clone();
        let store = Storage::new(store, clock);
        let rates = Arc::new(Rates::new(&settings.limits, live.counters().clone()));
        let settings = Arc::new(LiveSettings::new(settings));
        let ending = CancellationToken::new();
        let streams = Streams::new(live.counters().clone());
        let uses = Uses::new(store.clone(), settings.clone());
        let entry = Entry::new(store.clone(), settings.clone());
        let notices = Notices::new(store.clone(), live.clone());
        App {
            chat: Chat::new(store.clone(), live.clone(), rates.clone(), settings.clone(), uses.clone(), entry.clone()),
            progress: Progress::new(store.clone(), rates.clone()),
            inbox: Inbox::new(store.clone(), live.clone()),
            presence: Presence::new(store.clone(), live.clone(), entry.clone()),
            identities: Identities::new(store.clone(), live.clone(), settings.clone()),
            access: Access::new(store.clone(), live.clone()),
            rooms: Rooms::new(store.clone(), live.clone(), settings.clone()),
            moderators: Moderators::new(store.clone(), live.clone(), rates.clone(), settings.clone(), uses.clone()),
            moderation: Moderation::new(store.clone(), live.clone(), settings.clone(), uses.clone()),
            search: Search::new(store.clone(), settings.clone(), uses.clone()),
            transcripts: Transcripts::new(store.clone(), streams.clone()),
            privacy: Privacy::new(store.clone(), live.clone(), settings.clone(), streams.clone()),
            purges: Purges::new(store.clone(), settings.clone(), ending.clone()),
            audit: Audit::new(store.clone(), live.clone()),
            backups: Backups::new(store.clone(), settings.clone(), streams.clone(), key_dir.map(Path::to_owned)),
            broadcast: Broadcast::new(store.clone(), live.clone(), settings.clone(), uses.clone(), notices.clone()),
            notices,
            long_poll: LongPoll::new(store.clone(), live.clone(), settings.clone(), entry.clone(), ending),
            webhooks: Webhooks::new(store.clone(), live.clone(), settings.clone(), entry.clone()),
            entry,
            uses,
            store,
            live,
            settings,
            rates,
            streams,
        }
    }
}

/// Records what was gathered, commits what waits and closes the store; the feed ends with it. The tasks that write to the store
/// have ended by then.
///
/// # Errors
/// What closing the file said.
pub async fn close(app: &App) -> Result<(), StoreError> {
    app.audit.record_refusals(0, true).await;
    app.uses.record(true).await;
    // Their receivers are cut off by now: each ends at its next piece.
    if tokio::time::timeout(STREAMS_END, app.streams.ended()).await.is_err() {
        tracing::warn!("a streamed answer did not end in time");
    }
    // Nothing is written behind this: the index ends with the last of it, and the next start finds it so.
    app.search.end().await;
    let closing = app.store.close();
    tokio::pin!(closing);
    let closed = match tokio::time::timeout(STORE_CLOSES, &mut closing).await {
        Ok(closed) => closed,
        Err(_) => {
            tracing::warn!("the store is waiting for deliveries that nothing receives; closing it without them");
            app.live.feed.close();
            closing.await
        }
    };
    app.live.feed.close();
    closed
}
