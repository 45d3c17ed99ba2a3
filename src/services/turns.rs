//! Turns of what there is little of: so many for all, and so many for each caller, so that nobody has all of them.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::domain::UserId;

/// Who has turns, and how many.
#[derive(Debug, Default)]
struct Taken {
    all: usize,
    each: HashMap<UserId, usize>,
}

/// The turns that are taken now.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns(Arc<Mutex<Taken>>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Turns,
    user: UserId,
}

/// Why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoTurn {
    /// The caller has as many as one may have.
    Own,
    /// All are taken.
    All,
}

impl Turns {
    /// One more of a user, where all may have `all` and each `each`.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn begin(&self, user: &UserId, all: usize, each: usize) -> Result<Turn, NoTurn> {
        let mut taken = self.0.lock();
        if taken.each.get(user).is_some_and(|own| *own >= each) {
            return Err(NoTurn::Own);
        }
        if taken.all >= all {
            return Err(NoTurn::All);
        }
        taken.all += 1;
        *taken.each.entry(user.clone()).or_default() += 1;
        Ok(Turn { turns: self.clone(), user: user.clone() })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut taken = self.turns.0.lock();
        taken.all -= 1;
        if let Some(own) = taken.each.get_mut(&self.user) {
            *own -= 1;
            if *own == 0 {
                taken.each.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_has_so_many_and_all_have_so_many() {
        let (turns, [one, other, third]) = (Turns::default(), ["1", "2", "3"].map(|id| UserId::parse(id).unwrap()));
        let mut own: Vec<Turn> = (0..2).map(|_| turns.begin(&one, 3, 2).unwrap()).collect();
        assert_eq!(turns.begin(&one, 3, 2).unwrap_err(), NoTurn::Own);
        let others = turns.begin(&other, 3, 2).unwrap();
        assert_eq!(turns.begin(&third, 3, 2).unwrap_err(), NoTurn::All);
        own.pop();
        assert!(turns.begin(&third, 3, 2).is_ok());
        drop((own, others));
        assert!(turns.0.lock().each.is_empty() && turns.0.lock().all == 0);
    }
}
