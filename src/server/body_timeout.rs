//! The body of a request, which must come: who sends it a byte at a time is cut off.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};

use crate::transport::socketio::engine::connection::{Connection, Cut};
use crate::transport::socketio::engine::packets::Packets;

/// What a body must bring for each second more than it is granted: a payload of 1 MB over a poor mobile network is not an attack.
const BYTES_A_SECOND: u64 = 16 * 1024;

/// A body that comes within its time, or ends the connection.
pub struct TimedBody<B = Incoming> {
    body: B,
    /// It may take so long, however short it is.
    timeout: Duration,
    connection: Arc<dyn Connection>,
    /// Begun when the body is first waited for: most bodies are there with the head.
    time: Option<Pin<Box<Sleep>>>,
    began: Option<Instant>,
    received: u64,
    end: BodyEnd,
    /// Its packets, where it has some.
    packets: Option<Packets>,
}

/// Whether all of a body has come, for whoever has given it out of their hands. A request without one has nothing to wait for.
#[derive(Debug, Clone)]
pub struct BodyEnd(Option<Arc<AtomicBool>>);

impl BodyEnd {
    /// Whether all of it has come.
    #[must_use]
    pub fn has_come(&self) -> bool {
        self.0.as_ref().is_none_or(|has_come| has_come.load(Ordering::Relaxed))
    }

    fn note(&self) {
        if let Some(has_come) = &self.0 {
            has_come.store(true, Ordering::Relaxed);
        }
    }
}

impl<B: Body> TimedBody<B> {
    /// Guards the body of a request that comes over this connection.
    pub fn new(body: B, timeout: Duration, connection: Arc<dyn Connection>) -> TimedBody<B> {
        let end = BodyEnd((!body.is_end_stream()).then(Arc::default));
        TimedBody { body, timeout, connection, time: None, began: None, received: 0, end, packets: None }
    }

    /// It has packets of Engine.IO: there are so many that are no events, or it breaks off.
    #[must_use]
    pub fn with_packets(self) -> TimedBody<B> {
        TimedBody { packets: Some(Packets::default()), ..self }
    }

    /// Its end.
    #[must_use]
    pub fn end(&self) -> BodyEnd {
        self.end.clone()
    }
}

impl<B> std::fmt::Debug for TimedBody<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TimedBody").field("received", &self.received).finish_non_exhaustive()
    }
}

/// Why a body did not come.
#[derive(Debug, thiserror::Error)]
pub enum InboundError<E> {
    /// Its sender took too long.
    #[error("the body of the request came too slowly")]
    TooSlow,
    /// It has more packets that are no events than a client has to say.
    #[error("the body has too many packets that ask for nothing")]
    TooMany,
    /// The connection or the body broke.
    #[error(transparent)]
    Broken(E),
}

impl<B> Body for TimedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = InboundError<B::Error>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            if let Some(bytes) = frame.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref) {
                this.received += bytes.len() as u64;
                if this.packets.as_mut().is_some_and(|packets| !packets.read(bytes)) {
                    return Poll::Ready(Some(Err(InboundError::TooMany)));
                }
            }
            if frame.is_none() || this.body.is_end_stream() {
                this.end.note();
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(InboundError::Broken)));
        }
        let began = *this.began.get_or_insert_with(Instant::now);
        let end = began + this.timeout + Duration::from_secs(this.received / BYTES_A_SECOND);
        let time = this.time.get_or_insert_with(|| Box::pin(sleep(Duration::ZERO)));
        if time.deadline() != end {
            time.as_mut().reset(end);
        }
        ready!(time.as_mut().poll(cx));
        this.connection.cut(Cut::Ended);
        Poll::Ready(Some(Err(InboundError::TooSlow)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
