//! One connection: the I/O object that hyper and the WebSocket library read and write through, and the way by
//! which a delivery reaches a WebSocket with one write and no task woken.
//!
//! The Engine.IO library owns the WebSocket and writes its own packets (open, ping, close) through [`ConnectionIo`]. What the
//! server has to say (events and acks) is already a whole frame; [`Connection::push`] puts it between two frames of the library,
//! straight to the socket when nothing waits before it, and into a bounded outbox otherwise. So there is one order: that
//! of the calls. It becomes so when the library has written the [`Marker`] packet, behind everything that was queued in
//! it before; until then what is pushed waits in the outbox.
//!
//! What holds here:
//! - a frame is never torn: the outbox is emptied before the library writes its next frame, and bytes of ours are written only where a frame of the library has ended, and the other way round;
//! - a reader that has stopped is cut off: by the outbox's bound at once, by [`Connection::check_stall`] within its limit. Both
//!   fail the reading side too, or the library would hold the socket for good (it waits in its write);
//! - what waits for all sockets together is bounded ([`Backlogs`]), and an answer of HTTP is taken at a [`Pace`];
//! - frames of a client are looked at from the first one on, and what is no event counts as a wrong request; an upgrade that came
//!   together with the request before it is hung up on, as nobody sees where its frames begin;
//! - who does not heed refusals is read more slowly ([`Connection::note_refusal`]): a flood waits in the sender's own buffers;
//! - a client that breaks the rules of WebSocket is told by which code it is closed, and behind a frame of ours that closes the
//!   library says nothing more;
//! - the inner lock is held for one poll of the stream, never over an await.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use parking_lot::{Mutex, MutexGuard};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::config::capacity::{self, Pace};
use crate::transport::socketio::engine::backlog::Backlog;
use crate::transport::socketio::engine::frame;
use crate::transport::socketio::engine::marker::Marker;
use crate::transport::socketio::engine::packets::{Frames, MAX_CONNECTS};

/// So many wrong requests in [`REFUSALS_OVER`] are refused at once; behind them nothing is read for [`PAUSE`].
const REFUSALS: u32 = 200;
/// A request that was one too many counts as so many wrong ones: its sender was told to wait.
const WRONG_AS_TOO_MANY: u32 = 10;
const REFUSALS_OVER: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_secs(1);
/// What is on its way behind the last answer is passed over for so long, and so much of it.
const LINGER: Duration = Duration::from_secs(10);
const LINGER_BYTES: usize = 32 << 20;

/// How a connection is bounded.
#[derive(Debug, Clone, Copy)]
pub struct QueueLimits {
    /// The most frames that wait for a slow reader.
    pub queued_frames: usize,
    /// The most bytes that wait for a slow reader.
    pub queued_bytes: usize,
    /// The most bytes of a message of a client.
    pub message_bytes: usize,
    /// How long a write may make no progress.
    pub stall: Duration,
    /// How long an answer of HTTP may be waited for while little of it is taken: see [`Pace`].
    pub patience: Duration,
}

/// What waits for all connections together.
#[derive(Debug)]
pub struct Backlogs {
    /// What is one socket's alone: answers.
    pub own: Backlog,
    /// What is sent to several, and counted for each.
    pub shared: Backlog,
}

impl Default for Backlogs {
    fn default() -> Backlogs {
        Backlogs { own: Backlog::new(capacity::QUEUES_BYTES), shared: Backlog::new(capacity::SHARED_QUEUES_BYTES) }
    }
}

impl Backlogs {
    fn of(&self, is_shared: bool) -> &Backlog {
        if is_shared { &self.shared } else { &self.own }
    }
}

/// Something that is kept until an answer has been written, to be dropped then.
pub type Kept = Box<dyn Send>;

/// How long a connection may keep the server waiting. A WebSocket is not bounded by it.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For the whole head of a request, from its first byte on; and for the first byte of the first one.
    pub head: Duration,
    /// For the next request.
    pub idle: Duration,
    /// For the next request of whom nobody knows.
    pub stranger: Duration,
}

/// Clients are told [`Timeouts::idle`]; the server hangs up a little later, so that a request which is sent in time has come
/// by then.
const GRACE: Duration = Duration::from_secs(1);

