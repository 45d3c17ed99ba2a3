//! One user's inbox, the same for the writer inside its transaction and for readers. It brings together the user's own rows
//! with what went to their roles and to everybody, as [`crate::domain::notification::is_for`] says, without a row for each
//! user and notification.
//!
//! How many are unread is kept, not counted. For each audience `inbox_counts` has the ids of its notifications, for each user
//! and audience the ids that this user has read or deleted one by one, and for each user the ids that name them and are
//! neither. What is behind a user's marks in the first, less what is behind them in the second, is unread.

use std::iter::Peekable;
use std::ops::ControlFlow;

use redb::ReadableTable;

use crate::domain::Role;
use crate::domain::notification::{Audience, AudienceKind};
use crate::store::embedded::access::rows::{Marks, NAMED_SLOT, Person, slot};
use crate::store::embedded::engine::codec::{decode, get};
use crate::store::embedded::engine::counts;
use crate::store::embedded::engine::failure::Outcome;
use crate::store::embedded::engine::schema::{K16, Row, k16, second};

/// The user is named by the notification.
pub(in crate::store::embedded) const NAMED: u8 = 1;
/// The user has read it.
pub(in crate::store::embedded) const READ: u8 = 2;
/// The user has deleted it.
pub(in crate::store::embedded) const DELETED: u8 = 4;
/// The user has done either.
pub(in crate::store::embedded) const MARKED: u8 = READ | DELETED;

/// The number of an audience in `notif_by_audience`; `None` for named people, who have rows of their own.
pub(in crate::store::embedded) fn audience_code(audience: &Audience) -> Option<u64> {
    shared_code(audience.kind())
}

fn shared_code(kind: AudienceKind) -> Option<u64> {
    (kind != AudienceKind::Named).then_some(slot(kind) as u64)
}

/// The space of an audience's notifications in `inbox_counts`: below 8, where no user's spaces are.
pub(in crate::store::embedded) fn audience_space(code: u64) -> u64 {
    code
}

/// The space of what a user has marked one by one of an audience; for what names them, of what they have not.
pub(in crate::store::embedded) fn user_space(user: u64, kind: AudienceKind) -> u64 {
    user * 8 + slot(kind) as u64
}

/// All spaces of a user.
pub(in crate::store::embedded) fn user_spaces(user: u64) -> impl Iterator<Item = u64> {
    (0..=NAMED_SLOT as u64).map(move |slot| user * 8 + slot)
}

/// The tables that an inbox lies in.
pub(in crate::store::embedded) struct InboxTables<'t, I, A, C> {
    pub(in crate::store::embedded) inbox: &'t I,
    pub(in crate::store::embedded) by_audience: &'t A,
    pub(in crate::store::embedded) counts: &'t C,
    /// Notifications up to here have been purged, but for those that a hold keeps.
    pub(in crate::store::embedded) purged_up_to: u64,
}

/// Whose inbox it is.
#[derive(Debug, Clone)]
pub(in crate::store::embedded) struct Owner {
    no: Option<u64>,
    roles: Vec<Role>,
    first_seen_id: u64,
    person: Option<Person>,
}

impl Owner {
    /// The owner with the roles of today. Who never arrived has what names them alone.
    pub(in crate::store::embedded) fn new(person: Option<(u64, Person)>, roles: &[Role]) -> Owner {
        let (no, person) = person.unzip();
        let first_seen_id =
            person.as_ref().filter(|person| person.has_arrived()).map_or(u64::MAX, |person| person.first_seen_id);
        Owner { no, roles: roles.to_vec(), first_seen_id, person }
    }

    /// The owner's number and record, if anything is known of them.
    pub(in crate::store::embedded) fn person(self) -> Option<(u64, Person)> {
        self.no.zip(self.person)
    }

    pub(in crate::store::embedded) fn kinds(&self) -> impl Iterator<Item = AudienceKind> + '_ {
        AudienceKind::of(&self.roles)
    }

    pub(in crate::store::embedded) fn marks(&self, kind: AudienceKind) -> Marks {
        self.person.as_ref().map_or(Marks::default(), |person| person.marks(kind))
    }

    /// What is at or before this id of an audience is not theirs.
    fn begins_behind(&self, kind: AudienceKind) -> u64 {
        let first = if kind == AudienceKind::Named { 0 } else { self.first_seen_id.saturating_sub(1) };
        first.max(self.marks(kind).deleted)
    }
}

/// One notification of an inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store::embedded) struct Entry {
    pub(in crate::store::embedded) id: u64,
    pub(in crate::store::embedded) kind: AudienceKind,
    pub(in crate::store::embedded) read: bool,
    /// The flags of the user's own row; 0 if there is none.
    pub(in crate::store::embedded) flags: u8,
}

/// Which part of an inbox is walked, and in which direction.
#[derive(Debug, Clone, Copy)]
pub(in crate::store::embedded) struct Span<F> {
    /// Larger ids alone, by the audience.
    pub(in crate::store::embedded) after: F,
    /// Smaller ids alone.
    pub(in crate::store::embedded) before: u64,
    /// Newest first.
    pub(in crate::store::embedded) newest_first: bool,
}

/// Everything, oldest first.
pub(in crate::store::embedded) const ALL: Span<fn(AudienceKind) -> u64> =
    Span { after: |_| 0, before: u64::MAX, newest_first: false };

/// An id that some index gave, its audience, and the flags if the row was the user's own.
type Found = Outcome<(u64, AudienceKind, Option<u8>)>;
type Source<'s> = Peekable<Box<dyn Iterator<Item = Found> + 's>>;

