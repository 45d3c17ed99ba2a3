//! The bodies of requests that are read or worked on at this moment: all together they take so much memory at most, and those
//! of one sender a share of it. A body that does not fit waits for its turn before a byte of it is read, and not for long.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::UserId;
use crate::protocol::error::{ApiError, ErrorCode};

/// One sender has no more than this part of all.
const PART: usize = 8;
/// What is counted: a body of one byte costs a request, too.
const UNIT: u64 = 1_024;
/// A body waits no longer than this for its turn.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Who has waited in vain is told to come again after so long.
const COME_AGAIN_MS: u64 = 2_000;

/// How long the body of a request is, if its head says so.
#[must_use]
pub fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whose bodies are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Sender {
    /// Somebody who has signed in.
    User(UserId),
    /// Whoever comes from a network, and has not signed in yet.
    Network(IpAddr),
}

/// What a sender may have, for as long as anything of it is used or waited for.
#[derive(Debug)]
struct Share {
    turns: Arc<Semaphore>,
    users: usize,
}

/// The memory for bodies.
#[derive(Debug)]
pub struct Bodies {
    all: Arc<Semaphore>,
    /// The units of all, and those of one sender.
    most: u32,
    share: u32,
    shares: Mutex<HashMap<Sender, Share>>,
    timeout: Duration,
}

/// The place of one body, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    all: OwnedSemaphorePermit,
    own: OwnedSemaphorePermit,
    _share: InUse,
}

/// Keeps the share of a sender known.
#[derive(Debug)]
struct InUse {
    bodies: Arc<Bodies>,
    sender: Sender,
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut shares = self.bodies.shares.lock();
        if let Some(share) = shares.get_mut(&self.sender) {
            share.users -= 1;
            if share.users == 0 {
                shares.remove(&self.sender);
            }
        }
    }
}

impl Turn {
    /// The body is shorter than it might have been: what is left of its place is for others.
    pub fn shrink(&mut self, bytes: u64) {
        let needed = units(bytes) as usize;
        for places in [&mut self.all, &mut self.own] {
            let rest = places.num_permits().saturating_sub(needed);
            drop(places.split(rest));
        }
    }
}

impl Bodies {
    /// Room for so many bytes together. The largest body there may be fits in, however little that is, and into a share.
    #[must_use]
    pub fn new(bytes: usize, largest: usize) -> Arc<Bodies> {
        Bodies::with_timeout(bytes, largest, TIMEOUT)
    }

    fn with_timeout(bytes: usize, largest: usize, timeout: Duration) -> Arc<Bodies> {
        let largest = units(largest as u64);
        let most = units(bytes as u64).max(largest);
        let share = (most / PART as u32).max(largest);
        let all = Arc::new(Semaphore::new(most as usize));
        Arc::new(Bodies { all, most, share, shares: Mutex::default(), timeout })
    }

    /// A place for a body of so many bytes, in the order of those who wait.
    ///
    /// # Errors
    /// `unavailable` if there is none in time.
    pub async fn admit(self: &Arc<Self>, sender: Sender, bytes: u64) -> Result<Turn, ApiError> {
        let wanted = units(bytes).min(self.share).min(self.most);
        let (turns, share) = self.share_of(sender);
        let places = async {
            // The sender's own place first: who has too much under way waits behind themselves, and before nobody else.
            let own = turns.acquire_many_owned(wanted).await;
            Ok::<_, tokio::sync::AcquireError>((own?, self.all.clone().acquire_many_owned(wanted).await?))
        };
        match tokio::time::timeout(self.timeout, places).await {
            Ok(Ok((own, all))) => Ok(Turn { all, own, _share: share }),
            // The semaphores are closed by nobody.
            Ok(Err(_)) | Err(_) => {
                let message = "too much is being sent at this moment; send it again in a moment";
                Err(ApiError { retry_after_ms: Some(COME_AGAIN_MS), ..ApiError::new(ErrorCode::Unavailable, message) })
            }
        }
    }

    fn share_of(self: &Arc<Self>, sender: Sender) -> (Arc<Semaphore>, InUse) {
        let mut shares = self.shares.lock();
        let share = shares
            .entry(sender.clone())
            .or_insert_with(|| Share { turns: Arc::new(Semaphore::new(self.share as usize)), users: 0 });
        share.users += 1;
        (share.turns.clone(), InUse { bodies: self.clone(), sender })
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT))
        .unwrap_or(u32::MAX)
        .max(1)
        .min(Semaphore::MAX_PERMITS.min(u32::MAX as usize) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(50);

    fn network(last: u8) -> Sender {
        Sender::Network(IpAddr::from([10, 0, 0, last]))
    }

    #[tokio::test]
    async fn a_sender_has_a_share_and_all_have_what_there_is() {
        let bodies = Bodies::with_timeout(16 * 1_024, 2_000, SOON);
        let first = bodies.admit(network(1), 2_000).await.unwrap();
        let refused = bodies.admit(network(1), 1).await.unwrap_err();
        assert_eq!((refused.code, refused.retry_after_ms), (ErrorCode::Unavailable, Some(COME_AGAIN_MS)));
        let mut others = Vec::new();
        for last in 2..=8 {
            others.push(bodies.admit(network(last), 2_000).await.unwrap());
        }
        assert!(bodies.admit(network(9), 1).await.is_err(), "all have what there is");
        drop(first);
        others.push(bodies.admit(network(9), 1).await.unwrap());
        // Who waits has their turn as soon as somebody is done.
        let waiting = bodies.admit(network(10), 2_000);
        let ending = async { others.truncate(3) };
        let (turn, ()) = tokio::join!(waiting, ending);
        drop(turn.unwrap());
        drop(others);
        assert!(bodies.shares.lock().is_empty(), "of who is gone nothing is kept");
        assert_eq!(bodies.all.available_permits(), 16);
    }

    #[tokio::test]
    async fn a_body_that_turns_out_short_leaves_the_rest_of_its_place() {
        let bodies = Bodies::with_timeout(16 * 1_024, 8 * 1_024, SOON);
        let mut turn = bodies.admit(network(1), 8 * 1_024).await.unwrap();
        assert!(bodies.admit(network(1), 1).await.is_err());
        turn.shrink(1_025);
        assert_eq!(bodies.all.available_permits(), 14);
        let other = bodies.admit(network(1), 6 * 1_024).await.unwrap();
        // It is never longer than it might have been.
        turn.shrink(u64::MAX);
        drop((turn, other));
        assert_eq!(bodies.all.available_permits(), 16);
        assert!(bodies.shares.lock().is_empty());
    }

    #[tokio::test]
    async fn the_largest_body_always_fits() {
        let bodies = Bodies::with_timeout(1, 1_000_000, SOON);
        drop(bodies.admit(network(1), 1_000_000).await.unwrap());
        drop(bodies.admit(network(1), u64::MAX).await.unwrap());
    }
}
