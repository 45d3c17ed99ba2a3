//! Notifications: what is sent, to whom, and the rules of each user's one inbox.

use serde::{Deserialize, Serialize};

use super::{Fingerprint, Role, Timestamp, UserId};

/// Who a notification is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Audience {
    /// One or several people, named.
    Users(Vec<UserId>),
    /// Everybody with a role.
    Role(Role),
    /// Everybody.
    All,
}

/// One of the audiences that an inbox is made of. Each has marks of its own, so that what went to a role is not taken for
/// sent or read by somebody who has the role only later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AudienceKind {
    /// What names the user.
    Named,
    /// What went to everybody.
    All,
    /// What went to a role.
    Role(Role),
}

impl AudienceKind {
    /// How many there are.
    pub const COUNT: usize = 6;

    /// All of them, in the order of [`AudienceKind::index`].
    pub const ALL: [AudienceKind; AudienceKind::COUNT] = [
        AudienceKind::Named,
        AudienceKind::All,
        AudienceKind::Role(Role::Admin),
        AudienceKind::Role(Role::Hr),
        AudienceKind::Role(Role::Coach),
        AudienceKind::Role(Role::Learner),
    ];

    /// Its place among all of them.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            AudienceKind::Named => 0,
            AudienceKind::All => 1,
            AudienceKind::Role(Role::Admin) => 2,
            AudienceKind::Role(Role::Hr) => 3,
            AudienceKind::Role(Role::Coach) => 4,
            AudienceKind::Role(Role::Learner) => 5,
        }
    }

    /// The audiences of somebody with these roles.
    pub fn of(roles: &[Role]) -> impl Iterator<Item = AudienceKind> + '_ {
        [AudienceKind::Named, AudienceKind::All].into_iter().chain(roles.iter().copied().map(AudienceKind::Role))
    }
}

impl Audience {
    /// Which of the audiences of an inbox it is.
    #[must_use]
    pub fn kind(&self) -> AudienceKind {
        match self {
            Audience::Users(_) => AudienceKind::Named,
            Audience::Role(role) => AudienceKind::Role(*role),
            Audience::All => AudienceKind::All,
        }
    }
}

/// A notification to be stored.
#[derive(Debug, Clone)]
pub struct NotificationDraft {
    /// Who it is for.
    pub audience: Audience,
    /// What is shown.
    pub body: NotificationBody,
}

impl NotificationDraft {
    /// What two requests must share to be the same.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let audience = match &self.audience {
            Audience::All => "all".to_owned(),
            Audience::Role(role) => format!("role {}", role.as_str()),
            Audience::Users(users) => {
                let mut ids: Vec<String> = users.iter().map(UserId::canonical).collect();
                ids.sort_unstable();
                format!("users {}", ids.join(","))
            }
        };
        let NotificationBody { kind, title, message, title_fr, message_fr, link, metadata } = &self.body;
        let text = |text: &Option<String>| text.clone().map_or_else(String::new, |text| format!("={text}"));
        Fingerprint::of(&[
            &audience,
            kind,
            title,
            message,
            &text(title_fr),
            &text(message_fr),
            &text(link),
            &text(metadata),
        ])
    }
}

/// What a notification shows. The French texts stand beside the others; the client chooses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotificationBody {
    /// A word of the platform's own for the kind, for example `info` or `booking`.
    pub kind: String,
    /// The title.
    pub title: String,
    /// The text.
    pub message: String,
    /// The title in French.
    pub title_fr: Option<String>,
    /// The text in French.
    pub message_fr: Option<String>,
    /// Where a click leads; never fetched.
    pub link: Option<String>,
    /// Any JSON of the platform's own, as text.
    pub metadata: Option<String>,
}

/// A stored notification as one user sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// Unique, rising, from the same sequence as message ids.
    pub id: u64,
    /// Who it is for.
    pub audience: Audience,
    /// What is shown.
    pub body: NotificationBody,
    /// When it was stored.
    pub at: Timestamp,
    /// Whether this user has read it.
    pub read: bool,
}

/// When a notification is sent and when it is over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// It is sent then; `None`: at once.
    pub at: Option<Timestamp>,
    /// From then on it is over; `None`: never.
    pub until: Option<Timestamp>,
}

impl Times {
    /// Whether it is sent at once and stays.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.at.is_none() && self.until.is_none()
    }
}

/// How a notification has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Its time was over.
    Ended,
    /// An administrator has taken it back.
    Recalled,
    /// Its time was over before it could be sent: nobody has had it.
    Missed,
}

impl Ending {
    /// As clients and administrators read it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Ending::Ended => "ended",
            Ending::Recalled => "recalled",
            Ending::Missed => "missed",
        }
    }
}

