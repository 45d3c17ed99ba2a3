//! What a search asks of the store. The index of words is beside the store, made of what is read here; what was found is read here
//! again, under the rights of whoever looks for it, before anybody sees it.

use crate::domain::RoomId;
use crate::domain::chat::{Author, Message, RoomPolicy};

use super::Answer;

/// A message, as far as an index of words needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Searchable {
    /// It.
    pub id: u64,
    /// The number of its room.
    pub room: u64,
    /// What it says.
    pub content: String,
    /// Its latest change; 0 if there is none.
    pub change: u64,
}

/// Some messages in the order of their ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SearchablePart {
    /// They; not those that are deleted, nor those of rooms that are being removed.
    pub messages: Vec<Searchable>,
    /// Up to which id these are all.
    pub up_to: u64,
}

/// Reads of who builds an index of words, and of who looks for something.
pub trait Searched: Send + Sync {
    /// The messages behind an id up to another one; as many as one reads at once.
    fn searchable_behind(&self, after: u64, up_to: u64) -> Answer<'_, SearchablePart>;

    /// Messages as they are now, in the order asked; `None` where there is nothing to be found any more.
    fn searchable(&self, messages: Vec<u64>) -> Answer<'_, Vec<Option<Searchable>>>;

    /// Which of these numbers of rooms are of no room any more.
    fn rooms_gone(&self, rooms: Vec<u64>) -> Answer<'_, Vec<u64>>;

    /// The numbers of the rooms in which somebody may look for something: of the one that is named, or of those on their list.
    ///
    /// # Errors
    /// `Forbidden` for a room that they may not enter.
    fn searched_rooms(&self, viewer: Author, room: Option<RoomId>, policy: RoomPolicy) -> Answer<'_, Vec<u64>>;

    /// Messages by their ids, in the order asked, without those that are not there or not in the rooms of
    /// [`Searched::searched_rooms`] any more. They carry the JSON type of the room id that was asked with.
    ///
    /// # Errors
    /// As [`Searched::searched_rooms`].
    fn found(
        &self,
        messages: Vec<u64>,
        viewer: Author,
        room: Option<RoomId>,
        policy: RoomPolicy,
    ) -> Answer<'_, Vec<Message>>;
}
