//! The memory for the bodies of requests that are read or worked on at this moment, and that for the answers that are made or wait
//! for their readers: all together they take so much at most, and those of one sender a share of it. A body or an answer that
//! does not fit waits for its turn before a byte of it is read, and not for long.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::capacity::{self, PART};
use crate::domain::UserId;
use crate::protocol::error::{ApiError, ErrorCode};

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

/// What somebody is told for whom there is no memory in time.
const BODIES: &str = "too much is being sent at this moment; send it again in a moment";
const ANSWERS: &str =
    "too much waits to be read at this moment; read what you have asked for, and ask again in a moment";

/// Memory for bodies, or for answers.
#[derive(Debug)]
pub struct Memory {
    all: Arc<Semaphore>,
    /// The units of all, and those of one sender.
    most: u32,
    share: u32,
    shares: Mutex<HashMap<Sender, Share>>,
    timeout: Duration,
    refusal: &'static str,
}

/// The place of one body or answer, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    all: OwnedSemaphorePermit,
    own: OwnedSemaphorePermit,
    _share: InUse,
}

impl Turn {
    /// Gives back what is not needed: it is so many bytes, and not more.
    pub fn shrink(&mut self, bytes: usize) {
        let wanted = units(bytes as u64) as usize;
        for permit in [&mut self.all, &mut self.own] {
            let rest = permit.num_permits().saturating_sub(wanted);
            drop(permit.split(rest));
        }
    }
}

/// Keeps the share of a sender known.
#[derive(Debug)]
struct InUse {
    memory: Arc<Memory>,
    sender: Sender,
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut shares = self.memory.shares.lock();
        if let Some(share) = shares.get_mut(&self.sender) {
            share.users -= 1;
            if share.users == 0 {
                shares.remove(&self.sender);
            }
        }
    }
}

impl Memory {
    /// Room for bodies of so many bytes together. The largest there may be fits in, however little that is, and into a share.
    #[must_use]
    pub fn for_bodies(bytes: usize, largest: usize) -> Arc<Memory> {
        Memory::with_timeout(bytes, largest, TIMEOUT, BODIES)
    }

    /// Room for answers.
    #[must_use]
    pub fn for_answers() -> Arc<Memory> {
        Memory::with_timeout(capacity::ANSWERS_BYTES, capacity::ANSWER_BYTES, TIMEOUT, ANSWERS)
    }

    fn with_timeout(bytes: usize, largest: usize, timeout: Duration, refusal: &'static str) -> Arc<Memory> {
        let largest = units(largest as u64);
        let most = units(bytes as u64).max(largest);
        let share = (most / PART as u32).max(largest);
        let all = Arc::new(Semaphore::new(most as usize));
        Arc::new(Memory { all, most, share, shares: Mutex::default(), timeout, refusal })
    }

    /// A place for a body or an answer of so many bytes, in the order of those who wait.
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
                let refused = ApiError::new(ErrorCode::Unavailable, self.refusal);
                Err(ApiError { retry_after_ms: Some(COME_AGAIN_MS), ..refused })
            }
        }
    }

    fn share_of(self: &Arc<Self>, sender: Sender) -> (Arc<Semaphore>, InUse) {
        let mut shares = self.shares.lock();
        let share = shares
            .entry(sender.clone())
            .or_insert_with(|| Share { turns: Arc::new(Semaphore::new(self.share as usize)), users: 0 });
        share.users += 1;
        (share.turns.clone(), InUse { memory: self.clone(), sender })
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
        let bodies = Memory::with_timeout(16 * 1_024, 2_000, SOON, BODIES);
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
    async fn the_largest_body_always_fits() {
        let bodies = Memory::with_timeout(1, 1_000_000, SOON, BODIES);
        drop(bodies.admit(network(1), 1_000_000).await.unwrap());
        drop(bodies.admit(network(1), u64::MAX).await.unwrap());
    }

    #[tokio::test]
    async fn an_answer_that_turns_out_short_gives_back_what_it_does_not_need() {
        let answers = Memory::with_timeout(16 * 1_024, 2_048, SOON, ANSWERS);
        let mut first = answers.admit(network(1), 2_048).await.unwrap();
        assert!(answers.admit(network(1), 1).await.is_err());
        first.shrink(700);
        drop(answers.admit(network(1), 1_024).await.unwrap());
        first.shrink(1 << 20);
        assert_eq!(answers.all.available_permits(), 15);
        drop(first);
        assert_eq!(answers.all.available_permits(), 16);
    }
}
