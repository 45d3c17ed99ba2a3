//! Rows of users, rooms, members and bans.

use serde::{Deserialize, Serialize};

use crate::domain::access::{Ban, Banned};
use crate::domain::chat::{Membership, RoomRecord};
use crate::domain::notification::AudienceKind;
use crate::domain::room_state::RoomState;
use crate::domain::{Id, Role, RoomId, Timestamp, UserId};
use crate::store::embedded::engine::codec::{
    IdRow, POSTCARD_3, decode_2, decode_3, encode_2, encode_3, membership_code, membership_of, role_code, role_of,
};
use crate::store::embedded::engine::failure::{Failure, Outcome};

/// A user as formats 1 to 3 have them: one mark over all audiences.
#[derive(Deserialize)]
struct UserRow1<'a> {
    #[serde(borrow)]
    id: IdRow<'a>,
    name: &'a str,
    roles: Vec<u8>,
    first_seen_id: u64,
    first_seen_at: u64,
    last_seen_at: u64,
    delivered_up_to: u64,
    read_up_to: u64,
    deleted_up_to: u64,
}

/// A user as formats 4 to 7 have them: the JSON type of the id is that of their last token.
#[derive(Serialize, Deserialize)]
struct UserRow2<'a> {
    #[serde(borrow)]
    id: IdRow<'a>,
    name: &'a str,
    roles: Vec<u8>,
    first_seen_id: u64,
    first_seen_at: u64,
    last_seen_at: u64,
    /// Of the audiences that have some, by their slot.
    marks: Vec<(u8, Marks)>,
}

#[derive(Serialize, Deserialize)]
struct UserRow<'a> {
    #[serde(borrow)]
    row: UserRow2<'a>,
    is_typed: bool,
}

impl<'a> UserRow2<'a> {
    fn renew(old: UserRow1<'a>) -> UserRow2<'a> {
        let marks = Marks { delivered: old.delivered_up_to, read: old.read_up_to, deleted: old.deleted_up_to };
        // What the marks tell of: the audiences that they had.
        let roles = old.roles.iter().copied();
        let slots = roles.chain([ALL_SLOT as u8, NAMED_SLOT as u8]);
        UserRow2 {
            id: old.id,
            name: old.name,
            roles: old.roles.clone(),
            first_seen_id: old.first_seen_id,
            first_seen_at: old.first_seen_at,
            last_seen_at: old.last_seen_at,
            marks: slots.map(|slot| (slot, marks)).collect(),
        }
    }
}

/// Up to where somebody has been sent, has read and has deleted all of an audience's notifications. "All" keeps one mark where
/// each notification would need one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store::embedded) struct Marks {
    pub(in crate::store::embedded) delivered: u64,
    pub(in crate::store::embedded) read: u64,
    pub(in crate::store::embedded) deleted: u64,
}

/// The slot of everybody; roles have the slots of their codes.
const ALL_SLOT: usize = 0;
/// The slot of what names somebody.
pub(in crate::store::embedded) const NAMED_SLOT: usize = 5;

/// The slot of an audience: also its number in `notif_by_audience`, but for named people, who have rows of their own.
pub(in crate::store::embedded) fn slot(kind: AudienceKind) -> usize {
    match kind {
        AudienceKind::All => ALL_SLOT,
        AudienceKind::Role(role) => usize::from(role_code(role)),
        AudienceKind::Named => NAMED_SLOT,
    }
}

/// A user, and where they stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store::embedded) struct Person {
    /// The id, with their JSON type if that is settled; else as first named.
    pub(in crate::store::embedded) id: UserId,
    /// Whether a token of theirs, or the configuration, has settled the JSON type of the id.
    pub(in crate::store::embedded) is_typed: bool,
    /// The name as last given.
    pub(in crate::store::embedded) name: String,
    /// The roles as last given.
    pub(in crate::store::embedded) roles: Vec<Role>,
    /// The store's next id at their first arrival; 0 before that: they are only spoken of.
    pub(in crate::store::embedded) first_seen_id: u64,
    pub(in crate::store::embedded) first_seen_at: Timestamp,
    pub(in crate::store::embedded) last_seen_at: Timestamp,
    /// By the slots of audiences.
    marks: [Marks; NAMED_SLOT + 1],
}

