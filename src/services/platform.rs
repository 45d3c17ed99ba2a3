//! The platform behind this server, as the services know it: somebody who can be told and asked. How, is the server's.

use std::future::Future;
use std::pin::Pin;

use crate::domain::webhook::HookEvents;
use crate::domain::{Actor, RoomId, Timestamp};

/// What somebody gives later.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What the platform says of somebody who wants to enter a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Whether they may.
    pub may_enter: bool,
    /// As what; `None`: as what this server knows of them.
    pub role: Option<crate::domain::chat::Membership>,
}

/// What one webhook came to that was sent to try it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// Its id, as the receiver sees it.
    pub id: String,
    /// Whether it was taken.
    pub is_taken: bool,
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// How long it took, in milliseconds.
    pub millis: u64,
    /// What it came to, in words.
    pub words: String,
    /// How the answer began.
    pub answer: String,
}

/// How the webhooks stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HookStanding {
    /// Where to; empty: nowhere.
    pub url: String,
    /// What is told.
    pub events: HookEvents,
    /// What still waits.
    pub waiting: u64,
    /// When the oldest of it happened.
    pub oldest: Option<Timestamp>,
    /// Dead letters.
    pub dead: u64,
    /// What was taken since the start.
    pub sent: u64,
    /// Attempts that failed since the start.
    pub failed: u64,
    /// Gaps that were told since the start.
    pub gaps: u64,
    /// When something was last taken.
    pub taken_at: Option<Timestamp>,
    /// What is wrong; `None` if all is well.
    pub problem: Option<String>,
    /// Whether the receiver has said that it wants no more (410).
    pub is_gone: bool,
    /// How often the platform was asked who may enter, and how often it did not say.
    pub asked: u64,
    /// How often it did not decide.
    pub undecided: u64,
}

impl HookStanding {
    /// How old the oldest is that waits, in seconds; 0 if nothing does.
    #[must_use]
    pub fn lag_seconds(&self, now: Timestamp) -> u64 {
        self.oldest.map_or(0, |at| at.until(now).as_secs())
    }
}

/// The platform.
pub trait Platform: Send + Sync {
    /// How telling it stands.
    fn standing(&self) -> HookStanding;

    /// Sends it a webhook of type `test`, past everything that waits.
    fn try_out(&self) -> Later<'_, Result<Tried, String>>;

    /// What waits is looked at again: dead letters are back.
    fn look_again(&self);

    /// Asks it whether somebody may enter a room.
    fn may_enter(&self, actor: &Actor, room: &RoomId) -> Later<'_, Result<Verdict, String>>;
}
