//! Two users of before whose ids were one in the normal form (NFC): one of them has had a name of its own since the upgrade. Tokens
//! still have the texts of before, and each is still that person's.

use std::collections::{HashMap, HashSet};

use crate::domain::{Actor, UserId};
use crate::protocol::error::{ApiError, ErrorCode};

/// Who has a name of their own, by the text that tokens call them.
#[derive(Debug, Default)]
pub(crate) struct RenamedUsers {
    by_text: HashMap<String, UserId>,
    names: HashSet<UserId>,
}

impl RenamedUsers {
    pub(crate) fn new(renamed: Vec<(String, UserId)>) -> RenamedUsers {
        let names = renamed.iter().map(|(_, user)| user.clone()).collect();
        RenamedUsers { by_text: renamed.into_iter().collect(), names }
    }

    /// Somebody by the id that they have here.
    ///
    /// # Errors
    /// `token_invalid` for a token that names somebody by what the upgrade calls them: it may be about a newcomer of that name.
    pub(crate) fn known(&self, actor: Actor) -> Result<Actor, ApiError> {
        if self.names.is_empty() {
            return Ok(actor);
        }
        if let Some(user) = actor.claimed_as.as_ref().and_then(|text| self.by_text.get(text)) {
            return Ok(Actor { user: user.clone(), ..actor });
        }
        if self.names.contains(&actor.user) {
            let message = format!(
                "{} is what an upgrade of the server has named another user; give this one another id",
                actor.user
            );
            return Err(ApiError::new(ErrorCode::TokenInvalid, message));
        }
        Ok(actor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Id;

    fn named(text: &str) -> Actor {
        let user = UserId::new(serde_json::from_value::<Id>(text.into()).unwrap()).unwrap();
        let claimed_as = Some(text.to_owned()).filter(|text| *text != user.canonical());
        Actor { user, claimed_as, ..Actor::local_admin() }
    }

    #[test]
    fn a_text_of_before_is_still_who_it_was_and_the_new_name_is_nobody_elses() {
        let renamed = RenamedUsers::new(vec![("jose\u{301}".to_owned(), named("jos\u{e9}-2").user)]);
        let known = |text: &str| renamed.known(named(text)).map(|actor| actor.user.canonical());
        assert_eq!(known("jose\u{301}").unwrap(), "jos\u{e9}-2");
        for same in ["jos\u{e9}", "zo\u{e9}", "7"] {
            assert_eq!(known(same).unwrap(), same);
        }
        assert_eq!(known("zoe\u{301}").unwrap(), "zo\u{e9}");
        for refused in ["jos\u{e9}-2", "jose\u{301}-2"] {
            assert_eq!(known(refused).unwrap_err().code, ErrorCode::TokenInvalid);
        }
        assert_eq!(RenamedUsers::default().known(named("jos\u{e9}-2")).unwrap().user, named("jos\u{e9}-2").user);
    }
}