impl Person {
    pub(in crate::store::embedded) fn new(id: UserId) -> Person {
        Person {
            id,
            is_typed: false,
            name: String::new(),
            roles: Vec::new(),
            first_seen_id: 0,
            first_seen_at: Timestamp(0),
            last_seen_at: Timestamp(0),
            marks: Default::default(),
        }
    }

    /// Settles the JSON type of the id, unless it is.
    pub(in crate::store::embedded) fn settle_id(&mut self, user: UserId) {
        if !self.is_typed {
            self.id = user;
            self.is_typed = true;
        }
    }

    pub(in crate::store::embedded) fn has_arrived(&self) -> bool {
        self.first_seen_id > 0
    }

    /// The marks of an audience.
    pub(in crate::store::embedded) fn marks(&self, kind: AudienceKind) -> Marks {
        self.marks.get(slot(kind)).copied().unwrap_or_default()
    }

    /// The marks of an audience, to change.
    pub(in crate::store::embedded) fn marks_mut(&mut self, kind: AudienceKind) -> Option<&mut Marks> {
        self.marks.get_mut(slot(kind))
    }

    pub(in crate::store::embedded) fn encode<'b>(&self, buffer: &'b mut Vec<u8>) -> Outcome<&'b [u8]> {
        let marks = (0u8..).zip(self.marks);
        let row = UserRow2 {
            id: self.id.id().into(),
            name: &self.name,
            roles: self.roles.iter().copied().map(role_code).collect(),
            first_seen_id: self.first_seen_id,
            first_seen_at: self.first_seen_at.0,
            last_seen_at: self.last_seen_at.0,
            marks: marks.filter(|(_, marks)| *marks != Marks::default()).collect(),
        };
        encode_3(&UserRow { row, is_typed: self.is_typed }, buffer)
    }

    pub(in crate::store::embedded) fn decode(bytes: &[u8]) -> Outcome<Person> {
        let UserRow { row, is_typed } = match bytes.first() {
            Some(&POSTCARD_3) => decode_3(bytes)?,
            _ => {
                let row: UserRow2<'_> = decode_2(bytes, |old| Ok(UserRow2::renew(old)))?;
                let is_typed = row.first_seen_id > 0;
                UserRow { row, is_typed }
            }
        };
        let mut marks: [Marks; NAMED_SLOT + 1] = Default::default();
        for (slot, of_slot) in row.marks {
            let place = marks.get_mut(usize::from(slot));
            *place.ok_or_else(|| Failure::Damaged(format!("{slot} is no audience")))? = of_slot;
        }
        Ok(Person {
            id: row.id.user(),
            is_typed,
            name: row.name.to_owned(),
            roles: row.roles.into_iter().map(role_of).collect::<Outcome<_>>()?,
            first_seen_id: row.first_seen_id,
            first_seen_at: Timestamp(row.first_seen_at),
            last_seen_at: Timestamp(row.last_seen_at),
            marks,
        })
    }
}

/// A room as formats 2 and 3 have it.
#[derive(Deserialize)]
struct RoomRow1<'a> {
    #[serde(borrow)]
    id: IdRow<'a>,
    name: Option<&'a str>,
    private: bool,
    last_id: u64,
    last_seq: u64,
    created_at: u64,
    purged_seq: u64,
}

#[derive(Serialize, Deserialize)]
struct RoomRow<'a> {
    #[serde(borrow)]
    id: IdRow<'a>,
    name: Option<&'a str>,
    private: bool,
    last_id: u64,
    last_seq: u64,
    created_at: u64,
    purged_seq: u64,
    last_at: u64,
    deleted: u64,
}

impl<'a> RoomRow<'a> {
    fn renew(old: RoomRow1<'a>) -> RoomRow<'a> {
        let RoomRow1 { id, name, private, last_id, last_seq, created_at, purged_seq } = old;
        RoomRow { id, name, private, last_id, last_seq, created_at, purged_seq, last_at: 0, deleted: 0 }
    }
}

/// A room whose state was changed. The others are stored as before format 10.
#[derive(Serialize, Deserialize)]
struct OrderedRoomRow<'a> {
    #[serde(borrow)]
    row: RoomRow<'a>,
    locked: bool,
    slow_seconds: u32,
    state_change: u64,
}

