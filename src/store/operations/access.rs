//! Who may be where: bans, rooms with their members. Each leaves a change, and a subscriber of the feed applies it to whoever
//! is connected; whoever asked may be gone by then.

use crate::domain::access::{Ban, Banned};
use crate::domain::chat::{Membership, RoomDraft, RoomPatch};
use crate::domain::{RoomId, UserId};

/// Sets a ban. Of two revocations by time of the same subject the later moment holds. Bans that mean nothing any more are
/// dropped along. Errors: `Conflict` if there are [`super::super::access::MAX_BANS`] already.
#[derive(Debug, Clone)]
pub struct SetBan {
    /// The ban.
    pub banned: Banned,
}

/// Takes a ban away. Errors: `NotFound` if there is none.
#[derive(Debug, Clone)]
pub struct LiftBan {
    /// Which.
    pub ban: Ban,
}

/// Closes somebody's sockets. They may connect again.
#[derive(Debug, Clone)]
pub struct Disconnect {
    /// Whose.
    pub user: UserId,
}

/// Registers a room. Errors: `Conflict` if there is one.
#[derive(Debug, Clone)]
pub struct CreateRoom {
    /// It.
    pub draft: RoomDraft,
}

/// Changes a room. Errors: `NotFound`.
#[derive(Debug, Clone)]
pub struct PatchRoom {
    /// The room.
    pub room: RoomId,
    /// What is changed of it.
    pub patch: RoomPatch,
}

/// Admits somebody, or makes them something else. Gives what they were before. Errors: `NotFound` without such a room.
#[derive(Debug, Clone)]
pub struct SetMember {
    /// The room.
    pub room: RoomId,
    /// The user.
    pub user: UserId,
    /// What they are from now on.
    pub membership: Membership,
}

/// Takes somebody out, with their read mark. What they wrote stays. Errors: `NotFound` without such a room, or if they take no
/// part in it.
#[derive(Debug, Clone)]
pub struct RemoveMember {
    /// The room.
    pub room: RoomId,
    /// The user.
    pub user: UserId,
}

/// The room is gone from here on: its id, its members and their marks. [`RemoveMessages`] is then repeated until nothing is
/// left, over restarts. Errors: `NotFound`; `Held` if it, somebody in it or somebody who wrote in it is held.
#[derive(Debug, Clone)]
pub struct RemoveRoom {
    /// The room.
    pub room: RoomId,
}

/// Removes about `limit` messages of rooms that are gone. Answers `true` when nothing is left.
#[derive(Debug, Clone)]
pub struct RemoveMessages {
    /// How many.
    pub limit: usize,
}