/// That a notification is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Over {
    /// How.
    pub ending: Ending,
    /// Since when.
    pub at: Timestamp,
    /// Who has done it; the server where its time was over.
    pub by: UserId,
    /// The change that took it out of the inboxes; 0 if it was in none.
    pub change: u64,
}

/// A notification as administrators see it: what waits for its time, what can be read, and what is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Its number: of what was scheduled the one that it got then, else the id of the notification.
    pub id: u64,
    /// Who it is for.
    pub audience: Audience,
    /// What is shown.
    pub body: NotificationBody,
    /// Who has sent or scheduled it; `None` if it was sent at once and nobody kept that.
    pub by: Option<UserId>,
    /// When it was asked for.
    pub made_at: Timestamp,
    /// When it is to be sent, or was.
    pub at: Timestamp,
    /// When it is over, or was to be.
    pub until: Option<Timestamp>,
    /// The id that its readers know; `None` before it is sent.
    pub sent: Option<u64>,
    /// That it is over.
    pub over: Option<Over>,
}

impl Notice {
    /// What it is now, in one word.
    #[must_use]
    pub fn state(&self) -> NoticeState {
        match (&self.over, self.sent) {
            (Some(over), _) => NoticeState::Over(over.ending),
            (None, Some(_)) => NoticeState::Live,
            (None, None) => NoticeState::Scheduled,
        }
    }

    /// The next moment at which something happens to it by itself.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        match self.state() {
            NoticeState::Scheduled => Some(self.at),
            NoticeState::Live => self.until,
            NoticeState::Over(_) => None,
        }
    }

    /// It as its readers see it, by the id that they know.
    #[must_use]
    pub fn notification(&self) -> Notification {
        Notification {
            id: self.sent.unwrap_or(self.id),
            audience: self.audience.clone(),
            body: self.body.clone(),
            at: self.at,
            read: false,
        }
    }
}

/// Where a notification stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeState {
    /// It waits for its time.
    Scheduled,
    /// It is in the inboxes.
    Live,
    /// It is in no inbox any more.
    Over(Ending),
}

impl NoticeState {
    /// As administrators read it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            NoticeState::Scheduled => "scheduled",
            NoticeState::Live => "live",
            NoticeState::Over(ending) => ending.as_str(),
        }
    }
}

/// A notification with how many have read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountedNotice {
    /// It.
    pub notice: Notice,
    /// How many have read it.
    pub read_by: u64,
    /// Of how many.
    pub recipients: u64,
}

/// Somebody whom a notification is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    /// The user.
    pub user: UserId,
    /// The name as last given.
    pub name: String,
    /// Whether they have read it.
    pub read: bool,
    /// When; `None` if they have not, or if that is not known.
    pub read_at: Option<Timestamp>,
}

/// So many notifications wait for a time at most: for theirs to be sent, or to be over.
pub const MAX_TIMED: usize = 1_000;
/// So many that are over are kept for administrators; beyond, the oldest go.
pub const MAX_OVER: usize = 1_000;

/// Which notifications a request means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// These.
    Ids(Vec<u64>),
    /// All of the inbox, up to and with an id: what came later stays as it is. `None`: up to now.
    All {
        /// The last one that is meant.
        up_to: Option<u64>,
    },
}

/// Whether a notification belongs to a user's inbox. `first_seen_id` is the store's next id when the user was first seen:
/// what went to a role or to everyone before that is not theirs.
#[must_use]
pub fn is_for(audience: &Audience, id: u64, user: &UserId, roles: &[Role], first_seen_id: u64) -> bool {
    match audience {
        Audience::Users(users) => users.contains(user),
        Audience::Role(role) => id >= first_seen_id && roles.contains(role),
        Audience::All => id >= first_seen_id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audience_stands_where_its_index_says() {
        for (at, kind) in AudienceKind::ALL.into_iter().enumerate() {
            assert_eq!(kind.index(), at);
        }
    }

    #[test]
    fn what_names_somebody_is_always_theirs_and_the_rest_since_they_were_first_seen() {
        let (me, other) = (UserId::parse("7").unwrap(), UserId::parse("8").unwrap());
        let is_mine = |audience: Audience, id| is_for(&audience, id, &me, &[Role::Coach], 5);
        assert!(is_mine(Audience::Users(vec![other.clone(), me.clone()]), 1));
        assert!(!is_mine(Audience::Users(vec![other.clone()]), 9));
        for (id, is_since) in [(4, false), (5, true), (6, true)] {
            assert_eq!(is_mine(Audience::All, id), is_since, "{id}");
            assert_eq!(is_mine(Audience::Role(Role::Coach), id), is_since, "{id}");
            assert!(!is_mine(Audience::Role(Role::Hr), id), "{id}");
        }
    }
}
