//! Legal holds: what they stand against, and the versions that are kept under them.

use std::collections::HashSet;

use redb::ReadableTable;

use crate::domain::privacy::{HeldSubjects, Hold, Subject};
use crate::domain::{Refusal, RoomId, UserId};
use crate::store::Change;
use crate::store::embedded::access::rows::decode_room;
use crate::store::embedded::engine::batch::{Apply, Batch};
use crate::store::embedded::engine::codec::{decode, encode, get, get_number, get_value};
use crate::store::embedded::engine::failure::{Failure, Outcome};
use crate::store::embedded::engine::schema::{k8, k16, meta, pair};
use crate::store::embedded::privacy::rows::{HoldRow, VersionRow, hold_key, holds_on, read_holds};
use crate::store::operations::{PruneWithheld, ReleaseHold, SetHold, StandingHold};

/// Who and what is held, by number.
pub(in crate::store::embedded) type Held = HeldSubjects<u64, u64>;

impl Apply for SetHold {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<StandingHold> {
        let mut hold = self.hold;
        batch.refuse_hold_on_erased(&hold.subject)?;
        batch.refuse_hold_on_removed(&hold.subject)?;
        let standing = holds_on(batch.t.holds.read()?, &hold.subject)?;
        if standing.is_empty() && batch.t.meta.read()?.get(meta::PRUNED)?.is_some() {
            return Err(Refusal::Unsettled.into());
        }
        if let Some(hold) = standing.into_iter().find(|one| one.reason == hold.reason) {
            return Ok(StandingHold { hold, is_new: false });
        }
        hold.number = get_number(batch.t.meta.read()?, meta::NEXT_HOLD)?.unwrap_or(1);
        batch.t.meta.write()?.insert(meta::NEXT_HOLD, encode(&(hold.number + 1), &mut batch.buffer)?)?;
        let (row, key) = (HoldRow::of(&hold), hold_key(&hold.subject, hold.number));
        batch.t.holds.write()?.insert(key.as_slice(), encode(&row, &mut batch.buffer)?)?;
        let id = batch.take_id()?;
        batch.tell(Change::HoldSet { id, hold: hold.clone() });
        Ok(StandingHold { hold, is_new: true })
    }
}

impl Apply for ReleaseHold {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<Hold> {
        let mut standing = holds_on(batch.t.holds.read()?, &self.subject)?;
        standing.retain(|hold| self.number.is_none_or(|number| hold.number == number));
        if standing.len() > 1 {
            let named: Vec<String> =
                standing.iter().map(|hold| format!("hold {} ({})", hold.number, hold.reason)).collect();
            return Err(Refusal::SeveralHolds(named.join(", ")).into());
        }
        let hold = standing.pop().ok_or(Refusal::NotFound)?;
        batch.t.holds.write()?.remove(hold_key(&hold.subject, hold.number).as_slice())?;
        // What it alone has kept goes from the first version on, and before anything is held anew.
        if batch.t.withheld.read()?.iter()?.next().is_some() {
            batch.t.meta.write()?.insert(meta::PRUNED, encode(&(0_u64, 0_u64), &mut batch.buffer)?)?;
        }
        let id = batch.take_id()?;
        batch.tell(Change::HoldReleased { id, subject: self.subject });
        Ok(hold)
    }
}

impl Apply for PruneWithheld {
    /// Goes through the table once behind a release: `meta` has where the slice before has stopped.
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<bool> {
        let held = batch.held()?;
        let after: Option<(u64, u64)> = get_value(batch.t.meta.read()?, meta::PRUNED)?;
        let Some((message, change)) = after else { return Ok(true) };
        let from = k16(message, change.saturating_add(1));
        let (mut gone, mut last, mut looked_at) = (Vec::new(), None, 0);
        for row in batch.t.withheld.read()?.range::<&[u8; 16]>(&from..)?.take(self.limit.max(1)) {
            let (key, value) = row?;
            let row: VersionRow<'_> = decode(value.value())?;
            if !held.holds_message(&row.sender, &row.room) {
                gone.push(*key.value());
            }
            last = Some(pair(key.value()));
            looked_at += 1;
        }
        for key in &gone {
            batch.t.withheld.write()?.remove(key)?;
        }
        let is_done = looked_at < self.limit.max(1);
        batch.touch();
        match last.filter(|_| !is_done) {
            Some(last) => drop(batch.t.meta.write()?.insert(meta::PRUNED, encode(&last, &mut batch.buffer)?)?),
            None => drop(batch.t.meta.write()?.remove(meta::PRUNED)?),
        }
        Ok(is_done)
    }
}

