//! The connection against a small pipe: order, wholeness, bounds.

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::protocol::packet::Packet;
use crate::transport::socketio::engine::connection::*;

const LIMITS: QueueLimits = QueueLimits {
    queued_frames: 100,
    queued_bytes: 100_000,
    message_bytes: 1_000_000,
    stall: Duration::from_secs(10),
    patience: Duration::from_secs(30),
};
const PATIENCE: Timeouts = Timeouts {
    head: Duration::from_millis(300),
    idle: Duration::from_millis(600),
    stranger: Duration::from_millis(10),
};
const HEAD: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n";

fn frame(text: &str) -> Bytes {
    frame::of(&Packet::event("e", text))
}

fn marker() -> Bytes {
    frame::of(&Packet::event(Marker::EVENT, Marker::secret()))
}

struct Rig {
    connection: Arc<StreamConnection<DuplexStream>>,
    library: ConnectionIo<DuplexStream>,
    client: DuplexStream,
}

fn rig(buffer: usize, limits: QueueLimits) -> Rig {
    let (server, client) = tokio::io::duplex(buffer);
    let connection = StreamConnection::new(server, limits, PATIENCE, Arc::default(), None);
    Rig { library: ConnectionIo::new(connection.clone()), connection, client }
}

async fn upgrade(rig: &mut Rig) {
    rig.connection.expect_websocket(false);
    rig.library.write_all(HEAD).await.unwrap();
    let mut head = vec![0; HEAD.len()];
    rig.client.read_exact(&mut head).await.unwrap();
    assert_eq!(head, HEAD);
}

async fn read_frames(client: &mut DuplexStream, many: usize) -> Vec<String> {
    let mut seen = Vec::new();
    let mut bytes = Vec::new();
    while seen.len() < many {
        let mut part = [0; 37];
        let len = client.read(&mut part).await.unwrap();
        assert!(len > 0, "the connection ended after {seen:?}");
        bytes.extend_from_slice(&part[..len]);
        while let Some(len) = frame::len_of(&bytes).filter(|len| *len <= bytes.len()) {
            let frame: Vec<u8> = bytes.drain(..len).collect();
            let header = if frame[1] & 0x7f == 126 { 4 } else { 2 };
            seen.push(String::from_utf8(frame[header..].to_vec()).unwrap());
        }
    }
    assert!(bytes.is_empty());
    seen
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8(bytes[2..].to_vec()).unwrap()
}

#[tokio::test]
async fn what_is_pushed_waits_for_the_marker_and_the_marker_is_not_sent() {
    let mut rig = rig(4_096, LIMITS);
    upgrade(&mut rig).await;
    let (early, late, queued) = (frame("early"), frame("late"), frame("queued in the library"));
    assert!(rig.connection.push(&early));
    let mut library_bytes = queued.to_vec();
    library_bytes.extend_from_slice(&marker());
    rig.library.write_all(&library_bytes).await.unwrap();
    // The reader of the library empties the outbox.
    let mut byte = [0];
    let read = tokio::spawn(async move {
        let _ = rig.library.read(&mut byte).await;
    });
    assert_eq!(read_frames(&mut rig.client, 2).await, [text(&queued), text(&early)]);
    assert!(rig.connection.push(&late));
    assert_eq!(read_frames(&mut rig.client, 1).await, [text(&late)]);
    read.abort();
}

#[test]
fn the_marker_frame_is_the_marker() {
    let marker = marker();
    assert_eq!(Marker::len_in(&marker), Some(marker.len()));
    // A broadcast of the same name is an event like any other.
    let other = frame::of(&Packet::event(Marker::EVENT, &true));
    assert_eq!(Marker::len_in(&other), None);
}

#[tokio::test]
async fn a_reader_that_does_not_keep_up_is_cut_off_and_the_library_learns_of_it() {
    let mut rig = rig(64, QueueLimits { queued_frames: 3, ..LIMITS });
    upgrade(&mut rig).await;
    rig.library.write_all(&marker()).await.unwrap();
    let mut pushed = 0;
    while rig.connection.push(&frame("0123456789012345678901234567890123456789")) {
        pushed += 1;
        assert!(pushed < 10);
    }
    assert_eq!(rig.connection.is_cut(), Some(Cut::SlowReader));
    assert!(!rig.connection.push(&frame("more")));
    assert!(rig.library.read(&mut [0]).await.is_err());
    assert!(rig.library.write(b"x").await.is_err());
}

