//! Bans, and what administrators ask of rooms and people, in the engine in memory.

use std::ops::Bound;

use super::{Member, Memory, Room, State};
use crate::domain::access::{Ban, Banned};
use crate::domain::chat::{MemberEntry, Membership, RoomDraft, RoomEntry, RoomPatch, RoomRecord};
use crate::domain::privacy::Subject;
use crate::domain::{Refusal, RoomId, Timestamp, UserId};
use crate::store::access::MAX_BANS;
use crate::store::{Answer, Bans, Change, ListPage, ListQuery, MemberPage, PeopleBook, RoomBook, UserProfile};

impl Bans for Memory {
    fn ban(&self, banned: Banned) -> Answer<'_, ()> {
        self.write(|state, now| {
            let before = state.bans.get(&banned.ban).cloned();
            let standing = state.bans.values().filter(|one| one.until.is_none_or(|until| until > now)).count();
            if before.is_none() && standing >= MAX_BANS {
                return Err(Refusal::Conflict);
            }
            state.bans.retain(|_, one| one.until.is_none_or(|until| until > now));
            state.bans.insert(banned.ban.clone(), banned.following(before.as_ref()));
            Ok(((), Vec::new()))
        })
    }

    fn lift(&self, ban: Ban) -> Answer<'_, Banned> {
        self.write(|state, _| Ok((state.bans.remove(&ban).ok_or(Refusal::NotFound)?, Vec::new())))
    }

    fn bans(&self) -> Answer<'_, Vec<Banned>> {
        self.read(|state| Ok(state.bans.values().cloned().collect()))
    }
}

impl State {
    fn book(&self, room: &RoomId) -> Result<&Room, Refusal> {
        self.rooms.get(&room.canonical()).ok_or(Refusal::NotFound)
    }

    fn book_mut(&mut self, room: &RoomId) -> Result<&mut Room, Refusal> {
        self.rooms.get_mut(&room.canonical()).ok_or(Refusal::NotFound)
    }

    fn create(&mut self, draft: RoomDraft) -> Result<(RoomRecord, Vec<Change>), Refusal> {
        let id = draft.id.canonical();
        if self.rooms.contains_key(&id) {
            return Err(Refusal::Conflict);
        }
        let record = RoomRecord { name: draft.name, private: draft.private, ..RoomRecord::new(draft.id, draft.at) };
        let mut room = Room::new(record.clone());
        for (user, membership) in &draft.members {
            room.member(user).membership = *membership;
            self.people.entry(user.canonical()).or_default();
        }
        self.rooms.insert(id, room);
        Ok((record, Vec::new()))
    }

    fn is_removable(&self, room: &Room) -> bool {
        let is_held = |user: &UserId| self.holds.iter().any(|hold| hold.subject == Subject::User(user.clone()));
        !self.holds.iter().any(|hold| hold.subject == Subject::Room(room.record.id.clone()))
            && !room.members.values().any(|member| is_held(&member.user))
            && !room.messages.values().any(|stored| is_held(&stored.message.sender))
    }
}

/// A part of a sorted list.
fn page<'a, T: 'a, R>(
    rows: impl Iterator<Item = (&'a String, &'a T)>,
    query: &ListQuery,
    read: impl Fn(&'a str, &'a T) -> Option<R>,
) -> ListPage<R> {
    let mut page = ListPage { items: Vec::new(), next: None };
    for (id, row) in rows {
        page.items.extend(read(id, row));
        if page.items.len() >= query.limit {
            page.next = Some(id.clone());
            break;
        }
    }
    page
}

fn behind(query: &ListQuery) -> (Bound<String>, Bound<String>) {
    (query.after.clone().map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)
}

impl Room {
    fn entry(&self) -> RoomEntry {
        RoomEntry { record: self.record.clone(), members: self.members.len() as u64 }
    }
}

