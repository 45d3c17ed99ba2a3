//! The hot path, piece by piece: the codec of requests and deliveries, the store's writer with and without company, and the
//! fan-out from the feed to the wires. Compare within a run; absolute times depend on the machine.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a bench, not the product"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use academy_rt::domain::chat::{Author, Draft, Message, MessageKind, RoomPolicy};
use academy_rt::domain::{Actor, Room, RoomId, SystemClock, Timestamp, UserId};
use academy_rt::protocol::decode;
use academy_rt::protocol::error::ApiError;
use academy_rt::protocol::event::ServerEvent;
use academy_rt::protocol::packet::Packet;
use academy_rt::protocol::request::{ChatMessage, ProgressSync};
use academy_rt::realtime::batch::Packets;
use academy_rt::realtime::delivery::{Delivery, DeliveryKind, Placed};
use academy_rt::realtime::registry::{Group, Kind, Outlet, Sockets};
use academy_rt::store::operations::PostMessage;
use academy_rt::store::{self, NoSink, StoreConfig};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::join_all;

fn message() -> Message {
    Message {
        id: 123_456,
        seq: 789,
        room: RoomId::parse("room-123").unwrap(),
        sender: UserId::parse("7").unwrap(),
        sender_name: "Ann".into(),
        content: "x".repeat(100),
        kind: MessageKind::Text,
        reply_to: None,
        client_id: Some("0b7e0d3c-6d0e-4a43-8d3a-2f9f0c6a5d11".into()),
        at: Timestamp(1_795_447_502_545),
        edited_at: None,
        deleted_at: None,
        edited_by: None,
        deleted_by: None,
    }
}

fn codec(c: &mut Criterion) {
    let mut group = c.benchmark_group("codec");
    let message = message();
    group.bench_function("encode chat:message", |b| b.iter(|| ServerEvent::ChatMessage((&message).into()).encode()));
    let post = format!(r#"{{"roomId":"room-123","content":"{}","type":"text","clientId":"c-1"}}"#, "x".repeat(100));
    group.bench_function("decode chat:message", |b| b.iter(|| decode::request::<ChatMessage>(&post).unwrap()));
    let sync = r#"{"lessonId":42,"progress":75,"timeSpent":120}"#;
    group.bench_function("decode progress:sync", |b| b.iter(|| decode::request::<ProgressSync>(sync).unwrap()));
    group.finish();
}

fn writer(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig {
        data_dir: dir.path().to_owned(),
        cache_bytes: 64 << 20,
        progress_versions: 50,
        lessons_per_user: 0,
        commit_delay: std::time::Duration::ZERO,
        min_free_bytes: 0,
        min_free_admin_bytes: 0,
    };
    let store = store::open(&config, SystemClock::shared(), Arc::new(NoSink)).unwrap();
    let post = || PostMessage {
        draft: Draft {
            room: RoomId::parse("bench").unwrap(),
            author: Author { user: UserId::parse("7").unwrap(), name: "Ann".into(), admin: false },
            content: "x".repeat(100),
            kind: MessageKind::Text,
            reply_to: None,
            client_id: None,
        },
        policy: RoomPolicy { open_rooms: true },
        key: None,
        external_id: None,
        origin: None,
    };
    let mut group = c.benchmark_group("writer");
    group.sample_size(20);
    for senders in [1_usize, 64, 1_024] {
        group.throughput(Throughput::Elements(senders as u64));
        group.bench_function(format!("{senders} waiting"), |b| {
            b.iter(|| {
                let posts = (0..senders).map(|_| store.apply(Timestamp(1), post()));
                assert!(runtime.block_on(join_all(posts)).iter().all(Result::is_ok));
            });
        });
    }
    group.finish();
    runtime.block_on(store.close()).unwrap();
}

/// Counts what it is sent.
#[derive(Default)]
struct Counter(AtomicU64);

impl Outlet for Counter {
    fn send(&self, packets: &Packets<'_>) -> bool {
        self.0.fetch_add(packets.iter().count() as u64, Ordering::Relaxed);
        true
    }
    fn send_volatile(&self, packets: &Packets<'_>) {
        self.send(packets);
    }
    fn expel(&self, _: &ApiError) {}
}

fn fanout(c: &mut Criterion) {
    const RECEIVERS: u64 = 500;
    let sockets = Sockets::default();
    let outlet = Arc::new(Counter::default());
    let room = RoomId::parse("bench").unwrap();
    for socket in 1..=RECEIVERS {
        let user = UserId::parse(&socket.to_string()).unwrap();
        let actor = Arc::new(Actor { user, ..Actor::local_admin() });
        sockets.enter(socket, &actor, &[], outlet.clone(), 0, Kind::Socket).unwrap();
        sockets.join(socket, &room).unwrap().0.open(&*outlet, 0, 0, || {});
    }
    let chat = Room::Chat(room.clone());
    // A position is served once: each iteration has positions of its own.
    let next = AtomicU64::new(1);
    let delivery = |seq: u64| Placed {
        position: next.fetch_add(1, Ordering::Relaxed),
        delivery: Arc::new(Delivery {
            name: "chat:message".into(),
            stored: Some(seq),
            kind: DeliveryKind::Message(seq),
            ..Delivery::of(Room::Chat(room.clone()), Packet::event("chat:message", &"x".repeat(200)))
        }),
    };
    let mut group = c.benchmark_group("fan-out to 500");
    for together in [1_u64, 8] {
        group.throughput(Throughput::Elements(RECEIVERS * together));
        group.bench_function(format!("{together} messages of a commit"), |b| {
            b.iter_batched(
                || (1..=together).map(delivery).collect::<Vec<_>>(),
                |deliveries| {
                    let group = Group::new(&chat, deliveries);
                    let members = sockets.members(&chat).unwrap();
                    members.iter().map(|member| member.deliver(&group)).sum::<usize>()
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, codec, writer, fanout);
criterion_main!(benches);
