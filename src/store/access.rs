//! The seam of the store for whoever decides who may be where: bans, rooms with their members, and lists of both and of
//! people.

use crate::domain::access::Banned;
use crate::domain::chat::{MemberEntry, RoomEntry};
use crate::domain::{RoomId, UserId, normal_form};

use super::Answer;
use super::privacy::UserProfile;

/// So many bans stand at most; they are held in memory.
pub const MAX_BANS: usize = 100_000;
/// A list looks at so many rows for what was asked for, and says where to go on.
pub const LOOKED_AT: usize = 10_000;

/// Revocations and blocks.
pub trait Bans: Send + Sync {
    /// All bans.
    fn bans(&self) -> Answer<'_, Vec<Banned>>;
}

/// Which part of a list is asked for, in the order of canonical ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// Behind this canonical id.
    pub after: Option<String>,
    /// At most so many.
    pub limit: usize,
    /// Only those whose id or name has this text, whatever its case.
    pub text: Option<String>,
}

impl ListQuery {
    /// Whether an id and a name are what is asked for.
    #[must_use]
    pub fn fits(&self, id: &str, name: &str) -> bool {
        let Some(text) = &self.text else { return true };
        let searched = |text: &str| normal_form(text).to_lowercase();
        let text = searched(text);
        searched(id).contains(&text) || searched(name).contains(&text)
    }
}

/// Ids that are numbers, each with whether its JSON type is settled, and where to go on.
pub type NumericIds = (Vec<(UserId, bool)>, Option<u64>);

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPage<T> {
    /// The items.
    pub items: Vec<T>,
    /// The canonical id to go on behind, if there may be more.
    pub next: Option<String>,
}

/// A part of a room's members, in the order in which they were first spoken of anywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberPage {
    /// They.
    pub members: Vec<MemberEntry>,
    /// What to go on behind, if there are more; opaque.
    pub next: Option<u64>,
}

/// Rooms, for administrators: no right is asked here.
pub trait RoomBook: Send + Sync {
    /// A part of all rooms.
    fn list_rooms(&self, query: ListQuery) -> Answer<'_, ListPage<RoomEntry>>;

    /// One room.
    ///
    /// # Errors
    /// `NotFound`.
    fn room(&self, room: RoomId) -> Answer<'_, RoomEntry>;

    /// A part of a room's members behind `after`.
    ///
    /// # Errors
    /// `NotFound`.
    fn members(&self, room: RoomId, after: u64, limit: usize) -> Answer<'_, MemberPage>;
}

/// People, for administrators.
pub trait PeopleBook: Send + Sync {
    /// A part of all people who were ever here or spoken of.
    fn list_users(&self, query: ListQuery) -> Answer<'_, ListPage<UserProfile>>;

    /// Of those behind a number whose ids are numbers, in either JSON type, at most so many rows: the id as it is kept, and whether
    /// its type is settled; and the number to go on behind, if there may be more.
    fn numeric_ids(&self, after: u64, limit: usize) -> Answer<'_, NumericIds>;

    /// Whoever has a name of their own since the upgrade to normal forms (NFC), as the form of their id was somebody else's already:
    /// by the text that tokens of before call them.
    fn renamed_users(&self) -> Answer<'_, Vec<(String, UserId)>>;

    /// One of them.
    ///
    /// # Errors
    /// `NotFound`.
    fn profile(&self, user: UserId) -> Answer<'_, UserProfile>;
}