/// What the server waits for on a connection of HTTP.
#[derive(Debug, Clone, Copy)]
enum Turn {
    /// For the first byte of a request.
    Idle(Instant),
    /// For the rest of its head.
    Head(Instant),
    /// For nothing: a request is being answered. Its body has a time of its own.
    Busy,
}

/// Who keeps count of a connection for as long as it is open.
pub trait Keeper: std::fmt::Debug + Send + Sync {
    /// It carries a socket that has signed in.
    fn signed_in(&self);
}

/// Why a connection was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The reader did not keep up: more waits for it than may.
    SlowReader,
    /// The reader has stopped: nothing has been taken for too long.
    Stalled,
    /// The server has ended the connection.
    Ended,
}

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// There were too many.
    TooMany,
    /// It is wrong, or not allowed.
    Wrong,
}

/// The way to a connection, whatever stream is under it.
pub trait Connection: Send + Sync {
    /// Sends whole frames behind everything that was pushed before. Does not block. `false` if the connection is cut, or is cut
    /// by this because the reader does not keep up.
    fn push(&self, frames: &Bytes) -> bool;

    /// As [`Connection::push`], with frames that are for this socket alone: they are counted as the memory that they are.
    fn push_own(&self, frames: &Bytes) -> bool;

    /// Sends whole frames if they can be written at once, and drops them otherwise.
    fn push_volatile(&self, frames: &Bytes);

    /// From the next bytes on, what hyper writes is the head of a `101` answer, and frames behind it. A WebSocket that begins a session is sent the library's first ping too early: it is taken out.
    fn expect_websocket(&self, is_first: bool);

    /// Another marker is on its way in the library: what is pushed from now on waits for it.
    fn await_marker(&self);

    /// Sends a frame that closes behind everything that was pushed before, and nothing behind it.
    fn close(&self, frame: &Bytes);

    /// A request has come: the connection does not keep the server waiting.
    fn begin_request(&self);

    /// Its answer has been given out: the next one is waited for.
    fn end_request(&self);

    /// Keeps something until what has been given out of an answer is written.
    fn keep(&self, kept: Kept);

    /// It is known whose it is: it may idle for longer than a stranger's.
    fn note_known(&self);

    /// It carries a socket that has signed in.
    fn note_signed_in(&self);

    /// How long it may idle between two requests.
    fn keep_alive(&self) -> Duration;

    /// Since when a stranger's connection has kept the server waiting for a request, if it does.
    fn idle_since(&self) -> Option<Instant>;

    /// The last answer was given before its request had come to its end: what is still on its way is passed over for a
    /// moment. Who closes with bytes unread takes the answer away from who sends them (RFC 9112, 9.6).
    fn linger(&self);

    /// Ends the connection: the next read and write fail.
    fn cut(&self, why: Cut);

    /// A request over it was refused. Where that happens again and again, nothing is read for a while: who does not heed a
    /// refusal waits, and refusing them costs nobody anything.
    fn note_refusal(&self, why: Refused);

    /// Looks at what goes by the clock: reads again after a pause, hangs up on who has kept the server waiting for a request for
    /// too long, and cuts the connection if its reader has stopped for longer than the limit; gives whether it did that. Called
    /// twice a second or so.
    fn check_stall(&self, now: Instant) -> bool;

    /// Why it was cut, if it was.
    fn is_cut(&self) -> Option<Cut>;
}

/// The library's first ping, which it sends at once: on a WebSocket that begins a session it is taken out and answered here, so
/// that the first one comes when the interval has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FirstPing {
    /// It is still to come.
    Expected,
    /// It was taken out; the library waits for the answer.
    Unanswered,
    /// There is nothing to do.
    Done,
}

const PING: &[u8] = b"\x81\x012";
/// The answer of a client: masked, with zeros.
const PONG: &[u8] = b"\x81\x81\0\0\0\x003";

/// What the bytes that pass mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// HTTP: bytes pass as they are.
    Http,
    /// HTTP still, until the `101` answer begins.
    Upgrading,
    /// The head of a `101` answer; how many bytes of its end have passed.
    Head(usize),
    /// WebSocket frames; how many bytes of the library's current frame are still to come.
    Frames(usize),
}

