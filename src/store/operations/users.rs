//! People who come and go, and what they have been sent.

use std::time::Duration;

use crate::domain::notification::AudienceKind;
use crate::domain::{Role, UserId};

/// Somebody has come: they are known from now on, with their name and roles of today. Who was seen less than
/// [`Arrive::RETURN`] ago, and is who they were then, returns: nothing of that is stored.
#[derive(Debug, Clone)]
pub struct Arrive {
    /// Who, with the JSON type of the token.
    pub user: UserId,
    /// Their name.
    pub name: String,
    /// Their roles.
    pub roles: Vec<Role>,
}

impl Arrive {
    /// A network that comes and goes, or a server that is restarted, brings everybody back within so long.
    pub const RETURN: Duration = Duration::from_secs(60);
}

/// The JSON type of the ids of some people is settled: what is stored of them has it from now on.
#[derive(Debug, Clone)]
pub struct SettleIds {
    /// Who, with their type.
    pub users: Vec<UserId>,
    /// Whether it takes the place of one that was settled before.
    pub is_anew: bool,
}

/// Up to which notification of an audience somebody has been sent all that is for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryMark {
    /// Which audience: who has a role only later has a mark of its own for it.
    pub audience: AudienceKind,
    /// Up to and with this id.
    pub up_to: u64,
}

/// People have been sent notifications. A mark that is lost in a crash means a notification that comes twice, with the same
/// id.
#[derive(Debug, Clone)]
pub struct Delivered {
    /// Who, and up to where.
    pub marks: Vec<(UserId, DeliveryMark)>,
}

/// The last socket of somebody has gone.
#[derive(Debug, Clone)]
pub struct Left {
    /// The user.
    pub user: UserId,
}
