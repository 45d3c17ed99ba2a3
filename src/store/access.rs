//! The seam of the store for whoever decides who may be where: bans, rooms with their members, and lists of both and of
//! people.

use crate::domain::access::{Ban, Banned};
use crate::domain::chat::{MemberEntry, Membership, RoomDraft, RoomEntry, RoomPatch, RoomRecord};
use crate::domain::{RoomId, UserId};

use super::Answer;
use super::privacy::UserProfile;

/// So many bans stand at most; they are held in memory.
pub const MAX_BANS: usize = 100_000;
/// A list looks at so many rows for what was asked for, and says where to go on.
pub const LOOKED_AT: usize = 10_000;

/// Revocations and blocks.
pub trait Bans: Send + Sync {
    /// Sets a ban. Of two revocations by time of the same subject the later moment holds. Bans that mean nothing any more
    /// are dropped along.
    ///
    /// # Errors
    /// `Conflict` if there are [`MAX_BANS`] already.
    fn ban(&self, banned: Banned) -> Answer<'_, ()>;

    /// Takes a ban away.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    fn lift(&self, ban: Ban) -> Answer<'_, Banned>;

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
        let text = text.to_lowercase();
        id.to_lowercase().contains(&text) || name.to_lowercase().contains(&text)
    }
}

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

    /// Registers a room.
    ///
    /// # Errors
    /// `Conflict` if there is one.
    fn create_room(&self, draft: RoomDraft) -> Answer<'_, RoomRecord>;

    /// Changes a room.
    ///
    /// # Errors
    /// `NotFound`.
    fn patch_room(&self, room: RoomId, patch: RoomPatch) -> Answer<'_, RoomRecord>;

    /// Admits somebody, or makes them something else. Gives what they were before.
    ///
    /// # Errors
    /// `NotFound` without such a room.
    fn set_member(&self, room: RoomId, user: UserId, membership: Membership) -> Answer<'_, Option<Membership>>;

    /// Takes somebody out, with their read mark. What they wrote stays.
    ///
    /// # Errors
    /// `NotFound` without such a room, or if they take no part in it.
    fn remove_member(&self, room: RoomId, user: UserId) -> Answer<'_, Membership>;

    /// The room is gone from here on: its id, its members and their marks. [`RoomBook::remove_messages`] is then repeated
    /// until nothing is left, over restarts.
    ///
    /// # Errors
    /// `NotFound`; `Held` if it, somebody in it or somebody who wrote in it is held.
    fn begin_removal(&self, room: RoomId) -> Answer<'_, RoomRecord>;

    /// Removes about `limit` messages of rooms that are gone. `true` when nothing is left.
    fn remove_messages(&self, limit: usize) -> Answer<'_, bool>;
}

/// People, for administrators.
pub trait PeopleBook: Send + Sync {
    /// A part of all people who were ever here or spoken of.
    fn list_people(&self, query: ListQuery) -> Answer<'_, ListPage<UserProfile>>;

    /// One of them.
    ///
    /// # Errors
    /// `NotFound`.
    fn profile(&self, user: UserId) -> Answer<'_, UserProfile>;
}
