//! One user's inbox, the same for the writer inside its transaction and for readers. It brings together the user's own rows
//! with what went to their roles and to everybody, as [`crate::domain::notification::is_for`] says, without a row for each
//! user and notification.
//!
//! How many are unread is kept, not counted. For each audience `inbox_counts` has the ids of its notifications, for each user
//! and audience the ids that this user has read or deleted one by one, and for each user the ids that name them and are
//! neither. What is behind a user's marks in the first, less what is behind them in the second, is unread.
//!
//! A part of an inbox is read without what is not in it: `named` has what names a user and is not deleted, and `inbox_counts`
//! has for each user and shared audience the ids that this user has deleted, so that a run of them is passed over as one.

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

/// The space in which an audience that somebody belongs to is told what is over.
pub(in crate::store::embedded) fn space_of(user: u64, kind: AudienceKind) -> u64 {
    match shared_code(kind) {
        Some(code) => audience_space(code),
        None => user_space(user, kind),
    }
}

/// Spaces of what has been deleted one by one have this bit, and are otherwise those of their user and audience.
pub(in crate::store::embedded) const DELETED_SPACES: u64 = 1 << 63;

/// The space of what a user has deleted one by one of a shared audience.
pub(in crate::store::embedded) fn deleted_space(user: u64, kind: AudienceKind) -> u64 {
    DELETED_SPACES | user_space(user, kind)
}

/// All spaces of a user.
pub(in crate::store::embedded) fn user_spaces(user: u64) -> impl Iterator<Item = u64> {
    (0..=NAMED_SLOT as u64).map(move |slot| user * 8 + slot).flat_map(|space| [space, DELETED_SPACES | space])
}

/// The tables that an inbox lies in.
pub(in crate::store::embedded) struct InboxTables<'t, I, A, C> {
    pub(in crate::store::embedded) inbox: &'t I,
    pub(in crate::store::embedded) by_audience: &'t A,
    pub(in crate::store::embedded) named: &'t A,
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

    /// What went to a role or to everybody before is not theirs.
    pub(in crate::store::embedded) fn first_seen_id(&self) -> u64 {
        self.first_seen_id
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
    /// Only what is unread.
    pub(in crate::store::embedded) unread_only: bool,
}

impl<F> Span<F> {
    /// What is behind an id of each audience, oldest first.
    pub(in crate::store::embedded) fn behind(after: F) -> Span<F> {
        Span { after, before: u64::MAX, newest_first: false, unread_only: false }
    }
}

/// Everything, oldest first.
pub(in crate::store::embedded) const ALL: Span<fn(AudienceKind) -> u64> =
    Span { after: |_| 0, before: u64::MAX, newest_first: false, unread_only: false };

/// An id that some index gave.
type Found = Outcome<u64>;
type Ids<'s> = Box<dyn Iterator<Item = Found> + 's>;
/// What the index of one audience gives.
struct Source<'s> {
    kind: AudienceKind,
    ids: Peekable<Ids<'s>>,
}

impl<I: ReadableTable<K16, Row>, A: ReadableTable<K16, ()>, C: ReadableTable<K16, Row>> InboxTables<'_, I, A, C> {
    fn flags(&self, no: u64, id: u64) -> Outcome<u8> {
        Ok(get(self.inbox, &k16(no, id), |row| decode::<u8>(row))?.unwrap_or(0))
    }

    /// Visits what is in an inbox and not deleted, in the order of ids, each once. What is deleted, or read where only what is
    /// unread is wanted, costs nothing, however much it is.
    pub(in crate::store::embedded) fn walk(
        &self,
        owner: &Owner,
        span: Span<impl Fn(AudienceKind) -> u64>,
        mut visit: impl FnMut(Entry) -> Outcome<ControlFlow<()>>,
    ) -> Outcome<()> {
        let Some(no) = owner.no else { return Ok(()) };
        let high = span.before.saturating_sub(1);
        let mut sources: Vec<Source<'_>> = Vec::with_capacity(owner.roles.len() + 2);
        for kind in owner.kinds() {
            // What is at or before the mark of "all" is read.
            let read = if span.unread_only { owner.marks(kind).read } else { 0 };
            let low = (span.after)(kind).max(owner.begins_behind(kind)).max(read).saturating_add(1);
            if low > high {
                continue;
            }
            let ids = match shared_code(kind) {
                Some(code) => self.shared(code, no, kind, (low, high), &span)?,
                None if span.unread_only => {
                    let ids = counts::ids(self.counts, user_space(no, AudienceKind::Named), (low, high))?;
                    directed(ids, span.newest_first)
                }
                None => listed(self.named, no, (low, high), span.newest_first)?,
            };
            sources.push(Source { kind, ids: ids.peekable() });
        }
        while let Some((id, kind)) = next(&mut sources, span.newest_first)? {
            let flags = self.flags(no, id)?;
            let read = flags & READ != 0 || id <= owner.marks(kind).read;
            if flags & DELETED != 0 || read && span.unread_only {
                continue;
            }
            if visit(Entry { id, kind, read, flags })?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// What somebody has not deleted, or not read either, of what went to a role or to everybody.
    fn shared<'s>(
        &'s self,
        code: u64,
        no: u64,
        kind: AudienceKind,
        (low, high): (u64, u64),
        span: &Span<impl Fn(AudienceKind) -> u64>,
    ) -> Outcome<Ids<'s>> {
        // Marks on what was purged are swept away later: of what a hold has kept there, one looks at the marks one by one.
        let (end, begin) = (high.min(self.purged_up_to), low.max(self.purged_up_to.saturating_add(1)));
        let kept = if low <= end { Some(listed(self.by_audience, code, (low, end), span.newest_first)?) } else { None };
        let gone = if span.unread_only { user_space(no, kind) } else { deleted_space(no, kind) };
        let left = counts::without(self.counts, audience_space(code), gone, (begin, high), span.newest_first)?;
        Ok(match kept {
            None => Box::new(left),
            Some(kept) if span.newest_first => Box::new(left.chain(kept)),
            Some(kept) => Box::new(kept.chain(left)),
        })
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

fn directed<'s>(ids: impl DoubleEndedIterator<Item = Found> + 's, newest_first: bool) -> Ids<'s> {
    if newest_first { Box::new(ids.rev()) } else { Box::new(ids) }
}

/// The ids that an index lists of a user or an audience.
fn listed<'s>(
    index: &'s impl ReadableTable<K16, ()>,
    of: u64,
    (low, high): (u64, u64),
    newest_first: bool,
) -> Outcome<Ids<'s>> {
    let rows = index.range::<&[u8; 16]>(&k16(of, low)..=&k16(of, high))?;
    Ok(directed(rows.map(|row| -> Found { Ok(second(row?.0.value())) }), newest_first))
}

/// Takes the first of what the sources have. A notification has one audience: no id comes twice.
fn next(sources: &mut [Source<'_>], newest_first: bool) -> Outcome<Option<(u64, AudienceKind)>> {
    let mut best: Option<(u64, usize)> = None;
    for (at, source) in sources.iter_mut().enumerate() {
        if let Some(Err(failure)) = source.ids.next_if(Result::is_err) {
            return Err(failure);
        }
        let Some(Ok(id)) = source.ids.peek() else { continue };
        let is_better = best.is_none_or(|(best, _)| if newest_first { *id > best } else { *id < best });
        if is_better {
            best = Some((*id, at));
        }
    }
    let Some(source) = best.and_then(|(_, at)| sources.get_mut(at)) else { return Ok(None) };
    let kind = source.kind;
    Ok(source.ids.next().transpose()?.map(|id| (id, kind)))
}
