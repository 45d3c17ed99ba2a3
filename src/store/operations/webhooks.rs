//! What the platform is told of: who is here, and what became of what was to be told.

use crate::domain::{RoomId, UserId};

/// Where somebody is at this moment, as the server sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// Who.
    pub user: UserId,
    /// In which room; `None`: here at all.
    pub room: Option<RoomId>,
    /// Whether they are there.
    pub is_there: bool,
}

/// The platform is to be told where people are, of whom it was last told otherwise.
#[derive(Debug, Clone)]
pub struct TellSightings {
    /// What is so now.
    pub sightings: Vec<Sighting>,
}

/// A telling that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenUp {
    /// Its id.
    pub id: u64,
    /// How often it was tried.
    pub attempts: u32,
    /// What the last attempt came to.
    pub why: String,
}

/// The platform has been told, or it was given up.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// What it took; of a gap up to where it was told, and how many changes that were.
    pub taken: Vec<(u64, Option<(u64, u64)>)>,
    /// What becomes a dead letter.
    pub given_up: Vec<GivenUp>,
}

impl Told {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.taken.len() + self.given_up.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Dead letters are to be told again.
#[derive(Debug, Clone)]
pub struct TellAgain {
    /// One of them; `None`: all, the oldest first.
    pub id: Option<u64>,
    /// At most so many.
    pub limit: usize,
}
