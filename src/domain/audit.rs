//! The audit log: who did what, when, from where, and how it ended. Each record carries the hash of the one before it, so
//! that a record that was changed, taken out or put in is found and located.

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// A BLAKE3 hash.
pub type Hash = [u8; 32];

/// What is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// Who: a user id, `system`, or nothing if nobody was recognised.
    pub actor: String,
    /// From where: an address, or the control socket with the local user.
    pub origin: String,
    /// What: one of the words of [`action`].
    pub action: String,
    /// To whom or to what.
    pub target: String,
    /// How it ended: `done`, `refused` or `failed`, with what there is to say of it.
    pub outcome: String,
}

/// The words of the audit log.
pub mod action {
    /// A token was not good; or an administrator has signed in.
    pub const SIGN_IN: &str = "sign_in";
    /// A service has used its token.
    pub const TOKEN_USE: &str = "token.use";
    /// A token was issued on the command line.
    pub const TOKEN_ISSUE: &str = "token.issue";
    /// An administrator has opened a room that they are no member of, or what is withheld in one.
    pub const ROOM_READ: &str = "room.read";
    /// Another configuration is in force.
    pub const RELOAD: &str = "config.reload";
    /// A backup was made or streamed.
    pub const BACKUP: &str = "backup";
    /// A backup took the store's place.
    pub const RESTORE: &str = "restore";
    /// The store before a restore was taken back.
    pub const RESTORE_UNDO: &str = "restore.undo";
    /// The store was rebuilt without free space.
    pub const COMPACT: &str = "db.compact";
    /// The store was migrated to a newer format.
    pub const UPGRADE: &str = "db.upgrade";
    /// All that is stored of somebody was given out.
    pub const USER_EXPORT: &str = "user.export";
    /// Somebody's data were erased.
    pub const USER_ERASE: &str = "user.erase";
    /// A legal hold was set.
    pub const HOLD_SET: &str = "hold.set";
    /// A legal hold was released.
    pub const HOLD_RELEASE: &str = "hold.release";
    /// Data were purged by their age.
    pub const PURGE: &str = "retention.purge";
    /// The audit log was given out.
    pub const AUDIT_EXPORT: &str = "audit.export";
    /// An event or a notification was sent by an administrator or a service.
    pub const BROADCAST: &str = "broadcast";
    /// A notification was scheduled, or is sent until a moment.
    pub const NOTIFICATION_SCHEDULE: &str = "notification.schedule";
    /// A notification was sent when its time had come, or is over.
    pub const NOTIFICATION_DUE: &str = "notification.due";
    /// A notification was taken back.
    pub const NOTIFICATION_RECALL: &str = "notification.recall";
    /// Tokens were revoked.
    pub const TOKEN_REVOKE: &str = "token.revoke";
    /// Other keys of tokens are in force.
    pub const KEYS: &str = "keys";
    /// A user was blocked.
    pub const USER_BLOCK: &str = "user.block";
    /// The block of a user was lifted.
    pub const USER_UNBLOCK: &str = "user.unblock";
    /// Somebody's sockets were closed.
    pub const USER_DISCONNECT: &str = "user.disconnect";
    /// A user may read and not write for a time.
    pub const USER_MUTE: &str = "user.mute";
    /// The mute of a user was lifted.
    pub const USER_UNMUTE: &str = "user.unmute";
    /// Somebody else's message was changed.
    pub const MESSAGE_EDIT: &str = "message.edit";
    /// Somebody else's message was deleted.
    pub const MESSAGE_DELETE: &str = "message.delete";
    /// A message was reported to those who keep order in its room.
    pub const MESSAGE_REPORT: &str = "message.report";
    /// A report was resolved.
    pub const REPORT_RESOLVE: &str = "report.resolve";
    /// A room was locked: moderators and administrators write in it.
    pub const ROOM_LOCK: &str = "room.lock";
    /// A room was opened again.
    pub const ROOM_UNLOCK: &str = "room.unlock";
    /// A room's slow mode was set, or ended.
    pub const ROOM_SLOW: &str = "room.slow";
    /// A room's transcript was given out.
    pub const ROOM_EXPORT: &str = "room.export";
    /// A room was registered.
    pub const ROOM_CREATE: &str = "room.create";
    /// A room's name or kind was changed.
    pub const ROOM_SET: &str = "room.set";
    /// A room was deleted with its messages.
    pub const ROOM_DELETE: &str = "room.delete";
    /// Somebody was admitted to a room, or became something else in it.
    pub const MEMBER_ADD: &str = "room.member.add";
    /// Somebody was taken out of a room.
    pub const MEMBER_REMOVE: &str = "room.member.remove";
    /// A webhook was sent to try the receiver.
    pub const WEBHOOK_TEST: &str = "webhook.test";
    /// Dead letters of webhooks are sent again.
    pub const WEBHOOK_REPLAY: &str = "webhook.replay";
}

/// A record of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// 1, 2, 3, ... without gaps.
    pub number: u64,
    /// What is recorded.
    pub entry: AuditEntry,
    /// The hash of this record, over the hash of the one before it.
    pub hash: Hash,
}