struct Inner<S> {
    /// Gone when the library has let go of its end: it is closed then, whoever still holds this.
    stream: Option<S>,
    phase: Phase,
    /// Whether the library's queue has been written up to the marker.
    is_direct: bool,
    first_ping: FirstPing,
    /// Whether what waits closes the WebSocket: nothing follows it.
    closes: bool,
    /// What waits; the first may be written in part.
    outbox: VecDeque<Waiting>,
    /// Whether it is.
    is_begun: bool,
    outbox_bytes: usize,
    backlogs: Arc<Backlogs>,
    /// How an answer of HTTP is taken, and what is kept until it is written.
    pace: Pace,
    kept: Option<Kept>,
    /// The stream (TLS) holds bytes that it could not write yet.
    needs_flush: bool,
    /// Since when a write makes no progress.
    blocked_since: Option<Instant>,
    /// The stream was found full; its own waker will say when it is not. Until then a push does not try.
    is_blocked: bool,
    /// What comes behind the last answer is read, and passed over.
    lingers: bool,
    /// Let go when the stream is closed.
    keeper: Option<Arc<dyn Keeper>>,
    turn: Turn,
    has_asked: bool,
    is_known: bool,
    cut: Option<Cut>,
    refusals: Refusals,
    request: RequestHead,
    frames: Frames,
    connects: u32,
}

/// The head of the request that is being read or answered: where it ends, what is behind it begins.
#[derive(Debug)]
struct RequestHead {
    /// How many bytes of [`HEAD_END`] have passed.
    passed: usize,
    has_ended: bool,
    /// Whether its end was seen, as it did not come together with the request before.
    is_seen: bool,
}

impl RequestHead {
    /// Another one begins with the next byte, or has begun with the last ones of the one before.
    fn begin(&mut self) {
        self.has_ended = false;
        if self.passed == HEAD_END_LEN {
            self.passed = 0;
        }
    }

    /// More of it; gives what is behind it.
    fn read<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let mut rest = bytes;
        if !self.has_ended {
            let end = head_end(self.passed, bytes);
            self.passed = head_progress(self.passed, bytes.get(..end).unwrap_or_default());
            self.has_ended = self.passed == HEAD_END_LEN;
            rest = bytes.get(end..).unwrap_or_default();
        }
        if !rest.is_empty() {
            // Of the next one its beginning may be here.
            self.passed = head_progress(0, rest.get(rest.len().saturating_sub(HEAD_END_LEN - 1)..).unwrap_or_default());
        }
        rest
    }
}

/// Frames that wait.
#[derive(Debug)]
struct Waiting {
    frames: Bytes,
    is_shared: bool,
}

/// How often requests over a connection were refused lately.
#[derive(Debug, Default)]
struct Refusals {
    /// Since when they are counted.
    since: Option<Instant>,
    count: u32,
    /// Until when nothing is read.
    pause: Option<Instant>,
}

impl Refusals {
    fn note(&mut self, why: Refused, times: u32, now: Instant) {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) > REFUSALS_OVER) {
            (self.since, self.count) = (Some(now), 0);
        }
        self.count += match why {
            Refused::TooMany => WRONG_AS_TOO_MANY * times,
            Refused::Wrong => times,
        };
        if self.count > REFUSALS {
            self.pause = Some(now + PAUSE);
        }
    }
}

/// Wakes both sides of a connection when the stream can be written again: the writer that waits in the library, and the
/// reader, which empties the outbox.
#[derive(Debug, Default)]
struct Wakers {
    reader: Mutex<Option<Waker>>,
    writer: Mutex<Option<Waker>>,
}

impl Wakers {
    fn set(slot: &Mutex<Option<Waker>>, waker: &Waker) {
        let mut slot = slot.lock();
        if slot.as_ref().is_none_or(|known| !known.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }

    fn wake_reader(&self) {
        if let Some(waker) = &*self.reader.lock() {
            waker.wake_by_ref();
        }
    }

    fn wake_all(&self) {
        self.wake_reader();
        let writer = self.writer.lock().take();
        if let Some(waker) = writer {
            waker.wake();
        }
    }
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_all();
    }
}

/// A [`Connection`] over a stream.
pub struct StreamConnection<S> {
    inner: Mutex<Inner<S>>,
    wakers: Arc<Wakers>,
    /// Made once of `wakers`: every write of the stream registers this one.
    waker: Waker,
    limits: QueueLimits,
    timeouts: Timeouts,
    backlogs: Arc<Backlogs>,
}