impl RoomBook for Memory {
    fn list_rooms(&self, query: ListQuery) -> Answer<'_, ListPage<RoomEntry>> {
        self.read(|state| {
            Ok(page(state.rooms.range(behind(&query)), &query, |id, room| {
                query.fits(id, room.record.name.as_deref().unwrap_or_default()).then(|| room.entry())
            }))
        })
    }

    fn room(&self, room: RoomId) -> Answer<'_, RoomEntry> {
        self.read(|state| state.book(&room).map(Room::entry))
    }

    /// In the order of ids; `after` counts them.
    fn members(&self, room: RoomId, after: u64, limit: usize) -> Answer<'_, MemberPage> {
        self.read(|state| {
            let room = state.book(&room)?;
            let skipped = usize::try_from(after).unwrap_or(usize::MAX);
            let name = |user: &UserId| state.people.get(&user.canonical()).map(|person| person.name.clone());
            let members: Vec<MemberEntry> = room
                .members
                .values()
                .skip(skipped)
                .take(limit)
                .map(|member| MemberEntry {
                    name: name(&member.user).unwrap_or_default(),
                    user: member.user.clone(),
                    membership: member.membership,
                    read_up_to: member.read_up_to,
                })
                .collect();
            let next = (members.len() == limit).then(|| after + members.len() as u64);
            Ok(MemberPage { members, next })
        })
    }

    fn create_room(&self, draft: RoomDraft) -> Answer<'_, RoomRecord> {
        self.write(|state, _| state.create(draft))
    }

    fn patch_room(&self, room: RoomId, patch: RoomPatch) -> Answer<'_, RoomRecord> {
        self.write(|state, _| {
            let room = state.book_mut(&room)?;
            patch.apply(&mut room.record);
            if patch.admit_guests {
                let guests = room.members.values_mut().filter(|member| member.membership == Membership::Guest);
                guests.for_each(|guest| guest.membership = Membership::Member);
            }
            Ok((room.record.clone(), Vec::new()))
        })
    }

    fn set_member(&self, room: RoomId, user: UserId, membership: Membership) -> Answer<'_, Option<Membership>> {
        self.write(|state, _| {
            let room = state.book_mut(&room)?;
            let before = room.members.get(&user.canonical()).map(|member| member.membership);
            let member: &mut Member = room.member(&user);
            member.membership = membership;
            state.people.entry(user.canonical()).or_default();
            Ok((before, Vec::new()))
        })
    }

    fn remove_member(&self, room: RoomId, user: UserId) -> Answer<'_, Membership> {
        self.write(|state, _| {
            let gone = state.book_mut(&room)?.members.remove(&user.canonical());
            Ok((gone.ok_or(Refusal::NotFound)?.membership, Vec::new()))
        })
    }

    fn begin_removal(&self, room: RoomId) -> Answer<'_, RoomRecord> {
        self.write(|state, _| {
            if !state.is_removable(state.book(&room)?) {
                return Err(Refusal::Held);
            }
            let gone = state.rooms.remove(&room.canonical()).ok_or(Refusal::NotFound)?;
            Ok((gone.record, Vec::new()))
        })
    }

    fn remove_messages(&self, _limit: usize) -> Answer<'_, bool> {
        Box::pin(std::future::ready(Ok(true)))
    }
}

impl PeopleBook for Memory {
    fn list_people(&self, query: ListQuery) -> Answer<'_, ListPage<UserProfile>> {
        self.read(|state| {
            Ok(page(state.people.range(behind(&query)), &query, |id, person| {
                query.fits(id, &person.name).then(|| state.profile(id)).flatten()
            }))
        })
    }

    fn profile(&self, user: UserId) -> Answer<'_, UserProfile> {
        self.read(|state| state.profile(&user.canonical()).ok_or(Refusal::NotFound))
    }
}

impl State {
    pub(super) fn profile(&self, id: &str) -> Option<UserProfile> {
        let person = self.people.get(id)?;
        let seen = |at: Timestamp| person.first_seen_id.map(|_| at);
        Some(UserProfile {
            user: UserId::parse(id).ok()?,
            name: person.name.clone(),
            roles: person.roles.clone(),
            first_seen: seen(person.first_seen),
            last_seen: seen(person.last_seen),
        })
    }
}