/// A record as it stands in a line of JSON, wherever the audit log is written to.
#[derive(Debug, Serialize)]
pub struct AuditLine<'r> {
    number: u64,
    #[serde(flatten)]
    entry: &'r AuditEntry,
    hash: String,
}

impl<'r> From<&'r AuditRecord> for AuditLine<'r> {
    fn from(record: &'r AuditRecord) -> AuditLine<'r> {
        AuditLine { number: record.number, entry: &record.entry, hash: hex(&record.hash) }
    }
}

/// A point of the chain: the number of a record and its hash. The first record follows [`Link::START`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The record's number.
    pub number: u64,
    /// Its hash.
    pub hash: Hash,
}

impl Link {
    /// Before the first record.
    pub const START: Link = Link { number: 0, hash: [0; 32] };

    /// The record that follows this point.
    #[must_use]
    pub fn next(&self, entry: AuditEntry) -> AuditRecord {
        let number = self.number + 1;
        let hash = chain(&self.hash, number, &entry);
        AuditRecord { number, entry, hash }
    }

    /// Goes on to a record, if it is the one that follows.
    ///
    /// # Errors
    /// [`Broken`], with the place.
    pub fn follow(&self, record: &AuditRecord) -> Result<Link, Broken> {
        if record.number != self.number + 1 {
            return Err(Broken::Missing { after: self.number, found: record.number });
        }
        if chain(&self.hash, record.number, &record.entry) != record.hash {
            return Err(Broken::Changed { number: record.number });
        }
        Ok(Link { number: record.number, hash: record.hash })
    }
}

impl Default for Link {
    fn default() -> Link {
        Link::START
    }
}

impl From<&AuditRecord> for Link {
    fn from(record: &AuditRecord) -> Link {
        Link { number: record.number, hash: record.hash }
    }
}

/// Where a chain is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A record, or the hash of the one before it, is not as it was written.
    #[error("record {number} was changed, or does not follow the record before it")]
    Changed {
        /// The record.
        number: u64,
    },
    /// Records are missing or out of order.
    #[error("record {found} follows record {after}")]
    Missing {
        /// The last good record.
        after: u64,
        /// The one behind it.
        found: u64,
    },
    /// The chain ends early or elsewhere.
    #[error("the chain ends at record {found}, and should end at record {head}")]
    WrongEnd {
        /// The last record that is there.
        found: u64,
        /// The last that was written.
        head: u64,
    },
}

/// The hash of a record: over the hash before it, its number and each field with its length.
#[must_use]
pub fn chain(before: &Hash, number: u64, entry: &AuditEntry) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(before);
    hasher.update(&number.to_le_bytes());
    hasher.update(&entry.at.as_millis().to_le_bytes());
    for field in [&entry.actor, &entry.origin, &entry.action, &entry.target, &entry.outcome] {
        hasher.update(&(field.len() as u64).to_le_bytes());
        hasher.update(field.as_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// Digits for people and files: of a hash, or of other bytes.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

/// Reads what [`hex`] writes.
#[must_use]
pub fn from_hex(text: &str) -> Option<Hash> {
    blake3::Hash::from_hex(text).ok().map(|hash| *hash.as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(text: &str) -> AuditEntry {
        AuditEntry {
            at: Timestamp(1),
            actor: text.into(),
            origin: "10.0.0.1".into(),
            action: action::BACKUP.into(),
            target: String::new(),
            outcome: "done".into(),
        }
    }

    fn chain(texts: &[String]) -> Vec<AuditRecord> {
        let mut link = Link::START;
        let mut records = Vec::new();
        for text in texts {
            let record = link.next(entry(text));
            link = Link::from(&record);
            records.push(record);
        }
        records
    }

    fn walk(records: &[AuditRecord]) -> Result<Link, Broken> {
        records.iter().try_fold(Link::START, |link, record| link.follow(record))
    }

    proptest! {
        #[test]
        fn any_change_is_found_where_it_is(texts in prop::collection::vec(".{0,20}", 2..20), at in 0usize..20, kind in 0..5) {
            let mut records = chain(&texts);
            prop_assert!(walk(&records).is_ok());
            let at = at % records.len();
            let number = records[at].number;
            match kind {
                0 => records[at].entry.outcome.push('!'),
                1 => records[at].entry.at = Timestamp(2),
                2 => records[at].hash[0] ^= 1,
                // The same bytes, otherwise divided between two fields.
                3 => {
                    records[at].entry.actor.push_str("10");
                    records[at].entry.origin = ".0.0.1".into();
                }
                _ => {
                    let gone = records.remove(at);
                    if at == records.len() {
                        // The end was cut off: the chain alone cannot know, its head does.
                        prop_assert_eq!(walk(&records).unwrap().number, gone.number - 1);
                        return Ok(());
                    }
                    prop_assert_eq!(walk(&records), Err(Broken::Missing { after: number - 1, found: number + 1 }));
                    return Ok(());
                }
            }
            prop_assert_eq!(walk(&records), Err(Broken::Changed { number }));
        }
    }

    #[test]
    fn a_hash_reads_back() {
        let hash = Link::START.next(entry("x")).hash;
        assert_eq!(from_hex(&hex(&hash)), Some(hash));
        assert_eq!(from_hex("zz"), None);
    }
}
