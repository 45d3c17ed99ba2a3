//! The JSON type of each user's id. `7` and `"7"` name the same user, and a page compares with `===`: all events of a user and about
//! them have one of the two, whatever their next token writes. That of the first token is settled here at once, and in the store
//! before anything is answered; or the configuration says it of all.

use std::collections::HashMap;

use parking_lot::RwLock;

use crate::domain::{Id, IdType, UserId};

/// What is settled. Of an id that is no number there is nothing to settle.
#[derive(Debug)]
pub(crate) struct SettledIds(RwLock<Settled>);

#[derive(Debug)]
struct Settled {
    rule: IdType,
    /// By number; as many as the store has users who are numbers.
    known: HashMap<u64, Known>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    is_number: bool,
    is_stored: bool,
}

impl Default for SettledIds {
    fn default() -> SettledIds {
        SettledIds(RwLock::new(Settled { rule: IdType::First, known: HashMap::new() }))
    }
}

/// Whether an id has the JSON type number.
#[must_use]
pub(crate) fn is_number(user: &UserId) -> bool {
    matches!(user.id(), Id::Number(_))
}

impl SettledIds {
    /// By this rule, with what the store has settled.
    pub(crate) fn begin(&self, rule: IdType, settled: impl IntoIterator<Item = UserId>) {
        let known = settled.into_iter().filter_map(|user| {
            let known = Known { is_number: is_number(&user), is_stored: true };
            user.as_number().map(|number| (number, known))
        });
        *self.0.write() = Settled { rule, known: known.collect() };
    }

    /// Somebody whose token is good, with the type that they have from now on.
    pub(crate) fn settle(&self, user: UserId) -> UserId {
        let Some(number) = user.as_number() else { return user };
        if let Some(typed) = self.0.read().typed(&user, number) {
            return typed;
        }
        let settled = &mut *self.0.write();
        let first = Known { is_number: is_number(&user), is_stored: false };
        user.typed(settled.known.entry(number).or_insert(first).is_number)
    }

    /// Somebody who is named, with the type that is settled; as named if none is.
    pub(crate) fn named(&self, user: UserId) -> UserId {
        let Some(number) = user.as_number() else { return user };
        self.0.read().typed(&user, number).unwrap_or(user)
    }

    /// Whether the store is still to be told of the type of somebody who has come.
    pub(crate) fn is_unstored(&self, user: &UserId) -> bool {
        let Some(number) = user.as_number() else { return false };
        let settled = self.0.read();
        settled.rule == IdType::First && settled.known.get(&number).is_some_and(|known| !known.is_stored)
    }

    /// The store has been told.
    pub(crate) fn note_stored(&self, user: &UserId) {
        if let (true, Some(number)) = (self.is_unstored(user), user.as_number())
            && let Some(known) = self.0.write().known.get_mut(&number)
        {
            known.is_stored = true;
        }
    }

    /// Nothing is kept of somebody who is erased.
    pub(crate) fn forget(&self, user: &UserId) {
        if let Some(number) = user.as_number() {
            self.0.write().known.remove(&number);
        }
    }
}

impl Settled {
    fn typed(&self, user: &UserId, number: u64) -> Option<UserId> {
        match self.rule {
            IdType::Number => Some(user.typed(true)),
            IdType::Text => Some(user.typed(false)),
            IdType::First => self.known.get(&number).map(|known| user.typed(known.is_number)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(user: &UserId) -> String {
        serde_json::to_string(user).unwrap()
    }

    fn user(json: &str) -> UserId {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_first_token_settles_the_type_and_being_named_does_not() {
        let types = SettledIds::default();
        assert_eq!(json(&types.named(user("7"))), "7");
        assert_eq!(json(&types.settle(user("\"7\""))), "\"7\"");
        assert_eq!((json(&types.settle(user("7"))), json(&types.named(user("7")))), ("\"7\"".into(), "\"7\"".into()));
        assert!(types.is_unstored(&user("7")) && !types.is_unstored(&user("8")));
        types.note_stored(&user("7"));
        assert!(!types.is_unstored(&user("7")));
        // What is no number is what it is.
        assert_eq!(json(&types.settle(user("\"007\""))), "\"007\"");
        types.forget(&user("7"));
        assert_eq!(json(&types.settle(user("7"))), "7");
    }

    #[test]
    fn what_the_store_has_settled_stands_and_the_configuration_is_above_it() {
        let types = SettledIds::default();
        types.begin(IdType::First, [user("7"), user("\"8\"")]);
        assert_eq!((json(&types.settle(user("\"7\""))), json(&types.settle(user("8")))), ("7".into(), "\"8\"".into()));
        for (rule, seven) in [(IdType::Number, "7"), (IdType::Text, "\"7\"")] {
            types.begin(rule, []);
            for given in ["7", "\"7\""] {
                assert_eq!(
                    (json(&types.settle(user(given))), json(&types.named(user(given)))),
                    (seven.into(), seven.into())
                );
            }
            assert_eq!(json(&types.settle(user("\"ann\""))), "\"ann\"");
            assert!(!types.is_unstored(&user("7")));
        }
    }
}
