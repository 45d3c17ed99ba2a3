//! What happens live: the ordered feed of deliveries, who is connected and in which rooms, and the one subscriber of the
//! store's changes.
//!
//! A commit tells [`live::Live`] of its changes, in order and before anybody is answered; it disconnects, removes from rooms and takes back
//! what the [`feed`] still holds, and the feed hands deliveries on to the sockets of the [`registry`] and to long polls.

pub mod access;
pub mod announcements;
pub mod batch;
pub mod delivery;
pub mod feed;
pub mod gate;
mod gathered;
mod gathering;
pub mod known_users;
pub mod live;
mod locked_rooms;
pub mod presence;
pub mod registry;
pub mod renamed_users;
pub mod settled_ids;
pub mod subscriber;