pub(in crate::store::embedded) fn encode_room<'b>(room: &RoomRecord, buffer: &'b mut Vec<u8>) -> Outcome<&'b [u8]> {
    let row = RoomRow {
        id: room.id.id().into(),
        name: room.name.as_deref(),
        private: room.private,
        last_id: room.last_id,
        last_seq: room.last_seq,
        created_at: room.created_at.0,
        purged_seq: room.purged_seq,
        last_at: room.last_at.0,
        deleted: room.deleted,
    };
    if room.state_change == 0 {
        return encode_2(&row, buffer);
    }
    let RoomState { locked, slow_seconds } = room.state;
    encode_3(&OrderedRoomRow { row, locked, slow_seconds, state_change: room.state_change }, buffer)
}

/// A room's row, its state, and the change of that.
fn read_room(bytes: &[u8]) -> Outcome<(RoomRow<'_>, RoomState, u64)> {
    if bytes.first() == Some(&POSTCARD_3) {
        let OrderedRoomRow { row, locked, slow_seconds, state_change } = decode_3(bytes)?;
        return Ok((row, RoomState { locked, slow_seconds }, state_change));
    }
    Ok((decode_2(bytes, |old| Ok(RoomRow::renew(old)))?, RoomState::default(), 0))
}

pub(in crate::store::embedded) fn decode_room(bytes: &[u8]) -> Outcome<RoomRecord> {
    let (row, state, state_change) = read_room(bytes)?;
    Ok(RoomRecord {
        id: row.id.room(),
        name: row.name.map(str::to_owned),
        private: row.private,
        last_id: row.last_id,
        last_seq: row.last_seq,
        purged_seq: row.purged_seq,
        last_at: Timestamp(row.last_at),
        deleted: row.deleted,
        created_at: Timestamp(row.created_at),
        state,
        state_change,
    })
}

/// Whether a room's row may say that it is locked; that of a room whose state was never changed does not.
pub(in crate::store::embedded) fn may_be_locked(bytes: &[u8]) -> bool {
    bytes.first() == Some(&POSTCARD_3)
}

/// The id of a room's latest message, without the rest of its row.
pub(in crate::store::embedded) fn decode_last_id(bytes: &[u8]) -> Outcome<u64> {
    Ok(read_room(bytes)?.0.last_id)
}

/// What somebody is in a room as formats 1 to 3 have it.
#[derive(Deserialize)]
struct MemberRow1 {
    membership: u8,
    read_up_to: u64,
    read_seq: u64,
    read_change: u64,
}

/// What somebody is in a room, and how far they have read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store::embedded) struct MemberRow {
    /// Its code.
    pub(in crate::store::embedded) membership: u8,
    /// The message they have read up to; 0 if none.
    pub(in crate::store::embedded) read_up_to: u64,
    /// Its `seq`.
    pub(in crate::store::embedded) read_seq: u64,
    /// The change that tells of the mark; 0 if none.
    pub(in crate::store::embedded) read_change: u64,
    /// The room's last `seq` when they came first: what is before it is not unread.
    pub(in crate::store::embedded) from_seq: u64,
    /// The room's last `seq` when they left it; `None` while they have not.
    pub(in crate::store::embedded) left_at: Option<u64>,
    /// Whether they have written in it: `authors` has them then.
    pub(in crate::store::embedded) has_written: bool,
    /// When they have written in it last, if that was in slow mode.
    #[serde(skip)]
    pub(in crate::store::embedded) said_at: Option<u64>,
}

/// Somebody who has written last in slow mode. The others are stored as before format 10.
#[derive(Serialize, Deserialize)]
struct SlowedRow {
    row: MemberRow,
    said_at: u64,
}

impl MemberRow {
    /// Somebody who comes to a room for the first time, whose last `seq` is this.
    pub(in crate::store::embedded) fn guest(from_seq: u64) -> MemberRow {
        MemberRow {
            membership: membership_code(Membership::Guest),
            read_up_to: 0,
            read_seq: 0,
            read_change: 0,
            from_seq,
            left_at: None,
            has_written: false,
            said_at: None,
        }
    }