impl Batch<'_, '_> {
    fn all_holds(&self) -> Outcome<Vec<Hold>> {
        read_holds(self.t.holds.read()?)
    }

    /// Who and what is held.
    pub(in crate::store::embedded) fn held(&mut self) -> Outcome<Held> {
        let (mut users, mut rooms) = (HashSet::new(), HashSet::new());
        for hold in self.all_holds()? {
            match hold.subject {
                Subject::User(user) => users.extend(self.find_user(&user)?),
                Subject::Room(room) => rooms.extend(self.find_room(&room)?.map(|(no, _)| no)),
            }
        }
        Ok(Held::new(users, rooms))
    }

    /// Refuses by the holds on some subjects, naming each; none refuses nothing.
    pub(in crate::store::embedded) fn refuse_by(&self, subjects: &[Subject]) -> Outcome<()> {
        if subjects.is_empty() {
            return Ok(());
        }
        let holds = self.all_holds()?;
        let against: Vec<String> =
            holds.iter().filter(|hold| subjects.contains(&hold.subject)).map(Hold::to_string).collect();
        Err(Refusal::Held(against.join(", ")).into())
    }

    /// Refuses to touch somebody who is held, or who is or has written in a room that is.
    pub(in crate::store::embedded) fn refuse_held_person(&mut self, user: &UserId, no: u64) -> Outcome<()> {
        let held = self.held()?;
        let mut against = Vec::new();
        if held.holds_user(&no) {
            against.push(Subject::User(user.clone()));
        }
        for room in held.rooms() {
            let wrote = self.t.authors.read()?.get(&k16(no, *room))?.is_some();
            if (wrote || self.member(*room, no)?.is_some() || self.has_reported_in(no, *room)?)
                && let Some(room) = self.room_of(*room)?
            {
                against.push(Subject::Room(room));
            }
        }
        // A report is of two: of who has made it, and of who wrote what it shows.
        for other in held.users().filter(|other| **other != no) {
            if self.has_reported(no, *other)? || self.has_reported(*other, no)? {
                against.push(Subject::User(self.person(*other)?.id));
            }
        }
        self.refuse_by(&against)
    }

    /// Refuses a hold that would come too late: on a room that is being removed, or on somebody with messages in one.
    fn refuse_hold_on_removed(&mut self, subject: &Subject) -> Outcome<()> {
        let doomed = self.doomed()?;
        let held = match subject {
            _ if doomed.is_empty() => None,
            Subject::Room(room) => {
                let mut found = None;
                for no in &doomed {
                    if self.room_of(*no)?.is_some_and(|removed| removed == *room) {
                        found = Some(*no);
                    }
                }
                found
            }
            Subject::User(user) => match self.find_user(user)? {
                Some(no) => self.written_in(no, &doomed)?,
                None => None,
            },
        };
        match held {
            Some(no) => {
                let missing = || Failure::Damaged(format!("room {no} is to be removed, and has no record"));
                Err(Refusal::Removing(self.room_of(no)?.ok_or_else(missing)?).into())
            }
            None => Ok(()),
        }
    }

    /// Refuses a hold that would come too late: on somebody who is being erased, or on a room with messages of theirs.
    fn refuse_hold_on_erased(&mut self, subject: &Subject) -> Outcome<()> {
        let mut erasing: Vec<UserId> = self.erasing()?.iter().cloned().collect();
        // Of several it is always the same one that is named.
        erasing.sort_by_cached_key(UserId::canonical);
        for user in erasing {
            let is_touched = match subject {
                Subject::User(subject) if *subject == user => true,
                Subject::User(subject) => match (self.find_user(subject)?, self.find_user(&user)?) {
                    (Some(subject), Some(user)) => {
                        self.has_reported(user, subject)? || self.has_reported(subject, user)?
                    }
                    _ => false,
                },
                Subject::Room(room) => match (self.find_room(room)?, self.find_user(&user)?) {
                    (Some((room, _)), Some(user)) => {
                        self.t.authors.read()?.get(&k16(user, room))?.is_some() || self.has_reported_in(user, room)?
                    }
                    _ => false,
                },
            };
            if is_touched {
                return Err(Refusal::Erasing(user).into());
            }
        }
        Ok(())
    }

    /// The id of a room, also of one that this batch has registered.
    pub(in crate::store::embedded) fn room_of(&self, no: u64) -> Outcome<Option<RoomId>> {
        if let Some(room) = self.changed_room(no) {
            return Ok(Some(room.clone()));
        }
        Ok(get(self.t.rooms.read()?, &k8(no), decode_room)?.map(|room| room.id))
    }
}
