//! The walk through one user's inbox, the same for the writer inside its transaction and for readers. It brings together
//! the user's own rows with what went to their roles and to everybody, as [`crate::domain::notification::is_for`] says,
//! without a row for each user and notification.

use std::cmp::Reverse;
use std::iter::Peekable;
use std::ops::ControlFlow;

use redb::ReadableTable;

use super::failure::Outcome;
use super::records::{Person, decode, role_code};
use super::schema::{K16, Row, k16, second};
use crate::domain::Role;
use crate::domain::notification::Audience;

/// The user is named by the notification.
pub(super) const NAMED: u8 = 1;
/// The user has read it.
pub(super) const READ: u8 = 2;
/// The user has deleted it.
pub(super) const DELETED: u8 = 4;

/// The number of an audience in `notif_by_audience`; `None` for named people, who have rows of their own.
pub(super) fn audience_code(audience: &Audience) -> Option<u64> {
    match audience {
        Audience::Users(_) => None,
        Audience::All => Some(0),
        Audience::Role(role) => Some(u64::from(role_code(*role))),
    }
}

/// Whose inbox it is.
#[derive(Debug, Clone)]
pub(super) struct Owner {
    no: Option<u64>,
    roles: Vec<Role>,
    first_seen_id: u64,
    pub(super) read_up_to: u64,
    deleted_up_to: u64,
}

impl Owner {
    /// The owner with the roles of today. Who never arrived has what names them alone.
    pub(super) fn new(person: Option<(u64, &Person)>, roles: &[Role]) -> Owner {
        let (no, person) = person.unzip();
        Owner {
            no,
            roles: roles.to_vec(),
            first_seen_id: person.filter(|person| person.has_arrived()).map_or(u64::MAX, |p| p.first_seen_id),
            read_up_to: person.map_or(0, |person| person.read_up_to),
            deleted_up_to: person.map_or(0, |person| person.deleted_up_to),
        }
    }
}

/// Which part of an inbox is walked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    /// Larger ids alone.
    pub(super) after: u64,
    /// Smaller ids alone.
    pub(super) before: u64,
    /// Newest first.
    pub(super) newest_first: bool,
}

impl Span {
    /// Everything, oldest first.
    pub(super) const ALL: Span = Span { after: 0, before: u64::MAX, newest_first: false };
}

/// One notification of an inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: u64,
    pub(super) read: bool,
    /// The flags of the user's own row; 0 if there is none.
    pub(super) flags: u8,
}

/// An id that some index gave, with the flags if it was the user's own.
type Found = Outcome<(u64, u8)>;
type Source<'s> = Peekable<Box<dyn Iterator<Item = Found> + 's>>;

/// Visits what is in an inbox and not deleted, in the order of ids, each once.
pub(super) fn walk(
    inbox: &impl ReadableTable<K16, Row>,
    by_audience: &impl ReadableTable<K16, ()>,
    owner: &Owner,
    span: Span,
    mut visit: impl FnMut(Entry) -> Outcome<ControlFlow<()>>,
) -> Outcome<()> {
    let low = span.after.max(owner.deleted_up_to).saturating_add(1);
    let high = span.before.saturating_sub(1);
    if low > high {
        return Ok(());
    }
    let mut sources: Vec<Source<'_>> = Vec::with_capacity(owner.roles.len() + 2);
    if let Some(no) = owner.no {
        let rows = inbox.range::<&[u8; 16]>(&k16(no, low)..=&k16(no, high))?.map(|row| -> Found {
            let (key, value) = row?;
            Ok((second(key.value()), decode::<u8>(value.value())?))
        });
        sources.push(directed(rows, span.newest_first));
    }
    let low = low.max(owner.first_seen_id);
    if low <= high {
        let audiences = owner.roles.iter().map(|role| Audience::Role(*role)).chain([Audience::All]);
        for code in audiences.filter_map(|audience| audience_code(&audience)) {
            let rows = by_audience.range::<&[u8; 16]>(&k16(code, low)..=&k16(code, high))?;
            sources.push(directed(rows.map(|row| -> Found { Ok((second(row?.0.value()), NAMED)) }), span.newest_first));
        }
    }
    while let Some(id) = next_id(&mut sources, span.newest_first)? {
        let mut flags = 0;
        for source in &mut sources {
            while let Some(Ok((_, more))) = source.next_if(|found| found.as_ref().is_ok_and(|(other, _)| *other == id))
            {
                flags |= more;
            }
        }
        // `NAMED` stands for "some audience of it is theirs" here; a row without it is a mark on something that was
        // for a role they have no longer.
        if flags & NAMED == 0 || flags & DELETED != 0 {
            continue;
        }
        let read = flags & READ != 0 || id <= owner.read_up_to;
        if visit(Entry { id, read, flags })?.is_break() {
            break;
        }
    }
    Ok(())
}

fn directed<'s>(rows: impl DoubleEndedIterator<Item = Found> + 's, newest_first: bool) -> Source<'s> {
    let boxed: Box<dyn Iterator<Item = Found> + 's> = if newest_first { Box::new(rows.rev()) } else { Box::new(rows) };
    boxed.peekable()
}

fn next_id(sources: &mut [Source<'_>], newest_first: bool) -> Outcome<Option<u64>> {
    let mut heads = Vec::with_capacity(sources.len());
    for source in sources {
        if let Some(Err(failure)) = source.next_if(Result::is_err) {
            return Err(failure);
        }
        if let Some(Ok((id, _))) = source.peek() {
            heads.push(*id);
        }
    }
    Ok(if newest_first { heads.into_iter().max() } else { heads.into_iter().map(Reverse).max().map(|head| head.0) })
}

/// How many of an inbox are unread.
pub(super) fn unread(
    inbox: &impl ReadableTable<K16, Row>,
    by_audience: &impl ReadableTable<K16, ()>,
    owner: &Owner,
) -> Outcome<u64> {
    let mut unread = 0;
    // What "all" has read needs no counting.
    walk(inbox, by_audience, owner, Span { after: owner.read_up_to, ..Span::ALL }, |entry| {
        unread += u64::from(!entry.read);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(unread)
}