impl<I: ReadableTable<K16, Row>, A: ReadableTable<K16, ()>, C: ReadableTable<K16, Row>> InboxTables<'_, I, A, C> {
    fn flags(&self, no: u64, id: u64) -> Outcome<u8> {
        Ok(get(self.inbox, &k16(no, id), |row| decode::<u8>(row))?.unwrap_or(0))
    }

    /// Visits what is in an inbox and not deleted, in the order of ids, each once.
    pub(in crate::store::embedded) fn walk(
        &self,
        owner: &Owner,
        span: Span<impl Fn(AudienceKind) -> u64>,
        mut visit: impl FnMut(Entry) -> Outcome<ControlFlow<()>>,
    ) -> Outcome<()> {
        let high = span.before.saturating_sub(1);
        let mut sources: Vec<Source<'_>> = Vec::with_capacity(owner.roles.len() + 2);
        for kind in owner.kinds() {
            let low = (span.after)(kind).max(owner.begins_behind(kind)).saturating_add(1);
            if low > high {
                continue;
            }
            match (shared_code(kind), owner.no) {
                (Some(code), _) => {
                    let rows = self.by_audience.range::<&[u8; 16]>(&k16(code, low)..=&k16(code, high))?;
                    let rows = rows.map(move |row| -> Found { Ok((second(row?.0.value()), kind, None)) });
                    sources.push(directed(rows, span.newest_first));
                }
                (None, Some(no)) => {
                    let rows =
                        self.inbox.range::<&[u8; 16]>(&k16(no, low)..=&k16(no, high))?.map(move |row| -> Found {
                            let (key, value) = row?;
                            Ok((second(key.value()), kind, Some(decode::<u8>(value.value())?)))
                        });
                    // A row without it is a mark on something that went to a role or to everybody.
                    let rows =
                        rows.filter(|row| row.as_ref().map_or(true, |(_, _, flags)| flags.unwrap_or(0) & NAMED != 0));
                    sources.push(directed(rows, span.newest_first));
                }
                (None, None) => {}
            }
        }
        while let Some((id, kind, flags)) = next(&mut sources, span.newest_first)? {
            let flags = match (flags, owner.no) {
                (Some(flags), _) => flags,
                (None, Some(no)) => self.flags(no, id)?,
                (None, None) => 0,
            };
            if flags & DELETED != 0 {
                continue;
            }
            let read = flags & READ != 0 || id <= owner.marks(kind).read;
            if visit(Entry { id, kind, read, flags })?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// One notification of an inbox, if it is there and not deleted.
    pub(in crate::store::embedded) fn entry(&self, owner: &Owner, id: u64) -> Outcome<Option<Entry>> {
        let Some(no) = owner.no else { return Ok(None) };
        let flags = self.flags(no, id)?;
        for kind in owner.kinds() {
            let is_there = match shared_code(kind) {
                Some(code) => self.by_audience.get(&k16(code, id))?.is_some(),
                None => flags & NAMED != 0,
            };
            if is_there {
                let is_theirs = id > owner.begins_behind(kind) && flags & DELETED == 0;
                let read = flags & READ != 0 || id <= owner.marks(kind).read;
                return Ok(is_theirs.then_some(Entry { id, kind, read, flags }));
            }
        }
        Ok(None)
    }

    /// How many of an inbox are unread.
    pub(in crate::store::embedded) fn unread(&self, owner: &Owner) -> Outcome<u64> {
        let mut unread = 0;
        for kind in owner.kinds() {
            let behind = owner.begins_behind(kind).max(owner.marks(kind).read);
            match (shared_code(kind), owner.no) {
                (Some(code), no) => {
                    // Marks on what was purged are swept away later: they are not counted against what is there.
                    let base = behind.max(self.purged_up_to);
                    let there = counts::behind(self.counts, audience_space(code), base)?;
                    let marked = match no {
                        Some(no) if there > 0 => counts::behind(self.counts, user_space(no, kind), base)?,
                        _ => 0,
                    };
                    unread += there.saturating_sub(marked);
                    if behind < base {
                        unread += self.kept_unread(owner, code, behind, base)?;
                    }
                }
                (None, Some(no)) => unread += counts::behind(self.counts, user_space(no, kind), behind)?,
                (None, None) => {}
            }
        }
        Ok(unread)
    }

    /// How many are unread of those that a purge has left, as a hold keeps them.
    fn kept_unread(&self, owner: &Owner, code: u64, behind: u64, base: u64) -> Outcome<u64> {
        let mut unread = 0;
        for row in self.by_audience.range::<&[u8; 16]>(&k16(code, behind.saturating_add(1))..=&k16(code, base))? {
            let id = second(row?.0.value());
            let flags = owner.no.map_or(Ok(0), |no| self.flags(no, id))?;
            unread += u64::from(flags & MARKED == 0);
        }
        Ok(unread)
    }
}

fn directed<'s>(rows: impl DoubleEndedIterator<Item = Found> + 's, newest_first: bool) -> Source<'s> {
    let boxed: Box<dyn Iterator<Item = Found> + 's> = if newest_first { Box::new(rows.rev()) } else { Box::new(rows) };
    boxed.peekable()
}

/// Takes the first of what the sources have. A notification has one audience: no id comes twice.
fn next(sources: &mut [Source<'_>], newest_first: bool) -> Outcome<Option<(u64, AudienceKind, Option<u8>)>> {
    let mut best: Option<(u64, usize)> = None;
    for (at, source) in sources.iter_mut().enumerate() {
        if let Some(Err(failure)) = source.next_if(Result::is_err) {
            return Err(failure);
        }
        let Some(Ok((id, ..))) = source.peek() else { continue };
        let is_better = best.is_none_or(|(best, _)| if newest_first { *id > best } else { *id < best });
        if is_better {
            best = Some((*id, at));
        }
    }
    let Some((_, at)) = best else { return Ok(None) };
    sources.get_mut(at).and_then(Iterator::next).transpose()
}
