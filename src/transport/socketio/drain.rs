//! Sockets that are sent away: Socket.IO is switched off, or the server stops. Over a while, in no order, so that not all come
//! back at once; and by their connection rather than their namespace, so that a stock client does come back by itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::protocol::error::{ApiError, ErrorCode};
use crate::protocol::event::ServerEvent;

use crate::transport::socketio::SocketIoTransport;
use crate::transport::socketio::socket::Link;

/// Sockets that are sent away go in so many steps.
const DISMISSALS: usize = 100;

/// When the server stops, so many sockets go a second, in steps of this length.
const LEAVE_A_SECOND: u64 = 2_000;
const LEAVE_STEP: Duration = Duration::from_millis(50);
/// Those on polling have their last word within so long, and it is looked for so often: a poll of theirs waits for it.
const TOLD_WITHIN: Duration = Duration::from_millis(500);
const TOLD_LOOK: Duration = Duration::from_millis(5);
/// Who is told to go by the close frame of a WebSocket answers it within so long.
const GONE_WITHIN: Duration = Duration::from_secs(1);
/// A server that is restarted is back after so long, at the earliest; then so many are asked to come a second.
const COME_BACK_MS: u64 = 1_000;
const COME_BACK_A_SECOND: u64 = 1_000;

impl SocketIoTransport {
    /// Closes all sockets over a while, in no order: Socket.IO is switched off. Ends early when it is told to.
    pub async fn dismiss(&self, spread: Duration, stop: &CancellationToken) {
        let message = "real-time connections are being switched off; use the HTTP API under /api/v1";
        let error = ApiError::new(ErrorCode::RealtimeDisabled, message);
        let links = self.directory.links();
        let steps = links.len().clamp(1, DISMISSALS);
        let pause = spread / u32::try_from(steps).unwrap_or(1);
        // The directory is a hash map: neighbours in it have nothing to do with each other.
        for (step, part) in links.chunks(links.len().div_ceil(steps).max(1)).enumerate() {
            if step > 0 {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
            }
            for link in part {
                link.dismiss(&ServerEvent::AuthError(&error));
            }
        }
    }

    /// Sends away who has rights that they would not have without a client certificate, and has shown none: `tls.client_ca` was set.
    pub fn dismiss_the_uncertified(&self) {
        let message = "this needs a client certificate of an authority in tls.client_ca from now on; connect anew";
        let error = ApiError::new(ErrorCode::Forbidden, message);
        for link in self.directory.links() {
            if !link.came.is_certified && link.actor().is_trusted() {
                link.dismiss(&ServerEvent::AuthError(&error));
            }
        }
    }

    /// Waits a moment until those on polling have their last word: what the library ends at once loses what it has not handed
    /// out, and a stock client what comes together with the end.
    async fn await_the_told(&self, links: &[Arc<Link>]) {
        let waits = |link: &Arc<Link>| link.is_closing.load(Ordering::Acquire) && !link.is_told.load(Ordering::Acquire);
        let end = Instant::now() + TOLD_WITHIN;
        while links.iter().any(|link| waits(link) && !link.is_gone()) && Instant::now() < end {
            tokio::time::sleep(TOLD_LOOK).await;
        }
    }

    /// Tells all sockets that the server stops, and when to come again. Takes half a second at most, and a few milliseconds
    /// where nobody is between two polls; connections are still accepted meanwhile.
    pub async fn take_leave(&self) {
        self.directory.sessions.leaving().cancel();
        let links = self.directory.links();
        let count = u64::try_from(links.len()).unwrap_or(u64::MAX);
        let window_ms = COME_BACK_MS.max(count * 1_000 / COME_BACK_A_SECOND);
        for (n, link) in (0..).zip(&links) {
            let retry_after_ms = COME_BACK_MS + window_ms * n / count.max(1);
            let word = ServerEvent::ServerDraining { retry_after_ms };
            if link.is_websocket() == Some(true) {
                link.emit(&word);
            } else {
                link.send_away(&word);
            }
        }
        self.await_the_told(&links).await;
    }

    /// Ends WebSockets, in no order, over a while that grows with their number, at most `longest`: those that go come back, and
    /// not all at once. Then waits a moment until they have gone: what the library ends is told so in packets, which clients of
    /// other languages take for good.
    pub async fn let_go(&self, longest: Duration) {
        let links = self.directory.links();
        let count = u64::try_from(links.len()).unwrap_or(u64::MAX);
        let spread = Duration::from_millis(count * 1_000 / LEAVE_A_SECOND).min(longest);
        let steps = u32::try_from(spread.as_millis() / LEAVE_STEP.as_millis()).unwrap_or(u32::MAX).max(1);
        let pause = spread / steps;
        for part in links.chunks(links.len().div_ceil(usize::try_from(steps).unwrap_or(1)).max(1)) {
            tokio::time::sleep(pause).await;
            for link in part {
                link.leave_websocket();
            }
        }
        let end = Instant::now() + GONE_WITHIN;
        while links.iter().any(|link| link.is_websocket() == Some(true)) && Instant::now() < end {
            tokio::time::sleep(TOLD_LOOK).await;
        }
    }
}