impl<S> std::fmt::Debug for StreamConnection<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamConnection").finish_non_exhaustive()
    }
}

impl<S> StreamConnection<S> {
    /// A connection over a stream whose handshake, if any, is done.
    #[must_use]
    pub fn new(
        stream: S,
        limits: QueueLimits,
        timeouts: Timeouts,
        backlogs: Arc<Backlogs>,
        keeper: Option<Arc<dyn Keeper>>,
    ) -> Arc<StreamConnection<S>> {
        let wakers = Arc::new(Wakers::default());
        Arc::new(StreamConnection {
            inner: Mutex::new(Inner {
                stream: Some(stream),
                phase: Phase::Http,
                is_direct: false,
                first_ping: FirstPing::Done,
                closes: false,
                outbox: VecDeque::new(),
                is_begun: false,
                outbox_bytes: 0,
                backlogs: backlogs.clone(),
                pace: Pace::new(limits.patience, capacity::ANSWER_PACE),
                kept: None,
                needs_flush: false,
                blocked_since: None,
                is_blocked: false,
                lingers: false,
                keeper,
                turn: Turn::Idle(Instant::now()),
                has_asked: false,
                is_known: false,
                cut: None,
                refusals: Refusals::default(),
                request: RequestHead { passed: 0, has_ended: false, is_seen: true },
                frames: Frames::new(limits.message_bytes),
                connects: 0,
            }),
            waker: Waker::from(wakers.clone()),
            wakers,
            limits,
            timeouts,
            backlogs,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner<S>> {
        self.inner.lock()
    }
}

impl<S> Inner<S> {
    fn fail_if_cut(&self) -> io::Result<()> {
        match self.cut {
            None => Ok(()),
            Some(Cut::SlowReader | Cut::Stalled) => Err(io::Error::new(ErrorKind::TimedOut, "the reader has stopped")),
            Some(Cut::Ended) => Err(io::Error::new(ErrorKind::ConnectionAborted, "ended by the server")),
        }
    }

    /// Whether a frame of ours may be written now.
    fn is_between_frames(&self) -> bool {
        (self.is_direct || self.is_begun) && self.phase == Phase::Frames(0)
    }

    /// Nothing waits any more, and nothing is kept.
    fn let_go(&mut self) {
        for waiting in std::mem::take(&mut self.outbox) {
            self.backlogs.of(waiting.is_shared).give_back(waiting.frames.len());
        }
        self.outbox_bytes = 0;
        self.is_begun = false;
        self.kept = None;
    }

    fn note_blocked(&mut self) {
        self.is_blocked = true;
        self.blocked_since.get_or_insert_with(Instant::now);
    }

    /// So many bytes were taken.
    fn note_progress(&mut self, bytes: usize) {
        self.is_blocked = false;
        let blocked = self.blocked_since.take();
        if self.phase == Phase::Http {
            self.pace.note(bytes, blocked.map_or(Duration::ZERO, |since| since.elapsed()));
        }
        // A long answer to a slow reader is no idleness.
        if let (Phase::Http, Turn::Idle(since)) = (self.phase, &mut self.turn) {
            *since = Instant::now();
        }
    }

    /// These bytes have come.
    ///
    /// # Errors
    /// If the client may not say so much: the connection is cut.
    fn note_read(&mut self, bytes: &[u8]) -> io::Result<()> {
        let is_http = self.phase == Phase::Http;
        let mut frames = bytes;
        if is_http {
            if let Turn::Idle(_) = self.turn {
                self.turn = Turn::Head(Instant::now());
                self.request.begin();
                self.frames.begin();
                self.connects = 0;
            }
            // A client may send frames before its upgrade is answered; if it is none, this is a body, and means nothing.
            frames = self.request.read(bytes);
        }
        let others = self.frames.read(frames);
        self.connects = self.connects.saturating_add(others.connects);
        if !is_http {
            if others.all > 0 {
                self.refusals.note(Refused::Wrong, others.all, Instant::now());
            }
            if self.connects > MAX_CONNECTS {
                self.cut = Some(Cut::Ended);
            }
        }
        self.fail_if_cut()
    }

    fn idle_limit(&self, timeouts: &Timeouts) -> Duration {
        if self.is_known { timeouts.idle } else { timeouts.stranger }
    }

    /// Whether the server has waited for long enough.
    fn is_overdue(&self, timeouts: &Timeouts, now: Instant) -> bool {
        let (since, limit) = match (self.phase, self.turn) {
            (Phase::Http, Turn::Idle(since)) if self.has_asked => (since, self.idle_limit(timeouts) + GRACE),
            (Phase::Http, Turn::Idle(since) | Turn::Head(since)) => (since, timeouts.head),
            _ => return false,
        };
        now.saturating_duration_since(since) >= limit
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Inner<S> {
    /// Writes what it can of the outbox. Ready when it is empty, or may not be written yet.
    fn poll_outbox(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.is_between_frames() {
            let Some(first) = self.outbox.front_mut() else { break };
            let stream = self.stream.as_mut().ok_or(ErrorKind::NotConnected)?;
            match Pin::new(stream).poll_write(cx, &first.frames) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    first.frames.advance(written);
                    self.outbox_bytes -= written;
                    self.backlogs.of(first.is_shared).give_back(written);
                    self.is_begun = first.frames.has_remaining();
                    if !self.is_begun {
                        self.outbox.pop_front();
                    }
                    self.needs_flush = true;
                    self.note_progress(written);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.note_blocked();
                    return Poll::Pending;
                }
            }
        }
        if self.outbox.is_empty() && self.outbox.capacity() > 64 {
            self.outbox = VecDeque::new();
        }
        self.poll_flush(cx)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.needs_flush {
            return Poll::Ready(Ok(()));
        }
        match Pin::new(self.stream.as_mut().ok_or(ErrorKind::NotConnected)?).poll_flush(cx) {
            Poll::Ready(Ok(())) => {
                self.needs_flush = false;
                self.note_progress(0);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                self.note_blocked();
                Poll::Pending
            }
        }
    }

    /// Writes bytes of the library, up to the next place where something of ours may come, and takes the marker out.
    fn poll_library(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.phase == Phase::Frames(0) {
            // A second one comes where a client leaves the namespace and joins it again.
            if let Some(len) = Marker::len_in(bytes) {
                self.is_direct = true;
                return Poll::Ready(Ok(len));
            }
            if self.first_ping == FirstPing::Expected && bytes.starts_with(PING) {
                self.first_ping = FirstPing::Unanswered;
                return Poll::Ready(Ok(PING.len()));
            }
            ready!(self.poll_outbox(cx))?;
            if self.closes && self.is_direct {
                // The last frame has gone out: what the library says now is for nobody.
                return Poll::Ready(Ok(bytes.len()));
            }
            if let Some(code) = self.frames.violation().filter(|_| bytes.starts_with(frame::CLOSE_BARE)) {
                return self.poll_close(cx, code);
            }
        }
        let passing = match self.phase {
            Phase::Http => bytes.len(),
            Phase::Upgrading => match find_switching(bytes) {
                Some(0) => {
                    self.phase = Phase::Head(0);
                    head_end(0, bytes)
                }
                Some(at) => at,
                None => bytes.len(),
            },
            Phase::Head(passed) => head_end(passed, bytes),
            // The library writes a header in one piece with its payload.
            Phase::Frames(0) => frame::len_of(bytes)
                .ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "a frame without its header"))?,
            Phase::Frames(rest) => rest,
        };
        let passing = bytes.get(..passing).unwrap_or(bytes);
        match Pin::new(self.stream.as_mut().ok_or(ErrorKind::NotConnected)?).poll_write(cx, passing) {
            Poll::Ready(Ok(written)) => {
                self.needs_flush = true;
                self.note_progress(written);
                self.phase = match self.phase {
                    Phase::Http | Phase::Upgrading => self.phase,
                    Phase::Head(passed) => match head_progress(passed, passing.get(..written).unwrap_or(passing)) {
                        HEAD_END_LEN => Phase::Frames(0),
                        passed => Phase::Head(passed),
                    },
                    Phase::Frames(0) => Phase::Frames(frame::len_of(bytes).unwrap_or(written).saturating_sub(written)),
                    Phase::Frames(rest) => Phase::Frames(rest.saturating_sub(written)),
                };
                Poll::Ready(Ok(written))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                self.note_blocked();
                Poll::Pending
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Inner<S> {
    /// Closes with a code in place of the library, which gives none.
    fn poll_close(&mut self, cx: &mut Context<'_>, code: u16) -> Poll<io::Result<usize>> {
        let stream = self.stream.as_mut().ok_or(ErrorKind::NotConnected)?;
        let closing = frame::close(code);
        match ready!(Pin::new(stream).poll_write(cx, &closing)) {
            Ok(written) if written == closing.len() => {
                (self.closes, self.is_direct, self.needs_flush) = (true, true, true);
                Poll::Ready(Ok(frame::CLOSE_BARE.len()))
            }
            Ok(_) => Poll::Ready(Err(ErrorKind::WriteZero.into())),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

/// Where the head of the `101` answer begins. What a client has pipelined before it passes as HTTP.
fn find_switching(bytes: &[u8]) -> Option<usize> {
    const SWITCHING: &[u8] = b"HTTP/1.1 101";
    bytes.windows(SWITCHING.len()).position(|window| window == SWITCHING)
}

const HEAD_END: &[u8; HEAD_END_LEN] = b"\r\n\r\n";
const HEAD_END_LEN: usize = 4;

/// How many bytes of [`HEAD_END`] have passed behind these.
fn head_progress(mut passed: usize, bytes: &[u8]) -> usize {
    for byte in bytes {
        passed = match HEAD_END.get(passed) {
            None => return HEAD_END_LEN,
            Some(expected) if expected == byte => passed + 1,
            Some(_) => usize::from(*byte == b'\r'),
        };
    }
    passed
}

/// Where the head ends in these bytes, or their length.
fn head_end(mut passed: usize, bytes: &[u8]) -> usize {
    for (at, byte) in bytes.iter().enumerate() {
        passed = head_progress(passed, &[*byte]);
        if passed == HEAD_END_LEN {
            return at + 1;
        }
    }
    bytes.len()
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> StreamConnection<S> {
    fn push_as(&self, frames: &Bytes, is_shared: bool) -> bool {
        let mut inner = self.lock();
        if inner.cut.is_some() || inner.closes {
            return false;
        }
        let mut written = 0;
        if inner.outbox.is_empty() && inner.is_between_frames() && !inner.is_blocked && !inner.needs_flush {
            let mut cx = Context::from_waker(&self.waker);
            let Some(stream) = inner.stream.as_mut() else { return false };
            match Pin::new(stream).poll_write(&mut cx, frames) {
                Poll::Ready(Ok(len)) => {
                    written = len;
                    inner.needs_flush = true;
                    let flushed = inner.poll_flush(&mut cx);
                    if written == frames.len() && !matches!(flushed, Poll::Ready(Err(_))) {
                        return true;
                    }
                    inner.note_blocked();
                    // The stream took a part and was not asked again: nobody would say when it takes more.
                    self.wakers.wake_reader();
                }
                Poll::Ready(Err(_)) => {
                    // The reading side meets the same error and ends the connection.
                    drop(inner);
                    self.cut(Cut::Ended);
                    return false;
                }
                Poll::Pending => inner.note_blocked(),
            }
        }
        let rest = frames.slice(written..);
        let backlog = self.backlogs.of(is_shared);
        if inner.outbox.len() >= self.limits.queued_frames
            || !backlog.takes(rest.len(), inner.outbox_bytes, self.limits.queued_bytes)
        {
            drop(inner);
            self.cut(Cut::SlowReader);
            return false;
        }
        inner.outbox_bytes += rest.len();
        inner.is_begun |= written > 0;
        inner.outbox.push_back(Waiting { frames: rest, is_shared });
        // Whatever it waits for, the marker included: it has until the limit.
        inner.blocked_since.get_or_insert_with(Instant::now);
        let is_writable = inner.is_between_frames() && !inner.is_blocked;
        drop(inner);
        if is_writable {
            self.wakers.wake_reader();
        }
        true
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection for StreamConnection<S> {
    fn push(&self, frames: &Bytes) -> bool {
        self.push_as(frames, true)
    }

    fn push_own(&self, frames: &Bytes) -> bool {
        self.push_as(frames, false)
    }

    fn push_volatile(&self, frames: &Bytes) {
        let is_free = {
            let inner = self.lock();
            inner.outbox.is_empty() && inner.is_between_frames() && !inner.is_blocked
        };
        if is_free {
            self.push(frames);
        }
    }

    fn await_marker(&self) {
        self.lock().is_direct = false;
    }

    fn close(&self, frame: &Bytes) {
        if self.push(frame) {
            self.lock().closes = true;
        }
    }

    fn expect_websocket(&self, is_first: bool) {
        let mut inner = self.lock();
        if inner.phase == Phase::Http {
            inner.phase = Phase::Upgrading;
            if is_first {
                inner.first_ping = FirstPing::Expected;
            }
            // Where its frames begin is not known of one that has come together with the request before.
            if !inner.request.is_seen || inner.connects > MAX_CONNECTS {
                inner.cut = Some(Cut::Ended);
            }
        }
    }

    fn begin_request(&self) {
        let mut inner = self.lock();
        inner.request.is_seen = matches!(inner.turn, Turn::Head(_)) && inner.request.has_ended;
        inner.turn = Turn::Busy;
        inner.pace = Pace::new(self.limits.patience, capacity::ANSWER_PACE);
        inner.has_asked = true;
    }

    fn end_request(&self) {
        self.lock().turn = Turn::Idle(Instant::now());
    }

    fn keep(&self, kept: Kept) {
        let mut inner = self.lock();
        if inner.cut.is_none() {
            inner.kept = Some(kept);
        }
    }

    fn note_known(&self) {
        self.lock().is_known = true;
    }

    fn note_signed_in(&self) {
        let keeper = {
            let mut inner = self.lock();
            inner.is_known = true;
            inner.keeper.clone()
        };
        if let Some(keeper) = keeper {
            keeper.signed_in();
        }
    }

    fn keep_alive(&self) -> Duration {
        self.lock().idle_limit(&self.timeouts)
    }

    fn idle_since(&self) -> Option<Instant> {
        let inner = self.lock();
        match (inner.phase, inner.turn) {
            (Phase::Http, Turn::Idle(since) | Turn::Head(since)) if !inner.is_known && inner.cut.is_none() => {
                Some(since)
            }
            _ => None,
        }
    }

    fn linger(&self) {
        self.lock().lingers = true;
    }

    fn cut(&self, why: Cut) {
        {
            let mut inner = self.lock();
            if inner.cut.is_none() {
                inner.cut = Some(why);
            }
            inner.let_go();
        }
        self.wakers.wake_all();
    }

    fn note_refusal(&self, why: Refused) {
        self.lock().refusals.note(why, 1, Instant::now());
    }

    fn check_stall(&self, now: Instant) -> bool {
        let (reads_on, stalled) = {
            let mut inner = self.lock();
            // The library reads again when it likes: an answer may end, and the wait for the next request begin, behind its last read.
            let reads_on =
                inner.refusals.pause.take_if(|end| *end <= now).is_some() || inner.is_overdue(&self.timeouts, now);
            let limit = match inner.phase {
                Phase::Http => self.limits.stall.min(inner.pace.left()),
                _ => self.limits.stall,
            };
            let stalled = inner.cut.is_none()
                && inner.blocked_since.is_some_and(|since| now.saturating_duration_since(since) >= limit);
            (reads_on, stalled)
        };
        if reads_on {
            self.wakers.wake_reader();
        }
        if stalled {
            self.cut(Cut::Stalled);
        }
        stalled
    }

    fn is_cut(&self) -> Option<Cut> {
        self.lock().cut
    }
}

/// The end of a connection that hyper and the WebSocket library hold.
#[derive(Debug)]
pub struct ConnectionIo<S> {
    connection: Arc<StreamConnection<S>>,
    /// Whether nothing is written any more.
    is_shut: bool,
    linger: Option<Linger>,
}

/// For how long, and how many bytes, what comes behind the last answer is passed over.
#[derive(Debug)]
struct Linger {
    time: Pin<Box<Sleep>>,
    left: usize,
}

impl Linger {
    fn new() -> Linger {
        Linger { time: Box::pin(tokio::time::sleep(LINGER)), left: LINGER_BYTES }
    }

    /// Ready when there is no more to pass over, or enough was.
    fn poll(&mut self, cx: &mut Context<'_>, mut stream: impl AsyncRead + Unpin) -> Poll<()> {
        let mut scratch = [0; 4_096];
        loop {
            let mut passed = ReadBuf::new(&mut scratch);
            match Pin::new(&mut stream).poll_read(cx, &mut passed) {
                Poll::Ready(Ok(())) if !passed.filled().is_empty() && passed.filled().len() < self.left => {
                    self.left -= passed.filled().len();
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.time.as_mut().poll(cx),
            }
        }
    }
}

impl<S> ConnectionIo<S> {
    /// The library's end of a connection.
    #[must_use]
    pub fn new(connection: Arc<StreamConnection<S>>) -> ConnectionIo<S> {
        ConnectionIo { connection, is_shut: false, linger: None }
    }
}

impl<S> Drop for ConnectionIo<S> {
    fn drop(&mut self) {
        let mut inner = self.connection.lock();
        inner.cut.get_or_insert(Cut::Ended);
        inner.let_go();
        let (stream, keeper) = (inner.stream.take(), inner.keeper.take());
        drop(inner);
        drop(stream);
        drop(keeper);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> AsyncRead for ConnectionIo<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let ConnectionIo { connection, .. } = &mut *self;
        Wakers::set(&connection.wakers.reader, cx.waker());
        let mut inner = connection.lock();
        inner.fail_if_cut()?;
        // Woken, perhaps because the stream can be written again: a push may try.
        inner.is_blocked = false;
        if !inner.outbox.is_empty() || inner.needs_flush {
            let mut write_cx = Context::from_waker(&connection.waker);
            if let Poll::Ready(Err(error)) = inner.poll_outbox(&mut write_cx) {
                return Poll::Ready(Err(error));
            }
        }
        if inner.refusals.pause.is_some() {
            // Whoever looks at the clock wakes the reader.
            return Poll::Pending;
        }
        if inner.first_ping == FirstPing::Unanswered && inner.frames.is_between() && buf.remaining() >= PONG.len() {
            inner.first_ping = FirstPing::Done;
            buf.put_slice(PONG);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let read = Pin::new(inner.stream.as_mut().ok_or(ErrorKind::NotConnected)?).poll_read(cx, buf);
        if read.is_pending() && inner.is_overdue(&connection.timeouts, Instant::now()) {
            // As if the client had hung up: nothing is answered to who has not asked.
            return Poll::Ready(Ok(()));
        }
        if buf.filled().len() > before {
            inner.note_read(buf.filled().get(before..).unwrap_or_default())?;
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> AsyncWrite for ConnectionIo<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let connection = &self.connection;
        Wakers::set(&connection.wakers.writer, cx.waker());
        let mut inner = connection.lock();
        inner.fail_if_cut()?;
        let result = inner.poll_library(&mut Context::from_waker(&connection.waker), bytes);
        let waits = inner.is_between_frames() && !inner.outbox.is_empty() && !inner.is_blocked
            || inner.first_ping == FirstPing::Unanswered;
        drop(inner);
        if waits {
            connection.wakers.wake_reader();
        }
        result
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let connection = &self.connection;
        Wakers::set(&connection.wakers.writer, cx.waker());
        let mut inner = connection.lock();
        inner.fail_if_cut()?;
        let flushed = inner.poll_flush(&mut Context::from_waker(&connection.waker));
        // hyper flushes when it has written all that it was given. While an answer is being given out, more may come.
        if flushed.is_ready() && !matches!(inner.turn, Turn::Busy) {
            inner.kept = None;
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ConnectionIo { connection, is_shut, linger, .. } = &mut *self;
        Wakers::set(&connection.wakers.writer, cx.waker());
        let mut inner = connection.lock();
        inner.fail_if_cut()?;
        let mut write_cx = Context::from_waker(&connection.waker);
        ready!(inner.poll_outbox(&mut write_cx))?;
        let lingers = inner.lingers;
        let stream = inner.stream.as_mut().ok_or(ErrorKind::NotConnected)?;
        if !*is_shut {
            ready!(Pin::new(&mut *stream).poll_shutdown(&mut write_cx))?;
            *is_shut = true;
        }
        if lingers {
            ready!(linger.get_or_insert_with(Linger::new).poll(cx, stream));
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