    pub(in crate::store::embedded) fn encode<'b>(&self, buffer: &'b mut Vec<u8>) -> Outcome<&'b [u8]> {
        match self.said_at {
            None => encode_2(self, buffer),
            Some(said_at) => encode_3(&SlowedRow { row: *self, said_at }, buffer),
        }
    }

    pub(in crate::store::embedded) fn membership(&self) -> Outcome<Membership> {
        membership_of(self.membership)
    }

    /// What is behind this `seq` is unread.
    pub(in crate::store::embedded) fn unread_from(&self, room: &RoomRecord) -> u64 {
        self.read_seq.max(self.from_seq).max(room.purged_seq)
    }

    pub(in crate::store::embedded) fn decode(bytes: &[u8]) -> Outcome<MemberRow> {
        if bytes.first() == Some(&POSTCARD_3) {
            let SlowedRow { row, said_at } = decode_3(bytes)?;
            return Ok(MemberRow { said_at: Some(said_at), ..row });
        }
        decode_2(bytes, |old: MemberRow1| {
            let MemberRow1 { membership, read_up_to, read_seq, read_change } = old;
            let row = MemberRow::guest(0);
            // Whether they have written is looked up at their next message.
            Ok(MemberRow { membership, read_up_to, read_seq, read_change, ..row })
        })
    }
}

/// The key of a ban: its kind and its subject.
pub(in crate::store::embedded) fn ban_key(ban: &Ban) -> String {
    match ban {
        Ban::Token(id) => format!("t:{id}"),
        Ban::TokensOf(user) => format!("u:{user}"),
        Ban::AllTokens => "a:".to_owned(),
        Ban::User(user) => format!("b:{user}"),
        Ban::Mute { user, room: None } => format!("m:{user}"),
        // Both ids may have colons: the length says where one ends.
        Ban::Mute { user, room: Some(room) } => {
            let user = user.canonical();
            format!("r:{}:{user}:{room}", user.len())
        }
    }
}

/// The room of a mute, from what its key says behind the kind.
fn muted_in(key: &str) -> Option<RoomId> {
    let (length, rest) = key.split_once(':')?;
    let room = rest.get(length.parse::<usize>().ok()?..)?.strip_prefix(':')?;
    // What was an id when it came, as it was.
    let parsed = RoomId::parse(room).ok().filter(|id| id.canonical() == room);
    Some(parsed.unwrap_or_else(|| RoomId::stored(Id::Text(room.into()))))
}

/// A ban; of what is in its key.
#[derive(Serialize, Deserialize)]
pub(in crate::store::embedded) struct BanRow<'a> {
    /// The user with its JSON type, if it is of one.
    #[serde(borrow)]
    user: Option<IdRow<'a>>,
    pub(in crate::store::embedded) before: u64,
    pub(in crate::store::embedded) until: Option<u64>,
    by: &'a str,
    at: u64,
}

impl<'a> BanRow<'a> {
    pub(in crate::store::embedded) fn of(banned: &'a Banned) -> BanRow<'a> {
        let user = banned.ban.user().map(|user| user.id().into());
        let Banned { before, until, by, at, .. } = banned;
        BanRow { user, before: before.0, until: until.map(|until| until.0), by, at: at.0 }
    }

    pub(in crate::store::embedded) fn banned(&self, key: &[u8]) -> Outcome<Banned> {
        let unreadable = || Failure::Damaged("a ban has a key that cannot be read".to_owned());
        let key = std::str::from_utf8(key).map_err(|_| unreadable())?;
        let user = || -> Outcome<UserId> { self.user.ok_or_else(unreadable).map(IdRow::user) };
        let ban = match key.split_once(':') {
            Some(("t", id)) => Ban::Token(id.to_owned()),
            Some(("u", _)) => Ban::TokensOf(user()?),
            Some(("a", "")) => Ban::AllTokens,
            Some(("b", _)) => Ban::User(user()?),
            Some(("m", _)) => Ban::Mute { user: user()?, room: None },
            Some(("r", rest)) => Ban::Mute { user: user()?, room: Some(muted_in(rest).ok_or_else(unreadable)?) },
            _ => return Err(unreadable()),
        };
        Ok(Banned {
            ban,
            before: Timestamp(self.before),
            until: self.until.map(Timestamp),
            by: self.by.to_owned(),
            at: Timestamp(self.at),
        })
    }
}
