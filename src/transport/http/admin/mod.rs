//! Administration.

pub mod data;
pub mod messages;
pub mod notices;
pub mod rooms;
pub mod users;
pub mod webhooks;

use std::sync::Arc;
use std::time::Instant;

use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use crate::auth::Key;
use crate::domain::{Room, Scope};
use crate::observability::noticed::Noticed;
use crate::observability::process;
use crate::protocol::admin::data::LastBackup;
use crate::protocol::http::{
    AuditForward, BusyRoom, ContinuousBackup, KeyStatus, ProcessCounts, QuotaCounts, QuotaFigures, RateFigures,
    RefusedUser, SearchStatus, SeenName, Status, StoreCounts, UnreachableCounts,
};
use crate::services::access::refusal_view;
use crate::services::{Caller, authorize};

use crate::services::limits::StoreQuota;
use crate::services::limits::budget::RequestKind;
use crate::transport::http::{HttpApi, answer, asker, failure, with_api};

/// So many rooms and people are shown.
const SHOWN: usize = 5;

pub(in crate::transport::http) fn routes(api: &Arc<HttpApi>) -> BoxedFilter<(Response,)> {
    warp::path!("api" / "v1" / "admin" / "status")
        .and(warp::get())
        .and(with_api(api))
        .and(asker(api, RequestKind::Admin))
        .then(status)
        .boxed()
}

/// The rooms that most is said in.
fn busiest_rooms(api: &HttpApi) -> Vec<BusyRoom> {
    let rooms = api.app.live.counters().busiest_rooms.read(SHOWN, Instant::now()).into_iter();
    let busy = rooms.map(|(room_id, messages)| {
        let sockets = api.app.live.sockets.count(&Room::Chat(room_id.clone()));
        BusyRoom { room_id, messages, sockets }
    });
    busy.collect()
}

/// Who was refused last.
fn last_refused(api: &HttpApi) -> Vec<RefusedUser> {
    let now = (api.app.store.now(), Instant::now());
    let refused = api.app.live.counters().refused_users.latest(SHOWN).into_iter();
    refused.map(|(user_id, refusal)| RefusedUser { user_id, refusal: refusal_view(refusal, now) }).collect()
}

async fn status(api: Arc<HttpApi>, caller: Caller) -> Response {
    if let Err(error) = authorize(&caller, Scope::Admin) {
        return failure(&error);
    }
    let (readiness, now) = (api.readiness(), api.app.store.now());
    let (users, rooms) = api.app.live.sockets.totals();
    let store = api.app.store.status();
    let counters = api.app.live.counters();
    let rates = counters.rates(api.sockets.delivered());
    let process = process::read();
    let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let refused_users = api.app.rates.refused_users(now);
    let quota = |quota: StoreQuota| QuotaFigures {
        refused: counters.rate_limited.of(quota.name()),
        users_today: refused_users.iter().find(|(one, _)| *one == quota).map_or(0, |(_, users)| *users),
    };
    let body = Status {
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: api.process.uptime().as_secs(),
        addresses: api.process.addresses(),
        websocket_enabled: api.process.websocket_enabled(),
        ready: readiness.is_ok(),
        reason: readiness.err(),
        sockets: api.sockets.counts(),
        users,
        rooms,
        rates: RateFigures { messages: rates.messages, deliveries: rates.deliveries, requests: rates.requests },
        polls_waiting: counters.polls_waiting.get(),
        connections: counters.connections_open.get(),
        connections_limit: counters.connections_limit.get(),
        connections_turned_away: counters.rate_limited.of("descriptors"),
        refused_sign_ins: counters.refused_sign_ins.total(),
        refused_beyond_records: api.app.audit.refused_beyond_records(),
        rate_limited: counters.rate_limited.total(),
        quotas: QuotaCounts {
            stored: quota(StoreQuota::Stored),
            new_rooms: quota(StoreQuota::NewRooms),
            lessons: quota(StoreQuota::Lessons),
            reports: quota(StoreQuota::Reports),
        },
        process: ProcessCounts {
            resident_bytes: process.resident_bytes,
            open_fds: process.open_fds,
            max_fds: process.max_fds,
            cpu_seconds: process.cpu.as_secs_f64(),
        },
        certificate: api.process.certificate(),
        certificate_error: api.process.certificate_error(),
        config_error: api.process.config_error(),
        keys: api.verifier.keys().iter().filter(|key| !key.has_ended(now)).map(key_status).collect(),
        keys_error: api.process.keys_error(),
        seen_from: caller.origin.as_deref().unwrap_or_default().to_owned(),
        untrusted_proxies: seen_names(&counters.untrusted_proxies),
        refused_origins: seen_names(&counters.refused_origins),
        unreachable: UnreachableCounts {
            old_clients: counters.old_clients.get(),
            lost_upgrades: counters.lost_upgrades.get(),
            unsigned: counters.unsigned.get(),
        },
        busiest_rooms: busiest_rooms(&api),
        refused_users: last_refused(&api),
        store: StoreCounts {
            commit_p50_ms: store.commit_time.within(0.5).map(millis),
            commit_p99_ms: store.commit_time.within(0.99).map(millis),
            free_bytes: api.process.free_bytes(),
            min_free_bytes: store.min_free_bytes,
            file_bytes: store.file_bytes,
            queued: store.queued,
            commits: store.commits,
            writes: store.writes,
            last_id: store.last_id,
            last_backup: store.last_backup.map(|(at, bytes)| LastBackup { at, bytes }),
        },
        continuous_backup: api.process.continuous().map(|standing| ContinuousBackup {
            directory: standing.dir.display().to_string(),
            lag_seconds: standing.lag.as_secs_f64(),
            problem: standing.problem,
            gaps: standing.gaps,
            base_at: standing.base_at,
            written_at: standing.written_at,
        }),
        audit_forward: api.process.forwarding().map(|forwarding| AuditForward {
            lag_seconds: forwarding.behind_seconds(api.app.store.now()),
            target: forwarding.target,
            sent: forwarding.sent,
            confirmed: forwarding.confirmed,
            waiting: forwarding.waiting,
            failures: forwarding.failures,
            problem: forwarding.problem,
        }),
        webhooks: api.app.webhooks.view(),
        search: api.app.search.standing().map(|standing| SearchStatus {
            state: standing.doing.as_str(),
            messages: standing.documents,
            bytes: standing.bytes,
            up_to: standing.up_to,
            is_complete: standing.is_complete(),
            lag_seconds: standing.behind().as_secs(),
            rebuilt: standing.anew,
            problem: standing.problem,
        }),
        deliveries: api.sockets.delivered(),
        slow_readers: api.sockets.slow_readers(),
    };
    answer(Ok(body))
}

fn seen_names(noticed: &Noticed) -> Vec<SeenName> {
    noticed.read().into_iter().map(|seen| SeenName { name: seen.name, requests: seen.requests }).collect()
}

fn key_status(key: &Key) -> KeyStatus {
    KeyStatus { kids: key.kids.clone(), algorithms: key.algorithms(), origin: key.origin.to_string(), until: key.until }
}
