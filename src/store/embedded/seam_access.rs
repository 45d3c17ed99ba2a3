//! The seam for whoever decides who may be where, method by method, and the writer's requests for it.

use super::Embedded;
use super::batch::Batch;
use super::failure::Failure;
use super::writer::{Ack, Command, Reply, settle};
use crate::domain::access::{Ban, Banned};
use crate::domain::chat::{Membership, RoomDraft, RoomEntry, RoomPatch, RoomRecord};
use crate::domain::{Refusal, RoomId, UserId};
use crate::store::{Answer, Bans, ListPage, ListQuery, MemberPage, PeopleBook, RoomBook, StoreError, UserProfile};

/// A request for the writer.
pub(super) enum Access {
    Ban(Banned, Reply<()>),
    Lift(Ban, Reply<Banned>),
    CreateRoom(RoomDraft, Reply<RoomRecord>),
    PatchRoom(RoomId, RoomPatch, Reply<RoomRecord>),
    SetMember(RoomId, UserId, Membership, Reply<Option<Membership>>),
    RemoveMember(RoomId, UserId, Reply<Membership>),
    BeginRemoval(RoomId, Reply<RoomRecord>),
    RemoveMessages(usize, Reply<bool>),
}

impl Access {
    /// How many rows it touches, about.
    pub(super) fn rows(&self) -> usize {
        match self {
            Access::CreateRoom(draft, _) => draft.members.len(),
            Access::RemoveMessages(limit, _) => *limit,
            _ => 1,
        }
    }

    pub(super) fn refuse(self, error: StoreError) {
        // Who does not wait for the answer any more does not need it.
        match self {
            Access::Ban(_, reply) => drop(reply.send(Err(error))),
            Access::Lift(_, reply) => drop(reply.send(Err(error))),
            Access::CreateRoom(_, reply) | Access::PatchRoom(.., reply) => drop(reply.send(Err(error))),
            Access::SetMember(.., reply) => drop(reply.send(Err(error))),
            Access::RemoveMember(.., reply) => drop(reply.send(Err(error))),
            Access::BeginRemoval(_, reply) => drop(reply.send(Err(error))),
            Access::RemoveMessages(_, reply) => drop(reply.send(Err(error))),
        }
    }

    pub(super) fn apply(self, batch: &mut Batch<'_, '_>) -> Result<Ack, (Ack, Failure)> {
        match self {
            Access::Ban(banned, reply) => settle(reply, batch.ban(banned)),
            Access::Lift(ban, reply) => settle(reply, batch.lift(&ban)),
            Access::CreateRoom(draft, reply) => settle(reply, batch.create_room(draft)),
            Access::PatchRoom(room, patch, reply) => settle(reply, batch.patch_room(&room, &patch)),
            Access::SetMember(room, user, membership, reply) => {
                settle(reply, batch.set_member(&room, &user, membership))
            }
            Access::RemoveMember(room, user, reply) => settle(reply, batch.remove_member(&room, &user)),
            Access::BeginRemoval(room, reply) => settle(reply, batch.begin_removal(&room)),
            Access::RemoveMessages(limit, reply) => settle(reply, batch.remove_messages(limit)),
        }
    }
}

impl Embedded {
    fn decide<T: Send + 'static>(
        &self,
        request: impl FnOnce(Reply<T>) -> Access,
    ) -> impl Future<Output = Result<T, StoreError>> + Send {
        self.write(move |reply| Command::Access(request(reply)))
    }
}

impl Bans for Embedded {
    fn ban(&self, banned: Banned) -> Answer<'_, ()> {
        Box::pin(self.decide(move |reply| Access::Ban(banned, reply)))
    }

    fn lift(&self, ban: Ban) -> Answer<'_, Banned> {
        Box::pin(self.decide(move |reply| Access::Lift(ban, reply)))
    }

    fn bans(&self) -> Answer<'_, Vec<Banned>> {
        Box::pin(self.read(|snapshot| snapshot.all_bans()))
    }
}

impl RoomBook for Embedded {
    fn list_rooms(&self, query: ListQuery) -> Answer<'_, ListPage<RoomEntry>> {
        Box::pin(self.read(move |snapshot| snapshot.list_rooms(&query)))
    }

    fn room(&self, room: RoomId) -> Answer<'_, RoomEntry> {
        Box::pin(self.read(move |snapshot| snapshot.room(&room)))
    }

    fn members(&self, room: RoomId, after: u64, limit: usize) -> Answer<'_, MemberPage> {
        Box::pin(self.read(move |snapshot| snapshot.members_of(&room, after, limit)))
    }

    fn create_room(&self, draft: RoomDraft) -> Answer<'_, RoomRecord> {
        Box::pin(self.decide(move |reply| Access::CreateRoom(draft, reply)))
    }

    fn patch_room(&self, room: RoomId, patch: RoomPatch) -> Answer<'_, RoomRecord> {
        Box::pin(self.decide(move |reply| Access::PatchRoom(room, patch, reply)))
    }

    fn set_member(&self, room: RoomId, user: UserId, membership: Membership) -> Answer<'_, Option<Membership>> {
        Box::pin(self.decide(move |reply| Access::SetMember(room, user, membership, reply)))
    }

    fn remove_member(&self, room: RoomId, user: UserId) -> Answer<'_, Membership> {
        Box::pin(self.decide(move |reply| Access::RemoveMember(room, user, reply)))
    }

    fn begin_removal(&self, room: RoomId) -> Answer<'_, RoomRecord> {
        Box::pin(async move {
            // A long look, and not the writer's work.
            let asked = room.clone();
            if self.read(move |snapshot| snapshot.has_held_authors(&asked)).await? {
                return Err(Refusal::Held.into());
            }
            self.decide(move |reply| Access::BeginRemoval(room, reply)).await
        })
    }

    fn remove_messages(&self, limit: usize) -> Answer<'_, bool> {
        Box::pin(self.decide(move |reply| Access::RemoveMessages(limit, reply)))
    }
}

impl PeopleBook for Embedded {
    fn list_people(&self, query: ListQuery) -> Answer<'_, ListPage<UserProfile>> {
        Box::pin(self.read(move |snapshot| snapshot.list_people(&query)))
    }

    fn profile(&self, user: UserId) -> Answer<'_, UserProfile> {
        Box::pin(self.read(move |snapshot| snapshot.profile_of(&user)))
    }
}