#[tokio::test]
async fn a_stalled_write_is_noticed_after_the_limit() {
    let mut rig = rig(64, LIMITS);
    upgrade(&mut rig).await;
    rig.library.write_all(&marker()).await.unwrap();
    let now = Instant::now();
    assert!(!rig.connection.check_stall(now + Duration::from_secs(60)), "nothing waits");
    rig.connection.push(&frame(&"x".repeat(100)));
    assert!(!rig.connection.check_stall(Instant::now()));
    assert!(rig.connection.check_stall(Instant::now() + Duration::from_secs(10)));
    assert!(rig.library.read(&mut [0]).await.is_err());
}

#[tokio::test]
async fn who_does_not_heed_refusals_is_read_more_slowly() {
    let mut rig = rig(4_096, LIMITS);
    rig.client.write_all(b"1").await.unwrap();
    let mut byte = [0];
    for _ in 0..REFUSALS / WRONG_AS_TOO_MANY {
        rig.connection.note_refusal(Refused::TooMany);
    }
    rig.library.read_exact(&mut byte).await.unwrap();
    rig.client.write_all(b"2").await.unwrap();
    rig.connection.note_refusal(Refused::Wrong);
    let refused_at = Instant::now();
    let mut reading = Box::pin(rig.library.read_exact(&mut byte));
    assert!(futures_util::poll!(&mut reading).is_pending(), "one more, and nothing is read");
    rig.connection.check_stall(refused_at);
    assert!(futures_util::poll!(&mut reading).is_pending());
    rig.connection.check_stall(refused_at + PAUSE + Duration::from_millis(1));
    reading.await.unwrap();
    assert_eq!(byte, *b"2");
}

#[tokio::test]
async fn volatile_frames_are_dropped_rather_than_queued() {
    let mut rig = rig(64, LIMITS);
    upgrade(&mut rig).await;
    rig.connection.push_volatile(&frame("before the marker"));
    rig.library.write_all(&marker()).await.unwrap();
    rig.connection.push(&frame(&"x".repeat(60)));
    rig.connection.push_volatile(&frame("while another waits"));
    let mut byte = [0];
    let read = tokio::spawn(async move {
        let _ = rig.library.read(&mut byte).await;
    });
    assert_eq!(read_frames(&mut rig.client, 1).await, [text(&frame(&"x".repeat(60)))]);
    read.abort();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However the library's frames and ours meet, and however little the stream takes at a time, each frame arrives
    /// whole, and ours in their order.
    #[test]
    fn no_frame_is_torn_or_overtaken(
        steps in prop::collection::vec((any::<bool>(), 0usize..300), 1..40), buffer in 1usize..200,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut rig = rig(buffer.max(HEAD.len()), LIMITS);
            upgrade(&mut rig).await;
            rig.library.write_all(&marker()).await.unwrap();
            let many = steps.len();
            let (mut reader, mut writer) = tokio::io::split(rig.library);
            let reading = tokio::spawn(async move { let _ = reader.read(&mut [0]).await; });
            let collecting = tokio::spawn(async move { read_frames(&mut rig.client, many).await });
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for (at, (is_ours, len)) in steps.iter().enumerate() {
                let bytes = frame(&format!("{}{at}-{}", if *is_ours { "o" } else { "t" }, "x".repeat(*len)));
                if *is_ours {
                    assert!(rig.connection.push(&bytes));
                    ours.push(at);
                } else {
                    writer.write_all(&bytes).await.unwrap();
                    writer.flush().await.unwrap();
                    theirs.push(at);
                }
            }
            let seen = collecting.await.unwrap();
            let order = |mark: &str| -> Vec<usize> {
                let of = |text: &String| text.split_once(mark)?.1.split('-').next()?.parse().ok();
                seen.iter().filter_map(of).collect()
            };
            assert_eq!(order("[\"e\",\"o"), ours);
            assert_eq!(order("[\"e\",\"t"), theirs);
            reading.abort();
        });
    }
}

/// How long it takes until the library is told that the client has hung up.
async fn hangs_up(rig: &mut Rig) -> Duration {
    let begun = Instant::now();
    let library = &mut rig.library;
    tokio::select! {
        () = async { while library.read(&mut [0; 64]).await.unwrap() > 0 {} } => begun.elapsed(),
        () = watched(&*rig.connection) => unreachable!("the clock is looked at for ever"),
    }
}

/// Looks at the clock again and again, as the server does.
async fn watched(connection: &dyn Connection) {
    loop {
        connection.check_stall(Instant::now());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_head_has_its_time_from_its_first_byte_and_the_next_request_has_another() {
    let mut silent = rig(4_096, LIMITS);
    assert!(hangs_up(&mut silent).await >= PATIENCE.head, "who says nothing");
    let mut slow = rig(4_096, LIMITS);
    slow.client.write_all(b"G").await.unwrap();
    let (client, begun) = (&mut slow.client, Instant::now());
    let drip = async {
        while client.write_all(b"E").await.is_ok() && begun.elapsed() < PATIENCE.head * 3 {
            tokio::time::sleep(PATIENCE.head / 10).await;
        }
    };
    let library = &mut slow.library;
    let read = async { while library.read(&mut [0; 64]).await.unwrap() > 0 {} };
    tokio::select! {
        () = drip => panic!("a byte at a time goes on for ever"),
        () = watched(&*slow.connection) => unreachable!("the clock is looked at for ever"),
        () = read => assert!(begun.elapsed() >= PATIENCE.head),
    }
    for (is_known, limit) in [(true, PATIENCE.idle), (false, PATIENCE.stranger)] {
        let mut idle = rig(4_096, LIMITS);
        idle.connection.begin_request();
        assert!(idle.connection.idle_since().is_none());
        if is_known {
            idle.connection.note_known();
        }
        idle.connection.end_request();
        assert_eq!(idle.connection.idle_since().is_none(), is_known);
        assert_eq!(idle.connection.keep_alive(), limit);
        assert!(hangs_up(&mut idle).await >= limit + GRACE);
    }
}

#[tokio::test]
async fn who_idles_behind_an_answer_is_hung_up_on_though_the_library_does_not_read_again() {
    let mut rig = rig(4_096, LIMITS);
    rig.connection.begin_request();
    let library = &mut rig.library;
    let hung_up = async { library.read(&mut [0; 64]).await.unwrap() };
    let answer = async {
        // The library has read while the request is answered: nothing that comes then wakes it but the clock.
        tokio::task::yield_now().await;
        rig.connection.end_request();
        watched(&*rig.connection).await;
    };
    tokio::select! {
        biased;
        read = hung_up => assert_eq!(read, 0),
        () = answer => unreachable!("the clock is looked at for ever"),
        () = tokio::time::sleep((PATIENCE.stranger + GRACE) * 4) => panic!("an idle connection stays for ever"),
    }
}

#[tokio::test]
async fn an_answer_that_is_taken_a_little_at_a_time_is_cut_off() {
    let rig = rig(64, QueueLimits { patience: Duration::from_secs(1), ..LIMITS });
    rig.connection.begin_request();
    let Rig { connection, mut library, mut client } = rig;
    let writer = tokio::spawn(async move { library.write_all(&[b'x'; 100_000]).await });
    let begun = Instant::now();
    let mut is_cut = false;
    while !is_cut && client.read(&mut [0; 8]).await.unwrap() > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        is_cut = connection.check_stall(Instant::now());
        assert!(begun.elapsed() < Duration::from_secs(8), "it goes on for ever");
    }
    assert!(is_cut && begun.elapsed() >= Duration::from_millis(900), "{:?}", begun.elapsed());
    assert!(writer.await.unwrap().is_err());
}

#[tokio::test]
async fn what_waits_for_all_connections_is_given_back_when_they_end() {
    let backlogs = Arc::new(Backlogs { own: Backlog::new(4_000), shared: Backlog::new(4_000) });
    let mut rigs = Vec::new();
    for _ in 0..8 {
        let (server, client) = tokio::io::duplex(64);
        let connection = StreamConnection::new(server, LIMITS, PATIENCE, backlogs.clone(), None);
        rigs.push(Rig { library: ConnectionIo::new(connection.clone()), connection, client });
        // Nothing goes out before the marker.
        let rig = rigs.last_mut().unwrap();
        upgrade(rig).await;
        while rig.connection.push_own(&frame(&"x".repeat(100))) {
            assert!(backlogs.own.used() <= 4_000);
        }
        assert_eq!(rig.connection.is_cut(), Some(Cut::SlowReader));
        assert_eq!(backlogs.own.used(), 0, "what is cut off holds nothing");
        assert!(rig.connection.is_cut().is_some());
    }
    let (server, _client) = tokio::io::duplex(64);
    let connection = StreamConnection::new(server, LIMITS, PATIENCE, backlogs.clone(), None);
    let library = ConnectionIo::new(connection.clone());
    connection.expect_websocket(false);
    assert!(connection.push_own(&frame("one")) && connection.push(&frame("two")));
    assert!(backlogs.own.used() > 0 && backlogs.shared.used() > 0);
    drop(library);
    assert_eq!((backlogs.own.used(), backlogs.shared.used()), (0, 0));
}
